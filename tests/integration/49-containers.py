#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Functions in containers from one end to the other: the API, an endpoint of two nodes, a docker command that is scripted
(tests/fakes/bin/docker) and starts the real worker."""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from cluster import Endpoint, result  # noqa: E402
from e2e import Fabric, gather, main, register, submit, wait_for  # noqa: E402

CODE = "import os\n\ndef where():\n    return [os.environ.get('FAKE_IMAGE'), os.environ.get('WEFT_NODE'), os.getppid()]\n"


def containers(f):
    docker = os.path.join(f.state, "docker", "containers")
    out = []
    for name in os.listdir(docker):
        try:
            with open(os.path.join(docker, name)) as c:
                out.append(json.load(c)["image"])
        except (OSError, ValueError):
            pass
    return sorted(out)


def endpoint(f, name, **conf):
    docker = os.path.join(f.state, "docker")
    os.makedirs(os.path.join(docker, "containers"), exist_ok=True)
    with open(os.path.join(docker, "images"), "w") as out:
        out.write("a\nb\n")
    return Endpoint(f, name, dict({"containers.runtimes": ["docker"], "scaling.init_blocks": 1, "scaling.max_blocks": 1, "scaling.nodes_per_block": 2,
                                   "workers_per_node": 2, "routing": "spread"}, **conf),
                    env={"PATH": os.path.join(ROOT, "tests/fakes/bin") + ":" + os.environ["PATH"], "FAKE_DOCKER": docker})


def run(f, ep, fn, payload=None, n=1):
    ids, _ = submit(f, fn, [payload or {"args": []}] * n, endpoint=ep.id)
    return [result(d) for d in gather(f, ids).values()]


def from_end_to_end(r, f):
    with endpoint(f, "boxes") as ep:
        fn = register(f, CODE, "where", container={"image": "a", "memory": "128MiB"})
        first = run(f, ep, fn)[0]
        r.check("a call in a container", first[0] == "a", first)
        again = {tuple(run(f, ep, fn)[0]) for _ in range(6)}
        r.check("the next calls go to the node that has it warm", again == {tuple(first)}, (first, again))
        st = json.loads(ep.command("status", "--json"))
        seen = [c for m in st["managers"] for c in m["containers"]]
        r.check("status shows it", [c["image"] for c in seen] == ["a"] and seen[0]["state"] in ("warm", "busy"), seen)
        r.check("in words too", "a on " in ep.command("status"))
        out = ep.command("doctor")
        r.check("doctor asks docker", "docker" in out and "version 20.10" in out, out)
        with open(os.path.join(f.state, "docker", "down"), "w"):
            out = ep.command("doctor")
        r.check("doctor says what is missing", "Cannot connect to the Docker daemon" in out and "group docker" in out, out)
        os.unlink(os.path.join(f.state, "docker", "down"))

        for what, box, word in (("another runtime", {"image": "a", "type": "podman"}, "docker"), ("network", {"image": "a", "network": True}, "network")):
            no = register(f, CODE, "where", container=box)
            a = f.http("POST", "/v3/endpoints/%s/submit" % ep.id, {"tasks": {no: [{"args": []}]}})
            r.check("refused at submit: " + what, a[0] == 422 and word in str(a[1]), a)

        a = f.http("PATCH", "/v3/functions/" + fn, {"container": {"replicas": 2}})
        wait_for(lambda: containers(f) == ["a", "a"], 30, "two replicas")
        nodes = {m["node"] for m in json.loads(ep.command("status", "--json"))["managers"] if m["containers"]}
        r.check("replicas are shared out over the nodes", a[0] == 200 and len(nodes) == 2, (a, nodes))
        f.http("PATCH", "/v3/functions/" + fn, {"container": {"image": "b"}})
        wait_for(lambda: containers(f) == ["b", "b"], 30, "their replacement")
        r.check("calls run in the new image", {x[0] for x in run(f, ep, fn, n=4)} == {"b"})
    r.check("nothing is left when the endpoint has stopped", containers(f) == [], containers(f))


main(__doc__, [from_end_to_end], lambda build: Fabric(build))

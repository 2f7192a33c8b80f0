#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Functions in containers from one end to the other: the API, an endpoint of two nodes, a docker command that is scripted
(tests/fakes/bin/docker) and starts the real worker."""
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from cluster import Endpoint, fake_docker, result  # noqa: E402
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
    _, env = fake_docker(f, "a", "b")
    return Endpoint(f, name, dict({"containers.runtimes": ["docker"], "scaling.init_blocks": 1, "scaling.max_blocks": 1, "scaling.nodes_per_block": 2,
                                   "workers_per_node": 2, "routing": "spread"}, **conf), env=env)


def run(f, ep, fn, payload=None, n=1):
    ids, _ = submit(f, fn, [payload or {"args": []}] * n, endpoint=ep.id)
    return [result(d) for d in gather(f, ids).values()]


def from_end_to_end(r, f):
    with endpoint(f, "boxes") as ep:
        fn = register(f, CODE, "where", container={"image": "a", "memory": "128MiB"})
        first = run(f, ep, fn)[0]
        r.check("a call in a container", first[0] == "a", first)
        cold = f.weft("run", register(f, CODE, "where", container={"image": "b", "warm_seconds": 1}), '{"args": []}', "--endpoint", ep.id, "--trace", "--json")
        (doc,) = json.loads(cold.stdout).values()
        box = doc["trace"].get("container", {})
        r.check("weft run --trace --json says what a cold start took", (box.get("image"), box.get("type"), box.get("digest")) == ("b", "docker", "sha256:b")
                and box["cold_start_ms"] > 0 and box["pull_ms"] == 0, doc)
        warm = f.weft("run", fn, '{"args": []}', "--endpoint", ep.id, "--trace")
        r.check("a warm call has none", "cold start" not in warm.stdout and "execution" in warm.stdout, warm.stdout)
        with open(os.path.join(f.state, "docker", "pull"), "w") as out:
            out.write("reg/far\n")
        pulled = f.weft("run", register(f, CODE, "where", container={"image": "reg/far", "warm_seconds": 1}), '{"args": []}', "--endpoint", ep.id, "--trace")
        words = re.search(r"container reg/far \(docker, sha256:reg/far\): cold start (\d+) ms, of which the image took (\d+) ms", pulled.stdout)
        r.check("nor does it hide what the pull took", words and int(words.group(1)) >= int(words.group(2)) >= 300, pulled.stdout)
        wait_for(lambda: containers(f) == ["a"], 30, "the end of the idle ones")
        again = {tuple(run(f, ep, fn)[0]) for _ in range(6)}
        r.check("the next calls go to the node that has it warm", again == {tuple(first)}, (first, again))
        st = json.loads(ep.command("status", "--json"))
        seen = [c for m in st["managers"] for c in m["containers"]]
        r.check("status shows it", [c["image"] for c in seen] == ["a"] and seen[0]["state"] in ("warm", "busy"), seen)
        r.check("in words too", "a on " in ep.command("status"))
        out = ep.command("doctor")
        r.check("doctor asks docker", "docker" in out and "version 20.10" in out and "containers.images" not in out, out)
        paths = Endpoint(f, "paths", {"containers.runtimes": ["apptainer"]})
        paths.configure()
        out = paths.command("doctor")
        r.check("doctor warns of paths that may be images", "any file or directory" in out, out)
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
    # at once, unless the machine is so slow that the node is killed; then the last `docker rm` is nobody's child
    wait_for(lambda: not containers(f), 30, "nothing is left when the endpoint has stopped")


def read(path, at):
    with open(path) as s:
        s.seek(at)
        return s.read()


def move(f, tag, content):
    path = os.path.join(f.state, "docker", "moved")
    with open(path + ".new", "w") as out:
        out.write("%s=%s\n" % (tag, content))
    os.rename(path + ".new", path)


def ask(f, ep, fn, payload):
    doc = list(submit(f, fn, [payload], endpoint=ep.id, wait=40)[1]["results"].values())[0]
    if doc["status"] != "success":
        raise RuntimeError(doc)
    return result(doc)[0], doc["memoised"]


def a_tag_that_is_moved(r, f):
    """The result of an earlier call comes from the image that a call would run from now, and from no other."""
    with endpoint(f, "tags", **{"containers.recheck": "1ms", "scaling.nodes_per_block": 1}) as ep:
        cold = register(f, CODE.replace("def where()", "def where(n=0)"), "where", memoize=True, container={"image": "a", "warm_seconds": 1})
        warm = register(f, CODE.replace("def where()", "def where(n=1)"), "where", memoize=True, container={"image": "a", "cpus": 0.5, "warm_seconds": 600})
        one, two = {"args": [1]}, {"args": [2]}
        r.check("a first call runs, the second is answered", (ask(f, ep, warm, one), ask(f, ep, warm, one)) == (("a", False), ("a", True)))
        st = json.loads(ep.command("status", "--json"))
        r.check("status names the image's digest", {c.get("digest") for m in st["managers"] for c in m["containers"]} == {"sha256:a"}, st["managers"])
        move(f, "a", "other")
        seen = [ask(f, ep, warm, one)]
        r.check("the tag is moved while a container of the old image is warm: it runs in the new one", seen[0] == ("other", False), seen)
        r.check("and is answered from there on", ask(f, ep, warm, one) == ("other", True))
        wait_for(lambda: "a" not in containers(f), 30, "the end of the old image's container")
        r.check("another payload runs in the new one too", ask(f, ep, warm, two) == ("other", False))
        move(f, "a", "a")
        r.check("moved back, the first result is right again", ask(f, ep, warm, one) == ("a", True))
        r.check("but nobody has called the other payload there", ask(f, ep, warm, two) == ("a", False))

        r.check("with no container warm", ask(f, ep, cold, one)[0] == "a" and ask(f, ep, cold, one) == ("a", True))
        move(f, "a", "third")
        r.check("a tag that was moved is seen at once", ask(f, ep, cold, one) == ("third", False))
        ids, _ = submit(f, cold, [{"args": [3]}] * 20, endpoint=ep.id)
        docs = list(gather(f, ids).values())
        r.check("equal tasks in hand are one call", {result(d)[0] for d in docs} == {"third"} and sum(d["memoised"] for d in docs) == 19, docs[:2])
        ep.kill()
        ep.start()
        r.check("after the agent was killed", ask(f, ep, cold, one) == ("third", True))
        with open(os.path.join(f.state, "docker", "down"), "w"):
            pass
        calls = os.path.join(f.state, "docker", "calls.log")
        before = os.path.getsize(calls)
        ids, _ = submit(f, cold, [one], endpoint=ep.id)
        wait_for(lambda: "inspect" in read(calls, before), 30, "docker is asked")
        os.unlink(os.path.join(f.state, "docker", "down"))
        r.check("when docker cannot be asked the call runs", result(gather(f, ids)[ids[0]])[0] == "third")


def changed_and_called_at_once(r, f):
    os.makedirs(os.path.join(f.state, "docker"), exist_ok=True)
    move(f, "a", "a")
    with endpoint(f, "changes", **{"scaling.nodes_per_block": 1}) as ep:
        for kept in (False, True):
            fn = register(f, CODE.replace("def where()", "def where(n=%d)" % kept), "where", memoize=kept, container="a")
            wrong = []
            for i in range(12):
                image = "ab"[i % 2]
                a = f.http("PATCH", "/v3/functions/" + fn, {"container": {"image": image}})
                ran, _ = ask(f, ep, fn, {"args": [i // 4]})
                if a[0] != 200 or ran != image:
                    wrong.append((i, a, ran))
            r.check("a call runs in the image that was answered before, memoised: %s" % kept, not wrong, wrong)


def options_of_register(r, f):
    with endpoint(f, "options") as ep:
        path = os.path.join(f.state, "where.py")
        with open(path, "w") as out:
            out.write(CODE)

        def ask_for(*options):
            fn = f.weft("function", "register", path + "::where", *options).stdout.strip()
            return f.weft("run", "-e", ep.id, fn, '{"args": []}', check=False)
        x = ask_for("--image", "a", "--runtime", "podman")
        r.check("--runtime that the endpoint has not", x.returncode == 1 and "podman" in x.stderr and "docker" in x.stderr, x)
        x = ask_for("--image", "a", "--runtime", "docker", "--warm", "1s")
        r.check("--runtime that it has", x.returncode == 0 and json.loads(x.stdout)[0] == "a", x)
        wait_for(lambda: not containers(f), 60, "the end of its container, which would be kept for 5 minutes")
        r.check("--warm: its container is kept for so long", True)
        x = ask_for("--image", "b", "--replicas", "2")
        wait_for(lambda: containers(f) == ["b", "b"], 60, "two of it after one call")
        r.check("--replicas: so many are kept", x.returncode == 0, x)


main(__doc__, [from_end_to_end, options_of_register, a_tag_that_is_moved, changed_and_called_at_once], lambda build: Fabric(build))

# SPDX-License-Identifier: Apache-2.0
"""Parts of tests/bench/run with real container runtimes: cold start and warm call of each, throughput through eight containers, a burst over
five images on four nodes with routing that knows what is warm and with lots drawn. What is not installed here is skipped, and named."""
import json
import os
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Endpoint  # noqa: E402
from container_bed import RUNTIMES, Docker  # noqa: E402
from testbed import Skip  # noqa: E402
from e2e import Fabric, gather, register, submit, wait_for  # noqa: E402

NOOP = "def noop(x=None):\n    return x\n"
WORK = "import time\n\ndef work(s):\n    time.sleep(s)\n"
PAYLOAD = json.dumps({"args": ["x" * 236]})


class Bed:
    """A runtime that is up; None from `up` when it cannot be had here."""

    def __init__(self, b, kind):
        self.b, self.dir = b, tempfile.mkdtemp(prefix="weft-bench-")
        os.chmod(self.dir, 0o755)
        self.rt = kind(self.dir)

    def __enter__(self):
        try:
            self.rt.up()
            return self.rt
        except Skip as e:
            self.b.skipped.append("%s: %s" % (self.rt.name, e))
            return None

    def __exit__(self, *exc):
        if os.path.exists(self.rt.dir):
            self.rt.down()
        shutil.rmtree(self.dir, ignore_errors=True)


def endpoint(f, rt, name, **conf):
    return Endpoint(f, name, dict({"containers.runtimes": [rt.name], "scaling.init_blocks": 1, "scaling.max_blocks": 1, "python": "/usr/bin/python3",
                                   "scaling.idle_timeout": "1h"}, **conf), env=dict({"PATH": os.environ["PATH"]}, **rt.env))


def call(f, ep, fn, payload=PAYLOAD):
    """Milliseconds until the result is there."""
    began = time.monotonic()
    _, doc = submit(f, fn, [payload], endpoint=ep.id, wait=120)
    took = (time.monotonic() - began) * 1000
    bad = [d for d in doc["results"].values() if d["status"] != "success"]
    if bad or not doc["results"]:
        raise RuntimeError("a call in a container: %s" % (bad or doc))
    return took


def batch(f, ep, fn, payloads):
    began = time.monotonic()
    ids, _ = submit(f, fn, payloads, endpoint=ep.id)
    bad = [d for d in gather(f, ids, 300).values() if d["status"] != "success"]
    if bad:
        raise RuntimeError("%d of %d tasks failed: %s" % (len(bad), len(payloads), bad[0]))
    return time.monotonic() - began


def cold_and_warm(b, f, rt):
    """Each cold call has a sandbox of its own, so a container of its own; the image is on the node."""
    auth = ("Authorization: Bearer " + f.token,)
    with endpoint(f, rt, "bench-" + rt.name, **{"workers_per_node": 1}) as ep:
        cold, warm = [], []
        for k in range(3 if b.quick else 10):
            fn = register(f, NOOP, "noop", container={"image": rt.image, "memory": "%dMiB" % (200 + k)})
            cold.append(call(f, ep, fn))
            body = b.body({"tasks": {fn: [PAYLOAD]}})
            run = "/v3/endpoints/%s/submit?wait=30" % ep.id
            b.load(f.url, run, body, 1, 20, headers=auth)
            warm.append(b.load(f.url, run, body, 1, 100 if b.quick else 500, headers=auth)["p50_us"])
        bare = register(f, NOOP, "noop")
        body = b.body({"tasks": {bare: [PAYLOAD]}})
        floor = [b.load(f.url, "/v3/endpoints/%s/submit?wait=30" % ep.id, body, 1, 100 if b.quick else 500, headers=auth)["p50_us"] for _ in warm]
    b.add("container_%s_cold_ms" % rt.name, "ms", cold, note="until the caller has the first result; the image is on the node")
    b.add("container_%s_warm_p50_us" % rt.name, "us", warm, floor, note="floor: the same function without container on the same endpoint")


def eight(b, f, rt):
    """Batches through eight warm containers, and through eight workers without."""
    n = 1000 if b.quick else 10000
    with endpoint(f, rt, "bench-eight", **{"workers_per_node": 8, "containers.max_containers": 8, "containers.memory": "256MiB"}) as ep:
        boxed, bare = register(f, NOOP, "noop", container={"image": rt.image, "replicas": 8}), register(f, NOOP, "noop")
        call(f, ep, boxed)
        wait_for(lambda: sum(c["state"] in ("warm", "busy") for m in ep.status()["managers"] for c in m["containers"]) == 8, 120, "eight containers")
        runs = {boxed: [], bare: []}
        for _ in range(b.rounds + 1):
            for fn, to in runs.items():
                to.append(n / batch(f, ep, fn, [PAYLOAD] * n))
    b.add("container_%s_8_tasks_per_s" % rt.name, "1/s", runs[boxed][1:], runs[bare][1:], note="floor: eight workers without containers, same endpoint")


def burst(b, f, rt):
    """A burst of short calls over five images, on four nodes that keep two containers each: from no container at all, and again with what is
    warm then. Both ways of routing in turn."""
    images = ["weft-bench-burst:%d" % i for i in range(5)]
    for i in images:
        rt.cli("tag", rt.image, i)
    took = {"pack": ([], []), "random": ([], [])}
    draw = random.Random(7)
    for turn in range(1 if b.quick else min(b.rounds, 3)):
        for routing, (cold, warm) in took.items():
            with endpoint(f, rt, "bench-%s-%d" % (routing, turn), routing=routing,
                          **{"workers_per_node": 2, "scaling.nodes_per_block": 4, "containers.max_containers": 2, "containers.memory": "256MiB"}) as ep:
                wait_for(lambda: len(ep.status()["managers"]) == 4, 60, "four nodes")
                fns = [register(f, WORK, "work", container=i) for i in images]
                order = [fn for fn in fns for _ in range(8 if b.quick else 40)]
                for to in (cold, warm):
                    draw.shuffle(order)
                    to.append(one_burst(f, ep, order))
    for k, what in enumerate(("cold", "warm")):
        b.add("burst_5_images_4_nodes_%s_s" % what, "s", took["pack"][k], took["random"][k], note="floor: routing: random, in the same run")


def one_burst(f, ep, order):
    """One submission for each task, as callers do; seconds until the last result."""
    began, ids = time.monotonic(), []
    for fn in order:
        ids += submit(f, fn, [{"args": [0.05]}], endpoint=ep.id)[0]
    docs = gather(f, ids, 300)
    if any(d["status"] != "success" for d in docs.values()):
        raise RuntimeError("a task of the burst failed: %s" % [d for d in docs.values() if d["status"] != "success"][0])
    return time.monotonic() - began


def containers(b, f, s):
    for kind in RUNTIMES:
        with Bed(b, kind) as rt:
            if rt and rt.user:
                with Fabric(b.build, workers=1, user=rt.user) as own:
                    cold_and_warm(b, own, rt)
            elif rt:
                cold_and_warm(b, f, rt)
            if rt and kind is Docker:
                eight(b, f, rt)
                burst(b, f, rt)

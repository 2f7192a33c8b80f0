#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Functions in containers: weft-manager between a scripted agent and a scripted docker command (tests/fakes/bin/docker), which starts the
real worker from the real bundle. What real runtimes do stands in tests/clusters/."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "fakes"))
try:
    import zmq
    import peer
except ImportError as e:
    print("skip - containers: %s" % e)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

BUILD = None
TESTS = []
PULLING, STARTING, WARM, BUSY, STOPPED, FAILED_STATE = 1, 2, 3, 4, 5, 6
RUNNER, FORBIDDEN, LIMIT = 31, 6, 3
CODE = b"""
import os, time
def f(s=0, die=None):
    if die:
        os.kill(os.getppid(), 9)
        time.sleep(9)
    time.sleep(s)
    return [os.environ.get("FAKE_IMAGE"), os.getppid()]
"""


def test(f):
    TESTS.append(f)
    return f


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Rig:
    def __init__(self, *args, workers=2, images=("a", "b", "c"), pull=()):
        self.tmp = tempfile.mkdtemp(prefix="weft-c-")
        self.docker = os.path.join(self.tmp, "docker")
        os.makedirs(os.path.join(self.docker, "containers"))
        self.write("images", images)
        self.write("pull", pull)
        self.ctx = zmq.Context()
        self.endpoint = str(uuid.uuid4())
        self.args, self.workers = args, workers
        self.log = open(os.path.join(self.tmp, "log"), "w+")
        self.env = dict(os.environ, PATH=os.path.join(ROOT, "tests/fakes/bin") + ":" + os.environ["PATH"], FAKE_DOCKER=self.docker)
        self.agent = None
        self.start()

    def start(self):
        if self.agent:
            self.agent.close()
        self.agent = peer.Agent(self.ctx, os.path.join(self.tmp, "a.sock"))
        self.p = subprocess.Popen(
            [os.path.join(BUILD, "bin", "weft-manager"), "--connect", self.agent.uri, "--endpoint-id", self.endpoint, "--block", "b", "--node",
             "node-1", "--workers", str(self.workers), "--dir", os.path.join(self.tmp, "m"), "--parent-pid", str(os.getpid()), "--python",
             "/usr/bin/python3", "--heartbeat-ms", "200", "--threshold-ms", "5000", "--log-level", "debug", "--containers", "docker", *self.args],
            stdin=subprocess.DEVNULL, stderr=self.log, env=self.env)
        self.agent.until(lambda: self.agent.capacity and self.agent.capacity["free_slots"] == self.workers, 30, "workers up")

    def write(self, name, words):
        with open(os.path.join(self.docker, name), "w") as f:
            f.write("".join("%s\n" % w for w in words))

    def containers(self):
        out = {}
        for name in os.listdir(os.path.join(self.docker, "containers")):
            try:
                with open(os.path.join(self.docker, "containers", name)) as f:
                    out[name] = json.load(f)
            except (OSError, ValueError):
                pass
        return out

    def logged(self, words):
        with open(self.log.name) as f:
            return words in f.read()

    def calls(self, verb):
        with open(os.path.join(self.docker, "calls.log")) as f:
            return [c for c in map(json.loads, f) if c[0] == verb]

    def kill_docker(self):
        """What is left of `docker run` when it is killed: the container."""
        for p in os.listdir("/proc"):
            if p.isdigit():
                try:
                    with open("/proc/%s/cmdline" % p, "rb") as f:
                        words = f.read().split(b"\0")
                    with open("/proc/%s/environ" % p, "rb") as f:
                        ours = b"FAKE_DOCKER=" + self.docker.encode() in f.read()
                except OSError:
                    continue
                if ours and b"run" in words and b"--rm" in words:
                    os.kill(int(p), signal.SIGKILL)

    def function(self, image, **options):
        fn = uuid.uuid4().bytes
        self.agent.functions[fn] = peer.function(fn, CODE, "f", container=image, **options)
        return fn

    def submit(self, fn, n=1, **kw):
        return self.agent.submit([json.dumps(kw).encode() if kw else b'{"args": []}'] * n, fn)

    def run(self, fn, n=1, seconds=30, **kw):
        payload = {"kwargs": kw} if kw else {"args": []}
        return self.agent.wait(self.agent.submit([json.dumps(payload).encode()] * n, fn), seconds)

    def states(self, image):
        return [c["state"] for c in self.agent.container_log if c["image"] == image.encode()]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.p.poll() is None:
            self.p.terminate()
            try:
                self.p.wait(10)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        for c in self.containers().values():
            if alive(c["pid"]):
                os.killpg(c["pid"], signal.SIGKILL)
        self.agent.close()
        self.ctx.term()
        if kind:
            self.log.seek(0)
            sys.stdout.write("".join("# " + x for x in self.log.readlines()[-30:]))
        self.log.close()
        shutil.rmtree(self.tmp, ignore_errors=True)


def value(r):
    assert r["status"] == peer.SUCCESS, r
    return json.loads(r["result"])


@test
def cold_then_warm():
    with Rig() as g:
        fn = g.function("a")
        first, second = g.run(fn)[0], g.run(fn)[0]
        assert value(first)[0] == "a" and value(first) != [None, None]
        assert len(g.containers()) == 1, "the second call found the first one's container"
        cold = json.loads(first["runtime"])["container"]
        assert cold["image"] == "a" and cold["type"] == "docker" and cold["cold_start_ms"] > 0 and cold["pull_ms"] == 0, cold
        assert not second["runtime"] or "container" not in json.loads(second["runtime"]), second["runtime"]
        assert g.states("a")[:2] == [STARTING, WARM], g.states("a")


@test
def sandbox_by_default():
    with Rig("--container-memory", "512MiB", "--container-pids", "99", "--container-cpus", "500", "--container-network", "bridge") as g:
        g.run(g.function("a"))
        g.run(g.function("b", flags=4, cpu_millis=1500, max_pids=40, memory_limit_bytes=64 << 20))
        a, b = sorted(g.calls("run"), key=lambda c: "a" not in c)
        for w in ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none", "--pids-limit=99", "--cpus=0.500",
                  "--memory=%d" % ((512 + 96) << 20), "--memory-swap=%d" % ((512 + 96) << 20), "--pull=never"):
            assert w in a, (w, a)
        assert "--user=0:0" not in a and [w for w in a if w.startswith("--user=")]
        assert [w for w in a if w.startswith("--mount") or "type=bind" in w and not w.endswith(",readonly")], a
        for w in ("--network=bridge", "--pids-limit=40", "--memory=%d" % ((64 + 96) << 20)):
            assert w in b, (w, b)


@test
def network_is_refused_where_it_is_not_allowed():
    with Rig() as g:
        r = g.run(g.function("a", flags=4))[0]
        assert (r["status"], r["code"]) == (peer.FAILED, FORBIDDEN) and "network" in r["error"], r
        assert not g.calls("run") if os.path.exists(g.docker + "/calls.log") else True


@test
def what_the_node_does_not_offer_is_refused():
    with Rig("--container-images", "a,reg/*", "--container-max-memory", "1GiB") as g:
        for fn, code, word in ((g.function("a", container_type="podman"), RUNNER, "docker"), (g.function("b"), FORBIDDEN, "reg/*"),
                               (g.function("a", memory_limit_bytes=2 << 30), LIMIT, "1024"), (g.function("-v=/:/x"), 2, "image")):
            r = g.run(fn)[0]
            assert (r["status"], r["code"]) == (peer.FAILED, code) and word in r["error"], r


@test
def image_is_pulled_once():
    with Rig(images=(), pull=("reg/x",)) as g:
        fn = g.function("reg/x")
        r = g.run(fn)[0]
        assert g.states("reg/x")[:3] == [PULLING, STARTING, WARM], g.states("reg/x")
        assert json.loads(r["runtime"])["container"]["pull_ms"] >= 300, r["runtime"]
        g.run(fn)
        assert len(g.calls("pull")) == 1


@test
def image_that_cannot_be_had():
    with Rig() as g:
        bare = uuid.uuid4().bytes
        g.agent.functions[bare] = peer.function(bare, CODE, "f")
        ids = g.submit(g.function("nosuch"))
        g.run(bare)                     # others do not wait behind it
        r = g.agent.wait(ids)[0]
        assert (r["status"], r["code"], r["fault"]) == (peer.FAILED, RUNNER, 1), r
        for word in ("nosuch", "docker", "node-1", "no such host"):
            assert word in r["error"], r["error"]
        assert g.states("nosuch")[-1] == FAILED_STATE


@test
def container_that_does_not_start():
    with Rig(images=("noexec",)) as g:
        r = g.run(g.function("noexec"))[0]
        assert (r["status"], r["code"], r["fault"]) == (peer.FAILED, RUNNER, 2) and "no such file" in r["error"] and "127" in r["error"], r
        assert len(g.calls("run")) == 3, "it was tried again"


@test
def daemon_that_is_away_for_a_moment():
    with Rig() as g:
        g.write("down", [])
        ids = g.submit(g.function("a"))
        g.agent.until(lambda: FAILED_STATE in g.states("a"), what="a failed start")
        os.unlink(os.path.join(g.docker, "down"))
        assert value(g.agent.wait(ids)[0])[0] == "a"


@test
def killed_container_loses_no_task():
    with Rig() as g:
        fn = g.function("a")
        pid = value(g.run(fn)[0])[1]
        ids = g.agent.submit([b'{"kwargs": {"s": 5}}'], fn)
        g.agent.until(lambda: (ids[0], 4) in g.agent.states, what="it runs")
        os.kill(pid, signal.SIGKILL)
        assert value(g.agent.wait(ids, 30)[0])[1] != pid
        assert STOPPED in g.states("a")


@test
def killed_docker_command_leaves_no_container():
    with Rig() as g:
        fn = g.function("a")
        first = value(g.run(fn)[0])[1]
        g.kill_docker()
        g.agent.until(lambda: not alive(first), what="its container's end")
        assert value(g.run(fn)[0])[1] != first


@test
def killed_manager_leaves_nothing():
    with Rig() as g:
        pid = value(g.run(g.function("a"))[0])[1]
        g.p.kill()
        g.p.wait()
        assert alive(pid), "containers outlive it"
        g.start()
        g.agent.until(lambda: not alive(pid) and not g.containers(), what="the next manager removes it")


@test
def worker_whose_manager_is_gone_ends_itself():
    with Rig() as g:
        pid = value(g.run(g.function("a"))[0])[1]
        g.p.kill()
        g.p.wait()
        end = time.monotonic() + 60
        while alive(pid):
            assert time.monotonic() < end, "the worker lives on"
            time.sleep(0.05)


@test
def idle_container_is_stopped_after_its_time():
    with Rig() as g:
        pid = value(g.run(g.function("a", warm_ms=700))[0])[1]
        other = value(g.run(g.function("b"))[0])[1]
        g.agent.until(lambda: not alive(pid), what="the end of the idle one")
        assert alive(other) and STOPPED in g.states("a")


@test
def least_recently_used_makes_room():
    with Rig("--max-containers", "2") as g:
        pids = {i: value(g.run(g.function(i))[0])[1] for i in "ab"}
        g.run(g.function("a"))
        assert value(g.run(g.function("c"))[0])[0] == "c"
        assert alive(pids["a"]) and not alive(pids["b"])


@test
def functions_of_an_image_share_its_containers():
    with Rig() as g:
        assert len({value(g.run(g.function("a"))[0])[1] for _ in range(3)}) == 1


@test
def more_containers_only_when_the_queue_is_worth_it():
    for last in (False, False, False, True):
        with Rig(workers=3) as g:
            fn = g.function("a")
            g.run(fn)
            g.run(fn, n=40)             # short calls: the queue is shorter than a cold start
            if len(g.containers()) != 1 and not last:
                continue                # on a busy machine a call may have been long
            assert len(g.containers()) == 1, g.containers()
            g.run(fn, n=8, s=0.7)       # long ones: it is not
            assert len(g.containers()) > 1
            return


@test
def calls_in_containers_share_the_slots_of_the_node():
    with Rig(workers=1) as g:
        a, b = g.function("a"), g.function("b")
        bare = uuid.uuid4().bytes
        g.agent.functions[bare] = peer.function(bare, CODE, "f")
        g.run(a)
        ids = []
        for fn in (a, bare, a, bare):
            ids += g.agent.submit([b'{"kwargs": {"s": 0.07}}'], fn)
        rs = g.agent.wait(ids)
        spans = sorted((r["stamps"][9], r["stamps"][10]) for r in rs)
        assert all(x[1] <= y[0] for x, y in zip(spans, spans[1:])), spans


@test
def replicas_are_kept_and_replaced():
    with Rig("--max-containers", "3") as g:
        fn = g.function("a", replicas=2, warm_ms=300)
        g.agent.send(peer.FUNCTION, g.agent.functions[fn])
        g.agent.until(lambda: g.states("a").count(WARM) >= 2, 30, "two replicas without any task")
        g.agent.serve(1)
        assert len(g.containers()) == 2, "kept beyond warm_ms"
        g.agent.functions[fn] = peer.function(fn, CODE, "f", container="b", replicas=2, warm_ms=300)
        g.agent.send(peer.FUNCTION, g.agent.functions[fn])
        while g.states("b").count(WARM) < 2:
            assert value(g.run(fn)[0])[0] in "ab"       # served all the time
        g.agent.until(lambda: {c["image"] for c in g.containers().values()} == {"b"}, 30, "the old image's end")
        assert value(g.run(fn)[0])[0] == "b"


@test
def replicas_of_an_image_that_comes_back_at_once():
    with Rig("--max-containers", "4") as g:
        fn = g.function("a", replicas=2, warm_ms=500)
        g.agent.send(peer.FUNCTION, g.agent.functions[fn])
        g.agent.until(lambda: g.states("a").count(WARM) >= 2, what="two replicas")
        g.p.send_signal(signal.SIGSTOP)         # so that it reads one right after the other
        for image in "ba":
            g.agent.functions[fn] = peer.function(fn, CODE, "f", container=image, replicas=2, warm_ms=500)
            g.agent.send(peer.FUNCTION, g.agent.functions[fn])
        g.p.send_signal(signal.SIGCONT)
        g.agent.serve(4)
        g.agent.until(lambda: sorted(c["image"] for c in g.containers().values()) == ["a", "a"], what="these two, and no other")
        assert STOPPED not in g.states("a"), g.states("a")


@test
def batches_in_containers():
    with Rig() as g:
        fn = uuid.uuid4().bytes
        code = b"def f(inputs):\n    return [len(inputs)] * len(inputs)\n"
        g.agent.functions[fn] = peer.function(fn, code, "f", container="a", flags=2, max_batch=16)
        sizes = [value(r) for r in g.agent.wait(g.agent.submit([b"1"] * 64, fn), 30)]
        assert max(sizes) > 1, sizes


def ends_with_nothing_left(g):
    g.agent.until(lambda: g.p.poll() is not None, 30, "the manager's end")
    assert g.p.returncode == 0 and not g.containers(), (g.p.returncode, g.containers())


@test
def sigterm_stops_containers():
    with Rig() as g:
        g.run(g.function("a"))
        g.p.terminate()
        ends_with_nothing_left(g)


@test
def sigterm_after_a_drain_leaves_the_containers_their_time():
    """As an agent does that is stopped."""
    with Rig() as g:
        g.run(g.function("a"))
        g.write("end_delay", ["1"])
        g.write("rm_delay", ["5"])      # one that had to be removed would still be there
        g.agent.send(peer.DRAIN, peer.drain(True))
        g.agent.until(lambda: g.logged("why=drained"), 30, "the end of the drain")
        g.p.terminate()
        ends_with_nothing_left(g)


@test
def the_end_waits_for_what_is_being_removed():
    with Rig() as g:
        g.run(g.function("a"))
        g.write("rm_delay", ["4"])
        g.kill_docker()
        g.agent.until(lambda: g.calls("rm"), 30, "docker rm")
        assert g.containers()
        g.p.terminate()
        ends_with_nothing_left(g)


@test
def a_second_sigterm_ends_at_once():
    with Rig() as g:
        g.run(g.function("a"))
        g.write("end_delay", ["30"])
        g.p.terminate()
        g.agent.until(lambda: g.logged("why=SIGTERM"), 30, "the beginning of the end")
        began = time.monotonic()
        g.p.terminate()
        g.agent.until(lambda: g.p.poll() is not None, 30, "the manager's end")
        assert time.monotonic() - began < 8, "that is before the grace of the workers was over"
        g.agent.until(lambda: not g.containers(), 30, "the end of the container, which nobody waits for")


def main():
    global BUILD
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("names", nargs="*")
    o = ap.parse_args()
    BUILD = os.path.abspath(o.build)
    signal.alarm(380)
    passed = failed = 0
    for t in TESTS:
        if o.names and not any(n in t.__name__ for n in o.names):
            continue
        name, began = t.__name__.replace("_", " "), time.monotonic()
        try:
            t()
            print("ok - %s (%.1f s)" % (name, time.monotonic() - began))
            passed += 1
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print("not ok - %s" % name)
            failed += 1
        sys.stdout.flush()
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    sys.exit(1 if failed else 0)


main()

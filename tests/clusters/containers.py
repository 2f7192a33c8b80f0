#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Containers, the real ones: Docker, Podman, Apptainer and Charliecloud from Debian's packages (tests/testbed/), each with weft-manager
between a scripted agent and an image: cold and warm, every wall of the sandbox tried from inside, files that calls leave on the node, a container
killed, the manager killed, the daemon started again. An image with nothing but one program, too. Apptainer and Podman once more as an ordinary
user has them, with what is another thing there. What is heavy to make is kept under $WEFT_TESTBED_CACHE."""
import argparse
import hashlib
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
sys.path[:0] = [os.path.join(ROOT, "tests", d) for d in ("fakes", "lib")]
from container_bed import RUNTIMES, USERS  # noqa: E402
from testbed import PATH, Skip  # noqa: E402
try:
    import zmq
    import peer
    import wire
except ImportError as e:
    print("skip - containers: %s" % e)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

BUILD = None
MIB = 1 << 20
TASK_EXCEPTION, TASK_FILE = 20, 32

PROBE = b'''
import ctypes, errno, json, os, socket, subprocess, sys
def tried(f, *a):
    try:
        f(*a)
        return "done"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
def write(path):
    with open(path, "w") as f:
        f.write("x")
def dial(address):
    s = socket.socket()
    s.settimeout(2)
    s.connect(address)
def mount():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
def f(port, base, outside=""):
    status = dict(l.split(":\\t", 1) for l in open("/proc/self/status").read().splitlines() if ":\\t" in l)
    with open("kept", "w") as out:
        out.write("mine")
    return {
        "uid": os.getuid(), "caps": status["CapEff"], "nnp": status["NoNewPrivs"], "cwd": open("kept").read(),
        "root": tried(write, "/weft-was-here"), "usr": tried(write, "/usr/weft-was-here"), "bundle": tried(write, base + "/bin/weft-was-here"),
        "etc": tried(write, "/etc/passwd"), "tmp": tried(write, "/tmp/mine"),
        "host": tried(dial, ("127.0.0.1", port)), "nets": [l.split(":")[0].strip() for l in open("/proc/net/dev")][2:],
        "mount": tried(mount), "chown": tried(os.chown, "kept", 12, 12), "kill": tried(os.kill, 1, 9),
        "procs": len([p for p in os.listdir("/proc") if p.isdigit()]), "home": os.path.exists("/root/.ssh") or os.path.exists(outside),
        "python": sys.executable,
    }
'''
EAT = b'''
def f(mib):
    kept = []
    for i in range(mib // 8):
        kept.append(bytearray(8 << 20))
        kept[-1][::4096] = b"x" * len(kept[-1][::4096])
    return len(kept)
'''
FORK = b'''
import os, subprocess
def f(n):
    kept = []
    try:
        for i in range(n):
            kept.append(subprocess.Popen(["sleep", "20"]))
        return len(kept)
    except OSError as e:
        return "stopped at %d" % len(kept)
    finally:
        for p in kept:
            p.kill()
'''
SPIN = b'''
import time
def f(n):
    import threading, os
    began, cpu = time.monotonic(), time.process_time()
    pids = []
    for i in range(2):
        pid = os.fork()
        if not pid:
            end = time.monotonic() + n
            while time.monotonic() < end:
                pass
            os._exit(0)
        pids.append(pid)
    used = 0
    for p in pids:
        _, _, ru = os.wait4(p, 0)
        used += ru.ru_utime + ru.ru_stime
    return used / (time.monotonic() - began)
'''
NAP = b'''
import os, time
def f(s):
    time.sleep(s)
    return os.getpid()
'''

LEAVE = b'''
import os
def f(secret):
    with open("frame-1.h5", "wb") as out:
        out.write(b"\\x89" * (3 << 20))
    for name in ("empty.h5", "a \\xe4.h5", "run.h5", ".hidden.h5", "other"):
        open(name, "w").close()
    os.chmod("run.h5", 0o755)
    os.mkdir("dir.h5")
    os.mkfifo("pipe.h5")
    os.symlink(secret, "far.h5")
    os.symlink("frame-1.h5", "near.h5")
'''
# leaves a process that goes on exchanging what is about to be taken with links, the directory of the call as well
SWAP = b'''
import os, time
def swap(a, b):
    try:
        os.rename(a, "../aside")
        os.rename(b, a)
        os.rename(a, b)
        os.rename("../aside", a)
    except OSError:
        pass
def f(secret, seconds):
    with open("mine.h5", "w") as out:
        out.write("mine" * 500000)
    os.symlink(secret, "link")
    try:
        os.symlink(os.path.dirname(secret), "../links")
    except OSError:     # one that an earlier call left
        pass
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            swap("mine.h5", "link")
            for name in os.listdir(".."):
                if name.startswith("kept-"):
                    swap("../" + name, "../links")
        os._exit(0)
'''
# leaves what only its owner can open, and a process that is not its child
LITTER = b'''
import os, subprocess, time
def f(s):
    os.mkdir("closed")
    open("closed/x", "w").close()
    os.chmod("closed", 0)
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    time.sleep(s)
'''


def until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("not in %g s: %s" % (seconds, what))
        time.sleep(0.05)


class Rig:
    def __init__(self, rt, *args, workers=2, network=None):
        self.rt, self.args, self.workers = rt, args + (("--container-network", network) if network else ()), workers
        self.tmp = tempfile.mkdtemp(prefix="weft-k-")
        self.bundle = os.path.join(self.tmp, "bundle")      # where another user can read it, and not write
        shutil.copytree(os.path.join(BUILD, "bundle"), self.bundle)
        self.own = os.path.join(self.tmp, "own")
        os.mkdir(self.own)
        os.chmod(self.tmp, 0o755)
        if rt.user:
            os.chown(self.own, rt.user, rt.user)
        self.ctx, self.agent, self.endpoint = zmq.Context(), None, str(uuid.uuid4())
        self.log = open(os.path.join(self.tmp, "log"), "w+")
        self.start()

    def start(self):
        if self.agent:
            self.agent.close()
        sock = os.path.join(self.tmp, "a.sock")
        self.agent = peer.Agent(self.ctx, sock, threshold_ms=60000)
        os.chmod(sock, 0o777)
        programs = os.path.join(self.tmp, "bin")
        if not os.path.exists(programs):
            os.mkdir(programs)
            for p in ("weft-manager", "weft-worker"):
                shutil.copy(os.path.join(BUILD, "bin", p), programs)
        self.p = subprocess.Popen(
            self.rt.as_user + [programs + "/weft-manager", "--connect", self.agent.uri, "--endpoint-id", self.endpoint, "--block", "b", "--node", "node-1",
                       "--workers", str(self.workers), "--dir", self.own + "/m", "--parent-pid", str(os.getpid()), "--python", "/usr/bin/python3",
                       "--heartbeat-ms", "500", "--threshold-ms", "5000", "--containers", self.rt.name, "--bundle", self.bundle,
                       "--container-memory", "256MiB", "--container-pids", "64", "--container-cpus", "500", "--log-level", "debug", *self.args],
            stdin=subprocess.DEVNULL, stderr=self.log, env=dict(os.environ, **dict({"PATH": PATH, "HOME": "/tmp", "USER": "weft"}, **self.rt.env)))
        self.agent.until(lambda: self.agent.capacity and self.agent.capacity["free_slots"] == self.workers, 60, "workers up")

    def function(self, code, image=None, kind=peer.PYTHON, **options):
        fn = uuid.uuid4().bytes
        self.agent.functions[fn] = peer.function(fn, code, "f", kind=kind, container=image or self.rt.image, **options)
        return fn

    def run(self, fn, *args, seconds=90, payload=None):
        payload = json.dumps({"args": list(args)}).encode() if payload is None else payload
        return self.agent.wait(self.agent.submit([payload], fn), seconds)[0]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.p.poll() is None:
            self.p.terminate()
            try:
                self.p.wait(15)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        self.agent.close()
        self.ctx.term()
        if kind not in (None, Skip):
            self.log.seek(0)
            sys.stdout.write("".join("# " + x[:400] for x in self.log.readlines()[-30:]))
        self.log.close()
        shutil.rmtree(self.tmp, ignore_errors=True)


def value(r):
    assert r["status"] == peer.SUCCESS, r
    return json.loads(r["result"])


def cold_and_warm(rt):
    with Rig(rt) as g:
        fn = g.function(NAP)
        began = time.monotonic()
        r = g.run(fn, 0)
        cold = time.monotonic() - began
        c = json.loads(r["runtime"])["container"]
        value(r)
        warm = cold
        for _ in range(3):      # the machine may stand still once
            began = time.monotonic()
            value(g.run(fn, 0))
            warm = min(warm, time.monotonic() - began)
        assert c["type"] == rt.name and c["image"] == rt.image and 0 < c["cold_start_ms"] <= cold * 1000, c
        assert warm < cold, (warm, cold)
        print("# %s: cold %.0f ms, warm %.1f ms" % (rt.label, cold * 1000, warm * 1000))
    until(lambda: not rt.left(), "nothing is left")


def walls_of_the_sandbox(rt):
    import socket
    outside = socket.socket()
    outside.bind(("127.0.0.1", 0))
    outside.listen()
    with Rig(rt) as g, tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="weft-host-") as file:
        v = value(g.run(g.function(PROBE), outside.getsockname()[1], rt.base, file.name))
        assert v["uid"] == (rt.user or 65534) and int(v["caps"], 16) == 0 and v["nnp"] == "1", v
        for wall in ("root", "usr", "bundle", "mount", "chown") + (() if rt.copies_etc else ("etc",)):
            assert v[wall] in ("EROFS", "EACCES", "EPERM", "EINVAL"), (wall, v)
        assert v["cwd"] == "mine" and v["tmp"] == "done", v
        assert v["host"] != "done" and v["nets"] in (["lo"], []), v
        assert v["procs"] < 10 and not v["home"] and v["python"] == "/usr/bin/python3", v
        assert not os.path.exists(g.bundle + "/weft-was-here")
        if rt.copies_etc:
            with open(rt.image + "/etc/passwd") as f:
                assert f.read() != "x", "the image is as it was"
    outside.close()


def memory_has_an_end(rt):
    with Rig(rt) as g:
        fn = g.function(EAT, memory_limit_bytes=64 * MIB)
        r = g.run(fn, 600)
        assert r["status"] == peer.FAILED and r["code"] in (20, 22, 24), r
        assert value(g.run(g.function(EAT, memory_limit_bytes=64 * MIB), 8)) == 1, "the next call runs"


def processes_have_an_end(rt):
    if rt.no_limits:
        raise Skip("%s has no limit of processes: %s" % (rt.label, rt.no_limits))
    with Rig(rt) as g:
        v = value(g.run(g.function(FORK, max_pids=32), 200))
        assert str(v).startswith("stopped at"), v


def cpu_is_shared_out(rt):
    if rt.no_limits:
        raise Skip("%s has no limit of CPU: %s" % (rt.label, rt.no_limits))
    with Rig(rt) as g:
        v = value(g.run(g.function(SPIN, cpu_millis=500), 2))
        assert v < 0.75, "half a CPU was given, %.2f used" % v


def network_only_where_allowed(rt):
    import socket
    outside = socket.socket()
    outside.bind(("127.0.0.1", 0))
    outside.listen()
    port = outside.getsockname()[1]
    with Rig(rt) as g:
        r = g.run(g.function(PROBE, flags=4), port, rt.base)
        assert r["status"] == peer.FAILED and "network" in r["error"], r
    with Rig(rt, network="host") as g:
        assert value(g.run(g.function(PROBE, flags=4), port, rt.base))["host"] == "done"
        assert value(g.run(g.function(PROBE), port, rt.base))["host"] != "done", "who does not ask has none there either"
    outside.close()


def image_with_one_program(rt):
    if not rt.empty:
        raise Skip("%s: no image of one program was made" % rt.name)
    with Rig(rt) as g:
        fn = g.function(json.dumps({"argv": ["/shout"]}).encode(), image=rt.empty, kind=peer.COMMAND)
        assert g.run(fn, payload=b"hello")["result"] == b"HELLO"
        r = g.run(g.function(NAP, image=rt.empty), 0)
        assert r["status"] == peer.FAILED and "python3" in r["error"], r


def image_id(digest):
    return uuid.UUID(bytes=hashlib.sha256(digest.encode()).digest()[:16])


def reference_that_leads_elsewhere(rt):
    with Rig(rt, "--container-recheck", "50ms") as g:
        fn = g.function(NAP, image=rt.move())
        before = g.agent.ask_image(fn)
        assert before["digest"] and uuid.UUID(before["image"]) == image_id(before["digest"].decode()) and before["valid_ms"] <= 50, before
        first = g.run(fn, 0)
        assert json.loads(first["runtime"])["container"]["digest"] == before["digest"].decode(), (before, first)
        assert first["image"] == before["image"] == g.run(fn, 0)["image"], (before, first)
        assert g.agent.ask_image(fn)["digest"] == before["digest"], "it has not changed"
        rt.move()
        until(lambda: g.agent.ask_image(fn)["digest"] != before["digest"], "the other image is seen")
        after = g.agent.ask_image(fn)
        assert after["digest"] and after["image"] != before["image"], (before, after)
        second = g.run(fn, 0)
        assert second["image"] == after["image"] and value(second) is not None, (after, second)
        states = {c["digest"] for c in g.agent.container_log if c["state"] == 3}
        assert states == {before["digest"], after["digest"]}, states
        none = g.agent.ask_image(g.function(NAP, image="docker://registry.invalid/x:1" if rt.name in ("apptainer", "charliecloud") else "nosuch:1"))
        assert not none["digest"] and uuid.UUID(none["image"]).int == 0, none


def image_that_is_not_there(rt):
    name = "/nonexistent/image" if rt.name in ("apptainer", "charliecloud") else "localhost:1/nosuch:1"
    with Rig(rt) as g:
        r = g.run(g.function(NAP, image=name), 0)
        assert r["status"] == peer.FAILED and r["code"] == 31 and name in r["error"] and "node-1" in r["error"], r


def keeps(*names):
    return wire.encode_files([{"kind": 3, "name": n, "digest": "00" * 32} for n in names])


def files_that_stay(rt):
    with tempfile.TemporaryDirectory(prefix="weft-out-") as out:
        owner = rt.user or os.geteuid()
        secret = os.path.join(out, "mine.h5")
        with open(secret, "w") as f:
            f.write("secret")
        os.chmod(out, 0o755)
        shelf = os.path.join(out, "shelf")
        os.mkdir(shelf)
        os.chown(shelf, owner, -1)
        with Rig(rt, "--files-cache", "1GiB", "--files-dir", os.path.join(out, "shelf", ".cache"), "--files-output", shelf) as g:
            r = g.run(g.function(LEAVE, files=keeps("*.h5")), secret)
            value(r)
            folder = os.path.join(shelf, str(uuid.UUID(bytes=r["id"])))
            kept = dict(wire.decode_kept(r["kept"]))
            assert kept == {os.path.join(folder, n): 3 * MIB if n == "frame-1.h5" else 0
                            for n in ("frame-1.h5", "empty.h5", "a \xe4.h5", "run.h5")}, (kept, r)
            assert sorted(os.listdir(folder)) == sorted(map(os.path.basename, kept)), os.listdir(folder)
            for path in [folder, *kept]:
                st = os.lstat(path)
                assert st.st_uid == owner and not st.st_mode & 0o7022, (path, oct(st.st_mode), st.st_uid)
            assert os.access(folder + "/run.h5", os.X_OK) and os.stat(folder + "/empty.h5").st_mode & 0o111 == 0
            with open(folder + "/frame-1.h5", "rb") as f:
                assert f.read() == b"\x89" * (3 * MIB)
            for name in ("far.h5", "near.h5", "pipe.h5", "dir.h5"):
                r = g.run(g.function(LEAVE, files=keeps(name)), secret)
                assert r["status"] == peer.FAILED and r["code"] == TASK_FILE and name in r["error"] and "kept" not in r, r
            until(lambda: not [n for _, dirs, _ in os.walk(g.own) for n in dirs if n.startswith("kept-")], "what is through is removed")
            for i in range(5):      # whenever it is swapped: the call's own, or none; and later calls may meet what earlier ones exchange
                r = g.run(g.function(SWAP, files=keeps("mine.h5")), secret, 3)
                for path, size in wire.decode_kept(r.get("kept", b"")):
                    with open(path) as f:
                        assert size == 2000000 and f.read() == "mine" * 500000, (path, size)
                assert r["status"] == peer.SUCCESS if "kept" in r else r["code"] == TASK_FILE or (i and r["code"] == TASK_EXCEPTION), r
            tasks = [n for n in os.listdir(shelf) if n[0] != "."]
            assert all(os.listdir(os.path.join(shelf, n)) == ["mine.h5"] for n in tasks if n != os.path.basename(folder)), tasks


def killed_container(rt):
    if not hasattr(rt, "kill_one"):
        raise Skip("%s: a container is its process, which 23-containers.py kills" % rt.name)
    with Rig(rt) as g:
        fn = g.function(NAP)
        value(g.run(fn, 0))
        ids = g.agent.submit([b'{"args": [3]}'], fn)
        g.agent.until(lambda: (ids[0], 4) in g.agent.states, 30, "it runs")
        rt.kill_one()
        value(g.agent.wait(ids, 60)[0])
    until(lambda: not rt.left(), "nothing is left")


def killed_manager(rt):
    with Rig(rt) as g:
        value(g.run(g.function(NAP), 0))
        g.p.kill()
        g.p.wait()
        g.start()
        until(lambda: not rt.left(), "what it left is removed")
        value(g.run(g.function(NAP), 0))
    until(lambda: not rt.left(), "nothing is left")


def daemon_restarted(rt):
    if not rt.daemon:
        raise Skip("%s has no daemon" % rt.name)
    with Rig(rt) as g:
        fn = g.function(NAP)
        value(g.run(fn, 0))
        rt.restart()
        value(g.run(fn, 0))


def image_in_a_file(rt):
    if not hasattr(rt, "file"):
        raise Skip("%s keeps images itself" % rt.label)
    r = subprocess.run(rt.as_user + ["sh", "-c", ": <>/dev/fuse"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if r.returncode:
        raise Skip("%s: a user cannot open /dev/fuse here: %s" % (rt.label, r.stdout.strip()))
    with Rig(rt) as g:
        value(g.run(g.function(NAP, image=rt.file), 0))
    until(lambda: not rt.left(), "nothing is left")


def what_is_left_is_the_users(rt):
    with Rig(rt) as g:
        def closed():
            return [d for d, dirs, _ in os.walk(g.own) if "closed" in dirs]
        g.agent.submit([b'{"args": [60]}'], g.function(LITTER))
        g.agent.until(closed, 60, "the function has left something")
        owners = {os.lstat(os.path.join(d, n)).st_uid for d, dirs, files in os.walk(g.own) for n in dirs + files}
        assert owners == {rt.user}, owners
        g.p.kill()
        g.p.wait()
        g.start()
        until(lambda: not rt.left(), "the container and what it started have ended")
        g.p.terminate()
        g.p.wait(30)
        assert not closed(), "the user has removed what it cannot open"
    until(lambda: not rt.processes(), "nothing of the user runs")


TESTS = (cold_and_warm, walls_of_the_sandbox, memory_has_an_end, processes_have_an_end, cpu_is_shared_out, network_only_where_allowed,
         reference_that_leads_elsewhere, files_that_stay,
         image_with_one_program, image_that_is_not_there, killed_container, killed_manager, daemon_restarted)
# what is another thing for a user
USERS_TESTS = (cold_and_warm, walls_of_the_sandbox, memory_has_an_end, processes_have_an_end, cpu_is_shared_out, network_only_where_allowed,
               files_that_stay, image_in_a_file, image_that_is_not_there, killed_container, killed_manager, what_is_left_is_the_users)


def main():
    global BUILD
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("names", nargs="*", help="only runtimes, or tests, whose name contains one of these")
    o = ap.parse_args()
    BUILD = os.path.abspath(o.build)
    tmp = tempfile.mkdtemp(prefix="weft-containers-")
    os.chmod(tmp, 0o755)
    passed = failed = skipped = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    runtimes = [r for r in RUNTIMES + USERS if any(n in r.label for n in o.names)] or RUNTIMES + USERS
    named = [t for t in TESTS + USERS_TESTS if any(n in t.__name__ for n in o.names)] or TESTS + USERS_TESTS
    try:
        for kind in runtimes:
            rt = kind(tmp)
            try:
                rt.up()
            except Skip as e:
                print("skip - %s: %s" % (rt.label, e))
                skipped += 1
                continue
            for t in (t for t in (USERS_TESTS if kind in USERS else TESTS) if t in named):
                name, began = "%s: %s" % (rt.label, t.__name__.replace("_", " ")), time.monotonic()
                try:
                    t(rt)
                    print("ok - %s (%.1f s)" % (name, time.monotonic() - began))
                    passed += 1
                except Skip as e:
                    print("skip - %s: %s" % (name, e))
                    skipped += 1
                except Exception:
                    traceback.print_exc(file=sys.stdout)
                    print("not ok - %s" % name)
                    failed += 1
                sys.stdout.flush()
            rt.down()
    finally:
        for rt in [kind(tmp) for kind in RUNTIMES + USERS]:
            if os.path.exists(rt.dir):
                rt.down()
        shutil.rmtree(tmp, ignore_errors=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(1 if failed else 0)


main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The worker's bundle starts in roots that have nothing of it: an empty one, one with musl, and one with Debian's files and Python.
Each is a directory of its own, entered with a mount namespace and chroot; the manager is a scripted one."""
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
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
try:
    import zmq
    import wire
except ImportError as e:
    print("skip - bundle: %s" % e)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

BUILD = None
PYTHON, COMMAND, OBJECT = 2, 3, 4
RUNNER = 31
SHOUT = r"""
#include <ctype.h>
#include <stdio.h>
int main (void) { int c; while ((c = getchar ()) != EOF) putchar (toupper (c)); return 0; }
"""
ENTER = 'mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && { [ -z "$USR" ] || mount --rbind /usr "$0/usr"; } && exec chroot "$0" "$@"'


class Skip(Exception):
    pass


class Inside:
    """A root, the bundle mounted at /weft, and a worker in it with a session."""

    def __init__(self, debian=False):
        self.tmp = tempfile.mkdtemp(prefix="weft-b-")
        self.root = os.path.join(self.tmp, "root")
        for d in ("proc", "dev", "run", "work", "tmp"):
            os.makedirs(os.path.join(self.root, d))
        os.chmod(os.path.join(self.root, "tmp"), 0o1777)
        shutil.copytree(os.path.join(BUILD, "bundle"), os.path.join(self.root, "weft"))
        self.debian, self.p, self.ctx = debian, None, zmq.Context()
        if debian:
            os.mkdir(os.path.join(self.root, "usr"))
            for name in ("bin", "lib", "lib64", "sbin"):
                if os.path.islink("/" + name):
                    os.symlink(os.readlink("/" + name), os.path.join(self.root, name))

    def __enter__(self):
        return self

    def start(self):
        self.sock = self.ctx.socket(zmq.ROUTER)
        self.sock.linger = 0
        self.sock.bind("ipc://%s/run/s" % self.root)
        argv = ["unshare", "--mount", "--propagation", "private"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
        argv += ["sh", "-c", ENTER, self.root, "/weft/ld.so", "--library-path", "/weft/lib", "/weft/weft-worker", "--connect", "ipc:///run/s",
                 "--node", "inside", "--dir", "/work/w", "--log-level", "debug"]
        self.log = open(os.path.join(self.tmp, "log"), "w+")
        began = time.monotonic()
        self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                  env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "USR": "1" if self.debian else ""})
        self.rid, self.epoch, self.results = None, 0, {}
        self.until(lambda: self.epoch, "a session")
        self.took = time.monotonic() - began
        return self

    def __exit__(self, kind, *_):
        if self.p:
            self.p.kill()
            self.p.wait()
            self.sock.close()
            self.log.seek(0)
            if kind:
                sys.stdout.write("".join("# " + x for x in self.log.readlines()[-20:]))
            self.log.close()
        self.ctx.term()
        shutil.rmtree(self.tmp, ignore_errors=True)

    def send(self, kind, *records):
        self.sock.send_multipart([self.rid] + wire.message(kind, list(records), epoch=self.epoch))

    def until(self, cond, what, seconds=30):
        end = time.monotonic() + seconds
        while not cond():
            assert self.p.poll() is None, "the worker ended with %s" % self.p.returncode
            assert time.monotonic() < end, "not within %g s: %s" % (seconds, what)
            if not self.sock.poll(20):
                continue
            self.rid, *frames = self.sock.recv_multipart()
            head, records = wire.decode_message(frames)
            kind = wire.NAMES[head["type"]]
            if kind == "HELLO":
                self.hello = records[0]
                self.epoch = 7
                self.send("WELCOME", wire.encode("WELCOME", {"major": wire.MAJOR, "epoch": 7, "heartbeat_ms": 500, "threshold_ms": 5000,
                                                             "max_payload_bytes": 1 << 20, "max_result_bytes": 1 << 20}))
            elif kind == "RESULT":
                for r in records:
                    self.results[r["task"]] = r
            elif kind == "HEARTBEAT":
                self.send("HEARTBEAT")

    def run(self, kind, code, payload, entry=""):
        fn, task = str(uuid.uuid4()), str(uuid.uuid4())
        self.send("FUNCTION", wire.encode("FUNCTION", {"kind": kind, "id": fn, "code": code, "entry": entry}))
        self.send("TASK", wire.encode("TASK", {"task": task, "function": fn, "payload": payload, "stamps": list(range(1, 9))}))
        self.until(lambda: task in self.results, "a result")
        return self.results[task]

    def shout(self, text):
        return self.run(COMMAND, json.dumps({"argv": ["/shout"]}).encode(), text)


def compile_shout(out, *cc):
    src = out + ".c"
    with open(src, "w") as f:
        f.write(SHOUT)
    subprocess.run(list(cc) + ["-O2", "-o", out, src], check=True)
    os.unlink(src)


def empty_root_runs_commands():
    with Inside() as r:
        compile_shout(os.path.join(r.root, "shout"), "cc", "-static")
        r.start()
        assert sorted(os.listdir(r.root)) == ["dev", "proc", "run", "shout", "tmp", "weft", "work"], "neither shell nor Python"
        assert json.loads(r.hello["runtime"])["kinds"] == ["command", "shared_object"], r.hello["runtime"]
        took = r.took
        for _ in range(4):              # on a busy machine not each time
            if took >= 2.5:
                with Inside() as again:
                    took = again.start().took
        assert took < 2.5, "nobody waits for an interpreter that is not there: %.1f s" % took
        assert r.shout(b"hello")["result"] == b"HELLO"
        e = r.run(PYTHON, b"def f(): pass", b"{}", "f")
        assert e["code"] == RUNNER and b"python3" in e["error"] and b"inside" in e["error"], e


def empty_root_runs_shared_objects():
    with Inside() as r:
        r.start()
        with open(os.path.join(BUILD, "examples", "digits_sum.so"), "rb") as f:
            import base64
            code = base64.b64encode(f.read())
        assert r.run(OBJECT, code, b"1,2,3.5", "weft_function")["result"] == b"6.5"


def musl_root_runs_commands():
    loader = "/lib/ld-musl-%s.so.1" % os.uname().machine
    if not shutil.which("musl-gcc") or not os.path.exists(loader):
        raise Skip("no musl-gcc: install musl-tools")
    with Inside() as r:
        compile_shout(os.path.join(r.root, "shout"), "musl-gcc")
        os.mkdir(os.path.join(r.root, "lib"))
        shutil.copy(loader, os.path.join(r.root, "lib"))
        r.start()
        assert r.shout(b"musl")["result"] == b"MUSL"


def debian_root_runs_its_own_python():
    with Inside(debian=True) as r:
        r.start()
        got = r.run(PYTHON, b"import os, sys\ndef f():\n    return [sys.executable, os.environ.get('LD_LIBRARY_PATH'), os.path.exists('/weft/ld.so')]",
                    b'{"args": []}', "f")
        assert got["status"] == 1 and json.loads(got["result"]) == ["/usr/bin/python3", None, True], got


def main():
    global BUILD
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    BUILD = os.path.abspath(ap.parse_args().build)
    signal.alarm(300)
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    can = subprocess.run(["unshare", "--mount"] + user + ["true"], stderr=subprocess.DEVNULL).returncode == 0
    counts = {"ok": 0, "not ok": 0, "skip": 0}
    for f in (empty_root_runs_commands, empty_root_runs_shared_objects, musl_root_runs_commands, debian_root_runs_its_own_python):
        name, how, why = f.__name__.replace("_", " "), "ok", ""
        try:
            if not can:
                raise Skip("no namespaces for this user")
            f()
        except Skip as e:
            how, why = "skip", ": %s" % e
        except Exception:
            traceback.print_exc(file=sys.stdout)
            how = "not ok"
        counts[how] += 1
        print("%s - %s%s" % (how, name, why))
        sys.stdout.flush()
    print("%d passed, %d failed, %d skipped" % (counts["ok"], counts["not ok"], counts["skip"]))
    sys.exit(1 if counts["not ok"] else 0)


main()

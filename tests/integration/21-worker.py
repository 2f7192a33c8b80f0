#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""weft-worker with a scripted manager: what functions do wrong, and that the worker lives through all of it and leaves no process."""
import argparse
import base64
import contextlib
import fcntl
import json
import os
import pickle
import random
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
    import versions
    import wire
except ImportError as e:
    print("skip - worker: %s" % e)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

BUILD = None
TESTS = []
GLOBUS, PYTHON, COMMAND, OBJECT = 1, 2, 3, 4
OK, FAILED, CANCELLED = 1, 2, 3
USER, SITE = 1, 2
EXCEPTION, EXIT, SIGNAL, TIME, MEMORY, DECODE, ENCODE, TOO_LARGE, MODULE, RUNNER = 20, 21, 22, 23, 24, 25, 26, 27, 30, 31
CANCELLED_CODE = 12
MIB = 1 << 20
GATED = """def f(gate):
  import os, time
  while not os.path.exists(gate): time.sleep(0.02)
"""


class Skip(Exception):
    pass


def test(f):
    TESTS.append(f)
    return f


def until(what, cond, timeout=30):
    end = time.monotonic() + timeout
    while True:
        v = cond()
        if v:
            return v
        if time.monotonic() > end:
            raise AssertionError("not within %g s: %s" % (timeout, what))
        time.sleep(0.01)


def processes():
    """pid -> (parent, command line, state), of all that live."""
    out = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                with open("/proc/%s/stat" % p) as f:
                    rest = f.read().rsplit(")", 1)[1].split()
                with open("/proc/%s/cmdline" % p, "rb") as f:
                    out[int(p)] = (int(rest[1]), f.read(), rest[0])
            except OSError:
                pass
    return out


def descendants(pid):
    all_, found, todo = processes(), {}, [pid]
    while todo:
        parent = todo.pop()
        for p, (pp, cmd, state) in all_.items():
            if pp == parent and state not in "ZX":
                found[p] = cmd
                todo.append(p)
    return found


def marked(mark):
    """Living processes of any parent that carry a mark in their command line."""
    return [p for p, (_, cmd, state) in processes().items() if mark.encode() in cmd and state not in "ZX" and p != os.getpid()]


class Manager:
    """Binds where a worker dials, and plays its manager. Use as a context; all is gone afterwards."""

    def __init__(self, *args, python="/usr/bin/python3", version=versions.OURS, ack=True, max_result=MIB, threshold_ms=10000, wait=True):
        self.dir = tempfile.mkdtemp(prefix="weft-worker-")
        self.uri = "ipc://%s/manager" % self.dir
        self.ctx = zmq.Context()
        self.sock = self.ctx.socket(zmq.ROUTER)
        self.sock.linger = 0
        self.sock.bind(self.uri)
        self.id = str(uuid.uuid4())
        self.version, self.ack, self.max_result, self.threshold_ms = version, ack, max_result, threshold_ms
        self.answer = True      # a HELLO
        self.epoch, self.rid, self.hello, self.functions = 0, None, None, {}
        self.results, self.returned, self.missing, self.states, self.byes = {}, [], [], {}, []
        self.outputs = {}
        self.order = []
        self.log = open(self.dir + "/log", "w")
        self.p = subprocess.Popen([BUILD + "/bin/weft-worker", "--connect", self.uri, "--worker-id", self.id, "--node", "node7", "--dir",
                                   self.dir + "/w", "--python", python, "--parent-pid", str(os.getpid()), "--log-level", "debug"]
                                  + list(args), stdout=self.log, stderr=self.log)
        self.pid = self.p.pid
        if wait:
            until("session", lambda: self.pump() or self.epoch)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.p.poll() is None:
            self.p.terminate()
            try:
                self.p.wait(20)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        self.sock.close()
        self.ctx.term()
        self.log.close()
        with open(self.dir + "/log") as f:
            text = f.read()
        if not kind and ("Sanitizer" in text or "runtime error" in text):
            shutil.rmtree(self.dir, ignore_errors=True)
            raise AssertionError("a sanitizer's report:\n" + text[-4000:])
        if kind and not issubclass(kind, Skip):
            with open(self.dir + "/log") as f:
                sys.stdout.write("".join("# " + line for line in f.read().splitlines(True)[-40:]))
        shutil.rmtree(self.dir, ignore_errors=True)

    def send(self, kind, records=()):
        self.sock.send_multipart([self.rid] + self.version.message(kind, records, self.epoch))

    def new_session(self):
        self.epoch = int.from_bytes(os.urandom(7), "little") + 1
        self.functions = {}

    def pump(self, ms=0):
        while self.sock.poll(ms):
            ms = 0
            rid, *frames = self.sock.recv_multipart()
            head, records = wire.decode_message(frames)
            self.take(rid, wire.NAMES[head["type"]], head, records, frames)

    def take(self, rid, kind, head, records, frames):
        if kind == "HELLO" and self.answer:
            self.rid, self.hello = rid, records[0]
            self.new_session()
            major, minor = self.version.session
            self.send("WELCOME", [self.version.encode("WELCOME", {
                "major": major, "minor": minor, "epoch": self.epoch, "heartbeat_ms": 500, "threshold_ms": self.threshold_ms, "max_payload_bytes": 64 * MIB,
                "max_result_bytes": self.max_result})])
        elif kind == "RESULT":
            assert head["major"] == self.version.session[0] and all(self.version.fits("RESULT", f) for f in frames[1:])
            for r in records:
                self.results.setdefault(r["task"], []).append(r)
                self.order.append(r["task"])
            if self.ack:
                self.send("RESULT_ACK", [wire.encode_ids([r["task"] for r in records])])
        elif kind == "TASK_RETURN":
            self.returned += records
        elif kind == "FUNCTION_MISSING":
            self.missing += records
        elif kind == "TASK_STATE":
            for s in records:
                self.states[s["task"]] = s
        elif kind == "OUTPUT":
            for o in records:
                self.outputs.setdefault(o["task"], []).append(o)
        elif kind == "HEARTBEAT":
            self.send("HEARTBEAT")
        elif kind == "BYE":
            self.byes.append(records[0]["text"])

    def wait(self, what, cond, timeout=30):
        end = time.monotonic() + timeout
        while not cond():
            assert self.p.poll() is None, "the worker ended with %s" % self.p.returncode
            assert time.monotonic() < end, "not within %g s: %s" % (timeout, what)
            self.pump(20)

    def function(self, kind, code, entry="f", send=True, **limits):
        fid = str(uuid.uuid4())
        record = self.version.encode("FUNCTION", dict(limits, kind=kind, id=fid, code=code, entry=entry))
        self.functions[fid] = record
        if send:
            self.send("FUNCTION", [record])
        return fid

    def task(self, fid, payload=b"", **more):
        return dict(more, task=str(uuid.uuid4()), function=fid, payload=payload, stamps=list(range(1, 9)))

    def submit(self, *tasks):
        self.send("TASK", [self.version.encode("TASK", t) for t in tasks])
        return [t["task"] for t in tasks]

    def result(self, task, timeout=30):
        self.wait("result", lambda: task in self.results, timeout)
        return self.results[task][-1]

    def call(self, fid, payload=b"", timeout=30, **more):
        return self.result(self.submit(self.task(fid, payload, **more))[0], timeout)

    def python(self, source, payload=b"", timeout=30, **more):
        limits = {k: more.pop(k) for k in list(more) if k.startswith("fn_")}
        return self.call(self.function(PYTHON, source, **{k[3:]: v for k, v in limits.items()}), payload, timeout, **more)

    def gate(self, name):
        """The path that a call waits for (GATED), until it is opened."""
        return os.path.join(self.dir, "gate-" + name)

    def open(self, name):
        open(self.gate(name), "w").close()

    def alive(self):
        """The worker answers as before."""
        r = self.python("def f(x): return x * 2", b"21")
        assert (r["status"], r["result"]) == (OK, b"42"), r
        assert self.p.poll() is None

    def fails(self, r, code, fault=USER, detail=None):
        assert (r["status"], r["code"], r["fault"]) == (FAILED, code, fault), r
        assert detail is None or r["detail"] == detail, r
        assert r["node"] == b"node7" and not r["result"]
        self.alive()
        return r["error"].decode()

    def only_runners(self):
        """Nothing lives below the worker but runners that wait."""
        def others():
            self.pump()
            return [c for c in descendants(self.pid).values() if b"python_runner.py" not in c and b"so-runner" not in c]
        until("no process left: %s" % others(), lambda: not others(), 30)


# ---- what works ----

@test
def session_and_runtime(m):
    runtime = json.loads(m.hello["runtime"])
    assert m.hello["role"] == 3 and m.hello["id"] == m.id and m.hello["slots"] == 1 and m.hello["pid"] == m.pid, m.hello
    assert set(runtime["kinds"]) == {"globus", "python", "command", "shared_object"} and runtime["python_version"], runtime


@test
def stamps_and_node(m):
    r = m.python("import time\ndef f():\n print('said')\n time.sleep(0.01)")
    s = dict(zip(wire.STAMPS, r["stamps"]))
    assert r["stamps"][:8] == list(range(1, 9)) and r["stamps"][12:] == [0] * 4, s
    assert time.time_ns() - 10e9 < s["worker_received"] <= s["execution_start"] < s["execution_end"] <= s["worker_sent"] <= time.time_ns()
    assert r["node"] == b"node7" and r["stdout"] == b"said\n" and r["runtime"] == b"" and r["max_rss_bytes"] > MIB, r


@test
def globus_tells_its_runtime(m):
    def pack(*parts):
        return "".join("%d\n%s" % (len(p), p) for p in parts)

    def plain(v):
        return "00\n" + base64.encodebytes(pickle.dumps(v, 4)).decode()
    f = m.function(GLOBUS, pack("st\nadd:def add(a, b):\n    return a + b  # \u00e9\n"))
    r = m.call(f, pack(plain((1,)), plain({"b": 2})))
    assert r["status"] == OK and pickle.loads(base64.decodebytes(r["result"][3:])) == 3, r
    assert json.loads(r["runtime"])["python_version"] and "dill_version" in json.loads(r["runtime"])


@test
def results_as_they_were_asked_for(m):
    """In one message, so that the batch function's inputs could be put together: only those whose results have the same form are."""
    def pack(*parts):
        return "".join("%d\n%s" % (len(p), p) for p in parts)
    one = m.function(GLOBUS, pack("st\nf:def f(x):\n    return [x]\n"))
    many = m.function(GLOBUS, pack("st\nf:def f(xs):\n    return [[x] for x in xs]\n"), flags=2, max_batch=64)
    forms = ((0, b"00\n"), (8, b"11\n"), (16, b"13\n"), (24, b"11\n"), (1, b"11\n"), (17, b"13\n"), (128, b"00\n"))
    for f in one, many:
        tasks = [m.task(f, "1" if flags & 1 else pack("11\n[1]", "11\n{}"), flags=flags) for flags, _ in forms * 3]
        for t, (flags, ident), r in zip(tasks, forms * 3, [m.result(x) for x in m.submit(*tasks)]):
            assert r["status"] == OK and r["result"][:3] == ident, (flags, r)
    assert m.call(m.function(PYTHON, "def f(x): return x"), "1", flags=24)["result"] == b"1"


@test
def many_tasks_in_order(m):
    f = m.function(PYTHON, "def f(x): return x")
    g = m.function(COMMAND, json.dumps({"argv": ["cat"]}))
    tasks = [m.task(g if i % 100 == 50 else f, str(i)) for i in range(1000)]
    for i in range(0, 1000, 250):
        m.submit(*tasks[i:i + 250])
    m.wait("all results", lambda: len(m.results) == 1000, 30)
    for i, t in enumerate(tasks):
        assert m.results[t["task"]][0]["result"] == str(i).encode() and len(m.results[t["task"]]) == 1
    assert m.order == [t["task"] for t in tasks]


@test
def large_payload_and_result(m):
    with Manager(max_result=32 * MIB) as o:
        f = o.function(PYTHON, "def f(x): return x")
        for n in (60000, 70000, MIB, 20 * MIB):
            payload = json.dumps("y" * n).encode()
            r = o.call(f, payload)
            assert r["status"] == OK and r["result"] == payload, r["error"]
        tasks = [o.task(f, json.dumps("z" * (200000 + i))) for i in range(20)]
        o.submit(*tasks)
        for t in tasks:
            assert o.result(t["task"])["result"] == t["payload"].encode()


@test
def functions_are_asked_for(m):
    f = m.function(PYTHON, "def f(x): return x", send=False)
    t = m.submit(m.task(f, b"1"), m.task(f, b"2"))
    m.wait("question", lambda: f in m.missing)
    m.alive()
    m.send("FUNCTION", [m.functions[f]])
    assert [m.result(x)["result"] for x in t] == [b"1", b"2"]


@test
def a_function_that_never_comes(m):
    with Manager(threshold_ms=2000) as o:
        t = o.submit(o.task(str(uuid.uuid4())))
        o.wait("task given back", lambda: o.returned == t)
        o.alive()


@test
def running_is_told(m):
    t = m.submit(m.task(m.function(PYTHON, GATED), json.dumps(m.gate("told"))))[0]
    m.wait("state", lambda: t in m.states)
    assert m.states[t]["state"] == 4 and t not in m.results
    m.open("told")
    assert abs(m.states[t]["time_ns"] - m.result(t)["stamps"][9]) < 5e9
    short = m.submit(m.task(m.function(PYTHON, "def f(): pass")))[0]
    begun, ended = m.result(short)["stamps"][9:11]
    assert short not in m.states or ended - begun > 100e6       # longer than it takes, where the machine stood still


FOLLOWED = '''
def f(gates):
    import os, sys, time
    for i, gate in enumerate(gates):
        print("line %d" % i)
        os.write(2, b"native %d\\n" % i)
        while not os.path.exists(gate):
            time.sleep(0.02)
'''


@test
def output_is_told_to_whom_follows(m):
    gates = [m.gate(str(i)) for i in range(4)]
    t = m.submit(m.task(m.function(PYTHON, FOLLOWED), json.dumps(gates)))[0]
    m.wait("state", lambda: t in m.states)
    assert t not in m.outputs, "nobody has asked"
    m.send("FOLLOW", [wire.encode_ids([t, str(uuid.uuid4())])])
    for i in range(4):
        m.wait("output", lambda: t in m.outputs and b"line %d\n" % i in m.outputs[t][-1]["stdout"] and b"native %d\n" % i in m.outputs[t][-1]["stderr"])
        m.open(str(i))
    m.result(t)
    last = m.outputs[t][-1]
    assert len(m.outputs[t]) >= 4 and last["stdout"].startswith(b"line 0\nline 1\n") and last["stderr"].startswith(b"native 0\nnative 1\n"), m.outputs[t]
    assert all(o["stdout_total"] == len(o["stdout"]) and last["stdout"].startswith(o["stdout"]) for o in m.outputs[t]), m.outputs[t]
    n = len(m.outputs[t])
    again = m.submit(m.task(m.function(PYTHON, FOLLOWED), json.dumps(gates[:2])))[0]
    m.result(again)
    assert again not in m.outputs and len(m.outputs[t]) == n, "one that nobody follows"
    until_there = "until [ -e '%s' ]; do sleep 0.02; done; "
    code = json.dumps({"argv": ["sh", "-c", "echo one; echo two >&2; " + until_there % m.gate("one") + "printf '\\303'; sleep 0.5; printf '\\244\\377\\n'; " +
                                until_there % m.gate("all")]})
    c = m.submit(m.task(m.function(COMMAND, code)))[0]
    m.send("FOLLOW", [wire.encode_ids([c])])
    m.wait("the first line", lambda: c in m.outputs and m.outputs[c][-1]["stderr"])
    m.open("one")
    m.wait("the second line", lambda: m.outputs[c][-1]["stdout"].endswith(b"?\n"))
    m.open("all")
    m.result(c)
    texts = [o["stdout"].decode() for o in m.outputs[c]]
    assert texts[0] == "one\n" and texts[-1] == "one\n\u00e4?\n" and m.outputs[c][-1]["stderr"] == b"two\n", m.outputs[c]
    m.alive()


@test
def output_that_floods_or_lies_is_harmless(m):
    flood = m.submit(m.task(m.function(PYTHON, GATED.replace("  ", "  for i in range(40): print('x' * 99999)\n  ", 1)), json.dumps(m.gate("flood"))))[0]
    m.send("FOLLOW", [wire.encode_ids([flood])])
    m.wait("all of it", lambda: flood in m.outputs and m.outputs[flood][-1]["stdout_total"] >= 40 * 100000)
    m.open("flood")
    m.result(flood)
    o = m.outputs[flood][-1]
    assert o["stdout_total"] == 40 * 100000 and len(o["stdout"]) == 65536, (o["stdout_total"], len(o["stdout"]))
    lie = """def f():
    import mmap, struct, time
    m = mmap.mmap(5, 0)
    for v in (2**64 - 1, 2**62, 2**62, 0, 2**61):
        m[0:8] = struct.pack("<Q", v)
        time.sleep(0.3)
    m[0:8] = struct.pack("<Q", 0)"""
    t = m.submit(m.task(m.function(PYTHON, lie)))[0]
    m.send("FOLLOW", [wire.encode_ids([t])])
    m.result(t)
    assert m.epoch and not m.byes, "the session goes on"
    m.alive()


@test
def managers_of_other_versions(m):
    for v in versions.OTHERS:
        with Manager(version=v) as other:
            h = other.hello
            assert (h["min_major"], h["max_major"], h["minor"]) == (1, wire.MAJOR, wire.MINOR), h
            epoch = other.epoch
            for _ in range(20 if v.newer else 0):       # more than it would take of malformed ones
                other.sock.send_multipart([other.rid] + v.unknown(epoch))
            other.alive()
            r = other.python("def f(): raise ValueError('x')")
            assert r["status"] == FAILED and b"ValueError" in r["error"], (v, r)
            assert other.epoch == epoch and not other.byes, v


# ---- commands ----

def command(m, argv, payload=b"", env=None, files=None, **more):
    code = {"argv": argv}
    if env:
        code["env"] = env
    if files:
        code["cwd_files"] = files
    return m.call(m.function(COMMAND, json.dumps(code)), payload, **more)


@test
def commands(m):
    r = command(m, ["tr", "a-z", "A-Z"], b"hello")
    assert (r["status"], r["result"], r["flags"]) == (OK, b"HELLO", 0), r
    r = command(m, ["sh", "-c", "echo $X $WEFT_TASK_ID; cat in; echo err >&2; ls; touch left"], env={"X": "y z"}, files={"in": "text\n"})
    assert r["result"].decode().split("\n")[:3] == ["y z " + r["task"], "text", "in"] and r["stderr"] == b"err\n", r
    assert command(m, ["ls", "-A"])["result"] == b""
    r = command(m, ["printf", "\\377\\376"])
    assert r["flags"] & 2 and base64.b64decode(r["result"]) == b"\xff\xfe", r
    big = os.urandom(300000).hex().encode()
    assert command(m, ["cat"], big)["result"] == big
    assert command(m, ["true"], big)["result"] == b""
    assert command(m, ["sh", "-c", "ls /proc/self/fd"])["result"].decode().split() == ["0", "1", "2", "3"]


@test
def commands_that_fail(m):
    text = m.fails(command(m, ["sh", "-c", "echo out; echo why >&2; exit 3"]), EXIT, detail=3)
    assert "exit status 3" in text and "why" in text, text
    text = m.fails(command(m, ["no-such-program-x"]), EXIT, detail=127)
    assert "cannot run 'no-such-program-x': No such file" in text, text
    m.fails(command(m, ["sh", "-c", "kill -SEGV $$"]), SIGNAL, detail=11)
    for code in ("{", "[]", '{"argv": []}', '{"argv": [1]}', '{"argv": "ls"}', '{"argv": [""]}', '{"argv": ["ls"], "env": {"A": 1}}',
                 '{"argv": ["ls"], "cwd_files": {"../x": "y"}}'):
        m.fails(m.call(m.function(COMMAND, code)), DECODE)
    text = m.fails(command(m, ["sh", "-c", "yes | head -c 30000000"]), TOO_LARGE)
    assert "30000000 bytes" in text, text
    mark = "77.%d" % random.randrange(10 ** 11, 10 ** 12)
    begin = time.monotonic()
    r = command(m, ["sh", "-c", "echo begun; sleep %s & sleep %s" % (mark, mark)], time_limit_ms=3000)
    assert r["stdout"] == b"begun\n", r
    m.fails(r, TIME)
    assert time.monotonic() - begin < 30 and not marked(mark)
    r = command(m, ["sh", "-c", "setsid sleep %s >/dev/null 2>&1 & echo ok" % mark])
    assert r["result"] == b"ok\n", r
    until("daemon gone", lambda: not marked(mark), 30)
    m.only_runners()


# ---- shared objects ----

def load(name):
    path = BUILD + "/examples/%s.so" % name
    if not os.path.exists(path):
        raise Skip("%s is not built" % path)
    with open(path, "rb") as f:
        return base64.b64encode(f.read())


@test
def shared_objects(m):
    f = m.function(OBJECT, load("digits_sum"), entry="")
    assert m.call(f, b"1,2,3.5")["result"] == b"6.5"
    assert "commas" in m.fails(m.call(f, b"x"), EXCEPTION)
    g = m.function(OBJECT, load("noop"), entry="weft_function")
    assert m.call(g)["result"] == b"null"
    r = m.call(g, b"print")
    assert r["stdout"] == b"printed by the function\n", r
    m.fails(m.call(g, b"abort"), SIGNAL, detail=6)
    m.fails(m.call(g, b"exit"), EXIT, detail=3)
    assert m.call(f, b"1,2")["result"] == b"3"
    e = m.function(OBJECT, load("noop"), entry="echo")
    r = m.call(e, b"\xff\x00")
    assert r["flags"] == 2 and base64.b64decode(r["result"]) == b"\xff\x00"
    m.fails(m.call(e, b"x" * 2000, max_result_bytes=1000), TOO_LARGE)
    m.fails(m.call(m.function(OBJECT, load("noop"), entry="nope")), DECODE)
    m.fails(m.call(m.function(OBJECT, b"!!!", entry="x")), DECODE)
    m.fails(m.call(m.function(OBJECT, base64.b64encode(b"no elf"), entry="x")), DECODE)


@test
def surroundings_of_shared_objects(m):
    """What a call sets, or has for itself, is gone after it: what was there before is back."""
    f, other = (m.function(OBJECT, load("environment"), entry="weft_function") for _ in range(2))

    def find(payload, fn=f, **more):
        r = m.call(fn, payload, **more)
        assert r["status"] == OK, r
        return tuple(r["result"].decode().rsplit(" ", 1))
    home = find(b"HOME")
    path = find(b"PATH")
    assert path[0] == os.environ["PATH"] and path[1] == home[1], (path, home)
    assert find(b"WEFT_EXAMPLE")[0] == "set while it was loaded"
    t = m.task(f, b"WEFT_TASK_ID")
    assert m.result(m.submit(t)[0])["result"].decode().startswith(t["task"] + " ")
    assert find(b"PATH=/nowhere") == ("/nowhere", home[1]) and find(b"PATH") == path
    assert find(b"PATH=")[0] == "-" and find(b"PATH", other) == path
    assert find(b"WEFT_TEST=1")[0] == "1" and find(b"WEFT_TEST")[0] == "-" and find(b"WEFT_TASK_ID=")[0] == "-"
    assert find(b"/") == ("-", "/") and find(b"PATH") == path
    own = wire.encode("RESOURCES", {"nodes": 2, "ranks_per_node": 1, "environ": b"PARSL_NUM_NODES=2\0PATH=/of/the/call\0EMPTY=\0"})
    assert find(b"PARSL_NUM_NODES", resources=own)[0] == "2" and find(b"PATH", resources=own)[0] == "/of/the/call"
    assert find(b"EMPTY", resources=own)[0] == "" and find(b"HOME", resources=own)[0] == home[0]
    assert find(b"PARSL_NUM_NODES=3", resources=own)[0] == "3"
    assert find(b"PARSL_NUM_NODES")[0] == "-" and find(b"PATH") == path and find(b"WEFT_EXAMPLE", other)[0] == "set while it was loaded"


# ---- bad functions ----

@test
def never_returns(m):
    begin = time.monotonic()
    r = m.python("import time\ndef f():\n print('so far')\n time.sleep(1000)", time_limit_ms=2500)
    assert 2.45 < time.monotonic() - begin < 30
    assert r["stdout"] == b"so far\n", r
    text = m.fails(r, TIME)
    assert text == "exceeded its time limit of 2.5 s on node node7", text
    text = m.fails(m.python("def f():\n while True: pass", fn_time_limit_ms=1000), TIME)
    assert "1 s" in text
    r = m.python("import signal, time\ndef f():\n signal.signal(signal.SIGTERM, signal.SIG_IGN)\n time.sleep(1000)", time_limit_ms=200)
    m.fails(r, TIME)
    m.only_runners()


@test
def the_time_limit_counts_from_the_start(m):
    slow = m.function(PYTHON, "import time\ndef f(): time.sleep(1.2)")
    tasks = m.submit(*[m.task(slow, time_limit_ms=4000) for _ in range(4)])
    assert [m.result(t)["status"] for t in tasks] == [OK] * 4


@test
def prints_gigabytes(m):
    r = m.python("import os\ndef f():\n b = b'x' * 65535 + b'\\n'\n for i in range(16384): os.write(1, b)\n print('py', flush=True)\n"
                 " os.write(2, b'end')", timeout=60)
    assert r["status"] == OK and 60000 < len(r["stdout"]) <= 65536 and r["stderr"] == b"end", (r["status"], r["error"])
    r = m.python("def f():\n for i in range(300): print('y' * 1000000)\n print('last')", timeout=60)
    assert len(r["stdout"]) <= 65536 and r["stdout"].endswith(b"y\nlast\n")
    with open("/proc/%d/status" % m.pid) as f:
        rss = [int(line.split()[1]) for line in f if line.startswith("VmRSS")][0]
    assert rss < 64 * 1024, rss
    r = m.python("import os\ndef f():\n while True: os.write(1, b'x' * 65536)", time_limit_ms=2500, timeout=30)
    assert len(r["stdout"]) == 65536
    m.fails(r, TIME)


@test
def native_prints_belong_to_their_call(m):
    f = m.function(PYTHON, "import os\ndef f(x):\n print('py', x)\n os.write(1, b'native %d\\n' % x)\n os.write(2, b'\\xff\\n')")
    for i in range(5):
        r = m.call(f, str(i))
        assert r["stdout"] == b"py %d\nnative %d\n" % (i, i) and r["stderr"] == b"?\n", r


@test
def forks(m):
    mark = "weft-mark-%s" % uuid.uuid4()
    r = m.python("import os\ndef f():\n return os.fork() >= 0")
    assert r["result"] == b"true", r
    m.alive()
    # children in all places: same session, own session, daemon; they ignore what can be ignored
    source = ("import os, signal, subprocess, time\n"
              "def f():\n"
              " for i in range(3):\n"
              "  if os.fork() == 0:\n"
              "   if i: os.setsid()\n"
              "   if i == 2 and os.fork(): os._exit(0)\n"
              "   signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
              "   os.execv('/bin/sh', ['/bin/sh', '-c', 'trap \"\" TERM HUP; sleep 1000; : %s'])\n"
              " time.sleep(1000)\n" % mark)
    t = m.submit(m.task(m.function(PYTHON, source), time_limit_ms=5000))[0]
    m.wait("children", lambda: len(marked(mark)) == 3)
    m.fails(m.result(t), TIME)
    until("all children gone", lambda: not marked(mark), 30)
    m.only_runners()
    # a bomb
    r = m.python("import os, time\ndef f():\n n = 0\n while n < 200 and os.fork(): n += 1\n time.sleep(1000)", time_limit_ms=1500, timeout=60)
    m.fails(r, TIME)
    m.only_runners()


@test
def a_child_of_a_function_lives_on_until_the_runner_is_replaced(m):
    mark = "weft-mark-%s" % uuid.uuid4()
    r = m.python("import subprocess\ndef f(): return subprocess.Popen(['/bin/sh', '-c', 'sleep 1000; : %s']).pid" % mark)
    m.alive()
    assert marked(mark)
    m.python("import os\ndef f(): os._exit(0)")
    until("gone", lambda: not marked(mark), 30)
    assert r["status"] == OK


@test
def kills_its_own_process(m):
    text = m.fails(m.python("import os\ndef f():\n print('before')\n os._exit(3)"), EXIT, detail=3)
    assert "exit status 3" in text
    m.fails(m.python("import os\ndef f(): os._exit(0)"), EXIT, detail=0)
    r = m.python("import os, signal\ndef f():\n print('before')\n os.kill(os.getpid(), signal.SIGSEGV)")
    assert r["stdout"] == b"before\n", r
    text = m.fails(r, SIGNAL, detail=11)
    assert text == "killed by signal 11 (Segmentation fault) on node node7", text
    m.fails(m.python("import ctypes\ndef f(): ctypes.string_at(0)"), SIGNAL, detail=11)
    m.fails(m.python("import os\ndef f(): os.abort()"), SIGNAL, detail=6)
    m.fails(m.python("import os\ndef f(): os.kill(os.getpid(), 15)"), SIGNAL, detail=15)
    m.only_runners()


@test
def killed_by_somebody(m):
    path = m.dir + "/count"
    source = "import os\ndef f(n):\n open(%r, 'a').write('x')\n if os.path.getsize(%r) < n: os.kill(os.getpid(), 9)\n return 'lived'" % (path, path)
    r = m.python(source, b"3")
    assert r["result"] == b'"lived"' and os.path.getsize(path) == 3, r
    os.unlink(path)
    text = m.fails(m.python(source, b"1000"), SIGNAL, SITE, 9)
    assert os.path.getsize(path) == 3 and "3 times" in text and "out of memory" in text, text


@test
def retries_can_be_off(m):
    with Manager("--retries-on-kill", "0") as o:
        path = o.dir + "/count"
        o.fails(o.python("import os\ndef f():\n open(%r, 'a').write('x')\n os.kill(os.getpid(), 9)" % path), SIGNAL, SITE, 9)
        assert os.path.getsize(path) == 1


@test
def calls_behind_a_dead_one_are_not_lost(m):
    f = m.function(PYTHON, "import os\ndef f(x):\n if x == 'die': os._exit(7)\n return x")
    for _ in range(5):
        m.call(f, b"1")
    tasks = [m.task(f, b'"die"' if i % 10 == 5 else str(i)) for i in range(40)]
    m.submit(*tasks)
    for i, t in enumerate(tasks):
        r = m.result(t["task"])
        assert (r["code"], r["detail"]) == (EXIT, 7) if i % 10 == 5 else r["result"] == str(i).encode(), (i, r)
        assert len(m.results[t["task"]]) == 1


@test
def unserialisable(m):
    assert "generator" in m.fails(m.python("def f(): return (i for i in [])"), ENCODE)


@test
def too_large(m):
    text = m.fails(m.python("def f(): return 'x' * (2 << 20)"), TOO_LARGE)
    assert "MaxResultSizeExceeded" in text
    m.fails(m.python("def f(): return 'x' * 2000", max_result_bytes=1000), TOO_LARGE)
    r = m.python("def f(): return 'x' * 2000", max_result_bytes=1 << 30)
    assert r["status"] == OK


@test
def memory_hog(m):
    text = m.fails(m.python("import time\ndef f():\n a = []\n while True:\n  a.append(bytearray(1 << 20))\n  time.sleep(0.002)",
                            memory_limit_bytes=100 * MIB, timeout=30), MEMORY)
    assert text.startswith("exceeded its memory limit of 100 MiB on node node7: it used 1"), text
    text = m.fails(m.python("def f(): return len(bytearray(4 << 30))", fn_memory_limit_bytes=100 * MIB), MEMORY)
    assert text.startswith("would have exceeded its memory limit of 100 MiB on node node7: it asked for more at once than was left, and was refused"), text
    assert "MemoryError" in text, text
    # the limit goes with the call
    assert m.python("def f(): return len(bytearray(300 << 20))")["result"] == str(300 << 20).encode()
    text = m.fails(m.python("def f(): return bytearray(1 << 60)"), EXCEPTION)
    assert "MemoryError" in text
    # children count
    r = m.python("import subprocess, sys\ndef f():\n subprocess.check_call([sys.executable, '-c', 'b = bytearray(150 << 20); b[::4096] = "
                 "b\"x\" * len(b[::4096]); import time; time.sleep(30)'])", memory_limit_bytes=100 * MIB, timeout=30)
    m.fails(r, MEMORY)
    m.only_runners()


@test
def missing_module(m):
    text = m.fails(m.python("import no_such_module_x\ndef f(): pass"), MODULE)
    assert "no_such_module_x" in text and "node7" in text
    f = m.function(GLOBUS, "".join("%d\n%s" % (len(p), p) for p in ["00\n" + base64.encodebytes(b"cno_such_module_y\nX\n.").decode()]))
    assert "no_such_module_y" in m.fails(m.call(f), MODULE)


@test
def disturbs_its_runner(m):
    m.fails(m.python("import os\ndef f():\n os.write(4, b'\\xff' * 100)\n import time; time.sleep(5)"), RUNNER)
    r = m.python("import os\ndef f(): os.close(4)")
    assert r["status"] == FAILED, r
    m.alive()
    # it took down the process behind its result: the next calls do not pay
    f = m.function(PYTHON, "def f(x): return x")
    tasks = [m.task(f, str(i)) for i in range(10)]
    for _ in range(5):
        m.call(f, b"1")
    m.submit(m.task(m.function(PYTHON, "import os\ndef f(): os.close(3)")), *tasks)
    assert [m.result(t["task"])["result"] for t in tasks] == [str(i).encode() for i in range(10)]
    m.python("import os, threading, time\ndef f():\n threading.Thread(target=lambda: (time.sleep(0.05), os._exit(1))).start()")
    m.alive()
    forged = wire.encode_run_result({"task": str(uuid.uuid4()), "status": 1, "result": "1"})
    m.fails(m.python("import os, time\ndef f():\n os.write(4, %r)\n time.sleep(5)" % forged), RUNNER)
    # its next call goes to another process
    r = m.python("import os\ndef f(): return os.dup2(os.pipe()[0], 3)")
    assert r["result"] == b"3", r
    m.alive()
    text = m.fails(m.python("import os\ndef f(): os.execlp('sleep', 'sleep', '1000')"), RUNNER)
    assert "it closed its pipe" in text, text
    m.only_runners()


@test
def frames_that_nobody_would_end(m):
    m.fails(m.python("import os\ndef f(): os.write(4, b'abc\\n')"), RUNNER)
    r = wire.encode_run_result({"task": str(uuid.uuid4()), "status": 1, "result": "1"})
    for head in (b"\x00\x00\x00\x01x", b"\x00\x00\x00\x01I", b"\x40\x00\x00\x00I", b"\x1a\x00\x00\x00S", b"\x10\x00\x00\x00R",
                 (len(r) + 1000).to_bytes(4, "little") + r[4:]):
        m.fails(m.python("import os, time\ndef f():\n os.write(4, %r)\n time.sleep(1000)" % head), RUNNER)


@test
def bad_bytes(m):
    for code in (b"\x80", os.urandom(100), b"5\n00\nxx", b""):
        m.fails(m.call(m.function(GLOBUS, code)), DECODE)
    m.fails(m.call(m.function(77, b"x")), RUNNER, SITE)


@test
def cancel(m):
    mark = "weft-mark-%s" % uuid.uuid4()
    sleeper = m.function(PYTHON, "import subprocess\ndef f():\n print('begun')\n subprocess.call(['/bin/sh', '-c', 'sleep 1000; : %s'])" % mark)
    running, queued, last = m.submit(m.task(sleeper), m.task(sleeper), m.task(m.function(PYTHON, "def f(): return 5")))
    m.wait("running", lambda: marked(mark))
    m.send("CANCEL", [wire.encode_ids([queued, str(uuid.uuid4())])])
    assert m.result(queued)["status"] == CANCELLED and running not in m.results
    m.send("CANCEL", [wire.encode_ids([running])])
    r = m.result(running)
    assert (r["status"], r["code"], r["stdout"]) == (CANCELLED, CANCELLED_CODE, b"begun\n"), r
    assert m.result(last)["result"] == b"5" and not marked(mark)
    # in the pipe behind another, many times
    f = m.function(PYTHON, "import time\ndef f(x): time.sleep(x)")
    for _ in range(5):
        m.call(f, b"0")
    for _ in range(10):
        tasks = m.submit(m.task(f, b"0.05"), m.task(f, b"1000"), m.task(f, b"0"))
        m.send("CANCEL", [wire.encode_ids([tasks[1]])])
        assert [m.result(t)["status"] for t in tasks] == [OK, CANCELLED, OK]
        for _ in range(10):
            m.call(f, b"0")
    m.only_runners()


# ---- sessions, draining, the end ----

@test
def results_are_sent_until_acknowledged(m):
    m.ack = False
    f = m.function(PYTHON, "def f(x): return x")
    t = m.submit(m.task(f, b"1"), m.task(f, b"2"))
    m.wait("results", lambda: all(x in m.results for x in t))
    m.results.clear()
    epoch = m.epoch
    m.send("BYE", [wire.encode("BYE", {"code": 10, "text": "again"})])
    m.wait("new session", lambda: m.epoch != epoch)
    m.wait("results again", lambda: all(x in m.results for x in t))
    m.send("RESULT_ACK", [wire.encode_ids(t)])
    m.ack = True
    m.alive()
    m.results.clear()
    epoch = m.epoch
    m.send("BYE", [wire.encode("BYE", {"code": 10, "text": "again"})])
    m.wait("new session", lambda: m.epoch != epoch)
    m.alive()
    assert not set(t) & set(m.results)


@test
def a_new_session_gives_back_what_has_not_begun(m):
    f = m.function(PYTHON, GATED)
    t = m.submit(*[m.task(f, json.dumps(m.gate("go"))) for _ in range(3)])
    m.wait("running", lambda: t[0] in m.states)
    epoch = m.epoch
    m.send("BYE", [wire.encode("BYE", {"code": 10, "text": "again"})])
    m.wait("new session", lambda: m.epoch != epoch)
    m.wait("given back", lambda: sorted(m.returned) == sorted(t[1:]))
    m.open("go")
    assert m.result(t[0])["status"] == OK
    m.alive()


@test
def tasks_sent_twice_run_once(m):
    path = m.dir + "/count"
    f = m.function(PYTHON, "import time\ndef f():\n open(%r, 'a').write('x')\n time.sleep(0.2)" % path)
    t = m.task(f)
    m.ack = False
    m.submit(t, t)
    m.submit(t)
    m.result(t["task"])
    m.submit(t)
    m.wait("sent again", lambda: len(m.results[t["task"]]) >= 2)
    assert os.path.getsize(path) == 1


@test
def draining(m):
    f = m.function(PYTHON, GATED)
    t = m.submit(*[m.task(f, json.dumps(m.gate("go"))) for _ in range(3)])
    m.wait("running", lambda: t[0] in m.states)
    m.send("DRAIN", [wire.encode("DRAIN", {"start": True, "grace_ms": 5000})])
    m.wait("given back", lambda: sorted(m.returned) == sorted(t[1:]))
    m.submit(m.task(f, json.dumps(m.gate("go"))))
    m.wait("refused", lambda: len(m.returned) == 3)
    m.open("go")
    until("end", lambda: m.pump() or m.p.poll() is not None, 30)
    until("its last words", lambda: m.pump() or m.byes)
    assert m.results[t[0]][0]["status"] == OK and m.p.returncode == 0 and m.byes == [b"drained"], (m.p.returncode, m.byes)


@test
def who_stood_still_is_no_orphan(m):
    with Manager("--orphan-timeout", "4s", wait=False) as o:
        until("HELLO", lambda: o.sock.poll(20))
        os.kill(o.pid, signal.SIGSTOP)
        o.pump()                                    # welcomed
        time.sleep(6)                               # it has no time for it
        os.kill(o.pid, signal.SIGCONT)
        o.alive()
        o.answer = False
        o.send("BYE", [wire.encode("BYE", {"code": 10, "text": "for good"})])
        until("its end", lambda: o.pump() or o.p.poll() is not None)
        assert o.p.returncode == 0 and "no manager for too long" in open(o.dir + "/log").read()


@test
def termination_leaves_nothing(m):
    mark = "weft-mark-%s" % uuid.uuid4()
    f = m.function(PYTHON, "import subprocess\ndef f(): subprocess.call(['setsid', '/bin/sh', '-c', 'sleep 1000; : %s'])" % mark)
    t = m.submit(m.task(f), m.task(f))
    m.wait("running", lambda: marked(mark))
    below = list(descendants(m.pid))
    m.p.terminate()
    until("end", lambda: m.pump() or m.p.poll() is not None, 30)
    with contextlib.suppress(AssertionError):
        until("given back", lambda: m.pump() or m.returned == t[1:])
    assert m.p.returncode == 0 and m.returned == t[1:], (m.p.returncode, m.returned)
    until("nothing left", lambda: not marked(mark) and not [p for p in below if p in processes() and processes()[p][2] not in "ZX"], 30)


@test
def a_job_that_ends_is_not_the_calls_fault(m):
    """A batch system sends SIGTERM to all processes of a job; here the worker hears it last."""
    for _ in range(5):      # this process may be kept from telling the worker in time
        with Manager() as o:
            path = o.dir + "/pid"
            t = o.task(o.function(PYTHON, "import os, time\ndef f():\n open(%r, 'w').write('%%d' %% os.getpid())\n time.sleep(1000)" % path))
            o.submit(t)
            o.wait("it runs", lambda: os.path.exists(path) and os.path.getsize(path))
            with open(path) as f:
                runner = int(f.read())
            os.kill(runner, signal.SIGTERM)
            until("the runner's end", lambda: o.pump() or runner not in processes(), 30)
            o.p.terminate()
            until("end", lambda: o.pump() or o.p.poll() is not None, 30)
            o.pump(200)
            assert o.p.returncode == 0
            if t["task"] not in o.results:
                return
    raise AssertionError("the call ended as killed: %r" % o.results[t["task"]])


@test
def the_first_call_does_not_pay_for_its_runner(m):
    runner = [p for p, c in descendants(m.pid).items() if b"python_runner.py" in c][0]
    os.kill(runner, signal.SIGTERM)
    until("the runner's end", lambda: runner not in descendants(m.pid))
    r = m.python("import os\ndef f(): return os.getpid()")
    assert r["status"] == OK and int(r["result"]) != runner, r


@test
def a_runner_that_has_begun_nothing_says_so(m):
    for argv in ([BUILD + "/bin/weft-worker", "so-runner", m.dir], [sys.executable, m.dir + "/w/python_runner.py"]):
        with tempfile.TemporaryFile() as shared:
            shared.truncate(131104)
            (theirs, calls), (answers, out) = os.pipe(), os.pipe()
            to = {low: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for low, fd in ((3, theirs), (4, out), (5, shared.fileno()))}
            p = subprocess.Popen(argv, pass_fds=tuple(to), cwd=m.dir, stdin=subprocess.DEVNULL,
                                 preexec_fn=lambda: [os.dup2(fd, low) for low, fd in to.items()])
            for fd in [theirs, out, *to.values()]:
                os.close(fd)
            said = os.read(answers, 5)
            current = os.pread(shared.fileno(), 16, 131088)
            os.close(calls)         # its end
            os.close(answers)
            assert p.wait(20) is not None and said[4:] == b"I" and current == b"\xff" * 16, (argv, said, current)


@test
def a_killed_worker_takes_its_runner_along(m):
    m.alive()
    below = list(descendants(m.pid))
    assert below
    m.p.kill()
    m.p.wait()
    until("nothing left", lambda: not [p for p in below if p in processes() and processes()[p][2] not in "ZX"], 30)


@test
def without_python(m):
    with Manager(python="/nonexistent/python3") as o:
        assert json.loads(o.hello["runtime"])["kinds"] == ["command", "shared_object"]
        r = o.python("def f(): pass")
        assert (r["code"], r["fault"]) == (RUNNER, SITE) and b"/nonexistent/python3" in r["error"], r
        assert command(o, ["echo", "x"])["result"] == b"x\n"


@test
def python_that_is_no_python(m):
    with Manager(python="/bin/false") as o:
        r = o.python("def f(): pass")
        assert (r["code"], r["fault"], r["detail"]) == (RUNNER, SITE, 1), r
    with Manager(python="/bin/cat") as o:           # prints the program, then ends
        r = o.python("def f(): pass")
        assert r["code"] == RUNNER, r


@test
def command_line(m):
    def run(*a):
        return subprocess.run([BUILD + "/bin/weft-worker"] + list(a), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert run("--help").returncode == 0
    assert run().returncode == 2
    assert run("--connect", "ipc:///x", "--dir", m.dir + "/y", "--worker-id", "nope").returncode == 2
    assert run("--connect", "ipc:///x", "--dir", m.dir + "/y", "--retries-on-kill", "-1").returncode == 2


def main():
    global BUILD
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--only")
    ap.add_argument("--asan", action="store_true")
    o = ap.parse_args()
    BUILD = os.path.abspath(o.build)
    signal.alarm(600)
    passed = failed = skipped = 0
    for f in TESTS:
        if o.only and o.only not in f.__name__:
            continue
        name = f.__name__.replace("_", " ")
        begin = time.monotonic()
        try:
            with Manager() as m:
                f(m)
            print("ok - %s (%.1f s)" % (name, time.monotonic() - begin))
            passed += 1
        except Skip as e:
            print("skip - %s: %s" % (name, e))
            skipped += 1
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print("not ok - %s" % name)
            failed += 1
        sys.stdout.flush()
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(1 if failed else 0)


main()

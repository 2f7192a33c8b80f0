#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""worker/runners/python_runner.py driven over its pipes: all kinds, all ways to fail. Runs with each interpreter named by --python
(default: the one that runs this), as the worker starts it and with dill and plain_text.so hidden."""
import argparse
import base64
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import bulkstore  # noqa: E402
import wire  # noqa: E402

RUNNER = os.path.join(ROOT, "worker", "runners", "python_runner.py")
EXCEPTION, MEMORY, DECODE, ENCODE, TOO_LARGE, MODULE = 20, 24, 25, 26, 27, 30
TESTS = []


def test(f):
    TESTS.append(f)
    return f


class Runner:
    def __init__(self, python, env=None, program=RUNNER):
        self.dir = tempfile.TemporaryDirectory()
        to, self.out = os.pipe()
        self.inp, frm = os.pipe()
        base = 20
        fds = [os.dup2(to, base), os.dup2(frm, base + 1)]

        def place():
            os.dup2(base, 3)
            os.dup2(base + 1, 4)
        e = dict(os.environ, WEFT_NODE="n1", **(env or {}))
        self.p = subprocess.Popen([python, program], cwd=self.dir.name, env=e, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, pass_fds=(3, 4), preexec_fn=place)
        for fd in fds + [to, frm]:
            os.close(fd)
        self.buf = b""
        kind, body = self.frame()
        assert kind == "I", kind
        self.runtime = json.loads(body)
        self.max_result = 1 << 20
        self.starts = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.out)
        try:
            self.p.wait(30)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        os.close(self.inp)
        self.p.stdout.close()
        self.p.stderr.close()
        self.dir.cleanup()

    def write(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.out, view):]

    def frame(self, timeout=20):
        end = time.monotonic() + timeout
        while True:
            if len(self.buf) >= 5:
                n = int.from_bytes(self.buf[:4], "little")
                if len(self.buf) >= 4 + n:
                    kind, body = chr(self.buf[4]), self.buf[5:4 + n]
                    self.buf = self.buf[4 + n:]
                    return kind, body
            if not select.select([self.inp], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("no frame")
            data = os.read(self.inp, 1 << 20)
            if not data:
                raise EOFError("runner ended: %r" % self.p.stderr.read()[-2000:])
            self.buf += data

    def function(self, kind, code, entry="", python=0, flags=0):
        fid = uuid.uuid4().bytes
        self.write(wire.runner_frame("F", wire.encode("FUNCTION", {"kind": kind, "id": fid, "code": code, "entry": entry, "python": python,
                                                             "flags": flags})))
        return fid

    def send(self, fid, payload=b"", flags=0, limit=None, task=None):
        task = task or uuid.uuid4().bytes
        self.write(wire.encode_call({"task": task, "function": fid, "flags": flags, "max_result_bytes": limit or self.max_result,
                                     "payload": payload}))
        return wire.id_text(task)

    def result(self, timeout=30):
        while True:
            kind, body = self.frame(timeout)
            if kind == "R":
                return wire.decode_run_result(body)
            if kind == "S":
                self.starts.append(wire.decode_start(body))

    def call(self, fid, payload=b"", flags=0, limit=None):
        task = self.send(fid, payload, flags, limit)
        r = self.result()
        assert r["task"] == task
        return r

    def batch(self, source, payloads, entry="f", flags=0, limit=None, kind=2):
        """Results of one call with all these inputs."""
        fid = self.function(kind, source, entry)
        tasks = [uuid.uuid4().bytes for _ in payloads]
        self.write(wire.encode_batch({"function": fid, "flags": flags, "max_result_bytes": limit or self.max_result,
                                      "inputs": [{"task": t, "payload": p} for t, p in zip(tasks, payloads)]}))
        out = [self.result() for _ in payloads]
        assert [r["task"] for r in out] == [wire.id_text(t) for t in tasks]
        assert len({(r["start_ns"], r["end_ns"]) for r in out}) == 1
        return out

    def source(self, source, payload=b"", entry="f", **kw):
        return self.call(self.function(2, source, entry), payload, **kw)

    def good(self, source, payload=b"", **kw):
        r = self.source(source, payload, **kw)
        assert r["status"] == 1, r["error"].decode()
        return json.loads(r["result"])

    def fails(self, code, source, payload=b"", **kw):
        r = self.source(source, payload, **kw)
        assert (r["status"], r["code"]) == (2, code), r
        return r


# ---- packed buffers as the SDK writes them ----

def b64(raw):
    return base64.encodebytes(raw).decode()


def plain(value):
    import pickle
    return "00\n" + b64(pickle.dumps(value, 4))


def pack(*parts):
    return "".join("%d\n%s" % (len(p), p) for p in parts)


def arguments(*args, **kwargs):
    return pack(plain(args), plain(kwargs))


def unpack(result):
    import pickle
    text = result.decode()
    assert text[:3] in ("00\n", "01\n"), text[:10]
    assert all(len(line) <= 76 for line in text[3:].splitlines()) and text.endswith("\n")
    return pickle.loads(base64.decodebytes(text[3:].encode()))


SOURCE = "def add(a, b=1):\n    return a + b\n"


def named_source(name="add", source=SOURCE):
    import dill
    return b64(dill.dumps((name, source)))


# ---- kind python ----

@test
def batches(r):
    out = r.batch("def f(xs):\n    print(len(xs))\n    return [x + 1 for x in xs]", ["%d" % i for i in range(700)])
    assert [json.loads(x["result"]) for x in out] == list(range(1, 701)) and out[0]["stdout"] == b"700\n" and out[1]["stdout"] == b""
    assert [x["result"] for x in r.batch("def f(xs):\n    return tuple(xs)", ['{"args": ["a"]}'])] == [b'"a"']
    out = r.batch("def f(xs):\n    return [KeyError(x) if x == 2 else x for x in xs]", ["1", "2", "nonsense", "3"])
    assert [x["status"] for x in out] == [1, 2, 2, 1] and [x["code"] for x in out] == [0, EXCEPTION, DECODE, 0], out
    assert b"KeyError" in out[1]["error"] and b"JSON" in out[2]["error"]
    out = r.batch("def f(xs):\n    return [1 // x for x in xs]", ["1", "0", "1", "1", "0"])
    assert [x["status"] for x in out] == [1, 2, 1, 1, 2] and b"ZeroDivisionError" in out[1]["error"]
    out = r.batch("def f(xs):\n    return xs[1:]", ["1", "2"])
    assert all(x["code"] == EXCEPTION and b"one result for each" in x["error"] for x in out)
    out = r.batch("def f(xs):\n    return ['x' * x for x in xs]", ["3", "500"], limit=100)
    assert [x["code"] for x in out] == [0, TOO_LARGE]
    out = r.batch("async def f(xs):\n    return xs", ["1", "2"])
    assert [x["result"] for x in out] == [b"1", b"2"]
    out = r.batch("syntax error", ["1", "2"])
    assert all(x["code"] == DECODE for x in out)
    out = r.batch("def f(xs):\n    return ['y' * 30000 for x in xs]", ["1"] * 300)
    assert all(len(x["result"]) == 30002 for x in out)
    assert r.good("def f(x):\n    return x", "5") == 5


@test
def ready_names_versions(r):
    assert r.runtime["kinds"] == ["globus", "python"] and r.runtime["python_version"].startswith("3."), r.runtime
    assert "dill_version" in r.runtime and r.runtime["os"].startswith("Linux")


@test
def arguments_of_json(r):
    f = r.function(2, "def f(*a, **k):\n return [list(a), k]\n", "f")
    for payload, want in ((b"", [[], {}]), (b"5", [[5], {}]), (b'{"args":[1,2],"kwargs":{"x":3}}', [[1, 2], {"x": 3}]),
                          (b'{"args":[1]}', [[1], {}]), (b'{"kwargs":{"y":null}}', [[], {"y": None}]), (b"{}", [[{}], {}]),
                          (b'{"args":1}', [[{"args": 1}], {}]), (b'{"args":[1],"z":1}', [[{"args": [1], "z": 1}], {}]),
                          ('"h\u00e9\U0001f600"'.encode(), [["h\u00e9\U0001f600"], {}]), (b' \n{"args": [1]} ', [[1], {}]), (b"5\t", [[5], {}])):
        got = r.call(f, payload)
        assert got["status"] == 1 and json.loads(got["result"]) == want, (payload, got)
    for text in (" ", "tru", "5 x", " 5 x", "[1", "[1 2]", '{"a" 1}', '{"a":1}]', "\ufeff5", "nul l"):
        got = r.call(f, text.encode())
        try:
            json.JSONDecoder().decode(text)
        except ValueError as e:
            assert got["code"] == DECODE and got["error"].decode() == "payload is not JSON: %s" % e, (text, got)


@test
def stamps_and_use(r):
    before = time.time_ns()
    got = r.source("import time\ndef f():\n time.sleep(0.05)\n")
    assert before <= got["start_ns"] and got["start_ns"] + 45e6 < got["end_ns"] <= time.time_ns()
    assert got["max_rss_bytes"] > 1 << 20 and got["cpu_ns"] < 50e6


@test
def results_of_json(r):
    assert r.good("def f(): return {'a': [1, 2.5, None, True, 'x']}") == {"a": [1, 2.5, None, True, "x"]}
    assert r.source("def f(): return float('nan')")["result"] == b"NaN"
    assert r.source("def f(): return 'h\u00e9'")["result"] == '"h\u00e9"'.encode()
    assert r.source("def f(): return '\\ud800'")["result"] == b'"\\ud800"'


@test
def entry_and_methods(r):
    assert r.good("class A:\n @staticmethod\n def g(): return 7\n", entry="A.g") == 7
    assert r.good("def main(): return 8\n", entry="") == 8
    assert b"'nope'" in r.fails(DECODE, "x = 1\n", entry="nope")["error"]


@test
def coroutines(r):
    assert r.good("import asyncio\nasync def f(x):\n await asyncio.sleep(0)\n return x + 1\n", b"1") == 2


@test
def exceptions(r):
    got = r.fails(EXCEPTION, "def g(): raise ValueError('bad h\u00e9')\ndef f():\n    g()\n")
    text = got["error"].decode()
    assert got["fault"] == 1 and "ValueError: bad h\u00e9" in text and "g()" in text and "python_runner" not in text, text
    assert b"SystemExit" in r.fails(EXCEPTION, "import sys\ndef f(): sys.exit(3)")["error"]
    assert b"KeyboardInterrupt" in r.fails(EXCEPTION, "def f(): raise KeyboardInterrupt")["error"]
    assert b"GeneratorExit" in r.fails(EXCEPTION, "def f(): raise GeneratorExit")["error"]
    r.fails(EXCEPTION, "class E(Exception):\n def __str__(self): raise 1\ndef f(): raise E()")
    r.fails(MEMORY, "def f(): raise MemoryError")
    long = r.fails(EXCEPTION, "def f(): raise ValueError('x' * 1000000 + 'end')")["error"]
    assert len(long) <= 65536 and long.startswith(b"Traceback") and long.rstrip().endswith(b"end") and b"cut" in long


@test
def mistyped_arguments(r):
    """Of an object that looks like {"args": ..., "kwargs": ...} and is not, the error says what became of it. It means what it meant."""
    two = "def f(a, b=0): return a + b"
    for payload, key in ((b'{"arg": [1, 2]}', b"arg"), (b'{"Args": [1, 2]}', b"Args"), (b'{"agrs": [1], "kwarg": {}}', b"agrs"), (b'{"arguments": [1]}', b"arguments"),
                         (b'{"args": 1}', b"args"), (b'{"args": [1], "kwargs": []}', b"args")):
        text = r.fails(EXCEPTION, two, payload)["error"]
        last = text.rstrip().split(b"\n")[-1]
        assert last.startswith(b"TypeError: unsupported operand") and b'the payload is an object with the key "%s"' % key in last and b'"args" (an array)' in last, text
        assert r.good("def f(x): return x", payload) == json.loads(payload)
    for code, payload in ((two, b'{"tags": [1]}'), (two, b'{"args": [1], "of": "x"}'), (two, b'{}'), (two, b'{"args": ["x"]}'), (two, b'["arg"]'),
                          (two, b'{"args": [{"arg": 1}]}'), ("def f(x): raise ValueError('no')", b'{"arg": 1}')):
        assert b"the payload" not in r.fails(EXCEPTION, code, payload)["error"], payload


@test
def what_a_failed_call_held_is_freed(r):
    """At its end, not when Python looks for cycles: the next call may have a limit of memory."""
    held = ("import gc, sys, weakref\ngc.disable()\nclass Big: pass\ndef g(big): raise %s\ndef f(*xs):\n    big = Big()\n    sys.modules['held'] = weakref.ref(big)\n"
            "    g(big)\n")
    freed = "import sys\ndef f(): return sys.modules['held']() is None"
    for exception, code in (("ValueError", EXCEPTION), ("MemoryError", MEMORY), ("SystemExit", EXCEPTION)):
        r.fails(code, held % exception)
        assert r.good(freed), exception
    r.batch(held % "ValueError", ["1", "2"])
    assert r.good(freed), "a batch"
    r.fails(ENCODE, "import sys, weakref\nclass Big: pass\ndef f():\n    big = Big()\n    sys.modules['held'] = weakref.ref(big)\n    return big")
    assert r.good(freed), "a result that cannot be said"


@test
def decode_failures(r):
    r.fails(DECODE, "def f(:\n")
    r.fails(DECODE, b"\xff\xfe")
    r.fails(DECODE, "def f(x): pass", b"{not json")
    r.fails(DECODE, "def f(x): pass", b"\xff")
    r.fails(DECODE, "def f(x): pass", b"[" * 100000)
    got = r.fails(MODULE, "import no_such_module_here\ndef f(): pass")
    assert b"'no_such_module_here'" in got["error"] and b"node n1" in got["error"]
    r.fails(DECODE, "raise ValueError('at import')\ndef f(): pass")
    r.fails(EXCEPTION, "def f(): import no_such_module_here")


@test
def encode_failures(r):
    got = r.fails(ENCODE, "def f(): return object()")
    assert b"object" in got["error"]
    r.fails(ENCODE, "def f():\n a = []\n a.append(a)\n return a")
    got = r.fails(TOO_LARGE, "def f(): return 'x' * 2000", limit=1000)
    assert b"MaxResultSizeExceeded" in got["error"] and b"1000" in got["error"]


@test
def prints_are_apart(r):
    f = r.function(2, "import sys\ndef f(x):\n print('out', x)\n print('err', x, file=sys.stderr)\n sys.stdout.buffer.write(b'raw\\n')\n", "f")
    for i in range(3):
        got = r.call(f, str(i).encode())
        assert got["stdout"] == b"out %d\nraw\n" % i and got["stderr"] == b"err %d\n" % i, got
    silent = r.source("def f(): pass")
    assert silent["stdout"] == silent["stderr"] == b""


@test
def prints_without_end_keep_the_tail(r):
    got = r.source("def f():\n for i in range(200000): print('line', i)\n print('last')\n")
    assert len(got["stdout"]) <= 65536 and got["stdout"].endswith(b"line 199999\nlast\n")
    got = r.source("def f(): print('x' * 3000000 + 'end')\n")
    assert len(got["stdout"]) == 65536 and got["stdout"].endswith(b"xend\n")
    got = r.source("def f():\n print('a' * 65530, end='')\n print('0123456789', end='')")
    assert got["stdout"].endswith(b"a0123456789") and len(got["stdout"]) == 65536


@test
def stdio_survives(r):
    r.good("import sys\ndef f():\n sys.stdout.close()\n sys.stdout = None\n sys.stderr = open('/dev/null', 'w')")
    assert r.source("def f(): print('still')")["stdout"] == b"still\n"
    assert r.good("import sys\ndef f(): return sys.stdin.read()") == ""
    got = r.good("import subprocess, sys\ndef f(): return subprocess.run(['echo', 'x'], stdout=sys.stdout).returncode")
    assert got == 0


@test
def surroundings_are_restored(r):
    r.good("import os\ndef f():\n os.chdir('/'); os.environ['X_NEW'] = '1'; os.environ['PATH'] = '/nowhere'; del os.environ['WEFT_NODE']")
    got = r.good("import os\ndef f(): return [os.getcwd(), os.environ.get('X_NEW'), os.environ['PATH'], os.environ['WEFT_NODE']]")
    assert got == [os.path.realpath(r.dir.name), None, os.environ["PATH"], "n1"], got
    f = r.function(2, "import os, subprocess\ndef f():\n return [os.environ['GC_TASK_UUID'], os.environ['WEFT_TASK_ID'],"
                   " subprocess.check_output('echo $WEFT_TASK_ID', shell=True).decode().strip()]\n", "f")
    for _ in range(2):
        task = r.send(f)
        assert json.loads(r.result()["result"]) == [task] * 3


@test
def task_ids_of_many_calls(r):
    """What is given to setenv stays in memory for ever: after the first thousand calls the ids stand in one place."""
    f = r.function(2, "import ctypes, os\nc = ctypes.CDLL(None)\nc.getenv.restype = ctypes.c_void_p\nnames = b'GC_TASK_UUID', b'WEFT_TASK_ID'\n"
                   "def f(what=''):\n found = [c.getenv(n) for n in names]\n"
                   " got = found, [ctypes.string_at(p).decode() for p in found], [os.environ[n.decode()] for n in names]\n"
                   " for n in names:\n  if what == 'other': os.environ[n.decode()] = what\n  if what == 'none': del os.environ[n.decode()]\n"
                   "  if what == 'behind': c.unsetenv(n)\n return got\n", "f")

    def call(what=""):
        got = r.call(f, json.dumps(what).encode())
        assert got["status"] == 1, got["error"].decode()
        places, *texts = json.loads(got["result"])
        assert texts == [[got["task"]] * 2] * 2, (what, texts)
        return places
    for _ in range(1010):
        call()
    places = call()
    assert call() == places
    for what in ("other", "none", "behind"):
        assert call(what) == places and call() == places, what


@test
def functions_stay_loaded(r):
    f = r.function(2, "n = 0\ndef f():\n global n\n n += 1\n return n\n", "f")
    assert [json.loads(r.call(f)["result"]) for _ in range(3)] == [1, 2, 3]
    assert r.good("n = 0\ndef f(): return n") == 0


@test
def bytecode_of_another_version(r):
    """Not decoded, whatever it is; source of another version is; and both versions are named when decoding fails."""
    own = "%s.%s" % tuple(r.runtime["python_version"].split(".")[:2])
    bad = r.call(r.function(1, "6\n01\nxxx", python=0x363, flags=8), b"5\n11\n[]5\n11\n{}")
    assert (bad["status"], bad["code"], bad["fault"]) == (2, DECODE, 1), bad
    assert b"bytecode of Python 3.99" in bad["error"] and b"Python " + own.encode() in bad["error"], bad
    source = r.function(1, "23\nst\nf:def f(): return 7\n", python=0x363)
    assert r.call(source, b"5\n11\n[]5\n11\n{}")["status"] == 1
    bad = r.call(source, b"7\n00\ngASV5\n11\n{}")
    assert bad["code"] == DECODE and b"made with Python 3.99" in bad["error"] and b"with Python " + own.encode() in bad["error"], bad


@test
def deep_recursion(r):
    assert r.good("import sys\ndef g(n): return n and 1 + g(n - 1)\ndef f():\n return g(900)") == 900
    r.fails(EXCEPTION, "def f(): return f()")
    assert r.good("def f(): return 1") == 1


@test
def main_module_is_empty(r):
    assert r.good("import sys\ndef f(): return sorted(k for k in vars(sys.modules['__main__']) if k[:2] != '__')") == []


@test
def forked_child_says_nothing(r):
    f = r.function(2, "import os\ndef f():\n return os.fork() != 0\n", "f")
    for _ in range(3):
        assert r.call(f)["result"] == b"true"
    assert r.good("def f(): return 1") == 1


@test
def children_do_not_hold_the_pipes(r):
    got = r.good("import os, subprocess\ndef f():\n return subprocess.check_output(['ls', '/proc/self/fd']).decode().split()")
    assert "4" not in got and len(got) <= 4, got


@test
def written_ahead(r):
    f = r.function(2, "def f(x): return x", "f")
    fid = wire.id_bytes(wire.id_text(f))
    tasks = [uuid.uuid4() for _ in range(50)]
    r.write(b"".join(wire.encode_call({"task": t, "function": fid, "max_result_bytes": 1000, "payload": str(i)})
                     for i, t in enumerate(tasks)))
    for i, t in enumerate(tasks):
        got = r.result()
        assert got["task"] == str(t) and got["result"] == str(i).encode()
    assert r.starts and all(s["task"] in {str(t) for t in tasks} for s in r.starts)


@test
def large_calls(r):
    payload = json.dumps("z" * (12 << 20)).encode()
    f = r.function(2, "def f(x): return x", "f")
    import threading
    task = []
    t = threading.Thread(target=lambda: task.append(r.send(f, payload, limit=32 << 20)))
    t.start()
    got = r.result()
    t.join()
    assert got["status"] == 1 and got["result"] == payload
    assert r.good("def f(): return 2") == 2


@test
def long_strings_are_the_same_text(r):
    """The quick way with long strings must not show."""
    strings = ["x" * 5000, "\u00e4\u20ac\U0001f600" * 2000, "q\"" * 3000, "\\" * 5000, "a" * 5000 + "\x1f", "\0" + "b" * 5000, "c\n" * 4000, "d\x7f" * 4000,
               "\ud800" + "e" * 5000]
    values = []
    for s in strings:
        values += [s, [s, 1, None, "short"], {"k": s, s: [True, 1.5]}, {"deep": [[s]]}, [[s, s]], [s, float("nan")]]
    values += [["y" * 270000], ["y" * 270000 + "\t", 1]]
    fid = r.function(2, "def f(x):\n    return eval(x)\n", "f")
    for v in values:
        got = r.call(fid, json.dumps(repr(v).replace("nan", "float('nan')")).encode())
        assert got["status"] == 1, got["error"][-500:]
        try:
            want = json.dumps(v, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            want = json.dumps(v, separators=(",", ":")).encode()
        assert got["result"] == want, (repr(v)[:60], got["result"][:80], want[:80])
    # and as arguments: what is written raw, what is not JSON, and where a string is no value
    echo = r.function(2, "def f(*a, **k):\n    return [repr(a), repr(k)]\n", "f")
    for v in values:
        text = json.dumps({"args": [v], "kwargs": {"n": v}}, ensure_ascii=False)
        if "NaN" not in text and "\ud800" not in text:
            got = r.call(echo, text.encode())
            assert got["status"] == 1 and json.loads(got["result"]) == [repr((v,)), repr({"n": v})], got["error"][-500:]
    long = "z" * 9000
    for text in ('"%s' % long, '["%s"' % long, '["%s",]' % long, '["%s\n%s"]' % (long, long), '{"%s"}' % long, '["%s" "%s"]' % (long, long), '"%s" x' % long):
        got = r.call(echo, text.encode())
        assert got["status"] == 2 and got["code"] == DECODE and b"payload is not JSON" in got["error"], (text[:20], got)
        try:
            json.loads(text)
        except ValueError as e:
            assert str(e).encode() in got["error"], (str(e), got["error"])
    maps = r.function(2, "def f():\n    return 'plain_text.so' in open('/proc/self/maps').read()\n", "f")
    assert json.loads(r.call(maps)["result"]) == r.has_helper
    r.fails(ENCODE, "def f():\n    return ['x' * 10000, object()]\n")
    r.fails(ENCODE, "def f():\n    a = ['x' * 10000]\n    a.append(a)\n    return a\n")


def reserves(path):
    """Can the file system there?"""
    with open(path, "wb") as f:
        return ctypes.CDLL(None).fallocate(f.fileno(), 1, ctypes.c_long(0), ctypes.c_long(1 << 20)) == 0


@test
def bulk_data(_):
    """Payloads and results in files of the store."""
    with tempfile.TemporaryDirectory() as store, Runner(_.python, {"WEFT_BULK_DIR": store}) as r:
        fid = r.function(2, "import os\ndef f(x):\n    return x if 'WEFT_BULK_DIR' not in os.environ else None\n", "f")

        def path(name):
            return os.path.join(store, name)

        def bulk(data, flags=2, written=None, limit=None):
            task = uuid.uuid4()
            if data is not None:
                with open(path(task.hex + ".p"), "wb") as f:
                    f.write(data)
            r.send(fid, wire.encode_reference(len(data or b"") if written is None else written, str(task)), flags, limit, task.bytes)
            return r.result()
        text = json.dumps("\u00e4" * 50000, ensure_ascii=False).encode()
        got = bulk(text)
        assert got["status"] == 1 and got["flags"] == 4 and got["bulk_bytes"] == len(text), got["error"]
        assert bulkstore.data(store, got["bulk_name"]) == text
        segment, at = bulkstore.place(got["bulk_name"])
        assert os.stat(path(segment)).st_mode & 0o777 == 0o600 and at == 0
        before = bulkstore.names(store)
        small = bulk(b"[1]")
        assert small["flags"] == 0 and small["result"] == b"[1]"
        inline = r.call(fid, text)                              # a payload in its frame, the result in the store all the same
        assert inline["flags"] == 4 and inline["bulk_bytes"] == len(text)
        assert bulkstore.place(inline["bulk_name"]) == (segment, (len(text) + bulkstore.HEAD.size + 4095) // 4096 * 4096)
        assert bulkstore.data(store, inline["bulk_name"]) == bulkstore.data(store, got["bulk_name"]) == text
        gone = bulk(None, written=40000)
        assert (gone["status"], gone["code"], gone["fault"]) == (2, 5, 4) and b"bulk store" in gone["error"], gone
        for other in (len(text) - 1, len(text) + 1):
            cut = bulk(text, written=other)
            assert (cut["status"], cut["code"], cut["fault"]) == (2, 14, 4) and b"another size" in cut["error"], cut
        over = bulk(text, limit=1000)
        assert (over["status"], over["code"], over["flags"]) == (2, TOO_LARGE, 0), over
        assert len(bulkstore.names(store)) == len(before) + 5, os.listdir(store)        # four payloads and one result
        assert bulkstore.segments(store) == [segment]
        # blocks are reserved ahead, never more than there are, and go back when the segment is left

        def beyond():
            st = os.stat(path(segment))
            return st.st_blocks * 512 - st.st_size
        while os.path.getsize(path(segment)) < 2 << 20:
            r.call(fid, text)
        assert 1 << 16 < beyond() <= os.path.getsize(path(segment)) + (1 << 16) or not reserves(path("probe")), beyond()
        while len(bulkstore.segments(store)) == 1:
            r.call(fid, text)
        assert beyond() < 1 << 16 and os.path.getsize(path(segment)) > 60 << 20, beyond()
        # no room in the store: the result travels in its frame, and nothing is left
        import resource
        for name in os.listdir(store):
            os.unlink(path(name))
        resource.prlimit(r.p.pid, resource.RLIMIT_FSIZE, (50000, 50000))
        full = r.call(fid, text)
        assert full["status"] == 1 and full["flags"] == 0 and full["result"] == text, full["error"]
        assert bulkstore.names(store) == [] and all(os.path.getsize(path(n)) == 0 for n in os.listdir(store))
    with Runner(_.python) as r:
        fid = r.function(2, "def f(x):\n    return x\n", "f")
        task = uuid.uuid4()
        r.send(fid, wire.encode_reference(5, str(task)), 2, None, task.bytes)
        assert r.result()["code"] == 5
        assert r.call(fid, text)["flags"] == 0


@test
def bulk_slots(_):
    """Payloads in slots, whose files the runner keeps open: also when they were removed, or a function closed what it did not open."""
    with tempfile.TemporaryDirectory() as store, Runner(_.python, {"WEFT_BULK_DIR": store}) as r:
        fid = r.function(2, "import os\nopened = []\n"
                         "def named(fd):\n try: return os.readlink('/proc/self/fd/%d' % fd)\n except OSError: return ''\n"
                         "def f(x, what=''):\n"
                         " held = [fd for fd in range(3, 40) if '/slots-' in named(fd)]\n"
                         " for fd in held:\n"
                         "  if what: os.close(fd)\n  if what == 'file': opened.append((os.open(__import__('sys').executable, os.O_RDONLY), fd))\n"
                         "  if what == 'pipe': os.dup2(os.pipe()[0], fd); opened.append((fd, fd))\n"
                         " assert all(a == b for a, b in opened), opened\n [os.fstat(fd) for fd, _ in opened]\n return len(held), len(x)\n", "f")

        def call(size, what=""):
            task = uuid.uuid4()
            payload = json.dumps({"args": ["x" * size, what]}).encode()
            bulkstore.stray_payload(store, str(task), payload)
            r.send(fid, wire.encode_reference(len(payload), str(task)), 2, None, task.bytes)
            got = r.result()
            assert got["status"] == 1, got["error"].decode()
            held, n = json.loads(got["result"])
            assert n == size
            return held
        assert [call(100000), call(100000), call(500000), call(500000)] == [1, 1, 2, 2]
        for what in ("closed", "file", "pipe"):
            assert [call(100000, what), call(100000), call(500000), call(100000)] == [2, 1, 2, 2], what
        for name in bulkstore.SLOTS:
            os.unlink(os.path.join(store, name))
        assert [call(100000), call(500000), call(100000)] == [2, 2, 2]
        open_now = [os.readlink("/proc/%d/fd/%s" % (r.p.pid, n)) for n in os.listdir("/proc/%d/fd" % r.p.pid)]
        assert not [n for n in open_now if "deleted" in n], open_now


@test
def unknown_function(r):
    got = r.call(uuid.uuid4().bytes)
    assert got["status"] == 2 and got["fault"] == 4


@test
def end_of_input_ends_it(r):
    with Runner(r.python) as other:
        pass
    assert other.p.returncode == 0


@test
def crash_ends_it(r):
    with Runner(r.python) as other:
        other.send(other.function(2, "import os\ndef f(): os._exit(3)", "f"))
        try:
            other.result()
            raise AssertionError("a result")
        except EOFError:
            pass
        assert other.p.wait(30) == 3


# ---- kind globus ----

def globus(r, code, payload=None, **kw):
    return r.call(r.function(1, pack(code)), payload if payload is not None else arguments(2, b=3), **kw)


@test
def source_forms_need_no_dill(r):
    for ident in ("st", "sd"):
        for body in ("add:" + SOURCE, b64(("add:" + SOURCE).encode())):
            got = globus(r, ident + "\n" + body)
            assert got["status"] == 1 and unpack(got["result"]) == 5, got["error"]
    indented = "".join("    " + line + "\n" for line in SOURCE.splitlines())
    assert unpack(globus(r, "st\nadd:" + indented)["result"]) == 5


@test
def lengths_count_characters(r):
    source = "st\nf:def f(x):\n    return 'h\u00e9\U0001f600' + x  # \u20ac\n"
    got = globus(r, source, arguments("\u00fc"))
    assert got["status"] == 1 and unpack(got["result"]) == "h\u00e9\U0001f600\u00fc", got["error"]
    got = globus(r, source, pack("11\n" + json.dumps(["\u00fc\U0001f600"], ensure_ascii=False), "11\n{}"))
    assert unpack(got["result"]).endswith("\u00fc\U0001f600")


@test
def json_data(r):
    assert unpack(globus(r, "st\nadd:" + SOURCE, pack("11\n[4]", '11\n{"b": 6}'))["result"]) == 10
    both = "13\n" + pack("11\n[4]", plain((4,)))
    assert unpack(globus(r, "st\nadd:" + SOURCE, pack(both, "13\n" + pack(plain({}))))["result"]) == 5
    got = globus(r, "st\nadd:" + SOURCE, b'{"args":[1],"kwargs":{"b":2}}', flags=1)
    assert got["result"] == b"11\n3", got
    got = globus(r, "st\nf:def f(): return b'x'\n", b"", flags=1)
    assert unpack(got["result"]) == b"x"


@test
def values_of_all_sorts(r):
    for source, want in (("return None", None), ("return b'\\xff' * 200", b"\xff" * 200), ("return {1: (2, {3})}", {1: (2, {3})}),
                         ("return 'x' * 1000", "x" * 1000), ("import datetime; return datetime.date(2020, 1, 2)",
                                                             __import__("datetime").date(2020, 1, 2))):
        got = globus(r, "st\nf:def f(*a, **k):\n    %s\n" % source)
        assert got["status"] == 1 and unpack(got["result"]) == want, got["error"]


@test
def globus_failures(r):
    cases = ((b"", "0 serialised"), (b"x", "packed"), (b"99999\nabc", "packed"), (b"3\nabc", "id"), (pack("zz\nx").encode(), "id"),
             (pack("00\n!!!").encode(), ""), (pack("00\n" + b64(b"junk")).encode(), ""), (b"\xff\xfe", "UTF-8"),
             (pack("st\nnocolon").encode(), ""), (pack("st\nf:x = 1").encode(), "'f'"), (pack(plain(5)).encode(), "int"),
             (pack("st\na:a=1", "st\nb:b=1").encode(), "2 serialised"), (b"-1\nx", "packed"), (b"999999999999999999\nx", "packed"))
    for code, word in cases:
        got = r.call(r.function(1, code), arguments())
        assert got["status"] == 2 and got["code"] == DECODE and word in got["error"].decode(), (code, got)
    f = r.function(1, pack("st\nadd:" + SOURCE))
    for payload in (b"", pack(plain(())).encode(), pack(plain(()), plain({}), plain({})).encode(), b"junk",
                    pack("00\n" + b64(b"\x80\x04junk."), plain({})).encode()):
        got = r.call(f, payload)
        assert got["status"] == 2 and got["code"] == DECODE, (payload, got)
    got = r.call(f, pack("00\n" + b64(b"cno_such_module_here\nX\n."), plain({})))
    assert got["code"] == MODULE and b"no_such_module_here" in got["error"], got
    got = r.call(f, arguments("a", b=1))
    assert got["code"] == EXCEPTION and b"TypeError" in got["error"]


@test
def shell_functions(r):
    # as pickle writes an instance: by reference to the class, then its fields
    def shell(**fields):
        import pickle
        state = pickle.dumps(fields, 0)[:-1]
        return "00\n" + b64(b"ccopyreg\n__newobj__\n(cglobus_compute_sdk.sdk.shell_function\nShellFunction\ntR" + state + b"b.")
    run = shell(cmd="echo hello {name}; echo oops >&2; exit 3", stdout=None, stderr=None, walltime=None, snippet_lines=1000)
    got = globus(r, run, arguments(name="x"))
    assert got["status"] == 1, got["error"].decode()
    text = base64.decodebytes(got["result"][3:])
    assert b"globus_compute_sdk.sdk.shell_function" in text and b"ShellResult" in text and b"hello x\n" in text and b"oops" in text
    begin = time.monotonic()
    got = globus(r, shell(cmd="sleep 77 & sleep 77", walltime=0.2, return_dict=True), arguments())
    value = unpack(got["result"])
    assert value["returncode"] == 124 and value["exception_name"] == "subprocess.TimeoutExpired" and time.monotonic() - begin < 40, value
    value = unpack(globus(r, shell(cmd="seq 1 5000", snippet_lines=2, return_dict=True), arguments())["result"])
    assert value["stdout"] == "4999\n5000\n"


def need_dill(f):
    f.dill = True
    return f


@test
@need_dill
def dill_code_forms(r):
    space = {"__name__": "__main__"}
    exec(SOURCE, space)
    import dill
    code = b64(dill.dumps(space["add"], recurse=True))
    forms = ["01\n" + code, "02\n" + code, "03\n" + named_source(), "04\n" + named_source()]
    forms.append("10\n" + ":".join(["04\n", named_source(), "01\n", code]))
    forms.append("10\n" + ":".join(["04\n", "junk", "01\n", code]))
    forms.append("12\n" + pack("st\nadd:" + SOURCE, "sd\nadd:" + SOURCE, "01\n" + code))
    forms.append("12\n" + pack("st\nadd:def (", "sd\nx", "01\n" + code))
    for form in forms:
        got = globus(r, form)
        assert got["status"] == 1 and unpack(got["result"]) == 5, (form[:3], got["error"].decode())


@test
@need_dill
def results_by_dill(r):
    import dill
    source = "class P:\n    def __init__(self): self.x = 4\ndef f(*a, **k):\n    return P()\n"
    value = dill.loads(base64.decodebytes(globus(r, "st\nf:" + source)["result"][3:]))
    assert value.x == 4
    got = globus(r, "st\nf:def f(*a, **k):\n    return lambda x: x + 1\n")
    assert got["result"].startswith(b"01\n") and dill.loads(base64.decodebytes(got["result"][3:]))(1) == 2
    got = globus(r, "st\nf:def f(*a, **k):\n    return (i for i in [])\n")
    assert got["code"] == ENCODE, got


@test
@need_dill
def undecodable_code_names_versions(r):
    got = globus(r, "01\n" + b64(b"\x80\x04\x95junk junk."))
    assert got["code"] == DECODE and b"Python 3." in got["error"] and b"dill" in got["error"], got


def hidden_dill(r):
    got = globus(r, "01\n" + b64(b"\x80\x04N."))
    assert got["code"] == MODULE and got["fault"] == 2, got
    assert got["error"].decode().startswith("module 'dill' is not installed for ") and b"on node n1" in got["error"], got["error"]
    got = globus(r, "st\nf:def f(*a, **k):\n    return lambda: 1\n")
    assert got["code"] == MODULE, got
    assert unpack(globus(r, "st\nadd:" + SOURCE)["result"]) == 5


hidden_dill.hidden = True
TESTS.append(hidden_dill)


def run_all(python, hide, only, build):
    env, holder, program = {}, tempfile.TemporaryDirectory(), RUNNER
    if hide:                        # a dill that says it is not there
        with open(os.path.join(holder.name, "dill.py"), "w") as f:
            f.write("raise ModuleNotFoundError(\"No module named 'dill'\", name='dill')\n")
        env["PYTHONPATH"] = holder.name
    else:                           # in one directory, as the worker puts them
        program = shutil.copy(RUNNER, holder.name)
        shutil.copy(os.path.join(build, "gen", "worker", "runners", "plain_text.so"), holder.name)
    passed = failed = 0
    with holder:
        for f in TESTS:
            if (only and only not in f.__name__) or (hide and getattr(f, "dill", False)) or (not hide and getattr(f, "hidden", False)):
                continue
            name = "%s%s (%s)" % (f.__name__.replace("_", " "), ", dill and plain_text.so hidden" if hide else "", os.path.basename(python))
            try:
                with Runner(python, env, program) as r:
                    r.python, r.has_helper = python, not hide
                    if getattr(f, "dill", False) and not r.runtime["dill_version"]:
                        continue
                    f(r)
                    assert r.p.poll() is None, "the runner ended"
                print("ok - %s" % name)
                passed += 1
            except Exception:
                traceback.print_exc(file=sys.stdout)
                print("not ok - %s" % name)
                failed += 1
            sys.stdout.flush()
    return passed, failed


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--python", action="append")
    ap.add_argument("--only")
    o = ap.parse_args()
    signal.alarm(300)
    totals = [run_all(p, hide, o.only, o.build) for p in o.python or [sys.executable] for hide in (False, True)]
    passed, failed = (sum(x) for x in zip(*totals))
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Functions that take several inputs in a call, through the whole fabric: sizes, errors that stay with their input, crashes, limits, cancel."""
import base64
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Fabric, call, gather, main, ok, pids_of, register, submit, wait_for  # noqa: E402

SOURCE = '''
import os, signal, sys, time
DIR = %r

def note(name, xs):
    with open(os.path.join(DIR, name), "a") as f:
        f.write("%%d\\n" %% len(xs))

def sizes(xs):
    note("sizes", xs)
    time.sleep(0.02)
    return [[x, len(xs)] for x in xs]

def double(x):
    return 2 * x

def some_bad(xs):
    note("some_bad", xs)
    return [ValueError("bad %%s" %% x) if x %% 7 == 0 else x for x in xs]

def raises(xs):
    note("raises", xs)
    return [10 // x for x in xs]

def always(xs):
    note("always", xs)
    raise RuntimeError("broken for all")

def wrong_length(xs):
    return xs[1:]

def no_list(xs):
    return "abc"[:len(xs)]

def crashes(xs):
    note("crashes", xs)
    if any(x == 13 for x in xs):
        os.kill(os.getpid(), signal.SIGSEGV)
    return xs

def leaves(xs):
    if 5 in xs:
        sys.stdout.flush()
        os._exit(3)
    return xs

def slow(xs):
    note("slow", xs)
    for x in xs:
        time.sleep(60 if x == 3 else 0.01)
    return xs

def hog(xs):
    note("hog", xs)
    keep = [bytearray(300 << 20) for x in xs if x == 3]
    for k in keep:
        k[::4096] = b"x" * len(k[::4096])
    time.sleep(0.3)
    return xs

def gate(xs):
    note("gate", xs)
    while not os.path.exists(os.path.join(DIR, "go")):
        time.sleep(0.02)
    return xs

def prints(xs):
    print("out of", len(xs))
    sys.stderr.write("err")
    return xs

def unencodable(xs):
    return [object() if x == 1 else x for x in xs]

def large(xs):
    return ["x" * x for x in xs]

def tenth(xs):
    note("tenth", xs)
    time.sleep(0.004 * len(xs))
    return [len(xs) for x in xs]
'''


def make(build):
    f = Fabric(build, workers=1)
    f.args += ["--endpoint-set", "heartbeat.interval=200ms", "--endpoint-set", "heartbeat.threshold=10s"]
    f.calls = os.path.join(f.state, "calls")
    os.mkdir(f.calls)
    f.source = SOURCE % f.calls
    return f


def calls(f, name):
    try:
        with open(os.path.join(f.calls, name)) as s:
            return [int(line) for line in s]
    except OSError:
        return []


def run(f, name, inputs, batch=None, timeout=60, **more):
    """Documents in the order of the inputs."""
    fid = register(f, f.source, name, batch=batch or {"max": 64}, **more)
    ids, _ = submit(f, fid, [json.dumps(x) for x in inputs])
    docs = gather(f, ids, timeout)
    return [docs[i] for i in ids]


def values(docs):
    return [json.loads(d["result"]) if d["status"] == "success" else d.get("code") for d in docs]


def sizes(report, f):
    docs = run(f, "sizes", list(range(200)))
    got = values(docs)
    report.check("each input has its own result", [g[0] for g in got] == list(range(200)), got[:5])
    report.check("many go in one call, at most max", 1 < max(g[1] for g in got) <= 64 and max(calls(f, "sizes")) <= 64 and
                 sum(calls(f, "sizes")) == 200, calls(f, "sizes"))
    report.check("after the first ones calls are full", 64 in calls(f, "sizes"), calls(f, "sizes"))
    report.check("one input is a list of one", values(run(f, "sizes", [5])) == [[5, 1]])
    d = run(f, "sizes", [{"args": [1, 2]}, 3])
    report.check("an input is one argument", [x["status"] for x in d] == ["failed", "success"] and d[0]["code"] == "TASK_DECODE" and
                 "one argument" in d[0]["exception"], d[0])
    d = run(f, "sizes", ["x"], batch={"max": 1})
    report.check("a batch of one at most", values(d) == [["x", 1]], d)
    stamps = {(json.dumps(t["stamps"]["execution_start"]), t["stamps"]["execution_end"])
              for t in (ok(f.http("GET", "/v3/tasks/%s/trace" % x["task_id"])) for x in docs[-10:])}
    report.check("tasks of a call have its times", len(stamps) <= 2, stamps)


def errors_stay(report, f):
    docs = run(f, "some_bad", list(range(50)))
    report.check("an exception in the list is that input's", [d["status"] == "failed" for d in docs] == [x % 7 == 0 for x in range(50)] and
                 "bad 14" in docs[14]["exception"] and docs[14]["code"] == "TASK_EXCEPTION" and docs[14]["fault"] == "user", docs[14])
    docs = run(f, "raises", [5, 1, 0, 2, 10, 3, 0, 4] * 4)
    report.check("what raises fails for the inputs that do", [d["status"] for d in docs] ==
                 ["success", "success", "failed", "success", "success", "success", "failed", "success"] * 4 and
                 "ZeroDivisionError" in docs[2]["exception"], values(docs))
    began = time.monotonic()
    docs = run(f, "always", list(range(500)), batch={"max": 500})
    report.check("what raises for all ends soon", all("broken for all" in d["exception"] for d in docs) and len(calls(f, "always")) < 500 and
                 time.monotonic() - began < 30, len(calls(f, "always")))
    docs = run(f, "wrong_length", [1, 2, 3])
    report.check("a list of another length", all(d["status"] == "failed" and "one result for each" in d["exception"] for d in docs), docs[0])
    docs = run(f, "no_list", [1, 2, 3])
    report.check("no list", all(d["status"] == "failed" and "not a str" in d["exception"] for d in docs), docs[0])
    docs = run(f, "unencodable", [0, 1, 2])
    report.check("a result that cannot be encoded", values(docs) == [0, "TASK_ENCODE", 2], docs[1])
    fid = register(f, f.source, "large", batch={"max": 8})
    ids, _ = submit(f, fid, ["10", "2000", "20"], limits={"max_result_bytes": 1000})
    docs = gather(f, ids)
    report.check("a result over its limit", [docs[i]["status"] for i in ids] == ["success", "failed", "success"] and
                 docs[ids[1]]["code"] == "TASK_RESULT_TOO_LARGE", docs[ids[1]])
    docs = run(f, "prints", [1, 2, 3])
    report.check("what the call printed is with each", all(d["stdout"].startswith("out of") and d["stderr"] == "err" for d in docs), docs[1])


def crashes(report, f):
    docs = run(f, "crashes", list(range(40)), batch={"max": 40})
    report.check("one input that crashes the process fails alone", [d["status"] for d in docs] == ["failed" if x == 13 else "success" for x in range(40)] and
                 docs[13]["code"] == "TASK_SIGNAL" and docs[13]["exit_detail"] == signal.SIGSEGV, values(docs))
    report.check("found by halves", len(calls(f, "crashes")) <= 24, calls(f, "crashes"))
    docs = run(f, "leaves", list(range(8)))
    report.check("one that exits too", [d["status"] for d in docs] == ["failed" if x == 5 else "success" for x in range(8)] and
                 docs[5]["code"] == "TASK_EXIT", values(docs))


def limits(report, f):
    began = time.monotonic()
    docs = run(f, "slow", list(range(16)), batch={"max": 16, "latency_ms": 60000}, limits={"time_limit_s": 3})
    report.check("the time limit: the slow input fails alone", [d["status"] for d in docs] == ["failed" if x == 3 else "success" for x in range(16)] and
                 docs[3]["code"] == "TASK_TIME_LIMIT" and time.monotonic() - began < 60, values(docs))
    docs = run(f, "hog", list(range(8)), batch={"max": 8, "latency_ms": 60000}, limits={"memory_limit_bytes": 200 << 20})
    report.check("the memory limit: the greedy input fails alone", [d["status"] for d in docs] == ["failed" if x == 3 else "success" for x in range(8)] and
                 docs[3]["code"] == "TASK_MEMORY_LIMIT", values(docs))


def cancel(report, f):
    fid = register(f, f.source, "gate", batch={"max": 8})
    hold = register(f, f.source, "sizes", batch={"max": 1})
    submit(f, hold, ["1"] * 3)
    ids, _ = submit(f, fid, [json.dumps(x) for x in range(6)])
    wait_for(lambda: calls(f, "gate"), 30, "the call")
    ok(f.http("DELETE", "/v3/tasks/%s" % ids[2]))
    d = gather(f, ids[2:3], 60)[ids[2]]         # its call goes on
    report.check("a task in a batch is cancelled at once", d["status"] == "cancelled", d)
    open(os.path.join(f.calls, "go"), "w").close()
    docs = gather(f, ids)
    report.check("the batch goes on without it", [docs[i]["status"] for i in ids] == ["success"] * 2 + ["cancelled"] + ["success"] * 3, docs)
    os.unlink(os.path.join(f.calls, "go"))
    n = len(calls(f, "gate"))
    ids, _ = submit(f, fid, ["1", "2"])
    wait_for(lambda: len(calls(f, "gate")) > n, 30, "the call")
    for i in ids:
        ok(f.http("DELETE", "/v3/tasks/%s" % i))
    docs = gather(f, ids, 60)
    report.check("when all are cancelled the process is killed", all(d["status"] == "cancelled" for d in docs.values()), docs)
    report.check("the worker goes on", values(run(f, "prints", [1])) == [1])


def worker_killed(report, f):
    fid = register(f, f.source, "gate", batch={"max": 8}, function_name="gate2")
    n = len(calls(f, "gate"))
    ids, _ = submit(f, fid, [json.dumps(x) for x in range(6)])
    wait_for(lambda: len(calls(f, "gate")) > n, 30, "the call")
    for p in pids_of(f, "worker"):
        os.kill(p, signal.SIGKILL)
    open(os.path.join(f.calls, "go"), "w").close()
    docs = gather(f, ids)
    report.check("a batch outlives its worker", values([docs[i] for i in ids]) == list(range(6)), docs)


def adapts(report, f):
    """4 ms an input, 100 ms at most: about 25."""
    fid = register(f, f.source, "tenth", batch={"max": 512, "latency_ms": 100})
    ids, _ = submit(f, fid, ["0"] * 1500)
    docs = gather(f, ids, 120)
    got = calls(f, "tenth")
    last = sorted(got[len(got) // 2:])
    report.check("all of them", all(d["status"] == "success" for d in docs.values()))
    report.check("the size follows the objective", got[0] == 1 and 4 <= last[len(last) // 2] <= 26 and max(got) <= 64, got)


def kinds(report, f):
    so = os.path.join(f.build, "examples", "batch_sum.so")
    with open(so, "rb") as s:
        code = base64.b64encode(s.read()).decode()
    fid = register(f, code, "batch_sum", kind="shared_object", batch={"max": 16})
    ids, _ = submit(f, fid, ["%d" % i for i in range(30)] + ["odd"])
    docs = gather(f, ids)
    got = [docs[i].get("result", "") for i in ids]
    report.check("a shared object's batch symbol", [g.split()[0] for g in got[:30]] == ["%d" % i for i in range(30)] and
                 max(int(g.split()[-1]) for g in got[:30]) > 1, got)
    report.check("one input fails alone", docs[ids[-1]]["status"] == "failed" and "not a number" in docs[ids[-1]]["exception"], docs[ids[-1]])
    with open(os.path.join(f.build, "examples", "noop.so"), "rb") as s:
        code = base64.b64encode(s.read()).decode()
    fid = register(f, code, "echo", kind="shared_object", batch={"max": 16})
    ids, _ = submit(f, fid, ["a", "b", "c"])
    docs = gather(f, ids)
    report.check("without that symbol it is called for each", [docs[i].get("result") for i in ids] == ["a", "b", "c"], docs)
    c = f.client()
    fid = c.register_function(sdk_batch, batch=32)
    kind = c.get_function(fid)["kind"]
    from weft import serialize
    ids, _ = c.submit(f.endpoint, fid, [serialize.encode_arguments(kind, (x,), {}) for x in range(40)])
    got = [c.result(i, timeout=40, kind=kind) for i in ids]
    report.check("registered with the SDK (kind %s)" % kind, got == [x * x for x in range(40)], got)
    memo = register(f, f.source, "sizes", batch={"max": 8}, memoize=True)
    a, b = call(f, memo, 1), call(f, memo, 1)
    report.check("batches and memoising together", a["memoised"] is False and b["memoised"] is True and b["result"] == a["result"], b)


def sdk_batch(xs):
    return [x * x for x in xs]


def mixed(report, f):
    """Batched and plain functions at once, on one worker."""
    plain = register(f, f.source, "double")
    fid = register(f, f.source, "sizes", batch={"max": 32}, function_name="mixed")
    answer = ok(f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {plain: ["%d" % i for i in range(100)], fid: ["%d" % i for i in range(100)]}}))
    docs = gather(f, answer["tasks"][plain] + answer["tasks"][fid])
    report.check("plain ones", values([docs[i] for i in answer["tasks"][plain]]) == [2 * i for i in range(100)])
    report.check("batched ones", [v[0] for v in values([docs[i] for i in answer["tasks"][fid]])] == list(range(100)))


if __name__ == "__main__":
    main(__doc__, [sizes, errors_stay, crashes, limits, cancel, worker_killed, adapts, kinds, mixed], make)

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Memoised functions through the whole fabric: hits are marked, survive restarts, are never stale; equal tasks in hand run once."""
import glob
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Fabric, call, gather, main, ok, pids_of, register, submit, task, wait_for  # noqa: E402

SOURCE = '''
import os, time

def count(name):
    with open(os.path.join(%r, name), "a") as f:
        f.write("x")

def add(name, a, b):
    count(name)
    print("adding")
    return a + b

def slow(name, s):
    count(name)
    time.sleep(s)
    return os.getpid()

def fails(name):
    count(name)
    raise ValueError("never good")

def fails_once(name, s):
    first = not os.path.exists(os.path.join(%r, name))
    count(name)
    time.sleep(s)
    if first:
        raise ValueError("the first one")
    return "good"

def gated(name):
    count(name)
    while not os.path.exists(os.path.join(%r, name + ".go")):
        time.sleep(0.02)
    return "went"

def large(name, n):
    count(name)
    return "x" * n
'''


def make(build):
    f = Fabric(build, workers=2)
    f.args += ["--endpoint-set", "memo.max_bytes=1MiB", "--endpoint-set", "heartbeat.interval=200ms", "--endpoint-set", "heartbeat.threshold=10s"]
    f.calls = os.path.join(f.state, "calls")
    os.mkdir(f.calls)
    f.source = SOURCE % (f.calls, f.calls, f.calls)
    f.known = {}
    return f


def fn(f, name, **more):
    key = (name, json.dumps(more, sort_keys=True))
    if key not in f.known:
        f.known[key] = register(f, f.source, name, **dict({"memoize": True}, **more))
    return f.known[key]


def runs(f, name):
    try:
        return os.path.getsize(os.path.join(f.calls, name))
    except OSError:
        return 0


def files(f):
    return sorted(glob.glob(os.path.join(f.state, "**", "memo", "*.seg"), recursive=True))


def status(f):
    for path in glob.glob(os.path.join(f.state, "**", "run", "status.json"), recursive=True):
        try:
            with open(path) as s:
                return json.load(s)["memo"]
        except (OSError, ValueError):
            pass
    return {}


def kill_agent(f):
    old = pids_of(f, "agent")
    for p in old:
        os.kill(p, signal.SIGKILL)
    wait_for(lambda: set(pids_of(f, "agent")) - set(old), 30, "the agent is started again")


def hits(report, f):
    a, b = call(f, fn(f, "add"), "hits", 1, 2), call(f, fn(f, "add"), "hits", 1, 2)
    report.check("the first call runs", a["status"] == "success" and a["memoised"] is False and "3" in a["result"], a)
    report.check("the second is answered, and marked", b["memoised"] is True and b["result"] == a["result"] and b["stdout"] == "adding\n" and
                 b["node"] == a["node"] and runs(f, "hits") == 1, b)
    t = ok(f.http("GET", "/v3/tasks/%s/trace" % b["task_id"]))
    report.check("its trace says so", t["memoised"] is True and [s["name"] for s in t["spans"]].count("memo") == 1 and
                 "execution_start" not in t["stamps"] and all(s["us"] >= 0 for s in t["spans"]), t)
    t = ok(f.http("GET", "/v3/tasks/%s/trace" % a["task_id"]))
    report.check("the other one's does not", t["memoised"] is False and "execution_start" in t["stamps"], t)
    c = call(f, fn(f, "add"), "hits", 2, 2)
    report.check("another payload runs", c["memoised"] is False and "4" in c["result"] and runs(f, "hits") == 2, c)
    plain = register(f, f.source, "add")
    for _ in range(2):
        d = call(f, plain, "hits", 1, 2)
    report.check("a function that does not memoise runs each time", d["memoised"] is False and runs(f, "hits") == 4, d)
    report.check("the endpoint's status counts", wait_for(lambda: status(f).get("answered") == 1, 30, "status") and status(f)["entries"] >= 2, status(f))


def fresh(report, f):
    fid = fn(f, "add")
    call(f, fid, "fresh", 1, 2)
    a = call(f, fid, "fresh", 1, 2, memoize=False)
    report.check("memoize: false runs it", a["memoised"] is False and runs(f, "fresh") == 2, a)
    report.check("memoize: true is the default", call(f, fid, "fresh", 1, 2, memoize=True)["memoised"] is True)
    s, body = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {fid: ["{}"]}, "memoize": "no"})
    report.check("memoize must be a boolean", s == 422 and "memoize" in json.dumps(body), body)
    payload = '{"args": ["fresh", 1, 2]}'
    r = f.weft("run", fid, payload, "--fresh", "--trace")
    report.check("weft run --fresh", runs(f, "fresh") == 3 and "earlier call" not in r.stdout, r.stdout)
    r = f.weft("run", fid, payload, "--trace")
    report.check("weft run --trace tells of a hit", runs(f, "fresh") == 3 and "the result of an earlier call" in r.stdout and "memo" in r.stdout, r.stdout)
    tid = f.weft("submit", fid, payload).stdout.strip()
    f.weft("result", tid)
    report.check("weft status too", "memoised       true" in f.weft("status", tid).stdout)
    client = f.client()
    ids, _ = client.submit(f.endpoint, fid, [payload], memoize=False)
    report.check("SDK: submit (memoize=False)", client.result(ids[0], timeout=60) is not None and runs(f, "fresh") == 4)


def packed(*parts):
    return "".join("%d\n%s" % (len(p), p) for p in parts)


def encodings(report, f):
    """result_serializers: in which form the result comes, and that no answer of an earlier call is in another."""
    source = packed("st\nsame:" + SOURCE.split("def add")[0] % f.calls + "def same(x):\n    count('encodings')\n    return x if x else {x}\n")
    fid = ok(f.http("POST", "/v3/functions", {"function_name": "same", "function_code": source, "memoize": True}))["function_uuid"]
    sdk = "globus_compute_sdk.serialize."
    dill, plain, both = sdk + "DillDataBase64", sdk + "JSONData", sdk + "concretes.AllDataStrategies"
    ran = 0
    for wanted, value, other in ((None, "00", "00"), ([plain], "11", "00"), ([both], "13", "13"), ([plain, both], "11", "13")):
        more = {} if wanted is None else {"result_serializers": wanted}
        for x, ident in ((["\u00fc", 1], value), (0, other)):        # 0: a set, which JSON cannot say
            for again in (False, True):
                ids, answer = submit(f, fid, [packed("11\n" + json.dumps([x]), "11\n{}")], wait=40, **more)
                doc = answer["results"][ids[0]]
                report.check("%s as %s%s" % (x, wanted, ", again" if again else ""), doc["status"] == "success" and doc["result"][:3] == ident + "\n" and
                             doc["memoised"] is again, doc)
            ran += 1
            if ident == "11":
                report.check("JSON is what json.dumps writes", doc["result"] == "11\n" + json.dumps(x), doc)
    report.check("each form was made by a call of its own", runs(f, "encodings") == ran, runs(f, "encodings"))
    for wanted, ident in (([], "00"), ([dill, plain], "00"), ([both, plain], "13"), (["no.such.JSONData", "", plain], "11"), ([sdk + "DillCode", both], "13")):
        ids, answer = submit(f, fid, [packed('11\n[[1]]', "11\n{}")], wait=40, result_serializers=wanted)
        doc = answer["results"][ids[0]]
        report.check("%s is tried in order, but for what is not known" % wanted, doc["result"][:3] == ident + "\n", doc)


def never_stale(report, f):
    call(f, fn(f, "add"), "stale", 1, 2)
    changed = register(f, f.source.replace("return a + b", "return a * b * 10"), "add", memoize=True)
    a = call(f, changed, "stale", 1, 2)
    report.check("a changed function is another one", a["memoised"] is False and "20" in a["result"], a)
    for what, more in (("image", {"container": "img:2"}), ("image type", {"container": {"image": "img:2", "type": "podman"}})):
        # no runtime is needed to see it: a hit would be an answer at once; an endpoint without containers refuses the task
        fid = register(f, f.source, "add", memoize=True, **more)
        status, doc = f.http("POST", "/v3/endpoints/%s/submit?wait=3" % f.endpoint, {"tasks": {fid: ['{"args": ["stale", 1, 2]}']}})
        docs = doc.get("results", {}).values() if status == 200 else ()
        report.check("another %s is another function" % what, status in (200, 422) and not any(d.get("memoised") for d in docs), (status, doc))
    a, b = (submit(f, fn(f, "add"), [p], wait=40)[1]["results"] for p in ('{"args": ["stale", 5, 5]}', '{"args": ["stale", 5,  5]}'))
    report.check("payloads are compared byte for byte", not any(d["memoised"] for r in (a, b) for d in r.values()), (a, b))


def failed_and_cancelled(report, f):
    fid = fn(f, "fails")
    docs = [call(f, fid, "fails") for _ in range(3)]
    report.check("a failure is not remembered", all(d["status"] == "failed" and d["memoised"] is False for d in docs) and runs(f, "fails") == 3, docs)
    fid = fn(f, "gated")
    ids, _ = submit(f, fid, [{"args": ["cancelled"]}])
    wait_for(lambda: runs(f, "cancelled") == 1, 30, "it runs")
    ok(f.http("DELETE", "/v3/tasks/%s" % ids[0]))
    report.check("cancelled", gather(f, ids)[ids[0]]["status"] == "cancelled")
    open(os.path.join(f.calls, "cancelled.go"), "w").close()
    d = call(f, fid, "cancelled")
    report.check("a cancelled call is not remembered", d["status"] == "success" and d["memoised"] is False and runs(f, "cancelled") == 2, d)


def equal_tasks_run_once(report, f):
    ids, _ = submit(f, fn(f, "slow"), [{"args": ["once", 0.4]}] * 60)
    docs = gather(f, ids)
    report.check("60 equal tasks are one run", runs(f, "once") == 1 and len({d.get("result") for d in docs.values()}) == 1 and
                 sum(d["memoised"] for d in docs.values()) == 59, (runs(f, "once"), docs[ids[0]]))
    report.check("nobody waits for anybody then", call(f, fn(f, "slow"), "once", 0.4)["memoised"] is True)


def leader_fails(report, f):
    ids, _ = submit(f, fn(f, "fails_once"), [{"args": ["leader", 0.3]}] * 8)
    docs = gather(f, ids)
    states = sorted(d["status"] for d in docs.values())
    report.check("the first fails, each of the others runs for itself", states == ["failed"] + ["success"] * 7 and runs(f, "leader") == 8 and
                 not any(d["memoised"] for d in docs.values()), (states, runs(f, "leader")))
    report.check("a success among them is remembered", call(f, fn(f, "fails_once"), "leader", 0.3)["memoised"] is True)


def leader_cancelled(report, f):
    fid = fn(f, "gated")
    ids, _ = submit(f, fid, [{"args": ["lead"]}] * 4)
    wait_for(lambda: runs(f, "lead") == 1, 30, "the first runs")
    ok(f.http("DELETE", "/v3/tasks/%s" % ids[1]))
    report.check("one that waits for it is cancelled at once", gather(f, ids[1:2], 60)[ids[1]]["status"] == "cancelled")
    report.check("the others go on waiting", runs(f, "lead") == 1 and task(f, ids[0])["status"] not in ("cancelled", "failed"))
    ok(f.http("DELETE", "/v3/tasks/%s" % ids[0]))
    wait_for(lambda: runs(f, "lead") == 3, 30, "the two others run")
    open(os.path.join(f.calls, "lead.go"), "w").close()
    docs = gather(f, ids)
    report.check("when the first is cancelled the others run", [docs[i]["status"] for i in ids] == ["cancelled", "cancelled", "success", "success"], docs)


def limits(report, f):
    fid = fn(f, "large")
    report.check("a large result", call(f, fid, "limits", 50000)["status"] == "success")
    d = call(f, fid, "limits", 50000, limits={"max_result_bytes": 1000})
    report.check("a limit of the task's result holds for an earlier one too", d["status"] == "failed" and d["code"] == "TASK_RESULT_TOO_LARGE", d)
    report.check("without the limit it is there", call(f, fid, "limits", 50000)["memoised"] is True)


def eviction(report, f):
    fid = fn(f, "large")
    for i in range(6):
        call(f, fid, "evict%d" % i, 100000)
    call(f, fid, "evict0", 100000)
    for i in range(6, 12):
        call(f, fid, "evict%d" % i, 100000)
        call(f, fid, "evict0", 100000)
    report.check("the least recently used leaves", call(f, fid, "evict1", 100000)["memoised"] is False and runs(f, "evict1") == 2)
    report.check("what is used stays", runs(f, "evict0") == 1)
    report.check("the files stay under the bound", sum(os.path.getsize(p) for p in files(f)) <= 1 << 20, files(f))
    wait_for(lambda: status(f).get("evicted", 0) > 0, 30, "status counts them")


def restart(report, f):
    fid = fn(f, "add")
    call(f, fid, "restart", 1, 2)
    kill_agent(f)
    d = call(f, fid, "restart", 1, 2)
    report.check("a hit after the agent was killed", d["status"] == "success" and d["memoised"] is True and runs(f, "restart") == 1, d)


def agent_killed_with_equal_tasks(report, f):
    ids, _ = submit(f, fn(f, "gated"), [{"args": ["killed"]}] * 5)
    wait_for(lambda: runs(f, "killed") >= 1, 30, "the first runs")
    kill_agent(f)
    open(os.path.join(f.calls, "killed.go"), "w").close()
    docs = gather(f, ids)
    report.check("equal tasks outlive the agent", all(d["status"] == "success" for d in docs.values()), docs)


def manager_killed_with_equal_tasks(report, f):
    ids, _ = submit(f, fn(f, "gated"), [{"args": ["manager"]}] * 5)
    wait_for(lambda: runs(f, "manager") >= 1, 30, "the first runs")
    for p in pids_of(f, "manager"):
        os.kill(p, signal.SIGKILL)
    open(os.path.join(f.calls, "manager.go"), "w").close()
    docs = gather(f, ids)
    report.check("equal tasks outlive the manager", all(d["status"] == "success" for d in docs.values()) and
                 sum(d["memoised"] for d in docs.values()) == 4 and runs(f, "manager") == 2, docs)


def damaged(report, f):
    fid = fn(f, "add")
    call(f, fid, "damaged", 1, 2)
    wait_for(lambda: files(f), 30, "a file")
    for p in files(f):
        with open(p, "r+b") as s:
            s.seek(8)
            s.write(b"\xff" * (os.path.getsize(p) - 8))
    d = call(f, fid, "damaged", 1, 2)
    report.check("a damaged file is no answer", d["status"] == "success" and d["memoised"] is False and runs(f, "damaged") == 2, d)
    report.check("and works again", call(f, fid, "damaged", 1, 2)["memoised"] is True)
    for p in files(f):
        with open(p, "r+b") as s:
            s.write(b"something else")
    kill_agent(f)
    d = call(f, fid, "damaged", 1, 2)
    report.check("files that are none of ours do not keep the agent from starting", d["status"] == "success" and d["memoised"] is False, d)
    report.check("results are remembered again", call(f, fid, "damaged", 1, 2)["memoised"] is True)
    began = time.monotonic()
    for p in files(f):
        os.unlink(p)
    report.check("files that are gone do no harm", call(f, fid, "damaged", 3, 4)["status"] == "success" and time.monotonic() - began < 30)


if __name__ == "__main__":
    main(__doc__, [hits, fresh, encodings, never_stale, failed_and_cancelled, equal_tasks_run_once, leader_fails, leader_cancelled, limits, eviction, restart,
                   agent_killed_with_equal_tasks, manager_killed_with_equal_tasks, damaged], make)

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input over REST: each gets its documented error, nothing is half done, and the service stays as it was."""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import (HOLD, Fabric, call, connection, gather, grown, main, ok, pids_of, redis, register, second_user, sizes, submit, task, wait_for)  # noqa: E402
import schema  # noqa: E402

MIB = 1 << 20


def make(build):
    f = Fabric(build, workers=2)
    f.watch = schema.Watch()
    return f


def refused(report, name, reply, status, code=None):
    body = reply[1]
    good = reply[0] == status
    if status != 422:
        good = good and isinstance(body, dict) and body.get("status") == "Failed" and body.get("http_status_code") == status and \
            bool(body.get("detail")) and body.get("reason") == body.get("detail") and (code is None or body.get("code") == code)
    else:
        good = good and isinstance(body, dict) and bool(body.get("detail"))
    report.check("%s: %d%s" % (name, status, " " + code if code else ""), good, reply)


def malformed(report, f):
    path = "/v3/endpoints/%s/submit" % f.endpoint
    fn = register(f, "def f(x): return x", "f")
    for name, body in (("no JSON", b"this is not json"), ("cut JSON", b'{"tasks": {"'), ("an array", b"[]"), ("a number", b"17"), ("nothing", b""),
                       ("a doubled key", b'{"tasks": {}, "tasks": {}}'), ("not UTF-8", b'{"tasks": "\xff\xfe"}'),
                       ("deep nesting", b"[" * 100000), ("deep objects", b'{"a":' * 100000), ("junk after it", b"{} x")):
        refused(report, "submit of " + name, f.http("POST", path, body), 400, "REQUEST_MALFORMED")
    for name, body in (("no tasks", {}), ("tasks is a list", {"tasks": []}), ("tasks is null", {"tasks": None}), ("a function that is no UUID", {"tasks": {"x": ["1"]}}),
                       ("payloads are no list", {"tasks": {fn: "1"}}), ("no payloads", {"tasks": {fn: []}}),
                       ("an unknown limit", {"tasks": {fn: ["1"]}, "limits": {"colour": 1}}),
                       ("a negative time limit", {"tasks": {fn: ["1"]}, "limits": {"time_limit_s": -1}}),
                       ("a time limit in words", {"tasks": {fn: ["1"]}, "limits": {"time_limit_s": "long"}}),
                       ("a group that is no UUID", {"tasks": {fn: ["1"]}, "task_group_id": 5})):
        refused(report, "submit with " + name, f.http("POST", path, body), 422)
    for name, body in (("no name", {"function_code": "x"}), ("no code", {"function_name": "x"}), ("code is a number", {"function_name": "x", "function_code": 5}),
                       ("an unknown kind", {"function_name": "x", "function_code": "x", "kind": "cobol"}),
                       ("python without entry", {"function_name": "x", "function_code": "x", "kind": "python"}),
                       ("a command without argv", {"function_name": "x", "function_code": "ls -l", "kind": "command"}),
                       ("a shared object that is not base64", {"function_name": "x", "function_code": "\x7fELF", "kind": "shared_object", "entry": "f"})):
        refused(report, "register with " + name, f.http("POST", "/v3/functions", body), 422)
    for name, value in (("words", "soon"), ("a negative number", "-1"), ("too much", "1e9"), ("not a number", "nan"), ("infinity", "inf")):
        refused(report, "?wait= of " + name, f.http("GET", "/v3/tasks/%s?wait=%s" % (uuid.uuid4(), value)), 400, "REQUEST_MALFORMED")
    refused(report, "?until= of nonsense", f.http("POST", "/v3/batch_status?wait=1&until=some", {"task_ids": []}), 400, "REQUEST_MALFORMED")
    refused(report, "task_ids are no UUIDs", f.http("POST", "/v2/batch_status", {"task_ids": ["x", 5]}), 422)
    refused(report, "an unknown path", f.http("GET", "/v9/nothing"), 404, "ROUTE_NOT_FOUND")
    refused(report, "a wrong method", f.http("DELETE", "/v3/endpoints/%s/submit" % f.endpoint), 405, "METHOD_NOT_ALLOWED")
    refused(report, "a path with a NUL", f.http("GET", "/v3/tasks/%00"), 400)
    report.check("and a good task still runs", call(f, fn, "x")["result"] == '"x"')


def unknown(report, f):
    fn = register(f, "def f(x): return x", "f")
    nobody = str(uuid.uuid4())
    body = {"tasks": {fn: ["1"]}}
    refused(report, "submit to an unknown endpoint", f.http("POST", "/v3/endpoints/%s/submit" % nobody, body), 404, "ENDPOINT_NOT_FOUND")
    refused(report, "submit to no UUID", f.http("POST", "/v3/endpoints/here/submit", body), 400, "INVALID_UUID")
    refused(report, "submit of an unknown function", f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {nobody: ["1"]}}), 404,
            "FUNCTION_NOT_FOUND")
    before = ok(f.http("GET", "/v3/tasks?limit=1000"))["tasks"]
    refused(report, "one unknown function among good ones", f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {fn: ["1"], nobody: ["1"]}}),
            404, "FUNCTION_NOT_FOUND")
    report.check("nothing of it was stored", len(ok(f.http("GET", "/v3/tasks?limit=1000"))["tasks"]) == len(before))
    for method, path, code in (("GET", "/v3/tasks/%s" % nobody, "TASK_NOT_FOUND"), ("GET", "/v2/tasks/%s" % nobody, "TASK_NOT_FOUND"),
                               ("GET", "/v3/tasks/%s/trace" % nobody, "TASK_NOT_FOUND"), ("DELETE", "/v3/tasks/%s" % nobody, "TASK_NOT_FOUND"),
                               ("GET", "/v2/functions/%s" % nobody, "FUNCTION_NOT_FOUND"), ("DELETE", "/v2/functions/%s" % nobody, "FUNCTION_NOT_FOUND"),
                               ("GET", "/v2/endpoints/%s" % nobody, "ENDPOINT_NOT_FOUND"), ("GET", "/v2/endpoints/%s/status" % nobody, "ENDPOINT_NOT_FOUND"),
                               ("DELETE", "/v2/endpoints/%s" % nobody, "ENDPOINT_NOT_FOUND")):
        refused(report, "%s %s" % (method, path.replace(nobody, "unknown")), f.http(method, path), 404, code)
    refused(report, "a task group that is not there", f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, dict(body, task_group_id=nobody)), 404,
            "TASK_GROUP_NOT_FOUND")
    r = ok(f.http("POST", "/v2/batch_status?wait=2", {"task_ids": [nobody]}))
    report.check("batch_status of an unknown id says so at once", "nknown" in r["results"][nobody]["reason"], r)


def strangers(report, f):
    other = second_user(f)
    fn = register(f, "def f(x): return x", "f")
    public = register(f, "def f(x): return x", "f", public=True)
    ids, _ = submit(f, fn, [{"args": [1]}], wait=20)
    t = ids[0]
    as_other = lambda *a: f.http(*a, token=other)  # noqa: E731
    report.check("the other user is known", as_other("GET", "/v3/whoami")[0] == 200)
    for method, path in (("GET", "/v3/tasks/" + t), ("GET", "/v2/tasks/" + t), ("GET", "/v3/tasks/%s/trace" % t), ("DELETE", "/v3/tasks/" + t)):
        refused(report, "%s of another user's task" % method, as_other(method, path), 404, "TASK_NOT_FOUND")
    r = ok(as_other("POST", "/v2/batch_status", {"task_ids": [t]}))
    report.check("batch_status does not tell another user's task", "nknown" in r["results"][t]["reason"], r)
    refused(report, "another user's function", as_other("GET", "/v2/functions/" + fn), 403, "FUNCTION_ACCESS_FORBIDDEN")
    report.check("a public function may be read", as_other("GET", "/v2/functions/" + public)[0] == 200)
    refused(report, "deleting another user's function", as_other("DELETE", "/v2/functions/" + public), 403, "FUNCTION_ACCESS_FORBIDDEN")
    refused(report, "submitting to another user's endpoint", as_other("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {public: ["1"]}}), 403,
            "ENDPOINT_ACCESS_FORBIDDEN")
    refused(report, "status of another user's endpoint", as_other("GET", "/v2/endpoints/%s/status" % f.endpoint), 403, "ENDPOINT_ACCESS_FORBIDDEN")
    refused(report, "deleting another user's endpoint", as_other("DELETE", "/v2/endpoints/" + f.endpoint), 403, "ENDPOINT_ACCESS_FORBIDDEN")
    report.check("their list of tasks is empty", ok(as_other("GET", "/v3/tasks"))["tasks"] == [])
    report.check("their list of functions is empty", ok(as_other("GET", "/v2/functions"))["functions"] == [])
    report.check("the task is still its owner's", task(f, t)["result"] == "1")
    c = connection(f)
    for name, head, status, code in (("no token", {}, 401, "USER_UNAUTHENTICATED"), ("a wrong token", {"Authorization": "Bearer weft_x"}, 401, "INVALID_AUTH_TOKEN"),
                                     ("another scheme", {"Authorization": "Digest x"}, 401, "INVALID_AUTH_TOKEN"),
                                     ("an empty token", {"Authorization": "Bearer "}, 401, "INVALID_AUTH_TOKEN"),
                                     ("an endless token", {"Authorization": "Bearer " + "x" * 8000}, 401, "INVALID_AUTH_TOKEN")):
        c.request("GET", "/v3/whoami", headers=head)
        r = c.getresponse()
        refused(report, name, (r.status, json.loads(r.read())), status, code)
    c.close()
    for name in ("ann", "ben"):     # the tool beside a running service: what each run of it adds is seen, and what the service adds stays
        tool = [os.path.join(f.bin, "weft-service")]
        conf = ["--config", os.path.join(f.state, "service.yaml")]
        subprocess.run(tool + ["user", "add"] + conf + [name], check=True, stdout=subprocess.DEVNULL)
        token = subprocess.run(tool + ["token", "create"] + conf + ["--user", name, "--scopes", "read,register"], check=True, stdout=subprocess.PIPE,
                               universal_newlines=True).stdout.split()[-1]
        report.check("a token that the tool makes for %s works at once" % name, f.http("GET", "/v3/whoami", token=token)[0] == 200)
        mine = register(f, "def f(x): return x", "f", token=token)
        subprocess.run(tool + ["token", "list"] + conf, check=True, stdout=subprocess.DEVNULL)
        report.check("what %s registers is kept" % name, ok(f.http("GET", "/v2/functions", token=token))["functions"][0]["function_uuid"] == mine)
        db = sqlite3.connect(os.path.join(f.state, "registry.db"), timeout=20)
        report.check("and is in the registry for %s" % name, db.execute("SELECT count(*) FROM functions WHERE id = ?", (uuid.UUID(mine).bytes,)).fetchone() == (1,))
        db.close()
    reader = second_user(f, "reader", scopes=1)
    refused(report, "a token that may only read registers", f.http("POST", "/v3/functions", {"function_name": "x", "function_code": "x"}, token=reader), 403,
            "INSUFFICIENT_AUTH_SCOPE")


def offline(report, f):
    r = f.http("POST", "/v3/endpoints", {"endpoint_name": "asleep", "public_key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"})
    ep = r[1].get("endpoint_id") if isinstance(r[1], dict) else None
    report.check("an endpoint is registered that nobody runs", ep, r)
    fn = register(f, "def f(x): return x", "f")
    s = ok(f.http("GET", "/v2/endpoints/%s/status" % ep))
    report.check("its status is offline", s["status"] == "offline", s)
    ids, answer = submit(f, fn, [{"args": [1]}], wait=0.3, endpoint=ep)
    d = task(f, ids[0])
    report.check("a task for it is queued, and its status says for whom it waits", d["status"] == "waiting-for-ep", d)
    d = ok(f.http("DELETE", "/v3/tasks/" + ids[0]))
    report.check("it can be cancelled", d["status"] == "cancelled", d)


def gone(report, f):
    """An agent that is killed, with tasks that run and one that waits."""
    gate = os.path.join(f.state, "gate")
    ids, _ = submit(f, register(f, HOLD, "hold"), [{"args": [gate]}] * 3)

    def statuses():
        docs = ok(f.http("POST", "/v3/batch_status", {"task_ids": ids}))["results"]
        listed = {t["task_id"]: t["status"] for t in ok(f.http("GET", "/v3/tasks?limit=3"))["tasks"]}
        return [(docs[i]["status"], listed[i]) for i in ids]
    wait_for(lambda: sum(s[0] == "running" for s in statuses()) == 2, 30, "two to run, while one waits")
    f.proc.send_signal(signal.SIGSTOP)      # or weft up starts it again
    try:
        os.kill(pids_of(f, "agent")[0], signal.SIGKILL)
        wait_for(lambda: ok(f.http("GET", "/v2/endpoints/%s/status" % f.endpoint))["status"] == "offline", 30, "the endpoint to be offline")
        end = time.monotonic() + 30         # what is known of it is remembered for a second
        while statuses() != [("waiting-for-ep", "waiting-for-ep")] * 3 and time.monotonic() < end:
            time.sleep(0.02)
        told = statuses()
        report.check("tasks of an agent that was killed wait for their endpoint, also those that ran", told == [("waiting-for-ep", "waiting-for-ep")] * 3, told)
        docs = [task(f, i) for i in ids]
        report.check("so does each when it is asked for alone", all(d["status"] == "waiting-for-ep" for d in docs), docs)
    finally:
        f.proc.send_signal(signal.SIGCONT)
    wait_for(lambda: sum(s[0] == "running" for s in statuses()) == 2, 60, "two to run again")
    open(gate, "w").close()
    docs = gather(f, ids, 60)
    report.check("when it is back they run, and succeed", all(docs[i]["status"] == "success" for i in ids), docs)


def drained(report, f):
    """What everybody is told of an endpoint that its operator drains."""
    tool = [os.path.join(f.bin, "weft-endpoint")]
    env = dict(os.environ, WEFT_HOME=f.state)

    def told():
        d = ok(f.http("GET", "/v3/endpoints/%s/status" % f.endpoint))
        return d["status"], d["details"].get("draining"), d["details"]["idle_workers"], d["details"].get("free_slots")

    def until(want):
        end = time.monotonic() + 20
        while told() != want and time.monotonic() < end:
            time.sleep(0.02)
        return told()
    rows = lambda: f.weft("endpoint", "list").stdout.splitlines()      # noqa: E731
    fn = register(f, "def f(x): return x", "f")
    report.check("an endpoint that nobody drains says so", until(("online", False, 2, 2)) == ("online", False, 2, 2), told())
    subprocess.run(tool + ["drain", "local"], env=env, check=True, stdout=subprocess.DEVNULL)
    try:
        report.check("one that is drained says that, and has no free slots", until(("online", True, 0, 0)) == ("online", True, 0, 0), told())
        ids, _ = submit(f, fn, [{"args": [1]}], wait=1.2)       # what is known of it is remembered for a second
        d = task(f, ids[0])
        report.check("a task for it says why it waits", d["status"] == "received" and "drained" in d.get("waiting_reason", ""), d)
        report.check("weft endpoint list says so", [r for r in rows() if f.endpoint in r and "draining" in r], rows())
        shown = f.weft("endpoint", "show", f.endpoint).stdout
        report.check("weft endpoint show says so", [r for r in shown.splitlines() if r.split() == ["draining", "true"]], shown)
        forwarder = pids_of(f, "forwarder")
        for pid in forwarder:           # said again in the next session
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: pids_of(f, "forwarder") and pids_of(f, "forwarder") != forwarder, 20, "another forwarder")
        wait_for(lambda: told()[:2] != ("online", True), 30, "the session to end")
        report.check("it is told again in a new session", until(("online", True, 0, 0)) == ("online", True, 0, 0), told())
    finally:
        subprocess.run(tool + ["undrain", "local"], env=env, check=True, stdout=subprocess.DEVNULL)
    d = task(f, ids[0], wait=20)
    report.check("it runs when the drain is over", d["status"] == "success", d)
    report.check("and the endpoint is as before", until(("online", False, 2, 2)) == ("online", False, 2, 2), told())


def locked(report, f):
    """Globus Compute's stop_endpoint: the session of a live agent is ended, and it is let in again when the time is over."""
    nap = register(f, "import time\ndef f(s):\n    time.sleep(s)\n    return s", "f")
    fn = register(f, "def f(x): return x", "f")
    with open(os.path.join(f.state, "service.yaml"), "a") as s:
        s.write("endpoint:\n  lock: 8s\n")
    os.kill(pids_of(f, "service-master")[0], signal.SIGHUP)
    path = "/v3/endpoints/%s" % f.endpoint

    def lock():
        f._conn = None          # the process that served it may be the old one
        until = ok(f.http("POST", path + "/lock"))["lock_expiration_timestamp"]
        return until if until - time.time() < 10 else None
    running, _ = submit(f, nap, [{"args": [5]}])
    wait_for(lambda: task(f, running[0])["status"] == "running", 30, "the task to run")
    until = wait_for(lock, 20, "the new limit")
    s = ok(f.http("GET", path + "/status"))
    report.check("a locked endpoint is offline at once, has no workers, and says until when", s["status"] == "offline" and not s["details"]["total_workers"] and
                 "locked_until" in s["details"], s)
    refused(report, "it may not register again", f.http("PUT", path, {"endpoint_name": "x"}), 423, "RESOURCE_LOCKED")
    wait_for(lambda: redis(f, "HGET", "weft:ep:{%s}" % f.endpoint, "up") == "0", 30, "its forwarder to end the session")
    ids, _ = submit(f, fn, [{"args": [7]}])
    d = task(f, ids[0], wait=max(until - time.time() - 0.5, 0.1))
    report.check("a task is accepted, and waits for the endpoint", d["status"] == "waiting-for-ep", d)
    d = task(f, ids[0], wait=60)
    report.check("it runs when the lock is over, not before", d["status"] == "success" and time.time() > until, d)
    d = task(f, running[0], wait=60)
    report.check("what ran meanwhile has its result", d["status"] == "success" and d["result"] == "5", d)
    s = ok(f.http("GET", path + "/status"))
    report.check("and the endpoint is online", s["status"] == "online" and s["details"]["total_workers"] == 2 and "locked_until" not in s["details"], s)


def sizes_(report, f):
    fn = register(f, "def f(x): return len(x)", "f")
    out = register(f, "def f(n): return 'x' * n", "f")
    whole = json.dumps({"args": ["x" * (10 * MIB - 40)]})
    ids, a = submit(f, fn, [whole], wait=30)
    d = a["results"].get(ids[0]) or task(f, ids[0], wait=20)
    report.check("a payload of almost 10 MiB runs", d["status"] == "success" and d["result"] == str(10 * MIB - 40), str(d)[:500])
    refused(report, "a payload over 10 MiB", f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {fn: ["1", "x" * (10 * MIB + 1)]}}), 413,
            "TASK_PAYLOAD_TOO_LARGE")
    d = call(f, out, 9 * MIB)
    report.check("a result of 9 MiB comes back", d["status"] == "success" and len(d["result"]) == 9 * MIB + 2, d["status"])
    d = call(f, out, 11 * MIB)
    report.check("a result over 10 MiB: TASK_RESULT_TOO_LARGE, the sizes named", d["code"] == "TASK_RESULT_TOO_LARGE" and d["fault"] == "user" and
                 str(10 * MIB) in d["exception"], str(d)[:600])
    ids, a = submit(f, out, [{"args": [2000]}], wait=30, limits={"max_result_bytes": 1000})
    d = a["results"][ids[0]]
    report.check("a submission's own limit for results", d.get("code") == "TASK_RESULT_TOO_LARGE" and "1000" in d["exception"], d)
    refused(report, "a function over 10 MiB", f.http("POST", "/v3/functions", {"function_name": "x", "function_code": "#" * (10 * MIB + 1)}), 413,
            "FUNCTION_TOO_LARGE")
    before = redis(f, "dbsize")
    refused(report, "100,001 tasks", f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {fn: ["1"] * 100001}}), 413, "BATCH_RUN_TOO_LARGE")
    report.check("nothing of it was stored", wait_for(lambda: redis(f, "dbsize") == before, 30, "as many keys as before"))
    refused(report, "100,001 ids in batch_status", f.http("POST", "/v2/batch_status", {"task_ids": [str(uuid.uuid4())] * 100001}), 422)
    c = connection(f)
    c.putrequest("POST", "/v3/endpoints/%s/submit" % f.endpoint)
    c.putheader("Authorization", "Bearer " + f.token)
    c.putheader("Content-Length", str(10 << 30))
    c.endheaders()
    r = c.getresponse()
    refused(report, "a body of 10 GiB is refused from its header", (r.status, json.loads(r.read())), 413, "REQUEST_TOO_LARGE")
    c.close()


def functions_(report, f):
    """Functions that cannot be decoded, and results that cannot be said."""
    junk = ok(f.http("POST", "/v3/functions", {"function_name": "junk", "function_code": "this is no packed buffer"}))["function_uuid"]
    pickled = ok(f.http("POST", "/v3/functions", {"function_name": "junk", "function_code": "24\n01\ngASVBQAAAAAAAACMAWEu\n"}))["function_uuid"]
    syntax = register(f, "def f(x) return x", "f")
    missing = register(f, "def g(x): return x", "f")
    module = register(f, "import no_such_module_of_weft\ndef f(x): return x", "f")
    raising = register(f, "1 / 0\ndef f(x): return x", "f")
    lock = register(f, "import threading\ndef f(x): return threading.Lock()", "f")
    deep = register(f, "def f(x):\n    a = []\n    for i in range(100000): a = [a]\n    return a", "f")
    for name, fn, code, text in (("code that is no packed buffer", junk, "TASK_DECODE", ""), ("code that is no pickle", pickled, "TASK_DECODE", ""),
                                 ("source with a syntax error", syntax, "TASK_DECODE", "SyntaxError"), ("source without the function", missing, "TASK_DECODE", "'f'"),
                                 ("a module that is not there", module, "TASK_MODULE", "no_such_module_of_weft"),
                                 ("source that raises when loaded", raising, "TASK_DECODE", "ZeroDivisionError"),
                                 ("a result that cannot be serialised", lock, "TASK_ENCODE", "lock"), ("a result that is nested too deep", deep, "TASK_ENCODE", "")):
        d = call(f, fn, 1)
        report.check("%s: %s" % (name, code), d["status"] == "failed" and d.get("code") == code and d["fault"] == "user" and text in d["exception"], d)
    fn = register(f, "def f(x): return x", "f")
    ids, a = submit(f, fn, ["{not json"], wait=20)
    d = a["results"][ids[0]]
    report.check("a payload that cannot be decoded: TASK_DECODE", d.get("code") == "TASK_DECODE", d)
    d = call(f, fn, 1, 2, 3)
    report.check("wrong arguments: the function's own error", d.get("code") == "TASK_EXCEPTION" and "TypeError" in d["exception"], d)
    odd = register(f, "def f(): return [chr(0), chr(0x1F600), '\\ud800', 10**400]", "f")
    d = call(f, odd)
    report.check("odd characters and numbers come back", d["status"] == "success" and json.loads(d["result"])[0] == "\0" and
                 json.loads(d["result"])[1] == "\U0001F600", d)
    none = ok(f.http("POST", "/v3/functions", {"function_name": "n", "kind": "command", "function_code": json.dumps({"argv": ["/no/such/program"]})}))["function_uuid"]
    ids, a = submit(f, none, ["x"], wait=20)
    d = a["results"][ids[0]]
    report.check("a command that is not there names it", d["status"] == "failed" and "/no/such/program" in d["exception"], d)
    so = ok(f.http("POST", "/v3/functions", {"function_name": "n", "kind": "shared_object", "entry": "f", "function_code": "AAAA"}))["function_uuid"]
    ids, a = submit(f, so, ["x"], wait=20)
    d = a["results"][ids[0]]
    report.check("a shared object that is none: TASK_DECODE", d["status"] == "failed" and d.get("code") == "TASK_DECODE", d)


def batch(report, f):
    """The largest batch that is allowed, and that the service is as it was after all of this."""
    fn = register(f, "def f(x): return x", "f")
    ids, _ = submit(f, fn, ["%d" % i for i in range(3)], wait=20)
    before = sizes(f)
    ids, _ = submit(f, fn, ["7"] * 100000)
    docs = gather(f, ids, 300)
    report.check("100,000 tasks in one request all end, each with its result", len(docs) == 100000 and
                 all(d["status"] == "success" and d["result"] == "7" for d in docs.values()), len(docs))
    report.check("processes did not grow beyond bounds", not grown(before, sizes(f), 300 * MIB), grown(before, sizes(f), 300 * MIB))


def configured(report, f):
    """The limits are the configuration's."""
    fn = register(f, "def f(x): return x", "f")
    with open(os.path.join(f.state, "service.yaml"), "a") as s:
        s.write("limits:\n  payload_bytes: 1000\n  batch_tasks: 10\n  function_bytes: 2000\n  body_bytes: 100KiB\n  queue_tasks: 50\n  result_bytes: 3000\n")
    old = set(pids_of(f, "service"))
    os.kill(pids_of(f, "service-master")[0], signal.SIGHUP)
    wait_for(lambda: pids_of(f, "service") and not old & set(pids_of(f, "service")), 60, "the process with the old limits is gone")
    path = "/v3/endpoints/%s/submit" % f.endpoint

    def tried(body, path=path):
        f._conn = None          # the process that served it may be the old one
        return f.http("POST", path, body)
    wait_for(lambda: tried({"tasks": {fn: ["x" * 1001]}})[0] == 413, 30, "the new limits")
    refused(report, "a configured payload limit", tried({"tasks": {fn: ["x" * 1001]}}), 413, "TASK_PAYLOAD_TOO_LARGE")
    refused(report, "a configured batch limit", tried({"tasks": {fn: ["1"] * 11}}), 413, "BATCH_RUN_TOO_LARGE")
    refused(report, "a configured function limit", tried({"function_name": "x", "function_code": "#" * 2001}, "/v3/functions"), 413, "FUNCTION_TOO_LARGE")
    refused(report, "a configured body limit", tried("x" * 102401), 413, "REQUEST_TOO_LARGE")
    asleep = [e["uuid"] for e in ok(f.http("GET", "/v2/endpoints")) if e["uuid"] != f.endpoint][0]
    replies = [tried({"tasks": {fn: ["1"] * 10}}, "/v3/endpoints/%s/submit" % asleep) for _ in range(6)]
    # the task that was cancelled may stand in the queue still
    report.check("a configured queue limit: up to 50 are taken", [r[0] for r in replies[:4]] == [200] * 4, [r[0] for r in replies])
    refused(report, "and no more", replies[5], 429, "ENDPOINT_QUEUE_FULL")
    refused(report, "a submission that asks for a larger result than is configured", tried({"tasks": {fn: ["1"]}, "limits": {"max_result_bytes": 3001}}), 422)
    report.check("what is within them runs", call(f, fn, 1, limits={"max_result_bytes": 3000})["status"] == "success")


def configured_results(report, f):
    """An endpoint's own limit of results."""
    small = Fabric(f.build, workers=1)
    small.args += ["--endpoint-set", "limits.result_bytes=2000"]
    try:
        small.start()
        fn = register(small, "def f(n): return 'x' * n", "f")
        d = call(small, fn, 1998)
        report.check("a result of as many bytes as the endpoint allows", d["status"] == "success" and len(d["result"]) == 2000, str(d)[:500])
        for more in ({}, {"limits": {"max_result_bytes": 10 * MIB}}):
            d = call(small, fn, 1999, **more)
            report.check("one more is refused, %s" % ("whatever is asked for" if more else "both sizes named"), d["status"] == "failed" and
                         d["code"] == "TASK_RESULT_TOO_LARGE" and d["fault"] == "user" and "2001" in d["exception"] and "2000" in d["exception"], str(d)[:500])
    finally:
        left = small.stop()
    report.check("that fabric ended", not left, left)


main(__doc__, [malformed, unknown, strangers, offline, gone, drained, locked, sizes_, functions_, batch, configured, configured_results], make)

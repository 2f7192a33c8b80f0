#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Large payloads and results by reference, through the real fabric: every kind of runner, limits, cancelling, processes that are killed with
large data in hand, a store that is tampered with or cannot be written to, what is left in it, and an endpoint without it."""
import base64
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import stat
import sys
import tempfile
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkstore  # noqa: E402
import e2e  # noqa: E402
from e2e import HOLD, Fabric, bulk_files, bulk_unnamed, call, gather, ok, pids_of, redis, register, register_command, submit, task, wait_for  # noqa: E402

BIG = 300000
ECHO = "def echo(x):\n    return x\n"
GRACE_S = 2


def files(f, kind=None):
    """Names in the store: kind "payload", "result" or all."""
    return sorted(n for n in bulk_files(f) if kind in (None, "payload" if n.endswith(".p") else "result"))


def nothing_left(report, f, what):
    """All payloads are gone, and every result's file belongs to a task, once the sweeper was there."""
    try:
        wait_for(lambda: not bulk_unnamed(f), 30, what)
        report.check(what, True)
    except TimeoutError:
        report.check(what, False, bulk_unnamed(f))


def store(f):
    return os.path.join(f.state, "bulk")


def sessions(f):
    """Addresses over which the endpoint had its sessions with forwarders, in order."""
    with open(os.path.join(f.state, "log", "endpoint.log")) as log:
        return re.findall(r'msg="session up" link=forwarder address=(\S+)', log.read())


def record_bytes(f, task_id):
    return int(redis(f, "HSTRLEN", "weft:task:{%s}" % task_id, "r"))


# ---- every kind of runner -------------------------------------------------------------------------------------------

def kinds(report, f):
    text = "α\"\\\n\x01" * 20000 + "x" * BIG
    echo = register(f, ECHO, "echo")
    ids, answer = submit(f, echo, [{"args": [text]}], wait=60)
    doc = answer["results"][ids[0]]
    report.check("python: what went in came back", doc["status"] == "success" and json.loads(doc["result"]) == text, str(doc)[:300])
    report.check("python: Redis has a reference only", record_bytes(f, ids[0]) < 2000, record_bytes(f, ids[0]))
    report.check("python: its result is in the store", len([n for n in files(f, "result") if n.startswith(ids[0].replace("-", ""))]) == 1)
    report.check("python: read again, it is the same", task(f, ids[0])["result"] == doc["result"])
    docs = ok(f.http("POST", "/v3/batch_status", {"task_ids": ids}))["results"]
    report.check("python: read with others, too", docs[ids[0]]["result"] == doc["result"])
    v2 = ok(f.http("GET", "/v2/tasks/%s" % ids[0]))
    report.check("python: the older route, too", v2["result"] == doc["result"])

    cat = register_command(f, ["cat"])
    ids, answer = submit(f, cat, [text], wait=60)
    doc = answer["results"][ids[0]]
    report.check("command: what went in came back", doc["status"] == "success" and doc["result"] == text, str(doc)[:300])
    report.check("command: Redis has a reference only", record_bytes(f, ids[0]) < 2000)
    doc = submit(f, register_command(f, ["wc", "-c"]), ["y" * BIG], wait=60)[1]["results"]
    report.check("command: a large input, a small result", list(doc.values())[0]["result"].strip() == str(BIG), doc)
    doc = submit(f, register_command(f, ["head", "-c", "200000", "/dev/urandom"]), [""], wait=60)[1]["results"]
    doc = list(doc.values())[0]
    report.check("command: bytes that are no text", doc.get("result_encoding") == "base64" and len(base64.b64decode(doc["result"])) == 200000, str(doc)[:200])
    doc = list(submit(f, register_command(f, ["sh", "-c", "exit 3"]), ["z" * BIG], wait=60)[1]["results"].values())[0]
    report.check("command: that fails without reading its input", doc["status"] == "failed" and doc["exit_detail"] == 3, str(doc)[:300])

    with open(os.path.join(f.build, "examples", "noop.so"), "rb") as s:
        noop = register(f, base64.b64encode(s.read()).decode(), "echo", kind="shared_object")
    ids, answer = submit(f, noop, [text], wait=60)
    doc = answer["results"][ids[0]]
    report.check("shared object: what went in came back", doc["status"] == "success" and doc["result"] == text, str(doc)[:300])
    report.check("shared object: Redis has a reference only", record_bytes(f, ids[0]) < 2000)

    ids, answer = submit(f, echo, [{"args": ["%d" % i + "m" * BIG]} for i in range(20)], wait=60)
    good = [i for i, t in enumerate(ids) if json.loads(answer["results"][t]["result"]) == "%d" % i + "m" * BIG]
    report.check("many at once", len(good) == 20, len(good))
    small = call(f, register(f, "def big(n):\n    return 'r' * n\n", "big"), BIG)
    report.check("a small payload, a large result", small["status"] == "success" and len(small["result"]) == BIG + 2, str(small)[:200])
    nothing_left(report, f, "no payload stays behind")


def limits(report, f):
    big = register(f, "def big(n):\n    return 'r' * n\n", "big")
    doc = call(f, big, 200000, limits={"max_result_bytes": 100000})
    report.check("the limit of a result counts its data", doc["status"] == "failed" and doc["code"] == "TASK_RESULT_TOO_LARGE", str(doc)[:300])
    status, doc = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {big: ["x" * (11 << 20)]}})
    report.check("the limit of a payload does, too", status == 413 and doc["code"] == "TASK_PAYLOAD_TOO_LARGE", doc)
    doc = call(f, register(f, "def bad(x):\n    raise ValueError(x[:3])\n", "bad"), "e" * BIG)
    report.check("an exception with a large payload", doc["status"] == "failed" and "ValueError: eee" in doc["exception"], str(doc)[:300])
    nothing_left(report, f, "nothing of them stays behind")


def memoised(report, f):
    """Equal large payloads are equal, however they came; what is remembered does not hang on a file of the first task."""
    count = os.path.join(f.state, "count")
    fn = register(f, "def once(x, path):\n    with open(path, 'a') as s:\n        s.write('x')\n    return x\n", "once", memoize=True)
    first = submit(f, fn, [{"args": ["m" * BIG, count]}], wait=60)[1]["results"]
    first = list(first.values())[0]
    for n in files(f, "result"):
        if n.startswith(first["task_id"].replace("-", "")):
            os.unlink(os.path.join(store(f), bulkstore.place(n)[0]))
    ids, answer = submit(f, fn, [{"args": ["m" * BIG, count]} for _ in range(4)], wait=60)
    docs = answer["results"]
    report.check("equal large tasks are answered from the first", all(docs[i]["memoised"] and docs[i]["result"] == first["result"] for i in ids),
                 str(docs)[:300])
    with open(count) as s:
        report.check("it ran once", s.read() == "x")
    report.check("each has data of its own", all(record_bytes(f, i) < 2000 for i in ids))
    other = submit(f, fn, [{"args": ["n" * BIG, count]}], wait=60)[1]["results"]
    report.check("another one is run", not list(other.values())[0]["memoised"])
    nothing_left(report, f, "nothing else stays")


# ---- tasks that do not get to their end by themselves ---------------------------------------------------------------

SLOW = "import time\n\ndef slow(x, s):\n    time.sleep(s)\n    return x\n"


def cancelling(report, f):
    slow = register(f, SLOW, "slow")
    ids, _ = submit(f, slow, [{"args": ["c" * BIG, 60]} for _ in range(6)])
    wait_for(lambda: sum(task(f, i)["status"] == "running" for i in ids) == 2, 30, "two running")
    for i in ids:
        ok(f.http("DELETE", "/v3/tasks/%s" % i))
    docs = gather(f, ids, 60)
    report.check("cancelled, running and waiting ones", all(d["status"] == "cancelled" for d in docs.values()), docs)
    nothing_left(report, f, "their files are gone")


def killing(report, f):
    """Each process is killed while tasks with large data are waiting, running and on their way back."""
    slow = register(f, SLOW, "slow")
    for victim in ("runner", "worker", "manager", "agent", "forwarder", "service"):
        texts = ["%s %d " % (victim, i) + "k" * BIG for i in range(8)]
        ids, _ = submit(f, slow, [{"args": [t, 0.3]} for t in texts])
        try:
            wait_for(lambda: any(task(f, i)["status"] in ("running",) + e2e.ENDED for i in ids), 120, "a task that runs")
        except TimeoutError:
            raise TimeoutError("no task ran before the kill of the %s: %s" % (victim, [task(f, i) for i in ids]))
        for pid in pids_of(f, victim):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

        def docs():
            try:
                return gather(f, ids, 60)
            except (OSError, http.client.HTTPException):     # the service was just killed, maybe within its answer
                return None
        found = wait_for(docs, 240, "answers after the kill of the " + victim)
        wrong = [d for i, d in ((i, found[t]) for i, t in enumerate(ids)) if d["status"] != "success" or json.loads(d["result"]) != texts[i]]
        report.check("all is right after the kill of the " + victim, not wrong, str(wrong)[:400])
    nothing_left(report, f, "what the dead left is swept up")


# ---- the link of endpoint and forwarder -----------------------------------------------------------------------------

def linked(report, f):
    """Within the host they talk over a socket in the store, whoever of them was killed; nobody else has a way to it, and it goes with them."""
    g = Fabric(f.build, workers=1)
    with g:
        path = os.path.join(store(g), "link-" + g.endpoint)
        echo = register(g, ECHO, "echo")
        for victim in (None, "forwarder", "agent", "supervisor"):
            before = len(sessions(g))
            for pid in pids_of(g, victim) if victim else ():
                os.kill(pid, signal.SIGKILL)
            if victim:
                wait_for(lambda: len(sessions(g)) > before, 60, "another session after the kill of the " + victim)
            doc = call(g, echo, "again")
            report.check("a session over the socket, killed: %s" % victim, doc["status"] == "success" and sessions(g)[-1] == "ipc://" + path, (doc, sessions(g)))
        report.check("only its owner can enter", stat.S_IMODE(os.stat(store(g)).st_mode) == 0o700)
        left = g.stop(remove=False)
        report.check("it goes with its forwarder", not left and not os.path.exists(path), (left, os.listdir(store(g))))


# ---- a store that was changed ---------------------------------------------------------------------------------------

def tampering(report, f):
    echo = register(f, ECHO, "echo")

    def one():
        ids, answer = submit(f, echo, [{"args": ["t" * BIG]}], wait=60)
        assert answer["results"][ids[0]]["status"] == "success", str(answer)[:300]
        segment, at = bulkstore.place(next(n for n in files(f, "result") if n.startswith(ids[0].replace("-", ""))))
        return ids[0], os.path.join(store(f), segment), at

    def lost(what, t):
        doc = task(f, t)
        report.check(what, doc["status"] == "failed" and doc["fault"] == "self" and "its result is lost" in doc["exception"], str(doc)[:400])
    t, path, at = one()
    os.truncate(path, at + 1000)
    lost("a result that was cut short", t)
    t, path, at = one()
    with open(path, "r+b") as s:
        s.seek(at + 8)
        s.write(uuid.uuid4().bytes)
    lost("a place where another task's result stands", t)
    t, path, at = one()
    os.unlink(path)
    lost("a result that was removed", t)
    t, path, at = one()
    os.unlink(path)
    os.symlink("/etc/hostname", path)
    lost("a result that became a link", t)
    os.unlink(path)
    os.mkfifo(path)
    lost("a result that became a pipe", t)
    os.unlink(path)

    # a payload goes while its task waits behind others
    gate = os.path.join(f.state, "gate")
    first, _ = submit(f, register(f, HOLD, "hold"), [{"args": [gate]} for _ in range(2)])
    wait_for(lambda: all(task(f, i)["status"] == "running" for i in first), 30, "both workers are busy")
    functions = [register(f, ECHO, "echo"), register_command(f, ["cat"])]
    with open(os.path.join(f.build, "examples", "noop.so"), "rb") as s:
        functions.append(register(f, base64.b64encode(s.read()).decode(), "echo", kind="shared_object"))
    for fn in functions:
        gone, _ = submit(f, fn, ["{\"args\": [\"%s\"]}" % ("g" * BIG)])
        assert bulkstore.remove_payload(store(f), gone[0]) == 1
        first.append(gone[0])
    open(gate, "w").close()
    docs = gather(f, first, 60)
    for fn, i in zip(("python", "command", "shared object"), first[2:]):
        report.check("a payload that was removed: " + fn, docs[i]["status"] == "failed" and docs[i]["fault"] == "self" and
                     "bulk store" in docs[i]["exception"], str(docs[i])[:400])
    doc = call(f, echo, "after")
    report.check("the workers go on", doc["status"] == "success", doc)
    nothing_left(report, f, "nothing stays behind")


def full(report, f):
    """A file size limit stands for a full disk."""
    echo = register(f, ECHO, "echo")
    call(f, echo, "warm")
    service = pids_of(f, "service")
    for pid in service:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))
    before = int(redis(f, "XLEN", "weft:ep:{%s}:tasks" % f.endpoint))
    status, doc = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {echo: ["s" * 50000, "s" * BIG]}})
    report.check("no room for a payload: a clear refusal", status == 503 and doc["code"] == "STORAGE_FULL" and "nothing was stored" in doc["reason"], doc)
    report.check("nothing of it was stored", not files(f, "payload") and int(redis(f, "XLEN", "weft:ep:{%s}:tasks" % f.endpoint)) == before, files(f))
    for pid in service:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for what in ("runner", "worker"):
        for pid in pids_of(f, what):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))
    for name, fn, payload in (("python", echo, {"args": ["s" * BIG]}), ("command", register_command(f, ["cat"]), "s" * BIG)):
        ids, answer = submit(f, fn, [payload], wait=60)
        doc = answer["results"][ids[0]]
        report.check("no room for a result: it travels in its message: " + name, doc["status"] == "success" and "s" * BIG in doc["result"] and
                     record_bytes(f, ids[0]) > BIG, str(doc)[:300])
    for what in ("runner", "worker"):
        for pid in pids_of(f, what):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    nothing_left(report, f, "nothing half written stays behind")


def sweeping(report, f):
    old = time.time() - 3600
    other = os.path.join(store(f), "README")

    def age(*names):
        for name in names:
            with contextlib.suppress(FileNotFoundError):    # a slow machine had the time to find it old already
                os.utime(os.path.join(store(f), name), (old, old))
    fresh = bulkstore.stray_payload(store(f), str(uuid.uuid4()), b"x" * BIG, int(time.time() * 1000) + 3600000)
    stray = ["%032x.p" % 5, bulkstore.stray_payload(store(f), str(uuid.uuid4()), b"x" * BIG), bulkstore.append(store(f), "seg-00000007", str(uuid.UUID(int=6)), b"x" * BIG)]
    for name in (stray[0], "README"):
        with open(os.path.join(store(f), name), "w") as s:
            s.write("x")
    ids, answer = submit(f, register(f, ECHO, "echo"), [{"args": ["k" * BIG]}], wait=60)
    kept = [n for n in files(f, "result") if n.startswith(ids[0].replace("-", ""))]
    # results of a second execution: behind the stray one, and in a segment that was torn when its writer died
    second = [bulkstore.append(store(f), segment, ids[0], b"again" * 10000) for segment in ("seg-00000007", "seg-00000008")]
    with open(os.path.join(store(f), "seg-00000008"), "ab") as s:
        s.write(bytes(-s.tell() % bulkstore.PAGE) + bulkstore.HEAD.pack(b"WSR1", BIG, uuid.uuid4().bytes, 0) + b"torn")
    with contextlib.suppress(FileNotFoundError):
        used = os.stat(os.path.join(store(f), "seg-00000007")).st_blocks
    age(stray[0], "README", "seg-00000007", "seg-00000008", bulkstore.place(kept[0])[0])
    wait_for(lambda: not set(stray + second) & set(files(f)), 30, "the strays to go")
    report.check("data that no task names is removed", True)
    report.check("not what was written just now", fresh in files(f))
    bulkstore.remove_payload(store(f), fresh[:32])
    report.check("a result that is named stays", set(kept) <= set(files(f)), files(f))
    report.check("what is not ours stays", os.path.exists(other))
    os.unlink(other)
    try:
        report.check("its place on disk is given back", os.stat(os.path.join(store(f), "seg-00000007")).st_blocks < used / 4)
    except FileNotFoundError:           # even the whole segment is gone
        pass

    def gone():
        return not {"seg-00000007", "seg-00000008"} & set(bulkstore.segments(store(f)))
    wait_for(gone, 30, "segments of which nothing is left to go")
    report.check("segments of which nothing is left go", True)
    redis(f, "DEL", "weft:task:{%s}" % ids[0])
    try:
        wait_for(lambda: not set(kept) & set(files(f)), 30, "the result to go")
        report.check("it goes with its task", True)
    except TimeoutError as e:
        report.check("it goes with its task", False, e)
    report.check("the segment that a runner writes stays", bulkstore.place(kept[0])[0] in bulkstore.segments(store(f)), bulkstore.segments(store(f)))
    doc = call(f, register(f, ECHO, "echo"), "n" * BIG)
    report.check("and it goes on", doc["status"] == "success" and len(doc["result"]) == BIG + 2, str(doc)[:300])


# ---- other fabrics --------------------------------------------------------------------------------------------------

def elsewhere(report, f):
    """An endpoint that does not see the store: another host, another user, an older configuration."""
    with tempfile.TemporaryDirectory(prefix="weft-t-") as other:
        for what, setting in (("none", "bulk.dir="), ("one that is not there", "bulk.dir=/nonexistent/bulk"), ("another one", "bulk.dir=" + other)):
            g = Fabric(f.build, workers=1)
            g.args += ["--endpoint-set", setting, "--service-set", "bulk.grace=%ds" % GRACE_S]
            with open(os.path.join(other, "id"), "w") as s:
                s.write("01234567-89ab-4def-8123-456789abcdef\n")
            with g:
                ids, answer = submit(g, register(g, ECHO, "echo"), [{"args": ["e" * BIG]}], wait=60)
                doc = answer["results"][ids[0]]
                report.check("store of the endpoint: %s: it works" % what, doc["status"] == "success" and len(doc["result"]) == BIG + 2, str(doc)[:300])
                report.check("store of the endpoint: %s: the session is over TCP" % what, sessions(g)[-1].startswith("tcp://"), sessions(g))
                report.check("store of the endpoint: %s: the result is in Redis" % what, record_bytes(g, ids[0]) > BIG)
                nothing_left(report, g, "store of the endpoint: %s: no file stays" % what)


def make(build):
    f = Fabric(build, workers=2)
    f.args += ["--service-set", "bulk.grace=%ds" % GRACE_S, "--endpoint-set", "retries_on_kill=10"]
    return f


e2e.main(__doc__, [kinds, limits, memoised, cancelling, killing, linked, tampering, full, sweeping, elsewhere], make)

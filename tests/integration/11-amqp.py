#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Results over AMQP from weft-service with two worker processes and a real Redis; the forwarder's part is played here, the client's by
tests/lib/amqp.py. The real SDK's Executor is in tests/clients/globus."""
import argparse
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import amqp  # noqa: E402
from e2e import rss, sanitized  # noqa: E402
from service_helpers import ROOT, Forwarder, Place, Redis, Report, Service, wait_for  # noqa: E402

arg = argparse.ArgumentParser()
arg.add_argument("--build", default="build")
arg = arg.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
r = Report()
check = r.check
place = Place()
redis = Redis(place.path).start()
CONNECTIONS = 24        # for each worker: 6 for a user
svc = Service(arg.build, place.path, redis.url, amqp__listen="127.0.0.1:0", workers=2, amqp__connections=CONNECTIONS, amqp__heartbeat="20s",
              amqp__buffered_bytes="16MiB", auth__token_cache="100ms", registry__cache="0s", drain_grace="5s", limits__result_bytes="8MiB")
svc.start(config=os.path.join(ROOT, "config", "service.yaml"))
raw = redis.client()
KEY = "0123456789" * 4


def url(token="own"):
    a = svc.get("/v2/get_amqp_result_connection_url", token=token)
    if a.status != 200:
        raise RuntimeError(a)
    return a.json["connection_url"]


def prefix(token="own"):
    return svc.get("/v2/get_amqp_result_connection_url", token=token).json["queue_prefix"]


def submit(payloads, queue=True, group=None):
    body = {"tasks": {fn: payloads}, "create_queue": queue}
    if group:
        body["task_group_id"] = group
    a = svc.post("/v3/endpoints/%s/submit" % ep, body)
    if a.status != 200:
        raise RuntimeError(a)
    return a.json["task_group_id"], a.json["tasks"][fn]


def ended(tasks):
    docs = svc.post("/v2/batch_status", {"task_ids": tasks}).json["results"]
    return all("completion_t" in d for d in docs.values())


def consumer(group, token="own", **kw):
    c = amqp.Client(url(token), **kw)
    c.open(1)
    c.consume(1, prefix(token) + group)
    return c


def take(c, n, timeout=20):
    """Up to n deliveries."""
    out = []
    while len(out) < n:
        d = c.delivery(timeout)
        if d is None:
            break
        out.append(d)
    return out


def nothing_more(c):
    return c.delivery(1.0) is None


def handle(task):
    """What the endpoint would make of a payload."""
    text = task["payload"].decode()
    if text.startswith("fail"):
        return {"status": 2, "fault": 1, "code": 20, "error": "Traceback: " + text}
    if text.startswith("big"):
        return {"status": 1, "result": "é" * int(text[3:])}
    if text.startswith("hold"):
        return None
    return {"status": 1, "result": "done " + text}


ep = svc.post("/v3/endpoints", {"endpoint_name": "here", "metadata": {}, "key": KEY}).json["endpoint_id"]
fn = svc.post("/v3/functions", {"function_name": "f", "function_code": "x", "meta": {"python_version": "3.11", "sdk_version": "4",
                                                                                   "serde_identifier": "01"}}).json["function_uuid"]
forwarder = Forwarder(redis, ep, handle)


def refused(code, action, name):
    try:
        action()
        return check(name, False, "it was accepted")
    except amqp.Closed as e:
        return check(name, e.code == code and (code == 0 or e.text), e)


# ---- results ---------------------------------------------------------------------------------------------------------


def section_address():
    a = svc.get("/v2/get_amqp_result_connection_url").json
    who = svc.get("/v3/whoami").json["user_id"]
    check("the queues of a user begin with the user's id", a["queue_prefix"] == who + ".", a)
    check("the address has user, password, host and port", a["connection_url"].startswith("amqp://%s:" % who) and "@127.0.0.1:" in a["connection_url"], a)
    check("each call gives another password", url() != url())
    check("without a token there is none", svc.get("/v2/get_amqp_result_connection_url", token=None).status == 401)
    check("passwords stand in Redis as hashes only, and expire", all(len(k) == 10 + 64 and raw("PTTL", k) > 0 for k in raw("KEYS", "weft:amqp:*")))


def section_results():
    group, tasks = submit(["a", "fail now", "big300000", "c"])
    c = consumer(group)
    got = {d.result()["task_id"]: d for d in take(c, 4)}
    check("each task of the group is delivered once", sorted(got) == sorted(tasks) and nothing_more(c), len(got))
    r0, r1, r2 = (got[t].result() for t in tasks[:3])
    check("a result is in data", r0["data"] == "done a" and not r0.get("error_details"), r0)
    check("a failure has its text in data, and the SDK's code", r1["data"] == "Traceback: fail now" and
          r1["error_details"]["code"] == "RemoteExecutionError" and r1["error_details"]["user_message"], r1)
    check("a result of several frames is whole", r2["data"] == "é" * 300000, len(r2["data"]))
    check("messages say when the task was completed", all(abs(d.timestamp - time.time()) < 120 for d in got.values()))
    c.ack(1, max(d.tag for d in got.values()), multiple=True)
    c.close()
    c = consumer(group)
    check("what was acknowledged does not come again", nothing_more(c))
    _, more = submit(["later"], group=group)
    check("what ends later comes at once", [d.result()["task_id"] for d in take(c, 1)] == more)
    c.close()


def section_buffering():
    group, tasks = submit(["x%d" % i for i in range(700)])
    wait_for(lambda: ended(tasks), 60, "the tasks end")
    c = consumer(group)
    got = take(c, 700)
    check("700 results that nobody waited for are all there", sorted(d.result()["task_id"] for d in got) == sorted(tasks), len(got))
    check("tags ascend by one", [d.tag for d in got] == list(range(1, 701)))
    c.ack(1, got[299].tag, multiple=True)
    first = {d.result()["task_id"] for d in got[:300]}
    c.close()
    c = consumer(group)
    again = take(c, 400)
    check("the 400 that were not acknowledged come again, no other", {d.result()["task_id"] for d in again} == set(tasks) - first and nothing_more(c),
          len(again))
    for d in again[::-1]:
        c.ack(1, d.tag)
    c.close()
    c = consumer(group)
    check("acknowledged one by one, in any order", nothing_more(c))
    c.close()
    lone_group, lone = submit(["alone"])
    c = consumer(lone_group)
    check("a lone task is its own group", [d.result()["task_id"] for d in take(c, 1)] == lone)
    c.close()


def section_unwatched():
    group, tasks = submit(["u%d" % i for i in range(20)], queue=False)
    wait_for(lambda: ended(tasks), 30, "the tasks end")
    _, more = submit(["hold"], queue=False, group=group)
    c = consumer(group)
    got = take(c, 20)
    check("a group that was submitted without a queue has one when it is asked for", sorted(d.result()["task_id"] for d in got) == sorted(tasks), len(got))
    check("cancelling", svc.delete("/v3/tasks/" + more[0]).status == 200)
    last = take(c, 1)
    check("a cancelled task comes as a failure", last and last[0].result()["task_id"] == more[0] and last[0].result()["error_details"]["code"] == "CANCELLED",
          last and last[0].result())
    c.close()


def section_giving_back():
    group, tasks = submit(["n1", "n2"])
    c = consumer(group)
    d1, d2 = take(c, 2)
    c.ack(1, d2.tag)
    began = time.monotonic()
    c.nack(1, d1.tag)
    again = take(c, 1)
    check("what is given back comes again, marked, after a pause", again and again[0].result() == d1.result() and again[0].redelivered and
          not d1.redelivered and again[0].tag > d2.tag and time.monotonic() - began > 0.5, again)
    c.send(amqp.method(1, 60, 90, struct.pack(">QB", again[0].tag, 0)))
    check("what is rejected for good does not", nothing_more(c) and c.delivery(1.0) is None)
    c.close()
    c = consumer(group)
    check("nor for the next consumer", nothing_more(c))
    c.close()


def section_two_consumers():
    group, tasks = submit(["hold"] * 2)
    a, b = consumer(group), consumer(group)
    for t in wait_for(lambda: (lambda held: len(held) == 2 and held)([t for t in forwarder.seen if t["task"] in tasks]), 30, "the forwarder has both"):
        forwarder.store(redis_for_store, t, {"status": 1, "result": "released"})
    got = [sorted(d.result()["task_id"] for d in take(c, 2)) for c in (a, b)]
    check("two consumers of a queue get all of it both, so that none takes the other's results", got == [sorted(tasks)] * 2, got)
    a.close()
    b.close()


def section_prefetch():
    group, tasks = submit(["p%d" % i for i in range(10)])
    c = amqp.Client(url())
    c.open(1)
    c.qos(1, 3)
    c.consume(1, prefix() + group)
    got = take(c, 3)
    check("a prefetch is kept to", len(got) == 3 and nothing_more(c), len(got))
    c.ack(1, got[-1].tag, multiple=True)
    check("and more comes with the acknowledgement", len(take(c, 3)) == 3 and nothing_more(c))
    c.send(amqp.method(1, 20, 20, b"\0"))
    c.expect(1, (20, 21))
    c.ack(1, 0, multiple=True)
    check("a paused channel gets nothing", nothing_more(c))
    c.send(amqp.method(1, 20, 20, b"\1"))
    c.expect(1, (20, 21))
    check("until it goes on", len(take(c, 3)) == 3)
    c.close()
    c = amqp.Client(url())
    c.open(1)
    tag = c.consume(1, prefix() + group, tag="mine", no_ack=True)
    got = take(c, 4)
    check("a consumer that need not acknowledge gets everything", tag == "mine" and len(got) == 4 and nothing_more(c), len(got))
    c.cancel(1, "mine")
    c.close()
    c = consumer(group)
    check("and it counts as acknowledged", nothing_more(c))
    c.close()


def section_restart():
    group, tasks = submit(["r%d" % i for i in range(50)])
    c = consumer(group)
    got = take(c, 50)
    c.ack(1, got[19].tag, multiple=True)
    c.beat()
    wait_for(lambda: (raw("GET", "weft:group:{%s}:acked" % group) or b"").endswith(b" 20"), 30, "the place is kept")
    svc.stop(signal.SIGKILL)
    svc.start(config=os.path.join(ROOT, "config", "service.yaml"))
    c.drop()
    c = consumer(group)
    again = take(c, 30)
    want = {d.result()["task_id"] for d in got[20:]}
    check("after a SIGKILL of the service the 30 unacknowledged results come again", {d.result()["task_id"] for d in again} == want and nothing_more(c),
          len(again))
    svc.proc.send_signal(signal.SIGHUP)
    try:
        while c.step(20):
            pass
        check("a retiring worker says that one should connect again", False, "nothing came")
    except amqp.Closed as e:
        check("a retiring worker says that one should connect again", e.channel == 0 and e.code == 320, e)
    c.drop()

    def served():
        """By one that does not retire itself a moment later."""
        try:
            again = consumer(group)
            return len(take(again, 30)) == 30 and (again.close() or True)
        except amqp.Closed as e:
            return e.code not in (0, 320) and str(e)
    check("and the next one serves the queue", wait_for(served, 30, "a worker that stays") is True)


def section_bound():
    group, tasks = submit(["b%d" % i for i in range(300)])
    wait_for(lambda: ended(tasks), 30, "the tasks end")
    raw("XTRIM", "weft:group:{%s}:done" % group, "MAXLEN", 10)      # what the bound of the stream would cut, a million later
    c = consumer(group)
    got = take(c, 300)
    check("ends that the stream's bound cut off are found by looking at the tasks", sorted(d.result()["task_id"] for d in got) == sorted(tasks) and
          nothing_more(c), len(got))
    _, more = submit(["after"], group=group)
    last = take(c, 1)
    check("and what ends afterwards comes as always", [d.result()["task_id"] for d in last] == more)
    c.ack(1, 0, multiple=True)
    c.close()
    c = consumer(group)
    check("then the queue is empty", nothing_more(c))
    c.close()
    group, tasks = submit(["s%d" % i for i in range(20)])
    wait_for(lambda: ended(tasks), 30, "the tasks end")
    raw("XTRIM", "weft:group:{%s}:done" % group, "MAXLEN", 2)
    raw("ACL", "SETUSER", "default", "-hget")       # by which they are looked at
    try:
        c = consumer(group)
        wait_for(lambda: "hget" in str(raw("ACL", "LOG")), 30, "they are looked at")
    finally:
        raw("ACL", "SETUSER", "default", "+hget")
    check("what Redis did not say at first is asked again", sorted(d.result()["task_id"] for d in take(c, 20)) == sorted(tasks) and nothing_more(c))
    c.close()


# ---- who may ---------------------------------------------------------------------------------------------------------


def section_access():
    other = svc.command("user", "add", "other")
    made = svc.command("token", "create", "--user", "other")
    token = next((w for w in made.stdout.split() if w.startswith("weft_")), None)
    check("another user", token, (other, made))
    group, _ = submit(["secret"])
    u = url()
    refused(403, lambda: amqp.Client(u, login=(u.split("//")[1].split(":")[0], "wrong")), "a wrong password")
    refused(403, lambda: amqp.Client(u, login=(str(uuid.uuid4()), u.split(":")[2].split("@")[0])), "a password of somebody else")
    refused(403, lambda: amqp.Client(u, login=("guest", "guest")), "guest")
    refused(0, lambda: amqp.Client(u, login=("guest", "guest"), properties=False), "a client that knows no refusal sees the end of the connection")

    def consume(user, name):
        c = amqp.Client(url(user))
        c.open(1)
        try:
            c.consume(1, name)
        finally:
            c.drop()
    refused(403, lambda: consume(token, prefix() + group), "another user's queue")
    refused(403, lambda: consume(token, prefix(token) + group), "another user's task group")
    refused(404, lambda: consume("own", prefix() + str(uuid.uuid4())), "a task group that does not exist")
    refused(404, lambda: consume("own", "amq.gen-x"), "a queue that is none")
    mine = amqp.Client(url(token))
    listed = next(line for line in svc.command("token", "list").stdout.splitlines() if " other " in " " + line.replace("\t", " ") + " ")
    asked = [url(token)]

    def ask():          # as long as a process takes the token, which may be a moment after it was revoked
        try:
            while True:
                asked.append(url(token))
        except RuntimeError:
            pass
    asking = threading.Thread(target=ask)
    asking.start()
    revoked = svc.command("token", "revoke", listed.split()[0])
    asking.join()
    check("revoking", revoked.returncode == 0, (listed, revoked))
    for what, made in (("", lambda: mine), (", and so does one of the last moment", lambda: amqp.Client(asked[-1]))):
        try:
            connection = made()
            while connection.step(30):
                pass
            check("a connection ends with the token that it was made with" + what, False, "it stays")
        except amqp.Closed as e:
            check("a connection ends with the token that it was made with" + what, e.code == 403, e)
    raw("DEL", *raw("KEYS", "weft:amqp:*"))
    refused(403, lambda: amqp.Client(u), "credentials that have expired")


# ---- hostile clients -------------------------------------------------------------------------------------------------


def connect():
    host, port = url().split("@")[1].rstrip("/").split(":")
    return socket.create_connection((host, int(port)), 10)


def ends(s, seconds=20):
    """What came until the server closed it; None when it did not."""
    s.settimeout(seconds)
    out = b""
    try:
        while True:
            d = s.recv(65536)
            if not d:
                return out
            out += d
    except socket.timeout:
        return None
    except OSError:
        return out
    finally:
        s.close()


def service_rss():
    return max(rss(p) for p in svc.workers())


def section_garbage():
    s = connect()
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    check("what is not AMQP is answered with what is", ends(s) == amqp.PROTOCOL)
    s = connect()
    s.sendall(b"AMQP\0\1\0\x0a")
    check("as is another version of it", ends(s) == amqp.PROTOCOL)
    for name, data in [("no frame", b"\xff" * 100), ("a frame of 4 GiB", b"\1\0\0\xff\xff\xff\xff" + b"x" * 1000),
                       ("a frame of 1 MiB", struct.pack(">BHI", 1, 0, 1 << 20) + b"x" * 1000),
                       ("a method without arguments", amqp.method(0, 10, 11)), ("a method that is not served", amqp.method(0, 40, 10, b"\0" * 20)),
                       ("tune-ok first", amqp.method(0, 10, 31, b"\0" * 8)), ("content", amqp.frame(amqp.BODY, 0, b"x")),
                       ("a table of 9 levels", amqp.method(0, 10, 11, amqp.lstr(nested(9)) + b"\5PLAIN" + amqp.lstr(b"\0u\0p") + b"\5en_US"))]:
        s = connect()
        s.sendall(amqp.PROTOCOL + data)
        out = ends(s)
        closed = out and b"\x00\x0a\x00\x32" in out      # Connection.Close
        check("before the login: %s" % name, closed, out and out[-80:])
    s = connect()
    s.sendall(amqp.PROTOCOL[:5])
    quiet = connect()
    began = time.monotonic()
    out = ends(s, 30), ends(quiet, 30)
    check("a client that does not come to the point is dropped", out == (b"", b"") and 5 < time.monotonic() - began < 28, (out, time.monotonic() - began))


def nested(levels):
    t = b""
    for _ in range(levels):
        t = b"\1aF" + amqp.lstr(t)
    return t


def section_hostile_sessions():
    group, _ = submit(["h"])

    def session(data, code, name, channel=True):
        c = amqp.Client(url())
        if channel:
            c.open(1)
        c.send(data)
        try:
            while c.step(30):
                pass
            check("after the login: " + name, False, "it was accepted")
        except amqp.Closed as e:
            check("after the login: " + name, e.code == code and e.text, e)
        c.drop()
    q = prefix() + group
    consume = amqp.method(1, 60, 20, b"\0\0" + amqp.sstr(q) + amqp.sstr("t") + b"\0" + amqp.lstr(b""))
    session(amqp.method(1, 60, 40, b"\0\0\0\0\0"), 540, "publishing")
    session(amqp.method(1, 50, 10, b"\0\0" + amqp.sstr(q) + b"\0" + amqp.lstr(b"")), 540, "declaring a queue")
    session(amqp.method(1, 20, 10, b"\0"), 504, "a channel twice")
    session(amqp.method(7, 60, 80, b"\0" * 9), 504, "a channel that is not open", channel=False)
    session(b"".join(amqp.method(n, 20, 10, b"\0") for n in range(2, 3000)), 530, "thousands of channels")
    session(amqp.method(1, 60, 80, struct.pack(">QB", 99, 0)), 406, "acknowledging what was not given")
    session(consume + consume, 530, "a consumer tag twice")
    session(amqp.frame(amqp.HEADER, 1, b"\0" * 14), 505, "content without a method")
    session(amqp.frame(amqp.HEARTBEAT, 1, b""), 501, "a heartbeat on a channel")
    session(b"".join(amqp.method(1, 60, 20, b"\0\0" + amqp.sstr(q) + amqp.sstr("t%d" % n) + b"\0" + amqp.lstr(b"")) for n in range(20)), 506,
            "twenty consumers")
    session(amqp.method(1, 60, 20, b"\0\0" + amqp.sstr(q) + amqp.sstr("t" * 100) + b"\0" + amqp.lstr(b"")), 406, "a long consumer tag")


def section_heartbeats():
    c = amqp.Client(url(), heartbeat=2)     # silence of 4 s is too long
    beats, end, late = 0, time.monotonic() + 5, time.monotonic() + 30
    while time.monotonic() < end or (beats < 2 and time.monotonic() < late):
        c.beat()
        beats += c.step(0.3) is True
    check("heartbeats come, and a client that sends them stays", beats >= 2, beats)
    began = time.monotonic()
    try:
        while time.monotonic() < began + 60:
            c.step(1)
        check("one that is silent is dropped", False)
    except amqp.Closed as e:
        check("one that is silent is dropped", e.code == 0 and time.monotonic() - began > 1.5, (e, time.monotonic() - began))


def section_slow_readers():
    """Clients that never read and never acknowledge: what waits for them is bounded, and a good client is served meanwhile."""
    group, tasks = submit(["big1000000"] * 60)      # 2 MB each
    wait_for(lambda: ended_by_redis(tasks), 60, "the tasks end")
    before = service_rss()
    bad = []
    for _ in range(5):
        c = amqp.Client(url())
        c.open(1)
        c.consume(1, prefix() + group, wait=False)
        bad.append(c)
    good_group, good_tasks = submit(["good%d" % i for i in range(200)])
    c = consumer(good_group)
    got = take(c, 200)
    check("a good client gets its results beside five that do not read", len(got) == 200, len(got))
    grown = service_rss() - before
    check("memory for those who do not read is bounded", grown < (300 << 20 if sanitized(svc.proc.pid) else 64 << 20), "%d MiB" % (grown >> 20))      # of 600 MB
    c.close()
    for b in bad:
        b.drop()
    c = consumer(group)
    got = take(c, 60)
    check("nothing of it was lost", len({d.result()["task_id"] for d in got}) == 60, len(got))
    c.close()


def ended_by_redis(tasks):
    return all((raw("HGET", "weft:task:{%s}" % t, "s") or b"0") >= b"5" for t in tasks)


def section_floods():
    """Many connections: those without a password make room for those with one; one user cannot have them all."""
    idle = []
    for _ in range(3 * CONNECTIONS):
        idle.append(connect())
    group, tasks = submit(["flood"])
    c = consumer(group)
    check("a client with a password gets in when idle connections take all places", len(take(c, 1)) == 1)
    c.close()
    for s in idle:
        s.close()
    mine, why = [], None
    try:
        for _ in range(2 * CONNECTIONS):
            mine.append(amqp.Client(url()))
    except amqp.Closed as e:
        why = e
    check("a user may have a fourth of the connections", why is not None and why.code == 530 and len(mine) >= CONNECTIONS // 4, (why, len(mine)))
    for m in mine:
        m.drop()

    def free():
        try:
            amqp.Client(url()).close()
            return True
        except amqp.Closed:
            return False
    wait_for(free, 30, "connections are free again")
    check("and has them back when they are closed", True)


def section_random():
    """Random bytes inside of valid sessions harm nobody."""
    import random
    rng = random.Random(7)
    pids = svc.workers()
    group, _ = submit(["r"])
    consume = b"\0\0" + amqp.sstr(prefix() + group) + b"\0\0" + amqp.lstr(b"")
    for i in range(60):
        c = amqp.Client(url())
        try:
            c.open(1)
            for _ in range(20):
                args = bytes(rng.randrange(256) for _ in range(rng.randrange(40))) if rng.random() < 0.5 else consume
                c.send(amqp.method(rng.randrange(3), rng.choice([10, 20, 60]), rng.choice([10, 11, 20, 30, 31, 40, 41, 50, 51, 80, 90, 120]), args))
            c.step(0.05)
        except (amqp.Closed, OSError, amqp.Bad):
            pass
        c.drop()
    check("1200 random methods, and the workers live", svc.workers() == pids, (pids, svc.workers()))


# ---- TLS and configuration -------------------------------------------------------------------------------------------


def section_tls():
    key, cert = os.path.join(place.path, "key.pem"), os.path.join(place.path, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.chmod(key, 0o600)
    svc.stop()
    svc.sets.update({"amqp.tls_certificate": cert, "amqp.tls_key": key})
    svc.start(config=os.path.join(ROOT, "config", "service.yaml"))
    group, tasks = submit(["t%d" % i for i in range(20)] + ["big500000"])
    u = url()
    check("with a certificate the address is amqps", u.startswith("amqps://"), u)
    c = consumer(group, context=ssl.create_default_context(cafile=cert))
    got = take(c, 21)
    check("results come over TLS", sorted(d.result()["task_id"] for d in got) == sorted(tasks), len(got))
    c.close()
    s = connect()
    s.sendall(amqp.PROTOCOL)
    out = ends(s)
    check("a client without TLS is not served", out is not None and amqp.PROTOCOL not in out, out)
    for name, sets, word in [
            ("beyond this machine, without TLS", ["amqp.listen=0.0.0.0:5672"], "amqp.tls_certificate"),
            ("a certificate without its key", ["amqp.listen=127.0.0.1:0", "amqp.tls_certificate=" + cert], "amqp.tls_key"),
            ("an address that is none", ["amqp.listen=127.0.0.1:0", "amqp.public_url=http://x"], "amqp.public_url")]:
        p = subprocess.run([svc.bin, "check-config"] + [a for k in sets for a in ("--set", k)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           universal_newlines=True)
        check("refused: " + name, p.returncode != 0 and word in p.stdout, p.stdout)
    p = subprocess.run([svc.bin, "check-config", "--set", "amqp.listen=0.0.0.0:5671", "--set", "amqp.tls_certificate=" + cert, "--set", "amqp.tls_key=" + key],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    check("with TLS it may listen on all addresses", p.returncode == 0, p.stdout)
    svc.stop()
    for k in ("amqp.tls_certificate", "amqp.tls_key"):
        del svc.sets[k]
    svc.sets.update({"amqp.listen": "0.0.0.0:0", "amqp.allow_plain": "true"})
    svc.start(config=os.path.join(ROOT, "config", "service.yaml"))
    a = svc.get("/v2/get_amqp_result_connection_url", headers={"Host": "weft.example.org:5000"}).json
    check("a service on all addresses is called as the client called it", "@weft.example.org:" in a["connection_url"], a)
    svc.stop()
    svc.sets["amqp.public_url"] = "amqps://results.example.org:443"
    svc.start(config=os.path.join(ROOT, "config", "service.yaml"))
    check("or by amqp.public_url", url().endswith("@results.example.org:443/") and url().startswith("amqps://"), url())


def section_metrics():
    text = svc.get("/metrics", token=None).text
    names = ("connections", "buffered_bytes", "delivered_total", "acknowledged_total", "refused_total")
    check("metrics", all("weft_service_amqp_" + n in text for n in names))


redis_for_store = redis.client()
for section in (section_address, section_results, section_buffering, section_unwatched, section_giving_back, section_two_consumers, section_prefetch,
                section_bound, section_restart, section_access, section_garbage, section_hostile_sessions, section_heartbeats, section_slow_readers,
                section_floods, section_random, section_metrics, section_tls):
    r.guard(section)
check("the service has not complained about itself", " lvl=error " not in svc.log(), [x for x in svc.log().splitlines() if " lvl=error " in x][:3])
check("it stops in order", svc.stop() == 0)
forwarder.stop()
check("the forwarder that was played had no trouble", forwarder.failure is None, forwarder.failure)
redis.stop()
r.end()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Event streams and result pages of weft-service with a real Redis; the forwarder's part is played here."""
import argparse
import http.client
import os
import random
import signal
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
from e2e import anonymous, sanitized  # noqa: E402
from service_helpers import Forwarder, Place, Redis, Report, Service, wait_for  # noqa: E402
from sse import Stream  # noqa: E402

arg = argparse.ArgumentParser()
arg.add_argument("--build", default="build")
arg.add_argument("--streams", type=int, default=2000, help="idle ones")
arg.add_argument("only", nargs="*", help="sections to run")
arg = arg.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
r = Report()
check = r.check
place = Place()
redis = Redis(place.path).start()
svc = Service(arg.build, place.path, redis.url, workers=2, limits__streams=arg.streams + 100, stream__heartbeat="600s", drain_grace="3s")
svc.start()
raw = redis.client()
KEY = "0123456789" * 4
svc.command("user", "add", "bob")
bob = svc.command("token", "create", "--user", "bob").stdout.strip()
f = svc.post("/v3/functions", {"function_name": "f", "function_code": "410\n01\nx", "meta": {"python_version": "3.11.2"}}).json["function_uuid"]


def endpoint():
    return svc.post("/v3/endpoints", {"endpoint_name": "e", "metadata": {"hostname": "h"}, "weft": {"public_key": KEY}}).json["endpoint_id"]


def submit(e, payloads, group=None, watch=False):
    """(task ids, group)"""
    a = svc.post("/v3/endpoints/%s/submit" % e, dict({"tasks": {f: payloads}, "create_queue": watch}, **({"task_group_id": group} if group else {})))
    assert a.status == 200, a
    return a.json["tasks"][f], a.json["task_group_id"]


def stream(group, after=None, token="own", query="", **kw):
    return Stream(svc.port, "/v3/taskgroups/%s/events%s" % (group, query), svc.token if token == "own" else token, after, **kw)


def follow(group, after, count):
    """`count` events after a place, resumed as often as the stream ends; and the last place."""
    got, until = [], time.monotonic() + 30
    while len(got) < count and time.monotonic() < until:
        s = stream(group, after=after)
        got += s.read(count - len(got), timeout=10)
        after = s.last
        s.close()
    return ids_of(got), after


def error(name, status, code, a):
    j = a.json if isinstance(a.json, dict) else {}
    return check(name, a.status == status and j.get("code") == code and isinstance(j.get("detail"), str), (a.status, j))


def metric(name):
    text = svc.get("/metrics", token=None).text
    return sum(float(line.split()[-1]) for line in text.split("\n") if line.startswith(name + " ") or line.startswith(name + "{"))


def ids_of(events):
    return [x.data["task_id"] for x in events if x.kind == "task"]


def live():
    e = endpoint()
    fw = Forwarder(redis, e, lambda t: {"status": 2, "fault": 1, "code": 20, "error": "it broke"} if t["payload"] == b"bad" else {"status": 1, "result": t["payload"]})
    a = svc.post("/v3/taskgroups")
    group = a.json["taskgroup_id"]
    check("a group can be made before its first task", a.status == 200 and str(uuid.UUID(group)) == group and a.json["create_websockets_queue"] is True, a)
    s = stream(group)
    check("the stream opens at once", s.status == 200 and s.headers["content-type"] == "text/event-stream" and s.headers["cache-control"] == "no-store", s.headers)
    seen = []
    for i in range(30):
        ids, g = submit(e, ["p%d" % i], group)
        began = time.monotonic()
        got = s.read(1)
        seen.append((time.monotonic() - began, ids, g, got))
    check("each end is an event, once", all(g == group and ids_of(got) == ids for _, ids, g, got in seen), seen[:3])
    doc = seen[3][3][0].data
    check("with the whole document", doc["status"] == "success" and doc["result"] == "p3" and doc["task_group_id"] == group and doc["function_id"] == f and
          doc["endpoint_id"] == e and "completion_t" in doc, doc)
    print("# from the end of the submission to the event: median %.2f ms" % (1e3 * sorted(x[0] for x in seen)[15]))
    places = [got[0].id for _, _, _, got in seen]
    check("places only grow", all(tuple(map(int, a.split("-"))) < tuple(map(int, b.split("-"))) for a, b in zip(places, places[1:])), places)
    submit(e, ["bad"], group)
    got = s.read(1)
    check("a failure", got[0].data["status"] == "failed" and got[0].data["exception"] == "it broke", got)
    fw.stop()
    waiting = submit(e, ["x", "y"], group)[0]
    svc.delete("/v3/tasks/" + waiting[1])
    got = s.read(1)
    check("a cancelled task", ids_of(got) == [waiting[1]] and got[0].data["status"] == "cancelled", got)
    check("stamps on request", "service_result" in stream(group, query="?trace=1").read(1)[0].data["stamps"] or
          "forwarder_result" in stream(group, query="?trace=1").read(1)[0].data["stamps"])
    s.close()
    s = stream(group, query="?brief=1")
    docs = [x.data for x in s.read(32)]
    check("brief: successes with their result only, all else whole", all(set(d) == {"task_id", "status", "result"} if d["status"] == "success" else "fault" in d
                                                                      for d in docs) and len(docs) == 32, docs[:2] + docs[-2:])
    s.close()
    wait_for(lambda: metric("weft_service_streams") == 0, 30, "streams are forgotten when their clients go")
    check("metrics", metric("weft_service_stream_events_total") >= 32 and metric("weft_service_streams_opened_total") >= 2)


def late():
    """Streams opened before, while and after 3,000 tasks end, on a group that nobody watched: none lost, none doubled."""
    e = endpoint()
    first, group = submit(e, ["a"] * 700)
    ids = list(first)
    fw = Forwarder(redis, e)
    results, threads = {}, []

    def listen(k, delay):
        time.sleep(delay)
        s = stream(group)
        events = []
        while len(events) < 3000 and not s.ended:
            got = s.read(1, timeout=30)
            if not got:
                break
            events += got
        results[k] = events + s.read(1, timeout=0.3)
        s.close()
    for k in range(6):
        threads.append(threading.Thread(target=listen, args=(k, k * 0.05)))
        threads[-1].start()
    for _ in range(23):
        ids += submit(e, ["b"] * 100, group)[0]
    for t in threads:
        t.join()
    fw.stop()
    check("all have all, each once", all(sorted(ids_of(x)) == sorted(ids) for x in results.values()), {k: (len(v), len(set(ids_of(v)))) for k, v in results.items()})
    orders = [ids_of(x) for x in results.values()]
    check("all in the same order", all(o == orders[0] for o in orders))
    s = stream(group)
    check("and so has one that comes after all", ids_of(s.read(3000)) == orders[0])
    s.close()
    lone, group = submit(e, ["alone"])
    fw = Forwarder(redis, e)
    wait_for(lambda: svc.get("/v3/tasks/" + lone[0]).json["status"] == "success")
    more = submit(e, ["joins", "too"], group)[0]
    s = stream(group)
    check("a lone task and those that joined it", sorted(ids_of(s.read(3))) == sorted(lone + more))
    s.close()
    fw.stop()


def resume():
    e = endpoint()
    fw = Forwarder(redis, e)
    ids, group = submit(e, ["x"] * 250, watch=True)
    s = stream(group)
    events = s.read(250)
    s.close()
    order = ids_of(events)
    ok = True
    for k in (0, 1, 99, 100, 248, 249):
        for how in ({"after": events[k].id}, {"query": "?after=" + events[k].id}):
            s = stream(group, **how)
            got = ids_of(s.read(249 - k, timeout=10 if k < 249 else 0.2))
            ok = ok and got == order[k + 1:]
            s.close()
    check("from any event on, by header and by parameter", ok)
    seen, last, cuts = [], None, 0
    rng = random.Random(4)
    submitted = threading.Thread(target=lambda: [submit(e, ["y"] * 20, group) for _ in range(30)])
    submitted.start()
    while len(seen) < 850 and cuts < 2000:
        s = stream(group, after=last)
        got = s.read(rng.randrange(1, 40), timeout=20)
        seen += ids_of(got)
        last = s.last
        s.close()
        cuts += 1
    submitted.join()
    check("a client that is cut off again and again loses none and sees none twice", len(seen) == 850 and len(set(seen)) == 850, (len(seen), len(set(seen)), cuts))
    for bad in ("x", "1", "1-", "-1", "1-1-1", "99999999999999999999-0", "1-1 ", "$", "+"):
        a = stream(group, after=bad) if bad != "1-1 " else stream(group, query="?after=1-1%20")
        if not (a.status == 400 and a.json["code"] == "REQUEST_MALFORMED"):
            check("a place that is none is refused", False, (bad, a.status))
            break
        a.close()
    else:
        check("a place that is none is refused", True)
    error("someone else's group", 403, "TASK_GROUP_ACCESS_FORBIDDEN", stream(group, token=bob))
    error("an unknown group", 404, "TASK_GROUP_NOT_FOUND", stream(str(uuid.uuid4())))
    error("not a group", 400, "INVALID_UUID", stream("x"))
    error("no token", 401, "USER_UNAUTHENTICATED", stream(group, token=None))
    for path in ("results", "events"):
        a = svc.get("/v3/taskgroups/%s/%s" % (group, path), token=bob)
        error("someone else's %s" % path, 403, "TASK_GROUP_ACCESS_FORBIDDEN", a)
    # what is kept no more is told
    raw("XTRIM", "weft:group:{%s}:done" % group, "MAXLEN", "10")
    s = stream(group, after=events[5].id)
    got = s.read(11)
    check("a client that comes too late is told of the gap", got[0].kind == "gap" and got[0].data == {"missed": 840} and len(got) == 11, got[:1])
    s.close()
    s = stream(group, after=got[3].id)
    check("one that has read further is not", s.read(7)[0].kind == "task")
    s.close()
    path = "/v3/taskgroups/%s/results?limit=4&cursor=" % group
    a = svc.get(path + events[5].id)
    check("a page says so too, ahead of what is left", a.json.get("missed") == 840 and [d["task_id"] for d in a.json["results"]] == ids_of(got)[:4], a)
    a = svc.get(path + a.json["cursor"])
    check("but not the next one", "missed" not in a.json and [d["task_id"] for d in a.json["results"]] == ids_of(got)[4:8], a)
    raw("XTRIM", "weft:group:{%s}:done" % group, "MAXLEN", "0")
    a = svc.get(path + events[5].id + "&wait=30")
    check("also when nothing is left", a.json.get("missed") == 850 and a.json["results"] == [] and a.json["cursor"] == got[-1].id, a)
    s = stream(group, after=events[5].id)
    check("nor is that told twice in a stream", [x.kind for x in s.read(1)] == ["gap"] and submit(e, ["new"], group) and [x.kind for x in s.read(1)] == ["task"])
    s.close()
    fw.stop()


def large():
    e = endpoint()
    fw = Forwarder(redis, e, lambda t: {"status": 1, "result": b"r" * int(t["payload"])})
    group = svc.post("/v3/taskgroups").json["taskgroup_id"]
    s = stream(group)
    sizes = (0, 60000, 70000, 3000000, 10)
    ids = [submit(e, [str(n)], group)[0][0] for n in sizes]
    docs = {x.data["task_id"]: x.data for x in s.read(5)}
    check("small results are in their events", all(docs[i]["result"] == "r" * n for i, n in zip(ids, sizes) if n <= 60000), {k: len(str(v)) for k, v in docs.items()})
    for i, n in ((ids[2], 70000), (ids[3], 3000000)):
        d = docs[i]
        check("a large one is referred to", "result" not in d and d["result_ref"] == "/v3/tasks/" + i and d["result_bytes"] >= n and d["status"] == "success", str(d)[:300])
        check("and can be had there", len(svc.get(d["result_ref"]).json["result"]) == n)
    a = svc.get("/v3/taskgroups/%s/results" % group)
    check("pages have results of any size", [len(x["result"]) for x in a.json["results"]] == [sizes[ids.index(i)] for i in docs], a)
    s.close()
    fw.stop()


def pages():
    e = endpoint()
    fw = Forwarder(redis, e)
    ids, group = submit(e, [str(i) for i in range(25)])
    wait_for(lambda: all(d["status"] == "success" for d in svc.post("/v3/batch_status", {"task_ids": ids}).json["results"].values()))
    path = "/v3/taskgroups/%s/results" % group
    seen, cursor, sizes, more = [], "", [], True
    while more:
        a = svc.get(path + "?limit=10&cursor=" + cursor)
        seen += [d["task_id"] for d in a.json["results"]]
        cursor, more = a.json["cursor"], a.json["more"]
        sizes.append(len(a.json["results"]))
    check("page by page, each once", seen == ids and sizes == [10, 10, 5], sizes)
    began = time.monotonic()
    a = svc.get(path + "?wait=0.3&cursor=" + cursor)
    check("nothing new within the wait", a.json["results"] == [] and a.json["cursor"] == cursor and 0.25 < time.monotonic() - began < 20, a)
    t = threading.Timer(0.3, submit, (e, ["late"], group))
    t.start()
    a = svc.get(path + "?wait=20&cursor=" + cursor)
    check("answered by the next end", len(a.json["results"]) == 1 and a.json["results"][0]["result"] == "late" and time.monotonic() - began < 19, a)
    t.join()
    error("a cursor that is none", 400, "REQUEST_MALFORMED", svc.get(path + "?cursor=abc"))
    error("a limit that is none", 400, "REQUEST_MALFORMED", svc.get(path + "?limit=0"))
    error("pages of an unknown group", 404, "TASK_GROUP_NOT_FOUND", svc.get("/v3/taskgroups/%s/results" % uuid.uuid4()))
    fw.stop()


def slow():
    """A reader that takes nothing costs a bounded buffer; when it reads again it gets all."""
    e = endpoint()
    fw = Forwarder(redis, e, lambda t: {"status": 1, "result": b"r" * 20000})
    group = svc.post("/v3/taskgroups").json["taskgroup_id"]
    s = stream(group, receive_buffer=65536)
    wait_for(lambda: metric("weft_service_streams") == 1, 30, "the service has the stream")
    before, paused = {p: anonymous(p) for p in svc.workers()}, metric("weft_service_stream_pauses_total")
    ids = []
    for _ in range(20):
        ids += submit(e, ["x"] * 100, group)[0]     # 40 MB of results
    wait_for(lambda: raw("XLEN", "weft:group:{%s}:done" % group) == 2000, 60, "all ended")
    wait_for(lambda: metric("weft_service_stream_pauses_total") > paused, 30, "the stream pauses")
    grown = max(anonymous(p) - before.get(p, 0) for p in svc.workers())
    check("memory for a reader that takes nothing is bounded", grown < (256 << 20 if sanitized(svc.proc.pid) else 16 << 20), grown)
    check("and the pause is counted", True)
    other = stream(group)
    check("others are not held up", len(other.read(2000)) == 2000)
    other.close()
    got = s.read(2000)
    check("when it reads it gets all, in order, once", sorted(ids_of(got)) == sorted(ids) and len(got) == 2000, len(got))
    s.close()
    fw.stop()


def behind():
    """A reader that falls behind by more than is kept is told what it missed, in the middle of its stream."""
    e = endpoint()
    fw = Forwarder(redis, e, lambda t: {"status": 1, "result": b"r" * 20000})
    group = svc.post("/v3/taskgroups").json["taskgroup_id"]
    key, before = "weft:group:{%s}:done" % group, metric("weft_service_stream_pauses_total")
    s = stream(group, receive_buffer=65536)
    wait_for(lambda: metric("weft_service_streams") == 1, 30, "the service has the stream")
    ids = []
    for _ in range(10):
        ids += submit(e, ["x"] * 100, group)[0]
    wait_for(lambda: raw("XLEN", key) == 1000, 60, "all ended")
    wait_for(lambda: metric("weft_service_stream_pauses_total") > before, 30, "the stream pauses")
    raw("XTRIM", key, "MAXLEN", "10")
    last, got = raw("XREVRANGE", key, "+", "-", "COUNT", "1")[0][0].decode(), []
    while not got or got[-1].id != last:
        more = s.read(1)
        assert more, got[-1:]
        got += more
    at = [i for i, x in enumerate(got) if x.kind == "gap"]
    check("it is told, once, between what it had and what is left", at == [len(got) - 11] and at[0] > 0 and got[at[0]].data == {"missed": 990}, (at, len(got)))
    check("nothing is told twice", len(set(ids_of(got))) == len(got) - 1 and set(ids_of(got)) < set(ids), len(got))
    ids = submit(e, ["x"], group)[0]
    check("and it goes on", ids_of(s.read(1)) == ids)
    s.close()
    fw.stop()


def cut_from_redis():
    """The service's subscription is lost while tasks end."""
    e = endpoint()
    fw = Forwarder(redis, e)
    group = svc.post("/v3/taskgroups").json["taskgroup_id"]
    s = stream(group)
    ids = []
    for _ in range(20):
        ids += submit(e, ["x"] * 10, group)[0]
        raw("CLIENT", "KILL", "TYPE", "pubsub")
    got = []
    while len(got) < 200:
        more = s.read(1, timeout=20)
        if not more:
            break
        got += more
    check("none lost and none doubled", sorted(ids_of(got)) == sorted(ids), (len(got), len(set(ids_of(got)))))
    s.close()
    fw.stop()


def killed():
    """kill -9 of a worker of the service in the middle of streams: their clients resume elsewhere."""
    e = endpoint()
    fw = Forwarder(redis, e)
    group = svc.post("/v3/taskgroups").json["taskgroup_id"]
    stop, until = threading.Event(), time.monotonic() + 240
    results, ids = {}, []

    def listen(k):
        seen, last, cuts = [], None, 0

        def wanted():
            return (not stop.is_set() or len(seen) < len(ids)) and time.monotonic() < until
        while wanted():
            try:
                s = stream(group, after=last, timeout=10)
            except (OSError, ConnectionError):
                time.sleep(0.05)
                continue
            while not s.ended and wanted():
                seen += ids_of(s.read(1, timeout=0.5))
            last = s.last
            cuts += s.ended
            s.close()
            if cuts > 500:
                break
        results[k] = (seen, cuts)
    threads = [threading.Thread(target=listen, args=(k,), daemon=True) for k in range(6)]
    for t in threads:
        t.start()
    for round in range(4):
        for _ in range(10):
            ids += submit_safely(e, ["x"] * 20, group)
        os.kill(random.choice(wait_for(svc.workers)), signal.SIGKILL)
    wait_for(lambda: raw("XLEN", "weft:group:{%s}:done" % group) == len(ids), 60, "all ended")
    stop.set()
    for t in threads:
        t.join(60)
    check("none lost and none doubled", len(results) == 6 and all(sorted(s) == sorted(ids) for s, _ in results.values()),
          {k: (len(s), len(set(s)), c) for k, (s, c) in results.items()})
    check("and streams were cut", sum(c for _, c in results.values()) > 0)
    fw.stop()


def submit_safely(e, payloads, group):
    """What gets no answer is sent again, under the same key: a claim of a process that died is held for a minute."""
    key, until = str(uuid.uuid4()), time.monotonic() + 90
    while True:
        try:
            a = svc.post("/v3/endpoints/%s/submit" % e, {"tasks": {f: payloads}, "create_queue": False, "task_group_id": group}, headers={"Idempotency-Key": key})
            if a.status == 200:
                return a.json["tasks"][f]
        except (OSError, http.client.HTTPException) as lost:
            a = lost
        if time.monotonic() > until:
            raise AssertionError(repr(a))
        time.sleep(0.05)


def restarted():
    """A service that is told to read its configuration again replaces its workers: streams end, and go on."""
    e = endpoint()
    fw = Forwarder(redis, e)
    ids, group = submit(e, ["x"] * 5, watch=True)
    s = stream(group)
    got = s.read(5)
    svc.proc.send_signal(signal.SIGHUP)
    s.read(1, timeout=60)
    check("the stream ends whole", s.ended and not s.raw and not s.text, (s.ended, s.raw, s.text))
    more = submit(e, ["y"] * 5, group)[0]
    again, last = follow(group, s.last, 5)
    check("and goes on in a new worker", sorted(again) == sorted(more) and len(got) == 5, (again, more))
    svc.stop()
    svc.start()
    more = submit(e, ["z"] * 5, group)[0]
    again, last = follow(group, last, 5)
    check("also after a stop and start", sorted(again) == sorted(more), (again, more))
    fw.stop()


def limits():
    """Heartbeats, age, and the most streams."""
    other = Service(arg.build, place.path, redis.url, limits__streams=3, stream__heartbeat="200ms", stream__max_age="5s")
    other.sets["registry.path"], other.sets["auth.token_file"] = svc.sets["registry.path"], svc.sets["auth.token_file"]
    other.start()
    group = svc.post("/v3/taskgroups").json["taskgroup_id"]
    path = "/v3/taskgroups/%s/events" % group
    began = time.monotonic()
    open_ = [Stream(other.port, path, other.token) for _ in range(3)]
    a = Stream(other.port, path, other.token)
    error("one stream too many", 503, "TOO_MANY_STREAMS", a)
    check("which says when to come again", int(a.headers["retry-after"]) > 0, a.headers)
    s = open_[0]
    while not s.ended and time.monotonic() - began < 30:
        s.read(1, timeout=30)
    check("a silent stream sends comments", s.comments >= 3 and s.retry == 1000, (s.comments, s.retry))
    check("and ends at its age", s.ended and 4.9 < time.monotonic() - began < 29, time.monotonic() - began)
    for s in open_:
        s.read(1, timeout=30)
    s = wait_for(lambda: (lambda x: x if x.status == 200 else None)(Stream(other.port, path, other.token)), 30, "room for one")
    check("then there is room again", True)
    head = other.request("HEAD", path)
    check("HEAD does not wait", head.status == 200 and head.headers["Content-Type"] == "text/event-stream", head)
    s.close()
    other.stop()


def idle():
    """Very many idle streams on one process: what one costs."""
    one = Service(arg.build, place.path, redis.url, workers=1, limits__streams=arg.streams + 100)
    one.sets["registry.path"], one.sets["auth.token_file"] = svc.sets["registry.path"], svc.sets["auth.token_file"]
    one.start()
    pid = one.workers()[0]
    e = endpoint()
    fw = Forwarder(redis, e)
    groups = [one.post("/v3/taskgroups").json["taskgroup_id"] for _ in range(arg.streams // 4)]
    Stream(one.port, "/v3/taskgroups/%s/events" % groups[0], one.token).close()
    before = anonymous(pid)
    began = time.monotonic()
    streams = [Stream(one.port, "/v3/taskgroups/%s/events" % groups[i % len(groups)], one.token) for i in range(arg.streams)]
    took = time.monotonic() - began
    each = (anonymous(pid) - before) / arg.streams
    print("# %d idle streams of %d groups in one process: %.0f bytes of memory each, opened in %.2f s" % (arg.streams, len(groups), each, took))
    check("an idle stream costs little", each < (32768 if sanitized(pid) else 8192), each)
    began = time.monotonic()
    told = submit(e, ["x"], groups[7])[0]
    mine = [s for i, s in enumerate(streams) if i % len(groups) == 7]
    check("and those of one group are told at once", all(ids_of(s.read(1)) == told for s in mine) and time.monotonic() - began < 20, time.monotonic() - began)
    check("others are not", not streams[8].read(1, timeout=0.1))
    with open("/proc/%d/stat" % pid) as fd:
        ticks = sum(map(int, fd.read().rsplit(")", 1)[1].split()[11:13]))
    time.sleep(2)
    with open("/proc/%d/stat" % pid) as fd:
        spent = sum(map(int, fd.read().rsplit(")", 1)[1].split()[11:13])) - ticks
    check("idle ones cost no time", spent <= 20, "%d ticks of 200" % spent)
    for s in streams:
        s.close()
    wait_for(lambda: "weft_service_streams 0" in one.get("/metrics", token=None).text, 30, "all forgotten")
    one.stop()
    fw.stop()


for section in (live, late, resume, large, pages, slow, behind, cut_from_redis, killed, restarted, limits, idle):
    if not arg.only or section.__name__ in arg.only:
        r.guard(section)
svc.stop()
r.end()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""weft-forwarder between a private redis-server and a scripted endpoint (python3-zmq, tests/lib/wire.py): order, window, redelivery, leases,
versions, keys, Redis away and full, cancel, deletion, large payloads, malformed messages."""
import argparse
import contextlib
import datetime
import os
import shutil
import signal
import socket
import struct
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
    import bulkstore
    import versions
    import wire
    from fabric import processes
    from relay import Relay
    if not shutil.which("redis-server"):
        raise ImportError("no redis-server")
except ImportError as e:
    print("skip - forwarder: %s" % e)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

BUILD = None
TESTS = []
KINDS = {v: k for k, v in wire.TYPES.items()}


def test(f):
    TESTS.append(f)
    return f


def wait(cond, seconds, what):
    end = time.monotonic() + seconds
    while True:
        v = cond()
        if v:
            return v
        if time.monotonic() > end:
            raise AssertionError("%s: not within %g s" % (what, seconds))
        time.sleep(0.01)


class RedisError(Exception):
    pass


class Redis:
    """redis-server on a unix socket, and a client of it (RESP2)."""

    def __init__(self, tmp):
        self.tmp, self.path, self.p, self.s = tmp, os.path.join(tmp, "redis.sock"), None, None
        self.start()

    def start(self):
        self.p = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.path, "--dir", self.tmp, "--save", "",
                                   "--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.s = None

        def ready():
            try:
                return self("PING") == b"PONG"
            except (OSError, RedisError):
                self.s = None
                return False
        wait(ready, 30, "redis-server")

    def kill(self):
        self.p.kill()
        self.p.wait()
        if self.s:
            self.s.close()
        self.s = None

    def __call__(self, *args):
        if not self.s:
            self.s = socket.socket(socket.AF_UNIX)
            self.s.settimeout(30)
            self.s.connect(self.path)
            self.f = self.s.makefile("rb")
        out = [b"*%d\r\n" % len(args)]
        for a in args:
            a = a if isinstance(a, bytes) else str(a).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(a), a))
        self.s.sendall(b"".join(out))
        return self.reply()

    def reply(self):
        line = self.f.readline()
        if not line:
            raise OSError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.f.read(int(rest) + 2)[:-2]
        return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]


class Endpoint:
    """Plays the endpoint: a DEALER with CURVE, or one at the socket in the bulk store. Acknowledges nothing by itself."""

    def __init__(self, rig, window=1000, version=versions.OURS, key=None, ident=None, up=True, window_bytes=1 << 30, bulk=None, within=False):
        self.rig, self.window, self.window_bytes, self.version = rig, window, window_bytes, version
        self.key, self.id, self.instance = key or rig.key, ident or rig.id, uuid.uuid4().int & (2 ** 63 - 1)
        self.sock, self.epoch, self.session, self.seq = None, 0, None, 0
        self.bulk, self.agreed, self.within = bulk, 0, within   # the id of its bulk store
        self.tasks, self.acks, self.functions, self.log, self.cancels, self.reject, self.bye = [], [], {}, [], [], None, None
        self.drains, self.beats = [], 0
        self.dial()
        if up:
            self.until(lambda: self.epoch, 30, "WELCOME")
            self.capacity()

    def dial(self):
        if self.sock:
            self.sock.close(0)
        h = self.rig.wait_addr() if not self.within else {}
        self.addr = h.get(b"addr")
        s = self.sock = self.rig.ctx.socket(zmq.DEALER)
        s.setsockopt(zmq.LINGER, 0)
        if self.within:
            s.connect("ipc://%s/bulk/link-%s" % (self.rig.tmp, self.rig.id))
        else:
            s.curve_publickey, s.curve_secretkey = self.key
            s.curve_serverkey = h[b"fwd_key"]
            s.connect(self.addr.decode())
        self.epoch, self.reject, self.bye, self.hello_at = 0, None, None, 0

    def redial(self, seconds=30):
        self.dial()
        self.until(lambda: self.epoch, seconds, "WELCOME again")
        self.capacity()

    def say_hello(self):
        self.hello_at = time.monotonic()
        self.raw(self.version.message("HELLO", [self.version.encode("HELLO", dict(
            self.version.hello, role=1, id=self.id, instance=self.instance, slots=4, name="node", version="test", runtime="{}",
            capabilities=1 if self.bulk else 0, bulk=self.bulk or wire.NO_ID, **({"key": self.key[0]} if self.within else {})))]))

    def raw(self, frames):
        self.sent_at = time.monotonic()
        try:
            self.sock.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            pass    # refused in the handshake: nobody is there

    def send(self, kind, records):
        self.seq += 1
        self.raw(self.version.message(kind, records, self.epoch, self.seq))

    def capacity(self, window=None):
        if window is not None:
            self.window = window
        self.send("CAPACITY", [self.version.encode("CAPACITY", {"window_tasks": self.window, "window_bytes": self.window_bytes, "slots": 4,
                                                       "free_slots": 4, "time_left_s": 0xffffffff})])

    def results(self, ids, **fields):
        r = dict({"status": 1, "result": b"done"}, **fields)
        self.send("RESULT", [self.version.encode("RESULT", dict(r, task=i)) for i in ids])

    def returns(self, ids):
        self.send("TASK_RETURN", [wire.encode_ids(ids)])

    def pump(self, ms=20):
        if not self.epoch and not self.reject and time.monotonic() - self.hello_at > 1:
            self.say_hello()
        if self.epoch and time.monotonic() - self.sent_at > 0.5:
            self.send("HEARTBEAT", [])
        if not self.sock.poll(ms):
            return
        while self.sock.poll(0):
            self.take(self.sock.recv_multipart())

    def take(self, frames):
        head = wire.decode_header(frames[0])
        kind = KINDS[head["type"]]
        if kind == "WELCOME":
            w = wire.decode("WELCOME", frames[1])
            self.epoch, self.session, self.agreed = w["epoch"], (w["major"], w["minor"]), w["capabilities"]
            return
        if kind in ("REJECT", "BYE"):
            setattr(self, kind.lower(), wire.decode(kind, frames[1]))
            return
        assert head["epoch"] == self.epoch, (kind, head)
        head, recs = wire.decode_message(frames)
        self.beats += kind == "HEARTBEAT"
        for i, r in enumerate(recs):
            if kind == "TASK":
                self.log.append(("task", r["task"]))
                r["fixed"] = int.from_bytes(frames[1 + i][:2], "little")
                r["code"] = self.functions.get(r["function"], {}).get("code")       # as it was when the task came
                self.tasks.append(r)
            elif kind == "FUNCTION":
                self.log.append(("function", r["id"]))
                self.functions[r["id"]] = r
            elif kind == "RESULT_ACK":
                # the promise: acknowledged only after it is stored
                if self.rig.check_acks:
                    s = self.rig.redis("HGET", self.rig.tkey(r), "s")
                    assert s is None or s >= b"5", "acknowledged, but state is %r" % s
                self.acks.append(r)
            elif kind == "CANCEL":
                self.cancels.append(r)
            elif kind == "DRAIN":
                self.drains.append(r["start"])

    def until(self, cond, seconds, what):
        end = time.monotonic() + seconds
        while not cond():
            if time.monotonic() > end:
                raise AssertionError("%s: not within %g s" % (what, seconds))
            self.pump()

    def calm(self, ms=300):
        end = time.monotonic() + ms / 1000
        while time.monotonic() < end:
            self.pump()

    def ids(self):
        return [t["task"] for t in self.tasks]

    def got(self, n, seconds=30):
        self.until(lambda: len(self.tasks) >= n, seconds, "%d tasks (have %d)" % (n, len(self.tasks)))

    def close(self):
        self.sock.close(0)


class Rig:
    def __init__(self, mode="run", sets=(), register=True, start=True):
        self.tmp = tempfile.mkdtemp(prefix="weft-t-")
        self.redis = Redis(self.tmp)
        self.ctx = zmq.Context()
        self.key = zmq.curve_keypair()
        self.id, self.fn = str(uuid.uuid4()), str(uuid.uuid4())
        self.sets, self.procs, self.check_acks = list(sets), [], True
        self.log = open(os.path.join(self.tmp, "log"), "w+")
        self.ends = []
        if register:
            self.redis("HSET", self.ekey(), "key", self.key[0], "owner", str(uuid.uuid4()), "name", "ep")
            self.redis("SADD", "weft:eps", self.id)
        self.function(self.fn)
        if start:
            self.start(mode)

    def __enter__(self):
        return self

    def start(self, mode="run"):
        args = [os.path.join(BUILD, "bin", "weft-forwarder"), mode, "--config", os.devnull, "--set", "redis.url=unix://" + self.redis.path, "--set", "lease=5s",
                "--set", "heartbeat.period=500ms", "--set", "heartbeat.threshold=5s", "--parent-pid", str(os.getpid())]
        for s in self.sets:
            args += ["--set", s]
        if mode == "run":
            args += ["--endpoint", self.id]
        p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stderr=self.log)
        self.procs.append(p)
        return p

    def dies(self):
        """The forwarder is killed, and its lease has run out."""
        self.procs[-1].kill()
        self.procs[-1].wait()
        self.redis("DEL", self.ekey("lease"))

    def __exit__(self, kind, value, tb):
        bad = None
        for e in self.ends:
            e.close()
        for p in self.procs:
            if p.poll() is None:
                p.send_signal(signal.SIGCONT)
                p.terminate()
        for p in self.procs:
            try:
                p.wait(15)
            except subprocess.TimeoutExpired:
                bad = "did not end on SIGTERM"
                p.kill()
                p.wait()
        self.redis.kill()
        self.ctx.destroy(0)     # of an endpoint that got no session, too
        self.log.seek(0)
        text = self.log.read()
        if "Sanitizer" in text or "runtime error:" in text:
            bad = "sanitizer report"
        if kind or bad:
            sys.stderr.write("".join("    " + x + "\n" for x in text.split("\n")[-60 if not bad else -200:]))
        self.log.close()
        shutil.rmtree(self.tmp, ignore_errors=True)
        if bad and not kind:
            raise AssertionError(bad)

    def endpoint(self, *a, **k):
        e = Endpoint(self, *a, **k)
        self.ends.append(e)
        return e

    # ---- what the service writes

    def ekey(self, suffix=None):
        return "weft:ep:{%s}%s" % (self.id, ":" + suffix if suffix else "")

    @staticmethod
    def tkey(task, suffix=None):
        return "weft:task:{%s}%s" % (task, ":" + suffix if suffix else "")

    def function(self, fn, code="def f(): pass", **more):
        self.redis("SET", "weft:fn:{%s}" % fn, wire.encode("FUNCTION", dict(more, kind=2, id=fn, code=code, entry="f")))

    def change(self, fn, **more):
        """As the service does it; it tells all endpoints."""
        self.function(fn, **more)
        self.redis("XADD", self.ekey("control"), "*", "c", "function", "t", wire.id_bytes(fn))

    def submit_bulk(self, payload, written=None):
        """A task whose payload is in the bulk store, as the service writes it; written: what stands there instead, False: nothing."""
        task = str(uuid.uuid4())
        if written is not False:
            with open(os.path.join(self.tmp, "bulk", uuid.UUID(task).hex + ".p"), "wb") as f:
                f.write(payload if written is None else written)
        self.redis("HSET", self.tkey(task), "m", wire.encode_meta(
            {"owner": self.id, "function": self.fn, "endpoint": self.id, "group": task, "payload_bytes": len(payload), "payload_apart": True,
             "payload_bulk": True}), "s", "1")
        self.redis("XADD", self.ekey("tasks"), "*", "t", wire.encode_queued(
            {"task": task, "function": self.fn, "payload_apart": True, "payload_bulk": True, "payload_bytes": len(payload),
             "received_ns": time.time_ns(), "queued_ns": time.time_ns()}))
        return task

    def bulk_files(self):
        return bulkstore.names(os.path.join(self.tmp, "bulk"))

    def store_id(self):
        with open(os.path.join(self.tmp, "bulk", "id")) as f:
            return f.read().strip()

    def submit(self, n=1, payload=b"{}", fn=None, apart=None, endpoint=None, entry="*"):
        out = []
        for _ in range(n):
            task = str(uuid.uuid4())
            big = len(payload) > 16384 if apart is None else apart
            self.redis("HSET", self.tkey(task), "m", wire.encode_meta(
                {"owner": self.id, "function": fn or self.fn, "endpoint": endpoint or self.id, "group": task,
                 "payload_bytes": len(payload), "payload_apart": big}), "s", "1")
            if big:
                self.redis("SET", self.tkey(task, "payload"), payload)
            if not endpoint:
                self.redis("XADD", self.ekey("tasks"), entry, "t", wire.encode_queued(
                    {"task": task, "function": fn or self.fn, "payload": payload, "payload_apart": big,
                     "payload_bytes": len(payload), "received_ns": time.time_ns(), "queued_ns": time.time_ns()}))
            out.append(task)
        return out

    def cancel(self, task):
        rec = wire.encode("RESULT", {"status": 3, "fault": 1, "task": task, "error": "cancelled"})
        self.redis("HSET", self.tkey(task), "s", "7", "r", rec)
        self.redis("SADD", self.ekey("cancelled"), wire.id_bytes(task))
        self.redis("XADD", self.ekey("control"), "*", "c", "cancel", "t", wire.id_bytes(task))

    def state(self, task):
        return self.redis("HGET", self.tkey(task), "s")

    def result(self, task):
        return wire.decode("RESULT", self.redis("HGET", self.tkey(task), "r"))

    def consumers(self, stream):
        return [c[1].decode() for c in self.redis("XINFO", "CONSUMERS", self.ekey(stream), "forwarder")]

    def queued(self):
        return self.redis("XLEN", self.ekey("tasks"))

    def hash(self):
        h = self.redis("HGETALL", self.ekey())
        return dict(zip(h[::2], h[1::2]))

    def wait_addr(self, other_than=None, seconds=30):
        def look():
            h = self.hash()
            return h if b"addr" in h and h[b"addr"] != other_than and self.redis("EXISTS", self.ekey("lease")) else None
        return wait(look, seconds, "address of the forwarder")

    def text(self):
        with open(self.log.name) as f:
            return f.read()

    def logged(self, *messages, at_least=1):
        """When these were logged, in seconds, if that was so often."""
        times = [datetime.datetime.fromisoformat(line[3:26]).timestamp() for line in self.text().split("\n")
                 if any('msg="%s"' % m in line for m in messages)]
        return times if len(times) >= at_least else None

    def child(self, sup):
        def look():
            return next((p for p, (parent, _) in processes().items() if parent == sup.pid), None)
        return wait(look, 30, "a child of the supervisor")


def all_ended(g, tasks, seconds=30, e=None):
    def look():
        if e:
            e.pump()
        return all((g.state(t) or b"5") >= b"5" for t in tasks) and g.queued() == 0
    wait(look, seconds, "all tasks ended and the queue empty")


# ---- delivery ----------------------------------------------------------------------------------------------------

@test
def order_and_function_first():
    with Rig() as g:
        sent = g.submit(300)
        e = g.endpoint()
        e.got(300)
        assert e.ids() == sent
        assert e.log[0] == ("function", g.fn) and [k for k, _ in e.log].count("function") == 1
        t = e.tasks[0]
        assert t["payload"] == b"{}" and 0 < t["stamps"][0] <= t["stamps"][1] <= t["stamps"][2] <= t["stamps"][3]
        h = g.hash()
        assert h[b"up"] == b"1" and int(h[b"seen"]) > 0 and b'"slots"' in h[b"cap"], h
        other = str(uuid.uuid4())
        g.function(other)
        more = g.submit(3, fn=other) + g.submit(3)
        e.got(306)
        assert e.ids()[300:] == more
        assert e.log.index(("function", other)) < e.log.index(("task", more[0]))


@test
def metrics_are_of_the_session():
    with Rig() as g:
        e = g.endpoint()

        def says(*records):
            e.send("METRICS", [wire.encode("METRICS", {"json": r}) for r in records])

        def stands(text):
            wait(lambda: (e.pump(), g.hash().get(b"metrics") == text)[1], 30, "%r in the hash" % text)
        stands(b"")
        for text in ('{"tasks_lost":1}', "no JSON", '{"tasks_lost":2}'):
            says(text)
            stands(text.encode())
        says('{"one":1}', '{"two":2}')       # malformed
        e.calm(300)
        stands(b'{"tasks_lost":2}')
        e.send("BYE", [wire.encode("BYE", {"code": 0, "text": ""})])
        wait(lambda: g.hash()[b"up"] == b"0", 30, "its end")
        stands(b"")


@test
def changed_function_is_not_overtaken():
    """A task that is submitted after a function was changed comes behind the changed record, whoever reads what first."""
    with Rig() as g:
        e = g.endpoint()
        g.submit(1)
        e.got(1)
        for i in range(150):
            code = "def f(): return %d" % i
            record = wire.encode("FUNCTION", {"kind": 2, "id": g.fn, "code": code, "entry": "f"})
            task = str(uuid.uuid4())
            meta = wire.encode_meta({"owner": g.id, "function": g.fn, "endpoint": g.id, "group": task, "payload_bytes": 2, "payload_apart": False})
            queued = wire.encode_queued({"task": task, "function": g.fn, "payload": b"{}", "payload_apart": False, "payload_bytes": 2,
                                         "received_ns": time.time_ns(), "queued_ns": time.time_ns()})
            # at once, so that both readers of the forwarder find theirs in the same moment
            g.redis("EVAL", """redis.call('SET', KEYS[1], ARGV[1]); redis.call('XADD', KEYS[2], '*', 'c', 'function', 't', ARGV[2]);
                               redis.call('HSET', KEYS[3], 'm', ARGV[3], 's', '1'); redis.call('XADD', KEYS[4], '*', 't', ARGV[4])""",
                    "4", "weft:fn:{%s}" % g.fn, g.ekey("control"), g.tkey(task), g.ekey("tasks"), record, wire.id_bytes(g.fn), meta, queued)
            e.got(i + 2)
            assert e.tasks[-1]["code"] == code.encode(), (i, e.tasks[-1]["code"])
            e.results([task])


@test
def changed_function_reaches_the_endpoint_that_has_it():
    """Whatever became of the forwarder that sent it, of the session, and of the body in its memory; and no other endpoint."""
    with Rig(sets=["limits.function_cache_bytes=1MiB"]) as g:
        e, strange = g.endpoint(), str(uuid.uuid4())

        def comes(image, how):
            e.until(lambda: e.functions[g.fn]["container"] == image, 30, how)
        g.function(g.fn, container="one", replicas=1)
        sent = g.submit(1)
        e.got(1)
        e.results(sent)
        again(g, e)
        g.change(strange, code="def secret(): pass", container="one", replicas=1)
        g.change(g.fn, container="two", replicas=1)
        comes(b"two", "of a new forwarder")
        g.change(g.fn, container="three")
        comes(b"three", "in the same session")
        g.change(g.fn, container="four", replicas=2)
        comes(b"four", "with replicas again")
        e.close()
        wait(lambda: g.hash()[b"up"] == b"0", 30, "it is gone")
        g.change(g.fn, container="five", replicas=1)
        wait(lambda: not g.redis("XLEN", g.ekey("control")), 30, "it was read while nobody was there")
        again(g, e)
        comes(b"five", "of a new forwarder, when the one before had read it")
        big = str(uuid.uuid4())
        g.function(big, code="#" * (2 << 20))
        g.submit(1, fn=big)
        e.got(2)
        g.change(g.fn, container="six", replicas=1)
        comes(b"six", "when its body had to make room")
        e.redial()
        g.change(g.fn, container="seven", replicas=1)
        comes(b"seven", "in another session than it was sent in")
        g.change(g.fn)
        comes(b"", "without a container")
        wait(lambda: not g.redis("EXISTS", g.ekey("functions")), 30, "nothing kept of it")
        assert strange not in e.functions, "it never had a task of that function"


@test
def window_is_respected():
    with Rig() as g:
        sent = g.submit(50)
        e = g.endpoint(window=7)
        e.got(7)
        e.calm()
        assert len(e.tasks) == 7, len(e.tasks)
        e.results(sent[:3])
        e.got(10)
        e.calm()
        assert len(e.tasks) == 10 and e.ids() == sent[:10]
        assert g.queued() == 47
        e.capacity(50)
        e.got(50)


@test
def window_bytes_are_respected():
    with Rig() as g:
        sent = g.submit(12, payload=b"x" * 100000)
        e = g.endpoint(window_bytes=350000)
        e.got(3)
        e.calm()
        assert len(e.tasks) == 3, len(e.tasks)
        for i in range(12):
            e.got(i + 1)
            e.results([e.tasks[i]["task"]])
        assert e.ids() == sent


@test
def results_are_stored_acknowledged_removed():
    with Rig() as g:
        sent = g.submit(20)
        e = g.endpoint()
        e.got(20)
        e.results(sent, result=b"42")
        e.until(lambda: len(e.acks) == 20, 30, "20 acknowledgements")
        assert sorted(e.acks) == sorted(sent)
        all_ended(g, sent)
        r = g.result(sent[3])
        assert g.state(sent[3]) == b"5" and r["result"] == b"42" and r["stamps"][14] > 0
        assert 0 < g.redis("PTTL", g.tkey(sent[3])) <= 14 * 86400000
        assert g.redis("XPENDING", g.ekey("tasks"), "forwarder")[0] == 0


@test
def duplicate_result_is_ignored():
    with Rig() as g:
        t = g.submit(1)[0]
        e = g.endpoint()
        e.got(1)
        e.results([t], result=b"first")
        e.until(lambda: e.acks, 30, "acknowledgement")
        e.results([t, t], result=b"second")
        e.until(lambda: len(e.acks) >= 2, 30, "acknowledgement of the duplicate")
        assert g.result(t)["result"] == b"first"


@test
def result_of_a_foreign_task_is_refused():
    with Rig() as g:
        t = g.submit(1, endpoint=str(uuid.uuid4()))[0]
        e = g.endpoint()
        e.results([t])
        e.send("TASK_STATE", [wire.encode("TASK_STATE", {"state": 4, "task": t})])
        g.check_acks = False
        e.until(lambda: e.acks, 30, "acknowledgement")
        assert g.state(t) == b"1"


@test
def states_are_raised():
    with Rig() as g:
        t = g.submit(1)[0]
        e = g.endpoint()
        e.got(1)
        e.send("TASK_STATE", [wire.encode("TASK_STATE", {"state": 4, "task": t, "time_ns": 1})])
        wait(lambda: g.state(t) == b"4", 30, "state 4")


@test
def reconnect_sends_again():
    with Rig() as g:
        sent = g.submit(10)
        e = g.endpoint(window=5)
        e.got(5)
        e.results(sent[:2])
        e.until(lambda: len(e.acks) == 2 and len(e.tasks) == 7, 30, "two ended, two more")
        e.tasks.clear()
        e.log.clear()
        e.redial()
        e.got(5)
        assert e.ids() == sent[2:7], "in hand first, in order"
        assert e.log[0] == ("function", g.fn), "functions anew in each session"
        e.results(e.ids())
        e.got(8)
        assert e.ids()[5:] == sent[7:]
        e.results(sent[7:])
        all_ended(g, sent, e=e)


@test
def returned_tasks_are_not_sent_in_a_loop():
    with Rig() as g:
        t = g.submit(1)[0]
        e = g.endpoint()
        began = time.monotonic()
        for _ in range(5):
            e.got(1)
            e.tasks.clear()
            e.returns([t])
        e.got(1)
        assert time.monotonic() - began > 1, "five times in %.1f s" % (time.monotonic() - began)
        e.results([t])
        all_ended(g, [t], e=e)


@test
def missed_function_is_sent_again():
    with Rig() as g:
        g.submit(1)
        e = g.endpoint()
        e.got(1)
        e.log.clear()
        e.send("FUNCTION_MISSING", [wire.encode_ids([g.fn, str(uuid.uuid4())])])
        e.until(lambda: ("function", g.fn) in e.log, 30, "the function again")


@test
def unknown_function_fails_the_task():
    with Rig() as g:
        a = g.submit(1, fn=str(uuid.uuid4()))[0]
        b = g.submit(1)[0]
        e = g.endpoint()
        e.got(1)
        assert e.ids() == [b]
        wait(lambda: g.state(a) == b"6", 30, "the task to fail")
        assert b"function" in g.result(a)["error"]


@test
def large_payload():
    with Rig() as g:
        body = os.urandom(1 << 20)
        a, b, c = g.submit(1, payload=body)[0], g.submit(1)[0], g.submit(1, payload=body[::-1])[0]
        e = g.endpoint()
        e.got(3)
        assert e.ids() == [a, b, c] and e.tasks[0]["payload"] == body and e.tasks[2]["payload"] == body[::-1]
        e.capacity(0)
        e.calm(100)
        gone = g.submit(1, payload=body)[0]
        g.redis("DEL", g.tkey(gone, "payload"))
        g.redis("DEL", g.tkey(a, "payload"))
        e.window = 1000
        e.redial()
        e.got(6)
        assert e.tasks[3]["payload"] == body, "kept in hand for the next session"
        e.results([a, b, c], result=b"r" * (1 << 20))
        all_ended(g, [a, b, c, gone], e=e)
        assert len(g.result(a)["result"]) == 1 << 20 and b"payload" in g.result(gone)["error"]
        assert g.redis("EXISTS", g.tkey(c, "payload")) == 0


@test
def large_backlog_stays_in_redis():
    with Rig(sets=["log.level=warn"]) as g:
        n = 20000
        rec = wire.QUEUED.size
        task = [str(uuid.uuid4())]
        q = wire.encode_queued({"task": task[0], "function": g.fn, "payload": b"x" * 1000})
        g.redis("EVAL", """local q = ARGV[1]
            for i = 1, tonumber (ARGV[2]) do
                local id = string.sub (q, 5, 8) .. string.char (math.floor (i / 65536) % 256, math.floor (i / 256) % 256, i % 256) .. string.sub (q, 12, 20)
                redis.call ('XADD', KEYS[1], '*', 't', string.sub (q, 1, 4) .. id .. string.sub (q, 21))
            end""", 1, g.ekey("tasks"), q, n)
        assert rec and g.queued() == n
        e = g.endpoint(window=100)
        e.got(100)
        e.calm(200)
        assert len(e.tasks) == 100
        assert g.redis("XPENDING", g.ekey("tasks"), "forwarder")[0] <= 100 + 256
        g.check_acks = False
        done = 0
        begin = time.monotonic()
        while done < n:
            e.got(done + 1)
            ids = e.ids()[done:]
            e.results(ids)
            done += len(ids)
        assert len(set(e.ids())) == n
        wait(lambda: (e.pump(), g.queued() == 0)[1], 30, "an empty queue")
        print("    %d tasks through a window of 100 in %.1f s" % (n, time.monotonic() - begin))
        peak = [int(line.split()[1]) for line in open("/proc/%d/status" % g.procs[0].pid) if line.startswith("VmHWM")][0]
        assert "asan" in BUILD or peak < 40000, "%d KiB for a window of 100" % peak


# ---- forwarders that die -----------------------------------------------------------------------------------------

@test
def killed_under_supervise():
    with Rig(mode="supervise") as g:
        sent = g.submit(10)
        e = g.endpoint(window=6)
        e.got(6)
        e.results(sent[:2])
        e.until(lambda: len(e.acks) == 2, 30, "two acknowledgements")
        old, addr = g.child(g.procs[0]), e.addr
        os.kill(old, signal.SIGKILL)
        g.wait_addr(addr)
        e.tasks.clear()
        e.redial()
        e.got(6)
        e.calm(200)
        assert sorted(e.ids()) == sorted(sent[2:8]), (e.ids(), sent)
        # ended while nobody served: a result of the old session counts
        e.results(sent[2:])
        all_ended(g, sent, e=e)


@test
def ended_while_dead_is_not_sent_again():
    with Rig() as g:
        sent = g.submit(3)
        e = g.endpoint()
        e.got(3)
        g.dies()
        g.cancel(sent[1])
        e.tasks.clear()
        g.redis("HDEL", g.ekey(), "addr")
        g.start()
        e.redial()
        e.got(2)
        e.calm(200)
        assert sorted(e.ids()) == sorted([sent[0], sent[2]])
        e.until(lambda: e.cancels == [sent[1]], 30, "CANCEL")
        e.returns([sent[1]])
        wait(lambda: (e.pump(), g.queued() == 2)[1], 30, "its entry to go")


@test
def unacknowledged_results_of_a_dead_forwarder():
    with Rig() as g:
        sent = g.submit(3)
        e = g.endpoint()
        e.got(3)
        g.dies()
        g.redis("HDEL", g.ekey(), "addr")
        g.start()
        e.dial()
        e.until(lambda: e.epoch, 30, "WELCOME")
        e.results(sent)          # the spool, before CAPACITY
        e.until(lambda: len(e.acks) >= 3, 30, "acknowledgements")
        all_ended(g, sent, e=e)


@test
def two_supervisors():
    lease_s = 15
    with Rig(mode="supervise", sets=["lease=%ds" % lease_s]) as g:
        first = g.procs[0]
        e = g.endpoint()
        second = g.start("supervise")
        sent = g.submit(5)
        e.got(5)
        child = g.child(first)
        addr = e.addr
        first.kill()
        first.wait()
        begin = time.monotonic()
        g.wait_addr(addr)
        e.tasks.clear()
        e.redial()
        took = time.monotonic() - begin
        e.got(5)
        assert took < lease_s, "served again after %.2f s" % took
        wait(lambda: child not in processes(), 30, "the end of the first one's child")
        e.results(sent)
        all_ended(g, sent, e=e)
        assert second.poll() is None


@contextlib.contextmanager
def dies_at_its_start(**sets):
    """A supervisor whose forwarders end at once: their only port is somebody else's."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with Rig(mode="supervise", sets=["listen.port_min=%d" % port, "listen.port_max=%d" % port] + ["%s=%s" % s for s in sets.items()]) as g:
            yield g


@test
def starts_that_fail_become_rare():
    with dies_at_its_start() as g:
        times = wait(lambda: g.logged("forwarder started", "forwarder ended", at_least=16), 60, "eight starts that failed")
        gaps = [(b - a) * 1000 for a, b in zip(times[1:-1:2], times[2::2])]     # from an end to the next start
        # after the first end at once, then 100 ms and twice that each time, of which chance takes up to a half
        for n, gap in enumerate(gaps[1:]):
            assert gap >= 50 * 2 ** n - 2, (n, gaps)
        assert gaps[0] < 3000, gaps         # the last one is longer
        assert "listening" in g.text() and "in use" in g.text(), g.text()
        assert g.procs[0].poll() is None


@test
def starts_that_fail_give_the_lease_to_another_host():
    with dies_at_its_start(lease="60s") as g:       # which does not run out within this test
        wait(lambda: g.logged("forwarder ended"), 30, "a start that failed")
        g.sets = ["lease=60s"]
        second = g.start("supervise")
        sent = g.submit(5)
        e = g.endpoint()
        e.got(5)
        assert g.child(second) in processes()
        e.results(sent)
        all_ended(g, sent, e=e)
        assert g.procs[0].poll() is None and len(g.logged("forwarder ended")) >= 3


@test
def paused_zombie_gives_way():
    with Rig() as g:
        zombie = g.procs[0]
        a = g.endpoint()
        t = g.submit(1)[0]
        a.got(1)
        addr = a.addr
        zombie.send_signal(signal.SIGSTOP)
        g.start()
        h = g.wait_addr(addr)
        late = g.submit(1)[0]        # Redis may hand this one to the zombie's blocking read
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait(30) == 3
        assert g.hash()[b"addr"] == h[b"addr"], "the zombie wrote its address"
        a.tasks.clear()
        a.redial()
        a.until(lambda: {t, late} <= set(a.ids()), 30, "both tasks")
        a.results([t, late])
        all_ended(g, [t, late], e=a)


# ---- who may come in ---------------------------------------------------------------------------------------------

@test
def wrong_key_is_refused():
    with Rig() as g:
        e = g.endpoint(key=zmq.curve_keypair(), up=False)
        e.calm(1500)
        assert not e.epoch
        g.endpoint()


@test
def wrong_id_is_refused():
    with Rig() as g:
        e = g.endpoint(ident=str(uuid.uuid4()), up=False)
        e.until(lambda: e.reject, 30, "REJECT")
        assert e.reject["code"] == 3 or b"serves endpoint" in e.reject["text"], e.reject
        assert not e.epoch


@test
def new_key_ends_the_session():
    with Rig() as g:
        e = g.endpoint()
        key = zmq.curve_keypair()
        g.redis("HSET", g.ekey(), "key", key[0])
        g.redis("XADD", g.ekey("control"), "*", "c", "key")
        e.until(lambda: e.bye, 30, "BYE")
        g.endpoint(key=key)


@test
def endpoints_of_other_versions():
    for v in versions.OTHERS + [versions.OURS]:
        with Rig() as g:
            t = g.submit(1)[0]
            e = g.endpoint(version=v)
            assert e.session == v.session, (v, e.session)
            e.got(1)
            assert e.tasks[0]["fixed"] == (108 if v.session[0] == 1 else 124), (v, e.tasks[0]["fixed"])
            for _ in range(20 if v.newer else 0):       # more than it would take of malformed ones
                e.raw(v.unknown(e.epoch))
            e.results([t])
            all_ended(g, [t], e=e)
            assert not e.reject and not e.bye, v
    with Rig() as g:
        e = g.endpoint(version=versions.Version("much newer", 3, 3, 0), up=False)
        e.until(lambda: e.reject, 30, "REJECT")
        assert b"3 to 3" in e.reject["text"] and b"1 to 2" in e.reject["text"], e.reject


@test
def garbage():
    with Rig() as g:
        e = g.endpoint()
        head = wire.message("HEARTBEAT", [], 0, e.epoch)[0]
        bad = [[b""], [b"x" * 24], [head[:-1]], [head, b"extra"], [os.urandom(24), os.urandom(100)],
               wire.message("RESULT", [b""], 0, e.epoch), wire.message("RESULT", [os.urandom(300)], 0, e.epoch),
               wire.message("TASK_RETURN", [b"123"], 0, e.epoch), wire.message("CAPACITY", [b"12"], 0, e.epoch),
               wire.message("TASK_STATE", [os.urandom(28)], 0, e.epoch), wire.message("TASK", [b""], 0, e.epoch)]
        for m in bad:
            e.raw(m)
        t = g.submit(2)
        e.got(2)
        # one bad record: nothing of the message takes effect
        e.send("RESULT", [wire.encode("RESULT", {"status": 1, "task": t[0]}), b"junk"])
        e.calm(200)
        assert g.state(t[0]) == b"1"
        for _ in range(20):
            e.raw([os.urandom(24)])
        e.until(lambda: e.reject or e.bye, 30, "the end of the session")
        e.tasks.clear()
        e.redial()
        e.got(2)
        e.results(t)
        all_ended(g, t, e=e)
        g.redis("XADD", g.ekey("control"), "*", "c", "nonsense")
        assert g.procs[0].poll() is None


@test
def unreadable_entries():
    """Entries of another release, and damaged ones: their tasks end with the reason, whether an endpoint is there or not."""
    def entry(change, when="*"):
        task, = g.submit(1, entry=when)
        (_, (_, record)), = g.redis("XREVRANGE", g.ekey("tasks"), "+", "-", "COUNT", "1") if when == "*" else \
            g.redis("XRANGE", g.ekey("tasks"), when, when)
        ent = g.redis("XREVRANGE", g.ekey("tasks"), "+", "-", "COUNT", "1")[0][0] if when == "*" else when
        g.redis("XDEL", g.ekey("tasks"), ent)
        g.redis("XADD", g.ekey("tasks"), "*" if when == "*" else when + "1", "t", change(record))
        return task
    with Rig(sets=["retention=60s"], start=False) as g:
        old = "%d-1" % (time.time() * 1000 - 61000)
        late = entry(lambda r: b"\x07" + r[1:], old)
        newer = entry(lambda r: b"\x05" + r[1:] + b"more")
        cut = entry(lambda r: r[:50])
        short = entry(lambda r: r[:40])
        g.redis("XADD", g.ekey("tasks"), "*", "t", "nonsense")
        g.redis("XADD", g.ekey("tasks"), "*", "other", "nonsense")
        good, = g.submit(1)
        g.start()
        wait(lambda: g.state(late) == b"6", 30, "an old one, though no endpoint comes")
        e = g.endpoint()
        e.got(1)
        e.results([good])
        all_ended(g, [late, newer, cut, short, good], e=e)
        assert e.ids() == [good]
        assert b"version 5, at most 4" in g.result(newer)["error"] and b"same release" in g.result(newer)["error"], g.result(newer)
        assert g.result(newer)["code"] == 13 and g.result(cut)["code"] == 2 and b"40 bytes" in g.result(short)["error"]
        assert g.hash()[b"unreadable"] == b"2"


# ---- Redis -------------------------------------------------------------------------------------------------------

@test
def redis_killed_while_results_come():
    with Rig() as g:
        g.check_acks = False
        sent = g.submit(400)
        e = g.endpoint()
        e.got(400)
        e.results(sent[:100])
        g.redis.kill()
        e.results(sent[100:250])
        e.calm(500)
        before = set(e.acks)
        wait(lambda: g.logged("cannot connect"), 30, "it says that there is no Redis")
        said = [line for line in g.text().split("\n") if 'msg="cannot connect"' in line]
        assert all(" address=%s why=" % g.redis.path in line and "redis.url" in line for line in said), said[:2]
        g.redis.start()
        for t in before:
            assert g.state(t) == b"5", "acknowledged and lost"
        e.results(sent[250:])
        e.until(lambda: set(e.acks) >= set(sent), 30, "all acknowledged")
        all_ended(g, sent, e=e)
        more = g.submit(10)
        e.until(lambda: set(more) <= set(e.ids()), 30, "new tasks after the restart")
        e.results(more)
        all_ended(g, more, e=e)


@test
def cut_off_from_redis_alone():
    """Its session stays, what it holds is bounded, and whoever reads Redis sees that it has not been heard of."""
    with Rig(start=False) as g:
        relay = Relay(lambda: g.redis.path)
        relay.start()
        g.sets = ["redis.url=redis://127.0.0.1:%d" % relay.port, "limits.unstored_bytes=4MiB", "lease=30s"]
        p = g.start()

        def rss():
            return int(open("/proc/%d/statm" % p.pid).read().split()[1]) * 4096
        sent = g.submit(600)
        e = g.endpoint()
        e.got(600)
        wait(lambda: (e.pump(), b"seen" in g.hash())[1], 30, "the endpoint was seen")
        before, seen, beats = rss(), int(g.hash()[b"seen"]), e.beats
        relay.set_cut(True)
        for t in sent:                       # 60 MB, a message each: far more than it may hold
            e.results([t], result=b"r" * 100000)
            e.pump(0)
        e.calm(8000)                         # longer than the session's threshold
        grown = rss() - before
        print("    grown by %.1f MiB" % (grown / (1 << 20)))
        assert grown < (96 << 20 if "asan" in BUILD else 32 << 20), grown
        assert e.bye is None and e.reject is None and e.beats > beats + 5, "the session must stay"
        assert int(g.hash()[b"seen"]) <= seen + 5000 and time.time() * 1000 - seen > 7000, "nothing may say that it was seen since"
        assert sum(g.state(t) == b"5" for t in sent) < 100, "the wire is not cut"
        relay.set_cut(False)

        def stored():
            left = set(sent) - set(e.acks)
            if left and time.monotonic() - stored.again > 2:    # what was refused meanwhile
                e.results(sorted(left)[:50], result=b"r" * 100000)
                stored.again = time.monotonic()
            return not left
        stored.again = time.monotonic()
        e.until(stored, 60, "all results are stored")
        all_ended(g, sent, e=e)
        assert len(g.result(sent[-1])["result"]) == 100000
        e.until(lambda: int(g.hash()[b"seen"]) > seen + 7000, 30, "it is said to be seen again")


@test
def redis_full():
    with Rig() as g:
        sent = g.submit(50)
        e = g.endpoint()
        e.got(50)
        g.redis("CONFIG", "SET", "maxmemory", "1")
        e.results(sent)
        e.calm(700)
        assert not e.acks and g.state(sent[0]) == b"1"
        g.redis("CONFIG", "SET", "maxmemory", "0")
        e.until(lambda: len(e.acks) == 50, 30, "all acknowledged")
        all_ended(g, sent)


@test
def redis_flushed():
    with Rig() as g:
        e = g.endpoint()
        g.redis("FLUSHALL")
        g.redis("HSET", g.ekey(), "key", g.key[0])
        g.redis("SADD", "weft:eps", g.id)
        g.function(g.fn)
        t = g.submit(1)[0]
        e.got(1)
        e.results([t])
        all_ended(g, [t], e=e)


@test
def redis_refuses_writes_for_a_while():
    with Rig() as g:
        e = g.endpoint()
        g.redis("CONFIG", "SET", "min-replicas-to-write", "1")
        e.calm(700)
        g.redis("CONFIG", "SET", "min-replicas-to-write", "0")
        t = g.submit(1)[0]
        e.got(1)
        e.results([t])
        all_ended(g, [t], e=e)


# ---- ends --------------------------------------------------------------------------------------------------------

@test
def cancel():
    with Rig() as g:
        sent = g.submit(4)
        g.cancel(sent[1])                    # queued, nobody is connected
        e = g.endpoint(window=2)
        e.got(2)
        assert e.ids() == [sent[0], sent[2]]
        g.cancel(sent[3])                    # queued or in hand, window closed
        g.cancel(sent[0])                    # sent
        e.until(lambda: e.cancels == [sent[0]], 30, "CANCEL")
        e.results([sent[0]], status=3)
        e.results([sent[2]])
        all_ended(g, sent, e=e)
        e.calm(200)
        assert e.ids() == [sent[0], sent[2]]
        assert [g.state(t) for t in sent] == [b"7", b"7", b"5", b"7"]
        wait(lambda: g.redis("SCARD", g.ekey("cancelled")) == 0, 30, "nothing remembered")


@test
def cancelled_while_the_endpoint_is_away():
    with Rig() as g:
        sent = g.submit(3)
        e = g.endpoint()
        e.got(3)
        g.cancel(sent[0])                    # told, but it has not ended when the session does
        e.until(lambda: e.cancels == [sent[0]], 30, "CANCEL")
        e.close()
        g.cancel(sent[1])
        wait(lambda: not g.redis("XLEN", g.ekey("control")), 30, "the control message to be read")
        e = g.endpoint(up=False)
        e.until(lambda: e.epoch, 30, "WELCOME")
        e.calm(200)
        assert not e.cancels                 # it has not shown that it knows of the session
        e.capacity(0)                        # no room for tasks is no matter
        e.until(lambda: sorted(e.cancels) == sorted(sent[:2]), 30, "CANCEL of both")
        e.returns([sent[1]])                 # it does not have it
        e.results([sent[0]])                 # it had ended
        wait(lambda: (e.pump(), g.queued() == 1)[1], 30, "their entries to go")
        e.capacity(10)
        e.got(1)
        e.calm(200)
        assert e.ids() == [sent[2]]
        e.results([sent[2]])
        all_ended(g, sent, e=e)
        assert [g.state(t) for t in sent] == [b"7", b"7", b"5"] and len(e.cancels) == 2


@test
def cancelled_before_it_was_sent_again():
    """The endpoint has it from the session before."""
    with Rig() as g:
        sent = g.submit(2)
        e = g.endpoint()
        e.got(2)
        e.close()
        e = g.endpoint(window=1)
        e.got(1)
        g.cancel(sent[1])
        e.until(lambda: e.cancels == [sent[1]], 30, "CANCEL")
        e.returns([sent[1]])
        wait(lambda: (e.pump(), g.queued() == 1)[1], 30, "its entry to go")


@test
def cancelled_until_the_endpoint_answers():
    """CANCEL is said in each session until one shows that it was read."""
    with Rig() as g:
        sent = g.submit(3)
        e = g.endpoint()
        e.got(3)
        e.close()
        g.cancel(sent[0])
        wait(lambda: not g.redis("XLEN", g.ekey("control")), 30, "the control message to be read")
        e = g.endpoint(window=2)
        e.got(1)
        assert e.ids() == sent[1:2]          # the last one waits
        for t in sent[1:]:
            g.cancel(t)
        for again in range(3):               # what was sent to it is lost with its session
            e.until(lambda: sorted(e.cancels) == sorted(sent), 30, "CANCEL")
            assert g.queued() == 3
            e.close()
            e = g.endpoint()
        e.until(lambda: sorted(e.cancels) == sorted(sent), 30, "CANCEL")
        e.returns(sent[:1])
        e.results(sent[1:2], status=3)
        wait(lambda: (e.pump(), g.queued() == 1)[1], 30, "the entries of those that it said something of to go")
        e.close()
        e = g.endpoint()
        e.until(lambda: e.cancels == sent[2:], 30, "CANCEL of the other one")
        e.returns(sent[2:])
        wait(lambda: (e.pump(), g.queued() == 0)[1], 30, "its entry to go")
        e.calm(100)
        assert not e.tasks and len(e.cancels) == 1


@test
def cancelled_at_an_older_endpoint():
    """It does not answer: CANCEL is said once more, and that is all."""
    for older in (v for v in versions.OLDER if not v.answers_cancel):
        with Rig() as g:
            sent = g.submit(2)
            e = g.endpoint(version=older)
            e.got(2)
            e.close()
            g.cancel(sent[0])
            wait(lambda: not g.redis("XLEN", g.ekey("control")), 30, "the control message to be read")
            e = g.endpoint(version=older, window=0)
            e.until(lambda: e.cancels == sent[:1], 30, "CANCEL")
            g.cancel(sent[1])                # it waits to be sent again
            e.until(lambda: e.cancels == sent, 30, "CANCEL of the other one")
            wait(lambda: (e.pump(), g.queued() == 0)[1], 30, "the entries to go")


@test
def cancelled_and_given_back():
    """CANCEL and TASK_RETURN cross."""
    with Rig() as g:
        t = g.submit()[0]
        e = g.endpoint()
        e.got(1)
        g.cancel(t)
        e.until(lambda: e.cancels == [t], 30, "CANCEL")
        e.returns([t])
        wait(lambda: (e.pump(), g.queued() == 0)[1], 30, "its entry to go")
        assert e.ids() == [t]


@test
def cancelled_and_the_forwarder_dies():
    with Rig() as g:
        sent = g.submit(2)
        e = g.endpoint()
        e.got(2)
        old = g.hash()[b"fwd_key"]
        g.dies()
        g.cancel(sent[0])
        g.start()
        wait(lambda: g.hash()[b"fwd_key"] != old, 30, "the new forwarder's key")
        wait(lambda: g.logged("caught up", at_least=2), 30, "what was in hand to be taken over")
        wait(lambda: not g.redis("SCARD", g.ekey("cancelled")), 30, "the cancel to be read")
        e.tasks.clear()
        e.redial()
        e.until(lambda: e.cancels == [sent[0]], 30, "CANCEL")
        e.got(1)
        e.calm(200)
        assert e.ids() == [sent[1]]
        e.returns([sent[0]])
        wait(lambda: (e.pump(), g.queued() == 1)[1], 30, "its entry to go")


@test
def cancelled_and_the_word_is_lost():
    """Redis gave it to a connection that nobody reads any more."""
    with Rig() as g:
        t = g.submit()[0]
        e = g.endpoint()
        e.got(1)

        def waiting():
            return [line.split()[0][3:] for line in g.redis("CLIENT", "LIST").decode().split("\n") if " cmd=xreadgroup " in line and " flags=b" in line]
        wait(lambda: len(waiting()) == 2, 30, "both reads to wait")
        g.redis("XADD", g.ekey("control"), "*", "c", "follow", "t", wire.id_bytes(t))
        me = wait(lambda: (e.pump(), g.consumers("control"))[1], 30, "the name of the consumer")[0]
        wait(lambda: (e.pump(), len(waiting()) == 2 and not g.redis("XLEN", g.ekey("control")))[1], 30, "both reads to wait again")
        g.redis("MULTI")
        g.redis("HSET", g.tkey(t), "s", "7", "r", wire.encode("RESULT", {"status": 3, "fault": 1, "task": t, "error": "cancelled"}))
        g.redis("SADD", g.ekey("cancelled"), wire.id_bytes(t))
        g.redis("XADD", g.ekey("control"), "*", "c", "cancel", "t", wire.id_bytes(t))
        g.redis("XREADGROUP", "GROUP", "forwarder", me, "STREAMS", g.ekey("control"), ">")
        assert len(g.redis("EXEC")) == 4
        for c in waiting():
            g.redis("CLIENT", "KILL", "ID", c)
        e.until(lambda: e.cancels == [t], 30, "CANCEL")
        wait(lambda: (e.pump(), g.redis("XPENDING", g.ekey("control"), "forwarder")[0] == 0)[1], 30, "nothing pending")
        wait(lambda: (e.pump(), g.redis("XLEN", g.ekey("control")) == 0)[1], 30, "the control stream to be empty")


@test
def dead_forwarders_leave_no_consumers():
    with Rig() as g:
        sent = g.submit(3)
        e = g.endpoint()
        e.got(3)
        for t in sent:         # each has read a word when it is killed

            def dies():
                g.cancel(t)
                g.redis("XREADGROUP", "GROUP", "forwarder", "dead", "STREAMS", g.ekey("control"), ">")
            again(g, e, dies)
            e.until(lambda: t in e.cancels, 30, "CANCEL")
        wait(lambda: (e.pump(), len(g.consumers("tasks")) == 1 and len(g.consumers("control")) == 1)[1], 30, "one consumer in each group")
        wait(lambda: (e.pump(), g.redis("XLEN", g.ekey("control")) == 0)[1], 30, "the control stream to be empty")


@test
def control_word_read_by_a_forwarder_that_hangs():
    with Rig() as g:
        t = g.submit()[0]
        e = g.endpoint()
        e.got(1)
        g.redis("MULTI")
        g.redis("XADD", g.ekey("control"), "*", "c", "cancel", "t", wire.id_bytes(t))
        g.redis("XREADGROUP", "GROUP", "forwarder", "zombie", "STREAMS", g.ekey("control"), ">")
        entry = g.redis("EXEC")[0]
        g.redis("XCLAIM", g.ekey("control"), "forwarder", "zombie", "0", entry, "IDLE", "60000")
        g.redis("XADD", g.ekey("control"), "*", "c", "follow", "t", wire.id_bytes(t))    # not only when its own read ends
        e.until(lambda: e.cancels == [t], 30, "CANCEL")
        wait(lambda: (e.pump(), g.redis("XLEN", g.ekey("control")) == 0)[1], 30, "the control stream to be empty")


def lock(g, seconds, word=True):
    """As the service does it."""
    g.redis("HSET", g.ekey(), "locked", str(int((time.time() + seconds) * 1000)))
    if word:
        g.redis("XADD", g.ekey("control"), "*", "c", "lock")


def replaced(g, meanwhile=lambda: None):
    """The forwarder is killed, another one takes its place."""
    old = g.hash()[b"fwd_key"]
    g.dies()
    meanwhile()
    g.start()
    wait(lambda: g.hash()[b"fwd_key"] != old, 30, "the new forwarder's key")


def again(g, e, meanwhile=lambda: None):
    """And the endpoint finds it."""
    replaced(g, meanwhile)
    e.redial()


@test
def locked():
    with Rig() as g:
        e = g.endpoint()
        e.until(lambda: e.drains == [False], 30, "the word that nobody drains it")
        had = g.submit(1)
        e.got(1)
        lock(g, 600)
        e.until(lambda: e.bye, 30, "BYE")
        assert b"stopped" in e.bye["text"], e.bye
        wait(lambda: g.hash()[b"up"] == b"0", 30, "the endpoint to be seen as away")
        sent = g.submit(3)

        def tries():
            e.dial()
            e.until(lambda: e.reject or e.epoch, 30, "an answer")
            return e.epoch

        def refused():
            assert not tries() and b"connect again in" in e.reject["text"], (e.reject, e.epoch)

        refused()
        replaced(g)
        refused()       # one that comes later knows it from Redis
        g.redis("HSET", g.ekey(), "locked", "0")        # of a registration anew
        g.redis("XADD", g.ekey("control"), "*", "c", "key")
        wait(tries, 30, "the endpoint to be let in")
        e.capacity()
        e.got(5)        # with what it had again
        e.results(had + sent)
        all_ended(g, had + sent, e=e)
        # it is over by itself; and what is said while no forwarder runs
        replaced(g, lambda: lock(g, 8, word=False))
        refused()
        wait(tries, 30, "the endpoint to be let in when the time is over")


@test
def cancelled_while_no_forwarder_ran():
    with Rig(start=False) as g:
        sent = g.submit(300)
        for t in sent[::2]:
            g.cancel(t)
        g.start()
        e = g.endpoint()
        e.got(150)
        e.calm(200)
        assert e.ids() == sent[1::2]


@test
def expired():
    with Rig(sets=["retention=60s"], start=False) as g:
        old = int(time.time() * 1000) - 61000
        a = [g.submit(1, entry="%d-%d" % (old, i))[0] for i in range(600)]
        b = g.submit(1)[0]
        g.start()
        wait(lambda: all(g.state(t) == b"6" for t in a), 30, "expired tasks to fail")
        wait(lambda: g.queued() == 1, 30, "their entries to go")
        assert b"longer than" in g.result(a[0])["error"]
        e = g.endpoint()
        e.got(1)
        assert e.ids() == [b]


def of_a_dead_forwarder(g, n):
    """Older than tasks are kept, and read by a forwarder that was killed."""
    old = int(time.time() * 1000) - 61000
    g.redis("XGROUP", "CREATE", g.ekey("tasks"), "forwarder", "0", "MKSTREAM")
    tasks = [g.submit(1, entry="%d-%d" % (old, i))[0] for i in range(n)]
    g.redis("XREADGROUP", "GROUP", "forwarder", "dead", "COUNT", n, "STREAMS", g.ekey("tasks"), ">")
    return tasks


@test
def expired_with_an_endpoint_that_does_not_come_back():
    with Rig(sets=["retention=60s"], start=False) as g:
        g.redis("HSET", g.ekey(), "seen", int(time.time() * 1000) - 61000)
        a = of_a_dead_forwarder(g, 10)
        g.cancel(a[0])
        g.start()
        wait(lambda: all(g.state(t) == b"6" for t in a[1:]), 60, "tasks that the endpoint had to fail")
        wait(lambda: g.queued() == 0, 30, "their entries to go")
        assert g.state(a[0]) == b"7" and b"longer than" in g.result(a[1])["error"]


@test
def not_expired_with_an_endpoint_that_comes_back():
    """It was away as long as the forwarder, and has what it brings."""
    with Rig(sets=["retention=60s"], start=False) as g:
        g.redis("HSET", g.ekey(), "seen", int(time.time() * 1000) - 61000)
        a = of_a_dead_forwarder(g, 2)
        unread = g.submit(1, entry="%d-9" % (int(time.time() * 1000) - 61000))[0]
        g.start()
        wait(lambda: g.state(unread) == b"6", 30, "what nobody has read to fail")
        e = g.endpoint()
        e.got(2)
        e.results(a)
        all_ended(g, a, e=e)
        assert [g.state(t) for t in a] == [b"5", b"5"]


def delete(g, word=True):
    last = g.redis("XREVRANGE", g.ekey("tasks"), "+", "-", "COUNT", "1")
    g.redis("HDEL", g.ekey(), "key", "owner", "name")
    g.redis("HSET", g.ekey(), "cut", last[0][0] if last else "0-0")
    g.redis("SADD", "weft:eps:deleted", g.id)
    g.redis("SREM", "weft:eps", g.id)
    if word:
        g.redis("XADD", g.ekey("control"), "*", "c", "deleted")
    g.redis("PUBLISH", "weft:eps:changed", g.id)


def register_again(g):
    g.redis("HSET", g.ekey(), "key", g.key[0], "owner", str(uuid.uuid4()), "name", "again")
    g.redis("SADD", "weft:eps", g.id)
    g.redis("SREM", "weft:eps:deleted", g.id)
    g.redis("PUBLISH", "weft:eps:changed", g.id)


def served_again(g, old, new):
    """After a deletion and a new registration: what was queued before is failed, what came after is delivered."""
    wait(lambda: all(g.state(t) == b"6" for t in old), 30, "the tasks of before failed")
    assert b"deleted" in g.result(old[-1])["error"]
    e = g.endpoint()
    e.got(len(new))
    assert sorted(e.ids()) == sorted(new), e.ids()
    e.results(new)
    all_ended(g, new, e=e)
    assert all(g.state(t) == b"5" for t in new)
    assert g.hash()[b"key"] == g.key[0] and g.redis("SISMEMBER", "weft:eps", g.id) == 1


@test
def registered_again_while_nobody_serves():
    with Rig(mode="supervise", start=False) as g:
        old = g.submit(20)
        delete(g)
        register_again(g)
        new = g.submit(5)
        g.start("supervise")
        g.wait_addr()
        served_again(g, old, new)


@test
def registered_again_before_the_word_is_read():
    with Rig(mode="supervise") as g:
        old = g.submit(50)
        e = g.endpoint(window=10)
        e.got(10)
        pid = g.child(g.procs[0])
        os.kill(pid, signal.SIGSTOP)
        delete(g)
        register_again(g)
        new = g.submit(5)
        os.kill(pid, signal.SIGCONT)
        e.until(lambda: e.bye, 30, "BYE: it may be another one that is registered now")
        e.close()
        served_again(g, old, new)


@test
def registered_again_while_its_tasks_are_failed():
    with Rig(mode="supervise") as g:
        old = g.submit(3000)
        addr = g.wait_addr()[b"addr"]
        pid = g.child(g.procs[0])
        delete(g)
        wait(lambda: g.state(old[0]) == b"6", 30, "it has begun to fail them")
        register_again(g)
        new = g.submit(5)
        wait(lambda: not os.path.exists("/proc/%d" % pid), 30, "the end of that forwarder")
        g.wait_addr(other_than=addr)
        served_again(g, old, new)


@test
def deleted_endpoint():
    with Rig(mode="supervise") as g:
        sent = g.submit(2000)
        e = g.endpoint(window=10)
        e.got(10)
        pid = g.child(g.procs[0])
        delete(g)
        e.until(lambda: e.bye, 30, "BYE")
        wait(lambda: all(g.state(t) == b"6" for t in sent), 30, "all tasks failed")
        assert b"deleted" in g.result(sent[-1])["error"]
        wait(lambda: not os.path.exists("/proc/%d" % pid), 30, "the end of the forwarder")
        wait(lambda: not g.redis("KEYS", "weft:ep:*"), 30, "no keys left")
        assert g.procs[0].poll() is None


@test
def deleted_endpoint_forwarder_killed_and_word_lost():
    with Rig(mode="supervise") as g:
        sent = g.submit(100)
        g.wait_addr()
        pid = g.child(g.procs[0])
        os.kill(pid, signal.SIGSTOP)
        delete(g, word=False)
        os.kill(pid, signal.SIGKILL)
        wait(lambda: all(g.state(t) == b"6" for t in sent), 30, "all tasks failed")
        wait(lambda: not g.redis("KEYS", "weft:ep:*"), 30, "no keys left")


def bulk_rig(start=True):
    g = Rig(start=False)
    g.sets.append("bulk.dir=" + os.path.join(g.tmp, "bulk"))
    if start:
        g.start()
        wait(lambda: os.path.exists(os.path.join(g.tmp, "bulk", "id")), 30, "the store")
    return g


def failed_with(g, task, words, fault):
    assert g.state(task) == b"6", g.state(task)
    r = wire.decode("RESULT", g.redis("HGET", g.tkey(task), "r"))
    assert words.encode() in r["error"] and r["fault"] == fault, r
    assert not r["flags"] & 4 and r["result"] == b""


@test
def references_travel_where_the_store_is_shared():
    with bulk_rig() as g:
        e, data = g.endpoint(bulk=g.store_id()), b"x" * 300000
        assert e.agreed == 1
        task = g.submit_bulk(data)
        e.got(1)
        t = e.tasks[0]
        assert t["flags"] == 2 and t["bulk_bytes"] == len(data) and t["bulk_name"] == uuid.UUID(task).hex + ".p", t
        assert g.bulk_files() == [t["bulk_name"]]
        ref = bulkstore.reference(bulkstore.append(os.path.join(g.tmp, "bulk"), "seg-01234567", task, b"[1,2]"), 5)
        e.results([task], result=ref, flags=4)
        e.until(lambda: e.acks, 30, "the acknowledgement")
        stored = wire.decode("RESULT", g.redis("HGET", g.tkey(task), "r"))
        assert g.state(task) == b"5" and stored["bulk_name"] == ref[4:].decode(), stored
        wait(lambda: g.bulk_files() == [ref[4:].decode()], 30, "the payload's file to go")


@test
def others_get_the_data_itself():
    with bulk_rig() as g:
        data = b"y" * 200000
        for more in ({}, {"bulk": str(uuid.uuid4())}, {"version": versions.OLDER[0]}):
            e = g.endpoint(**more)
            assert e.agreed == 0
            task = g.submit_bulk(data)
            e.got(1)
            assert e.tasks[0]["flags"] == 0 and e.tasks[0]["payload"] == data and e.session == more.get("version", versions.OURS).session
            # again in a new session: nothing was used up
            e.redial()
            e.got(2)
            assert e.tasks[1]["payload"] == data
            e.results([task])
            e.until(lambda: e.acks, 30, "the acknowledgement")
            wait(lambda: not g.bulk_files(), 30, "the file to go")
            e.close()


def listener_at(path):
    """The pid of who listens on this Unix socket, or None."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except OSError:
            return None
        return struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


@test
def only_who_has_the_lease_listens_in_the_store():
    """Another process for the endpoint waits: started by hand, or by a second supervisor. It has read which key may connect."""
    with bulk_rig() as g:
        path = os.path.join(g.tmp, "bulk", "link-" + g.id)
        first = g.procs[0]
        wait(lambda: listener_at(path) == first.pid, 30, "the first one's socket")
        g.sets.append("log.level=debug")
        second = g.start()
        wait(lambda: g.text().count("waiting for the lease") >= 3, 30, "the second one, which waits")
        assert listener_at(path) == first.pid, (listener_at(path), first.pid, second.pid)
        first.kill()
        first.wait()
        assert listener_at(path) is None
        g.redis("DEL", g.ekey("lease"))
        wait(lambda: listener_at(path) == second.pid, 30, "the second one's socket")


@test
def who_may_have_lost_its_lease_lets_in_nobody_at_its_socket():
    """An endpoint on its host would come to it first, and not to the one that serves by now."""
    with Rig(start=False) as g:
        relay = Relay(lambda: g.redis.path)
        relay.start()
        g.sets = ["redis.url=redis://127.0.0.1:%d" % relay.port, "bulk.dir=" + os.path.join(g.tmp, "bulk"), "lease=2s"]
        g.start()
        g.wait_addr()
        owner = g.redis("GET", g.ekey("lease"))

        def refused():
            e = g.endpoint(within=True, up=False)
            e.until(lambda: e.epoch or e.reject, 30, "an answer")
            e.close()
            return e.reject
        assert not refused()
        relay.set_cut(True)
        assert b"lease" in wait(refused, 30, "a refusal")["text"]
        g.redis("SET", g.ekey("lease"), owner)
        g.endpoint()                            # over TCP whoever was sent there
        relay.set_cut(False)
        wait(lambda: not refused(), 30, "a session over the socket")


@test
def a_socket_that_could_not_be_made_is_made_later():
    with bulk_rig(start=False) as g:
        path = os.path.join(g.tmp, "bulk", "link-" + g.id)
        os.mkdir(os.path.dirname(path), 0o700)
        os.mkdir(path)
        p = g.start()
        wait(lambda: "connects over TCP" in g.text(), 30, "its complaint")
        g.endpoint()
        os.rmdir(path)
        g.redis("XADD", g.ekey("control"), "*", "c", "key")     # an endpoint that starts registers
        wait(lambda: listener_at(path) == p.pid, 30, "the socket")


@test
def missing_bulk_data_ends_the_task_clearly():
    with bulk_rig() as g:
        e = g.endpoint()
        lost = g.submit_bulk(b"z" * 100000, False)
        e.until(lambda: g.state(lost) == b"6", 30, "the end")
        failed_with(g, lost, "not in the bulk store", 4)
        cut = g.submit_bulk(b"z" * 100000, b"short")
        e.until(lambda: g.state(cut) == b"6", 30, "the end")
        failed_with(g, cut, "has 5 bytes, not 100000: it was changed", 4)
        e.close()
        e = g.endpoint(bulk=g.store_id())
        ok = g.submit_bulk(b"z" * 100000)
        e.until(lambda: ok in e.ids(), 30, "the task")
        e.results([ok], result=wire.encode_reference(5, ok, "0123456789abcdef"), flags=4)
        e.until(lambda: ok in e.acks, 30, "the acknowledgement")
        failed_with(g, ok, "its result is lost", 4)
        # a reference to somebody else's data is malformed: dropped whole, the session lives
        bad = g.submit_bulk(b"z" * 100000)
        e.until(lambda: bad in e.ids(), 30, "the task")
        e.results([bad], result=wire.encode_reference(5, ok, "0123456789abcdef"), flags=4)
        e.calm()
        assert g.state(bad) != b"5" and bad not in e.acks


@test
def cancelled_and_forgotten_payloads_leave_the_store():
    with bulk_rig() as g:
        early = g.submit_bulk(b"c" * 100000)
        g.cancel(early)
        e = g.endpoint(bulk=g.store_id())
        e.calm()
        assert early not in e.ids()
        wait(lambda: not g.bulk_files(), 30, "the cancelled one's file to go")
        late = g.submit_bulk(b"c" * 100000)
        e.until(lambda: late in e.ids(), 30, "the task")
        g.cancel(late)
        e.until(lambda: e.cancels, 30, "CANCEL")
        e.results([late], status=3, fault=1)
        e.until(lambda: late in e.acks, 30, "the acknowledgement")
        wait(lambda: not g.bulk_files(), 30, "its file to go")


@test
def a_forwarder_without_the_store_says_so():
    with Rig() as g:
        e = g.endpoint()
        task = g.submit_bulk(b"q" * 100000, False)
        e.until(lambda: g.state(task) == b"6", 30, "the end")
        failed_with(g, task, "bulk.dir", 2)
        other = g.submit()[0]
        e.until(lambda: other in e.ids(), 30, "the task")
        e.results([other], result=wire.encode_reference(5, other, "0123456789abcdef"), flags=4)
        e.until(lambda: other in e.acks, 30, "the acknowledgement")
        failed_with(g, other, "bulk.dir", 2)


@test
def deleted_endpoint_whose_supervisors_all_died():
    for _ in range(5):      # a machine that does not stop it again in time lets it do its work
        if died_in_the_middle():
            return
    raise AssertionError("it was done each time before it was killed")


def died_in_the_middle():
    with Rig(mode="supervise") as g:
        sent = g.submit(3000)
        g.wait_addr()
        pid = g.child(g.procs[0])
        os.kill(pid, signal.SIGSTOP)
        delete(g)

        def slice_of_time():
            """Stopped again before it can be through with all of them, however slow we are."""
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.003)
            os.kill(pid, signal.SIGSTOP)
            return g.state(sent[0]) == b"6"
        wait(slice_of_time, 60, "it has begun to fail them")
        g.procs[0].kill()                    # its forwarder dies with it
        g.procs[0].wait()
        wait(lambda: not os.path.exists("/proc/%d" % pid), 30, "the end of the forwarder")
        if all(g.state(t) == b"6" for t in sent):
            return False
        g.start("supervise")
        wait(lambda: all(g.state(t) == b"6" for t in sent), 30, "all tasks failed, by a later supervisor")
        wait(lambda: not g.redis("KEYS", "weft:ep:*") and not g.redis("KEYS", "weft:eps:*"), 30, "no keys left")
        return True


@test
def stops_gracefully():
    with Rig() as g:
        e = g.endpoint()
        g.procs[0].terminate()
        e.until(lambda: e.bye, 30, "BYE")
        assert g.procs[0].wait(30) == 0
        assert g.hash()[b"up"] == b"0" and not g.redis("EXISTS", g.ekey("lease"))


@test
def a_renewal_under_way_does_not_bring_it_back():
    """It is told to stop while Redis has its renewals yet to answer."""
    with Rig(sets=["lease=6s"]) as g:           # renewed each second
        e = g.endpoint()
        g.redis.p.send_signal(signal.SIGSTOP)
        try:
            e.calm(2500)
            g.procs[0].terminate()
            e.until(lambda: e.bye, 30, "BYE")
        finally:
            g.redis.p.send_signal(signal.SIGCONT)
        assert g.procs[0].wait(30) == 0
        assert g.text().count("msg=serving ") == 1, g.text()
        assert not g.redis("EXISTS", g.ekey("lease"))


@test
def idle_costs_little():
    with Rig() as g:
        e = g.endpoint()
        e.calm(500)

        def cpu():
            v = open("/proc/%d/stat" % g.procs[0].pid).read().rsplit(")", 1)[1].split()
            return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")
        a = cpu()
        end = time.monotonic() + 4
        while time.monotonic() < end:
            e.calm(500)
        used = (cpu() - a) / 4
        print("    idle: %.2f %% of a core" % (used * 100))
        assert used < (0.05 if "asan" in BUILD else 0.0125), used


def main():
    global BUILD
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default=os.path.join(ROOT, "build"))
    ap.add_argument("--only", help="run the tests whose name contains this")
    args = ap.parse_args()
    BUILD = os.path.abspath(args.build)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    passed = failed = 0
    for t in TESTS:
        if args.only and args.only not in t.__name__:
            continue
        try:
            t()
            passed += 1
            print("ok - %s" % t.__name__, flush=True)
        except Exception as e:
            failed += 1
            traceback.print_exc()
            print("not ok - %s: %s" % (t.__name__, e), flush=True)
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""weft-endpoint, the agent and its commands, between a scripted service and forwarder and the real weft-manager and weft-worker."""
import argparse
import concurrent.futures
import contextlib
import http.server
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "fakes"))
try:
    import zmq
    import zmq.utils.z85
except ImportError as e:
    print("skip - endpoint: %s" % e)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
import peer  # noqa: E402
from e2e import HOLD, agent_status, grown, rss  # noqa: E402
import versions  # noqa: E402
import wire  # noqa: E402

BUILD = None
TESTS = []
TOKEN = "token-of-the-test"
KIND_PYTHON = 2


class Skip(Exception):
    pass


def test(f):
    TESTS.append(f)
    return f


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


# ---- the other side ---------------------------------------------------------------------------------------------


class Service:
    """POST and PUT /v3/endpoints, DELETE, GET .../forwarder, as weft-service answers them."""

    def __init__(self):
        self.calls, self.endpoints, self.forwarder, self.deleted = [], {}, None, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def answer(self, status, doc):
                body = json.dumps(doc).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def handle_any(self):
                n = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(n)) if n else None
                self.path = re.sub("^http://[^/]+", "", self.path)      # asked for as a proxy, it is every host
                outer.calls.append((self.command, self.path, body))
                if self.path.startswith("/v2/version"):
                    return self.answer(200, {"api": "0.1.0"})
                if not self.headers.get("Authorization"):
                    return self.answer(401, {"status": "Failed", "code": "USER_UNAUTHENTICATED", "reason": "a bearer token is required"})
                if self.headers.get("Authorization") != "Bearer " + TOKEN:
                    return self.answer(401, {"status": "Failed", "code": 1, "reason": "unknown token"})
                parts = self.path.split("?")[0].strip("/").split("/")
                if self.command == "POST" and parts == ["v3", "endpoints"]:
                    ep = str(uuid.uuid4())
                    outer.endpoints[ep] = body
                    return self.answer(200, {"endpoint_id": ep})
                if len(parts) < 3 or parts[2] not in outer.endpoints:
                    return self.answer(404, {"reason": "no such endpoint"})
                if self.command == "PUT":
                    outer.endpoints[parts[2]] = body
                    return self.answer(200, {"endpoint_id": parts[2]})
                if self.command == "DELETE":
                    outer.deleted.append(parts[2])
                    del outer.endpoints[parts[2]]
                    return self.answer(200, {"result": 302})
                if self.command == "GET" and parts[3:] == ["forwarder"]:
                    if outer.forwarder is None:
                        return self.answer(503, {"reason": "no forwarder serves the endpoint yet"})
                    return self.answer(200, {"address": outer.forwarder.address, "server_key": outer.forwarder.named_key,
                                             "heartbeat_ms": 500})
                return self.answer(404, {"reason": "no such route"})

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Forwarder:
    """The listener that the endpoint dials. A thread owns the sockets; the test talks to it through a list of calls."""

    def __init__(self, service, version=versions.OURS, ack=True, allow=True, port=None):
        self.ctx = zmq.Context()
        self.service, self.version, self.ack, self.allow, self.answer = service, version, ack, allow, True
        self.public, self.secret = (k.decode() for k in zmq.curve_keypair())
        self.named_key = self.public
        self.zap = self.ctx.socket(zmq.REP)
        self.zap.bind("inproc://zeromq.zap.01")
        self.sock = self.ctx.socket(zmq.ROUTER)
        self.sock.linger = 200
        self.sock.zap_domain = b"weft"
        self.sock.curve_server = True
        self.sock.curve_publickey, self.sock.curve_secretkey = self.public.encode(), self.secret.encode()
        self.sock.bind("tcp://127.0.0.1:%s" % (port or "*"))
        self.address = self.sock.last_endpoint.decode().rstrip("\0")
        self.rid, self.epoch, self.hello, self.sessions = None, 0, None, 0
        self.results, self.copies, self.frames, self.returned, self.missing, self.states = {}, [], [], [], [], []
        self.capacity, self.byes, self.functions, self.seen_keys, self.metrics = None, [], {}, [], []
        self.todo, self.lock, self.running = [], threading.Lock(), True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def close(self):
        self.running = False
        self.thread.join(30)
        self.sock.close()
        self.zap.close()
        self.ctx.term()

    def call(self, f, *a):
        done = threading.Event()
        with self.lock:
            self.todo.append((f, a, done))
        assert done.wait(60), "the forwarder's thread hangs"

    def run(self):
        poller = zmq.Poller()
        poller.register(self.zap, zmq.POLLIN)
        poller.register(self.sock, zmq.POLLIN)
        beat = 0
        while self.running:
            ready = dict(poller.poll(10))
            if self.zap in ready:
                self.judge(self.zap.recv_multipart())
            if self.sock in ready:
                self.take(self.sock.recv_multipart())
            with self.lock:
                todo, self.todo = self.todo, []
            for f, a, done in todo:
                f(*a)
                done.set()
            if self.rid and self.epoch and time.time() - beat > 0.2:
                beat = time.time()
                self.send("HEARTBEAT")

    def judge(self, m):
        version, seq, domain, addr, ident, mechanism, key = m[:7]
        text = zmq.utils.z85.encode(key).decode()
        self.seen_keys.append(text)
        known = [e["weft"]["public_key"] for e in self.service.endpoints.values()]
        status = b"200" if self.allow and text in known else b"400"
        self.zap.send_multipart([version, seq, status, b"", b"", b""])

    def send(self, kind, *records, epoch=None):
        self.sock.send_multipart([self.rid] + self.version.message(kind, records, self.epoch if epoch is None else epoch))

    def take(self, frames):
        rid, head, records = frames[0], wire.decode_header(frames[1]), frames[2:]
        kind = wire.NAMES.get(head["type"])
        assert head["count"] == len(records)
        if kind == "HELLO":
            return self.take_hello(rid, records[0])
        if rid != self.rid:
            return
        if kind == "RESULT":
            ids = []
            for r in records:
                d = wire.decode("RESULT", r)
                assert self.version.fits("RESULT", r), "fields of another major"
                (self.copies if d["task"] in self.results else self.frames).append(r)
                self.results.setdefault(d["task"], d)
                ids.append(d["task"])
            if self.ack:
                self.send("RESULT_ACK", wire.encode_ids(ids))
        elif kind == "CAPACITY":
            self.capacity = wire.decode("CAPACITY", records[0])
        elif kind == "METRICS":
            self.metrics.append(json.loads(wire.decode("METRICS", records[0])["json"]))
        elif kind == "BYE":
            self.byes.append(records[0])
            self.rid = None
        elif kind == "TASK_RETURN":
            self.returned += [i for r in records for i in wire.decode_ids(r)]
        elif kind == "FUNCTION_MISSING":
            for i in [i for r in records for i in wire.decode_ids(r)]:
                self.missing.append(i)
                if i in self.functions and self.answer:
                    self.send("FUNCTION", self.functions[i])
        elif kind == "TASK_STATE":
            self.states += [wire.decode("TASK_STATE", r) for r in records]

    def take_hello(self, rid, record):
        self.hello = wire.decode("HELLO", record)
        self.rid = rid
        if self.hello["max_major"] < self.version.lowest:
            self.sock.send_multipart([rid] + wire.message("REJECT", [wire.encode("REJECT", {"code": 13, "text": "no common version"})]))
            return
        self.epoch = int.from_bytes(os.urandom(7), "little") + 1
        self.sessions += 1
        self.send("WELCOME", peer.welcome(self.epoch, 300, 3000, self.version))

    def function(self, source, entry="f"):
        fn = str(uuid.uuid4())
        self.functions[fn] = self.version.encode("FUNCTION", {"kind": KIND_PYTHON, "id": fn, "code": source, "entry": entry})
        self.call(lambda: self.send("FUNCTION", self.functions[fn]))
        return fn

    def submit(self, fn, payloads, ids=None, **more):
        ids = ids or [str(uuid.uuid4()) for _ in payloads]
        records = [self.version.encode("TASK", dict(more, task=i, function=fn, payload=p, stamps=[1] * 4)) for i, p in zip(ids, payloads)]
        for at in range(0, len(records), 1000):
            self.call(lambda part=records[at:at + 1000]: self.send("TASK", *part))
        return ids

    def cancel(self, ids):
        self.call(lambda: self.send("CANCEL", wire.encode_ids(ids)))


class Bed:
    """A service, a forwarder, a home directory, and the commands."""

    def __init__(self, **forwarder):
        self.dir = tempfile.mkdtemp(prefix="weft-ep-test-")
        self.home = os.path.join(self.dir, "home")
        os.mkdir(self.home)
        self.token = os.path.join(self.dir, "token")
        self.write_token(TOKEN)
        self.service = Service()
        self.forwarder = self.service.forwarder = Forwarder(self.service, **forwarder)
        self.name = "t"

    def write_token(self, text):
        with open(os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            f.write(text + "\n")

    def new_forwarder(self, **kw):
        self.forwarder.close()
        self.forwarder = self.service.forwarder = Forwarder(self.service, **kw)
        return self.forwarder

    @property
    def ep(self):
        return os.path.join(self.home, "endpoints", self.name)

    def run(self, *args, timeout=60, env=None):
        e = dict(os.environ, WEFT_HOME=self.home)
        e.pop("WEFT_TOKEN", None)
        e.pop("WEFT_URL", None)
        e.update(env or {})
        p = subprocess.run([os.path.join(BUILD, "bin", "weft-endpoint"), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=timeout, env=e, text=True)
        p.all = p.stdout + p.stderr
        return p

    def ok(self, *args, **kw):
        p = self.run(*args, **kw)
        assert p.returncode == 0, "%s: status %d: %s%s" % (" ".join(args), p.returncode, p.stdout, p.stderr)
        return p

    def configure(self, *more, workers=2):
        self.ok("configure", "--url", self.service.url, "--token-file", self.token, "--workers", str(workers), *more, self.name)

    def start(self, *sets, **kw):
        args = []
        for s in sets:
            args += ["--set", s]
        return self.ok("start", *args, self.name, **kw)

    def status(self):
        return agent_status(lambda: self.run("status", "--json", self.name).stdout)

    def pid(self):
        return self.status()["pid"]

    def wait(self, what, condition, timeout=30):
        end = time.time() + timeout
        while not condition():
            if time.time() > end:
                raise AssertionError("timed out: " + what)
            time.sleep(0.02)

    def results(self, ids, timeout=60):
        f = self.forwarder
        self.wait("%d results, have %d" % (len(ids), len(f.results)), lambda: all(i in f.results for i in ids), timeout)
        return [f.results[i] for i in ids]

    def gated(self, n, **more):
        """Tasks that run until open_gate is called."""
        path = json.dumps(os.path.join(self.dir, "gate")).encode()
        return self.forwarder.submit(self.forwarder.function(HOLD.encode(), "hold"), [path] * n, **more)

    def open_gate(self):
        open(os.path.join(self.dir, "gate"), "w").close()

    def pids(self):
        """The agent and all below it."""
        with contextlib.suppress(OSError, ValueError):
            with open(os.path.join(self.ep, "run", "pid")) as f:
                pid = int(f.read())
            with open("/proc/%d/environ" % pid) as f:
                if self.home in f.read():
                    return [pid]
        return []

    def log(self):
        out = ""
        logs = os.path.join(self.ep, "logs")
        for n in sorted(os.listdir(logs)) if os.path.isdir(logs) else []:
            with open(os.path.join(logs, n), errors="replace") as f:
                out += "==> %s\n%s" % (n, f.read()[-6000:])
        return out

    def close(self):
        for n in os.listdir(os.path.join(self.home, "endpoints")) if os.path.isdir(os.path.join(self.home, "endpoints")) else []:
            self.name = n
            with contextlib.suppress(Exception):
                self.run("stop", "--timeout", "5s", n, timeout=30)
            for pid in self.pids():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        self.forwarder.close()
        self.service.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def need_workers():
    for p in ("weft-manager", "weft-worker"):
        if not os.access(os.path.join(BUILD, "bin", p), os.X_OK):
            raise Skip("%s is not built" % p)


ECHO = b"def f(x):\n    return x\n"
# a child with a child, and one in a session of its own; all have the mark in their environment
FAMILY = b"""import os, subprocess
def f(mark):
    return subprocess.call(["sh", "-c", "setsid sleep 600 & sleep 600; :"], env=dict(os.environ, WEFT_TEST_MARK=mark))
"""
SLOW = b"import time\ndef f(s):\n    time.sleep(s)\n    return s\n"


# ---- commands ---------------------------------------------------------------------------------------------------


@test
def configure_makes_a_private_directory(b):
    b.configure()
    assert os.stat(b.ep).st_mode & 0o777 == 0o700
    assert os.stat(os.path.join(b.ep, "endpoint.key")).st_mode & 0o777 == 0o600
    assert os.stat(os.path.join(b.ep, "config.yaml")).st_mode & 0o777 == 0o600
    assert b.run("configure", b.name).returncode == 1, "an endpoint is not overwritten"
    assert "valid" in b.ok("check-config", b.name).stdout
    assert b.run("configure", "../x").returncode != 0
    for url in "nonsense://", "nonsense://host", "weft.example.org", "http://", "ftp://weft.example.org", "https:///x y":
        p = b.run("configure", "--url", url, "other")
        assert p.returncode == 1 and "service.url" in p.stderr and "http://" in p.stderr, (url, p.all)
        assert not os.path.exists(os.path.join(b.home, "endpoints", "other", "config.yaml"))
    assert b.run("check-config", b.name, env={"WEFT_URL": "nonsense://"}).returncode == 0, "service.url goes before it"
    b.ok("configure", "--url", "https://[::1]:8443/weft/", "other")
    with open(os.path.join(b.ep, "config.yaml"), "a") as f:
        f.write("nonsense: 1\n")
    p = b.run("check-config", b.name)
    assert p.returncode == 1 and "nonsense" in p.stderr, p.all


@test
def example_configuration_is_the_table(b):
    with open(os.path.join(ROOT, "config", "endpoint.yaml")) as f:
        assert f.read() == b.ok("print-config").stdout, "config/endpoint.yaml is not what print-config prints"


@test
def commands_say_what_is_wrong(b):
    p = b.run("start", "nobody")
    assert p.returncode == 1 and "configure nobody" in p.stderr, p.all
    p = b.run("strat")
    assert p.returncode == 2 and "start" in p.stderr, p.all
    b.configure()
    assert "not running" in b.ok("stop", b.name).stdout
    assert b.run("status", b.name).returncode == 3
    assert "stopped" in b.ok("list").stdout
    out = b.ok("render", b.name).stdout
    assert "weft-manager --connect ipc://" in out and "--workers 2" in out, out


@test
def start_connects_and_is_idempotent(b):
    b.configure()
    out = b.start("scaling.init_blocks=0").stdout
    assert "connected" in out, out
    st = b.status()
    assert st["connected"] and st["state"] == "connected" and st["endpoint_id"] in b.service.endpoints, st
    ep = b.service.endpoints[st["endpoint_id"]]
    assert ep["endpoint_name"] == b.name and len(ep["weft"]["public_key"]) == 40 and ep["metadata"]["hostname"], ep
    assert b.forwarder.hello["role"] == 1 and b.forwarder.hello["id"] == st["endpoint_id"]
    p = b.ok("start", b.name)
    assert "already running" in p.stdout, p.all
    assert b.forwarder.sessions == 1
    b.wait("CAPACITY", lambda: b.forwarder.capacity and b.forwarder.capacity["window_tasks"] >= 1024)
    assert "connected" in b.ok("list").stdout
    assert "starting" in b.ok("logs", "-n", "100", b.name).stdout
    with open(os.path.join(b.ep, "run", "status.json")) as f:
        assert json.load(f)["endpoint_id"] == st["endpoint_id"]
    pid = st["pid"]
    assert "stopped" in b.ok("stop", b.name).stdout
    assert not alive(pid) and b.forwarder.byes, "BYE is said"
    # the same id again, by PUT
    b.start("scaling.init_blocks=0")
    assert b.status()["endpoint_id"] == st["endpoint_id"] and len(b.service.endpoints) == 1
    assert any(c[0] == "PUT" for c in b.service.calls)
    b.ok("restart", "--set", "scaling.init_blocks=0", b.name)
    assert b.status()["connected"]


@test
def start_that_does_not_wait(b):
    b.service.forwarder = None
    b.ok("configure", "--url", b.service.url, "--token-file", b.token, "--display-name", "lab \"7\": #1", b.name)
    out = b.ok("start", "--no-wait", "--set", "scaling.init_blocks=0", b.name).stdout
    st = b.status()
    assert "is starting (pid %d)" % st["pid"] in out and not st["connected"], (out, st)
    b.wait("it registers", lambda: b.service.endpoints)
    b.service.forwarder = b.forwarder
    b.wait("it connects", lambda: b.status()["connected"])
    ep, = b.service.endpoints.values()
    assert ep["endpoint_name"] == ep["display_name"] == "lab \"7\": #1", ep


@test
def start_fails_in_one_sentence(b):
    b.configure()
    b.write_token("wrong")
    p = b.run("start", b.name)
    assert p.returncode == 1 and "refused the token" in p.stderr, p.all
    assert not b.pids() or not alive(b.pids()[0]), "a start that failed leaves nothing running"
    b.write_token(TOKEN)
    # no forwarder
    b.service.forwarder = None
    p = b.run("start", "--timeout", "5s", b.name)
    assert p.returncode == 1 and "no forwarder" in p.stderr, p.all
    # a key that the forwarder does not know
    b.service.forwarder = b.forwarder
    b.forwarder.allow = False
    p = b.run("start", "--timeout", "20s", b.name)
    assert p.returncode == 1 and "key" in p.stderr, p.all
    b.forwarder.allow = True
    # another server key than the forwarder has
    b.forwarder.named_key = zmq.curve_keypair()[0].decode()
    p = b.run("start", "--timeout", "8s", b.name)
    assert p.returncode == 1 and "forwarder" in p.stderr, p.all
    b.forwarder.named_key = b.forwarder.public
    b.start("scaling.init_blocks=0")
    b.ok("stop", b.name)
    # no service: and then the last known forwarder is dialled all the same
    b.service.close()
    b.start("scaling.init_blocks=0")
    b.ok("stop", b.name)


@test
def start_without_a_token_says_where_to_put_one(b):
    b.ok("configure", "--url", b.service.url, b.name)
    for p in (b.run("start", b.name), b.run("register", b.name)):
        assert p.returncode == 1 and "no token" in p.stderr and "service.token_file" in p.stderr and "WEFT_TOKEN" in p.stderr, p.all
        assert "refused" not in p.stderr, p.all
    p = b.run("doctor", b.name)
    assert "none: set service.token_file" in p.stdout and "refused the token" not in p.stdout, p.all
    b.ok("register", b.name, env={"WEFT_TOKEN": TOKEN})


@test
def forwarder_that_advertises_loopback(b):
    """Its default is 127.0.0.1: from another computer than the service's that is nobody, or somebody else."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        b.service.forwarder = types.SimpleNamespace(address="tcp://127.0.0.1:%d" % nobody.getsockname()[1], named_key=b.forwarder.public)
        b.configure()
        p = b.run("start", "--timeout", "5s", b.name)
        assert p.returncode == 1 and "is its port open" in p.stderr and "advertise" not in p.stderr, p.all
        elsewhere = {"http_proxy": b.service.url, "no_proxy": ""}
        b.name = "elsewhere"
        b.ok("configure", "--url", "http://weft.example.org", "--token-file", b.token, b.name)
        p = b.run("start", "--timeout", "5s", b.name, env=elsewhere)
        assert p.returncode == 1 and "127.0.0.1" in p.stderr and "listen.advertise" in p.stderr, p.all
        p = b.run("doctor", b.name, env=elsewhere)
        assert p.returncode == 1 and "listen.advertise" in p.stdout, p.all


@test
def service_unreachable(b):
    b.configure()
    p = b.run("start", "--set", "service.url=http://127.0.0.1:9", "--timeout", "5s", b.name)
    assert p.returncode == 1 and "cannot be reached" in p.stderr, p.all


@test
def unknown_endpoint_is_registered_anew(b):
    b.configure()
    b.start("scaling.init_blocks=0")
    first = b.status()["endpoint_id"]
    b.ok("stop", b.name)
    b.service.endpoints.clear()
    b.start("scaling.init_blocks=0")
    assert b.status()["endpoint_id"] != first and b.status()["connected"]


def make_store(path):
    with open(os.path.join(path, "id"), "w") as f:
        f.write("0193a0e4-0000-7000-8000-000000000001\n")


@test
def fsync_is_of_spool_and_bulk_store(b):
    """With spool.fsync: interval a thread each; without, none."""
    def threads():
        tasks = "/proc/%d/task" % b.status()["pid"]
        return sorted(c for c in (open(os.path.join(tasks, t, "comm")).read().strip() for t in os.listdir(tasks)) if c.startswith("sync"))
    b.configure()
    store = os.path.join(b.dir, "bulk")
    os.mkdir(store, 0o700)
    make_store(store)
    b.start("scaling.init_blocks=0", "bulk.dir=" + store)
    assert threads() == [], threads()
    b.ok("stop", b.name)
    b.start("scaling.init_blocks=0", "bulk.dir=" + store, "spool.fsync=interval")
    assert threads() == ["sync-bulk", "sync-spool"], threads()


@test
def doctor_checks(b):
    b.configure()
    p = b.run("doctor", "--json", b.name)
    checks = {c["check"]: c["level"] for c in json.loads(p.stdout)}
    assert checks["service"] == "ok" and checks["token"] == "ok" and checks["key"] == "ok" and checks["clock"] == "ok", checks
    assert checks["registered"] == "warn" and checks["agent"] == "warn", checks
    b.start("scaling.init_blocks=0")
    checks = {c["check"]: c["level"] for c in json.loads(b.run("doctor", "--json", b.name).stdout)}
    assert checks["registered"] == "ok" and checks["forwarder"] == "ok" and checks["agent"] == "ok" and "bulk" not in checks, checks
    store = os.path.join(b.dir, "bulk")
    path = os.path.join(b.ep, "config.yaml")
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(re.sub(r"(?m)^  #dir:.*$", "  dir: " + store, text, count=1))
    for made, level in ((lambda: None, "warn"), (lambda: os.mkdir(store, 0o700), "warn"), (lambda: make_store(store), "ok"),
                        (lambda: os.chmod(store, 0o755), "warn")):
        made()
        checks = {c["check"]: c["level"] for c in json.loads(b.run("doctor", "--json", b.name).stdout)}
        assert checks["bulk"] == level, (checks, level)
    os.chmod(store, 0o700)
    identity = os.path.join(b.ep, "endpoint.json")
    with open(identity) as f:
        j = json.load(f)
    with open(identity, "w") as f:
        json.dump(dict(j, forwarder_address="tcp://127.0.0.1:1"), f)
    says = [(c["level"], c["text"]) for c in json.loads(b.run("doctor", "--json", b.name).stdout) if c["check"] == "forwarder"]
    assert [x[0] for x in says] == ["fail"], says
    with socket.socket(socket.AF_UNIX) as within:     # it works without TCP
        within.bind(os.path.join(store, "link-" + j["endpoint_id"]))
        within.listen()
        says = [(c["level"], c["text"]) for c in json.loads(b.run("doctor", "--json", b.name).stdout) if c["check"] == "forwarder"]
        assert [x[0] for x in says] == ["ok", "warn"] and "link-" in says[0][1], says
    os.chmod(b.ep, 0o755)
    p = b.run("doctor", b.name)
    assert p.returncode == 1 and "fail" in p.stdout and "chmod 700" in p.stdout, p.all


@test
def delete_deregisters(b):
    b.configure()
    b.start("scaling.init_blocks=0")
    st = b.status()
    assert b.run("delete", b.name).returncode == 1, "asks first"
    b.ok("delete", "--yes", b.name)
    assert st["endpoint_id"] in b.service.deleted and not os.path.exists(b.ep) and not alive(st["pid"])


@test
def delete_needs_force_without_service(b):
    b.configure()
    b.ok("register", b.name)
    b.service.close()
    assert b.run("delete", "--yes", b.name).returncode == 1 and os.path.exists(b.ep)
    b.ok("delete", "--yes", "--force", b.name)
    assert not os.path.exists(b.ep)


@test
def registering_by_hand_takes_nothing_back(b):
    b.configure()
    with open(os.path.join(b.ep, "config.yaml"), "a") as f:
        f.write("python: {\"3.11\": /usr/bin/python3, \"3.12\": /usr/bin/python3}\n")
    b.start("scaling.init_blocks=0")
    ep = b.status()["endpoint_id"]
    b.wait("what it offers", lambda: "pythons" in b.service.endpoints[ep]["metadata"])
    told = b.service.endpoints[ep]["metadata"]
    before = len(b.service.calls)
    b.ok("register", b.name)
    assert [c[0] for c in b.service.calls[before:]].count("PUT") == 1
    again = b.service.endpoints[ep]["metadata"]
    assert told["pythons"] == ["3.11", "3.12"]
    for key in ("pythons", "python_version", "containers", "files"):
        assert again.get(key) == told.get(key), (key, told, again)


# ---- tasks ------------------------------------------------------------------------------------------------------


@test
def runs_tasks(b):
    need_workers()
    b.configure()
    b.start()
    f = b.forwarder
    fn = f.function(ECHO)
    ids = f.submit(fn, [b'"hello %d"' % i for i in range(500)])
    for i, r in enumerate(b.results(ids)):
        assert r["status"] == 1 and r["result"] == b'"hello %d"' % i, r
        stamps = r["stamps"]
        assert 0 < stamps[4] <= stamps[5] <= stamps[6] <= stamps[9] <= stamps[10] <= stamps[13], stamps
    b.wait("the spool is empty", lambda: b.status()["spool"]["results"] == 0)
    st = b.status()
    assert st["tasks"]["done"] == 500 and st["slots"]["total"] == 2 and st["blocks"]["up"] == 1, st


@test
def works_over_tcp_with_keys(b):
    need_workers()
    b.configure()
    b.start("manager_transport=tcp")
    fn = b.forwarder.function(ECHO)
    for r in b.results(b.forwarder.submit(fn, [b"1", b"2", b"3"])):
        assert r["status"] == 1, r
    assert os.stat(os.path.join(b.ep, "run", "manager.key")).st_mode & 0o777 == 0o600


@test
def long_paths_work(b):
    need_workers()
    b.name = "n" * 64
    b.configure()
    b.start()
    fn = b.forwarder.function(ECHO)
    assert b.results(b.forwarder.submit(fn, [b"1"]))[0]["status"] == 1
    with open(os.path.join(b.ep, "run", "short")) as f:
        short = f.read()
    b.ok("stop", b.name)
    assert not os.path.exists(short)


@test
def duplicates_are_dropped_and_results_sent_again(b):
    need_workers()
    b.configure()
    b.start()
    f = b.forwarder
    f.ack = False
    ids = b.gated(2)
    b.gated(2, ids=ids)
    b.wait("they are seen", lambda: b.status()["tasks"]["duplicates"] == 2)
    b.open_gate()
    b.results(ids)
    assert b.status()["tasks"]["duplicates"] == 2 and not f.copies
    b.gated(2, ids=ids)         # done, not acknowledged: sent again, not run again
    b.wait("copies", lambda: len(f.copies) == 2)
    assert f.copies[0] in f.frames, "the same bytes"
    st = b.status()
    assert st["tasks"]["duplicates"] == 4 and st["spool"]["results"] == 2, st


@test
def function_is_asked_for(b):
    need_workers()
    b.configure()
    b.start()
    f = b.forwarder
    fn = str(uuid.uuid4())
    f.answer = False
    f.functions[fn] = wire.encode("FUNCTION", {"kind": KIND_PYTHON, "id": fn, "code": ECHO, "entry": "f"})
    ids = f.submit(fn, [b"7", b"8"])
    b.wait("FUNCTION_MISSING", lambda: fn in f.missing)
    assert b.status()["queue"]["held"] == 2
    f.answer = True
    assert [r["result"] for r in b.results(ids)] == [b"7", b"8"]


@test
def function_that_a_manager_asked_for_is_asked_for_in_the_next_session_too(b):
    b.configure(workers=1)
    b.start("manager_bin=" + peer.speaking(os.path.join(ROOT, "tests", "fakes", "manager.py"), versions.OURS, b.dir))
    f = b.forwarder
    fn, missing = f.function(ECHO), str(uuid.uuid4())
    f.answer = False
    ids = f.submit(fn, [missing.encode()])
    b.wait("FUNCTION_MISSING", lambda: missing in f.missing)
    g = b.new_forwarder()
    b.wait("FUNCTION_MISSING once more", lambda: missing in g.missing)
    g.functions[missing] = wire.encode("FUNCTION", {"kind": KIND_PYTHON, "id": missing, "code": ECHO, "entry": "f"})
    g.call(lambda: g.send("FUNCTION", g.functions[missing]))
    assert json.loads(b.results(ids)[0]["result"])["payload"] == missing


@test
def metrics_are_sent_when_they_change(b):
    need_workers()
    b.configure()
    b.start()
    f = b.forwarder
    b.wait("METRICS", lambda: f.metrics)
    b.wait("a block", lambda: b.status()["managers"])
    f.ack = False
    fn = f.function(ECHO)
    ids = f.submit(fn, [b"1"] * 3)
    b.results(ids)
    b.wait("what came of it", lambda: f.metrics[-1]["tasks_received"] == 3 and f.metrics[-1]["spool_results"] == 3)
    m, st = f.metrics[-1], b.status()
    assert m["blocks_started"] == st["blocks"]["started"] == 1 and m["spool_disk_bytes"] == st["spool"]["disk_bytes"] > 0, (m, st)
    assert all(type(v) is int for v in m.values()) and m["spool_full"] == 0 == m["tasks_lost"], m
    said = len(f.metrics)
    time.sleep(7)                   # nothing happens: nothing is said
    assert len(f.metrics) == said, f.metrics
    f = b.new_forwarder()           # all that was counted, anew
    f.ack = False
    b.wait("METRICS in the next session", lambda: f.metrics)
    assert f.metrics[0]["tasks_received"] == 3, f.metrics


@test
def allowed_functions_are_enforced(b):
    b.configure()
    b.start("scaling.init_blocks=0", "allowed_functions=[%s]" % uuid.uuid4())
    f = b.forwarder
    r = b.results(f.submit(f.function(ECHO), [b"1"]))[0]
    assert r["status"] == 2 and r["fault"] == 1 and b"allowed_functions" in r["error"], r


@test
def cancel_queued_and_running(b):
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    fn = f.function(SLOW)
    ids = f.submit(fn, [b"60"] * 30)
    b.wait("one runs", lambda: any(s["state"] == 4 for s in f.states))
    f.cancel(ids)
    assert {r["status"] for r in b.results(ids, 30)} == {3}


@test
def cancel_of_what_it_does_not_have_is_answered(b):
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    f.ack = False
    ended = f.submit(f.function(ECHO), [b"1"])
    b.results(ended)
    unknown = [str(uuid.uuid4()) for _ in range(3)]
    f.cancel(ended + unknown)       # the result that was sent is the answer
    b.wait("the answer", lambda: len(f.returned) >= 3)
    assert f.returned == unknown, f.returned


@test
def manager_killed_tasks_run_again(b):
    need_workers()
    b.configure()
    b.start()
    ids = b.gated(6)
    b.wait("a manager with tasks", lambda: any(m["tasks"] for m in b.status()["managers"]))
    m = b.status()["managers"][0]
    os.kill(m["pid"], signal.SIGKILL)
    b.open_gate()
    rs = b.results(ids, 60)
    assert {r["status"] for r in rs} == {1} and max(r["attempt"] for r in rs) >= 1, rs
    st = b.status()
    assert st["blocks"]["failed"] == 1 and st["managers"][0]["pid"] != m["pid"], st


def marked(mark):
    """Processes that a call of FAMILY has started."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/environ" % p, "rb") as f:
            if b"WEFT_TEST_MARK=%s\0" % mark.encode() in f.read():
                found.append(int(p))
    return found


@test
def nothing_of_a_call_outlives_its_manager_or_agent(b):
    need_workers()
    b.configure(workers=1)
    b.start()
    mark = os.path.basename(b.dir)
    b.forwarder.submit(b.forwarder.function(FAMILY), [json.dumps(mark).encode()])
    old = []
    try:
        for victim in (lambda st: st["managers"][0]["pid"], lambda st: st["pid"]):
            b.wait("a call with three processes", lambda: len(set(marked(mark)) - set(old)) == 3)
            b.wait("it is known here", lambda: any(m["tasks"] for m in b.status()["managers"]))
            old = marked(mark)
            os.kill(victim(b.status()), signal.SIGKILL)
            b.wait("the end of what the call started", lambda: not any(map(alive, old)), 30)
        b.wait("nothing is left", lambda: not marked(mark), 30)
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)


@test
def cancelled_and_its_manager_lost(b):
    """A task that somebody cancelled does not begin anew, though the manager that had it never answered."""
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    ids = f.submit(f.function(SLOW), [b"60"])
    b.wait("it runs", lambda: any(s["state"] == 4 for s in f.states))
    pid = b.status()["managers"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    f.cancel(ids)
    b.status()      # the agent has read it: what comes later is answered later
    os.kill(pid, signal.SIGKILL)
    r = b.results(ids, 30)[0]
    assert r["status"] == 3 and b"cancelled" in r["error"], r


@test
def cancelled_while_its_manager_was_silent(b):
    """The manager comes back, and neither goes on with the task nor begins it anew: its slot is free."""
    need_workers()
    b.configure(workers=1)
    b.start("heartbeat.interval=200ms", "heartbeat.threshold=4s")
    f = b.forwarder
    ran = os.path.join(b.dir, "ran")
    fn = f.function(b"import os, time\ndef f(path):\n    with open(path, 'a') as f:\n        f.write('%d ' % os.getpid())\n    time.sleep(60)\n")
    ids = f.submit(fn, [json.dumps(ran).encode()])
    b.wait("it runs", lambda: os.path.exists(ran) and any(s["state"] == 4 for s in f.states))
    pid = b.status()["managers"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        b.wait("its session ends", lambda: not b.status()["managers"])
        f.cancel(ids)
        assert b.results(ids, 30)[0]["status"] == 3
    finally:
        os.kill(pid, signal.SIGCONT)
    assert b.results(f.submit(f.function(ECHO), [b"1"]), 30)[0]["status"] == 1, "a free slot"
    with open(ran) as f:
        call, = f.read().split()
    b.wait("the call is over", lambda: not alive(int(call)), 30)
    assert [m["pid"] for m in b.status()["managers"]] == [pid]


@test
def goes_on_after_its_manager_lost_the_agent(b):
    """The call is not run again, and its manager is not sent others on top of it."""
    need_workers()
    b.configure(workers=1)
    b.start("heartbeat.interval=200ms", "heartbeat.threshold=4s")
    f = b.forwarder
    ran, go = os.path.join(b.dir, "ran"), os.path.join(b.dir, "go")
    fn = f.function(b"import os, time\ndef f(x):\n    ran, go = x\n    with open(ran, 'a') as f:\n        f.write('%d ' % os.getpid())\n"
                    b"    while not os.path.exists(go):\n        time.sleep(0.02)\n")
    ids = f.submit(fn, [json.dumps([ran, go]).encode()])
    b.wait("it runs", lambda: os.path.exists(ran) and any(s["state"] == 4 for s in f.states))
    pid, agent = b.status()["managers"][0]["pid"], b.pid()
    os.kill(agent, signal.SIGSTOP)
    try:
        b.wait("its session ends", lambda: "session with the agent ended" in b.log())
    finally:
        os.kill(agent, signal.SIGCONT)
    b.wait("it is back, with its task", lambda: [(m["pid"], m["tasks"]) for m in b.status()["managers"]] == [(pid, 1)])
    open(go, "w").close()
    assert b.results(ids, 30)[0]["status"] == 1
    with open(ran) as f:
        assert len(f.read().split()) == 1


class Manager:
    """A scripted one, which says what the test wants."""

    def __init__(self, b):
        self.b, self.ctx, self.me = b, zmq.Context(), uuid.uuid4().bytes
        self.sock, self.epoch, self.got, self.said = None, 0, [], 0

    def close(self):
        if self.sock:
            self.sock.close(linger=0)
        self.ctx.term()

    def session(self):
        """A new one; the one before ends."""
        if self.sock:
            self.sock.close(linger=0)
        self.sock, self.epoch, self.got = self.ctx.socket(zmq.DEALER), 0, []
        self.sock.connect(re.search(r"address=(ipc:\S+)", self.b.log()).group(1))
        self.send("HELLO", peer.hello(2, self.me, 1, "scripted"))
        self.until("WELCOME", lambda: self.epoch)
        self.send("CAPACITY", wire.encode("CAPACITY", {"window_tasks": 4, "window_bytes": 1 << 30, "slots": 1, "time_left_s": 0xffffffff}))

    def leave(self):
        self.send("BYE", peer.reason())
        self.epoch = 0

    def send(self, kind, *records):
        self.sock.send_multipart(versions.OURS.message(kind, records, self.epoch))

    def says(self, *ids):
        self.send("TASK_STATE", *map(peer.state, (uuid.UUID(i).bytes for i in ids)))

    def ends(self, task, status):
        self.send("RESULT", wire.encode("RESULT", {"status": status, "code": 12 if status == 3 else 0, "task": task}))
        self.until("RESULT_ACK", lambda: ("RESULT_ACK", task) in self.got)

    def has(self, kind, task):
        self.until("%s %s" % (kind, task), lambda: (kind, task) in self.got)

    def look(self):
        if self.epoch and time.monotonic() - self.said > 0.5:
            self.said = time.monotonic()
            self.send("HEARTBEAT")
        while self.sock and self.sock.poll(0):
            head, *records = self.sock.recv_multipart()
            kind = wire.NAMES.get(wire.decode_header(head)["type"])
            if kind == "WELCOME":
                self.epoch = wire.decode("WELCOME", records[0])["epoch"]
            elif kind == "TASK":
                self.got += [(kind, wire.decode(kind, r)["task"]) for r in records]
            elif kind in ("CANCEL", "RESULT_ACK"):
                self.got += [(kind, i) for r in records for i in wire.decode_ids(r)]

    def until(self, what, condition):
        self.b.wait(what, lambda: [m.look() for m in self.all] and condition())


def with_scripted(b, n=2):
    """An endpoint without managers of its own, whose tasks n scripted ones will get."""
    path = os.path.join(b.dir, "no-manager")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o700), "w") as f:
        f.write("#!/bin/sh\nexec sleep 1000\n")
    b.configure(workers=1)
    b.start("manager_bin=" + path, "heartbeat.interval=1s", "heartbeat.threshold=5s")
    stack = contextlib.ExitStack()
    Manager.all = [Manager(b) for _ in range(n)]
    for m in Manager.all:
        stack.callback(m.close)
    return stack, Manager.all


@test
def tasks_of_a_session_before(b):
    """What a manager has when it comes back is nobody's, another one's, or its own again."""
    stack, (one, two) = with_scripted(b)
    f = b.forwarder
    with stack:
        fn = f.function(ECHO)
        gone, other, own, unknown = (str(uuid.uuid4()) for _ in range(4))
        one.session()
        one.says(unknown)
        one.has("CANCEL", unknown)      # all that the forwarder has for the agent would have come
        f.submit(fn, [b"1", b"2"], [gone, other])
        one.has("TASK", gone)
        one.has("TASK", other)
        one.leave()
        b.wait("the end of its session", lambda: not b.status()["managers"])
        f.cancel([gone])
        assert b.results([gone])[0]["status"] == 3
        two.session()
        two.has("TASK", other)
        for _ in range(2):      # its session may break again before it has done what it is told
            one.session()
            one.says(gone, other)
            one.has("CANCEL", gone)
            one.has("CANCEL", other)
        one.ends(gone, 3)
        one.ends(other, 3)      # what it was told to end does not end the other one's
        one.ends(str(uuid.uuid4()), 3)
        two.ends(other, 1)
        assert b.results([other])[0]["status"] == 1 and set(f.results) == {gone, other} and not f.copies, f.results
        # when it can be its own it is, and is not sent
        two.leave()
        f.submit(fn, [b"3"], [own])
        one.has("TASK", own)
        one.session()
        one.says(own)
        one.until("it is with it", lambda: [m["tasks"] for m in b.status()["managers"]] == [1])
        one.ends(own, 1)
        assert b.results([own])[0]["status"] == 1 and ("CANCEL", own) not in one.got, one.got


@test
def tasks_of_an_agent_before(b):
    """The agent knows nothing of what a manager has: it waits for the forwarder to send it, or not."""
    stack, (one, two) = with_scripted(b)
    f = b.forwarder
    with stack:
        two.session()
        one.session()
        f = b.new_forwarder()           # a session that is young
        one.until("a new session", lambda: f.sessions == 1)
        own, cancelled, nobodys = (str(uuid.uuid4()) for _ in range(3))
        one.says(own, cancelled, nobodys)
        b.status()
        fn = f.function(ECHO)
        f.cancel([cancelled])
        one.has("CANCEL", cancelled)
        f.submit(fn, [b"1"], [own])
        one.until("it is with it", lambda: {m["tasks"] for m in b.status()["managers"]} == {0, 1})
        one.ends(cancelled, 3)
        one.has("CANCEL", nobodys)
        one.ends(nobodys, 3)
        one.ends(own, 1)
        assert b.results([own])[0]["status"] == 1 and set(f.results) == {own}, f.results
        assert not [g for g in one.got + two.got if g[0] == "TASK"], "it was sent to nobody"


@test
def lost_too_often_fails_and_names_the_cause(b):
    need_workers()
    b.configure(workers=1)
    b.start("retries_on_loss=1")
    f = b.forwarder
    ids = f.submit(f.function(SLOW), [b"60"])
    killed = set()
    while ids[0] not in f.results and len(killed) < 4:
        b.wait("a manager with the task", lambda: ids[0] in f.results or any(
            m["tasks"] and m["pid"] not in killed for m in b.status()["managers"]), 30)
        for m in b.status()["managers"]:
            if m["tasks"] and m["pid"] not in killed:
                os.kill(m["pid"], signal.SIGKILL)
                killed.add(m["pid"])
    r = b.results(ids)[0]
    assert len(killed) == 2 and r["status"] == 2 and r["code"] == 28 and r["fault"] == 2, (killed, r)
    assert b"block b" in r["error"] and b"signal 9" in r["error"], r["error"]


@test
def agent_killed_results_are_sent_again(b):
    need_workers()
    b.configure()
    b.start()
    f = b.forwarder
    f.ack = False
    fn = f.function(ECHO)
    ids = f.submit(fn, [b"%d" % i for i in range(50)])
    b.results(ids)
    slow = f.submit(f.function(SLOW), [b"60"])
    b.wait("it runs", lambda: any(m["tasks"] for m in b.status()["managers"]))
    st = b.status()
    os.kill(st["pid"], signal.SIGKILL)
    b.wait("the agent is dead", lambda: not alive(st["pid"]))
    b.wait("managers die with the agent", lambda: not any(alive(m["pid"]) for m in st["managers"]), 30)
    assert b.run("status", b.name).returncode == 3
    first = f.frames[:]
    f.results.clear()
    f.frames.clear()
    f.ack = True
    b.start()
    assert {r["result"] for r in b.results(ids)} == {b"%d" % i for i in range(50)}
    assert sorted(f.frames) == sorted(first), "the same results, byte for byte"
    b.wait("acknowledged", lambda: b.status()["spool"]["results"] == 0)
    # what ran when it was killed is the forwarder's to send again
    f.function(SLOW)
    again = f.submit(list(f.functions)[-1], [b"0.1"], slow)
    assert b.results(again)[0]["status"] == 1


@test
def forwarder_restarts_elsewhere(b):
    need_workers()
    b.configure()
    b.start()
    f = b.forwarder
    f.ack = False
    ids = f.submit(f.function(SLOW), [b"2", b"2"])
    b.wait("they run", lambda: any(s["state"] == 4 for s in f.states))
    g = b.new_forwarder()       # another port, another key: the service is asked again
    b.wait("a new session", lambda: g.sessions == 1, 30)
    assert {r["status"] for r in b.results(ids)} == {1}


@test
def forwarders_of_other_versions(b):
    need_workers()
    b.configure()
    for v in versions.OTHERS:
        f = b.new_forwarder(version=v)
        b.start()
        h = f.hello
        assert (h["min_major"], h["max_major"], h["minor"]) == (1, wire.MAJOR, wire.MINOR), h
        if v.newer:
            for _ in range(20):         # more than it would take of malformed ones
                f.call(lambda: f.sock.send_multipart([f.rid] + v.unknown(f.epoch)))
        rs = b.results(f.submit(f.function(ECHO), [b"1", b"2"]))
        assert [(r["status"], r["result"]) for r in rs] == [(1, b"1"), (1, b"2")], (v, rs)
        bad = b.results(f.submit(f.function(b"def f():\n    raise ValueError('x')\n"), [b""]))[0]
        assert bad["status"] == 2 and b"ValueError" in bad["error"], (v, bad)
        assert f.sessions == 1 and f.thread.is_alive(), v
        b.ok("stop", b.name)


@test
def managers_of_other_versions(b):
    """With a forwarder of ours, and with one of the same other version: nothing of the agent's own leaks from one to the other."""
    b.configure(workers=1)
    path = os.path.join(ROOT, "tests", "fakes", "mpi") + ":" + os.environ["PATH"]
    alone = wire.encode("RESOURCES", {"nodes": 1, "ranks_per_node": 1})
    for v in versions.OTHERS:
        fake = peer.speaking(os.path.join(ROOT, "tests", "fakes", "manager.py"), v, b.dir)
        for above in (versions.OURS, v):
            f = b.new_forwarder(version=above)
            b.start("manager_bin=" + fake, "mpi_launcher=mpiexec", "scaling.max_blocks=1", env={"PATH": path})
            fn = f.function(ECHO)
            rs = [json.loads(r["result"]) for r in b.results(f.submit(fn, [b"1", b"2"]))]
            assert [r["payload"] for r in rs] == ["1", "2"] and all(r["code"] == ECHO.decode() and not r["nodes"] for r in rs), (v, rs)
            assert all(r["session"] == list(v.session) for r in rs), (v, rs)
            assert len(b.status()["managers"]) == 1, v
            if above.knows_nodes:
                whole = f.submit(fn, [b"3"], resources=alone)
                if v.knows_nodes:
                    assert json.loads(b.results(whole)[0]["result"])["nodes"], v
                else:                   # it would run the task without its nodes
                    assert b.results(f.submit(fn, [b"4"]))[0]["status"] == 1 and whole[0] not in f.results, v
                    f.cancel(whole)
                    assert b.results(whole)[0]["status"] == 3, v
            assert f.thread.is_alive(), v
            b.ok("stop", b.name)


@test
def no_common_version(b):
    b.new_forwarder(version=versions.Version("much newer", wire.MAJOR + 1, wire.MAJOR + 2, 0))
    b.configure()
    p = b.run("start", "--timeout", "15s", b.name)
    assert p.returncode == 1 and "version" in p.stderr, p.all


def alive_socket(s):
    """Its other end has not closed."""
    s.setblocking(False)
    try:
        return s.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        s.settimeout(60)


@test
def garbage_at_the_control_socket(b):
    """From clients that say nothing, half of it, too much, nonsense, or leave: those who have a command are answered meanwhile, and after."""
    b.configure()
    b.start("scaling.init_blocks=0")
    pid = b.pid()
    here = os.open(os.path.join(b.ep, "run"), os.O_RDONLY)      # its path may be too long for an address

    def connect():
        s = socket.socket(socket.AF_UNIX)
        s.connect("/proc/self/fd/%d/control.sock" % here)       # blocking, as the commands: it waits for room
        s.settimeout(60)
        return s

    def say(text, end=False):
        """What comes back until the agent closes; what it does not want to hear to the end, it need not."""
        with connect() as s:
            got = b""
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                s.sendall(text)
                if end:
                    s.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while part := s.recv(65536):
                    got += part
            return got

    before = {pid: ("agent", rss(pid))}
    for text in (b"\n", b"\0\n", os.urandom(100).replace(b"\n", b"x") + b"\n", b"status\n", b"{}\n", b"[]\n", b"7\n", b'{"cmd": 7}\n', b'{"cmd": "nonsense"}\n',
                 b'{"cmd": "status", "cmd": "stop"}\n', b'{"cmd": "st\\u0000op"}\n', b"[" * 60000 + b"\n", b'{"cmd": "' + b"x" * 50000 + b'"}\n'):
        assert json.loads(say(text)) == {"error": "unknown command"}, text[:60]
    for text in (b"", b"{", b'{"cmd": "stop"}'):
        assert say(text, end=True) == b"", "half a line is none"
    for text in (b"x" * 200000, b'{"cmd": "stop", "x": "' + b"y" * (4 << 20)):
        assert say(text) in (b'{"error":"the request is too long"}\n', b""), "a line over its bound"
    assert json.loads(say(b'{"cmd": "status"}\n{"cmd": "stop"}\n'))["pid"] == pid, "one request each"
    for _ in range(300):                                        # gone before the answer, in both ways to go
        for linger in (0, 1):
            with connect() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
                s.sendall(b'{"cmd": "status"}\n')
    held = []
    for i in range(200):                                        # more than it takes, and none of them goes
        held.append(connect())
        held[-1].sendall((b"", b'{"cmd": "stop"', b"z" * 60000)[i % 3])
        if i % 20 == 0:
            assert b.status()["pid"] == pid, "status, with %d that hang" % i
    assert b.ok("drain", b.name) and b.ok("undrain", b.name)
    waiting = [s for s in held if alive_socket(s)]
    assert 0 < len(waiting) <= 32, "it keeps a bounded number of them, the youngest: %d" % len(waiting)
    assert waiting == held[-len(waiting):]
    for s in waiting:                                           # who says nothing is let go in the end
        with contextlib.suppress(ConnectionResetError):
            assert s.recv(1) == b""
    bad = grown(before, {pid: ("agent", rss(pid))}, 16 << 20)
    assert b.pid() == pid and not bad, bad
    young = [connect() for _ in range(100)]
    assert "stopped" in b.ok("stop", b.name).stdout and not alive(pid)
    for s in held + young:
        s.close()
    os.close(here)


@test
def drain_gives_back(b):
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    ids = b.gated(40)
    b.wait("one runs", lambda: any(s["state"] == 4 for s in f.states))
    b.ok("drain", b.name)
    b.wait("all but what runs come back", lambda: len(set(f.returned)) == 39, 30)
    b.open_gate()
    b.results(list(set(ids) - set(f.returned)))
    assert len(f.results) == 1, len(f.results)
    assert f.capacity["window_tasks"] == 0
    assert b.gated(1, ids=[ids[-1]]) and b.status()["state"] == "drained"
    b.ok("undrain", b.name)
    more = b.gated(3)
    assert {r["status"] for r in b.results(more)} == {1}


@test
def what_runs_may_end_first(b):
    """stop and restart with --grace: what waits is given back at once, what runs is waited for."""
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    for command in "restart", "stop":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(b.dir, "gate"))
        pid, ids = b.pid(), b.gated(3)
        b.wait("one runs", lambda: any(s["state"] == 4 and s["task"] in ids for s in f.states))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            ended = pool.submit(b.run, command, "--grace", "60s", b.name, timeout=120)
            b.wait("the others come back", lambda: len(set(ids) & set(f.returned)) == 2)
            b.open_gate()
        assert ended.result().returncode == 0 and not alive(pid), ended.result().all
        mine, = set(ids) - set(f.returned)
        assert b.results([mine])[0]["status"] == 1 and len(f.results) == (1 if command == "restart" else 2)


@test
def stopped_again_while_it_waits(b):
    """Who says stop once more does not want to wait so long."""
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    pid, ids = b.pid(), b.gated(1)
    b.wait("it runs", lambda: any(s["state"] == 4 for s in f.states))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ended = pool.submit(b.run, "stop", "--grace", "1h", b.name, timeout=120)
        b.wait("it drains", lambda: b.status()["state"] == "draining")
        out = b.ok("stop", "--grace", "1s", b.name).stdout
    assert "is stopped" in out and "is stopped" in ended.result().stdout and not alive(pid), (out, ended.result().all)
    assert f.returned == ids and not f.results, (f.returned, f.results)


@test
def drained_and_its_manager_lost(b):
    """What was lost with a manager during a drain is given back as well, and so is what waits when the session comes only then."""
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    fn = f.function(SLOW)
    ids = f.submit(fn, [b"60"])
    b.wait("it runs", lambda: any(s["state"] == 4 for s in f.states))
    b.ok("drain", b.name)
    os.kill(b.status()["managers"][0]["pid"], signal.SIGKILL)
    b.wait("it comes back", lambda: f.returned == ids, 30)
    b.ok("undrain", b.name)
    ids = f.submit(fn, [b"60"] * 5)
    b.wait("they are there", lambda: b.status()["queue"]["running"] + b.status()["queue"]["waiting"] == 5)
    f.allow = False
    b.new_forwarder(allow=False)
    b.wait("no session", lambda: not b.status()["connected"])
    b.ok("drain", b.name)
    b.forwarder.allow = True
    f = b.forwarder
    b.wait("they come back", lambda: set(f.returned) and set(f.returned) <= set(ids) and b.status()["queue"]["waiting"] == 0, 60)


@test
def drained_by_the_service_or_its_operator(b):
    """Either keeps it drained, over sessions; neither ends what the other asked for."""
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    fn = f.function(ECHO)

    def drain(start):
        b.forwarder.call(lambda: b.forwarder.send("DRAIN", wire.encode("DRAIN", {"start": start, "grace_ms": 1000})))

    def window():
        return (b.forwarder.capacity or {}).get("window_tasks")
    drain(True)
    b.wait("drained", lambda: b.status()["state"] == "drained" and window() == 0)
    g = b.new_forwarder()
    b.wait("a new session", lambda: g.sessions == 1 and window() is not None, 30)
    assert window() == 0 and b.status()["state"] == "drained", "a drain must outlive the session"
    assert "stays drained" in b.ok("undrain", b.name).stdout
    assert b.status()["state"] == "drained", "the operator must not end what the service asked for"
    b.ok("drain", b.name)
    drain(False)
    b.wait("told", lambda: "the service ends the drain" in b.log())
    assert b.status()["state"] == "drained", "the service must not end what the operator asked for"
    b.ok("undrain", b.name)
    b.wait("takes tasks", lambda: window())
    g.functions[fn] = f.functions[fn]
    assert {r["status"] for r in b.results(g.submit(fn, [b"1"] * 3))} == {1}


@test
def stop_gives_back_and_keeps_results(b):
    need_workers()
    b.configure(workers=1)
    b.start()
    f = b.forwarder
    fn = f.function(SLOW)
    ids = f.submit(fn, [b"60"] * 20)
    b.wait("one runs", lambda: any(s["state"] == 4 for s in f.states))
    st = b.status()
    b.ok("stop", b.name)
    assert not any(alive(m["pid"]) for m in st["managers"]) and not alive(st["pid"])
    assert len(set(f.returned)) >= 15, len(set(f.returned))
    assert set(f.returned) <= set(ids)


@test
def blocks_scale_with_load(b):
    need_workers()
    b.configure(workers=1)
    b.start("scaling.init_blocks=0", "scaling.max_blocks=3", "scaling.idle_timeout=1s", "scaling.period=200ms")
    f = b.forwarder
    assert b.status()["blocks"]["active"] == 0
    begin = time.time()
    b.results(f.submit(f.function(ECHO), [b"1"]))
    assert time.time() - begin < 30
    ids = b.gated(8)
    b.wait("three blocks", lambda: b.status()["blocks"]["up"] == 3, 30)
    b.open_gate()
    b.results(ids)
    b.wait("idle blocks are released", lambda: b.status()["blocks"]["list"] == [], 30)
    assert b.status()["blocks"]["failed"] == 0


@test
def failing_blocks_are_explained(b):
    b.configure()
    bad = os.path.join(b.dir, "weft-manager")
    with open(bad, "w") as f:
        f.write("#!/bin/sh\nprintf 'no module f\\374r this machine\\n' >&2\nexit 7\n")   # not UTF-8
    os.chmod(bad, 0o755)
    b.start("manager_bin=" + bad)
    b.wait("two failures", lambda: b.status()["blocks"]["failed"] >= 2, 30)
    error = b.status()["blocks"]["error"]
    assert "exit status 7" in error and "no module f?r this machine" in error, error


@test
def disk_full_is_survived(b):
    """Files cannot grow over 64 KiB: like a full disk to the spool."""
    need_workers()
    b.configure()
    wrapper = os.path.join(b.dir, "weft-manager")
    with open(wrapper, "w") as f:
        f.write('#!/bin/sh\nulimit -S -f unlimited\nexec %s/bin/weft-manager "$@"\n' % BUILD)
    os.chmod(wrapper, 0o755)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, old[1]))
    try:
        b.start("spool.max_unspooled_bytes=64KiB", "spool.segment_bytes=1MiB", "manager_bin=" + wrapper)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    f = b.forwarder
    f.ack = False
    fn = f.function(b"def f(n):\n    return 'x' * n\n")
    ids = f.submit(fn, [b"40000"] * 8)
    assert {r["status"] for r in b.results(ids)} == {1}, "results are forwarded all the same"
    b.wait("it is seen", lambda: b.status()["spool"]["full"] and b.status()["spool"]["unspooled"] > 0)
    b.wait("no more tasks", lambda: f.capacity["window_tasks"] == 0)
    f.ack = True
    f.call(lambda: f.send("RESULT_ACK", wire.encode_ids(ids)))
    b.wait("it recovers", lambda: not b.status()["spool"]["full"] and f.capacity["window_tasks"] > 0)


def main():
    global BUILD
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", required=True)
    ap.add_argument("only", nargs="*")
    a = ap.parse_args()
    BUILD = os.path.abspath(a.build)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # a runner's time limit: what was started is stopped too
    passed = failed = skipped = 0
    for t in TESTS:
        if a.only and t.__name__ not in a.only:
            continue
        bed = Bed()
        try:
            t(bed)
            print("ok - %s" % t.__name__, flush=True)
            passed += 1
        except Skip as e:
            print("skip - %s: %s" % (t.__name__, e), flush=True)
            skipped += 1
        except Exception:
            failed += 1
            print("not ok - %s" % t.__name__, flush=True)
            traceback.print_exc(file=sys.stdout)
            print(bed.log()[-8000:], flush=True)
        finally:
            bed.close()
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

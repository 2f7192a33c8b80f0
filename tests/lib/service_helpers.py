# SPDX-License-Identifier: Apache-2.0
"""For tests of weft-service: a Redis, the service itself, and a player of the forwarder's part. Standard library only."""
import atexit
import functools
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import wire  # noqa: E402
from fabric import processes  # noqa: E402


def wait_for(condition, timeout=30, what="condition"):
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.01)


HELD = []       # sockets that keep ports of ours from being anybody else's; they do not listen


def free_port():
    """One that stays ours until this process ends: who binds it with SO_REUSEADDR, as the service does, gets it, and nobody is given it."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 0))
    HELD.append(s)
    return s.getsockname()[1]


class RedisError(Exception):
    pass


class Resp:
    """A minimal Redis client: one connection, commands in order."""

    def __init__(self, path, timeout=30):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")

    def __call__(self, *args):
        out = [b"*%d\r\n" % len(args)]
        for a in args:
            a = a if isinstance(a, bytes) else str(a).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(a), a))
        self.sock.sendall(b"".join(out))
        return self.read()

    def read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            n = int(rest)
            if n < 0:
                return None
            data = self.file.read(n + 2)
            return data[:-2]
        n = int(rest)
        return None if n < 0 else [self.read() for _ in range(n)]

    def close(self):
        self.file.close()
        self.sock.close()


class Redis:
    def __init__(self, directory, *args):
        self.dir, self.args = directory, args
        self.path = os.path.join(directory, "redis.sock")
        self.url = "unix://" + self.path
        self.proc = None
        atexit.register(self.stop)

    def start(self):
        self.proc = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.path, "--dir", self.dir, "--save", "", "--appendonly",
                                      "yes", "--appendfsync", "no", *self.args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def up():
            try:
                c = self.client()
            except OSError:
                return False
            try:
                return c("PING") == "PONG"
            except (RedisError, OSError):
                return False
            finally:
                c.close()
        wait_for(up, 30, "redis is up")
        return self

    def client(self, timeout=30):
        return Resp(self.path, timeout)

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGCONT)
            self.proc.terminate()
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.proc = None


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.text = status, headers, body

    @functools.cached_property
    def json(self):
        try:
            return json.loads(self.text) if self.text else None
        except ValueError:
            return None

    def __repr__(self):
        return "%d %s" % (self.status, self.text[:300])


class Service:
    def __init__(self, build, directory, redis_url, **settings):
        self.bin = os.path.join(os.path.abspath(build), "bin", "weft-service")
        self.dir = directory
        self.port = free_port()
        self.sets = {"listen": "127.0.0.1:%d" % self.port, "redis.url": redis_url, "registry.path": os.path.join(directory, "registry.db"),
                     "auth.token_file": os.path.join(directory, "token")}
        self.sets.update({k.replace("__", "."): str(v) for k, v in settings.items()})
        self.log_path = os.path.join(directory, "service.log")
        self.proc = None
        self.watch = None       # is called with each answer, see schema.Watch
        atexit.register(self.stop)

    def set_args(self):
        return [a for k, v in self.sets.items() for a in ("--set", "%s=%s" % (k, v))]

    def command(self, *args, sets=True):
        return subprocess.run([self.bin, *args, *(self.set_args() if sets else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, timeout=30)

    def start(self, config=None, wait_ready=True):
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen([self.bin, "run", *(["--config", config] if config else []), *self.set_args()], stdout=log, stderr=log,
                                         stdin=subprocess.DEVNULL)
        wait_for(lambda: self.alive() and self.get("/readyz" if wait_ready else "/healthz", token=None).status == 200, 60,
                 "service is up\n" + self.log()[-2000:])
        self.token = open(self.sets["auth.token_file"]).read().strip()
        return self

    def alive(self):
        if self.proc.poll() is not None:
            raise RuntimeError("weft-service ended: %s\n%s" % (self.proc.returncode, self.log()[-3000:]))
        return True

    def workers(self):
        """Processes that serve: live children of the master, in order."""
        return sorted(pid for pid, (parent, _) in processes().items() if parent == self.proc.pid)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def stop(self, signo=signal.SIGTERM):
        """Exit status; None when it was not running."""
        if self.proc is None or self.proc.poll() is not None:
            return None
        self.proc.send_signal(signo)
        try:
            return self.proc.wait(20)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            return "killed"

    def request(self, method, path, body=None, token="own", headers=None, timeout=60):
        h = dict(headers or {})
        if token == "own":
            token = self.token
        if token:
            h.setdefault("Authorization", "Bearer " + token)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            h.setdefault("Content-Type", "application/json")
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.request(method, path, body, h)
            r = c.getresponse()
            a = Answer(r.status, r.headers, r.read().decode("utf-8", "replace"))
            if self.watch:
                self.watch(method, path, a.status, a.headers["Content-Type"], a.text)
            return a
        except ConnectionError:
            return Answer(0, {}, "")
        finally:
            c.close()

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.request("POST", path, body, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)

    def put(self, path, body=None, **kw):
        return self.request("PUT", path, body, **kw)


class Forwarder(threading.Thread):
    """Plays the forwarder of one endpoint: takes tasks from its stream, stores what handle (task) says.

    handle gets the queue record as a dict, its payload fetched when it stands apart, and returns RESULT fields, or None to leave the task
    alone. seen: all tasks taken, in order."""

    def __init__(self, redis, endpoint, handle=None, retention_ms=3600000):
        super().__init__(daemon=True)
        self.redis, self.endpoint, self.retention = redis, endpoint, retention_ms
        self.handle = handle or (lambda t: {"status": 1, "result": t["payload"]})
        self.key = "weft:ep:{%s}" % endpoint
        self.seen, self.ended, self.failure = [], threading.Event(), None
        with open(os.path.join(ROOT, "proto", "lua", "store.lua"), "rb") as f:
            self.script = f.read()
        self.conn = redis.client()
        try:
            self.conn("XGROUP", "CREATE", self.key + ":tasks", "forwarder", "0", "MKSTREAM")
        except RedisError as e:
            if "BUSYGROUP" not in str(e):
                raise
        self.online()
        self.start()

    def online(self, up=1, cap=None):
        c = self.redis.client()
        c("HSET", self.key, "addr", "tcp://127.0.0.1:1234", "fwd_key", "k" * 40, "host", "h", "up", up, "seen", int(time.time() * 1000), "epoch", 1,
          "cap", json.dumps(cap or {"slots": 4, "free_slots": 3, "queued": 0, "running": 1, "managers": 1, "blocks": 1, "pending_blocks": 0,
                                    "tasks_done": 7}))
        c.close()

    def store(self, conn, task, fields):
        stamps = [0] * 16
        stamps[0], stamps[1] = task["received_ns"], task["queued_ns"]
        now = time.time_ns()
        for i in range(2, 15):
            stamps[i] = now
        record = wire.encode("RESULT", dict({"task": task["task"], "stamps": stamps}, **fields))
        state = {1: 5, 2: 6, 3: 7}[fields["status"]]
        key = "weft:task:{%s}" % task["task"]
        return conn("EVAL", self.script, 2, key, key + ":payload", state, record, self.retention, 65536)

    def run(self):
        try:
            while not self.ended.is_set():
                got = self.conn("XREADGROUP", "GROUP", "forwarder", "t", "COUNT", 256, "BLOCK", 50, "STREAMS", self.key + ":tasks", ">")
                for entry, fields in (got[0][1] if got else []):
                    self.take(entry, wire.decode_queued(dict(zip(fields[::2], fields[1::2]))[b"t"]))
        except (OSError, ValueError) as e:
            if not self.ended.is_set():
                self.failure = e

    def take(self, entry, task):
        if task["payload_apart"]:
            task["payload"] = self.conn("GET", "weft:task:{%s}:payload" % task["task"])
        self.seen.append(task)
        result = self.handle(task)
        if result is not None:
            self.store(self.conn, task, result)
            self.conn("XACK", self.key + ":tasks", "forwarder", entry)
            self.conn("XDEL", self.key + ":tasks", entry)

    def stop(self):
        self.ended.set()
        self.join(5)
        self.conn.close()


class Place:
    """A private directory, removed at the end."""

    def __init__(self, prefix="weft-svc-"):
        self.path = tempfile.mkdtemp(prefix=prefix)
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, name, ok, why=""):
        if ok:
            self.passed += 1
            print("ok - " + name)
        else:
            self.failed += 1
            print("not ok - %s%s" % (name, ": %s" % (why,) if why != "" else ""))
        sys.stdout.flush()
        return ok

    def guard(self, section):
        """Run a section; an exception is one failed check, and the rest goes on."""
        try:
            section()
        except Exception as e:  # the report must reach its end
            import traceback
            traceback.print_exc()
            self.check(section.__name__ + " runs to its end", False, repr(e))

    def end(self):
        print("%d passed, %d failed, %d skipped" % (self.passed, self.failed, self.skipped))
        sys.exit(1 if self.failed else 0)

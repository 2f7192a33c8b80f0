#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Slow and hostile peers on every socket: nothing crashes, nothing grows without bound, others are served."""
import json
import os
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fakes"))
from e2e import (Fabric, address, call, descendants, gather, grown, main, redis, register, rss, sanitized, sizes, submit, wait_for)  # noqa: E402

try:
    import zmq
    import peer
except ImportError as e:
    zmq, WHY = None, str(e)

MIB = 1 << 20
FN = {}
RNG = random.Random(7)
SLOW = []


def make(build):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return Fabric(build, workers=2)


def served(f):
    return call(f, FN["echo"], 1, wait=30)["status"] == "success"


def begin(report, f):
    FN["echo"] = register(f, "def echo(x): return x", "echo")
    ids, _ = submit(f, FN["echo"], [{"args": [i]} for i in range(200)])
    gather(f, ids)
    FN["before"] = sizes(f)
    for name, text in (("head", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"y" * 200),
                       ("body", b"POST /v3/functions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 5000\r\n\r\n" % f.token.encode())):
        t = threading.Thread(target=slow, args=(f, name, text), daemon=True)
        t.start()
        SLOW.append(t)
    report.check("a fabric to attack", served(f))


RESULTS = {}


def slow(f, name, text):
    """Send a byte a second (a body: after its head), until the service has had enough."""
    s = socket.create_connection(address(f))
    s.settimeout(1)
    began, got = time.monotonic(), b""
    try:
        if name == "body":
            s.sendall(text)
            text = b" " * 5000
        for i in range(60):
            s.send(text[i:i + 1])
            try:
                got = b"".join(iter(lambda: s.recv(65536), b"")) or b"(closed)"
                break
            except socket.timeout:
                pass
    except OSError as e:
        got += repr(e).encode()
    RESULTS[name] = (time.monotonic() - began, got)
    s.close()


def slow_clients(report, f):
    for t in SLOW:
        t.join(70)
    for name in ("head", "body"):
        took, got = RESULTS.get(name, (99, b""))
        head, _, body = got.partition(b"\r\n\r\n")
        report.check("a client that sends its %s a byte a second is let go, with 408" % name, took < 50 and b" 408 " in head, (took, got[:300]))
        told = json.loads(body) if body.startswith(b"{") else {}
        report.check("and is told why", b"application/json" in head and told.get("code") == "REQUEST_TIMEOUT" and told.get("http_status_code") == 408 and
                     told.get("status") == "Failed" and name in told.get("reason", ""), got[:600])
    report.check("others are served", served(f))


def read_all(s, limit=20):
    s.settimeout(limit)
    out = b""
    try:
        while True:
            b = s.recv(65536)
            if not b:
                return out, True
            out += b
    except (socket.timeout, ConnectionResetError) as e:
        return out, isinstance(e, ConnectionResetError)


def http_garbage(report, f):
    head = b"POST /v3/functions HTTP/1.1\r\nHost: x\r\n"
    cases = [
        ("binary", os.urandom(2000)), ("NULs", b"\0" * 1000), ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500)),
        ("a bare LF", b"GET / HTTP/1.1\nHost: x\n\n"), ("no version", b"GET /\r\n\r\n"), ("HTTP/9.9", b"GET / HTTP/9.9\r\n\r\n"),
        ("two lengths", head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345"), ("a negative length", head + b"Content-Length: -5\r\n\r\n"),
        ("length and chunks", head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a huge length", head + b"Content-Length: 99999999999999999999\r\n\r\n"), ("a bad chunk", head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ("a huge chunk", head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), ("a space before the colon", head + b"X : y\r\n\r\n"),
        ("an endless line", b"GET /" + b"a" * 100000), ("endless headers", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10000), ("an unknown method", b"BREW /pot HTTP/1.1\r\n\r\n"),
    ]
    for name, text in cases:
        s = socket.create_connection(address(f))
        try:
            s.sendall(text)
        except OSError:
            pass
        out, closed = read_all(s)
        s.close()
        ok = closed and (not out or out.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501", b"HTTP/1.1 505")))
        report.check("service port, %s: an error, and closed" % name, ok, (closed, out[:200]))
    for i in range(200):        # requests that are cut
        s = socket.create_connection(address(f))
        text = head + b"Authorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{}" % f.token.encode()
        s.sendall(text[:RNG.randrange(1, len(text))])
        s.close()
    report.check("200 truncated requests later others are served", served(f))


def big_body(report, f):
    """A body over the limit, sent without length in chunks: refused on the way, and not kept."""
    before = sizes(f)
    s = socket.create_connection(address(f))
    s.sendall(b"POST /v3/functions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n" % f.token.encode())
    chunk, sent = b"100000\r\n" + b"z" * MIB + b"\r\n", 0
    s.settimeout(10)
    try:
        for sent in range(400):
            s.sendall(chunk)
            if select.select([s], [], [], 0)[0]:
                break
    except OSError:
        pass
    out, _ = read_all(s)
    s.close()
    report.check("a body of 400 MiB in chunks is refused with 413 before its end", b" 413 " in out and sent < 250, (sent, out[:200]))
    wait_for(lambda: not grown(before, sizes(f), 96 * MIB), 30, "memory given back")
    report.check("others are served", served(f))


def idle(report, f):
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    n = min(10000, soft - 200)
    before, socks = sizes(f), []
    try:
        for i in range(n):
            s = socket.create_connection(address(f), timeout=10)
            if i % 2:
                s.send(b"GET /heal")
            socks.append(s)
        now = sizes(f)
        report.check("%d idle connections: others are served" % n, served(f))
        report.check("they cost less than 128 MiB", not grown(before, now, 128 * MIB), grown(before, now, 128 * MIB))
    finally:
        for s in socks:
            s.close()
    if n < 10000:
        report.skip("10,000 idle connections", "only %d files may be open here" % soft)
    report.check("and after they have gone", served(f))


# ---- ZeroMQ sockets -------------------------------------------------------------------------------------------------

def garbage_messages():
    """Multipart messages that are no good, from plain junk to almost right."""
    ident = uuid.uuid4().bytes
    h = peer.header
    yield [b""]
    yield [b"x" * 24]
    yield [os.urandom(24)]
    yield [h(peer.HEARTBEAT, 0)[:23]]
    yield [h(peer.HEARTBEAT, 0) + b"x"]
    yield [h(peer.HELLO, 1)]
    yield [h(peer.HELLO, 1), b""]
    yield [h(peer.HELLO, 1), b"\xff\xff"]
    yield [h(peer.HELLO, 1), b"\x02\x00"]
    yield [h(peer.HELLO, 1, major=99), os.urandom(60)]
    yield [h(peer.HELLO, 2), peer.hello(1, ident)]
    yield [h(peer.HELLO, 0xffffffff), peer.hello(1, ident)]
    yield [h(peer.HELLO, 1), peer.hello(77, ident)]
    yield [h(peer.HELLO, 1), peer.hello(2, ident)[:40]]
    yield [h(peer.HELLO, 1), struct.pack("<HBBBBI16sQIHHHHI", 50, 3, 1, 2, 0, 0, ident, 1, 1, 65535, 65535, 65535, 65535, 1)]
    for kind in (peer.TASK, peer.RESULT, peer.FUNCTION, peer.CAPACITY, peer.CANCEL, peer.RESULT_ACK, peer.WELCOME, peer.BYE, 200):
        yield [h(kind, 1, epoch=5), os.urandom(200)]
        yield [h(kind, 1, epoch=5), struct.pack("<H", 176) + b"\xff" * 190]
    yield [h(peer.RESULT, 4096)] + [b""] * 4096
    yield [os.urandom(100000)]
    for i in range(100):
        yield [os.urandom(RNG.randrange(0, 64)) for _ in range(RNG.randrange(1, 5))]


def attack_zmq(address_, hello_role=None, curve=None):
    """Garbage before and, when a session comes up, within it."""
    ctx = zmq.Context()
    try:
        for round_ in range(2 if hello_role else 1):
            s = ctx.socket(zmq.DEALER)
            s.linger = 200
            s.sndtimeo = 2000
            s.rcvtimeo = 2000
            if curve:
                s.curve_publickey, s.curve_secretkey, s.curve_serverkey = curve
            s.connect(address_)
            epoch = 0
            if round_:
                s.send_multipart([peer.header(peer.HELLO, 1), peer.hello(hello_role, uuid.uuid4().bytes)])
                try:
                    while True:
                        m = s.recv_multipart()
                        kind = peer.header_of(m[0])[0]
                        if kind == peer.WELCOME:
                            epoch = peer.header_of(m[0])[2]
                            break
                        if kind == peer.REJECT:
                            break
                except (zmq.Again, AssertionError):
                    pass
            for m in garbage_messages():
                if epoch and len(m[0]) == 24 and m[0][:2] == b"Wf":
                    m[0] = m[0][:16] + struct.pack("<Q", epoch)
                try:
                    s.send_multipart(m)
                except zmq.Again:
                    break
            s.close()
    finally:
        ctx.term()


def greeting_of(mechanism, command):
    """A whole greeting, and it with a command behind it, which is also cut."""
    whole = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0" + mechanism.ljust(20, b"\0") + b"\0" * 32
    return (whole, whole + command[:1], whole + command[:len(command) // 2], whole + command, whole + command + command)


def answered(uri, curve):
    """Does a manager that says HELLO get an answer?"""
    ctx = zmq.Context()
    s = ctx.socket(zmq.DEALER)
    s.linger, s.rcvtimeo = 0, 1500
    s.curve_publickey, s.curve_secretkey, s.curve_serverkey = curve
    s.connect(uri)
    s.send_multipart([peer.header(peer.HELLO, 1), peer.hello(2, uuid.uuid4().bytes)])
    try:
        return bool(s.recv_multipart())
    except zmq.Again:
        return False
    finally:
        s.close()
        ctx.term()


def attack_raw(connect, more=()):
    """Below ZeroMQ: junk, cut greetings, frames of absurd length."""
    greeting = greeting_of(b"NULL", b"")[0]
    ready = b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
    for text in (os.urandom(500), b"\xff", greeting[:10], greeting[:40], greeting, greeting + b"\x06" + b"\xff" * 8 + b"x" * 100, greeting + ready,
                 greeting + ready + b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff" + b"x" * 1000, greeting + ready + b"\x01\x18" + b"x" * 10, b"GET / HTTP/1.1\r\n\r\n",
                 b"\0" * 100000, *more):
        for _ in range(5):
            s = connect()
            try:
                s.sendall(text)
            except OSError:
                pass
            s.close()
    held = []
    for _ in range(200):        # and some that only sit there for a while
        held.append(connect())
    for s in held:
        s.close()


def tcp_to(uri):
    host, port = uri[len("tcp://"):].rsplit(":", 1)
    return lambda: socket.create_connection((host, int(port)), timeout=10)


def unix_to(path):
    def connect():
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(path)
        return s
    return connect


def need_zmq(report, name):
    if zmq is None:
        report.skip(name, WHY)
    return zmq is not None


def forwarder(report, f):
    if not need_zmq(report, "forwarder's ROUTER"):
        return
    key = "weft:ep:{%s}" % f.endpoint
    uri, server = redis(f, "hget", key, "addr"), redis(f, "hget", key, "fwd_key").encode()
    attack_raw(tcp_to(uri))
    report.check("raw TCP garbage at the forwarder: served", served(f))
    attack_zmq(uri)
    public, secret = zmq.curve_keypair()
    attack_zmq(uri, curve=(public, secret, server))
    wrong_server, _ = zmq.curve_keypair()
    attack_zmq(uri, curve=(public, secret, wrong_server))
    report.check("ZeroMQ garbage without CURVE, and with keys that are not registered: served", served(f))
    # a stranger's key gets no answer at all, even to a perfect HELLO with the endpoint's own id
    ctx = zmq.Context()
    s = ctx.socket(zmq.DEALER)
    s.linger, s.rcvtimeo = 0, 1500
    s.curve_publickey, s.curve_secretkey, s.curve_serverkey = public, secret, server
    s.connect(uri)
    s.send_multipart([peer.header(peer.HELLO, 1), peer.hello(1, uuid.UUID(f.endpoint).bytes)])
    try:
        got = s.recv_multipart()
    except zmq.Again:
        got = None
    s.close()
    ctx.term()
    report.check("only the registered key gets in", got is None and served(f), got)
    with open(os.path.join(f.state, "endpoints", "local", "endpoint.key")) as k:
        own = dict(line.strip().split(" = ", 1) for line in k if " = " in line)
    attack_zmq(uri, curve=(own["public"].encode(), own["secret"].encode(), server))
    report.check("garbage from one who has the endpoint's own key: served", served(f))
    attack_zmq(uri, hello_role=1, curve=(own["public"].encode(), own["secret"].encode(), server))
    report.check("a HELLO with another id under that key: served", served(f))


def agent(report, f):
    if not need_zmq(report, "agent's manager socket"):
        return
    path = os.path.join(f.state, "endpoints", "local", "run", "managers.sock")
    attack_raw(unix_to(path))
    attack_zmq("ipc://" + path, hello_role=2)
    wait_for(lambda: served(f), 60, "tasks after the false manager")
    report.check("garbage at the agent's socket, also from a manager with a session: served", True)


def agent_over_tcp(report, f):
    """The same where managers come from other hosts: a port that anybody reaches, behind CURVE. An endpoint of its own, with one worker."""
    if not need_zmq(report, "agent's TCP socket"):
        return
    env = dict(os.environ, WEFT_HOME=os.path.join(f.state, "tcp"), WEFT_URL=f.url, WEFT_TOKEN=f.token)

    def tool(*args):
        return subprocess.run([os.path.join(f.bin, "weft-endpoint"), *args, "tcp"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout

    def status():
        return json.loads(tool("status", "--json"))

    tool("configure", "--workers", "1")
    tool("start", "--set", "manager_transport=tcp", "--set", "scaling.min_blocks=1")
    try:
        st = status()

        def runs(what):
            report.check("agent's TCP socket, %s: served" % what, call(f, FN["echo"], 1, wait=30, endpoint=st["endpoint_id"])["status"] == "success")

        runs("nobody else")
        pids = descendants(st["pid"])
        argv = [a for a in pids.values() if a and os.path.basename(a[0]) == "weft-manager"][0]
        uri, server = argv[argv.index("--connect") + 1].split(",")[0], argv[argv.index("--server-key") + 1].encode()
        before = rss(st["pid"])
        attack_raw(tcp_to(uri))
        runs("raw garbage, cut greetings and frames")
        attack_zmq(uri, hello_role=2)
        runs("ZeroMQ garbage without CURVE")
        public, secret = zmq.curve_keypair()
        attack_raw(tcp_to(uri), greeting_of(b"CURVE", b"\x04\xc8" + b"\x05HELLO" + os.urandom(194)))
        runs("cut and false handshakes of CURVE")
        attack_zmq(uri, hello_role=2, curve=(public, secret, zmq.curve_keypair()[0]))
        attack_zmq(uri, hello_role=2, curve=(public, secret, server))
        runs("keys that are not the managers', and another server's")
        report.check("a stranger's key gets no answer, even to a good HELLO", not answered(uri, (public, secret, server)))
        with open(os.path.join(env["WEFT_HOME"], "endpoints", "tcp", "run", "manager.key")) as k:
            own = dict(line.strip().split(" = ", 1) for line in k if " = " in line)
        own = (own["public"].encode(), own["secret"].encode(), server)
        report.check("with the managers' key it is answered", answered(uri, own))
        attack_zmq(uri, hello_role=2, curve=own)
        wait_for(lambda: call(f, FN["echo"], 1, wait=30, endpoint=st["endpoint_id"])["status"] == "success", 20, "tasks after the false manager")
        now = descendants(st["pid"])
        report.check("the agent and what it started are the same processes", status()["pid"] == st["pid"] and set(now) == set(pids), (pids, now))
        report.check("the agent is not larger by 64 MiB", sanitized(st["pid"]) or rss(st["pid"]) - before < 64 * MIB, (before, rss(st["pid"])))
    finally:
        tool("stop")


def manager(report, f):
    if not need_zmq(report, "manager's worker socket"):
        return
    argv = [a for a in descendants(f.proc.pid).values() if a and os.path.basename(a[0]) == "weft-manager"][0]
    path = os.path.join(argv[argv.index("--dir") + 1], "w.sock")
    attack_raw(unix_to(path))
    attack_zmq("ipc://" + path, hello_role=3)
    wait_for(lambda: served(f), 60, "tasks after the false worker")
    report.check("garbage at the manager's socket, also from a worker nobody started: served", True)


def sound(report, f):
    after = sizes(f)
    report.check("every process is the one of the beginning, none larger by 64 MiB", not grown(FN["before"], after, 64 * MIB), grown(FN["before"], after, 64 * MIB))
    ids, _ = submit(f, FN["echo"], [{"args": [i]} for i in range(500)])
    docs = gather(f, ids)
    report.check("500 tasks run", all(d["status"] == "success" for d in docs.values()))


main(__doc__, [begin, http_garbage, big_body, forwarder, agent, agent_over_tcp, manager, idle, slow_clients, sound], make)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The SDK's HTTP against answers of all shapes, in pieces of all sizes, and against what is none."""
import os
import socket
import ssl
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path[:0] = [os.path.join(ROOT, "tests", "lib"), os.path.join(ROOT, "client", "python")]
from fabric import Report  # noqa: E402
from fileserver import self_signed  # noqa: E402

import weft  # noqa: E402
from weft import connection, lone  # noqa: E402

report = Report()
OK = b"HTTP/1.1 200 OK\r\n"
GOOD = {
    "a length": (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "a length of 0": (OK + b"content-length:0\r\n\r\n", 200, b"", True),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n00000004;x=y\r\nello\r\n0\r\n\r\n", 200, b"hello", True),
    "trailers": (OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n", 200, b"hello", True),
    "an answer on the way to it": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True),
    "an error": (b"HTTP/1.1 429 Slow down\r\nRetry-After:  7 \r\nContent-Length: 2\r\n\r\nno", 429, b"no", True),
    "the last one on this connection": (OK + b"Connection: Close\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
    "up to the end of the connection": (OK + b"\r\nhello", 200, b"hello", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
}
BAD = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-x\r\n\r\n",
    "no status": b"HTTP/1.1 fine\r\n\r\n",
    "a status of digits that are none": b"HTTP/1.1 2\xb20 OK\r\nContent-Length: 0\r\n\r\n",
    "a length that is none": OK + b"Content-Length: five\r\n\r\nhello",
    "two lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length of digits that are none": OK + b"Content-Length: \xb2\r\n\r\nhe",
    "a head that ends": b"HTTP/1.1 200 OK\r\nA: b",
    "a head without end": OK + b"A: " + b"b" * (2 * connection.HEAD),
    "half a body": OK + b"Content-Length: 5\r\n\r\nhel",
    "half a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "no last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "a chunk of no size": OK + b"Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    "a chunk of negative size": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
}


class Script:
    """A server that answers each request on a connection with the next of its texts, `piece` bytes at a time; behind the last it closes it."""

    def __init__(self, *connections, piece=1 << 20, context=None):
        self.connections, self.piece, self.context, self.asked = connections, piece, context, []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        for answers in self.connections:
            try:
                with self.accept() as s:
                    for answer in answers:
                        self.asked.append(self.request(s))
                        for at in range(0, len(answer), self.piece):
                            s.sendall(answer[at:at + self.piece])
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
            except OSError:
                pass        # the client went away
        self.sock.close()

    def accept(self):
        s = self.sock.accept()[0]
        s.settimeout(60)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(s, server_side=True) if self.context else s

    @staticmethod
    def request(s):
        data = b""
        while b"\r\n\r\n" not in data:
            data += s.recv(1)
        length = [line.split(b":")[1] for line in data.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        for _ in range(int(length[0]) if length else 0):
            data += s.recv(1)
        return data

    def client(self, context=None):
        return connection.Connection("127.0.0.1", self.port, context, 60.0)


def good():
    for name, (text, status, body, kept) in GOOD.items():
        for piece in (1, 3, 1 << 20):
            server = Script([text], piece=piece)
            c = server.client()
            got = c.request("GET", "/", {}), c.read()
            report.check("%s, %d bytes at a time" % (name, piece), got == (status, body) and (c.sock is not None) == kept, got)
            c.close()
    server = Script([GOOD["chunks"][0], GOOD["an error"][0], GOOD["a length"][0]], [GOOD["a length"][0]])
    c = server.client()
    got = [(c.request("POST", "/x?y=1", {"A": "b"}, b"body"), c.headers.get("retry-after"), c.read()) for _ in range(3)]
    report.check("three on one connection", got == [(200, None, b"hello"), (429, "7", b"no"), (200, None, b"hello")], got)
    report.check("as they were sent", server.asked[0] == b"POST /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nA: b\r\nContent-Length: 4\r\n\r\nbody" % server.port, server.asked)
    c.close()
    report.check("and another after it was closed", (c.request("POST", "/", {}), c.read()) == (200, b"hello") and b"\r\nContent-Length: 0\r\n" in server.asked[3])
    c.close()


def bad():
    for name, text in BAD.items():
        server = Script([text])
        c = server.client()
        try:
            got = c.request("GET", "/", {}), c.read()
            report.check(name, False, got)
        except OSError as e:
            report.check(name, isinstance(e, connection.Broken), repr(e))
        c.close()


def given_up():
    server = Script([OK + b"Content-Length: 5\r\n\r\nfirst"], [OK + b"Content-Length: 6\r\n\r\nsecond"])
    c = server.client()
    c.request("GET", "/1", {})      # and what it says is never taken, as when the user interrupts
    report.check("an answer that nobody took is not that of the next request", (c.request("GET", "/2", {}), c.read()) == (200, b"second"))
    c.close()


def no_json():
    server = Script([OK + b"Content-Length: 6\r\n\r\n<html>"])
    try:
        weft.Client("http://127.0.0.1:%d" % server.port, "t").version()
        report.check("an answer that is no JSON", False)
    except weft.WeftError as e:
        report.check("an answer that is no JSON", "<html>" in str(e) and "/v2/version" in str(e), e)


def forked():
    """A process that was forked has connections of its own."""
    server = Script([OK + b"Content-Length: 1\r\n\r\n%d" % i for i in (1, 2)])
    client = weft.Client("http://127.0.0.1:%d" % server.port, "t")
    report.check("before a fork", client.version() == 1)
    there = client._local.connection.sock.getsockname()
    child = os.fork()
    if not child:
        try:
            client._connection(60.0).connect()
            os._exit(client._local.connection.sock.getsockname() == there)
        finally:
            os._exit(2)
    report.check("a child has its own", os.waitpid(child, 0)[1] == 0)
    report.check("the parent keeps its own", client.version() == 2)


def lane():
    """A call at a time; what is no answer to it closes the connection, and is said."""
    def call(key):
        return lone.Call(None, "python", "f", b"{}", key)

    def failed(key):
        try:
            lane.answer(call(key))
            return "answered"
        except Exception as e:
            return "still open" if lane.is_open else "closed: %s" % e
    with tempfile.TemporaryDirectory(prefix="weft-tls-") as d:
        context, cert = self_signed(d)
        good, busy = OK + b"Content-Length: 7\r\n\r\n{\"a\":1}", b"HTTP/1.1 503 Later\r\nContent-Length: 2\r\n\r\n{}"
        server = Script([good, good, busy], [OK + b"Content-Length: 3\r\n\r\n{\"a"], [OK + b"Content-Length: 7\r\n\r\n{"], context=context)
        lane = lone.Lane(weft.Client("https://127.0.0.1:%d" % server.port, "t", ca_file=cert), "/submit", 59.0)
        report.check("a lane is opened", not lane.is_open and lane.open() and lane.is_open)
        for key in ("1", "2"):
            lane.send(call(key))
            report.check("an answer on a lane", lane.answer(call(key)) == {"a": 1} and lane.is_open)
        report.check("which is there once", lane._sent_key == "" and b"\r\nIdempotency-Key: 2\r\n" in server.asked[1], server.asked)
        for key, word in (("3", "closed: HTTP 503"), ("4", "closed: "), ("5", "closed: the connection was closed")):
            lane.open()
            lane.send(call(key))
            report.check("no answer on a lane", failed(key).startswith(word), key)
        report.check("an answer that was not asked for", "lost" in failed("6"))
        report.check("a lane that cannot be opened", lone.Lane(weft.Client("http://127.0.0.1:1", "t"), "/", 0.0).open() is False)


def refused():
    c = connection.Connection("127.0.0.1", 1, None, 60.0)
    for name, target, headers in (("a line end in a path", "/a\r\nb", {}), ("a space in a path", "/a b", {}), ("more than ASCII in a path", "/\u00e4", {}),
                                  ("a line end in a header", "/", {"A": "b\nC: d"})):
        try:
            c.request("GET", target, headers)
            report.check(name, False)
        except weft.WeftError as e:
            report.check(name, "cannot be" in str(e), e)


def tls():
    with tempfile.TemporaryDirectory(prefix="weft-tls-") as d:
        context, cert = self_signed(d)
        version = OK + b"Content-Length: 11\r\n\r\n{\"api\":\"3\"}"
        server = Script([version, version], context=context)
        client = weft.Client("https://127.0.0.1:%d" % server.port, "t", ca_file=cert)
        report.check("TLS", client.version() == client.version() == {"api": "3"} and len(server.asked) == 2, server.asked)
        server = Script([version], context=context)
        try:
            server.client(ssl.create_default_context()).request("GET", "/", {})
            report.check("a certificate that nobody vouches for", False)
        except OSError as e:
            report.check("a certificate that nobody vouches for", "CERTIFICATE" in str(e).upper() and not server.asked, e)


for test in (good, bad, given_up, no_json, forked, lane, refused, tls):
    test()
report.end()

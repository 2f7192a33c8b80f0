# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1, as much of it as a client of one service needs."""
from __future__ import annotations

import re
import socket
import ssl
from typing import Dict, Iterator, Mapping, Optional

from .errors import WeftError

READ = 1 << 16        # bytes taken from a socket at once
HEAD = 1 << 16        # of an answer's head, at most
NOT_IN_TARGET = re.compile(r"[^!-~]")
NOT_IN_HEADER = re.compile(r"[^\t -~\x80-\xff]")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")


class Broken(OSError):
    """The connection ended inside an answer, or what came is no HTTP."""


class Ended(Broken):
    """The other side has closed the connection."""


class Connection:
    """HTTP/1.1 on a connection that is kept, and opened when it is needed: ``request``, which is ``send`` and ``receive``, then ``read`` or
    ``pieces`` to the end of the answer.

    http.client takes several times as long: it reads headers as those of mails, and sends a request in two parts, which wake the service
    twice. For one thread at a time. Everything that goes wrong on the way is an OSError; then close, and the next request begins anew."""

    def __init__(self, host: str, port: Optional[int], context: Optional[ssl.SSLContext], timeout: float):
        default = 443 if context else 80
        self._host, self._port, self._context, self._timeout = host, port or default, context, timeout
        name = "[%s]" % host if ":" in host else host
        self._name = name if self._port == default else "%s:%d" % (name, self._port)
        self.sock: Optional[socket.socket] = None
        self.status = 0                         # of the answer, and its headers with their names in small letters
        self.headers: Dict[str, str] = {}
        self._version = ""
        self._came, self._at = b"", 0           # what came, and what of it was taken
        self._asked = False                     # the end of an answer was not yet seen

    def set_timeout(self, timeout: float) -> None:
        """Seconds without a byte after which the connection counts as broken."""
        if timeout != self._timeout:
            self._timeout = timeout
            if self.sock is not None:
                self.sock.settimeout(timeout)

    def connect(self) -> None:
        sock = socket.create_connection((self._host, self._port), self._timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._context.wrap_socket(sock, server_hostname=self._host) if self._context else sock
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        sock, self.sock, self._came, self._at, self._asked = self.sock, None, b"", 0, False
        if sock is not None:
            sock.close()

    def request(self, method: str, target: str, headers: Mapping[str, str], body: Optional[bytes] = None) -> int:
        """Send a request, and read the head of its answer; returns the status."""
        self.send(method, target, headers, body)
        return self.receive()

    def send(self, method: str, target: str, headers: Mapping[str, str], body: Optional[bytes] = None) -> None:
        if NOT_IN_TARGET.search(target):
            raise WeftError("%r cannot be asked for: there is a character in it that a URL does not have" % target)
        lines = ["%s %s HTTP/1.1" % (method, target), "Host: " + self._name]
        lines += ["%s: %s" % header for header in headers.items()]
        if body is not None or method == "POST":
            lines.append("Content-Length: %d" % len(body or b""))
        if NOT_IN_HEADER.search("".join(lines)):
            line = next(filter(NOT_IN_HEADER.search, lines))
            raise WeftError("the header %s cannot be sent: there is a character in it that headers do not have" % line.partition(":")[0])
        if self._asked:         # and given up on: its answer is not this one's
            self.close()
        if self.sock is None:
            self.connect()
        assert self.sock is not None
        self._asked = True
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b""))

    def receive(self) -> int:
        """Read the head of the answer to what was sent; returns the status."""
        self._head()
        while self.status < 200:        # on the way to an answer
            self._head()
        return self.status

    def _head(self) -> None:
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self._version, _, status = first.partition(" ")
        if not self._version.startswith("HTTP/1.") or not status[:3].isdecimal():
            raise Broken("the answer begins with %r, which is no HTTP" % first[:80])
        self.status = int(status[:3])
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def pieces(self) -> Iterator[bytes]:
        """The body of the answer, as it comes."""
        length = self.headers.get("content-length", "")
        if self.status in (204, 304):
            pass
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            yield from self._chunks()
        elif length:
            if not length.isdecimal():
                raise Broken("the length of the answer is %r" % length[:80])
            yield from self._exactly(int(length))
        else:
            yield from self._rest()
        self._asked = False
        if self._version == "HTTP/1.0" or "close" in self.headers.get("connection", "").lower():
            self.close()

    def read(self) -> bytes:
        """All of the body of the answer."""
        return b"".join(self.pieces())

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = self._until(b"\r\n").partition(b";")[0].strip()
            if not CHUNK_SIZE.fullmatch(size):
                raise Broken("a chunk of the answer has no size but %r" % size[:80])
            if not int(size, 16):
                break
            yield from self._exactly(int(size, 16))
            if self._until(b"\r\n"):
                raise Broken("a chunk of the answer does not end where it should")
        while self._until(b"\r\n"):     # headers that may follow
            pass

    def _exactly(self, left: int) -> Iterator[bytes]:
        while left > 0:
            piece = self._take(left)
            left -= len(piece)
            yield piece

    def _rest(self) -> Iterator[bytes]:
        try:
            while True:
                yield self._take(READ)
        except Ended:
            self.close()

    def _until(self, mark: bytes) -> bytes:
        end = self._came.find(mark, self._at)
        while end < 0:
            if len(self._came) - self._at > HEAD:
                raise Broken("the head of the answer is longer than %d bytes" % HEAD)
            self._more()
            end = self._came.find(mark)
        taken, self._at = self._came[self._at:end], end + len(mark)
        return taken

    def _take(self, most: int) -> bytes:
        if self._at == len(self._came):
            self._more()
        taken = self._came[self._at:self._at + most]
        self._at += len(taken)
        return taken

    def _more(self) -> None:
        assert self.sock is not None
        piece = self.sock.recv(READ)
        if not piece:
            raise Ended("the connection was closed before the end of the answer")
        self._came, self._at = self._came[self._at:] + piece, 0

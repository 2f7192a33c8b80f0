# SPDX-License-Identifier: Apache-2.0
"""A client of event streams for tests: a raw socket, so that a test sees what is sent, and reads when it wants. Standard library only."""
import json
import socket
import time


class Event:
    def __init__(self, fields):
        self.id, self.kind = fields.get("id"), fields.get("event", "message")
        self.data = json.loads(fields["data"]) if "data" in fields else None

    def __repr__(self):
        return "%s %s %s" % (self.id, self.kind, self.data)


class Stream:
    """GET a path and read events. status and headers are there at once; `ended` when the server closed or ended the answer."""

    def __init__(self, port, path, token, after=None, timeout=30, receive_buffer=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect(("127.0.0.1", port))
        lines = ["GET %s HTTP/1.1" % path, "Host: localhost", "Accept: text/event-stream"]
        if token:
            lines.append("Authorization: Bearer " + token)
        if after:
            lines.append("Last-Event-ID: " + after)
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.raw, self.text, self.ended, self.last, self.comments, self.retry = b"", b"", False, after, 0, None
        while b"\r\n\r\n" not in self.raw:
            self._receive()
            if self.ended:
                raise ConnectionError("closed before its head: %r" % self.raw)
        head, self.raw = self.raw.split(b"\r\n\r\n", 1)
        first, *rest = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}
        if self.status != 200:
            n = int(self.headers["content-length"])
            while len(self.raw) < n:
                self._receive()
            self.json = json.loads(self.raw[:n])

    def _receive(self):
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
        self.raw += data

    def _unchunk(self):
        at, raw, out = 0, self.raw, []
        while True:
            eol = raw.find(b"\r\n", at)
            if eol < 0:
                break
            n = int(raw[at:eol], 16)
            if len(raw) < eol + 4 + n:
                break
            if n == 0:
                self.ended = True
            out.append(raw[eol + 2:eol + 2 + n])
            at = eol + 4 + n
        self.raw = raw[at:]
        self.text += b"".join(out)

    def _parse(self):
        events = []
        *whole, self.text = self.text.split(b"\n\n")
        for block in whole:
            fields = {}
            for line in block.decode().split("\n"):
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("retry: "):
                    self.retry = int(line[7:])
                elif line:
                    k, v = line.split(": ", 1)
                    fields[k] = v
            if "data" in fields:
                events.append(Event(fields))
                self.last = fields.get("id", self.last)
        return events

    def read(self, count=1, timeout=30):
        """At least `count` events, or what came until the end or the timeout."""
        until = time.monotonic() + timeout
        events = []
        while True:
            self._unchunk()
            events += self._parse()
            left = until - time.monotonic()
            if len(events) >= count or self.ended or left <= 0:
                return events
            self.sock.settimeout(left)
            try:
                self._receive()
            except socket.timeout:
                pass

    def close(self):
        self.sock.close()

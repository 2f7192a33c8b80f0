# SPDX-License-Identifier: Apache-2.0
"""AMQP 0-9-1 for tests, independent of service/amqp/codec.c: a decoder of what both sides say, and a client that consumes.

    c = Client(url)                     the handshake; Closed (code, text) when the server says no
    c.open(1); c.consume(1, queue)
    d = c.delivery(timeout)             Delivery (tag, body, redelivered, ...), None when none came
    c.ack(1, d.tag, multiple=True)
"""
import json
import socket
import ssl
import struct
import time
import urllib.parse

PROTOCOL = b"AMQP\0\0\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
SIZES = {"V": 0, "t": 1, "b": 1, "B": 1, "s": 2, "u": 2, "U": 2, "I": 4, "i": 4, "f": 4, "D": 5, "l": 8, "L": 8, "d": 8, "T": 8}


class Bad(ValueError):
    pass


class Closed(Exception):
    """The server closed a channel (channel > 0) or the connection (0), or it is gone (code 0)."""

    def __init__(self, channel, code, text):
        super().__init__("%s closed: %d %s" % ("channel %d" % channel if channel else "connection", code, text))
        self.channel, self.code, self.text = channel, code, text


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Bad("%d bytes wanted, %d left" % (n, len(self.data) - self.at))
        self.at += n
        return self.data[self.at - n:self.at]

    def num(self, n):
        return int.from_bytes(self.take(n), "big")

    def short(self):
        return self.take(self.num(1)).decode("utf-8", "surrogateescape")

    def long(self):
        return self.take(self.num(4))

    def left(self):
        return len(self.data) - self.at


def _value(r, depth, count):
    kind = chr(r.num(1))
    if kind in SIZES:
        raw = r.take(SIZES[kind])
        return raw == b"\1" if kind == "t" else raw
    raw = r.long()
    if kind in "Sx":
        return raw
    if kind not in "FA":
        raise Bad("a field of kind %r" % kind)
    return _fields(raw, kind == "F", depth + 1, count)


def _fields(raw, named, depth, count):
    if depth > 8:
        raise Bad("tables too deep")
    r, out = Reader(raw), {}
    while r.left():
        count[0] += 1
        if count[0] > 256:
            raise Bad("too many fields")
        key = r.short() if named else count[0]
        out.setdefault(key, _value(r, depth, count))
    return out


def table(r):
    return _fields(r.long(), True, 1, [0])


def _text(t, key):
    v = t.get(key)
    return v.decode() if isinstance(v, bytes) else ""


def _start_ok(r):
    t = table(r)
    caps = t.get("capabilities")
    return {"mechanism": r.short(), "response": r.long().hex(), "locale": r.short(), "product": _text(t, "product"), "version": _text(t, "version"),
            "wants_close": bool(isinstance(caps, dict) and caps.get("authentication_failure_close") is True)}


def _close(r):
    out = {"code": r.num(2), "text": r.short()}
    r.num(4)
    return out


def _consume(r):
    r.num(2)
    out = {"queue": r.short(), "tag": r.short()}
    bits = r.num(1)
    table(r)
    return dict(out, no_ack=bool(bits & 2), exclusive=bool(bits & 4), nowait=bool(bits & 8))


def _open(r):
    out = {"vhost": r.short()}
    r.short()
    r.num(1)
    return out


def _ack(multiple, requeue):
    def read(r):
        tag, bits = r.num(8), r.num(1)
        return {"tag": tag, "multiple": bool(bits & multiple), "requeue": bool(bits & requeue)}
    return read


def _nothing(r):
    return {}


def _channel_open(r):
    r.short()
    return {}


# what a client may send to this service
CLIENT = {
    (10, 11): _start_ok, (10, 31): lambda r: {"channel_max": r.num(2), "frame_max": r.num(4), "heartbeat": r.num(2)}, (10, 40): _open,
    (10, 50): _close, (10, 51): _nothing, (20, 10): _channel_open, (20, 20): lambda r: {"active": bool(r.num(1) & 1)}, (20, 40): _close,
    (20, 41): _nothing, (60, 10): lambda r: {"bytes": r.num(4), "count": r.num(2), "global": bool(r.num(1) & 1)}, (60, 20): _consume,
    (60, 30): lambda r: {"tag": r.short(), "nowait": bool(r.num(1) & 1)}, (60, 80): _ack(1, 0), (60, 90): _ack(0, 1), (60, 120): _ack(1, 2),
}


def decode_client(payload):
    """{"id": "class.method", argument: value}; Bad, or KeyError for methods that are not served."""
    r = Reader(payload)
    key = (r.num(2), r.num(2))
    out = CLIENT[key](r)
    if r.left():
        raise Bad("%d bytes left over" % r.left())
    return dict(out, id="%d.%d" % key)


def parse_frame(data, limit=1 << 30):
    """(type, channel, payload, bytes taken), or how many bytes it takes at least."""
    if len(data) < 7:
        return 7
    kind, channel, size = struct.unpack(">BHI", data[:7])
    if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
        raise Bad("a frame of type %d" % kind)
    if size > limit:
        raise OverflowError("a frame of %d bytes" % size)
    if len(data) < size + 8:
        return size + 8
    if data[size + 7] != 0xce:
        raise Bad("no end")
    return kind, channel, data[7:7 + size], size + 8


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel, cls, number, args=b""):
    return frame(METHOD, channel, struct.pack(">HH", cls, number) + args)


def sstr(s):
    s = s if isinstance(s, bytes) else s.encode()
    return bytes([len(s)]) + s


def lstr(s):
    return struct.pack(">I", len(s)) + s


class Delivery:
    def __init__(self, channel, args):
        self.channel, self.consumer, self.tag, self.redelivered = channel, args.short(), args.num(8), bool(args.num(1))
        args.short()
        self.queue = args.short()
        self.size, self.body, self.timestamp = None, b"", 0

    def header(self, r):
        r.num(4)
        self.size, flags = r.num(8), r.num(2)
        if flags & 1 << 15:
            r.short()
        if flags & 1 << 12:
            r.num(1)
        if flags & 1 << 6:
            self.timestamp = r.num(8)

    def whole(self):
        return self.size is not None and len(self.body) >= self.size

    def result(self):
        """The SDK's message: {task_id, data, ...}"""
        if self.body[:1] != b"\1":
            raise Bad("no message: %r" % self.body[:20])
        m = json.loads(self.body[1:])
        if m["message_type"] != "result":
            raise Bad("message of type %s" % m["message_type"])
        return m["data"]


class Client:
    def __init__(self, url, timeout=30, context=None, heartbeat=None, properties=True, login=None):
        u = urllib.parse.urlsplit(url)
        self.user, self.password = login or (urllib.parse.unquote(u.username), urllib.parse.unquote(u.password))
        self.timeout, self.data, self.deliveries, self.partial = timeout, b"", [], None
        self.sock = socket.create_connection((u.hostname, u.port), timeout)
        if u.scheme == "amqps":
            self.sock = (context or ssl.create_default_context()).wrap_socket(self.sock, server_hostname=u.hostname)
        self.send(PROTOCOL)
        self.expect(0, (10, 10))
        caps = sstr("capabilities") + b"F" + lstr(sstr("authentication_failure_close") + b"t\1") if properties else b""
        self.send(method(0, 10, 11, lstr(caps) + sstr("PLAIN") + lstr(b"\0" + self.user.encode() + b"\0" + self.password.encode()) + sstr("en_US")))
        tune = self.expect(0, (10, 30))
        channel_max, frame_max, offered = tune.num(2), tune.num(4), tune.num(2)
        self.send(method(0, 10, 31, struct.pack(">HIH", channel_max, frame_max, offered if heartbeat is None else heartbeat)))
        self.send(method(0, 10, 40, sstr("/") + sstr("") + b"\0"))
        self.expect(0, (10, 41))

    # ---- frames

    def send(self, data):
        self.sock.sendall(data)

    def read_frame(self, timeout=None):
        """None when no whole frame came in time."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            got = parse_frame(self.data)
            if isinstance(got, tuple):
                self.data = self.data[got[3]:]
                return got[:3]
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.sock.settimeout(max(left, 0.001))
            try:
                more = self.sock.recv(262144)
            except (socket.timeout, ssl.SSLWantReadError):
                return None
            except OSError as e:
                raise Closed(0, 0, str(e))
            if not more:
                raise Closed(0, 0, "end of the connection")
            self.data += more

    def step(self, timeout):
        """Take one frame: (channel, (class, method), arguments) of a method that is no delivery, True for another frame, None for none."""
        got = self.read_frame(timeout)
        if got is None:
            return None
        kind, channel, payload = got
        r = Reader(payload)
        if kind == HEARTBEAT:
            return True
        if kind == HEADER:
            self.partial.header(r)
        elif kind == BODY:
            self.partial.body += payload
        else:
            key = (r.num(2), r.num(2))
            if key == (60, 60):
                self.partial = Delivery(channel, r)
                return True
            if key in ((10, 50), (20, 40)):
                self.send(method(channel, key[0], key[1] + 1))
                raise Closed(channel, r.num(2), r.short())
            return channel, key, r
        if self.partial.whole():
            self.deliveries.append(self.partial)
            self.partial = None
        return True

    def expect(self, channel, key):
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            got = self.step(end - time.monotonic())
            if isinstance(got, tuple):
                if got[:2] == (channel, key):
                    return got[2]
                raise Bad("%s instead of %s" % (got[:2], (channel, key)))
        raise TimeoutError("no %d.%d within %g s" % (key + (self.timeout,)))

    # ---- what clients do

    def open(self, channel):
        self.send(method(channel, 20, 10, sstr("")))
        self.expect(channel, (20, 11))

    def consume(self, channel, queue, tag="", no_ack=False, wait=True):
        self.send(method(channel, 60, 20, b"\0\0" + sstr(queue) + sstr(tag) + bytes([2 if no_ack else 0]) + lstr(b"")))
        return self.expect(channel, (60, 21)).short() if wait else None

    def cancel(self, channel, tag):
        self.send(method(channel, 60, 30, sstr(tag) + b"\0"))
        self.expect(channel, (60, 31))

    def qos(self, channel, count):
        self.send(method(channel, 60, 10, struct.pack(">IHB", 0, count, 0)))
        self.expect(channel, (60, 11))

    def delivery(self, timeout=30):
        end = time.monotonic() + timeout
        while not self.deliveries:
            left = end - time.monotonic()
            if left <= 0 or (self.step(left) is None and time.monotonic() >= end):
                return None
        return self.deliveries.pop(0)

    def ack(self, channel, tag, multiple=False):
        self.send(method(channel, 60, 80, struct.pack(">QB", tag, multiple)))

    def nack(self, channel, tag):
        """Give it back, to come again."""
        self.send(method(channel, 60, 120, struct.pack(">QB", tag, 2)))

    def beat(self):
        self.send(frame(HEARTBEAT, 0, b""))

    def close(self):
        """As it should be done: what was sent before has been taken in when this returns."""
        self.send(method(0, 10, 50, struct.pack(">H", 200) + sstr("bye") + b"\0\0\0\0"))
        try:
            self.expect(0, (10, 51))
        except Closed:
            pass
        self.sock.close()

    def drop(self):
        self.sock.close()

# SPDX-License-Identifier: Apache-2.0
"""Scripted peers for the tests of weft-manager: the agent above it, and a worker below it (worker.py). Only the messages that
these two speak, written from proto/SPEC.md, sections 1 to 3."""
import os
import struct
import time
import uuid

import zmq

HELLO, WELCOME, REJECT, HEARTBEAT, BYE = 1, 2, 3, 4, 5
FUNCTION, FUNCTION_MISSING, TASK, TASK_RETURN, TASK_STATE = 10, 11, 20, 21, 22
RESULT, RESULT_ACK, CANCEL, CAPACITY, DRAIN = 30, 31, 40, 50, 51
SUCCESS, FAILED, CANCELLED = 1, 2, 3
PYTHON, COMMAND = 2, 3
MAJOR = 2


def header(kind, count, epoch=0, seq=0, major=MAJOR):
    return struct.pack("<2sBBBBHIIQ", b"Wf", major, 0, kind, 0, 0, count, seq, epoch)


def header_of(frame):
    magic, major, _, kind, _, _, count, _, epoch = struct.unpack("<2sBBBBHIIQ", frame)
    assert magic == b"Wf", frame
    return kind, count, epoch, major


def hello(role, ident, slots=1, name="fake"):
    name = name.encode()
    return struct.pack("<HBBBBI16sQIHHHHI", 50, role, 1, MAJOR, 0, 0, ident, int.from_bytes(os.urandom(8), "little"), slots, len(name),
                       0, 0, 2, os.getpid()) + name + b"{}"


def hello_of(f):
    (_, role, low, high, _, _, ident, instance, slots, n, v, b, r, pid) = struct.unpack_from("<HBBBBI16sQIHHHHI", f)
    texts, at = [], struct.unpack_from("<H", f)[0]
    for size in (n, v, b, r):
        texts.append(f[at:at + size].decode())
        at += size
    return dict(role=role, majors=(low, high), id=ident, instance=instance, slots=slots, pid=pid, name=texts[0], version=texts[1],
                block=texts[2], runtime=texts[3])


def welcome(epoch, heartbeat_ms, threshold_ms, max_result=10 << 20):
    return struct.pack("<HBBIQIIIIIHI", 42, MAJOR, 0, 0, epoch, heartbeat_ms, threshold_ms, 10 << 20, max_result, 0, 0, os.getpid())


def welcome_of(f):
    w = struct.unpack_from("<HBBIQIIIIIH", f)
    return dict(epoch=w[4], heartbeat_ms=w[5], threshold_ms=w[6], max_payload=w[7], max_result=w[8])


def reason_of(f):
    _, code, n = struct.unpack_from("<HHH", f)
    return code, f[6:6 + n].decode()


def function(ident, code, entry, kind=PYTHON, container=""):
    code, entry, container = code.encode(), entry.encode(), container.encode()
    return struct.pack("<HBB16sIIQHH", 40, kind, 0, ident, len(code), 0, 0, len(entry), len(container)) + code + entry + container


def function_id(f):
    return f[4:20]


def task(ident, fn, payload, attempt=0):
    stamps = [1000] * 6 + [0, 0]
    return struct.pack("<HBB16s16sII8qQII", 124, 0, attempt, ident, fn, len(payload), 0, *stamps, 0, 0, 0) + payload


def task_of(f):
    fixed, _, attempt, ident, fn, n, _ = struct.unpack_from("<HBB16s16sII", f)
    return dict(id=ident, function=fn, attempt=attempt, stamps=struct.unpack_from("<8q", f, 44), payload=f[fixed:fixed + n])


def result(t, status, value=b"", error=b"", code=0, fault=0, start=0, end=0):
    stamps = list(t["stamps"]) + [start, start, end, time.time_ns(), 0, 0, 0, 0]
    return struct.pack("<HBBHBB16sIIIIiHH16qQQ", 192, status, fault, code, t["attempt"], 0, t["id"], len(value), len(error), 0, 0, 0, 0, 0,
                       *stamps, 0, 0) + value + error


def result_of(f):
    (fixed, status, fault, code, attempt, flags, ident, r, e, o, se, detail, nb, rb) = struct.unpack_from("<HBBHBB16sIIIIiHH", f)
    at, parts = fixed, []
    for size in (r, e, o, se, nb, rb):
        parts.append(f[at:at + size])
        at += size
    assert at == len(f), "a RESULT with bytes too many"
    return dict(id=ident, status=status, fault=fault, code=code, attempt=attempt, detail=detail, stamps=struct.unpack_from("<16q", f, 48),
                result=parts[0], error=parts[1].decode(), stdout=parts[2], stderr=parts[3], node=parts[4].decode())


def state(ident, number=4):
    return struct.pack("<HBB16sq", 28, number, 0, ident, time.time_ns())


def state_of(f):
    return f[4:20], f[2]


def capacity_of(f):
    names = ("window", "window_bytes", "slots", "free", "queued", "running", "managers", "blocks", "pending", "time_left", "done")
    return dict(zip(names, struct.unpack_from("<IQIIIIIIIIQ", f, 2)))


def drain(start, grace_ms=0):
    return struct.pack("<HHI", 8, 1 if start else 0, grace_ms)


def ids_of(frames):
    return [f[i:i + 16] for f in frames for i in range(0, len(f), 16)]


class Agent:
    """The listener that a manager dials. Answers HELLO and heartbeats; acknowledges results unless told not to."""

    def __init__(self, ctx, path, heartbeat_ms=200, threshold_ms=3000, curve=None):
        self.sock = ctx.socket(zmq.ROUTER)
        self.sock.linger = 0
        if curve:
            self.sock.curve_server = True
            self.sock.curve_publickey, self.sock.curve_secretkey = curve
        self.sock.bind("tcp://127.0.0.1:*" if curve else "ipc://" + path)
        self.uri = self.sock.last_endpoint.decode().rstrip("\0")
        self.heartbeat_ms, self.threshold_ms = heartbeat_ms, threshold_ms
        self.ack = self.answer = True
        self.rid, self.epoch, self.hello, self.sessions, self.beat = None, 0, None, 0, 0
        self.functions = {}
        self.results, self.copies, self.returned, self.states, self.missing = {}, [], [], [], []
        self.capacity, self.capacities, self.byes, self.rejects, self.drains = None, [], [], [], []

    def close(self):
        self.sock.close()

    def send(self, kind, *records, epoch=None):
        self.raw(header(kind, len(records), self.epoch if epoch is None else epoch), *records)

    def raw(self, *frames):
        self.sock.send_multipart([self.rid, *frames])

    def submit(self, payloads, fn, send_function=True):
        if send_function and fn in self.functions:
            self.send(FUNCTION, self.functions[fn])
        ids = [uuid.uuid4().bytes for _ in payloads]
        for at in range(0, len(ids), 1000):
            self.send(TASK, *[task(i, fn, p) for i, p in zip(ids[at:at + 1000], payloads[at:at + 1000])])
        return ids

    def take(self, rid, h, records):
        kind, count, epoch, _ = header_of(h)
        assert count == len(records), "count does not match"
        if kind == HELLO:
            if not self.answer:
                return
            self.rid, self.hello = rid, hello_of(records[0])
            self.epoch = int.from_bytes(os.urandom(7), "little") + 1
            self.sessions += 1
            self.raw(header(WELCOME, 1, self.epoch), welcome(self.epoch, self.heartbeat_ms, self.threshold_ms))
            return
        if rid != self.rid:
            return
        assert epoch == self.epoch or kind == RESULT, "another epoch"
        if kind == RESULT:
            for r in map(result_of, records):
                self.copies.append(r)
                self.results.setdefault(r["id"], r)
            if self.ack:
                self.send(RESULT_ACK, b"".join(r[8:24] for r in records))
        elif kind == TASK_RETURN:
            self.returned += ids_of(records)
        elif kind == FUNCTION_MISSING:
            self.missing += ids_of(records)
        elif kind == TASK_STATE:
            self.states += map(state_of, records)
        elif kind == CAPACITY:
            self.capacity = capacity_of(records[0])
            self.capacities.append(self.capacity)
        elif kind == DRAIN:
            self.drains.append(struct.unpack("<HHI", records[0][:8]))
        elif kind == BYE:
            self.byes.append(reason_of(records[0]))
        elif kind == REJECT:
            self.rejects.append(reason_of(records[0]))
        elif kind != HEARTBEAT:
            raise AssertionError("a message of type %d" % kind)

    def until(self, condition, seconds=10, what="condition"):
        """Serve until the condition holds; it is an error when it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError("not in %s s: %s" % (seconds, what))
            if self.rid and time.monotonic() - self.beat > self.heartbeat_ms / 1000:
                self.beat = time.monotonic()
                self.send(HEARTBEAT)
            if self.sock.poll(min(20, left * 1000)):
                for _ in range(256):
                    try:
                        frames = self.sock.recv_multipart(zmq.DONTWAIT)
                    except zmq.Again:
                        break
                    self.take(frames[0], frames[1], frames[2:])

    def serve(self, seconds):
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + 5)

    def wait(self, ids, seconds=15):
        self.until(lambda: all(i in self.results for i in ids), seconds, "results of %d tasks" % len(ids))
        return [self.results[i] for i in ids]

# SPDX-License-Identifier: Apache-2.0
"""Scripted peers for the tests of weft-manager: the agent above it, and a worker below it (worker.py). On top of
tests/lib/wire.py; ids are 16 bytes here."""
import os
import sys
import time
import uuid

import zmq

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import versions  # noqa: E402
import wire  # noqa: E402

globals().update(wire.TYPES)    # HELLO, TASK, ...: numbers of the types
SUCCESS, FAILED, CANCELLED = 1, 2, 3
PYTHON, COMMAND = 2, 3


def header(kind, count, epoch=0, major=wire.MAJOR):
    return wire.encode_header({"type": kind, "count": count, "epoch": epoch, "major": major})


def header_of(frame):
    h = wire.decode_header(frame)
    return h["type"], h["count"], h["epoch"]


def hello(role, ident, slots=1, name="fake", version=versions.OURS, **more):
    return version.encode("HELLO", dict(version.hello, role=role, id=ident, slots=slots, name=name, instance=int.from_bytes(os.urandom(8), "little"),
                                        runtime="{}", pid=os.getpid(), **more))


def hello_of(f):
    d = wire.decode("HELLO", f)
    return dict(d, **{k: d[k].decode() for k in ("name", "version", "block", "runtime")})


def welcome(epoch, heartbeat_ms, threshold_ms, version=versions.OURS):
    major, minor = version.session
    return version.encode("WELCOME", {"major": major, "minor": minor, "epoch": epoch, "heartbeat_ms": heartbeat_ms, "threshold_ms": threshold_ms,
                                      "max_payload_bytes": 10 << 20, "max_result_bytes": 10 << 20, "pid": os.getpid()})


def function(ident, code, entry, kind=PYTHON, container="", version=versions.OURS, **options):
    return version.encode("FUNCTION", dict(options, kind=kind, id=ident, code=code, entry=entry, container=container))


def function_id(f):
    return wire.id_bytes(wire.decode("FUNCTION", f)["id"])


def task(ident, fn, payload, attempt=0, version=versions.OURS):
    return version.encode("TASK", {"task": ident, "function": fn, "payload": payload, "attempt": attempt, "stamps": [1000] * 6})


def task_of(f):
    d = wire.decode("TASK", f)
    return dict(d, id=wire.id_bytes(d["task"]), function=wire.id_bytes(d["function"]))


def result(t, status, value=b"", error=b"", code=0, fault=0, start=0, end=0, version=versions.OURS):
    return version.encode("RESULT", {"status": status, "fault": fault, "code": code, "attempt": t["attempt"], "task": t["id"],
                                     "stamps": t["stamps"] + [start, start, end, time.time_ns()], "result": value, "error": error})


def result_of(f):
    d = wire.decode("RESULT", f)
    return dict(d, id=wire.id_bytes(d["task"]), error=d["error"].decode(), node=d["node"].decode())


def state(ident, number=4):
    return wire.encode("TASK_STATE", {"state": number, "task": ident, "time_ns": time.time_ns()})


def state_of(f):
    d = wire.decode("TASK_STATE", f)
    return wire.id_bytes(d["task"]), d["state"]


def reason(code=0, text=""):
    return wire.encode("BYE", {"code": code, "text": text})


def reason_of(f):
    d = wire.decode("BYE", f)
    return d["code"], d["text"].decode()


def capacity_of(f):
    return wire.decode("CAPACITY", f)


def drain(start, grace_ms=0):
    return wire.encode("DRAIN", {"start": start, "grace_ms": grace_ms})


def ids_of(frames):
    return [wire.id_bytes(i) for f in frames for i in wire.decode_ids(f)]


def speaking(program, version, folder):
    """A program of this folder as one of another version: the path of a script in `folder`."""
    path = os.path.join(folder, "of-" + version.name.replace(" ", "-"))
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o700), "w") as f:
        f.write("#!/bin/sh\nexec '%s' --speaks '%s' \"$@\"\n" % (program, version.name))
    return path


class Agent:
    """The listener that a manager dials. Answers HELLO and heartbeats; acknowledges results unless told not to."""

    def __init__(self, ctx, path, heartbeat_ms=200, threshold_ms=10000, curve=None, rcvhwm=1000, version=versions.OURS):
        self.sock = ctx.socket(zmq.ROUTER)
        self.sock.rcvhwm = rcvhwm
        self.sock.linger = 0
        if curve:
            self.sock.curve_server = True
            self.sock.curve_publickey, self.sock.curve_secretkey = curve
        self.sock.bind("tcp://127.0.0.1:*" if curve else "ipc://" + path)
        self.uri = self.sock.last_endpoint.decode().rstrip("\0")
        self.heartbeat_ms, self.threshold_ms = heartbeat_ms, threshold_ms
        self.ack = self.answer = True
        self.version = version
        self.rid, self.epoch, self.hello, self.sessions, self.beat = None, 0, None, 0, 0
        self.functions = {}
        self.results, self.copies, self.returned, self.states, self.missing = {}, [], [], [], []
        self.capacity, self.capacities, self.byes, self.rejects, self.drains = None, [], [], [], []
        self.outputs = 0
        self.containers, self.container_log = {}, []     # id -> its last state; all of them
        self.images = []                                # answers to ask_image, and news

    def close(self):
        self.sock.close()

    def send(self, kind, *records, epoch=None):
        self.raw(self.version.header(kind, len(records), self.epoch if epoch is None else epoch), *records)

    def raw(self, *frames):
        self.sock.send_multipart([self.rid, *frames])

    def submit(self, payloads, fn, send_function=True):
        if send_function and fn in self.functions:
            self.send(FUNCTION, self.functions[fn])
        ids = [uuid.uuid4().bytes for _ in payloads]
        for at in range(0, len(ids), 1000):
            self.send(TASK, *[task(i, fn, p, version=self.version) for i, p in zip(ids[at:at + 1000], payloads[at:at + 1000])])
        return ids

    def ask_image(self, fn, seconds=30):
        """The answer to: which image would a call of it run from now?"""
        self.send(FUNCTION, self.functions[fn])
        had = len(self.images)
        self.send(IMAGE, wire.encode("IMAGE", {"function": fn}))
        mine = lambda: [i for i in self.images[had:] if wire.id_bytes(i["function"]) == fn]     # noqa: E731
        self.until(mine, seconds, "which image it is")
        return mine()[-1]

    def take(self, rid, h, records):
        kind, count, epoch = header_of(h)
        assert count == len(records), "count does not match"
        if kind == HELLO:
            if not self.answer:
                return
            self.rid, self.hello = rid, hello_of(records[0])
            self.epoch = int.from_bytes(os.urandom(7), "little") + 1
            self.sessions += 1
            self.send(WELCOME, welcome(self.epoch, self.heartbeat_ms, self.threshold_ms, self.version))
            return
        if rid != self.rid:
            return
        assert epoch == self.epoch or kind == RESULT, "another epoch"
        if kind == RESULT:
            assert all(self.version.fits("RESULT", r) for r in records), "fields of another major"
            for r in map(result_of, records):
                self.copies.append(r)
                self.results.setdefault(r["id"], r)
            if self.ack:
                self.send(RESULT_ACK, b"".join(r[8:24] for r in records))
        elif kind == TASK_RETURN:
            self.returned += ids_of(records)
        elif kind == FUNCTION_MISSING:
            self.missing += ids_of(records)
        elif kind == OUTPUT:
            self.outputs += len(records)
        elif kind == TASK_STATE:
            self.states += map(state_of, records)
        elif kind == CAPACITY:
            self.capacity = capacity_of(records[0])
            self.capacities.append(self.capacity)
        elif kind == CONTAINER_STATE:
            for r in records:
                c = wire.decode("CONTAINER_STATE", r)
                self.containers[c["id"]] = c
                self.container_log.append(c)
        elif kind == IMAGE:
            self.images += [wire.decode("IMAGE", r) for r in records]
        elif kind == DRAIN:
            self.drains.append(wire.decode("DRAIN", records[0]))
        elif kind == BYE:
            self.byes.append(reason_of(records[0]))
        elif kind == REJECT:
            self.rejects.append(reason_of(records[0]))
        elif kind != HEARTBEAT:
            raise AssertionError("a message of type %d" % kind)

    def until(self, condition, seconds=30, what="condition"):
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

    def wait(self, ids, seconds=30):
        self.until(lambda: all(i in self.results for i in ids), seconds, "results of %d tasks" % len(ids))
        return [self.results[i] for i in ids]

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that does what the payload says, for the tests of weft-manager. Payload: JSON with "op":

    echo          the result is the payload; with "s" after so many seconds, with "until" once there is a file of that name
    die           the worker kills itself with SIGKILL; with "once": FILE only as long as FILE is not there, and makes it
    stray         leaves a process behind that is not its child; its pid is written to "file"
    hang          stops reading for ever (SIGSTOP); "once" as above; before that "file" gets one more letter
    functions     the result is the number of FUNCTION records that came in this session
    forget        answers FUNCTION_MISSING once before it runs the task
    chatty        says as often as "n" that it runs, with 64 KiB of output each time, makes "file", then sends the result
    malformed     sends "n" malformed messages, then the result
Results carry {"pid": ..., "node": ...} too. With --speaks NAME it is of another version of the protocol (tests/lib/versions.py)."""
import argparse
import collections
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import uuid

import zmq

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer  # noqa: E402


class Worker:
    def __init__(self, o):
        self.o, self.version = o, peer.versions.named(o.speaks)
        self.sock = zmq.Context.instance().socket(zmq.DEALER)
        self.sock.connect(o.connect)
        self.epoch, self.functions, self.forgot = 0, collections.Counter(), set()
        self.queue, self.now, self.end, self.began = collections.deque(), None, 0, 0
        self.draining = self.reported = False
        self.said = self.greeted = 0
        self.unacked = {}

    def send(self, kind, *records):
        self.sock.send_multipart([self.version.header(kind, len(records), self.epoch), *records])
        self.said = time.monotonic()

    def finish(self, status=peer.SUCCESS, value=None, **more):
        t, self.now = self.now, None
        value = json.dumps(dict(value or {}, pid=os.getpid(), node=self.o.node)).encode()
        frame = peer.result(t, status, value if status == peer.SUCCESS else b"", start=self.began, end=time.time_ns(), version=self.version, **more)
        self.unacked[t["id"]] = frame
        self.send(peer.RESULT, frame)

    def begin(self):
        self.now = t = self.queue.popleft()
        self.began, self.reported = time.time_ns(), False
        op = t["op"]
        if op["op"] in ("die", "hang") and not ("once" in op and os.path.exists(op["once"])):
            if "once" in op:
                open(op["once"], "w").close()
            if "file" in op:
                with open(op["file"], "a") as f:
                    f.write("x")
            os.kill(os.getpid(), signal.SIGKILL if op["op"] == "die" else signal.SIGSTOP)
        if op["op"] == "stray":
            # the shell ends at once: what it leaves is adopted by whoever is the subreaper
            subprocess.run(["sh", "-c", "setsid sleep 1000 & echo $! > \"$1.new\"; mv \"$1.new\" \"$1\"", "sh", op["file"]], check=True)
        if op["op"] == "malformed":
            for _ in range(op["n"]):
                self.send(peer.RESULT, b"\x00" * 10)
        if op["op"] == "chatty":
            text = peer.wire.encode("OUTPUT", {"task": t["id"], "stdout": b"x" * 65536, "stdout_total": 65536})
            for _ in range(op["n"]):
                self.send(peer.TASK_STATE, peer.state(t["id"]))
                self.send(peer.OUTPUT, text)
            open(op["file"], "w").close()
        if op["op"] == "forget" and t["function"] not in self.forgot:
            self.forgot.add(t["function"])
            self.functions[t["function"]] = 0
            self.send(peer.FUNCTION_MISSING, t["function"])
            self.queue.appendleft(t)
            self.now = None
            return
        self.end = time.monotonic() + op.get("s", 0)

    def step(self):
        if self.now is None and self.queue and self.functions[self.queue[0]["function"]] and not self.draining:
            self.begin()
        if self.now is None:
            return
        op = self.now["op"]
        if time.monotonic() >= self.end and ("until" not in op or os.path.exists(op["until"])):
            self.finish(value=dict(op, count=self.functions[self.now["function"]], attempt=self.now["attempt"],
                                   session=self.session))
        elif not self.reported and time.time_ns() - self.began > 200e6:
            self.reported = True
            self.send(peer.TASK_STATE, peer.state(self.now["id"]))

    def cancel(self, ident):
        if self.now and self.now["id"] == ident:
            self.finish(peer.CANCELLED, error=b"cancelled", code=12, fault=1)
        for t in list(self.queue):
            if t["id"] == ident:
                self.queue.remove(t)
                t, self.now = self.now, t
                self.finish(peer.CANCELLED, error=b"cancelled", code=12, fault=1)
                self.now = t

    def take(self, h, records):
        kind, _, epoch = peer.header_of(h)
        if kind == peer.WELCOME:
            if epoch != self.epoch and self.version.newer:
                self.sock.send_multipart(self.version.unknown(epoch))
            self.epoch, welcome = epoch, peer.wire.decode("WELCOME", records[0])
            self.session = welcome["major"], welcome["minor"]
        elif kind == peer.FUNCTION:
            self.functions.update(map(peer.function_id, records))
        elif kind == peer.TASK:
            assert all(self.version.fits("TASK", r) for r in records), "fields of another major"
            for t in map(peer.task_of, records):
                t["op"] = json.loads(t["payload"])
                self.queue.append(t)
        elif kind == peer.RESULT_ACK:
            for i in peer.ids_of(records):
                del self.unacked[i]
        elif kind == peer.CANCEL:
            for i in peer.ids_of(records):
                self.cancel(i)
        elif kind == peer.DRAIN:
            self.draining = peer.wire.decode("DRAIN", records[0])["start"]
            if self.draining and self.queue:
                self.send(peer.TASK_RETURN, b"".join(t["id"] for t in self.queue))
                self.queue.clear()
        elif kind in (peer.BYE, peer.REJECT):
            sys.exit(0)

    def run(self):
        me = uuid.UUID(self.o.worker_id).bytes
        while True:
            if not self.epoch and time.monotonic() - self.greeted > 1:
                self.greeted = time.monotonic()
                self.send(peer.HELLO, peer.hello(3, me, 1, self.o.node, self.version))
            elif self.epoch and time.monotonic() - self.said > 0.1:
                self.send(peer.HEARTBEAT)
            busy = self.queue and self.now is None and not self.draining
            while self.sock.poll(0 if busy else 5):
                frames = self.sock.recv_multipart()
                self.take(frames[0], frames[1:])
            self.step()
            if self.draining and self.now is None and not self.unacked:
                self.send(peer.BYE, peer.reason())
                self.sock.close(linger=1000)
                zmq.Context.instance().term()
                return


def main():
    p = argparse.ArgumentParser()
    for name in ("connect", "worker-id", "node", "dir", "python", "log-level", "retries-on-kill"):
        p.add_argument("--" + name)
    p.add_argument("--parent-pid", type=int)
    p.add_argument("--speaks", default=peer.versions.OURS.name)
    o = p.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != o.parent_pid:
        os._exit(1)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    open(os.path.join(o.dir, "here"), "w").close()
    Worker(o).run()


main()

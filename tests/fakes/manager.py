#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A manager of another version of the protocol (--speaks, tests/lib/versions.py) for the tests of weft-endpoint, which starts it as its own. It
runs tasks itself: the result is JSON with the payload, the version of its session, and whether the task came with nodes of its own. Before it
runs one whose payload is the id of a function it asks for that function, and waits until it has come."""
import argparse
import json
import os
import signal
import sys
import time
import uuid

import zmq

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer  # noqa: E402


def main():
    p = argparse.ArgumentParser()
    for name in ("connect", "block", "node", "speaks"):
        p.add_argument("--" + name)
    o, _ = p.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    v, parent = peer.versions.named(o.speaks), os.getppid()
    s = zmq.Context.instance().socket(zmq.DEALER)
    s.connect(o.connect)
    me, epoch, session, functions, waiting, said = uuid.uuid4().bytes, 0, None, {}, {}, 0

    def send(kind, *records):
        s.send_multipart([v.header(kind, len(records), epoch), *records])

    def run(record):
        assert v.fits("TASK", record), "fields of another major"
        t = peer.task_of(record)
        value = {"payload": t["payload"].decode(), "session": session, "nodes": bool(t.get("resources")), "code": functions[t["function"]]}
        send(peer.RESULT, peer.result(t, peer.SUCCESS, json.dumps(value).encode(), start=time.time_ns(), end=time.time_ns(), version=v))

    while os.getppid() == parent:
        if time.monotonic() - said > (0.2 if epoch else 1):
            said = time.monotonic()
            if epoch:
                send(peer.HEARTBEAT)
            else:
                send(peer.HELLO, peer.hello(2, me, 1, o.node, v, block=o.block))
        while s.poll(20):
            head, *records = s.recv_multipart()
            kind = peer.header_of(head)[0]
            if kind == peer.WELCOME and not epoch:
                w = peer.wire.decode("WELCOME", records[0])
                epoch, session = w["epoch"], [w["major"], w["minor"]]
                send(peer.CAPACITY, v.encode("CAPACITY", {"window_tasks": 4, "window_bytes": 1 << 30, "slots": 1, "free_slots": 1, "managers": 1,
                                                         "time_left_s": 0xffffffff}))
                for _ in range(20 if v.newer else 0):   # more than the agent would take of malformed ones
                    s.send_multipart(v.unknown(epoch))
            elif kind == peer.FUNCTION:
                for d in (peer.wire.decode("FUNCTION", r) for r in records):
                    functions[peer.wire.id_bytes(d["id"])] = d["code"].decode()
                    if d["id"] in waiting:
                        run(waiting.pop(d["id"]))
            elif kind == peer.TASK:
                for r in records:
                    payload = peer.task_of(r)["payload"].decode()
                    if len(payload) == 36:
                        waiting[payload] = r
                        send(peer.FUNCTION_MISSING, peer.wire.id_bytes(payload))
                    else:
                        run(r)
            elif kind == peer.DRAIN and peer.wire.decode("DRAIN", records[0])["start"]:
                send(peer.BYE, peer.reason())
                s.close(linger=1000)
                zmq.Context.instance().term()
                return


main()

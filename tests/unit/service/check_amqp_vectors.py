#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the independent decoder (tests/lib/amqp.py) over service/amqp/vectors.json.

    check_amqp_vectors.py              prints "N passed, N failed"; exits 1 when one failed
    check_amqp_vectors.py --seeds DIR  writes what clients send as files into DIR, for the fuzzer
"""
import json
import os
import struct
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import amqp  # noqa: E402

IN_MAX = 16384


def check_method(v, raw):
    try:
        got = amqp.decode_client(raw)
    except KeyError:
        return v.get("error") == "NOT_FOUND", "not served"
    except amqp.Bad as e:
        return v.get("error") == "INVALID", str(e)
    return v["ok"] and got == v["fields"], got


def check_frame(v, raw):
    try:
        got = amqp.parse_frame(raw, IN_MAX)
    except OverflowError as e:
        return v.get("error") == "LIMIT", str(e)
    except amqp.Bad as e:
        return v.get("error") == "INVALID", str(e)
    if isinstance(got, int):
        return v.get("need") == got, got
    kind, channel, payload, taken = got
    return v.get("fields") == {"type": kind, "channel": channel, "size": len(payload), "taken": taken}, got


def frames(raw):
    while raw:
        kind, channel, payload, taken = amqp.parse_frame(raw)
        yield kind, channel, amqp.Reader(payload)
        raw = raw[taken:]


def check_delivery(v, raw):
    a, d = v["args"], None
    for kind, channel, r in frames(raw):
        if len(r.data) + 8 > a["frame_max"]:
            return False, "a frame of %d bytes" % len(r.data)
        if kind == amqp.METHOD:
            key = (r.num(2), r.num(2))
            d = amqp.Delivery(channel, r) if key == (60, 60) else None
        elif kind == amqp.HEADER:
            d.header(r)
        else:
            d.body += r.data
    got = dict(a, channel=d.channel, consumer=d.consumer, queue=d.queue, tag=d.tag, redelivered=d.redelivered, timestamp=d.timestamp,
               body=d.body.decode())
    return got == a and d.size == len(d.body), got


def check_server(v, raw):
    """Other frames of ours: one method whose arguments are those of the vector, as far as it names them."""
    a, (kind, channel, r) = v["args"], next(frames(raw))
    if v["kind"] == "heartbeat":
        return (kind, channel, r.data) == (amqp.HEARTBEAT, 0, b""), kind
    key = "%d.%d" % struct.unpack(">HH", r.take(4))
    got = {"channel": channel, "id": key}
    if v["kind"] == "start":
        got = {"version": ""}
        r.num(2)
        got["version"] = amqp.table(r)["version"].decode()
        return got == a and r.long() == b"PLAIN" and r.long() == b"en_US" and not r.left(), got
    if v["kind"] == "tune":
        got = {"channel_max": r.num(2), "frame_max": r.num(4), "heartbeat": r.num(2)}
    elif v["kind"] == "close":
        got = {"channel": channel, "code": r.num(2), "text": r.short(), "id": "%d.%d" % (r.num(2), r.num(2))}
    elif v["kind"] == "tag":
        got["tag"] = r.short()
    elif v["kind"] == "flow_ok":
        got = {"channel": channel, "active": bool(r.num(1))}
    elif v["kind"] in ("open_ok", "plain"):
        got = {} if v["kind"] == "open_ok" else got
        r.take(r.left())
    return got == a and not r.left(), got


def main():
    with open(os.path.join(ROOT, "service", "amqp", "vectors.json")) as f:
        vectors = json.load(f)
    if sys.argv[1:2] == ["--seeds"]:
        for i, v in enumerate(v for v in vectors if v["kind"] in ("method", "frame")):
            raw = bytes.fromhex(v["hex"])
            with open(os.path.join(sys.argv[2], "amqp-%03d" % i), "wb") as f:
                f.write(amqp.frame(amqp.METHOD, 1, raw) if v["kind"] == "method" else raw)
        return 0
    checks = {"method": check_method, "frame": check_frame, "delivery": check_delivery}
    passed = failed = 0
    for v in vectors:
        ok, got = checks.get(v["kind"], check_server)(v, bytes.fromhex(v["hex"]))
        passed, failed = passed + bool(ok), failed + (not ok)
        if not ok:
            print("not ok - %s: %s" % (v["name"], got))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


sys.exit(main())

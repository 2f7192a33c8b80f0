#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the independent decoders (tests/lib/wire.py, zmtp.py) over all vectors, both ways.

    check_vectors.py              prints "N passed, N failed"; exits 1 when one failed
    check_vectors.py --seeds DIR  writes the bytes of each family's vectors to the folder of its fuzzer in DIR
"""
import argparse
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import wire  # noqa: E402
import zmtp  # noqa: E402

VECTORS = os.path.join(ROOT, "proto", "vectors")
HEX_FIELDS = ("instance", "epoch")
TASK = "01920000-0000-7000-8000-000000000001"     # whose payload and result the vectors of bulk references name


def load():
    for name in sorted(os.listdir(VECTORS)):
        if name.endswith(".json"):
            with open(os.path.join(VECTORS, name)) as f:
                yield name[:-len(".json")], json.load(f)


def runner(kind, decode):
    def run(raw):
        got, body, used = wire.open_runner_frame(raw)
        if got != kind or used != len(raw):
            raise AssertionError("frame of type %s with %d of %d bytes" % (got, used, len(raw)))
        return decode(body)
    return run


DECODERS = {
    "HEADER": wire.decode_header,
    "IDS": lambda raw: {"ids": wire.decode_ids(raw)},
    "RUNNER_CALL": runner("C", wire.decode_call),
    "RUNNER_BATCH": runner("B", wire.decode_batch),
    "RUNNER_RESULT": runner("R", wire.decode_run_result),
    "RUNNER_START": runner("S", wire.decode_start),
    "RUNNER_READY": runner("I", lambda body: {"json": body}),
    "RUNNER_FUNCTION": runner("F", lambda body: wire.decode("FUNCTION", body)),
    "FILES": lambda raw: {"files": wire.decode_files(raw)},
    "KEPT": lambda raw: {"kept": [{"path": path, "bytes": size} for path, size in wire.decode_kept(raw)]},
    "BULK_PAYLOAD": lambda raw: wire.decode_reference(raw, TASK, "payload"),
    "BULK_RESULT": lambda raw: wire.decode_reference(raw, TASK, "result"),
    "META": wire.decode_meta, "QUEUED": wire.decode_queued, "DONE": wire.decode_done, "ENDED": wire.decode_ended,
    "ZMTP_GREETING": zmtp.decode_greeting, "ZMTP_FRAMES": zmtp.decode_frames,
    "ZMTP_READY_TO_DEALER": lambda raw: zmtp.decode_ready(raw, "DEALER"),
    "ZMTP_READY_TO_ROUTER": lambda raw: zmtp.decode_ready(raw, "ROUTER"),
}
ENCODERS = {
    "HEADER": lambda d, major: wire.encode_header(d),
    "IDS": lambda d, major: wire.encode_ids(d["ids"]),
    "RUNNER_CALL": lambda d, major: wire.encode_call(d),
    "RUNNER_BATCH": lambda d, major: wire.encode_batch(d),
    "RUNNER_RESULT": lambda d, major: wire.encode_run_result(d),
    "RUNNER_START": lambda d, major: wire.encode_start(d),
    "RUNNER_READY": lambda d, major: wire.runner_frame("I", wire.to_bytes(d["json"])),
    "RUNNER_FUNCTION": lambda d, major: wire.runner_frame("F", wire.encode("FUNCTION", d)),
    "FILES": lambda d, major: wire.encode_files(d["files"]),
    "KEPT": lambda d, major: wire.encode_kept((f["path"], f["bytes"]) for f in d["kept"]),
    "BULK_PAYLOAD": lambda d, major: wire.encode_reference(d["bulk_bytes"], TASK),
    "BULK_RESULT": lambda d, major: wire.encode_reference(d["bulk_bytes"], TASK, d["bulk_name"].partition("@")[2]),
    "META": lambda d, major: wire.encode_meta(d), "QUEUED": lambda d, major: wire.encode_queued(d),
    "DONE": lambda d, major: wire.encode_done(d), "ENDED": lambda d, major: wire.encode_ended(d),
    "ZMTP_GREETING": lambda d, major: zmtp.encode_greeting(d), "ZMTP_FRAMES": lambda d, major: zmtp.encode_frames(d),
    "ZMTP_READY_TO_DEALER": lambda d, major: zmtp.encode_ready(d), "ZMTP_READY_TO_ROUTER": lambda d, major: zmtp.encode_ready(d),
}


def decode(kind, raw):
    return DECODERS[kind](raw) if kind in DECODERS else wire.decode(kind, raw)


def encode(kind, fields, major):
    return ENCODERS[kind](fields, major) if kind in ENCODERS else wire.encode(kind, fields, major)


def as_json(fields):
    """The form of fields in the vectors."""
    out = {}
    for name, v in fields.items():
        if isinstance(v, list) and v and isinstance(v[0], dict):
            v = [as_json(i) for i in v]
        elif isinstance(v, bytes):
            try:
                v = {"hex": v.hex()} if b"\0" in v else v.decode()
            except UnicodeDecodeError:
                v = {"hex": v.hex()}
        elif name in HEX_FIELDS:
            v = "0x%016x" % v
        out[name] = v
    return out


def from_json(fields):
    out = {}
    for name, v in fields.items():
        if isinstance(v, list) and v and isinstance(v[0], dict):
            v = [from_json(i) for i in v]
        elif isinstance(v, dict):
            v = bytes.fromhex(v["hex"])
        elif name in HEX_FIELDS:
            v = int(v, 16)
        out[name] = v
    return out


def check(v):
    """None, or what is wrong."""
    raw = bytes.fromhex(v["hex"])
    try:
        fields = decode(v["type"], raw)
        got = as_json(fields)
        if v["type"] == "RESULT" and "files" in fields and wire.encode_files_data(wire.decode_files_data(fields["files"])) != fields["files"]:
            return "its files encoded to other bytes"
        if v["type"] == "RESULT" and "kept" in fields and wire.encode_kept(wire.decode_kept(fields["kept"])) != fields["kept"]:
            return "its kept files encoded to other bytes"
    except wire.Malformed as e:
        if v["ok"]:
            return "refused: %s" % e
        return None if e.code == v["error"] else "refused with %s instead of %s" % (e.code, v["error"])
    except AssertionError as e:
        return str(e)
    if not v["ok"]:
        return "accepted"
    if got != v["fields"]:
        return "decoded to %s" % got
    if v.get("canonical", True) and encode(v["type"], from_json(v["fields"]), v["major"]) != raw:
        return "encoded to other bytes"
    return None


def seeds(where):
    for family, vectors in load():
        folder = os.path.join(where, ("fuzz_" if family in ("layout", "zmtp") else "fuzz_msg_") + family)
        os.makedirs(folder, exist_ok=True)
        for i, v in enumerate(vectors):
            with open(os.path.join(folder, "vector-%s-%03d" % (v["type"].lower(), i)), "wb") as f:
                f.write(bytes.fromhex(v["hex"]))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seeds", metavar="DIR")
    ap.add_argument("--build", help="not used: nothing of it is built")
    o = ap.parse_args()
    if o.seeds:
        seeds(o.seeds)
        return 0
    passed = failed = 0
    for family, vectors in load():
        for v in vectors:
            wrong = check(v)
            if wrong:
                failed += 1
                print("%s.json: %s, %s: %s" % (family, v["type"], v["name"], wrong[:400]))
            else:
                passed += 1
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""ZMTP 3.0 with the NULL mechanism in Python, as far as a DEALER and a ROUTER need it. Standard library only.

Written from the specification (https://rfc.zeromq.org/spec/23), not from proto/zmtp.c, so that the vectors check two readings of it.
Malformed is wire.py's: INVALID, TOO_LARGE, VERSION (an older ZMTP), or INCOMPLETE (good so far, but not all is here).
"""
import struct

from wire import Malformed

MAX_FRAME = 1 << 20             # a limit of the vectors, not of ZMTP
MAX_COMMAND = 4096
MORE, LONG, COMMAND = 1, 2, 4
# What RFC 23 lets talk with each other (valid socket combinations).
PARTNERS = {"DEALER": ("ROUTER", "DEALER", "REP"), "ROUTER": ("DEALER", "REQ", "ROUTER")}


def decode_greeting(raw):
    """signature (0xFF, 8 of padding, 0x7F), version (2), mechanism (20), as-server (1), filler (31)"""
    if raw[:1] not in (b"", b"\xff") or raw[9:10] not in (b"", b"\x7f"):
        raise Malformed("INVALID", "signature")
    if len(raw) > 10 and raw[10] < 3:
        raise Malformed("VERSION", "ZMTP %d" % raw[10])
    mechanism = raw[12:32]
    if mechanism != b"NULL".ljust(20, b"\0")[:len(mechanism)]:
        raise Malformed("INVALID", "mechanism")
    if len(raw) < 64:
        raise Malformed("INCOMPLETE", "greeting of %d bytes" % len(raw))
    return {"major": raw[10], "minor": raw[11], "mechanism": mechanism.rstrip(b"\0").decode()}


def encode_greeting(d):
    return b"\xff" + bytes(7) + b"\x01\x7f" + bytes((d["major"], d["minor"])) + d["mechanism"].encode().ljust(20, b"\0") + bytes(32)


def decode_ready(raw, own):
    """The body of a command: its name with a byte of length; properties: name likewise, value with four bytes of length."""
    if not raw or raw[0] != 5 or raw[1:6] != b"READY":
        raise Malformed("INVALID", "not READY")
    at, types = 6, []
    while at < len(raw):
        name = raw[at + 1:at + 1 + raw[at]]
        at += 1 + raw[at]
        if at + 4 > len(raw):
            raise Malformed("INVALID", "property cut")
        size, = struct.unpack(">I", raw[at:at + 4])
        value = raw[at + 4:at + 4 + size]
        at += 4 + size
        if at > len(raw):
            raise Malformed("INVALID", "property cut")
        if name.lower() == b"socket-type":
            types.append(value)
    if not types or any(t not in [p.encode() for p in PARTNERS[own]] for t in types):
        raise Malformed("INVALID", "socket type")
    return {"socket_type": types[-1].decode()}


def encode_ready(d):
    kind = d["socket_type"].encode()
    return b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind


def decode_frames(raw, max_frame=MAX_FRAME):
    frames, at = [], 0
    while at < len(raw):
        flags, command = raw[at], bool(raw[at] & COMMAND)
        if flags & ~(MORE | LONG | COMMAND) or flags & (MORE | COMMAND) == MORE | COMMAND:
            raise Malformed("INVALID", "flags 0x%02x" % flags)
        width = 8 if flags & LONG else 1
        head = raw[at + 1:at + 1 + width]
        if len(head) < width:
            raise Malformed("INCOMPLETE", "head of a frame")
        size = int.from_bytes(head, "big")
        if size > (min(max_frame, MAX_COMMAND) if command else max_frame):
            raise Malformed("TOO_LARGE", "frame of %d bytes" % size)
        at += 1 + width
        if len(raw) - at < size:
            raise Malformed("INCOMPLETE", "frame")
        frames.append({"more": bool(flags & MORE), "command": command, "body": raw[at:at + size]})
        at += size
    return {"frames": frames}


def encode_frames(d):
    out = b""
    for f in d["frames"]:
        body = f["body"].encode() if isinstance(f["body"], str) else f["body"]
        flags = (MORE if f["more"] else 0) | (COMMAND if f["command"] else 0)
        out += (bytes((flags, len(body))) if len(body) < 256 else struct.pack(">BQ", flags | LONG, len(body))) + body
    return out

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the vectors beside it: bytes spelled out field by field from SPEC.md, with what a decoder must say of them.

It uses neither of the two codecs that the vectors check. The JSON files are the truth: a released vector never changes;
run this after adding to it, and look at the diff.

A vector: name, type, major (of the session, for encoding), hex, ok; then fields (good ones) or error (bad ones: INVALID,
TOO_LARGE, or INCOMPLETE for a runner frame whose rest has not come). canonical false: valid, but not what we would send.
In fields, ids are UUID text, random 64-bit numbers hexadecimal text, bytes a string when they are UTF-8 without NUL, else {"hex": ...}.
"""
import json
import os
import struct
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
TASK = "01920000-0000-7000-8000-000000000001"
FUNC = "01920000-0000-7000-8000-000000000002"
PEER = "01920000-0000-7000-8000-0000000000ff"
OWNER = "0192aaaa-0000-7000-8000-00000000000a"
STORE = "01234567-89ab-cdef-0123-456789abcdef"
NO_ID = "00000000-0000-0000-0000-000000000000"
GROUP = "0192bbbb-0000-7000-8000-00000000000b"
MIB = 1 << 20


def u8(v): return struct.pack("<B", v)
def u16(v): return struct.pack("<H", v)
def u32(v): return struct.pack("<I", v)
def u64(v): return struct.pack("<Q", v)
def i32(v): return struct.pack("<i", v)
def i64(v): return struct.pack("<q", v)
def uid(s): return uuid.UUID(s).bytes


def data(b):
    try:
        if b"\0" not in b:
            return b.decode("utf-8")
    except UnicodeDecodeError:
        pass
    return {"hex": b.hex()}


def ref(size, task=TASK, end=".p"):
    """A bulk reference."""
    return u32(size) + uuid.UUID(task).hex.encode() + end.encode()


RESULT_END = "@00112233aabbccdd"


def bad_references(end, other):
    """(what, bytes, error)"""
    return [("is empty", b"", "INVALID"), ("has no name", u32(5), "INVALID"), ("is cut", ref(5, end=end)[:-1], "INVALID"),
            ("is a byte longer", ref(5, end=end) + b"0", "INVALID"), ("names another task", ref(5, FUNC, end), "INVALID"),
            ("names data of the other kind", ref(5, end=other), "INVALID"), ("names a path", u32(5) + b"../" + ref(5, end=end)[4 + 3:], "INVALID"),
            ("has capitals", ref(5, end=end)[:4] + ref(5, end=end)[4:].upper(), "INVALID"),
            ("has a NUL", ref(5, end=end)[:-1] + b"\0", "INVALID"), ("is over the limit", ref(128 * MIB + 1, end=end), "TOO_LARGE"),
            ("says 4 GiB less one", ref(0xffffffff, end=end), "TOO_LARGE")]


def hex64(v): return "0x%016x" % v


class Family:
    def __init__(self, name):
        self.name, self.list = name, []

    def good(self, name, kind, raw, fields, major=2, canonical=True):
        v = {"name": name, "type": kind, "major": major, "hex": raw.hex(), "ok": True, "fields": fields}
        if not canonical:
            v["canonical"] = False
        self.list.append(v)

    def bad(self, name, kind, raw, error="INVALID", major=2):
        self.list.append({"name": name, "type": kind, "major": major, "hex": raw.hex(), "ok": False, "error": error})

    def shapes(self, kind, raw, fixed, shortest):
        """What is wrong with every record: raw is a good one whose fixed part has `fixed` bytes."""
        self.bad("empty", kind, b"")
        self.bad("one byte", kind, raw[:1])
        self.bad("fixed part cut", kind, raw[:fixed - 1])
        self.bad("fixed_bytes 0", kind, u16(0) + raw[2:])
        self.bad("fixed_bytes 1", kind, u16(1) + raw[2:])
        self.bad("fixed_bytes under the shortest", kind, u16(shortest - 1) + raw[2:])
        self.bad("fixed_bytes over the frame", kind, u16(len(raw) + 1) + raw[2:])
        self.bad("a byte longer", kind, raw + b"\0")
        if len(raw) > fixed:
            self.bad("a byte shorter", kind, raw[:-1])
            self.bad("without its variable parts", kind, raw[:fixed])

    def write(self):
        names = [(v["type"], v["name"]) for v in self.list]
        assert len(set(names)) == len(names), [n for n in names if names.count(n) > 1]
        with open(os.path.join(HERE, self.name + ".json"), "w") as f:
            f.write("[\n" + ",\n".join(json.dumps(v, ensure_ascii=True) for v in self.list) + "\n]\n")


def newer(raw, fixed, extra_fixed, extra_tail):
    """The same record from a later version: longer fixed part, more after the known parts."""
    return u16(fixed + len(extra_fixed)) + raw[2:fixed] + extra_fixed + raw[fixed:] + extra_tail


def header():
    f = Family("header")

    def head(major=2, minor=0, kind=20, flags=0, reserved=0, count=1, seq=7, epoch=0x1122334455667788, magic=b"Wf"):
        return magic + u8(major) + u8(minor) + u8(kind) + u8(flags) + u16(reserved) + u32(count) + u32(seq) + u64(epoch)

    def fields(major=2, minor=0, kind=20, flags=0, count=1, seq=7, epoch=0x1122334455667788):
        return {"major": major, "minor": minor, "type": kind, "flags": flags, "count": count, "seq": seq, "epoch": hex64(epoch)}
    f.good("task", "HEADER", head(), fields())
    f.good("hello before an epoch", "HEADER", head(kind=1, epoch=0, seq=0), fields(kind=1, epoch=0, seq=0))
    f.good("heartbeat without records", "HEADER", head(kind=4, count=0), fields(kind=4, count=0))
    f.good("most records", "HEADER", head(count=4096), fields(count=4096))
    f.good("largest numbers", "HEADER", head(seq=0xffffffff, epoch=2**64 - 1), fields(seq=0xffffffff, epoch=2**64 - 1))
    f.good("major 1", "HEADER", head(major=1), fields(major=1), major=1)
    f.good("major of the future, for the caller to judge", "HEADER", head(major=3, minor=9), fields(major=3, minor=9), major=3)
    f.good("unknown type, for the caller to judge", "HEADER", head(kind=200), fields(kind=200))
    f.good("unknown flags", "HEADER", head(flags=0x80), fields(flags=0x80))
    f.good("reserved bytes are ignored", "HEADER", head(reserved=0xffff), fields(), canonical=False)
    f.bad("empty", "HEADER", b"")
    f.bad("a byte short", "HEADER", head()[:-1])
    f.bad("a byte long", "HEADER", head() + b"\0")
    f.bad("wrong magic", "HEADER", head(magic=b"wF"))
    f.bad("swapped magic", "HEADER", head(magic=b"fW"))
    f.bad("too many records", "HEADER", head(count=4097), "TOO_LARGE")
    f.bad("most negative count", "HEADER", head(count=0xffffffff), "TOO_LARGE")
    f.write()


def session():
    f = Family("session")

    def hello(v=2, role=2, lo=1, hi=2, name=b"node-17", version=b"0.1.0", block=b"slurm:4711", runtime=b'{"os":"linux"}',
              slots=64, pid=4242, lens=None):
        lens = lens or [len(name), len(version), len(block), len(runtime)]
        return (u16(50 if v == 2 else 46) + u8(role) + u8(lo) + u8(hi) + u8(0) + u32(1) + uid(PEER) + u64(0xfedcba9876543210) + u32(slots)
                + b"".join(u16(n) for n in lens) + (u32(pid) if v == 2 else b"") + name + version + block + runtime)

    def fields(role=2, lo=1, hi=2, name="node-17", version="0.1.0", block="slurm:4711", runtime='{"os":"linux"}', slots=64, pid=4242,
               bulk=NO_ID):
        return {"role": role, "min_major": lo, "max_major": hi, "minor": 0, "capabilities": 1, "id": PEER,
                "instance": hex64(0xfedcba9876543210), "slots": slots, "pid": pid, "name": name, "version": version,
                "block": block, "runtime": runtime, "bulk": bulk}
    k = "HELLO"
    # What minor version 0 sends: 50 bytes, no id of a bulk store.
    f.good("manager", k, hello(), fields(), canonical=False)
    f.good("version 1 has no pid", k, hello(v=1), fields(pid=0), major=1)
    f.good("all texts empty", k, hello(name=b"", version=b"", block=b"", runtime=b""), fields(name="", version="", block="", runtime=""), canonical=False)
    f.good("endpoint", k, hello(role=1, slots=0), fields(role=1, slots=0), canonical=False)
    f.good("worker", k, hello(role=3, slots=1), fields(role=3, slots=1), canonical=False)
    f.good("name that is not ASCII", k, hello(name="knöten-α".encode()), fields(name="knöten-α"), canonical=False)
    f.good("name that is not UTF-8", k, hello(name=b"\xff\xfe"), fields(name={"hex": "fffe"}), canonical=False)
    f.good("longest texts", k, hello(name=b"n" * 4096, version=b"v" * 4096, block=b"b" * 4096, runtime=b"r" * 4096),
           fields(name="n" * 4096, version="v" * 4096, block="b" * 4096, runtime="r" * 4096), canonical=False)
    f.good("pid cut in the middle reads as 0", k, u16(48) + hello(v=1)[2:46] + b"\x11\x22" + hello(v=1)[46:], fields(pid=0), canonical=False)
    f.good("newer: longer fixed part", k, newer(hello(), 50, b"\xaa" * 6, b""), fields(), canonical=False)
    f.bad("bytes after a fixed part that is not newer", k, newer(hello(), 50, u16(3), b"new"))
    f.good("majors of the future", k, hello(lo=2, hi=3), fields(lo=2, hi=3), canonical=False)
    f.shapes(k, hello(), 50, 46)
    f.bad("role 0", k, hello(role=0))
    f.bad("role 4", k, hello(role=4))
    f.bad("lowest major 0", k, hello(lo=0))
    f.bad("lowest major over the highest", k, hello(lo=3, hi=2))
    for i, part in enumerate(["name", "version", "block", "runtime"]):
        lens = [7, 5, 10, 14]
        lens[i] = 4097
        f.bad(part + " over the limit", k, hello(lens=lens), "TOO_LARGE")
        lens[i] = [7, 5, 10, 14][i] + 1
        f.bad(part + " says a byte more than came", k, hello(lens=lens))
    # Minor version 1: the id of its bulk store.
    one = u16(66) + hello()[2:50] + uid(STORE) + hello()[50:]
    f.good("1: a bulk store", k, one, fields(bulk=STORE))
    f.good("1: no bulk store", k, u16(66) + hello()[2:50] + bytes(16) + hello()[50:], fields())
    f.good("1: id cut reads as none", k, u16(65) + hello()[2:50] + uid(STORE)[:15] + hello()[50:], fields(), canonical=False)
    f.bad("1: a byte shorter", k, one[:-1])
    f.bad("1: a byte longer", k, one + b"\0")

    # Minor version 5: its key, sent only where no handshake tells it.
    def keyed(key, n=None):
        return u16(68) + one[2:66] + u16(len(key) if n is None else n) + one[66:] + key
    key = b"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    f.good("5: a key", k, keyed(key), dict(fields(bulk=STORE), key=key.decode()))
    f.good("5: no key, but its length", k, keyed(b""), fields(bulk=STORE), canonical=False)
    f.good("5: fixed part ends within its length", k, u16(67) + one[2:66] + b"\1" + one[66:], fields(bulk=STORE), canonical=False)
    f.good("newer", k, newer(keyed(b""), 68, u16(3), b"new"), fields(bulk=STORE), canonical=False)
    f.bad("5: key over the limit", k, keyed(key + b"x"), "TOO_LARGE")
    f.bad("5: key says a byte more than came", k, keyed(key[:39], n=40))
    f.bad("5: a byte longer", k, keyed(key) + b"\0")

    def welcome(v=2, major=2, epoch=0x0102030405060708, name=b"forwarder-1", n=None, reserved=0):
        return (u16(42 if v == 2 else 38) + u8(major) + u8(0) + u32(1) + u64(epoch) + u32(2000) + u32(10000) + u32(10 * MIB) + u32(5 * MIB)
                + u32(reserved) + u16(len(name) if n is None else n) + (u32(99) if v == 2 else b"") + name)

    def wfields(major=2, epoch=0x0102030405060708, name="forwarder-1", pid=99):
        return {"major": major, "minor": 0, "capabilities": 1, "epoch": hex64(epoch), "heartbeat_ms": 2000, "threshold_ms": 10000,
                "max_payload_bytes": 10 * MIB, "max_result_bytes": 5 * MIB, "pid": pid, "name": name}
    k = "WELCOME"
    f.good("plain", k, welcome(), wfields())
    f.good("version 1 has no pid", k, welcome(v=1, major=1), wfields(major=1, pid=0), major=1)
    f.good("largest epoch", k, welcome(epoch=2**64 - 1), wfields(epoch=2**64 - 1))
    f.good("reserved bytes are ignored", k, welcome(reserved=5), wfields(), canonical=False)
    f.good("newer", k, newer(welcome(), 42, b"\1\2\3\4", b"more"), wfields(), canonical=False)
    f.shapes(k, welcome(), 42, 38)
    f.bad("epoch 0", k, welcome(epoch=0))
    f.bad("major 0", k, welcome(major=0))
    f.bad("name over the limit", k, welcome(n=4097), "TOO_LARGE")

    def reason(code, text, n=None):
        return u16(6) + u16(code) + u16(len(text) if n is None else n) + text
    for k in ("REJECT", "BYE"):
        f.good("version", k, reason(13, b"we speak 1 to 2, you 3 to 4"), {"code": 13, "text": "we speak 1 to 2, you 3 to 4"})
        f.good("no text", k, reason(0, b""), {"code": 0, "text": ""})
        f.good("code of the future", k, reason(999, b"x"), {"code": 999, "text": "x"})
        f.good("newer", k, newer(reason(4, b"hello again"), 6, u32(1), b"and more"), {"code": 4, "text": "hello again"}, canonical=False)
        f.good("longest text", k, reason(2, b"t" * 4096), {"code": 2, "text": "t" * 4096})
        f.shapes(k, reason(4, b"hello again"), 6, 6)
        f.bad("text over the limit", k, reason(4, b"t" * 4097), "TOO_LARGE")
        f.bad("text over the limit that did not come", k, reason(4, b"", n=65535), "TOO_LARGE")
    f.write()


def entry(name=b"data.csv", url=b"https://example.org/data.csv?v=1", digest=bytes(range(32)), limit=0, kind=1, fixed=48, name_n=None, url_n=None,
          flags=None, extra=b"", tail=b"", n=None):
    """One entry of a list of files."""
    raw = (u16(fixed + len(extra)) + u8(kind) + u8((1 if digest else 0) if flags is None else flags) + (digest or bytes(32)) + u64(limit)
           + u16(len(name) if name_n is None else name_n) + u16(len(url) if url_n is None else url_n) + extra + name + url + tail)
    return u16(len(raw) if n is None else n) + raw


def kept(path, size=7):
    """One entry of the files that a RESULT says were kept."""
    return u16(len(path)) + u64(size) + path


def files():
    f = Family("files")
    k = "FILES"

    def one(name="data.csv", url="https://example.org/data.csv?v=1", digest=bytes(range(32)), limit=0, kind=1, flags=None):
        return {"kind": kind, "flags": (1 if digest else 0) if flags is None else flags, "digest": (digest or bytes(32)).hex(), "max_bytes": limit,
                "name": name, "url": url}
    f.good("none", k, b"", {"files": []})
    f.good("one", k, entry(), {"files": [one()]})
    f.good("without a checksum, with a limit", k, entry(digest=None, limit=2**62), {"files": [one(digest=None, limit=2**62)]})
    f.good("without a URL, as a manager sends it to a worker", k, entry(url=b""), {"files": [one(url="")]})
    f.good("three", k, entry() + entry(name=b"b", url=b"file:///data/b") + entry(name="Ünï cøde".encode(), url=b"http://h:81/"),
           {"files": [one(), one("b", "file:///data/b"), one("Ünï cøde", "http://h:81/")]})
    f.good("an output: a pattern without a URL", k, entry(name=b"*.png", url=b"", digest=None, kind=2), {"files": [one("*.png", "", None, kind=2)]})
    f.good("an output that is kept", k, entry(name=b"big.bin", url=b"", digest=None, kind=3), {"files": [one("big.bin", "", None, kind=3)]})
    f.good("kind and flags of the future", k, entry(kind=200, flags=0xff), {"files": [one(kind=200, flags=0xff)]})
    f.good("newer", k, entry(extra=u32(7) + u16(4), tail=b"tail") + entry(name=b"b"), {"files": [one(), one("b")]}, canonical=False)
    f.good("longest name and URL", k, entry(name=b"n" * 255, url=b"https://h/" + b"u" * 2038), {"files": [one("n" * 255, "https://h/" + "u" * 2038)]})
    f.good("as many as there may be", k, b"".join(entry(name=b"%d" % i, url=b"http://h") for i in range(64)),
           {"files": [one("%d" % i, "http://h") for i in range(64)]})
    f.bad("one more", k, b"".join(entry(name=b"%d" % i, url=b"http://h") for i in range(65)), "TOO_LARGE")
    f.bad("longer than a list may be", k, b"".join(entry(name=b"%d" % i, url=b"http://h/" + b"u" * 2000) for i in range(16)), "TOO_LARGE")
    f.bad("a name twice", k, entry() + entry(url=b"http://other/"))
    f.bad("a byte shorter", k, entry()[:-1])
    f.bad("a byte longer", k, entry() + b"\0")
    f.bad("entry of no bytes", k, u16(0))
    f.bad("entry of one byte", k, u16(1) + b"\0")
    f.bad("fixed part too short", k, entry(fixed=47))
    f.bad("fixed part longer than the entry", k, entry(fixed=200))
    f.bad("entry longer than its lengths", k, entry(tail=b"x"))
    f.bad("entry shorter than its lengths", k, entry(name_n=9))
    f.bad("entry says more than came", k, entry(n=200))
    f.bad("name over the limit", k, entry(name=b"n" * 256), "TOO_LARGE")
    f.bad("URL over the limit", k, entry(url=b"https://h/" + b"u" * 2039), "TOO_LARGE")
    for name in (b"", b".", b"..", b"/etc/passwd", b"../x", b"a/b", b"a\0b", b"a\nb", b"\xff", b".weft-x", b"\x7f"):
        f.bad("name %r" % name, k, entry(name=name))
    for url in (b"ftp://h/x", b"data.csv", b"http://", b"https:///x", b"http://user:pw@h/x", b"http://h/a b", b"http://h/\xc3\xbc", b"http://h/x#y",
                b"file:/etc/passwd", b"file://host/etc", b"file:///", b"file:////x", b"http:h", b"http://?x"):
        f.bad("URL %r" % url, k, entry(url=url))
    f.good("schemes in capitals", k, entry(url=b"HTTPS://h") + entry(name=b"f", url=b"File:///x"), {"files": [one(url="HTTPS://h"), one("f", "File:///x")]})
    k = "KEPT"
    f.good("kept: none", k, b"", {"kept": []})
    f.good("kept: as a worker names them", k, kept(b"big.bin", 2**40) + kept("Ünï cøde".encode(), 0),
           {"kept": [{"path": "big.bin", "bytes": 2**40}, {"path": "Ünï cøde", "bytes": 0}]})
    f.good("kept: as a manager names one", k, kept(b"/scratch/out/x y/big.bin", 5), {"kept": [{"path": "/scratch/out/x y/big.bin", "bytes": 5}]})
    f.good("kept: longest path", k, kept(b"/" + b"d" * 767 + b"/" + b"n" * 255), {"kept": [{"path": "/" + "d" * 767 + "/" + "n" * 255, "bytes": 7}]})
    f.bad("kept: path over the limit", k, kept(b"/" + b"d" * 768 + b"/" + b"n" * 255))
    f.bad("kept: a byte shorter", k, kept(b"a")[:-1])
    f.bad("kept: a byte longer", k, kept(b"a") + b"\0")
    f.bad("kept: cut within the sizes", k, kept(b"a") + kept(b"b")[:9])
    for path in (b"", b"/", b"a/b", b"../x", b"/out/..", b"/out/.weft-x", b"/out/", b"/o\nut/x", b"/\xff/x", b"/out/\xff", b"/out/" + b"n" * 256):
        f.bad("kept: path %r" % path[:40], k, kept(path))
    f.write()


def resources_record(nodes=2, ranks=4, options=b"--exclusive", environ=b"A=1\0B=\0", options_n=None, environ_n=None):
    return (u16(14) + u16(nodes) + u32(ranks) + u16(len(options) if options_n is None else options_n)
            + u32(len(environ) if environ_n is None else environ_n) + options + environ)


def resources():
    f = Family("resources")
    k = "RESOURCES"

    def fields(nodes=2, ranks=4, options="--exclusive", environ=b"A=1\0B=\0"):
        return {"nodes": nodes, "ranks_per_node": ranks, "options": options, "environ": data(environ)}
    f.good("with its nodes", k, resources_record(), fields())
    f.good("as it is asked for", k, resources_record(environ=b""), fields(environ=b""))
    f.good("no options", k, resources_record(options=b"", environ=b""), fields(options="", environ=b""))
    f.good("most of all", k, resources_record(1024, 65536, b"o" * 1024, b"A=" + b"x" * 997 + b"\0"),
           fields(1024, 65536, "o" * 1024, b"A=" + b"x" * 997 + b"\0"))
    f.good("newer", k, newer(resources_record(), 14, u32(7), b"more"), fields(), canonical=False)
    f.shapes(k, resources_record(), 14, 14)
    f.bad("no node", k, resources_record(nodes=0))
    f.bad("more nodes than there may be", k, resources_record(nodes=1025))
    f.bad("no rank", k, resources_record(ranks=0))
    f.bad("more ranks than there may be", k, resources_record(ranks=65537))
    f.bad("options over the limit", k, resources_record(options=b"o" * 1025), "TOO_LARGE")
    f.bad("environ over the limit", k, resources_record(environ_n=512 * 1024 + 1), "TOO_LARGE")
    f.bad("NUL in the options", k, resources_record(options=b"a\0b"))
    for what, environ in (("without its end", b"A=1"), ("without a name", b"=1\0"), ("without a value", b"A\0"), ("empty", b"\0")):
        f.bad("environ " + what, k, resources_record(environ=environ))
    f.bad("options say a byte more than came", k, resources_record(environ=b"", options_n=12))
    f.write()


def function():
    f = Family("function")
    k = "FUNCTION"

    def fn(kind=2, flags=0, code=b"def f(x):\n    return x\n", entry=b"f", container=b"", code_n=None, entry_n=None, container_n=None):
        return (u16(40) + u8(kind) + u8(flags) + uid(FUNC) + u32(len(code) if code_n is None else code_n) + u32(60000) + u64(1 << 33)
                + u16(len(entry) if entry_n is None else entry_n) + u16(len(container) if container_n is None else container_n)
                + code + entry + container)

    def fn1(batch=128, latency=250, cpu=1500, pids=64, warm=300000, replicas=2, ctype=b"podman", ctype_n=None, fixed=66, container=b"", python=0, **old):
        raw = fn(container=container, **old)
        more = u16(batch) + u16(len(ctype) if ctype_n is None else ctype_n) + u32(latency) + u32(cpu) + u32(pids) + u32(warm) + u32(replicas) + u16(python)
        return u16(fixed) + raw[2:40] + more[:fixed - 40] + raw[40:] + ctype

    def fields(kind=2, flags=0, code=b"def f(x):\n    return x\n", entry="f", container="", batch=0, latency=0, cpu=0, pids=0, warm=0,
               replicas=0, ctype="", python=0):
        return {"kind": kind, "flags": flags, "id": FUNC, "time_limit_ms": 60000, "memory_limit_bytes": 1 << 33, "code": data(code),
                "entry": entry, "container": container, "max_batch": batch, "latency_ms": latency, "cpu_millis": cpu, "max_pids": pids,
                "warm_ms": warm, "replicas": replicas, "container_type": ctype, "python": python}

    # What minor version 0 sends: 40 bytes, the fields that it lacks are 0.
    f.good("python", k, fn(), fields(), canonical=False)
    f.good("globus, bytes that are not text", k, fn(kind=1, code=bytes(range(256)), entry=b""), fields(kind=1, code=bytes(range(256)), entry=""),
           canonical=False)
    f.good("command in a container", k, fn(kind=3, code=b'{"argv":["/bin/cat"]}', entry=b"", container=b"docker://alpine:3"),
           fields(kind=3, code=b'{"argv":["/bin/cat"]}', entry="", container="docker://alpine:3"), canonical=False)
    f.good("shared object", k, fn(kind=4, code=b"f0VMRg==", entry=b"weft_square"), fields(kind=4, code=b"f0VMRg==", entry="weft_square"),
           canonical=False)
    f.good("kind of the future", k, fn(kind=9), fields(kind=9), canonical=False)
    f.good("no code", k, fn(code=b"", entry=b""), fields(code=b"", entry=""), canonical=False)
    f.good("longest entry and container", k, fn(entry=b"e" * 4096, container=b"c" * 4096), fields(entry="e" * 4096, container="c" * 4096),
           canonical=False)
    f.bad("bytes after a fixed part that is not newer", k, newer(fn(), 40, u32(7) + u16(4), b"wasm"))
    f.shapes(k, fn(container=b"img"), 40, 40)
    f.bad("code over the limit", k, fn(code_n=16 * MIB + 1), "TOO_LARGE")
    f.bad("code of 4 GiB less one", k, fn(code_n=0xffffffff), "TOO_LARGE")
    f.bad("code at the limit that did not come", k, fn(code_n=16 * MIB))
    f.bad("entry over the limit", k, fn(entry_n=4097), "TOO_LARGE")
    f.bad("container over the limit", k, fn(container_n=65535), "TOO_LARGE")
    f.bad("entry reaches over the end", k, fn(entry_n=2))
    # Minor version 1: batches and the container's options.
    old = dict(container=b"docker.io/library/python:3.11", flags=7)
    new = dict(batch=128, latency=250, cpu=1500, pids=64, warm=300000, replicas=2)
    oldf = dict(container="docker.io/library/python:3.11", flags=7)
    f.good("1: memoised, batches, a container with all options", k, fn1(**old), fields(ctype="podman", **new, **oldf))
    f.good("1: nothing of it", k, fn1(batch=0, latency=0, cpu=0, pids=0, warm=0, replicas=0, ctype=b""), fields())
    f.good("1: largest numbers", k, fn1(batch=0xffff, latency=2**32 - 1, cpu=2**32 - 1, pids=2**32 - 1, warm=2**32 - 1, replicas=2**32 - 1, ctype=b""),
           fields(batch=0xffff, latency=2**32 - 1, cpu=2**32 - 1, pids=2**32 - 1, warm=2**32 - 1, replicas=2**32 - 1))
    f.good("1: longest container type", k, fn1(ctype=b"t" * 4096, **old), fields(ctype="t" * 4096, **new, **oldf))
    f.good("1: fixed part ends after the container type", k, fn1(fixed=44, **old), fields(ctype="podman", batch=128, **oldf), canonical=False)
    f.good("1: warm_ms cut reads as 0", k, fn1(fixed=58, **old), fields(ctype="podman", batch=128, latency=250, cpu=1500, pids=64, **oldf),
           canonical=False)
    f.good("1: fixed part ends before python", k, fn1(fixed=64, **old), fields(ctype="podman", **new, **oldf), canonical=False)
    f.good("1: bytecode of Python 3.11", k, fn1(**dict(old, flags=8), python=0x30b), fields(ctype="podman", python=0x30b, **new, **dict(oldf, flags=8)))
    f.good("1: half of python reads as 0", k, fn1(fixed=65, python=0x30b, **old), fields(ctype="podman", **new, **oldf), canonical=False)
    # Minor version 2: files, sent only when there are some.
    def fn2(files, n=None, **more):
        raw = fn1(**more)
        return u16(68) + raw[2:66] + u16(len(files) if n is None else n) + raw[66:] + files
    f.good("2: newer", k, newer(fn2(b"", **old), 68, u32(7) + u16(4), b"wasm"), fields(ctype="podman", **new, **oldf), canonical=False)
    f.good("2: no files", k, fn2(b"", **old), fields(ctype="podman", **new, **oldf), canonical=False)
    listed = entry() + entry(name=b"b", digest=None)
    f.good("2: files", k, fn2(listed, **old), dict(fields(ctype="podman", **new, **oldf), files=data(listed)))
    f.good("2: files at the limit, which nobody looks into here", k, fn2(b"x" * 32768, **old),
           dict(fields(ctype="podman", **new, **oldf), files="x" * 32768))
    f.bad("2: files over the limit", k, fn2(b"x" * 32769, **old), "TOO_LARGE")
    f.bad("2: files reach over the end", k, fn2(listed, n=len(listed) + 1, **old))
    f.bad("2: a byte more than the files", k, fn2(listed, **old) + b"\0")
    f.bad("1: a byte shorter", k, fn1(**old)[:-1])
    f.bad("1: a byte longer", k, fn1(**old) + b"\0")
    f.bad("1: container type over the limit", k, fn1(ctype_n=4097, **old), "TOO_LARGE")
    f.bad("1: container type reaches over the end", k, fn1(ctype_n=7, **old))
    f.bad("1: container type cut with its length", k, fn1(fixed=43, **old))
    f.write()


STAMPS = [1800000000000000000 + 1000 * i for i in range(16)]


def task():
    f = Family("task")
    k = "TASK"

    def tk(v=2, flags=0, attempt=0, payload=b'{"args":[1]}', n=None, stamps=STAMPS[:8], mem=1 << 30, max_result=MIB, expected=1500):
        return (u16(124 if v == 2 else 108) + u8(flags) + u8(attempt) + uid(TASK) + uid(FUNC) + u32(len(payload) if n is None else n) + u32(30000)
                + b"".join(i64(s) for s in stamps) + (u64(mem) + u32(max_result) + u32(expected) if v == 2 else b"") + payload)

    def fields(flags=0, attempt=0, payload=b'{"args":[1]}', stamps=STAMPS[:8], mem=1 << 30, max_result=MIB, expected=1500):
        return {"flags": flags, "attempt": attempt, "task": TASK, "function": FUNC, "time_limit_ms": 30000, "memory_limit_bytes": mem,
                "max_result_bytes": max_result, "expected_ms": expected, "stamps": stamps, "payload": data(payload)}
    f.good("plain", k, tk(), fields())
    f.good("payload from the service, third attempt", k, tk(flags=1, attempt=2), fields(flags=1, attempt=2))
    f.good("fresh", k, tk(flags=4), fields(flags=4))
    f.good("its result as JSON, or as all", k, tk(flags=24), fields(flags=24))
    f.good("no payload", k, tk(payload=b""), fields(payload=b""))
    f.good("bytes that are not text", k, tk(payload=b"\0\xff\x80"), fields(payload=b"\0\xff\x80"))
    f.good("NUL in the payload", k, tk(payload=b"a\0b"), fields(payload=b"a\0b"))
    f.good("version 1", k, tk(v=1), fields(mem=0, max_result=0, expected=0), major=1)
    f.good("stamps 0 and negative", k, tk(stamps=[0, -1, 2**63 - 1, -2**63, 0, 0, 0, 0]), fields(stamps=[0, -1, 2**63 - 1, -2**63, 0, 0, 0, 0]))
    f.good("fixed part ends after the memory limit", k, u16(116) + tk()[2:116] + b'{"args":[1]}', fields(max_result=0, expected=0), canonical=False)
    f.good("memory limit cut reads as 0", k, u16(112) + tk()[2:112] + b'{"args":[1]}', fields(mem=0, max_result=0, expected=0), canonical=False)
    # Minor version 2: files, sent only when there are some.
    def tk2(files, n=None, **more):
        raw = tk(**more)
        return u16(126) + raw[2:124] + u16(len(files) if n is None else n) + raw[124:] + files
    listed = entry() + entry(name=b"b", digest=None)
    f.good("files", k, tk2(listed), dict(fields(), files=data(listed)))
    f.good("files without a payload", k, tk2(listed, payload=b""), dict(fields(payload=b""), files=data(listed)))
    f.good("files at the limit, which nobody looks into here", k, tk2(b"x" * 32768), dict(fields(), files="x" * 32768))
    f.good("no files, but their length", k, tk2(b""), fields(), canonical=False)
    f.bad("files over the limit", k, tk2(b"x" * 32769), "TOO_LARGE")
    f.bad("files reach over the end", k, tk2(listed, n=len(listed) + 1))
    f.bad("a byte more than the files", k, tk2(listed) + b"\0")
    # Minor version 3: resources, likewise.
    def tk3(wanted, files=b"", n=None, **more):
        raw = tk(**more)
        return u16(130) + raw[2:124] + u16(len(files)) + u32(len(wanted) if n is None else n) + raw[124:] + files + wanted
    wanted = resources_record(environ=b"")
    f.good("resources", k, tk3(wanted), dict(fields(), resources=data(wanted)))
    f.good("resources and files", k, tk3(wanted, listed), dict(fields(), files=data(listed), resources=data(wanted)))
    f.good("resources with an environment", k, tk3(resources_record()), dict(fields(), resources=data(resources_record())))
    f.good("no resources, but their length", k, tk3(b""), fields(), canonical=False)
    f.bad("resources over the limit", k, tk3(wanted, n=512 * 1024 + 4097), "TOO_LARGE")
    f.bad("resources reach over the end", k, tk3(wanted, n=len(wanted) + 1))
    f.bad("a byte more than the resources", k, tk3(wanted) + b"\0")
    f.good("newer: longer fixed part", k, newer(tk3(b""), 130, b"\x55" * 12, b""), fields(), canonical=False)
    f.good("newer: another variable part", k, newer(tk3(b""), 130, u32(5), b"extra"), fields(), canonical=False)
    f.shapes(k, tk(), 124, 108)
    f.bad("version 1, a byte longer", k, tk(v=1) + b"\0", major=1)
    f.bad("version 1, a byte shorter", k, tk(v=1)[:-1], major=1)
    f.bad("newer, but shorter than the payload", k, newer(tk3(b""), 130, u32(0), b"")[:-1])
    f.bad("payload over the limit", k, tk(n=128 * MIB + 1), "TOO_LARGE")
    f.bad("payload of 4 GiB less one", k, tk(n=0xffffffff), "TOO_LARGE")
    f.bad("payload at the limit that did not come", k, tk(n=128 * MIB))
    f.bad("payload says less than came", k, tk(n=11))
    by_ref = dict(fields(flags=3, payload=ref(MIB)), bulk_bytes=MIB, bulk_name=uuid.UUID(TASK).hex + ".p")
    f.good("bulk reference", k, tk(flags=3, payload=ref(MIB)), by_ref)
    f.good("bulk reference to the most", k, tk(flags=2, payload=ref(128 * MIB)),
           dict(fields(flags=2, payload=ref(128 * MIB)), bulk_bytes=128 * MIB, bulk_name=uuid.UUID(TASK).hex + ".p"))
    for what, raw, error in bad_references(".p", RESULT_END):
        f.bad("bulk reference " + what, k, tk(flags=2, payload=raw), error)

    def st(state=4, reserved=0, ns=STAMPS[9]):
        return u16(28) + u8(state) + u8(reserved) + uid(TASK) + i64(ns)
    k = "TASK_STATE"
    for s in range(8):
        f.good("state %d" % s, k, st(s), {"state": s, "task": TASK, "time_ns": STAMPS[9]})
    f.good("reserved byte is ignored", k, st(reserved=1), {"state": 4, "task": TASK, "time_ns": STAMPS[9]}, canonical=False)
    f.good("newer", k, newer(st(), 28, b"\0" * 8, b"x"), {"state": 4, "task": TASK, "time_ns": STAMPS[9]}, canonical=False)
    f.shapes(k, st(), 28, 28)
    f.bad("state 8", k, st(8))
    k = "OUTPUT"

    def op(out=b"tick\n", err=b"", totals=None, lens=None, reserved=0):
        totals, lens = totals or [len(out), len(err)], lens or [len(out), len(err)]
        return u16(44) + u16(reserved) + uid(TASK) + u64(totals[0]) + u64(totals[1]) + u32(lens[0]) + u32(lens[1]) + out + err

    def of(out="tick\n", err="", totals=None):
        totals = totals or [len(out), len(err)]
        return {"task": TASK, "stdout_total": totals[0], "stderr_total": totals[1], "stdout": out, "stderr": err}
    f.good("all of it", k, op(), of())
    f.good("nothing", k, op(b""), of(""))
    f.good("both, the ends", k, op(b"out", b"err\n", [1 << 40, 70000]), of("out", "err\n", [1 << 40, 70000]))
    f.good("reserved bytes are ignored", k, op(reserved=7), of(), canonical=False)
    f.good("newer", k, newer(op(), 44, b"\0" * 8, b"x"), of(), canonical=False)
    f.good("the longest", k, op(b"o" * 65536, b"e" * 65536), of("o" * 65536, "e" * 65536))
    f.shapes(k, op(b"out", b"err"), 44, 44)
    f.bad("more text than was printed", k, op(b"out", b"", [2, 0]))
    f.bad("more of stderr", k, op(b"", b"err", [0, 2]))
    f.bad("stdout over the limit", k, op(b"", b"", [1 << 20, 0], [65537, 0]), "TOO_LARGE")
    f.bad("stderr over the limit", k, op(b"", b"", [0, 1 << 20], [0, 65537]), "TOO_LARGE")
    k = "IDS"
    f.good("one", k, uid(TASK), {"ids": [TASK]})
    f.good("three", k, uid(TASK) + uid(FUNC) + uid(TASK), {"ids": [TASK, FUNC, TASK]})
    f.bad("none", k, b"")
    f.bad("15 bytes", k, uid(TASK)[:15])
    f.bad("17 bytes", k, uid(TASK) + b"\0")
    f.write()


def result():
    f = Family("result")
    k = "RESULT"

    def rs(v=2, status=1, fault=0, code=0, attempt=0, flags=0, result=b"[1,2]", error=b"", out=b"hi\n", err=b"", detail=0, node=b"node-17",
           runtime=b"", lens=None):
        lens = lens or [len(result), len(error), len(out), len(err), len(node), len(runtime)]
        return (u16(192 if v == 2 else 176) + u8(status) + u8(fault) + u16(code) + u8(attempt) + u8(flags) + uid(TASK)
                + b"".join(u32(n) for n in lens[:4]) + i32(detail) + u16(lens[4]) + u16(lens[5]) + b"".join(i64(s) for s in STAMPS)
                + (u64(123456789) + u64(50 * MIB) if v == 2 else b"") + result + error + out + err + node + runtime)

    def fields(status=1, fault=0, code=0, attempt=0, flags=0, result=b"[1,2]", error=b"", out=b"hi\n", err=b"", detail=0, node=b"node-17",
               runtime=b"", cpu=123456789, rss=50 * MIB, image=NO_ID):
        return {"status": status, "fault": fault, "code": code, "attempt": attempt, "flags": flags, "task": TASK, "detail": detail,
                "stamps": STAMPS, "cpu_ns": cpu, "max_rss_bytes": rss, "image": image, "result": data(result), "error": data(error), "stdout": data(out),
                "stderr": data(err), "node": data(node), "runtime": data(runtime)}
    f.good("success", k, rs(), fields(), canonical=False)
    bad = dict(status=2, fault=1, code=20, attempt=1, result=b"", error="Traceback: Fehler bei α".encode(), out=b"", err=b"warn\n",
               runtime=b'{"os":"linux"}')
    f.good("exception", k, rs(**bad), fields(**bad), canonical=False)
    killed = dict(status=2, fault=2, code=22, result=b"", error=b"killed by signal 9", detail=9)
    f.good("signal", k, rs(**killed), fields(**killed), canonical=False)
    f.good("negative detail", k, rs(detail=-2**31), fields(detail=-2**31), canonical=False)
    f.good("cancelled", k, rs(status=3, fault=1, code=12, result=b"", out=b"", node=b""), fields(status=3, fault=1, code=12, result=b"", out=b"", node=b""), canonical=False)
    f.good("memoised, base64", k, rs(flags=3, result=b"/w=="), fields(flags=3, result=b"/w=="), canonical=False)
    f.good("every part empty", k, rs(result=b"", out=b"", node=b""), fields(result=b"", out=b"", node=b""), canonical=False)
    f.good("bytes that are not text", k, rs(result=bytes(range(256)), out=b"\xe2\x82"), fields(result=bytes(range(256)), out=b"\xe2\x82"), canonical=False)
    f.good("version 1", k, rs(v=1), fields(cpu=0, rss=0), major=1)
    f.good("longest node and runtime", k, rs(node=b"n" * 4096, runtime=b"r" * 4096), fields(node=b"n" * 4096, runtime=b"r" * 4096), canonical=False)
    f.good("longest stdout", k, rs(out=b"o" * 65536), fields(out=b"o" * 65536), canonical=False)
    f.good("fixed part ends after the CPU time", k, u16(184) + rs()[2:184] + rs()[192:], fields(rss=0), canonical=False)
    f.good("code of the future", k, rs(status=2, fault=4, code=65535), fields(status=2, fault=4, code=65535), canonical=False)
    f.shapes(k, rs(), 192, 176)
    for s in (0, 4, 255):
        f.bad("status %d" % s, k, rs(status=s))
    f.bad("fault 5", k, rs(fault=5))
    for i, (part, limit) in enumerate([("result", 128 * MIB), ("error", 65536), ("stdout", 65536), ("stderr", 65536), ("node", 4096), ("runtime", 4096)]):
        lens = [5, 0, 3, 0, 7, 0]
        keep = lens[i]
        lens[i] = limit + 1
        f.bad(part + " over the limit", k, rs(lens=lens), "TOO_LARGE")
        lens[i] = keep + 1
        f.bad(part + " says a byte more than came", k, rs(lens=lens))
    f.bad("lengths that would add up to the frame modulo 2^32", k, rs(lens=[0xffffffff, 1, 8, 0, 7, 0]), "TOO_LARGE")
    to_file = ref(MIB, end=RESULT_END)
    f.good("bulk reference", k, rs(flags=4, result=to_file), dict(fields(flags=4, result=to_file), bulk_bytes=MIB, bulk_name=to_file[4:].decode()), canonical=False)
    f.good("bulk reference to base64", k, rs(flags=6, result=to_file),
           dict(fields(flags=6, result=to_file), bulk_bytes=MIB, bulk_name=to_file[4:].decode()), canonical=False)
    for what, raw, error in bad_references(RESULT_END, ".p"):
        f.bad("bulk reference " + what, k, rs(flags=4, result=raw), error)
    # Minor version 2: the image of the container.
    def rs2(image=FUNC, **old):
        return u16(208) + rs(**old)[2:192] + uid(image) + rs(**old)[192:]
    f.good("2: from a container", k, rs2(), fields(image=FUNC))
    f.good("2: from none", k, rs2(NO_ID), fields())
    f.good("2: exception", k, rs2(**bad), fields(image=FUNC, **bad))
    f.good("2: memoised, base64", k, rs2(flags=3, result=b"/w=="), fields(image=FUNC, flags=3, result=b"/w=="))
    f.good("2: bulk reference", k, rs2(flags=4, result=to_file),
           dict(fields(image=FUNC, flags=4, result=to_file), bulk_bytes=MIB, bulk_name=to_file[4:].decode()))
    f.good("2: fixed part ends within the image", k, u16(200) + rs2()[2:200] + rs2()[208:], fields(), canonical=False)
    # Minor version 2: files, sent only when there are some.
    def rs3(files, n=None, **more):
        raw = rs(**more)
        return u16(212) + raw[2:192] + bytes(16) + u32(len(files) if n is None else n) + raw[192:] + files
    made = u16(7) + u32(4) + b"out.png" + b"\x89PNG" + u16(1) + u32(0) + b"e"
    # Minor version 3: files that were left on the endpoint, sent only when there are some.
    def rs4(left, made=b"", n=None):
        raw = rs3(made)
        return u16(216) + raw[2:212] + u32(len(left) if n is None else n) + raw[212:] + left
    left = kept(b"/scratch/out/%s/big.bin" % TASK.encode(), 2**40) + kept(b"/scratch/out/x", 0)
    f.good("newer", k, newer(rs4(b""), 216, u64(5) + u16(2), b"xy"), fields(), canonical=False)
    f.good("3: kept files", k, rs4(left), dict(fields(), kept=data(left)))
    f.good("3: kept files, and others", k, rs4(left, made), dict(fields(), files=data(made), kept=data(left)))
    f.good("3: none kept, but their length", k, rs4(b"", made), dict(fields(), files=data(made)), canonical=False)
    f.good("3: fixed part ends within their length", k, u16(214) + rs4(left)[2:214] + rs3(b"")[212:], fields(), canonical=False)
    f.bad("3: kept files over the limit", k, rs4(left, n=65537), "TOO_LARGE")
    f.bad("3: kept files reach over the end", k, rs4(left, n=len(left) + 1))
    f.bad("3: a byte more than the kept files", k, rs4(left) + b"\0")
    f.good("no files, but their length", k, rs3(b""), fields(), canonical=False)
    f.good("files", k, rs3(made), dict(fields(), files=data(made)))
    f.bad("files over the limit", k, rs3(made, n=16 * MIB + 1), "TOO_LARGE")
    f.bad("files reach over the end", k, rs3(made, n=len(made) + 1))
    f.bad("a byte more than the files", k, rs3(made) + b"\0")
    f.bad("2: fixed part cut", k, rs2()[:207])
    f.bad("2: a byte longer", k, rs2() + b"\0")
    f.bad("2: a byte shorter", k, rs2()[:-1])
    f.write()


def capacity():
    f = Family("capacity")
    k = "CAPACITY"

    def cap(time_left=3600, done=10**12, window=4096):
        return (u16(54) + u32(window) + u64(64 * MIB) + u32(64) + u32(3) + u32(100) + u32(61) + u32(2) + u32(1) + u32(5) + u32(time_left) + u64(done))

    def told(text, n=None, **kw):
        return u16(56) + cap(**kw)[2:] + u16(len(text) if n is None else n) + text

    def fields(time_left=3600, done=10**12, window=4096, text=""):
        return {"text": text, "window_tasks": window, "window_bytes": 64 * MIB, "slots": 64, "free_slots": 3, "queued": 100, "running": 61, "managers": 2,
                "blocks": 1, "pending_blocks": 5, "time_left_s": time_left, "tasks_done": done}
    f.good("plain", k, cap(), fields(), canonical=False)
    f.good("unlimited time", k, cap(time_left=0xffffffff), fields(time_left=0xffffffff), canonical=False)
    f.good("closed window", k, cap(window=0), fields(window=0), canonical=False)
    f.good("no text", k, told(b""), fields())
    f.good("why tasks wait", k, told(b"block b1 waits in the queue (Priority)"), fields(text="block b1 waits in the queue (Priority)"))
    f.good("newer", k, newer(told(b"x"), 56, u32(8), b"tail"), fields(text="x"), canonical=False)
    f.shapes(k, told(b""), 56, 54)
    f.bad("text says a byte more than came", k, told(b"abc", 4))
    f.bad("text over the limit", k, told(b"abc", 4097), "TOO_LARGE")
    k = "DRAIN"
    f.good("start", k, u16(8) + u16(1) + u32(5000), {"start": True, "grace_ms": 5000})
    f.good("end", k, u16(8) + u16(0) + u32(0), {"start": False, "grace_ms": 0})
    f.good("unknown flags are ignored", k, u16(8) + u16(0xfffe) + u32(1), {"start": False, "grace_ms": 1}, canonical=False)
    f.good("newer", k, u16(12) + u16(3) + u32(5000) + u32(1) + b"x", {"start": True, "grace_ms": 5000}, canonical=False)
    f.shapes(k, u16(8) + u16(1) + u32(5000), 8, 8)
    k = "CONTAINER_STATE"

    def con(state=3, code=0, image=b"docker://alpine:3", text=b"", lens=None, reserved=0):
        lens = lens or [len(image), len(text)]
        return u16(26) + u8(state) + u8(reserved) + uid(PEER) + u16(code) + u16(lens[0]) + u16(lens[1]) + image + text
    for s in range(1, 7):
        f.good("state %d" % s, k, con(s), {"state": s, "id": PEER, "code": 0, "image": "docker://alpine:3", "text": "", "digest": ""}, canonical=False)
    f.good("failed with a reason", k, con(6, 10, text=b"pull: no route"), {"state": 6, "id": PEER, "code": 10, "image": "docker://alpine:3", "text": "pull: no route", "digest": ""}, canonical=False)
    f.good("reserved byte is ignored", k, con(reserved=9), {"state": 3, "id": PEER, "code": 0, "image": "docker://alpine:3", "text": "", "digest": ""}, canonical=False)
    f.shapes(k, con(), 26, 26)
    f.bad("state 0", k, con(0))
    f.bad("state 7", k, con(7))
    f.bad("image over the limit", k, con(lens=[4097, 0]), "TOO_LARGE")
    f.bad("text over the limit", k, con(lens=[17, 4097]), "TOO_LARGE")
    # Minor version 2: the image's digest.
    def con2(digest=b"sha256:00ff", n=None, **old):
        raw = con(**old)
        return u16(28) + raw[2:26] + u16(len(digest) if n is None else n) + raw[26:] + digest

    def told2(digest="sha256:00ff", text=""):
        return {"state": 3, "id": PEER, "code": 0, "image": "docker://alpine:3", "text": text, "digest": digest}
    f.good("2: with its digest", k, con2(text=b"t"), told2(text="t"))
    f.good("2: without", k, con2(b""), told2(""))
    f.good("2: longest digest", k, con2(b"d" * 4096), told2("d" * 4096))
    f.good("newer", k, newer(con2(), 28, b"\0", b"z"), told2(), canonical=False)
    f.bad("2: fixed part cut", k, con2()[:27])
    f.bad("2: a byte longer", k, con2() + b"\0")
    f.bad("2: digest over the limit", k, con2(n=4097), "TOO_LARGE")
    f.bad("2: digest says a byte more than came", k, con2(n=12))
    k = "IMAGE"

    def img(image=PEER, valid=2000, digest=b"sha256:00ff", n=None):
        return u16(40) + uid(FUNC) + uid(image) + u32(valid) + u16(len(digest) if n is None else n) + digest

    def which(image=PEER, valid=2000, digest="sha256:00ff"):
        return {"function": FUNC, "image": image, "valid_ms": valid, "digest": digest}
    f.good("which one it is", k, img(), which())
    f.good("the question, or that it cannot be told", k, img(NO_ID, 0, b""), which(NO_ID, 0, ""))
    f.good("longest digest", k, img(digest=b"d" * 4096), which(digest="d" * 4096))
    f.good("newer", k, newer(img(), 40, b"\1\2", b"z"), which(), canonical=False)
    f.shapes(k, img(), 40, 40)
    f.bad("digest over the limit", k, img(n=4097), "TOO_LARGE")
    f.bad("digest says a byte more than came", k, img(n=12))
    k = "METRICS"

    def met(j, n=None):
        return u16(6) + u32(len(j) if n is None else n) + j
    f.good("plain", k, met(b'{"load":0.5}'), {"json": '{"load":0.5}'})
    f.good("no JSON", k, met(b""), {"json": ""})
    f.good("newer", k, newer(met(b"{}"), 6, u16(1), b"q"), {"json": "{}"}, canonical=False)
    f.shapes(k, met(b"{}"), 6, 6)
    f.bad("over the limit", k, met(b"{}", n=65537), "TOO_LARGE")
    f.bad("4 GiB less one", k, met(b"{}", n=0xffffffff), "TOO_LARGE")
    f.write()


def runner():
    f = Family("runner")

    def frame(kind, body, n=None):
        return u32(len(body) + 1 if n is None else n) + kind + body
    k = "RUNNER_CALL"

    def call(payload=b"[1]", flags=1):
        return uid(TASK) + uid(FUNC) + u32(flags) + u32(MIB) + payload

    def cfields(payload=b"[1]", flags=1):
        return {"task": TASK, "function": FUNC, "flags": flags, "max_result_bytes": MIB, "payload": data(payload)}
    f.good("plain", k, frame(b"C", call()), cfields())
    f.good("no payload", k, frame(b"C", call(b"")), cfields(b""))
    f.good("bytes that are not text", k, frame(b"C", call(b"\0\1\xff")), cfields(b"\0\1\xff"))
    surrounded = u32(8) + b"A=1\0B=2\0"
    f.good("an environment of its own", k, frame(b"C", call(surrounded + b"[1]", 513)), dict(cfields(b"[1]", 513), environ=data(b"A=1\0B=2\0")))
    f.good("an empty one", k, frame(b"C", call(u32(0) + b"[1]", 513)), cfields(b"[1]", 513))
    f.bad("environment over the end", k, frame(b"C", call(u32(9) + b"A=1\0B=2\0", 513)))
    f.bad("environment over the limit", k, frame(b"C", call(u32(512 * 1024 + 1), 513)), "TOO_LARGE")
    f.bad("environment cut in its length", k, frame(b"C", call(u32(0)[:3], 513)))
    f.bad("environment that is none", k, frame(b"C", call(u32(4) + b"A=1B", 513)))
    f.bad("fixed part cut", k, frame(b"C", call(b"")[:-1]))
    f.bad("nothing yet", k, b"", "INCOMPLETE")
    f.bad("half a length", k, frame(b"C", call())[:3], "INCOMPLETE")
    f.bad("only a length", k, frame(b"C", call())[:4], "INCOMPLETE")
    f.bad("a byte is still missing", k, frame(b"C", call())[:-1], "INCOMPLETE")
    f.bad("length 0", k, u32(0) + b"C")
    f.bad("length over the limit", k, frame(b"C", call(), n=192 * MIB + 1), "TOO_LARGE")
    f.bad("length of 4 GiB less one", k, frame(b"C", call(), n=0xffffffff), "TOO_LARGE")
    f.bad("length at the limit, the rest to come", k, frame(b"C", call(), n=192 * MIB), "INCOMPLETE")
    f.good("bulk reference", k, frame(b"C", call(ref(MIB), 3)), dict(cfields(ref(MIB), 3), bulk_bytes=MIB, bulk_name=uuid.UUID(TASK).hex + ".p"))
    for what, raw, error in bad_references(".p", RESULT_END):
        f.bad("bulk reference " + what, k, frame(b"C", call(raw, 2)), error)
    k = "RUNNER_BATCH"

    def batch(payloads=(b"[1]", b"", b"\0\1\xff"), n=None, lens=None):
        lens = lens or [len(p) for p in payloads]
        return (uid(FUNC) + u32(1) + u32(MIB) + u32(len(payloads) if n is None else n)
                + b"".join(uid(TASK[:-1] + "%x" % (i % 16)) + u32(m) for i, m in enumerate(lens)) + b"".join(payloads))

    def bfields(payloads=(b"[1]", b"", b"\0\1\xff")):
        return {"function": FUNC, "flags": 1, "max_result_bytes": MIB,
                "inputs": [{"task": TASK[:-1] + "%x" % (i % 16), "payload": data(p)} for i, p in enumerate(payloads)]}
    f.good("three inputs", k, frame(b"B", batch()), bfields())
    f.good("one input", k, frame(b"B", batch((b"[1]",))), bfields((b"[1]",)))
    f.good("no bytes at all", k, frame(b"B", batch((b"", b""))), bfields((b"", b"")))
    f.good("most inputs", k, frame(b"B", batch((b"",) * 4096)), bfields((b"",) * 4096))
    f.bad("no input", k, frame(b"B", batch(())))
    f.bad("more inputs than allowed", k, frame(b"B", batch((b"",) * 4097)), "TOO_LARGE")
    f.bad("count of 4 Gi less one", k, frame(b"B", batch(n=0xffffffff)), "TOO_LARGE")
    f.bad("one more than there are", k, frame(b"B", batch((b"",), n=2)))
    f.bad("fixed part cut", k, frame(b"B", batch()[:27]))
    f.bad("rows cut", k, frame(b"B", batch()[:47]))
    f.bad("a byte shorter", k, frame(b"B", batch()[:-1]))
    f.bad("a byte longer", k, frame(b"B", batch() + b"\0"))
    f.bad("payload over the limit", k, frame(b"B", batch((b"",), lens=[128 * MIB + 1])), "TOO_LARGE")
    f.bad("lengths that would add up modulo 2^32", k, frame(b"B", batch((b"",) * 64, lens=[64 * MIB] * 64)))
    k = "RUNNER_RESULT"

    def res(status=1, fault=0, code=0, flags=0, result=b"[1]", error=b"", out=b"hi", err=b"", lens=None, pad=b"\0\0\0"):
        lens = lens or [len(result), len(error), len(out), len(err)]
        return (uid(TASK) + u8(status) + u8(fault) + u16(code) + i64(STAMPS[9]) + i64(STAMPS[10]) + u64(77) + u64(MIB) + u8(flags) + pad
                + b"".join(u32(n) for n in lens) + result + error + out + err)

    def rfields(status=1, fault=0, code=0, flags=0, result=b"[1]", error=b"", out=b"hi", err=b""):
        return {"task": TASK, "status": status, "fault": fault, "code": code, "start_ns": STAMPS[9], "end_ns": STAMPS[10], "cpu_ns": 77,
                "max_rss_bytes": MIB, "flags": flags, "result": data(result), "error": data(error), "stdout": data(out), "stderr": data(err)}
    f.good("success", k, frame(b"R", res()), rfields())
    f.good("exception", k, frame(b"R", res(2, 1, 20, 0, b"", b"ValueError", b"", b"w")), rfields(2, 1, 20, 0, b"", b"ValueError", b"", b"w"))
    f.good("base64", k, frame(b"R", res(flags=2, result=b"/w==")), rfields(flags=2, result=b"/w=="))
    f.good("every part empty", k, frame(b"R", res(result=b"", out=b"")), rfields(result=b"", out=b""))
    f.good("padding is ignored", k, frame(b"R", res(pad=b"\1\2\3")), rfields(), canonical=False)
    f.good("long stdout keeps its end", k, frame(b"R", res(out=b"x" * 10 + b"y" * 65536)), rfields(out=b"y" * 65536), canonical=False)
    f.good("long stdout is cut at a whole character", k, frame(b"R", res(out="α".encode() * 32768 + b"z")), rfields(out="α".encode() * 32767 + b"z"), canonical=False)
    f.bad("fixed part cut", k, frame(b"R", res(result=b"", out=b"")[:-1]))
    f.bad("body a byte longer", k, frame(b"R", res() + b"\0"))
    f.bad("body a byte shorter", k, frame(b"R", res()[:-1]))
    f.bad("status 0", k, frame(b"R", res(status=0)))
    f.bad("status 3", k, frame(b"R", res(status=3)))
    f.bad("fault 5", k, frame(b"R", res(fault=5)))
    f.bad("result over the limit", k, frame(b"R", res(lens=[128 * MIB + 1, 0, 2, 0])), "TOO_LARGE")
    f.bad("lengths that would add up modulo 2^32", k, frame(b"R", res(lens=[3, 0xffffffff, 3, 0])))
    to_file = ref(MIB, end=RESULT_END)
    f.good("bulk reference", k, frame(b"R", res(flags=4, result=to_file)),
           dict(rfields(flags=4, result=to_file), bulk_bytes=MIB, bulk_name=to_file[4:].decode()))
    for what, raw, error in bad_references(RESULT_END, ".p"):
        f.bad("bulk reference " + what, k, frame(b"R", res(flags=4, result=raw)), error)
    k = "RUNNER_START"
    f.good("plain", k, frame(b"S", uid(TASK) + i64(STAMPS[9])), {"task": TASK, "time_ns": STAMPS[9]})
    f.bad("a byte shorter", k, frame(b"S", (uid(TASK) + i64(1))[:-1]))
    f.bad("a byte longer", k, frame(b"S", uid(TASK) + i64(1) + b"\0"))
    k = "RUNNER_READY"
    f.good("plain", k, frame(b"I", b'{"os":"linux","kinds":["python"]}'), {"json": '{"os":"linux","kinds":["python"]}'})
    f.good("empty", k, frame(b"I", b""), {"json": ""})
    k = "RUNNER_FUNCTION"
    rec = u16(40) + u8(2) + u8(0) + uid(FUNC) + u32(4) + u32(0) + u64(0) + u16(1) + u16(0) + b"codef"
    f.good("plain", k, frame(b"F", rec), {"kind": 2, "flags": 0, "id": FUNC, "time_limit_ms": 0, "memory_limit_bytes": 0, "code": "code", "entry": "f", "container": "",
                                          "max_batch": 0, "latency_ms": 0, "cpu_millis": 0, "max_pids": 0, "warm_ms": 0, "replicas": 0,
                                          "container_type": "", "python": 0}, canonical=False)
    f.good("minor 1", k, frame(b"F", u16(66) + rec[2:40] + u16(8) + u16(6) + u32(1) + u32(2) + u32(3) + u32(4) + u32(5) + u16(0x30b) + b"codefpodman"),
           {"kind": 2, "flags": 0, "id": FUNC, "time_limit_ms": 0, "memory_limit_bytes": 0, "code": "code", "entry": "f", "container": "", "max_batch": 8,
            "latency_ms": 1, "cpu_millis": 2, "max_pids": 3, "warm_ms": 4, "replicas": 5, "container_type": "podman", "python": 0x30b})
    f.bad("record a byte shorter", k, frame(b"F", rec[:-1]))
    f.write()


def bulk():
    """References as they stand in the place of a payload or result of the task TASK."""
    f = Family("bulk")
    for k, end, other in (("BULK_PAYLOAD", ".p", RESULT_END), ("BULK_RESULT", RESULT_END, ".p")):
        def fields(size, end):
            return {"bulk_bytes": size, "bulk_name": uuid.UUID(TASK).hex + end}
        f.good("plain", k, ref(MIB, end=end), fields(MIB, end))
        f.good("of nothing", k, ref(0, end=end), fields(0, end))
        f.good("of as much as there may be", k, ref(128 * MIB, end=end), fields(128 * MIB, end))
        for what, raw, error in bad_references(end, other):
            f.bad(what, k, raw, error)
    for end in ("@" + "0" * 16, "@" + "f" * 16):
        f.good("place " + end[1:], "BULK_RESULT", ref(5, end=end), {"bulk_bytes": 5, "bulk_name": uuid.UUID(TASK).hex + end})
    f.bad("another sign before the place", "BULK_RESULT", ref(5, end="." + RESULT_END[1:]))
    f.bad("a place that is no number", "BULK_RESULT", ref(5, end="@" + "g" * 16))
    f.bad("another letter at the end", "BULK_PAYLOAD", ref(5, end=".q"))
    f.write()


def layout():
    f = Family("layout")
    k = "META"

    def meta(version=1, flags=0, n=12):
        return (u8(version) + u8(flags) + uid(OWNER) + uid(FUNC) + uid(PEER) + uid(GROUP) + i64(STAMPS[0]) + u32(n))

    def mfields(apart=False, n=12, bulk=False, watched=False):
        return {"owner": OWNER, "function": FUNC, "endpoint": PEER, "group": GROUP, "submitted_ns": STAMPS[0], "payload_bytes": n,
                "payload_apart": apart, "payload_bulk": bulk, "watched": watched}
    f.good("plain", k, meta(), mfields())
    f.good("payload apart", k, meta(flags=1, n=MIB), mfields(True, MIB))
    f.good("flags unknown to us", k, meta(flags=0x80), mfields(), canonical=False)
    f.good("payload in the bulk store", k, meta(flags=5, n=MIB), mfields(True, MIB, True))
    f.good("of a watched group", k, meta(flags=8), mfields(watched=True))
    f.bad("in the bulk store, but not apart", k, meta(flags=4, n=MIB))
    f.bad("empty", k, b"")
    f.bad("a byte shorter", k, meta()[:-1])
    f.bad("a byte longer", k, meta() + b"\0")
    f.bad("version 0", k, meta(version=0))
    f.bad("version 2", k, meta(version=2))
    f.bad("payload over the limit", k, meta(n=128 * MIB + 1), "TOO_LARGE")
    k = "QUEUED"

    def queued_1(version=1, flags=0, payload=b"[1]", n=None, expected=0):
        return (u8(version) + u8(flags) + u16(expected) + uid(TASK) + uid(FUNC) + i64(STAMPS[0]) + i64(STAMPS[1]) + u32(30000) + u64(1 << 30)
                + u32(MIB) + u32(len(payload) if n is None else n) + payload)

    def queued(version=2, flags=0, payload=b"[1]", n=None, limits=False):
        return (u8(version) + u8(flags | (16 if limits else 0)) + u16(0) + uid(TASK) + uid(FUNC) + i64(STAMPS[0]) + i64(STAMPS[1])
                + (u32(30000) + u64(1 << 30) + u32(MIB) if limits else b"") + (b"" if n is None else u32(n)) + payload)

    def qfields(apart=False, is_json=False, payload=b"[1]", n=None, fresh=False, expected=0, bulk=False, limits=True, as_json=False, as_all=False):
        return {"expected_s": expected, "task": TASK, "function": FUNC, "received_ns": STAMPS[0], "queued_ns": STAMPS[1], "time_limit_ms": 30000 if limits else 0,
                "memory_limit_bytes": 1 << 30 if limits else 0, "max_result_bytes": MIB if limits else 0, "payload_bytes": len(payload) if n is None else n,
                "payload_apart": apart, "payload_is_json": is_json, "payload_bulk": bulk, "fresh": fresh, "as_json": as_json, "as_all": as_all,
                "payload": data(payload)}
    f.good("inline", k, queued_1(), qfields(), canonical=False)
    f.good("JSON made by the service", k, queued_1(flags=2), qfields(is_json=True), canonical=False)
    f.good("fresh", k, queued_1(flags=8), qfields(fresh=True), canonical=False)
    f.good("apart", k, queued_1(flags=1, payload=b"", n=MIB), qfields(apart=True, payload=b"", n=MIB), canonical=False)
    f.good("no payload", k, queued_1(payload=b""), qfields(payload=b""), canonical=False)
    f.good("at the inline limit", k, queued_1(payload=b"p" * 16384), qfields(payload=b"p" * 16384), canonical=False)
    f.good("reserved bytes and flags are ignored", k, queued_1(flags=0x90, expected=1), qfields(expected=1), canonical=False)
    f.good("with the time that it is expected to take", k, queued_1(expected=65535), qfields(expected=65535), canonical=False)
    f.good("version 2, inline", k, queued(), qfields(limits=False))
    f.good("version 2, inline with limits", k, queued(limits=True), qfields())
    f.good("version 2, JSON made by the service, fresh", k, queued(flags=10), qfields(is_json=True, fresh=True, limits=False))
    f.good("version 2, apart", k, queued(flags=1, payload=b"", n=MIB), qfields(apart=True, payload=b"", n=MIB, limits=False))
    f.good("version 2, apart with limits", k, queued(flags=1, payload=b"", n=MIB, limits=True), qfields(apart=True, payload=b"", n=MIB))
    f.good("version 2, no payload", k, queued(payload=b""), qfields(payload=b"", limits=False))
    f.good("version 2, in the bulk store", k, queued(flags=7, payload=b"", n=MIB), qfields(apart=True, is_json=True, payload=b"", n=MIB, bulk=True, limits=False))
    f.good("version 2, flags of later versions are ignored", k, queued(flags=0x80), qfields(limits=False), canonical=False)
    f.good("version 2, its result as JSON", k, queued(flags=32), qfields(limits=False, as_json=True))
    f.good("version 2, its result as JSON or as all, fresh, with limits", k, queued(flags=104, limits=True), qfields(fresh=True, as_json=True, as_all=True))
    f.bad("empty", k, b"")
    f.bad("fixed part cut", k, queued_1()[:71])
    f.bad("a byte shorter", k, queued_1()[:-1])
    f.bad("a byte longer", k, queued_1() + b"\0")
    f.bad("apart, but with bytes", k, queued_1(flags=1))
    f.good("in the bulk store", k, queued_1(flags=7, payload=b"", n=MIB), qfields(apart=True, is_json=True, payload=b"", n=MIB, bulk=True), canonical=False)
    f.bad("in the bulk store, but not apart", k, queued_1(flags=4))
    f.bad("in the bulk store, but with bytes", k, queued_1(flags=5))
    f.bad("inline, but without its bytes", k, queued_1(payload=b"", n=MIB))
    f.bad("version 0", k, queued_1(version=0), "VERSION")
    f.bad("version 5", k, queued(version=5), "VERSION")
    f.bad("version 2, shorter", k, queued()[:51])
    f.bad("version 2, its limits cut", k, queued(limits=True, payload=b"")[:-1])
    f.bad("version 2, apart without a length", k, queued(flags=1, payload=b""))
    f.bad("version 2, apart, but with bytes", k, queued(flags=1, n=3))
    f.bad("version 2, in the bulk store, but not apart", k, queued(flags=4))
    f.bad("version 2, apart over the limit", k, queued(flags=1, payload=b"", n=128 * MIB + 1), "TOO_LARGE")
    def queued_3(files, n=None, payload=b"[1]", size=None, **more):
        return queued(version=3, payload=b"", n=size, **more) + u16(len(files) if n is None else n) + files + payload
    listed = entry() + entry(name=b"b", digest=None)
    f.good("with files", k, queued_3(listed), dict(qfields(limits=False), files=data(listed)))
    f.good("with files and limits", k, queued_3(listed, limits=True), dict(qfields(), files=data(listed)))
    f.good("with files, apart", k, queued_3(listed, flags=1, payload=b"", size=MIB), dict(qfields(apart=True, payload=b"", n=MIB, limits=False), files=data(listed)))
    f.good("with files, no payload", k, queued_3(listed, payload=b""), dict(qfields(payload=b"", limits=False), files=data(listed)))
    f.bad("version 3 without files", k, queued_3(b""))
    f.bad("version 3, cut in their length", k, queued_3(b"", payload=b"")[:-1])
    f.bad("files over the limit", k, queued_3(b"x" * 32769), "TOO_LARGE")
    f.bad("files longer than what came", k, queued_3(listed, n=len(listed) + 4))
    def queued_4(wanted, files=b"", n=None, payload=b"[1]", size=None, **more):
        return queued(version=4, payload=b"", n=size, **more) + u16(len(files)) + u16(len(wanted) if n is None else n) + files + wanted + payload
    wanted = resources_record(environ=b"")
    f.good("with resources", k, queued_4(wanted), dict(qfields(limits=False), resources=data(wanted)))
    f.good("with resources, files and limits", k, queued_4(wanted, listed, limits=True), dict(qfields(), files=data(listed), resources=data(wanted)))
    f.good("with resources, apart", k, queued_4(wanted, flags=1, payload=b"", size=MIB), dict(qfields(apart=True, payload=b"", n=MIB, limits=False), resources=data(wanted)))
    f.bad("version 4 without resources", k, queued_4(b"", listed))
    f.bad("version 4, cut in their length", k, queued_4(b"", payload=b"")[:-1])
    f.bad("resources over the limit", k, queued_4(b"x" * 4097), "TOO_LARGE")
    f.bad("resources longer than what came", k, queued_4(wanted, n=len(wanted) + 4))
    f.bad("payload over the limit", k, queued_1(flags=1, payload=b"", n=128 * MIB + 1), "TOO_LARGE")
    k = "DONE"
    f.good("without its record", k, uid(TASK) + u8(6), {"task": TASK, "state": 6, "record": ""})
    f.good("with a record", k, uid(TASK) + u8(5) + b"record", {"task": TASK, "state": 5, "record": "record"})
    f.good("cancelled", k, uid(TASK) + u8(7), {"task": TASK, "state": 7, "record": ""})
    f.bad("empty", k, b"")
    f.bad("a byte shorter", k, uid(TASK))
    f.bad("state that is not an end", k, uid(TASK) + u8(4))
    f.bad("state 8", k, uid(TASK) + u8(8))
    f.bad("state as a digit", k, uid(TASK) + b"5")
    k = "ENDED"
    at = "1800000000000-12"

    def ended(state=5, position=at, record=b"", n=None, about=b"", k=None):
        return uid(TASK) + u8(state) + u8(len(position) if n is None else n) + u8(len(about) if k is None else k) + position.encode() + about + record

    def efields(state=5, record="", about=""):
        return {"task": TASK, "state": state, "position": at, "meta": about, "record": record}
    f.good("without its record", k, ended(), efields())
    f.good("with a record", k, ended(6, record=b"record"), efields(6, "record"))
    f.good("cancelled", k, ended(7), efields(7))
    f.good("with meta and record", k, ended(5, about=b"meta", record=b"record"), efields(5, "record", "meta"))
    f.bad("empty", k, b"")
    f.bad("cut in the fixed part", k, ended()[:18])
    f.bad("meta longer than the message", k, ended(about=b"meta", k=5))
    f.bad("no position", k, ended(position=""))
    f.bad("position longer than the message", k, ended(n=len(at) + 1))
    f.bad("position longer than one can be", k, ended(position="9" * 42))
    f.bad("state that is not an end", k, ended(4))
    f.bad("state 8", k, ended(8))
    f.write()


def zmtp():
    """ZMTP 3.0 with the NULL mechanism, from RFC 23: a greeting; the READY command that a DEALER or a ROUTER gets; frames, at most 1 MiB each and
    commands 4,096 bytes. Big-endian."""
    f = Family("zmtp")

    def greeting(signature=b"\xff" + bytes(7) + b"\x01\x7f", version=b"\x03\x00", mechanism=b"NULL", server=0):
        return signature + version + mechanism.ljust(20, b"\0") + u8(server) + bytes(31)

    def gfields(major=3, minor=0):
        return {"major": major, "minor": minor, "mechanism": "NULL"}
    k = "ZMTP_GREETING"
    f.good("ours", k, greeting(), gfields())
    f.good("minor 1, which libzmq sends", k, greeting(version=b"\x03\x01"), gfields(minor=1), canonical=False)
    f.good("major of the future: it speaks ours", k, greeting(version=b"\x04\x00"), gfields(major=4), canonical=False)
    f.good("with padding in the signature", k, greeting(b"\xff" + bytes(range(1, 9)) + b"\x7f"), gfields(), canonical=False)
    f.good("as server, which NULL does not know", k, greeting(server=1), gfields(), canonical=False)
    f.good("with a filler", k, greeting()[:33] + b"\xa5" * 31, gfields(), canonical=False)
    f.bad("empty", k, b"", "INCOMPLETE")
    f.bad("cut in the signature", k, greeting()[:9], "INCOMPLETE")
    f.bad("cut in the mechanism", k, greeting()[:14], "INCOMPLETE")
    f.bad("a byte short", k, greeting()[:63], "INCOMPLETE")
    f.bad("of HTTP", k, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".ljust(64, b" "))
    f.bad("one byte of something else", k, b"\x00")
    f.bad("ZMTP 1, an anonymous peer", k, b"\x01\x00".ljust(64, b"\0"))
    f.bad("other signature", k, greeting(b"\xff" + bytes(7) + b"\x01\x7e"))
    f.bad("other signature, at its end", k, greeting(b"\xff" + bytes(9))[:10])
    f.bad("ZMTP 2", k, greeting(version=b"\x01\x05"), "VERSION")
    f.bad("ZMTP 2, as soon as it is told", k, greeting(version=b"\x02\x00")[:11], "VERSION")
    f.bad("mechanism CURVE", k, greeting(mechanism=b"CURVE"))
    f.bad("mechanism PLAIN, as soon as it is told", k, greeting(mechanism=b"PLAIN")[:13])
    f.bad("no mechanism", k, greeting(mechanism=b""))
    f.bad("mechanism NULL1", k, greeting(mechanism=b"NULL1"))
    f.bad("mechanism null", k, greeting(mechanism=b"null"))

    def be32(v): return struct.pack(">I", v)
    def be64(v): return struct.pack(">Q", v)
    def prop(name, value, n=None): return u8(len(name)) + name + be32(len(value) if n is None else n) + value
    def frame(flags, body): return u8(flags) + u8(len(body)) + body
    def long(flags, body, n=None): return u8(flags | 2) + be64(len(body) if n is None else n) + body

    def ready(kind=b"DEALER", *more): return b"\x05READY" + prop(b"Socket-Type", kind) + b"".join(more)
    for own, ours, others, strangers in (("ROUTER", b"DEALER", (b"REQ", b"ROUTER"), (b"REP",)), ("DEALER", b"ROUTER", (b"REP", b"DEALER"), (b"REQ",))):
        k = "ZMTP_READY_TO_" + own

        def rfields(kind=ours): return {"socket_type": kind.decode()}
        f.good("of a %s" % ours.decode(), k, ready(ours), rfields())
        for kind in others:
            f.good("of a %s" % kind.decode(), k, ready(kind), rfields(kind), canonical=False)
        f.good("with an identity, as libzmq", k, ready(ours, prop(b"Identity", b"")), rfields(), canonical=False)
        f.good("with properties that nobody knows", k, b"\x05READY" + prop(b"X-Y", bytes(300)) + prop(b"Socket-Type", ours) + prop(b"Z", b"z"), rfields(),
               canonical=False)
        f.good("names do not depend on case", k, b"\x05READY" + prop(b"socket-TYPE", ours), rfields(), canonical=False)
        f.bad("empty", k, b"")
        f.bad("READY cut", k, b"\x05READ")
        f.bad("another command", k, b"\x05ERROR" + b"\x05sorry")
        f.bad("a command whose name begins so", k, b"\x06READYX" + prop(b"Socket-Type", ours))
        f.bad("without properties", k, b"\x05READY")
        f.bad("without a socket type", k, b"\x05READY" + prop(b"Identity", b"DEALER"))
        for cut in (7, 17, 18, 21, len(ready(ours)) - 1):
            f.bad("property cut at %d" % cut, k, ready(ours)[:cut])
        f.bad("a byte longer", k, ready(ours) + b"\0")
        f.bad("second property cut", k, ready(ours, prop(b"Identity", b"12345"))[:-1])
        f.bad("name longer than the command", k, b"\x05READY\xff" + prop(b"Socket-Type", ours)[1:])
        f.bad("value longer than the command", k, ready(ours, prop(b"Identity", b"1", n=2)))
        f.bad("value of 4 GiB less one", k, ready(ours, prop(b"Identity", b"1", n=0xffffffff)))
        for kind in strangers + (b"PUB", b"SUB", b"PUSH", b"PULL", b"PAIR", b"STREAM", b"", b"DEALE", b"DEALERS", b"router", b"ROUTER\0"):
            f.bad("wrong socket type %s" % data(kind), k, ready(kind))
        f.bad("right type, then a wrong one", k, ready(ours, prop(b"Socket-Type", b"PUB")))

    def part(body=b"", more=False, command=False): return {"more": more, "command": command, "body": data(body)}
    def frames(*parts): return {"frames": list(parts)}
    k = "ZMTP_FRAMES"
    a, b = bytes(i & 0x7f or 1 for i in range(255)), bytes(i & 0x7f or 1 for i in range(256))
    f.good("none", k, b"", frames())
    f.good("short", k, frame(0, b"hello"), frames(part(b"hello")))
    f.good("without a body", k, frame(0, b""), frames(part()))
    f.good("longest short one", k, frame(0, a), frames(part(a)))
    f.good("shortest long one", k, long(0, b), frames(part(b)))
    f.good("long where short would do", k, long(0, b"hello"), frames(part(b"hello")), canonical=False)
    f.good("long without a body", k, long(0, b""), frames(part()), canonical=False)
    f.good("command", k, frame(4, ready()), frames(part(ready(), command=True)))
    f.good("long command", k, long(4, b), frames(part(b, command=True)))
    f.good("longest command", k, long(4, b * 16), frames(part(b * 16, command=True)))
    f.good("message of several frames", k, frame(1, b"one") + frame(1, b"") + long(1, b) + frame(0, b"last"),
           frames(part(b"one", True), part(b"", True), part(b, True), part(b"last")))
    f.good("two messages", k, frame(1, b"a") + frame(0, b"b") + frame(0, b"\0\xff"),
           frames(part(b"a", True), part(b"b"), part(b"\0\xff")))
    f.good("command between the frames of a message", k, frame(1, b"a") + frame(4, b"\x04PING") + frame(0, b"b"),
           frames(part(b"a", True), part(b"\x04PING", command=True), part(b"b")))
    f.bad("flags only", k, b"\x00", "INCOMPLETE")
    f.bad("long head cut", k, long(0, b)[:8], "INCOMPLETE")
    f.bad("long head only", k, long(0, b)[:9], "INCOMPLETE")
    f.bad("body cut", k, frame(0, b"hello")[:-1], "INCOMPLETE")
    f.bad("second frame cut", k, frame(1, b"hello") + b"\x00\x05hell", "INCOMPLETE")
    f.bad("largest frame, without its body", k, long(0, b"", MIB), "INCOMPLETE")
    for bit in (8, 16, 32, 64, 128):
        f.bad("flags unknown: %d" % bit, k, frame(bit, b"x"))
    f.bad("flags unknown, and nothing else yet", k, b"\xff")
    f.bad("command with more", k, frame(5, b"\x04PING"))
    f.bad("long command with more", k, long(5, b))
    f.bad("flags unknown in the second frame", k, frame(1, b"x") + frame(0x41, b"y"))
    f.bad("oversized by one", k, long(0, b"", MIB + 1), "TOO_LARGE")
    f.bad("oversized: 4 GiB", k, long(0, b"", 1 << 32), "TOO_LARGE")
    f.bad("oversized: 2^63", k, long(0, b"", 1 << 63), "TOO_LARGE")
    f.bad("oversized: 2^64 less one", k, long(1, b"", (1 << 64) - 1), "TOO_LARGE")
    f.bad("oversized command", k, long(4, b"", 4097), "TOO_LARGE")
    f.bad("oversized second frame", k, frame(1, b"x") + long(0, b"", MIB + 1), "TOO_LARGE")
    f.write()


if __name__ == "__main__":
    for make in (header, session, files, resources, function, task, result, capacity, runner, bulk, layout, zmtp):
        make()

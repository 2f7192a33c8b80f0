# SPDX-License-Identifier: Apache-2.0
"""The Weft protocol in Python: proto/SPEC.md, sections 1, 3, 7 and 8. Standard library only.

Written from the specification, not from the C codec, so that the vectors check two readings of it; tests use it to play
peers, runners and clients of Redis.

    frames = message ("TASK", [encode ("TASK", {...})], seq=1, epoch=e)
    head, records = open_message (frames)
    task = decode ("TASK", records[0])

Fields are dicts: ids are UUID text (UUID and 16 bytes are taken too), variable parts bytes (text is taken too), missing ones 0 or
empty. Malformed raises Malformed, whose `code` is INVALID, TOO_LARGE or, for a runner frame not all here yet, INCOMPLETE.
"""
import re
import struct
import uuid

MAJOR, MINOR = 2, 5
MIB = 1 << 20
MAX_RECORDS, MAX_IDS = 4096, 65536
MAX_TEXT, MAX_TAIL = 4096, 65536
MAX_CODE, MAX_PAYLOAD, MAX_RECORD = 16 * MIB, 128 * MIB, 192 * MIB
MAX_FILES_DATA = 16 * MIB
MAX_ENVIRON = 512 << 10
MAX_RESOURCES, MAX_RESOURCES_QUEUED = MAX_ENVIRON + 4096, 4096
MAX_FILES, MAX_FILES_BYTES, MAX_FILE_NAME, MAX_FILE_URL = 64, 32768, 255, 2048
MAX_KEPT, MAX_PATH = 65536, 1024
NO_ID = "00000000-0000-0000-0000-000000000000"

TYPES = {
    "HELLO": 1, "WELCOME": 2, "REJECT": 3, "HEARTBEAT": 4, "BYE": 5, "FUNCTION": 10, "FUNCTION_MISSING": 11, "TASK": 20,
    "TASK_RETURN": 21, "TASK_STATE": 22, "OUTPUT": 23, "RESULT": 30, "RESULT_ACK": 31, "CANCEL": 40, "FOLLOW": 41, "CAPACITY": 50, "DRAIN": 51,
    "CONTAINER_STATE": 60, "IMAGE": 61, "METRICS": 70,
}
NAMES = {v: k for k, v in TYPES.items()}
ID_TYPES = ("FUNCTION_MISSING", "TASK_RETURN", "RESULT_ACK", "CANCEL", "FOLLOW")
STAMPS = ("received", "queued", "forwarder_read", "forwarder_sent", "endpoint_received", "endpoint_sent", "manager_received",
          "manager_sent", "worker_received", "execution_start", "execution_end", "worker_sent", "manager_result",
          "endpoint_result", "forwarder_result", "service_result")
STATES = ("received", "waiting-for-ep", "waiting-for-nodes", "waiting-for-launch", "running", "success", "failed", "cancelled")


class Malformed(ValueError):
    def __init__(self, code, text):
        super().__init__("%s: %s" % (code, text))
        self.code = code


# A record: fixed fields in order (name, format), fields of major 2 after them, variable parts in order, values that are checked.
# Formats: struct's, "id", "-N" for N reserved bytes, "stampsN", "len.X" for the length of part X with L or H before the dot.
class Record:
    def __init__(self, fixed, fixed2="", parts=(), check=None):
        self.v1 = [f.split(":") for f in fixed.split()]
        self.v2 = [f.split(":") for f in fixed2.split()]
        self.parts = parts          # (name, limit, what is kept of longer ones: "head", "tail" or None)
        self.check = check or {}
        self.shortest = 2 + sum(_size(f) for _, f in self.v1)
        self.known = self.shortest + sum(_size(f) for _, f in self.v2)


def _size(fmt):
    if fmt == "id":
        return 16
    if fmt.startswith("-"):
        return int(fmt[1:])
    if fmt.startswith("stamps"):
        return 8 * int(fmt[6:])
    return struct.calcsize("<" + fmt)


RECORDS = {
    "HELLO": Record(
        "role:B min_major:B max_major:B minor:B capabilities:I id:id instance:Q slots:I #name:H #version:H #block:H #runtime:H", "pid:I bulk:id #key:H",
        (("name", MAX_TEXT, "head"), ("version", MAX_TEXT, "head"), ("block", MAX_TEXT, None), ("runtime", MAX_TEXT, None),
         ("key", 40, None)),
        {"role": lambda d: d["role"] in (1, 2, 3), "min_major": lambda d: 0 < d["min_major"] <= d["max_major"]}),
    "WELCOME": Record(
        "major:B minor:B capabilities:I epoch:Q heartbeat_ms:I threshold_ms:I max_payload_bytes:I max_result_bytes:I _:-4 #name:H", "pid:I",
        (("name", MAX_TEXT, "head"),), {"major": lambda d: d["major"] != 0, "epoch": lambda d: d["epoch"] != 0}),
    "REJECT": Record("code:H #text:H", "", (("text", MAX_TEXT, "head"),)),
    "BYE": Record("code:H #text:H", "", (("text", MAX_TEXT, "head"),)),
    "FUNCTION": Record(
        "kind:B flags:B id:id #code:I time_limit_ms:I memory_limit_bytes:Q #entry:H #container:H",
        "max_batch:H #container_type:H latency_ms:I cpu_millis:I max_pids:I warm_ms:I replicas:I python:H #files:H",
        (("code", MAX_CODE, None), ("entry", MAX_TEXT, None), ("container", MAX_TEXT, None), ("container_type", MAX_TEXT, None),
         ("files", MAX_FILES_BYTES, None))),
    "TASK": Record(
        "flags:B attempt:B task:id function:id #payload:I time_limit_ms:I stamps:stamps8",
        "memory_limit_bytes:Q max_result_bytes:I expected_ms:I #files:H #resources:I",
        (("payload", MAX_PAYLOAD, None), ("files", MAX_FILES_BYTES, None), ("resources", MAX_RESOURCES, None))),
    "RESOURCES": Record(                # a part of TASK
        "nodes:H ranks_per_node:I #options:H #environ:I", "", (("options", 1024, None), ("environ", MAX_ENVIRON, None)),
        {"nodes": lambda d: 1 <= d["nodes"] <= 1024, "ranks_per_node": lambda d: 1 <= d["ranks_per_node"] <= 65536,
         "options": lambda d: b"\0" not in d["options"], "environ": lambda d: environ_ok(d["environ"])}),
    "TASK_STATE": Record("state:B _:-1 task:id time_ns:q", "", (), {"state": lambda d: d["state"] <= 7}),
    "OUTPUT": Record(
        "_:-2 task:id stdout_total:Q stderr_total:Q #stdout:I #stderr:I", "", (("stdout", MAX_TAIL, "tail"), ("stderr", MAX_TAIL, "tail")),
        {"stdout": lambda d: len(d["stdout"]) <= d["stdout_total"], "stderr": lambda d: len(d["stderr"]) <= d["stderr_total"]}),
    "RESULT": Record(
        "status:B fault:B code:H attempt:B flags:B task:id #result:I #error:I #stdout:I #stderr:I detail:i #node:H #runtime:H stamps:stamps16",
        "cpu_ns:Q max_rss_bytes:Q image:id #files:I #kept:I",
        (("result", MAX_PAYLOAD, None), ("error", MAX_TAIL, "tail"), ("stdout", MAX_TAIL, "tail"), ("stderr", MAX_TAIL, "tail"),
         ("node", MAX_TEXT, "head"), ("runtime", MAX_TEXT, None), ("files", MAX_FILES_DATA, None), ("kept", MAX_KEPT, None)),
        {"status": lambda d: d["status"] in (1, 2, 3), "fault": lambda d: d["fault"] <= 4}),
    "CAPACITY": Record(
        "window_tasks:I window_bytes:Q slots:I free_slots:I queued:I running:I managers:I blocks:I pending_blocks:I time_left_s:I tasks_done:Q",
        "#text:H", (("text", MAX_TEXT, "head"),)),
    "DRAIN": Record("flags:H grace_ms:I"),
    "CONTAINER_STATE": Record(
        "state:B _:-1 id:id code:H #image:H #text:H", "#digest:H", (("image", MAX_TEXT, None), ("text", MAX_TEXT, "head"), ("digest", MAX_TEXT, None)),
        {"state": lambda d: 1 <= d["state"] <= 6}),
    "IMAGE": Record("function:id image:id valid_ms:I #digest:H", "", (("digest", MAX_TEXT, None),)),
    "METRICS": Record("#json:I", "", (("json", MAX_TAIL, None),)),
}


def environ_ok(raw):
    """Of "NAME=VALUE", each with a NUL behind it."""
    return not raw or (raw.endswith(b"\0") and all(e.find(b"=") > 0 for e in raw[:-1].split(b"\0")))


def to_bytes(v):
    return v.encode() if isinstance(v, str) else bytes(v)


def id_bytes(v):
    if isinstance(v, (bytes, bytearray)) and len(v) == 16:
        return bytes(v)
    return (v if isinstance(v, uuid.UUID) else uuid.UUID(v)).bytes


def id_text(b):
    return str(uuid.UUID(bytes=bytes(b)))


def clip(b, limit, keep):
    """Text for people over its limit: cut by the sender, whole UTF-8 sequences (section 1.1)."""
    if len(b) <= limit:
        return b
    if keep == "head":
        end = limit
        while end > limit - 3 and end > 0 and b[end] & 0xc0 == 0x80:
            end -= 1
        return b[:end]
    start = len(b) - limit
    stop = min(start + 3, len(b))
    while start < stop and b[start] & 0xc0 == 0x80:
        start += 1
    return b[start:]


# ---- records ----

def _get(fmt, raw, at):
    if fmt == "id":
        return id_text(raw[at:at + 16])
    if fmt.startswith("-"):
        return None
    if fmt.startswith("stamps"):
        return list(struct.unpack_from("<%sq" % fmt[6:], raw, at))
    return struct.unpack_from("<" + fmt, raw, at)[0]


def _put(fmt, v):
    if fmt == "id":
        return id_bytes(v) if v else bytes(16)
    if fmt.startswith("-"):
        return bytes(int(fmt[1:]))
    if fmt.startswith("stamps"):
        n = int(fmt[6:])
        return struct.pack("<%dq" % n, *(list(v or []) + [0] * n)[:n])
    return struct.pack("<" + fmt, v or 0)


def decode(kind, raw):
    """One record frame; kind is its type's name. Bare ids: see decode_ids."""
    rec = RECORDS[kind]
    raw = bytes(raw)
    if len(raw) > MAX_RECORD:
        raise Malformed("TOO_LARGE", "%s of %d bytes" % (kind, len(raw)))
    fixed_bytes = struct.unpack_from("<H", raw)[0] if len(raw) >= 2 else 0
    if fixed_bytes < rec.shortest or fixed_bytes > len(raw):
        raise Malformed("INVALID", "%s: fixed part" % kind)
    out, at, cut = {}, 2, False
    for name, fmt in rec.v1 + rec.v2:
        cut = cut or at + _size(fmt) > fixed_bytes
        out[name] = 0 if cut else _get(fmt, raw, at)
        at += _size(fmt)
    for name, limit, _ in rec.parts:
        if out["#" + name] > limit:
            raise Malformed("TOO_LARGE", "%s: %s" % (kind, name))
    at = fixed_bytes
    for name, _, _ in rec.parts:
        n = out.pop("#" + name)
        if at + n > len(raw):
            raise Malformed("INVALID", "%s: shorter than its lengths" % kind)
        out[name] = raw[at:at + n]
        at += n
    if at < len(raw) and fixed_bytes <= rec.known:
        raise Malformed("INVALID", "%s: longer than its lengths" % kind)
    out.pop("_", None)
    for name in ("files", "kept", "resources", "key"):
        if out.get(name) == b"":
            del out[name]           # absent and empty are the same
    for name, fmt in rec.v2:
        if fmt == "id" and not out[name]:
            out[name] = NO_ID
    for name, fine in rec.check.items():
        if not fine(out):
            raise Malformed("INVALID", "%s: %s" % (kind, name))
    if kind == "DRAIN":
        out["start"] = bool(out.pop("flags") & 1)
    if kind == "TASK" and out["flags"] & 2:
        out.update(decode_reference(out["payload"], out["task"], "payload"))
    if kind == "RESULT" and out["flags"] & 4:
        out.update(decode_reference(out["result"], out["task"], "result"))
    return out


def encode(kind, fields, major=MAJOR):
    rec, fields = RECORDS[kind], dict(fields)
    if kind == "DRAIN":
        fields["flags"] = 1 if fields.get("start") else 0
    parts = []
    for name, limit, keep in rec.parts:
        b = to_bytes(fields.get(name, b""))
        if keep:
            b = clip(b, limit, keep)
        if len(b) > limit:
            raise Malformed("TOO_LARGE", "%s: %s" % (kind, name))
        fields["#" + name] = len(b)
        parts.append(b)
    fixed2 = rec.v2 if major >= 2 else []
    for name in ("#resources", "#kept", "#files", "#key"):    # the last ones, sent only when there are some
        if fixed2 and fixed2[-1][0] == name and not fields.get(name):
            fixed2 = fixed2[:-1]
    if major < 2:
        parts = [part for (name, _, _), part in zip(rec.parts, parts) if name not in ("files", "kept", "resources", "key")]
    fixed = b"".join(_put(fmt, fields.get(name)) for name, fmt in rec.v1 + fixed2)
    return struct.pack("<H", len(fixed) + 2) + fixed + b"".join(parts)


def decode_files_data(raw):
    """Files of a result: [(name, data)]."""
    out, at = [], 0
    while at < len(raw):
        if len(raw) - at < 6:
            raise Malformed("INVALID", "file of a result")
        n, size = struct.unpack_from("<HI", raw, at)
        name, data = raw[at + 6:at + 6 + n], raw[at + 6 + n:at + 6 + n + size]
        if len(name) < n or len(data) < size or n > MAX_FILE_NAME or not _file_name_ok(name):
            raise Malformed("INVALID", "file of a result")
        out.append((name.decode(), data))
        at += 6 + n + size
    return out


def encode_files_data(files):
    return b"".join(struct.pack("<HI", len(to_bytes(name)), len(data)) + to_bytes(name) + data for name, data in files)


def decode_kept(raw):
    """Files that a result says were left on the endpoint: [(path, bytes)]."""
    out, at = [], 0
    while at < len(raw):
        if len(raw) - at < 10:
            raise Malformed("INVALID", "kept file")
        n, size = struct.unpack_from("<HQ", raw, at)
        path = raw[at + 10:at + 10 + n]
        if len(path) < n or n > MAX_PATH or not _file_name_ok(path.rpartition(b"/")[2]):
            raise Malformed("INVALID", "kept file")
        if b"/" in path and not (path.startswith(b"/") and _is_text(path)):
            raise Malformed("INVALID", "path of a kept file")
        out.append((path.decode(), size))
        at += 10 + n
    return out


def encode_kept(kept):
    return b"".join(struct.pack("<HQ", len(to_bytes(path)), size) + to_bytes(path) for path, size in kept)


FILE = struct.Struct("<HBB32sQHH")


def decode_files(raw):
    """The list of section 3.7."""
    raw, out, at = bytes(raw), [], 0
    if len(raw) > MAX_FILES_BYTES:
        raise Malformed("TOO_LARGE", "files")
    while at < len(raw):
        n = struct.unpack_from("<H", raw, at)[0] if len(raw) - at >= 2 else 0
        entry = raw[at + 2:at + 2 + n]
        if len(entry) < max(n, 2) or not FILE.size <= struct.unpack_from("<H", entry)[0] <= n:
            raise Malformed("INVALID", "entry of a file")
        fixed, kind, flags, digest, limit, name_n, url_n = FILE.unpack_from(entry)
        if name_n > MAX_FILE_NAME or url_n > MAX_FILE_URL:
            raise Malformed("TOO_LARGE", "name or url")
        end = fixed + name_n + url_n
        if end > n or (end < n and fixed == FILE.size):
            raise Malformed("INVALID", "lengths of a file")
        if len(out) == MAX_FILES:
            raise Malformed("TOO_LARGE", "number of files")
        name, url = entry[fixed:fixed + name_n], entry[fixed + name_n:end]
        if not _file_name_ok(name) or any(f["name"] == name for f in out) or (url and not _file_url_ok(url)):
            raise Malformed("INVALID", "name or url of a file")
        out.append({"kind": kind, "flags": flags, "digest": digest.hex(), "max_bytes": limit, "name": name, "url": url})
        at += 2 + n
    return out


def _is_text(raw):
    try:
        return not re.search("[\0-\x1f\x7f]", raw.decode())
    except UnicodeDecodeError:
        return False


def _file_name_ok(name):
    if not _is_text(name):
        return False
    text = name.decode()
    return 0 < len(name) <= MAX_FILE_NAME and "/" not in text and text not in (".", "..") and not text.startswith(".weft")


def _file_url_ok(url):
    return bool(re.match(rb"(?i:https?)://[^/?#@]+([/?][^#]*)?\Z|(?i:file):///[^/#][^#]*\Z", url)) and not re.search(rb"[^!-~]", url)


def encode_files(files):
    out = b""
    for f in files:
        name, url = to_bytes(f["name"]), to_bytes(f.get("url", b""))
        entry = FILE.pack(FILE.size, f.get("kind", 1), f.get("flags", 0), bytes.fromhex(f.get("digest", "")), f.get("max_bytes", 0), len(name),
                          len(url)) + name + url
        out += struct.pack("<H", len(entry)) + entry
    return out


def decode_reference(raw, task, kind):
    """A bulk reference (section 3.6) to the payload or result of this task."""
    if len(raw) < 4:
        raise Malformed("INVALID", "reference of %d bytes" % len(raw))
    size, name = struct.unpack_from("<I", raw)[0], raw[4:].decode("ascii", "replace")
    want = uuid.UUID(task).hex + (r"\.p" if kind == "payload" else "@[0-9a-f]{16}")
    if not re.match(want + r"\Z", name):
        raise Malformed("INVALID", "reference to %r" % name)
    if size > MAX_PAYLOAD:
        raise Malformed("TOO_LARGE", "reference to %d bytes" % size)
    return {"bulk_bytes": size, "bulk_name": name}


def encode_reference(size, task, place=None):
    """To a payload, or with 16 hexadecimal digits to a result."""
    return struct.pack("<I", size) + (uuid.UUID(task).hex + ("@" + place if place else ".p")).encode()


def decode_ids(raw):
    if not raw or len(raw) % 16 or len(raw) // 16 > MAX_IDS:
        raise Malformed("INVALID", "ids of %d bytes" % len(raw))
    return [id_text(raw[i:i + 16]) for i in range(0, len(raw), 16)]


def encode_ids(ids):
    return b"".join(id_bytes(i) for i in ids)


# ---- messages ----

HEADER = struct.Struct("<2sBBBBHIIQ")


def encode_header(h):
    return HEADER.pack(b"Wf", h.get("major", MAJOR), h.get("minor", MINOR), h["type"], h.get("flags", 0), 0, h.get("count", 0),
                       h.get("seq", 0), h.get("epoch", 0))


def decode_header(raw):
    if len(raw) != 24:
        raise Malformed("INVALID", "header of %d bytes" % len(raw))
    magic, major, minor, kind, flags, _, count, seq, epoch = HEADER.unpack(raw)
    if magic != b"Wf":
        raise Malformed("INVALID", "magic")
    if count > MAX_RECORDS:
        raise Malformed("TOO_LARGE", "count %d" % count)
    return {"major": major, "minor": minor, "type": kind, "flags": flags, "count": count, "seq": seq, "epoch": epoch}


def message(kind, records=(), seq=0, epoch=0, major=MAJOR):
    """The frames of a message, header first; without a routing id."""
    return [encode_header({"major": major, "type": TYPES[kind], "count": len(records), "seq": seq, "epoch": epoch})] + list(records)


def open_message(frames):
    """(header, records): the header's checks of section 1; records are not decoded."""
    head = decode_header(frames[0])
    if head["count"] != len(frames) - 1:
        raise Malformed("INVALID", "count %d with %d records" % (head["count"], len(frames) - 1))
    return head, list(frames[1:])


def decode_message(frames):
    """(header, dicts of all records); of bare ids, one list of ids."""
    head, records = open_message(frames)
    kind = NAMES.get(head["type"])
    if kind is None:
        raise Malformed("INVALID", "type %d" % head["type"])
    if kind in ID_TYPES:
        return head, [i for r in records for i in decode_ids(r)]
    return head, [decode(kind, r) for r in records]


# ---- worker and runner (section 7) ----

def runner_frame(kind, body):
    return struct.pack("<I", len(body) + 1) + kind.encode() + body


def open_runner_frame(raw):
    """(type, body, bytes used)."""
    if len(raw) < 4:
        raise Malformed("INCOMPLETE", "length")
    n = struct.unpack_from("<I", raw)[0]
    if n == 0:
        raise Malformed("INVALID", "no type")
    if n > MAX_RECORD:
        raise Malformed("TOO_LARGE", "frame of %d bytes" % n)
    if len(raw) < 4 + n:
        raise Malformed("INCOMPLETE", "body")
    return chr(raw[4]), bytes(raw[5:4 + n]), 4 + n


CALL = struct.Struct("<16s16sII")
RUN_RESULT = struct.Struct("<16sBBHqqQQB3sIIII")
START = struct.Struct("<16sq")


def encode_call(d):
    payload, environ = to_bytes(d.get("payload", b"")), to_bytes(d.get("environ", b""))
    return runner_frame("C", CALL.pack(id_bytes(d["task"]), id_bytes(d["function"]), d.get("flags", 0), d.get("max_result_bytes", 0))
                        + (struct.pack("<I", len(environ)) + environ if d.get("flags", 0) & 512 else b"") + payload)


def decode_call(body):
    if len(body) < CALL.size:
        raise Malformed("INVALID", "call")
    task, function, flags, max_result = CALL.unpack_from(body)
    at, environ = CALL.size, b""
    if flags & 512:
        n = struct.unpack_from("<I", body, at)[0] if len(body) >= at + 4 else 0
        if n > MAX_ENVIRON:
            raise Malformed("TOO_LARGE", "environ")
        at += 4
        environ = body[at:at + n]
        if len(body) < at + n or not environ_ok(environ):
            raise Malformed("INVALID", "environ")
        at += n
    if len(body) - at > MAX_PAYLOAD:
        raise Malformed("TOO_LARGE", "payload")
    out = {"task": id_text(task), "function": id_text(function), "flags": flags, "max_result_bytes": max_result, "payload": body[at:]}
    if environ:
        out["environ"] = environ
    if flags & 2:
        out.update(decode_reference(out["payload"], out["task"], "payload"))
    return out


BATCH = struct.Struct("<16sIII")
INPUT = struct.Struct("<16sI")
MAX_BATCH = 4096


def encode_batch(d):
    payloads = [to_bytes(i.get("payload", b"")) for i in d["inputs"]]
    rows = b"".join(INPUT.pack(id_bytes(i["task"]), len(p)) for i, p in zip(d["inputs"], payloads))
    return runner_frame("B", BATCH.pack(id_bytes(d["function"]), d.get("flags", 0), d.get("max_result_bytes", 0), len(payloads)) + rows + b"".join(payloads))


def decode_batch(body):
    if len(body) < BATCH.size:
        raise Malformed("INVALID", "batch")
    function, flags, max_result, n = BATCH.unpack_from(body)
    if n > MAX_BATCH:
        raise Malformed("TOO_LARGE", "inputs")
    at = BATCH.size + n * INPUT.size
    if n == 0 or at > len(body):
        raise Malformed("INVALID", "inputs")
    rows = [INPUT.unpack_from(body, BATCH.size + i * INPUT.size) for i in range(n)]
    if any(size > MAX_PAYLOAD for _, size in rows):
        raise Malformed("TOO_LARGE", "payload")
    if at + sum(size for _, size in rows) != len(body):
        raise Malformed("INVALID", "lengths")
    inputs = []
    for task, size in rows:
        inputs.append({"task": id_text(task), "payload": body[at:at + size]})
        at += size
    return {"function": id_text(function), "flags": flags, "max_result_bytes": max_result, "inputs": inputs}


def encode_run_result(d):
    parts = [to_bytes(d.get("result", b""))] + [clip(to_bytes(d.get(k, b"")), MAX_TAIL, "tail") for k in ("error", "stdout", "stderr")]
    return runner_frame("R", RUN_RESULT.pack(
        id_bytes(d["task"]), d["status"], d.get("fault", 0), d.get("code", 0), d.get("start_ns", 0), d.get("end_ns", 0), d.get("cpu_ns", 0),
        d.get("max_rss_bytes", 0), d.get("flags", 0), b"\0\0\0", *[len(p) for p in parts]) + b"".join(parts))


def decode_run_result(body):
    if len(body) < RUN_RESULT.size:
        raise Malformed("INVALID", "result")
    task, status, fault, code, start, end, cpu, rss, flags, _, *lens = RUN_RESULT.unpack_from(body)
    if lens[0] > MAX_PAYLOAD:
        raise Malformed("TOO_LARGE", "result")
    if RUN_RESULT.size + sum(lens) != len(body):
        raise Malformed("INVALID", "lengths")
    if status not in (1, 2) or fault > 4:
        raise Malformed("INVALID", "status or fault")
    out = {"task": id_text(task), "status": status, "fault": fault, "code": code, "start_ns": start, "end_ns": end, "cpu_ns": cpu,
           "max_rss_bytes": rss, "flags": flags}
    at = RUN_RESULT.size
    for name, n in zip(("result", "error", "stdout", "stderr"), lens):
        part = body[at:at + n]
        out[name] = part if name == "result" else clip(part, MAX_TAIL, "tail")
        at += n
    if flags & 4:
        out.update(decode_reference(out["result"], out["task"], "result"))
    return out


def encode_start(d):
    return runner_frame("S", START.pack(id_bytes(d["task"]), d["time_ns"]))


def decode_start(body):
    if len(body) != START.size:
        raise Malformed("INVALID", "start")
    task, ns = START.unpack(body)
    return {"task": id_text(task), "time_ns": ns}


# ---- Redis (section 8) ----

META = struct.Struct("<BB16s16s16s16sqI")
QUEUED = struct.Struct("<BBH16s16sqq")
LIMITS = struct.Struct("<IQI")


def encode_meta(d):
    return META.pack(1, (1 if d.get("payload_apart") else 0) | (4 if d.get("payload_bulk") else 0) | (8 if d.get("watched") else 0),
                     id_bytes(d["owner"]), id_bytes(d["function"]), id_bytes(d["endpoint"]), id_bytes(d["group"]), d.get("submitted_ns", 0), d.get("payload_bytes", 0))


def decode_meta(raw):
    if len(raw) != META.size:
        raise Malformed("INVALID", "meta")
    version, flags, owner, function, endpoint, group, submitted, payload = META.unpack(raw)
    if version != 1:
        raise Malformed("INVALID", "meta version")
    if flags & 5 == 4:
        raise Malformed("INVALID", "meta flags")
    if payload > MAX_PAYLOAD:
        raise Malformed("TOO_LARGE", "payload")
    return {"owner": id_text(owner), "function": id_text(function), "endpoint": id_text(endpoint), "group": id_text(group),
            "submitted_ns": submitted, "payload_bytes": payload, "payload_apart": bool(flags & 1), "payload_bulk": bool(flags & 4),
            "watched": bool(flags & 8)}


def encode_queued(d):
    apart = bool(d.get("payload_apart"))
    payload = b"" if apart else to_bytes(d.get("payload", b""))
    flags = (1 if apart else 0) | (2 if d.get("payload_is_json") else 0) | (4 if d.get("payload_bulk") else 0) | (8 if d.get("fresh") else 0)
    flags |= (32 if d.get("as_json") else 0) | (64 if d.get("as_all") else 0)
    limits = [d.get(k, 0) for k in ("time_limit_ms", "memory_limit_bytes", "max_result_bytes")]
    files, resources = to_bytes(d.get("files", b"")), to_bytes(d.get("resources", b""))
    lengths = struct.pack("<HH", len(files), len(resources)) if resources else struct.pack("<H", len(files)) if files else b""
    return (QUEUED.pack(4 if resources else 3 if files else 2, flags | (16 if any(limits) else 0), d.get("expected_s", 0), id_bytes(d["task"]), id_bytes(d["function"]),
                        d.get("received_ns", 0), d.get("queued_ns", 0)) + (LIMITS.pack(*limits) if any(limits) else b"")
            + (struct.pack("<I", d["payload_bytes"]) if apart else b"") + lengths + files + resources + payload)


def decode_queued(raw):
    if raw and raw[0] not in (1, 2, 3, 4):
        raise Malformed("VERSION", "queue record version")
    try:
        version, flags, expected, task, function, received, queued = QUEUED.unpack_from(raw)
        at, apart, n, limit, memory, max_result = QUEUED.size, bool(flags & 1), None, 0, 0, 0
        if version == 1 or flags & 16:
            limit, memory, max_result = LIMITS.unpack_from(raw, at)
            at += LIMITS.size
        if version == 1 or apart:
            n, at = struct.unpack_from("<I", raw, at)[0], at + 4
        nfiles = nresources = 0
        if version >= 3:
            nfiles, at = struct.unpack_from("<H", raw, at)[0], at + 2
        if version == 4:
            nresources, at = struct.unpack_from("<H", raw, at)[0], at + 2
    except struct.error:
        raise Malformed("INVALID", "queue record")
    if nfiles > MAX_FILES_BYTES:
        raise Malformed("TOO_LARGE", "files")
    if nresources > MAX_RESOURCES_QUEUED:
        raise Malformed("TOO_LARGE", "resources")
    files, resources, payload = (bytes(raw[at:at + nfiles]), bytes(raw[at + nfiles:at + nfiles + nresources]),
                                 bytes(raw[at + nfiles + nresources:]))
    if len(files) != nfiles or len(resources) != nresources or (version == 3 and not nfiles) or (version == 4 and not nresources):
        raise Malformed("INVALID", "queue record files or resources")
    n = len(payload) if n is None else n
    if flags & 5 == 4:
        raise Malformed("INVALID", "queue record flags")
    if n > MAX_PAYLOAD:
        raise Malformed("TOO_LARGE", "payload")
    if len(payload) != (0 if apart else n):
        raise Malformed("INVALID", "queue record payload")
    return {**({"files": files} if files else {}), **({"resources": resources} if resources else {}), "expected_s": expected, "task": id_text(task), "function": id_text(function), "received_ns": received, "queued_ns": queued, "time_limit_ms": limit,
            "memory_limit_bytes": memory, "max_result_bytes": max_result, "payload_bytes": n, "payload_apart": apart,
            "payload_is_json": bool(flags & 2), "payload_bulk": bool(flags & 4), "fresh": bool(flags & 8), "as_json": bool(flags & 32),
            "as_all": bool(flags & 64), "payload": payload}


def encode_done(d):
    return id_bytes(d["task"]) + struct.pack("<B", d["state"]) + to_bytes(d.get("record", b""))


def decode_done(raw):
    if len(raw) < 17 or not 5 <= raw[16] <= 7:
        raise Malformed("INVALID", "done")
    return {"task": id_text(raw[:16]), "state": raw[16], "record": bytes(raw[17:])}


def encode_ended(d):
    position = d["position"].encode()
    meta = to_bytes(d.get("meta", b""))
    return id_bytes(d["task"]) + struct.pack("<BBB", d["state"], len(position), len(meta)) + position + meta + to_bytes(d.get("record", b""))


def decode_ended(raw):
    if len(raw) < 19 or not 5 <= raw[16] <= 7 or not 1 <= raw[17] <= 41 or len(raw) < 19 + raw[17] + raw[18]:
        raise Malformed("INVALID", "ended")
    meta = 19 + raw[17]
    end = meta + raw[18]
    return {"task": id_text(raw[:16]), "state": raw[16], "position": raw[19:meta].decode("latin-1"), "meta": bytes(raw[meta:end]),
            "record": bytes(raw[end:])}

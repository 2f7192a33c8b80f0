# SPDX-License-Identifier: Apache-2.0
"""The bulk store as proto/SPEC.md, section 9, describes it, read and written independently of the programs."""
import os
import struct
import uuid

PAGE = 4096
HEAD = struct.Struct("<4sI16sB7x")      # magic, bytes, task, gone
SLOT = struct.Struct("<4sI16s16sQ16x")  # magic, bytes, task, gone, written (ms); then the data
SLOTS = {"slots-0": (128, 256 << 10), "slots-1": (64, 2 << 20)}


def place(name):
    """Of a result's name: its segment's file name, and where its record begins there."""
    return "seg-" + name[33:41], int(name[41:49], 16) * PAGE


def records(directory, segment):
    """(name, data) of each result in a segment that is not gone."""
    with open(os.path.join(directory, segment), "rb") as f:
        raw = f.read()
    at, out = 0, []
    while at + HEAD.size <= len(raw):
        magic, size, task, gone = HEAD.unpack_from(raw, at)
        if magic != b"WSR1" or at + HEAD.size + size > len(raw):
            at += PAGE
            continue
        if not gone:
            out.append(("%s@%s%08x" % (task.hex(), segment[4:], at // PAGE), raw[at + HEAD.size:at + HEAD.size + size]))
        at += -(-(HEAD.size + size) // PAGE) * PAGE
    return out


def slots(directory, file):
    """(task, where its head is, data) of each payload in this file of slots."""
    with open(os.path.join(directory, file), "rb") as f:
        for n in range(SLOTS[file][0]):
            at = n * (SLOTS[file][1] + PAGE)
            head = os.pread(f.fileno(), SLOT.size, at)
            if len(head) < SLOT.size or head[:4] != b"WPS1":
                continue
            _, size, task, gone, _ = SLOT.unpack(head)
            if gone != task:
                yield task, at, os.pread(f.fileno(), size, at + SLOT.size)


def remove_payload(directory, task):
    """Wherever it stands; how many there were."""
    wanted, found = uuid.UUID(task), 0
    for file in SLOTS:
        if os.path.exists(os.path.join(directory, file)):
            with open(os.path.join(directory, file), "r+b") as f:
                for owner, at, _ in slots(directory, file):
                    if owner == wanted.bytes:
                        os.pwrite(f.fileno(), owner, at + 24)
                        found += 1
    try:
        os.unlink(os.path.join(directory, wanted.hex + ".p"))
    except FileNotFoundError:
        return found
    return found + 1


def stray_payload(directory, task, data, written_ms=0):
    """In the first of its slots, whatever stands there; its name."""
    owner, file = uuid.UUID(task), next(f for f in SLOTS if len(data) <= SLOTS[f][1])
    fd = os.open(os.path.join(directory, file), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        n = int.from_bytes(owner.bytes[12:], "little") % SLOTS[file][0]
        os.pwrite(fd, SLOT.pack(b"WPS1", len(data), owner.bytes, bytes(16), written_ms) + data, n * (SLOTS[file][1] + PAGE))
    finally:
        os.close(fd)
    return owner.hex + ".p"


def names(directory):
    """Names of all payloads and results."""
    out = []
    for n in os.listdir(directory):
        try:
            if n in SLOTS:
                out += [task.hex() + ".p" for task, _, _ in slots(directory, n)]
            else:
                out += [name for name, _ in records(directory, n)] if n.startswith("seg-") else [n] if n.endswith(".p") else []
        except FileNotFoundError:       # just removed
            pass
    return sorted(out)


def segments(directory):
    return sorted(n for n in os.listdir(directory) if n.startswith("seg-"))


def data(directory, name):
    """Of the result of this name; None: it is not there."""
    return dict(records(directory, place(name)[0])).get(name)


def append(directory, segment, task, data):
    """A result at the end of this segment, which is made when missing; its name."""
    path = os.path.join(directory, segment)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        page = -(-os.fstat(fd).st_size // PAGE)
        os.pwrite(fd, HEAD.pack(b"WSR1", len(data), uuid.UUID(task).bytes, 0) + data, page * PAGE)
    finally:
        os.close(fd)
    return "%s@%s%08x" % (uuid.UUID(task).hex, segment[4:], page)


def reference(name, size):
    return struct.pack("<I", size) + name.encode()

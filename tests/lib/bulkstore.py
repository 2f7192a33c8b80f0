# SPDX-License-Identifier: Apache-2.0
"""The bulk store as proto/SPEC.md, section 9, describes it, read and written independently of the programs."""
import os
import struct
import uuid

PAGE = 4096
HEAD = struct.Struct("<4sI16sB7x")      # magic, bytes, task, gone


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


def names(directory):
    """Names of all payloads and results."""
    out = []
    for n in os.listdir(directory):
        try:
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

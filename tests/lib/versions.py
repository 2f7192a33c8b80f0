# SPDX-License-Identifier: Apache-2.0
"""Peers of other versions of the protocol (proto/SPEC.md, 1.1 and 2.1), for the fakes that play one to a real process.

A Version is what a program speaks; OLDER and NEWER are those beside ours. encode() makes a record as that program does: an older one's lacks the
fields that came later, a newer one's has fixed bytes and a variable part that nobody here knows."""
import struct

import wire

# Bytes of the fixed part that a minor version of major 2 knows; other records have not grown.
KNOWN = {"HELLO": {0: 50, 1: 66, 5: 68}, "FUNCTION": {0: 40, 1: 66, 2: 68}, "TASK": {0: 124, 2: 126, 3: 130},
         "RESULT": {0: 192, 2: 212, 3: 216}, "CAPACITY": {0: 54, 1: 56}}
NEW_TYPE = 199                  # a message that a newer version adds
NEW_FIXED, NEW_PART = b"\xaa" * 8, b"part of a newer version"


class Version:
    def __init__(self, name, lowest, highest, minor):
        self.name, self.lowest, self.highest, self.minor = name, lowest, highest, minor

    def __repr__(self):
        return self.name

    @property
    def hello(self):
        return {"min_major": self.lowest, "max_major": self.highest, "minor": self.minor}

    @property
    def session(self):
        """(major, minor) of a session with us."""
        if self.highest > wire.MAJOR:
            return wire.MAJOR, wire.MINOR
        return self.highest, min(self.minor, wire.MINOR)

    @property
    def newer(self):
        return (self.highest, self.minor) > (wire.MAJOR, wire.MINOR)

    @property
    def knows_nodes(self):
        """Tasks for nodes of their own (3.8) came with 2.3."""
        return self.session >= (2, 3)

    @property
    def answers_cancel(self):
        """As an endpoint (3.2)."""
        return self.session >= (2, 4)

    def header(self, kind, count, epoch=0, seq=0):
        """kind: a type's number. A HELLO names the highest major, all else is of the session."""
        major = self.highest if kind == wire.TYPES["HELLO"] else self.session[0]
        return wire.encode_header({"major": major, "minor": self.minor, "type": kind, "count": count, "epoch": epoch, "seq": seq})

    def message(self, kind, records=(), epoch=0, seq=0):
        """Its frames, as wire.message makes them."""
        return [self.header(wire.TYPES[kind], len(records), epoch, seq)] + list(records)

    def unknown(self, epoch):
        """Frames of a message of a type that only a newer version has; none of an older one."""
        return [self.header(NEW_TYPE, 1, epoch), NEW_PART] if self.newer else []

    def encode(self, kind, fields):
        raw = wire.encode(kind, fields, self.session[0])
        if self.newer:
            return self._grown(kind, raw)
        if self.session[0] == 1 or kind not in KNOWN:
            return raw
        known = max(n for minor, n in KNOWN[kind].items() if minor <= self.minor)
        fixed = struct.unpack_from("<H", raw)[0]
        return raw if fixed <= known else struct.pack("<H", known) + raw[2:known] + raw[fixed:]

    @staticmethod
    def _grown(kind, raw):
        fixed, known = struct.unpack_from("<H", raw)[0], wire.RECORDS[kind].known
        return struct.pack("<H", known + len(NEW_FIXED)) + raw[2:fixed] + b"\0" * (known - fixed) + NEW_FIXED + raw[fixed:] + NEW_PART

    def fits(self, kind, raw):
        """A TASK or RESULT that came to it has no field of major 2 in a session of major 1. (Of the same major frames go on as they came.)"""
        return self.session[0] > 1 or struct.unpack_from("<H", raw)[0] <= wire.RECORDS[kind].shortest


OURS = Version("%d.%d" % (wire.MAJOR, wire.MINOR), 1, wire.MAJOR, wire.MINOR)
OLDER = [Version("a major older", 1, wire.MAJOR - 1, 0), Version("2.0", 1, wire.MAJOR, 0),
         Version("a minor older", 1, wire.MAJOR, wire.MINOR - 1)]
NEWER = [Version("a minor newer", 1, wire.MAJOR, wire.MINOR + 1), Version("a major newer", wire.MAJOR, wire.MAJOR + 1, 0)]
OTHERS = OLDER + NEWER


def named(name):
    return next(v for v in [OURS] + OTHERS if v.name == name)

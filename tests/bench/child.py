# SPDX-License-Identifier: Apache-2.0
"""The yardstick's function: frames of a 4-byte little-endian length and a JSON body on standard input and output."""
import json
import os
import struct
import sys


def noop(x):
    return x


def main():
    unpack, pack, buf = struct.Struct("<I").unpack_from, struct.Struct("<I").pack, b""
    while True:
        while len(buf) < 4 or len(buf) < 4 + unpack(buf)[0]:
            more = os.read(0, 1 << 20)
            if not more:
                sys.exit(0)
            buf += more
        n = unpack(buf)[0]
        body = json.dumps({"result": noop(json.loads(buf[4:4 + n])["payload"])}).encode()
        buf = buf[4 + n:]
        out = pack(len(body)) + body
        while out:
            out = out[os.write(1, out):]


main()

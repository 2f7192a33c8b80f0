# SPDX-License-Identifier: Apache-2.0
"""What a peer's program (peers.py) does in its own environment: it says its version in a line; then for each line "N BYTES" on stdin it runs N
tasks with a text of so many bytes with two workers and says how many a second, from submit to the last result."""
import ctypes
import os
import sys
import time

PR_SET_CHILD_SUBREAPER = 36

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)       # what the peer prints is no answer
# What it starts in the background stays below this process: it is stopped and ended with it.
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
    raise OSError(ctypes.get_errno(), "prctl")


def serve(version, run):
    """run(n, text): all of it, checked; called once before anything is measured."""
    run(20, "")
    print(version, file=answers, flush=True)
    for line in sys.stdin:
        n, size = map(int, line.split())
        text = "x" * size
        began = time.monotonic()
        run(n, text)
        print(n / (time.monotonic() - began), file=answers, flush=True)

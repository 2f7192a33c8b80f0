# SPDX-License-Identifier: Apache-2.0
"""Parsl's side of parsl_beside.py, in the venv that has it. Says its version in a line; then for each line "N BYTES" on stdin it echoes N texts
of so many bytes with two workers and says how many a second, from submit to the last result. No encryption, nothing stored."""
import os
import sys
import time

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@parsl.python_app
def noop(x=None):
    return x


def rate(n, x):
    began = time.monotonic()
    futures = [noop(x) for _ in range(n)]
    for f in futures:
        if f.result() != x:
            raise RuntimeError("not what was sent")
    return n / (time.monotonic() - began)


def main():
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=2, cores_per_worker=0.1, encrypted=False,
                                      provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1))
    with parsl.load(Config(executors=[executor], run_dir=os.getcwd(), strategy="none", usage_tracking=0, initialize_logging=False)):
        noop().result()
        rate(200, None)
        print(parsl.__version__, flush=True)
        for line in sys.stdin:
            n, size = map(int, line.split())
            print(rate(n, "x" * size), flush=True)


main()

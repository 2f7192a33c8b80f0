# SPDX-License-Identifier: Apache-2.0
"""Parsl's side of sim_peer_systems.py: runs in the venv that has Parsl, prints bench entries."""
import json
import os
import shutil
import sys
import tempfile
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
    quick = "--quick" in sys.argv
    rounds = 1 if quick else 3
    where = tempfile.mkdtemp(prefix="weft-p-")
    os.chdir(where)
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=2, cores_per_worker=0.1, encrypted=False,
                                      provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1))
    try:
        with parsl.load(Config(executors=[executor], run_dir=where, strategy="none", usage_tracking=0, initialize_logging=False)):
            noop().result()
            rate(200, None)
            for name, n, x in (("parsl_htex_tasks_per_s", 1000 if quick else 10000, "x" * 236),
                               ("parsl_htex_100k_tasks_per_s", 100 if quick else 500, "x" * 100000),
                               ("parsl_htex_1m_tasks_per_s", 20 if quick else 100, "x" * 1000000)):
                runs = [rate(n, x) for _ in range(rounds)]
                print(json.dumps({"name": name, "unit": "1/s", "runs": runs,
                                  "note": "Parsl %s, two workers, no encryption, nothing stored" % parsl.__version__}))
                sys.stdout.flush()
    finally:
        os.chdir("/")
        shutil.rmtree(where, ignore_errors=True)


main()

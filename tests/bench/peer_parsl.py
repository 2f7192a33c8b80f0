# SPDX-License-Identifier: Apache-2.0
"""Echoes by Parsl's HighThroughputExecutor: no encryption, nothing stored."""
import os

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
from peer_side import serve


@parsl.python_app
def echo(x=None):
    return x


def run(n, text):
    futures = [echo(text) for _ in range(n)]
    if any(f.result() != text for f in futures):
        raise RuntimeError("not what was sent")


executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=2, cores_per_worker=0.1, encrypted=False,
                                  provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1))
with parsl.load(Config(executors=[executor], run_dir=os.getcwd(), strategy="none", usage_tracking=0, initialize_logging=False)):
    run(200, "")
    serve(parsl.__version__, run)

# SPDX-License-Identifier: Apache-2.0
"""Programs by HyperQueue, whose tasks are processes: each is /bin/true with the text as an argument."""
import importlib.metadata

from hyperqueue import Job
from hyperqueue.cluster import LocalCluster, WorkerConfig
from peer_side import serve


def run(n, text):
    job = Job()
    for _ in range(n):
        job.program(["/bin/true", text], stdout=None, stderr=None)
    client.wait_for_jobs([client.submit(job)])      # raises when one failed


with LocalCluster(worker_config=WorkerConfig(cores=2)) as cluster:
    client = cluster.client()
    serve(importlib.metadata.version("hyperqueue"), run)

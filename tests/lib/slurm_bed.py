# SPDX-License-Identifier: Apache-2.0
"""A real Slurm on this host, started by tests/testbed/slurm in a directory of its own."""
import os
import shutil
import subprocess
import tempfile

import testbed
from cluster import free_ports

# an endpoint there
BASE = {"provider.type": "slurm", "provider.slurm.poll_interval": "1s", "provider.slurm.walltime": "10m", "provider.slurm.cpus_per_node": 2,
        "scaling.init_blocks": 0, "scaling.max_blocks": 4, "scaling.idle_timeout": "2s", "manager_address": "127.0.0.1", "workers_per_node": 2,
        "python": "/usr/bin/python3", "heartbeat.interval": "500ms", "heartbeat.threshold": "6s"}


class Cluster:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="weft-slurm-")
        self.env = dict(os.environ, SLURM_PORT=str(free_ports(6)), SLURM_CONF=os.path.join(self.dir, "slurm.conf"))
        os.environ["SLURM_CONF"] = self.env["SLURM_CONF"]       # for our agents

    def start(self):
        """Or a Skip; then there is nothing to close."""
        testbed.need("slurmctld", "slurmd", "munged", "sbatch", "ip", "unshare")
        with testbed.starting("Slurm"):
            try:
                self.bed("up")
                self.run("srun", "-N2", "true")
            except BaseException:
                self.close()
                raise
        return self

    def bed(self, command, *args):
        testbed.bed("slurm", command, self.dir, *args, env=self.env)

    def run(self, *argv):
        r = subprocess.run(argv, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
        if r.returncode:
            raise RuntimeError("%s: %s" % (" ".join(argv), r.stderr))
        return r.stdout

    def jobs(self, states="PD,CF,R,S,CG"):
        """id -> (state, nodes, reason)"""
        out = {}
        for line in self.run("squeue", "-h", "-t", states, "-o", "%A|%T|%N|%r").splitlines():
            j = line.split("|", 3)
            out[j[0]] = tuple(j[1:])
        return out

    def running(self):
        return [j for j, s in self.jobs("R").items()]

    def saved(self, ids):
        """Are these jobs in what the controller would read after a crash?"""
        try:
            with open(os.path.join(self.dir, "state", "job_state"), "rb") as f:
                state = f.read()
        except OSError:
            return False
        names = dict(line.split("|") for line in self.run("squeue", "-h", "-o", "%A|%j").splitlines())
        return all(names.get(i, "gone").encode() in state for i in ids)

    def close(self):
        try:
            self.bed("down")
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

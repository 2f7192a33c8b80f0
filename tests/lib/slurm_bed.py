# SPDX-License-Identifier: Apache-2.0
"""A real Slurm on this host, started by tests/testbed/slurm in a directory of its own."""
import os
import shutil
import subprocess
import tempfile

from cluster import free_ports

BED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "testbed", "slurm")
# an endpoint there
BASE = {"provider.type": "slurm", "provider.slurm.poll_interval": "1s", "provider.slurm.walltime": "10m", "provider.slurm.cpus_per_node": 2,
        "scaling.init_blocks": 0, "scaling.max_blocks": 4, "scaling.idle_timeout": "2s", "manager_address": "127.0.0.1", "workers_per_node": 2,
        "python": "/usr/bin/python3", "heartbeat.interval": "500ms", "heartbeat.threshold": "3s"}


def missing():
    """Why the cluster cannot run here, or None."""
    for program in ("slurmctld", "slurmd", "munged", "sbatch", "ip"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            return "%s is not installed: packaging/install-deps --clusters" % program
    return None if os.geteuid() == 0 else "slurmd needs root"


class Cluster:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="weft-slurm-")
        self.env = dict(os.environ, SLURM_PORT=str(free_ports(6)), SLURM_CONF=os.path.join(self.dir, "slurm.conf"))
        os.environ["SLURM_CONF"] = self.env["SLURM_CONF"]       # for our agents

    def bed(self, *args):
        r = subprocess.run([BED, args[0], self.dir] + list(args[1:]), env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           stdin=subprocess.DEVNULL, universal_newlines=True, timeout=120)
        if r.returncode:
            raise RuntimeError("tests/testbed/slurm %s: %s" % (" ".join(args), r.stdout))

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

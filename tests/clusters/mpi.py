#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""MPI, the real ones: Debian's Open MPI and MPICH over blocks of two nodes, which are reached by (a stand-in for) ssh, and in jobs of a real Slurm.
Ranks, hosts, exit status, the SDK's MPIFunction, and that a call that is cancelled leaves no rank on any node."""
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GLOBUS = os.path.join(ROOT, "tests", "clients", "globus")
sys.path[:0] = [os.path.join(ROOT, "tests", "lib"), GLOBUS]
import slurm_bed  # noqa: E402
import venvs  # noqa: E402
from cluster import Endpoint, result  # noqa: E402
from e2e import Fabric, gather, main, ok, register, register_command, wait_for  # noqa: E402
import e2e  # noqa: E402
from fabric import processes  # noqa: E402
from run import VERSIONS, count  # noqa: E402
from testbed import need, starting  # noqa: E402

MPIS = {"openmpi": "openmpi", "mpich": "mpiexec"}      # Debian's suffix -> mpi_launcher
TWO = {"num_nodes": 2, "ranks_per_node": 2}
RUN = '''
def run(program):
    import os, subprocess
    return subprocess.check_output(os.environ["PARSL_MPI_PREFIX"].split() + [program], universal_newlines=True)
'''
# All on loopback, whatever the host has; and root may not use Open MPI without these two.
ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_oob_tcp_if_include": "lo", "OMPI_MCA_btl_tcp_if_include": "lo",
       "HYDRA_IFACE": "lo"}
SSH = os.path.join(ROOT, "tests", "fakes", "ssh_here")
BY_SSH = dict(ENV, OMPI_MCA_plm_rsh_agent=SSH, HYDRA_LAUNCHER="ssh", HYDRA_LAUNCHER_EXEC=SSH)


class World(Fabric):
    def __init__(self, build):
        super().__init__(build, workers=1)

    def start(self):
        need(*[program + name for name in MPIS for program in ("mpicc.", "mpiexec.")])
        with starting("MPI"):
            self.run([SSH, "node1", "true"])        # nodes with host names of their own
            for name in MPIS:       # a directory for each, where its mpiexec goes by that name
                os.makedirs(os.path.join(self.state, name))
                self.run(["mpicc." + name, "-o", program(self, name), os.path.join(ROOT, "tests", "clusters", "mpi_ranks.c")])
                path = os.path.join(self.state, name, "mpiexec")
                with open(path, "w") as out:
                    out.write('#!/bin/sh\nexec mpiexec.%s "$@"\n' % name)
                os.chmod(path, 0o755)
                self.run([path, "-n", "2", "hostname"], env=dict(os.environ, **env_of(self, name, BY_SSH)))
        return super().start()

    def run(self, argv, env=None):
        r = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
        if r.returncode:
            raise RuntimeError("%s: exit %d: %s" % (" ".join(argv), r.returncode, r.stdout[-1000:]))


def program(f, name):
    return os.path.join(f.state, name, "ranks")


class Site:
    """An endpoint with blocks of two nodes, and what is asked of it."""

    def __init__(self, report, f, ep, what, name, options=None):
        self.report, self.f, self.ep, self.what, self.name = report, f, ep, what, name
        self.more = {"launcher_options": options} if options else {}

    def check(self, what, good, why=""):
        self.report.check("%s: %s" % (self.what, what), good, why)

    def submit(self, function, payload, **spec):
        return e2e.submit(self.f, function, [payload], endpoint=self.ep.id, resource_specification=dict(self.more, **spec))[0][0]

    def end(self, task):
        return gather(self.f, [task], 120)[task]

    def ranks(self, what, doc, text, each, nodes=None):
        """each ranks on each of two nodes, which all speak with each other."""
        lines = sorted((line.split() for line in text.splitlines() if line[:1].isdigit()), key=lambda x: int(x[0]))
        n, hosts = 2 * each, [x[3] for x in lines if len(x) == 4]
        self.check(what, [x[:3] for x in lines] == [[str(i), str(n), str(n * (n - 1) // 2)] for i in range(n)] and len(set(hosts)) == 2
                   and all(hosts.count(h) == each for h in hosts) and (nodes is None or sorted(set(hosts)) == sorted(nodes)), doc)

    def all_of_it(self):
        path = program(self.f, self.name)
        shell = register_command(self.f, ["bash", "-c", "echo nodes $PARSL_MPI_NODELIST; $PARSL_MPI_PREFIX " + path])
        for each in (2, 1):
            doc = self.end(self.submit(shell, "", num_nodes=2, ranks_per_node=each))
            text = doc.get("result") or ""
            self.ranks("%d ranks on each node that the task has" % each, doc, text, each, text.split("\n")[0].split(" ")[-1].split(","))
        doc = self.end(self.submit(register(self.f, RUN, "run"), {"args": [path]}, **TWO))
        self.ranks("from a Python function", doc, result(doc) if doc["status"] == "success" else "", 2)
        one = register_command(self.f, ["bash", "-c", "$PARSL_MPI_PREFIX %s | wc -l" % path])
        doc = self.end(self.submit(one, "", num_nodes=1, ranks_per_node=2))
        self.check("on a single node", (doc.get("result") or "").split() == ["2"], doc)
        doc = self.end(self.submit(register_command(self.f, ["bash", "-c", "$PARSL_MPI_PREFIX sh -c 'exit 3'"]), "", **TWO))
        self.check("the launcher's status is the call's", doc["status"] == "failed" and " 3" in json.dumps(doc), doc)
        self.cancelled(path)

    def cancelled(self, path):
        note = os.path.join(self.f.state, self.what.replace(" ", "-"))
        task = self.submit(register_command(self.f, ["bash", "-c", "$PARSL_MPI_PREFIX %s %s" % (path, note)]), "", **TWO)
        pids = wait_for(lambda: pids_in(note, 4), 60, "four ranks that run")
        self.check("they do", all(p in processes() for p in pids), pids)
        ok(self.f.http("DELETE", "/v3/tasks/" + task))
        self.check("a call that is cancelled ends so", self.end(task)["status"] == "cancelled")
        wait_for(lambda: not any(p in processes() for p in pids), 30, "no rank is left, on either node")

    def sdk(self):
        python, why = venvs.make(self.f.build, [VERSIONS[0]])
        if python is None:
            self.report.skip("%s: the SDK's MPIFunction" % self.what, why)
            return
        env = dict(self.f.env(), WEFT_ENDPOINT=self.ep.id)
        count(self.report, self.what, [python, os.path.join(GLOBUS, "mpi_checks.py"), program(self.f, self.name)], env=env)


def pids_in(note, n):
    out = []
    for i in range(n):
        try:
            with open("%s.%d" % (note, i)) as f:
                out.append(int(f.read()))
        except (OSError, ValueError):
            return None
    return out


def env_of(f, name, env):
    """With what Open MPI leaves behind when it is killed in the fabric's directory, which goes with it."""
    return dict(env, PATH=os.path.join(f.state, name) + ":" + os.environ["PATH"], OMPI_MCA_orte_tmpdir_base=f.state,
                OMPI_MCA_btl_vader_backing_directory=f.state)


def nodes_by_ssh(report, f):
    for name, launcher in MPIS.items():
        conf = {"mpi_launcher": launcher, "scaling.nodes_per_block": 2, "scaling.max_blocks": 1, "workers_per_node": 1, "python": "/usr/bin/python3"}
        with Endpoint(f, name + "-ssh", conf, env=env_of(f, name, BY_SSH)) as ep:
            site = Site(report, f, ep, name + " by ssh", name)
            site.all_of_it()
            site.sdk()
            said = [c for c in json.loads(ep.command("doctor", "--json")) if c["check"] == "mpi_launcher"]
            site.check("doctor finds it", len(said) == 1 and said[0]["level"] == "ok", said)


def the_other_one(report, f):
    """doctor sees it when mpi_launcher names the other MPI."""
    for name, launcher in MPIS.items():
        conf = {"mpi_launcher": next(v for k, v in MPIS.items() if k != name), "scaling.init_blocks": 0}
        with Endpoint(f, name + "-other", conf, env=env_of(f, name, BY_SSH)) as ep:
            said = [c for c in json.loads(ep.command("doctor", "--json")) if c["check"] == "mpi_launcher"]
            report.check("%s: doctor says which mpi_launcher it should be" % name, len(said) == 1 and said[0]["level"] == "fail"
                         and "has to be %s in" % launcher in said[0]["text"], said)


def jobs_of_slurm(report, f):
    cluster = slurm_bed.Cluster().start()
    try:
        for what, name, launcher, options in (("openmpi in Slurm", "openmpi", "openmpi", None), ("mpich in Slurm", "mpich", "mpiexec", None),
                                              ("mpich by srun", "mpich", "srun", "--mpi=pmi2")):
            conf = dict(slurm_bed.BASE, **{"scaling.nodes_per_block": 2, "scaling.max_blocks": 1, "provider.slurm.launcher": "srun", "mpi_launcher": launcher})
            with Endpoint(f, what.replace(" ", "-"), conf, env=env_of(f, name, ENV)) as ep:
                site = Site(report, f, ep, what, name, options)
                site.all_of_it()
                if not options:
                    site.sdk()
            report.check("%s: no job is left" % what, not cluster.jobs("PD,CF,R,S"), cluster.jobs())
    finally:
        cluster.close()


main(__doc__, [nodes_by_ssh, the_other_one, jobs_of_slurm], World)

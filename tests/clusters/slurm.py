#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Slurm, the real one: four nodes and two partitions on this host, started by tests/testbed/slurm. No task is lost, no job is left."""
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from cluster import Endpoint, result  # noqa: E402
from e2e import Fabric, gather, main, register, register_command, submit, task, wait_for  # noqa: E402
from slurm_bed import BASE, Cluster  # noqa: E402

WHERE = ("import os, time\n"
         "def where(seconds, gate=None):\n"
         "    while gate and not os.path.exists(gate):\n"
         "        time.sleep(0.02)\n"
         "    time.sleep(seconds)\n"
         "    return [os.environ.get('SLURM_JOB_ID'), os.environ.get('SLURMD_NODENAME')]\n")


CLUSTER = None


class Slurm(Endpoint):
    """An endpoint with blocks in the cluster; at its end no job may be left."""

    def __init__(self, f, report, name, **conf):
        super().__init__(f, name.replace(" ", "-"), dict(BASE, **{k.replace("__", "."): v for k, v in conf.items()}))
        self.report, self.what = report, name
        self.fn = register(f, WHERE, "where")

    def tasks(self, n, seconds, wait=0, gate=None):
        return self.submit(self.fn, [{"args": [seconds, gate]}] * n, wait=wait)

    def all_well(self, ids, timeout=120):
        docs = gather(self.f, ids, timeout)
        bad = [d for d in docs.values() if d["status"] != "success"]
        self.report.check("%s: all %d tasks ended well, none is lost" % (self.what, len(ids)), not bad and len(docs) == len(ids), bad[:3])
        return {tuple(result(d)) for d in docs.values() if d["status"] == "success"}

    def check(self, what, ok, why=""):
        self.report.check("%s: %s" % (self.what, what), ok, why)

    def up(self, n):
        wait_for(lambda: self.blocks()["up"] == n, 60, "%d blocks up" % n)

    def __exit__(self, *exc):
        super().__exit__(*exc)
        left = CLUSTER.jobs("PD,CF,R,S")
        self.check("no job is left", not left, left)


def scaling_up_and_down(report, f):
    with Slurm(f, report, "scaling") as ep:
        ep.check("no job before there is a task", not CLUSTER.jobs(), CLUSTER.jobs())
        gate = os.path.join(f.state, "gate")
        ids = ep.tasks(60, 0.2, gate=gate)
        wait_for(lambda: len(CLUSTER.running()) == 4, 60, "four jobs that run")
        ep.check("from 0 to 4 blocks under load", True)
        wait_for(lambda: sum(m["tasks"] > 0 for m in ep.status()["managers"]) == 4, 60, "tasks in all of them")
        open(gate, "w").close()
        where = ep.all_well(ids)
        ep.check("tasks ran in all four jobs", len(where) == 4, where)
        # work for one slot goes on: the other blocks must get idle, and go
        end, more, left = time.monotonic() + 60, [], 4
        while time.monotonic() < end and left != 1:
            more += ep.tasks(1, 0.3, wait=5)
            left = len(CLUSTER.running())
        ep.check("idle blocks go while one works", left == 1, CLUSTER.jobs())
        ep.all_well(more)
        wait_for(lambda: not CLUSTER.jobs(), 30, "all jobs gone")
        ep.check("back to 0 blocks, without a failure", ep.blocks()["failed"] == 0, ep.blocks())


def node_goes_down(report, f):
    with Slurm(f, report, "node down", scaling__max_blocks=2) as ep:
        ids = ep.tasks(60, 0.5)
        ep.up(2)
        job, (_, node, _) = next((j, s) for j, s in CLUSTER.jobs("R").items())
        CLUSTER.run("scontrol", "update", "nodename=" + node, "state=down", "reason=power supply")
        try:
            wait_for(lambda: ep.blocks()["failed"], 40, "the loss noticed")
            ep.check("job, node and cause are named", "Slurm job %s on %s NODE_FAIL: a node of it failed" % (job, node) in ep.log())
            ep.all_well(ids)
        finally:
            CLUSTER.run("scontrol", "update", "nodename=" + node, "state=resume")


def operator_cancels(report, f):
    with Slurm(f, report, "scancel", scaling__max_blocks=2) as ep:
        ids = ep.tasks(60, 0.5)
        ep.up(2)
        job = CLUSTER.running()[0]
        wait_for(lambda: "Slurm job %s on " % job in ep.command("status"), 30, "the job in the status")
        CLUSTER.run("scancel", job)
        wait_for(lambda: ep.blocks()["failed"] == 1, 40, "the loss noticed")
        ep.all_well(ids)
        ep.check("the record says that it was cancelled", "Slurm job %s on " % job in ep.log() and "CANCELLED: somebody cancelled it" in ep.log())


def wall_time_ends(report, f):
    with Slurm(f, report, "wall time", scaling__max_blocks=1, provider__slurm__walltime="1m", provider__slurm__partition="debug") as ep:
        ids, jobs, end = [], set(), time.monotonic() + 110
        while len(jobs) < 2 and time.monotonic() < end:
            ids += ep.tasks(2, 1, wait=10)
            jobs |= set(CLUSTER.running())
        ep.check("another block takes over", len(jobs) >= 2, jobs)
        ids += ep.tasks(4, 0.1)
        where = ep.all_well(ids)
        ep.check("both blocks were worked with", len({j for j, _ in where}) >= 2, where)
        ep.check("an end by wall time is no failure", ep.blocks()["failed"] == 0, ep.blocks())


def controller_away(report, f):
    with Slurm(f, report, "slurmctld away", scaling__max_blocks=2, scaling__idle_timeout="60s") as ep:
        ep.all_well(ep.tasks(20, 0.2))
        ep.up(2)
        before = set(CLUSTER.running())
        # the controller saves what it knows every few seconds; killed before, it would know nothing of our jobs
        wait_for(lambda: CLUSTER.saved(before), 40, "the jobs in the controller's state")
        CLUSTER.bed("kill", "slurmctld")
        words = wait_for(lambda: ep.blocks()["scheduler"], 30, "the trouble shown")
        ep.check("status has Slurm's own words", "Unable to contact slurm controller" in words and words in ep.command("status"), words)
        began = time.monotonic()
        ep.all_well(ep.tasks(20, 0, wait=20), 20)
        ep.check("tasks are served meanwhile, at once", time.monotonic() - began < 10, time.monotonic() - began)
        CLUSTER.bed("up")
        wait_for(lambda: ep.blocks()["scheduler"] is None, 90, "the trouble over")
        ep.check("the blocks are the same, nothing failed", set(CLUSTER.running()) == before and not ep.blocks()["failed"],
                 (before, CLUSTER.jobs(), ep.blocks()))


def wrong_partition(report, f):
    with Slurm(f, report, "wrong partition", provider__slurm__partition="nosuch", scaling__max_failures_per_hour=2) as ep:
        ids = ep.tasks(1, 0)
        error = wait_for(lambda: "no more are started" in (ep.blocks()["error"] or "") and ep.blocks()["error"], 30, "it gives up")
        ep.check("Slurm's own words, and that it stopped after its budget", "invalid partition specified: nosuch" in error, error)
        doc = task(f, ids[0])
        ep.check("the task still waits", doc["status"].startswith("waiting"), doc)
        doctor = ep.command("doctor")
        ep.check("doctor says it in Slurm's words", "invalid partition specified: nosuch" in doctor, doctor)
        f.http("DELETE", "/v3/tasks/" + ids[0])


def wrong_account(report, f):
    with Slurm(f, report, "wrong account", provider__slurm__partition="restricted", provider__slurm__account="nosuch", scaling__max_blocks=1) as ep:
        ids = ep.tasks(1, 0)
        words = wait_for(lambda: [b["text"] for b in ep.blocks()["list"] if "account" in (b["text"] or "")], 30, "the reason for pending")
        ep.check("the reason is shown in Slurm's words", "so it can't use this partition" in words[0] and words[0] in ep.command("status"), words)
        f.http("DELETE", "/v3/tasks/" + ids[0])


def two_nodes_through_srun(report, f):
    with Slurm(f, report, "srun", scaling__nodes_per_block=2, scaling__max_blocks=1, provider__slurm__launcher="srun") as ep:
        where = ep.all_well(ep.tasks(24, 0.5))
        ep.check("one job, two nodes", len({j for j, _ in where}) == 1 and len({n for _, n in where}) == 2, where)


def mpi_over_two_nodes(report, f):
    """The step that a task starts with Slurm's own srun, from within the step of the managers."""
    with Slurm(f, report, "mpi", scaling__nodes_per_block=2, scaling__max_blocks=1, provider__slurm__launcher="srun",
               mpi_launcher="srun") as ep:
        command = register_command(f, ["bash", "-c", "$PARSL_MPI_PREFIX bash -c 'echo $SLURM_JOB_ID $SLURM_PROCID $SLURMD_NODENAME'; echo $PARSL_MPI_NODELIST"])
        small = ep.tasks(8, 0.2)
        ids = submit(f, command, [""] * 2, endpoint=ep.id, resource_specification={"num_nodes": 2, "ranks_per_node": 2})[0]
        ep.all_well(small)
        for doc in gather(f, ids, 120).values():
            lines = [line.split() for line in (doc.get("result") or "").splitlines()]
            nodes = lines[-1][0].split(",") if lines else []
            ep.check("two ranks on each node", sorted(x[1] for x in lines[:-1]) == ["0", "1", "2", "3"] and len(nodes) == 2
                     and sorted(x[2] for x in lines[:-1]) == sorted(nodes * 2), doc)
            ep.check("in the job of the block", len({x[0] for x in lines[:-1]}) == 1, doc)
        # the next agent takes the job over, and finds the call where it left it
        runs = os.path.join(f.state, "mpi-runs")
        command = register_command(f, ["bash", "-c", "$PARSL_MPI_PREFIX bash -c 'echo run >>%s; while [ ! -e %s.go ]; do sleep 0.1; done; echo $SLURMD_NODENAME'" % (runs, runs)])
        ids = submit(f, command, [""], endpoint=ep.id, resource_specification={"num_nodes": 2})[0]
        wait_for(lambda: os.path.exists(runs) and len(open(runs).readlines()) == 2, 60, "both ranks run")
        job = set(CLUSTER.running())
        wait_for(lambda: job <= set(ep.noted()), 30, "the job is noted for the next run")
        ep.kill()
        ep.start()
        wait_for(lambda: ep.blocks()["up"] == 1, 60, "the block is taken over")
        open(runs + ".go", "w").close()
        doc = gather(f, ids, 120)[ids[0]]
        ep.check("the agent is killed: the task ends well", sorted((doc.get("result") or "").split()) == sorted(nodes) and job == set(CLUSTER.running()), doc)


def agent_is_killed(report, f):
    with Slurm(f, report, "agent killed", scaling__max_blocks=2) as ep:
        ids = ep.tasks(40, 0.5)
        ep.up(2)
        old = set(CLUSTER.running())
        wait_for(lambda: old <= set(ep.noted()), 30, "the jobs are noted for the next run")
        ep.kill()
        ep.start()
        ep.all_well(ids)
        ep.check("the next one takes its jobs over", old == set(CLUSTER.running()), (old, CLUSTER.jobs()))
        ids = ep.tasks(20, 0.5)
        ep.command("restart")
        ep.all_well(ids)
        ep.check("and a restart", old == set(CLUSTER.running()), (old, CLUSTER.jobs()))
        ep.command("stop")
        wait_for(lambda: not CLUSTER.jobs(), 30, "stop cancels them")


TESTS = [scaling_up_and_down, node_goes_down, operator_cancels, controller_away, wrong_partition, wrong_account, two_nodes_through_srun, mpi_over_two_nodes,
         agent_is_killed, wall_time_ends]


def make(build):
    global CLUSTER
    f = Fabric(build, workers=1)
    CLUSTER = Cluster().start()
    return f


def run():
    try:
        main(__doc__, TESTS, make)
    finally:
        if CLUSTER:
            CLUSTER.close()


run()

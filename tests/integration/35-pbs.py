#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An endpoint on PBS: the real service, forwarder, agent, managers and workers, and a scripted PBS (tests/fakes/pbs.py) that runs each job's script for real.
Tasks are never lost, jobs never left behind."""
import glob
import os
import shutil
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
sys.path.insert(0, os.path.join(ROOT, "tests", "fakes"))
import batchsite  # noqa: E402
import e2e  # noqa: E402
import pbs  # noqa: E402
from batchsite import SLEEP, all_succeed, stopped  # noqa: E402
from fabric import Fabric  # noqa: E402


class Site(batchsite.Site):
    def __init__(self, fabric, name, nodes=4, **control):
        batchsite.Site.__init__(self, fabric, name, "pbs", lambda d: pbs.Cluster(d, nodes=nodes))
        self.pbs = self.scheduler
        self.pbs.control(**control)


# ---- tests ------------------------------------------------------------------------------------------------------------


def scales_with_load_and_back(report, f):
    site = Site(f, "scale")
    try:
        # others' jobs, and what 23.06 prints of them, are none of our business
        site.pbs.run("qsub", "-N", "1.", "-h", "-v", "Q=x\\", "-v", "B=\udce9\x03", "-A", 'a b/c,d="e"', "--", "/bin/true")
        site.pbs.run("qsub", "-h", "-J", "0-2", "-N", "arr", "--", "/bin/true")
        site.start("scaling.max_blocks=4", "scaling.idle_timeout=2s")
        ids = site.submit(e2e.register(f, SLEEP, "f"), [0.5] * 40)
        peak = site.wait(lambda: len(site.blocks()["list"]) == 4 and site.blocks(), "four blocks")
        report.check("a block shows its job", all("PBS job" in b["job"] for b in site.wait(
            lambda: all(b["job"] for b in site.blocks()["list"]) and site.blocks()["list"], "jobs")), peak)
        all_succeed(report, "all tasks succeed", site, ids)
        nodes = {n for i in site.pbs.jobs().values() if i["Job_Name"].startswith("weft-") for n in i.get("nodes", [])}
        report.check("on four nodes", nodes == {"n1", "n2", "n3", "n4"}, nodes)
        site.wait(lambda: not site.ours(), "idle blocks are given back")
        report.check("none failed", site.blocks()["failed"] == 0, site.log())
        other = [j for j in site.pbs.live().values() if j["Job_Name"] in ("1.", "arr")]
        report.check("jobs of others are left alone", len(other) == 2, other)
        stopped(report, "scaling", site)
    finally:
        site.close()


def agent_killed_and_restarted(report, f):
    site = Site(f, "killed")
    try:
        site.start("scaling.max_blocks=3")
        gate = os.path.join(site.dir, "gate")
        ids = site.submit(e2e.register(f, e2e.HOLD, "hold"), [gate] * 24)
        site.wait(lambda: site.blocks()["up"] == 3, "three blocks up")
        before = set(site.ours())
        site.wait(lambda: len(site.noted()) == 3, "the jobs are noted for the next run")
        os.kill(site.pid(), signal.SIGKILL)
        site.wait(lambda: site.run("status", site.name).returncode != 0, "the agent is dead")
        report.check("its jobs are still there", set(site.ours()) == before and len(before) == 3, before)
        site.start("scaling.max_blocks=3")
        site.wait(lambda: site.blocks()["up"] == 3, "their managers find the next agent")
        report.check("it takes them over", set(site.ours()) == before, (before, site.ours()))
        open(gate, "w").close()
        all_succeed(report, "all tasks succeed all the same", site, ids)
        stopped(report, "after kill -9", site)
    finally:
        site.close()


def server_refuses_and_hangs(report, f):
    site = Site(f, "down")
    try:
        site.start("scaling.max_blocks=2", "provider.pbs.cmd_timeout=2s", "scaling.idle_timeout=60s")
        fn = e2e.register(f, SLEEP, "f")
        all_succeed(report, "a task before", site, site.submit(fn, [0]))
        site.pbs.control(server="refused")
        report.check("status says what is wrong", "cannot connect to server" in site.words("PBS does not answer"))
        all_succeed(report, "what runs is used while the server is away", site, site.submit(fn, [0.1] * 5))
        site.pbs.control(server="up")
        site.wait(lambda: not site.blocks()["scheduler"], "it is seen that the server is back", 90)
        site.pbs.control(server="hang")
        site.words("PBS does not answer", 60)
        all_succeed(report, "and while it hangs", site, site.submit(fn, [0.1] * 5))
        site.pbs.control(server="up")
        site.wait(lambda: not site.blocks()["scheduler"], "it is back again", 90)
        # a job that is taken while the answer gets lost is found by its name, not submitted twice
        site.pbs.control(slow_qsub=True)
        ids = site.submit(fn, [2] * 6)
        site.wait(lambda: len(site.ours()) == 2, "the second job is taken")
        site.pbs.control(slow_qsub=False)
        site.wait(lambda: site.blocks()["up"] == 2, "and found")
        all_succeed(report, "tasks of both blocks", site, ids)
        report.check("no job was submitted twice", sum(j["Job_Name"].startswith("weft-") for j in site.pbs.jobs().values()) == 2, site.pbs.jobs())
        stopped(report, "server away", site)
    finally:
        site.close()


def jobs_that_end_badly(report, f):
    site = Site(f, "bad")
    try:
        site.start("scaling.max_blocks=1", "scaling.idle_timeout=60s", "scaling.max_failures_per_hour=20")
        fn = e2e.register(f, SLEEP, "f")

        def one_ends(what, how, words):
            ids = site.submit(fn, [0.2] * 10)
            site.wait(lambda: site.blocks()["up"] == 1, "a block is up")
            ident, job = next(iter(site.ours().items()))
            how(ident, job)
            site.wait(lambda: ident not in site.ours(), what)
            if words:
                site.words(words)
            all_succeed(report, what + ": the tasks go elsewhere", site, ids)

        one_ends("deleted by somebody", lambda i, j: site.pbs.run("qdel", i), "somebody deleted it")
        one_ends("its node fails", lambda i, j: site.pbs.node_down(j["nodes"][0]), "a node of it failed")
        site.pbs.control(walltime_s=4, nodes={"n1": "free"})
        before = site.blocks()["failed"]
        for i in site.ours():
            site.pbs.run("qdel", i)
        ids = site.submit(fn, [0.3] * 30)
        site.wait(lambda: sum(j.get("Exit_status") == -29 for j in site.pbs.jobs().values()) >= 2, "jobs reach their wall time")
        site.pbs.control(walltime_s=0)
        all_succeed(report, "wall time: the tasks go elsewhere", site, ids)
        report.check("a wall time that is over is no failure", site.blocks()["failed"] <= before + 1, site.blocks())
        stopped(report, "bad ends", site)
    finally:
        site.close()


def scripts_that_fail(report, f):
    site = Site(f, "fails")
    try:
        site.start("scaling.max_failures_per_hour=2", "provider.pbs.worker_init=echo no such module: python >&2; exit 3", "scaling.max_blocks=1")
        ids = site.submit(e2e.register(f, SLEEP, "f"), [0])
        text = site.words("exit status 3")
        report.check("status shows PBS's comment and the job's own words", "and failed" in text and "no such module: python" in text, text)
        site.wait(lambda: site.blocks()["failed"] == 2, "the budget is used up")
        jobs = len(site.pbs.jobs())
        report.check("then it stops", jobs == 2, jobs)
        f.http("DELETE", "/v3/tasks/%s" % ids[0])
        stopped(report, "scripts that fail", site)
    finally:
        site.close()


def reasons_are_shown(report, f):
    site = Site(f, "reasons", nodes=1)
    try:
        fn = e2e.register(f, SLEEP, "f")
        site.start("scaling.max_blocks=1", "provider.pbs.queue=stopped")
        ids = site.submit(fn, [0])
        report.check("a queue that is not started", "waits in the queue" in site.words("Queue not started."))
        site.ok("stop", site.name)
        site.start("scaling.max_blocks=2", "scaling.init_blocks=2", "provider.pbs.cpus_per_node=1", "scaling.idle_timeout=90s", "scaling.min_blocks=2")
        report.check("no free node", "waits in the queue" in site.words("Not enough free nodes"))
        waiting = site.wait(lambda: [i for i, j in site.ours().items() if j["job_state"] == "Q"], "one waits")
        site.pbs.run("qhold", waiting[0])
        report.check("held by its owner", "by its owner" in site.words("held"))
        site.pbs.run("qrls", waiting[0])
        site.words("Not enough free nodes")
        all_succeed(report, "the task that waited", site, ids)
        site.ok("stop", site.name)
        site.start("scaling.max_blocks=1", "provider.pbs.cpus_per_node=64", "provider.pbs.unknown_timeout=1s", "scaling.max_failures_per_hour=1")
        ids = site.submit(fn, [0])
        text = site.words("was given up", 40)
        report.check("what can never run is given up, with PBS's words", "Can Never Run: Insufficient amount of resource: ncpus" in text, text)
        f.http("DELETE", "/v3/tasks/%s" % ids[0])
        stopped(report, "reasons", site)
    finally:
        site.close()


REFUSALS = [
    ("provider.pbs.queue=nosuch", "Unknown queue"),
    ("provider.pbs.queue=closed", "Queue is not enabled"),
    ("provider.pbs.queue=acl", "Unauthorized Request"),
    ("provider.pbs.queue=debug", "Job violates queue and/or server resource limits"),
    ("provider.pbs.select_options=nosuch=1", "Unknown resource: nosuch"),
    ("provider.pbs.select_options=mem=banana", "Illegal attribute or resource value select.mem"),
    ("provider.pbs.scheduler_options=-l nosuchresource=1", "Unknown resource Resource_List.nosuchresource"),
    ("provider.pbs.scheduler_options=-N \"bad name\"", "illegal -N value"),
]


def refusals(report, f):
    site = Site(f, "refused")
    try:
        fn = e2e.register(f, SLEEP, "f")
        for setting, words in REFUSALS:
            site.start("scaling.max_failures_per_hour=1", setting)
            ids = site.submit(fn, [0])
            text = site.words(words)
            report.check("refused: %s" % setting, "PBS refused the job: qsub: " + words in text, text)
            f.http("DELETE", "/v3/tasks/%s" % ids[0])
            site.ok("stop", site.name)
        report.check("nothing was submitted", not site.pbs.jobs(), site.pbs.jobs())
    finally:
        site.close()


def two_nodes_in_a_block(report, f):
    site = Site(f, "pair")
    try:
        fn = e2e.register(f, SLEEP, "f")
        for launcher in ("pbsdsh", "mpiexec", "ssh"):
            site.start("provider.pbs.launcher=" + launcher, "scaling.nodes_per_block=2", "scaling.max_blocks=1", "scaling.idle_timeout=60s",
                       "provider.pbs.select_options=mpiprocs=2")
            ids = site.submit(fn, [0.3] * 8)
            managers = site.wait(lambda: len(site.status()["managers"]) == 2 and site.status()["managers"], "%s: two managers" % launcher)
            report.check("%s: a manager on each node" % launcher, sorted(m["node"] for m in managers) == ["n1", "n2"], managers)
            all_succeed(report, "%s: tasks" % launcher, site, ids)
            stopped(report, launcher, site)
            site.wait(lambda: not pbs.kill_marked(b"WEFT_FAKE_PBS=" + os.fsencode(site.pbs.dir) + b"\0", 0), "%s: no process of a job is left" % launcher)
    finally:
        site.close()


def server_without_history(report, f):
    """job_history_enable is off by default: jobs that are over are unknown, and -x makes qstat tell nothing."""
    site = Site(f, "history", history=False)
    try:
        site.start("scaling.max_blocks=2", "scaling.idle_timeout=60s")
        ids = site.submit(e2e.register(f, SLEEP, "f"), [0.5] * 20)
        site.wait(lambda: site.blocks()["up"] == 2, "two blocks up")
        gone = next(iter(site.ours()))
        site.pbs.run("qdel", gone)
        site.wait(lambda: gone not in site.ours(), "one is gone")
        all_succeed(report, "no history: all tasks succeed", site, ids)
        site.wait(lambda: all(gone not in b["job"] for b in site.blocks()["list"]), "it is seen that it is gone")
        stopped(report, "no history", site)
    finally:
        site.close()


def render_and_doctor(report, f):
    site = Site(f, "doc")
    try:
        hostile = "it's $(touch /tmp/weft-pwned) \\ \"x\""
        out = site.ok("render", "--set", "provider.pbs.account=" + hostile, "--set", "provider.pbs.select_options=ngpus=4", site.name)
        report.check("render shows the script and the command", "#PBS -l select=1:ncpus=1:ngpus=4\n" in out and "\n# submitted with: qsub -C " in out, out)
        line = next(t for t in out.splitlines() if t.startswith("#PBS -A "))
        report.check("qsub reads back what the configuration says", pbs.words(line[5:]) == ["-A", hostile], line)
        out = site.run("doctor", site.name).stdout
        report.check("doctor: all is well", "PBS answers qstat" in out and "PBS would take a job: queue workq is enabled and started" in out, out)
        for setting, control, words in (
                ("queue: nosuch", {}, "set provider.pbs.queue to one that qstat -Q lists"), ("queue: closed", {}, "queue closed is not enabled"),
                ("queue: stopped", {}, "its jobs will wait"), ("queue: acl", {}, "acl_users bob"), ("queue: debug", {}, "resources_max.walltime 00:01:00"),
                ("queue: workq", {"server": "refused"}, "the PBS server is down, or not reached from here"),
                ("queue: workq", {"nodes": {"n1": "down", "n2": "offline"}}, "down or offline: n1 n2"),
                ("worker_init: if", {}, "the job script is not good for bash")):
            site.pbs.control(**control)
            site.config(setting)
            out = site.run("doctor", site.name).stdout
            report.check("doctor: %s %s" % (setting, control or ""), words in out, out)
            site.pbs.control(server="up", history=True, nodes={"n1": "free"})
    finally:
        site.close()


def site_configurations(report, f):
    """config/sites/pbs-*.yaml are taken, and qsub reads their directives."""
    site = Site(f, "sites")
    try:
        for path in sorted(glob.glob(os.path.join(ROOT, "config", "sites", "pbs-*.yaml"))):
            shutil.copyfile(path, os.path.join(site.ep, "config.yaml"))
            script = os.path.join(site.dir, "script")
            with open(script, "w") as s:
                s.write(site.ok("render", site.name))
            r = site.pbs.run("qsub", "-h", "-q", "workq", script)
            report.check("%s is taken" % os.path.basename(path), site.run("check-config", site.name).returncode == 0 and r.returncode == 0, r.stderr)
    finally:
        site.close()


TESTS = [scales_with_load_and_back, agent_killed_and_restarted, server_refuses_and_hangs, jobs_that_end_badly, scripts_that_fail, reasons_are_shown,
         refusals, two_nodes_in_a_block, server_without_history, render_and_doctor, site_configurations]

if __name__ == "__main__":
    e2e.main(__doc__, TESTS, lambda build: Fabric(build, workers=1))

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An endpoint on HTCondor: the real service, forwarder, agent, managers and workers, and a pool scripted from HTCondor's documentation
(tests/fakes/condor.py) that runs each job for real. Tasks are never lost, jobs never left behind."""
import os
import shutil
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
sys.path.insert(0, os.path.join(ROOT, "tests", "fakes"))
import batchsite  # noqa: E402
import condor  # noqa: E402
import e2e  # noqa: E402
from batchsite import SLEEP, all_succeed, stopped  # noqa: E402
from fabric import Fabric  # noqa: E402


def site_of(fabric, name, home="home", **control):
    site = batchsite.Site(fabric, name, "htcondor", condor.Pool, home)
    site.scheduler.control(**control)
    return site


def scales_and_survives(report, f):
    site = site_of(f, "scale")
    try:
        site.start("scaling.max_blocks=3")
        gate = os.path.join(site.dir, "gate")
        ids = site.submit(e2e.register(f, e2e.HOLD, "hold"), [gate] * 30)
        site.wait(lambda: site.blocks()["up"] == 3, "three blocks")
        report.check("a block shows its job", all("HTCondor job" in b["job"] for b in site.blocks()["list"]), site.blocks())
        before = set(site.ours())
        site.wait(lambda: len(site.noted()) == 3, "the jobs are noted for the next run")
        os.kill(site.status()["pid"], signal.SIGKILL)
        site.wait(lambda: site.run("status", site.name).returncode != 0, "the agent is dead")
        site.start("scaling.max_blocks=3")
        site.wait(lambda: site.blocks()["up"] == 3, "their managers find the next agent")
        report.check("it takes them over", set(site.ours()) == before, (before, site.ours()))
        open(gate, "w").close()
        all_succeed(report, "all tasks succeed, the agent killed between", site, ids)
        site.wait(lambda: not site.ours(), "idle blocks are given back")
        stopped(report, "scaling", site)
    finally:
        site.close()


def schedd_away(report, f):
    site = site_of(f, "away")
    try:
        site.start("scaling.max_blocks=1", "scaling.idle_timeout=60s")
        fn = e2e.register(f, SLEEP, "f")
        all_succeed(report, "a task before", site, site.submit(fn, [0]))
        site.scheduler.control(schedd="away")
        report.check("status says what is wrong", "Failed to fetch ads" in site.words("HTCondor does not answer"))
        all_succeed(report, "what runs is used while the schedd is away", site, site.submit(fn, [0.1] * 5))
        site.scheduler.control(schedd="up")
        site.wait(lambda: not site.blocks()["scheduler"], "it is back", 90)
        stopped(report, "schedd away", site)
    finally:
        site.close()


def jobs_that_end_badly(report, f):
    site = site_of(f, "bad")
    try:
        site.start("scaling.max_blocks=1", "scaling.idle_timeout=60s", "scaling.max_failures_per_hour=20", "provider.htcondor.unknown_timeout=1s")
        fn = e2e.register(f, SLEEP, "f")

        def one_ends(what, how, words):
            ids = site.submit(fn, [0.2] * 10)
            site.wait(lambda: site.blocks()["up"] == 1, "a block is up")
            ident = next(iter(site.ours()))
            how(ident)
            site.wait(lambda: ident not in site.ours(), what)
            if words:
                site.words(words)
            all_succeed(report, what + ": the tasks go elsewhere", site, ids)

        one_ends("removed by somebody", lambda i: site.scheduler.run("condor_rm", i), "somebody removed it (via condor_rm")
        failed = site.blocks()["failed"]
        one_ends("its machine is taken away", site.scheduler.evict, None)
        site.scheduler.control(walltime_s=3)
        one_ends("a new job, for the wall time", lambda i: site.scheduler.run("condor_rm", i), None)
        ids = site.submit(fn, [0.3] * 20)
        site.wait(lambda: any(j.get("RemoteWallClockTime", 0) > j["WeftWalltime"] for j in site.scheduler.jobs().values()), "a job reaches its wall time")
        site.scheduler.control(walltime_s=0)
        all_succeed(report, "wall time: the tasks go elsewhere", site, ids)
        report.check("neither is a failure", site.blocks()["failed"] == failed + 1, site.log())
        site.ok("stop", site.name)
        # an idle job that HTCondor puts on hold is given up, with its words
        site.scheduler.control(machines=[])
        site.start("scaling.max_blocks=1", "provider.htcondor.unknown_timeout=1s", "scaling.max_failures_per_hour=1")
        ids = site.submit(fn, [0])
        job = next(iter(site.wait(site.ours, "a job waits")))
        site.words("waits for a machine")
        site.scheduler.run("condor_hold", job, "12", "Error from slot1: SHADOW failed to receive file(s)")
        report.check("held", "SHADOW failed to receive file(s)" in site.words("was given up"))
        f.http("DELETE", "/v3/tasks/%s" % ids[0])
        stopped(report, "bad ends", site)
    finally:
        site.close()


def scripts_that_fail(report, f):
    site = site_of(f, "fails")
    try:
        fn = e2e.register(f, SLEEP, "f")
        site.start("scaling.max_failures_per_hour=1", "provider.htcondor.worker_init=echo no such module: python >&2; exit 3")
        ids = site.submit(fn, [0])
        text = site.words("exit status 3")
        report.check("status shows the exit status and the job's own words", "it failed" in text and "no such module: python" in text, text)
        site.ok("stop", site.name)
        site.start("scaling.max_failures_per_hour=1", "provider.htcondor.requirements=(((")
        report.check("a refusal", "HTCondor refused the job: ERROR: Parse error" in site.words("refused"))
        f.http("DELETE", "/v3/tasks/%s" % ids[0])
        stopped(report, "scripts that fail", site)
    finally:
        site.close()


def pool_without_history(report, f):
    site = site_of(f, "history", history=False)
    try:
        site.start("scaling.max_blocks=2", "scaling.idle_timeout=60s")
        ids = site.submit(e2e.register(f, SLEEP, "f"), [0.5] * 16)
        site.wait(lambda: site.blocks()["up"] == 2, "two blocks up")
        gone = next(iter(site.ours()))
        site.scheduler.run("condor_rm", gone)
        all_succeed(report, "no history: all tasks succeed", site, ids)
        stopped(report, "no history", site)
    finally:
        site.close()


def render_doctor_and_sites(report, f):
    site = site_of(f, "doc", home="it's $HOME x")
    try:
        out = site.ok("render", site.name)
        report.check("render shows description and command", "#CONDOR +WeftJob = " in out and "condor_submit -terse" in out, out)
        report.check("a dollar sign begins no macro", "#CONDOR initialdir = %s" % site.ep.replace("$", "$(DOLLAR)") in out, out)
        out = site.run("doctor", site.name).stdout
        report.check("doctor: all is well", "HTCondor answers condor_q" in out and "HTCondor would take a job" in out, out)
        for setting, control, words in (("requirements: '((('", {}, "it must be a ClassAd expression"), ("accounting_group: nosuch", {}, "one that the pool knows"),
                                        ("", {"schedd": "away"}, "condor_schedd does not answer")):
            site.scheduler.control(**control)
            site.config(setting)
            out = site.run("doctor", site.name).stdout
            report.check("doctor: %s %s" % (setting, control or ""), words in out, out)
        site.scheduler.control(schedd="up")
        shutil.copyfile(os.path.join(ROOT, "config", "sites", "htcondor-pool.yaml"), os.path.join(site.ep, "config.yaml"))
        report.check("config/sites/htcondor-pool.yaml is taken", site.run("check-config", site.name).returncode == 0)
        site.ok("render", site.name)
    finally:
        site.close()


TESTS = [scales_and_survives, schedd_away, jobs_that_end_badly, scripts_that_fail, pool_without_history, render_doctor_and_sites]

if __name__ == "__main__":
    e2e.main(__doc__, TESTS, lambda build: Fabric(build, workers=1))

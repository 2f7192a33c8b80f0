#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Blocks from a Slurm that goes wrong: scripted commands in front of the real agent, managers and workers. tests/clusters/slurm.py has the real one."""
import json
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from cluster import Endpoint, result  # noqa: E402
from e2e import Fabric, gather, main, register, submit, task, wait_for  # noqa: E402

WHERE = "import os\ndef where(x):\n    return os.environ.get('SLURM_JOB_ID'), os.environ.get('WEFT_TOKEN')\n"
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
BASE = {"provider.type": "slurm", "provider.slurm.poll_interval": "200ms", "provider.slurm.cmd_timeout": "3s", "scaling.init_blocks": 0,
        "scaling.max_blocks": 1, "scaling.idle_timeout": "30s", "scaling.period": "100ms", "manager_address": "127.0.0.1", "workers_per_node": 1,
        "python": "/usr/bin/python3", "scaling.max_failures_per_hour": 3}


class Slurm(Endpoint):
    def __init__(self, f, report, name, rules=None, **conf):
        self.fake = os.path.join(f.state, "fake-" + name.replace(" ", "-"))
        os.makedirs(os.path.join(self.fake, "bin"))
        for command in ("sbatch", "squeue", "scancel", "sacct"):
            os.symlink(os.path.join(ROOT, "tests", "fakes", "slurm"), os.path.join(self.fake, "bin", command))
        super().__init__(f, name.replace(" ", "-"), dict(BASE, **{k.replace("__", "."): v for k, v in conf.items()}),
                         {"FAKE_SLURM": self.fake, "PATH": os.path.join(self.fake, "bin") + ":" + f.env()["PATH"]})
        self.report, self.what = report, name
        self.rules(rules or {})
        self.fn = register(f, WHERE, "where")

    def path(self, name):
        return os.path.join(self.fake, name)

    def rules(self, rules):
        with open(self.path("rules.tmp"), "w") as f:
            json.dump(rules, f)
        os.rename(self.path("rules.tmp"), self.path("rules.json"))

    def job(self, number=None, **change):
        """Read a job (the first one), or change it."""
        names = sorted(n for n in os.listdir(self.fake) if n.endswith(".job"))
        name = "%s.job" % number if number else (names or [None])[0]
        if not name or not os.path.exists(self.path(name)):
            return None
        with open(self.path(name)) as f:
            j = json.load(f)
        if change:
            with open(self.path("job.tmp"), "w") as f:
                json.dump(dict(j, **change), f)
            os.rename(self.path("job.tmp"), self.path(name))
        return dict(j, id=name[:-4])

    def calls(self, command):
        try:
            with open(self.path("calls.log")) as f:
                return [c for c in f.read().splitlines() if c.startswith(command)]
        except OSError:
            return []

    def tasks(self, n=1, wait=0):
        return self.submit(self.fn, [{"args": [i]} for i in range(n)], wait=wait)

    def check(self, what, ok, why=""):
        self.report.check("%s: %s" % (self.what, what), ok, why)

    def well(self, ids, timeout=30):
        docs = gather(self.f, ids, timeout)
        self.check("its tasks end well", all(docs.get(i, {}).get("status") == "success" for i in ids), docs)
        return [result(d) for d in docs.values() if d["status"] == "success"]

    def text(self, part, timeout=30):
        """Wait for these words in a block's text, an error or the scheduler's trouble; returns the status as printed."""
        wait_for(lambda: part in self.command("status"), timeout, "'%s' in the status" % part)
        return self.command("status")

    def up(self):
        wait_for(lambda: self.blocks()["up"] == 1, 30, "a block up")

    def forget(self, ids):
        for i in ids:
            self.f.http("DELETE", "/v3/tasks/" + i)

    def __exit__(self, *exc):
        super().__exit__(*exc)
        if exc[0] is not None:
            print("".join(c + "\n" for c in self.calls("")[-40:]))


def in_order(report, f):
    with Slurm(f, report, "in order", provider__slurm__worker_init="export FROM_INIT=1\n", provider__slurm__account="it's $(me)") as ep:
        jobs = ep.well(ep.tasks(3))
        ep.check("they ran in the job", all(j[0] == ep.job()["id"] for j in jobs), jobs)
        ep.check("the token of the owner is not in their environment", all(j[1] is None for j in jobs), jobs)
        ep.check("one sbatch", len(ep.calls("sbatch")) == 1, ep.calls("sbatch"))
        ep.text("Slurm job %s on node1" % ep.job()["id"])
        ep.stop()
        ep.check("after stop the job is over", ep.job()["state"] in ("CANCELLED", "COMPLETED"), ep.job())
        left = [n for n in os.listdir(os.path.join(ep.dir, "logs")) if n.endswith(".sh")]
        ep.check("no script is left", not left, left)


def refused(report, f):
    said = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n"
    with Slurm(f, report, "refused", {"sbatch": {"err": said, "exit": 1}}) as ep:
        ids = ep.tasks()
        text = ep.text("no more are started")
        ep.check("Slurm's words, and what to do", "Invalid account or account/partition" in text and "provider.slurm.account" in text, text)
        doc = wait_for(lambda: [d for d in [task(f, ids[0])] if "no more are started" in d.get("waiting_reason", "")], 30, "the reason in the task")[0]
        ep.check("the waiting task says why", "Invalid account or account/partition" in doc["waiting_reason"] and doc["status"] == "waiting-for-nodes", doc)
        ep.check("the budget of failures is kept", len(ep.calls("sbatch")) == 3, ep.calls("sbatch"))
        ep.forget(ids)


def accepted_late(report, f):
    with Slurm(f, report, "accepted late", {"sbatch": {"hang": 20, "after": True, "times": 1}}, provider__slurm__cmd_timeout="4s") as ep:
        ep.well(ep.tasks())
        ep.check("a submission without answer is found by its name, not repeated", len(ep.calls("sbatch")) == 1, ep.calls("sbatch"))


def not_accepted(report, f):
    with Slurm(f, report, "not accepted", {"sbatch": {"err": "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
                                                      "exit": 1, "times": 1}}) as ep:
        ep.well(ep.tasks())
        ep.check("a submission that was not taken is repeated", len(ep.calls("sbatch")) == 2, ep.calls("sbatch"))
        ep.check("which is no failure of a block", ep.blocks()["failed"] == 0, ep.blocks())


def no_answers(report, f):
    with Slurm(f, report, "no answers") as ep:
        ep.well(ep.tasks())
        for rule, words in (({"squeue": {"err": DOWN, "exit": 1}}, "Unable to contact slurm controller"), ({"squeue": {"hang": 60}}, "did not end within"),
                            ({"squeue": {"say": "<html>proxy error</html>\n"}}, "is not understood"),
                            ({"squeue": {"err": "squeue: error: Munge encode failed: Failed to access\n", "exit": 1}}, "Munge encode failed")):
            ep.rules(rule)
            ep.text(words)
            began = time.monotonic()
            ep.well(ep.tasks(5, wait=30))
            ep.check("tasks are served meanwhile (%s)" % words, time.monotonic() - began < 20, time.monotonic() - began)
            ep.rules({})
            wait_for(lambda: ep.blocks()["scheduler"] is None, 30, "the trouble over")
        ep.check("the block was kept", ep.blocks()["started"] == 1 and ep.blocks()["up"] == 1, ep.blocks())


def unknown_state(report, f):
    with Slurm(f, report, "unknown state", {"sbatch": {"hold": True}}, provider__slurm__unknown_timeout="6s", scaling__max_failures_per_hour=1) as ep:
        ids = ep.tasks()
        wait_for(ep.job, 30, "a job")
        ep.job(state="HIBERNATING", reason="NoIdea", odd=True)
        ep.text("in a state that is not known here: HIBERNATING NoIdea")
        ep.text("was given up")
        wait_for(lambda: ep.job()["state"] == "CANCELLED", 30, "the job cancelled")
        ep.check("unknown until its deadline, then cancelled", True)
        ep.forget(ids)


def pending_reason(report, f):
    reason = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    with Slurm(f, report, "pending", {"sbatch": {"hold": True, "reason": reason}}) as ep:
        ids = ep.tasks()
        text = ep.text("waits in the queue (%s)" % reason)
        ep.check("the reason is shown", "b1" in text and "pending" in text, text)
        doc = wait_for(lambda: [d for d in [task(f, ids[0])] if reason in d.get("waiting_reason", "")], 30, "the reason in the task")[0]
        ep.check("the waiting task says it too", "Slurm job %s" % ep.job()["id"] in doc["waiting_reason"], doc)
        ep.forget(ids)
    ep.check("a pending job is cancelled at the end", ep.job()["state"] == "CANCELLED", ep.job())


def forgotten(report, f):
    with Slurm(f, report, "forgotten", {"sbatch": {"hold": True}}, scaling__max_failures_per_hour=1) as ep:
        ids = ep.tasks()
        wait_for(lambda: ep.job() and len(ep.calls("squeue")) > 3, 30, "a job")
        ep.job(forgotten=True)
        ep.text("Slurm no longer knows job %s" % ep.job()["id"])
        ep.check("accounting that is disabled is asked for once", len(ep.calls("sacct")) == 1, ep.calls("sacct"))
        ep.forget(ids)


def accounting(report, f):
    with Slurm(f, report, "accounting", {"sbatch": {"hold": True}}, scaling__max_failures_per_hour=1) as ep:
        open(ep.path("accounting"), "w").close()
        ids = ep.tasks()
        wait_for(lambda: ep.job() and len(ep.calls("squeue")) > 3, 30, "a job")
        ep.job(forgotten=True, history="OUT_OF_MEMORY", code="0:125", nodes="node7")
        ep.text("on node7 OUT_OF_MEMORY: it used more memory than it has (exit code 0:125)")
        ep.check("the cause comes from accounting", True)
        ep.forget(ids)


def heartbeats_win(report, f):
    with Slurm(f, report, "heartbeats win") as ep:
        ep.well(ep.tasks())
        ep.job(forgotten=True)
        ep.text("does not list it, but its managers are connected")
        ep.well(ep.tasks(3))
        ep.check("the block is kept", ep.blocks()["up"] == 1 and ep.blocks()["failed"] == 0, ep.blocks())
        ep.job(forgotten=False)


def strangers(report, f):
    """Jobs of ours that nobody wants go; those of others stay, whatever their ids."""
    with Slurm(f, report, "strangers") as ep:
        ep.well(ep.tasks())
        name = ep.job()["name"]
        for number, other in (("50", name[:-7] + "0000-b9"), ("51", "weft-strangers"), ("52", "lammps"), ("53", name)):
            with open(ep.path(number + ".job"), "w") as out:
                json.dump({"name": other, "state": "RUNNING", "nodes": "node9", "reason": "None"}, out)
        wait_for(lambda: ep.job("50")["state"] == "CANCELLED" and ep.job("53")["state"] == "CANCELLED", 30, "the leftovers cancelled")
        ep.check("jobs of others are left alone", ep.job("51")["state"] == "RUNNING" and ep.job("52")["state"] == "RUNNING")
        ep.check("our own too", ep.blocks()["up"] == 1 and ep.blocks()["failed"] == 0, ep.blocks())


def budget(report, f):
    with Slurm(f, report, "budget", {"sbatch": {"hold": True}}, provider__slurm__max_submits_per_hour=2, scaling__max_blocks=3, scaling__init_blocks=3) as ep:
        text = ep.text("2 jobs were handed to Slurm within an hour (max_submits_per_hour)")
        ep.check("no more than two are submitted", len(ep.calls("sbatch")) == 2 and "waits 60 min" in text, (ep.calls("sbatch"), text))


def cancel_again(report, f):
    with Slurm(f, report, "cancel again", {"sbatch": {"hold": True}}) as ep:
        ep.tasks()
        wait_for(ep.job, 30, "a job")
        ep.text("waits in the queue")
        ep.rules({"scancel": {"err": "scancel: error: Kill job error on job id 101: Unable to contact slurm controller (connect failure)\n", "exit": 8,
                              "times": 1}})
        began = time.monotonic()
        ep.stop()
        ep.check("stop does not take for ever", time.monotonic() - began < 40, time.monotonic() - began)
        ep.check("a cancel that failed is repeated before the end", ep.job()["state"] == "CANCELLED", (ep.job(), ep.calls("scancel")))


def failing_script(report, f):
    with Slurm(f, report, "failing script", provider__slurm__worker_init="echo the module is broken >&2\nexit 7\n", scaling__max_failures_per_hour=1) as ep:
        ids = ep.tasks()
        text = ep.text("no more are started")
        ep.check("the end of the job's own output is shown", "the module is broken" in text and "FAILED: it failed (NonZeroExitCode)" in text, text)
        doc = wait_for(lambda: [d for d in [task(f, ids[0])] if "no more are started" in d.get("waiting_reason", "")], 30, "the reason in the task")[0]
        ep.check("the task waits, and says why with the end of the job's own output", "the module is broken" in doc["waiting_reason"], doc)
        ep.forget(ids)


def doctor(report, f):
    with Slurm(f, report, "doctor") as ep:
        text = ep.command("doctor")
        ep.check("all is well", "Slurm answers squeue" in text and "Slurm would take a job" in text and "fail " not in text, text)
        for rule, words in (({"squeue": {"err": "squeue: error: Munge encode failed: Failed to access\n", "exit": 1}}, "systemctl start munge"),
                            ({"sbatch": {"err": "sbatch: error: invalid partition specified: x\n", "exit": 1}}, "set provider.slurm.partition"),
                            ({"squeue": {"hang": 20}}, "did not end within")):
            ep.rules(rule)
            text = ep.command("doctor")
            ep.check("doctor says what to do (%s)" % words, words in text and "fail" in text, text)
        ep.rules({})
        for command in ("sbatch", "squeue"):
            os.unlink(ep.path("bin/" + command))
        ep.extra["PATH"] = ep.path("bin")
        text = ep.command("doctor")
        ep.check("doctor misses sbatch", "sbatch is not on PATH" in text, text)


def sites(report, f):
    """Each example of config/sites is taken as it is, and renders."""
    folder = os.path.join(ROOT, "config", "sites")
    for name in sorted(os.listdir(folder)):
        ep = Endpoint(f, "site-" + name[:-5], {})
        ep.configure()
        shutil.copy(os.path.join(folder, name), os.path.join(ep.dir, "config.yaml"))
        r, text = ep.command("check-config"), ep.command("render")
        report.check("config/sites/%s is good and renders" % name, "weft-manager" in text, r + text)
        if name.startswith("slurm"):
            script = os.path.join(f.state, "site.sh")
            with open(script, "w") as out:
                out.write(text)
            p = subprocess.run(["/bin/bash", "-n", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            report.check("its script is good for bash", text.startswith("#!/bin/bash\n#SBATCH") and "# submitted with: sbatch" in text and not p.returncode, p)
    with open(os.path.join(ROOT, "docs", "providers", "slurm.md")) as doc:
        example = doc.read().split("```yaml\n")[1].split("```")[0]
    ep = Endpoint(f, "doc-slurm", {})
    ep.configure()
    with open(os.path.join(ep.dir, "config.yaml"), "w") as out:
        out.write(example)
    text = ep.command("render")
    report.check("the example of docs/providers/slurm.md is good", "#SBATCH --account=chem-lab" in text, text)


def stated_durations(report, f):
    """No task starts on a block that ends before the time that the task says it needs; another block is started for it."""
    with Slurm(f, report, "durations", provider__slurm__walltime="1m", scaling__max_blocks=2) as ep:
        ep.well(ep.tasks())
        began, first = time.monotonic(), ep.job()["id"]
        answer = submit(f, ep.fn, [{"args": [0]}], wait=10, endpoint=ep.id, limits={"expected_s": 200})
        doc = task(f, answer[0][0])
        ep.check("what no block can do is refused, with both times", doc["status"] == "failed" and "200 s" in doc["exception"] and "54 s" in doc["exception"],
                 doc)
        r = f.weft("run", "-e", ep.id, "--expected", "200s", ep.fn, '{"args": [0]}', check=False)
        ep.check("so it is with run --expected", r.returncode == 3 and "200 s" in r.stderr and "54 s" in r.stderr, r)
        wait_for(lambda: time.monotonic() - began > 12, 30, "the block older")
        ep.rules({"sbatch": {"err": DOWN, "exit": 1}})      # no new block yet
        ids = submit(f, ep.fn, [{"args": [0]}], endpoint=ep.id, limits={"expected_s": 50})[0]
        short = ep.well(ep.tasks())
        ep.check("a short task goes to the old block", short[0][0] == first, short)
        ep.check("the other one does not", task(f, ids[0])["status"] not in ("success", "failed"), task(f, ids[0]))
        ep.rules({})
        where = ep.well(ids)
        ep.check("one of 50 s to a new one", where and where[0][0] != first, where)


def killed_managers_leave_nothing(report, f):
    """On a node the next manager removes the directories of those that were killed, and no others."""
    with Slurm(f, report, "node directories") as ep:
        tmp = ep.path("t")
        for name in ("weft-node-stale/w0", "weft-node-new", "somebody-else"):
            os.makedirs(os.path.join(tmp, name))
        for name in ("weft-node-stale", "somebody-else"):
            os.utime(os.path.join(tmp, name), (time.time() - 300,) * 2)
        ep.stop()
        ep.extra["TMPDIR"] = tmp
        ep.start()
        ep.well(ep.tasks())
        wait_for(lambda: not os.path.exists(os.path.join(tmp, "weft-node-stale")), 30, "the old directory gone")
        left = sorted(os.listdir(tmp))
        ep.check("that of a killed manager is removed, others stay", "weft-node-new" in left and "somebody-else" in left and len(left) == 3, left)
        ep.stop()
        wait_for(lambda: len(os.listdir(tmp)) == 2, 30, "its own directory gone")
        ep.check("its own goes with it; one for files, which none of the tasks wanted, was not made", True)


def file(ep, name):
    try:
        with open(os.path.join(ep.dir, "run", name)) as f:
            return f.read()
    except OSError:
        return ""


def taken_over(report, f):
    """Jobs outlive their agent, killed or restarted; its managers find the next one."""
    nap = register(f, "import os, time\ndef nap(s):\n    time.sleep(s)\n    return os.environ.get('SLURM_JOB_ID'), os.getpid()\n", "nap")
    with Slurm(f, report, "taken over", scaling__max_blocks=1) as ep:
        first = ep.well(ep.submit(nap, [{"args": [0]}]))[0]
        job = ep.job()["id"]
        wait_for(lambda: job in ep.noted(), 30, "the job is noted for the next run")
        for how in ("killed", "restarted"):
            ids = ep.submit(nap, [{"args": [3]}] * 2)
            wait_for(lambda: "running" in [task(f, i)["status"] for i in ids], 30, "one runs")
            old = ep.status()["pid"]
            if how == "killed":
                ep.kill()
                ep.start()
            else:
                out = ep.command("restart")
                ep.check("restart", "running" in out or "connected" in out, out)
            docs = gather(f, ids, 60)
            ep.check("%s: what ran and what waited ends well, in the same job" % how, all(d["status"] == "success" and result(d)[0] == job for d in docs.values()), docs)
            ep.check("%s: the same worker, so it was never ended" % how, {result(d)[1] for d in docs.values() if d["status"] == "success"} == {first[1]}, (first, docs))
            ep.check("%s: no other job, none cancelled" % how, (len(ep.calls("sbatch")), len(ep.calls("scancel"))) == (1, 0) and ep.status()["pid"] != old, ep.calls(""))
            ep.text("Slurm job %s on node1" % job)
        ep.command("stop")
        ep.check("stop cancels it, whoever submitted it", ep.job()["state"] in ("CANCELLED", "COMPLETED"), ep.job())
        ep.check("and leaves neither keys nor notes", not file(ep, "takeover.json") and not file(ep, "manager.key") and not file(ep, "listen.key"))


def not_taken_over(report, f):
    """A job of another configuration, and one whose notes are damaged, is cancelled and replaced."""
    for what in ("configuration", "notes"):
        with Slurm(f, report, "not taken over other " + what, scaling__max_blocks=1) as ep:
            ep.well(ep.tasks())
            job = ep.job()["id"]
            wait_for(lambda: job in ep.noted(), 30, "the job is noted for the next run")
            ep.kill()
            if what == "notes":
                with open(os.path.join(ep.dir, "run", "takeover.json"), "r+") as n:
                    n.write("x")
            else:
                path = os.path.join(ep.dir, "config.yaml")
                with open(path) as c:
                    conf = json.load(c)
                conf["provider"]["slurm"]["worker_init"] = "export OTHER=1"
                with open(path, "w") as c:
                    json.dump(conf, c)
            ep.start()
            wait_for(lambda: ep.job(job)["state"] in ("CANCELLED", "COMPLETED"), 30, "the end of the old job")
            ran = ep.well(ep.tasks(), 60)
            ep.check("tasks go to a new job", ran and ran[0][0] != job, ran)


main(__doc__, [taken_over, not_taken_over, sites, stated_durations, killed_managers_leave_nothing, in_order, refused, accepted_late, not_accepted, no_answers, unknown_state, pending_reason, forgotten, accounting, heartbeats_win, strangers,
               budget, cancel_again, failing_script, doctor], lambda build: Fabric(build, workers=1))

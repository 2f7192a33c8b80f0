#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An HTCondor in a directory: condor_submit, condor_q, condor_history, condor_rm, condor_hold and a starter that runs each job's executable as a process of
this host. Written from HTCondor's manual and sources, not recorded from a pool: options, attributes, states and messages are as documented there.

There is no schedd: each command takes the lock on the state, starts what can start, and answers. A test makes a Pool, puts pool.bin first on PATH, and
changes pool.control(...)."""
import fcntl
import getpass
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pbs import kill_marked  # noqa: E402

COMMANDS = ("condor_submit", "condor_q", "condor_history", "condor_rm", "condor_hold", "hostname")
IDLE, RUNNING, REMOVED, COMPLETED, HELD = 1, 2, 3, 4, 5
MUST = {"universe", "executable", "transfer_executable", "should_transfer_files", "initialdir", "output", "error", "notification", "request_cpus",
        "periodic_remove"}
MAY = {"request_memory", "requirements", "accounting_group", "rank", "priority"}


class Pool:
    def __init__(self, directory, machines=3):
        self.dir, self.bin = directory, os.path.join(directory, "bin")
        os.makedirs(self.bin)
        for c in COMMANDS:
            path = os.path.join(self.bin, c)
            with open(path, "w") as f:
                f.write("#!/bin/sh\nWEFT_FAKE_CONDOR=%s exec /usr/bin/python3 -S -E %s %s \"$@\"\n"
                        % (shlex.quote(directory), shlex.quote(os.path.abspath(__file__)), c))
            os.chmod(path, 0o755)
        self.control(schedd="up", history=True, machines=["m%d" % i for i in range(1, machines + 1)], walltime_s=0)

    def control(self, **changes):
        """schedd: up or away; history; machines: their names; walltime_s: enforced in place of a job's own."""
        with State(self.dir) as s:
            s.control.update(changes)

    def jobs(self):
        with State(self.dir) as s:
            return {i: dict(j, Job_Name=j["WeftJob"]) for i, j in s.jobs.items()}

    def live(self):
        return {i: j for i, j in self.jobs().items() if not j["over"]}

    def run(self, *argv):
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
                              env=dict(os.environ, PATH=self.bin + ":" + os.environ["PATH"]))

    def evict(self, ident):
        """Its machine goes away: the job is idle again."""
        with State(self.dir) as s:
            os.kill(s.jobs[ident]["starter"], signal.SIGUSR2)

    def close(self):
        for j in self.live().values():
            if j["JobStatus"] == RUNNING:
                try:
                    os.kill(j["starter"], signal.SIGKILL)
                except ProcessLookupError:
                    pass
        kill_marked(b"\0WEFT_FAKE_CONDOR=" + os.fsencode(self.dir) + b"\0", signal.SIGKILL)


class State:
    def __init__(self, directory):
        self.dir = directory

    def __enter__(self):
        self.lock = open(os.path.join(self.dir, "lock"), "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.jobs, self.next, self.control = {}, 1, {}
        path = os.path.join(self.dir, "state.json")
        if os.path.exists(path):
            with open(path) as f:
                self.jobs, self.next, self.control = json.load(f)
        return self

    def __exit__(self, *exc):
        path = os.path.join(self.dir, "state.json")
        with open(path + ".new", "w") as f:
            json.dump([self.jobs, self.next, self.control], f)
        os.rename(path + ".new", path)
        self.lock.close()

    def negotiate(self):
        """Matches idle jobs; what periodic_remove says of those that ran before is done here."""
        for ident, j in self.jobs.items():
            if j["JobStatus"] != IDLE:
                continue
            if j["NumJobStarts"] > 0:
                self.remove(ident, "The job attribute PeriodicRemove expression '%s' evaluated to TRUE" % j["PeriodicRemove"])
                continue
            busy = [k["machine"] for k in self.jobs.values() if k["JobStatus"] == RUNNING]
            free = [m for m in self.control["machines"] if m not in busy]
            if free and not j["never"]:
                self.start(ident, j, free[0])

    def start(self, ident, j, machine):
        j.update(JobStatus=RUNNING, NumJobStarts=1, machine=machine, RemoteHost="slot1_1@%s.example.org" % machine, started=time.time())
        env = {"PATH": os.path.join(self.dir, "bin") + ":/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "WEFT_FAKE_CONDOR": self.dir}
        j["starter"] = subprocess.Popen(["/usr/bin/python3", "-S", "-E", os.path.abspath(__file__), "starter", ident], env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True).pid

    def remove(self, ident, why):
        j = self.jobs[ident]
        j["RemoveReason"] = why
        if j["JobStatus"] == RUNNING:
            os.kill(j["starter"], signal.SIGUSR1)
        else:
            j["over"] = True
        j["JobStatus"] = REMOVED


def starter(home, ident):
    """Runs the executable; TERM and later KILL when the job is removed (SIGUSR1) or over its time, KILL when it is evicted (SIGUSR2)."""
    signals = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with State(home) as s:
        j, limit = s.jobs[ident], s.control["walltime_s"]
    env = dict(os.environ, WEFT_FAKE_NODE=j["machine"], WEFT_FAKE_JOB=os.path.join(home, ident))
    with open(j["Out"], "ab") as out:
        child = subprocess.Popen([j["Cmd"]], env=env, cwd=j["Iwd"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                 preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals))
    mark = b"\0WEFT_FAKE_JOB=" + os.fsencode(os.path.join(home, ident)) + b"\0"
    deadline, over, evicted, removed = time.monotonic() + (limit or j["WeftWalltime"] + 60), False, False, False
    while child.poll() is None:
        got = signal.sigtimedwait(signals, max(0, deadline - time.monotonic()))
        if got is None and (over or removed):
            kill_marked(mark, signal.SIGKILL)
        elif got is None or (got.si_signo == signal.SIGUSR1 and not removed):
            over, removed, deadline = over or got is None, got is not None, time.monotonic() + 3
            kill_marked(mark, signal.SIGTERM)
        elif got.si_signo == signal.SIGUSR2:
            evicted = True
            kill_marked(mark, signal.SIGKILL)
    kill_marked(mark, signal.SIGKILL)
    with State(home) as s:
        j = s.jobs[ident]
        j["RemoteWallClockTime"] = float(j["WeftWalltime"] + 61 if over else time.time() - j["started"])
        j["LastRemoteHost"] = j.pop("RemoteHost")
        if evicted:
            j["JobStatus"] = IDLE
        elif over:
            j.update(JobStatus=REMOVED, over=True, RemoveReason="The job attribute PeriodicRemove expression '%s' evaluated to TRUE" % j["PeriodicRemove"])
        elif j["JobStatus"] == REMOVED:
            j["over"] = True
        else:
            j.update(JobStatus=COMPLETED, over=True, ExitBySignal=child.returncode < 0)
            j["ExitSignal" if child.returncode < 0 else "ExitCode"] = abs(child.returncode)
        s.negotiate()


def fail(text):
    print("\nERROR: %s" % text, file=sys.stderr)
    return 1


def expand(value):
    return re.sub(r"\$\((\w+)\)", lambda m: "$" if m.group(1) == "DOLLAR" else "", value)


def condor_submit(home, argv):
    assert argv[0] == "-terse" and argv[1:] in ([], ["-dry-run", "/dev/null"]), argv
    d, queued = {}, False
    for number, line in enumerate(sys.stdin.read().splitlines(), 1):
        if line.strip() == "queue":
            queued = True
        elif line.strip() and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                return fail("Failed to parse command file (line %d)." % number)
            d[name.strip()] = expand(value.strip())
    plain = {k for k in d if not k.startswith("+")}
    if not queued:
        return fail('"(stdin)" doesn\'t contain any "queue" commands -- no jobs queued')
    if not MUST <= plain or plain - MUST - MAY:
        return fail("not in this fake: %s" % sorted((MUST - plain) | (plain - MUST - MAY)))
    if d.get("requirements", "").count("(") != d.get("requirements", "").count(")"):
        return fail("Parse error in expression: \n\tRequirements = %s" % d["requirements"])
    if d.get("accounting_group") == "nosuch":
        return fail("accounting_group nosuch is not known here")
    if not os.access(d["executable"], os.X_OK):
        return fail("Executable file %s does not exist" % d["executable"])
    if len(argv) > 1:
        return 0
    with State(home) as s:
        ident = str(s.next)
        s.next += 1
        s.jobs[ident] = {"ClusterId": int(ident), "ProcId": 0, "JobStatus": IDLE, "NumJobStarts": 0, "Owner": getpass.getuser(), "Cmd": d["executable"],
                         "Iwd": d["initialdir"], "Out": d["output"], "PeriodicRemove": d["periodic_remove"], "over": False,
                         "WeftJob": d["+WeftJob"].strip('"'), "WeftWalltime": int(d["+WeftWalltime"]), "never": "Nowhere" in d.get("requirements", "")}
        s.negotiate()
    print("%s.0 - %s.0" % (ident, ident))


def show(argv, ads):
    names = argv[argv.index("-attributes") + 1].split(",")
    ads = [{k: a[k] for k in names if k in a} for a in ads]
    if ads:     # nothing at all is printed when there are none
        print("[\n%s\n]" % "\n,\n".join(json.dumps(a, indent=2) for a in ads))


def condor_q(home, argv):
    assert argv[0] == "-json" and argv[argv.index("-constraint") + 1] == 'WeftJob =!= undefined && Owner == "%s"' % getpass.getuser(), argv
    with State(home) as s:
        s.negotiate()
        show(argv, [j for j in s.jobs.values() if not j["over"]])


def condor_history(home, argv):
    assert argv[0] == "-json" and "-limit" in argv, argv
    ids = argv[argv.index("-limit") + 2:]
    with State(home) as s:
        if not s.control["history"]:
            print("Error: No history file is defined", file=sys.stderr)
            return 1
        show(argv, [j for i, j in reversed(list(s.jobs.items())) if j["over"] and i in ids])


def condor_rm(home, argv):
    status = 0
    with State(home) as s:
        for i in argv:
            if i in s.jobs and not s.jobs[i]["over"]:
                s.remove(i, "via condor_rm (by user %s)" % getpass.getuser())
                print("All jobs in cluster %s have been marked for removal" % i)
            else:
                print("Couldn't find/remove all jobs in cluster %s" % i, file=sys.stderr)
                status = 1
    return status


def condor_hold(home, argv):
    """condor_hold ID for a user's hold; ID CODE REASON for one of HTCondor's own."""
    with State(home) as s:
        s.jobs[argv[0]].update(JobStatus=HELD, HoldReasonCode=int(argv[1]) if argv[1:] else 1,
                               HoldReason=argv[2] if argv[2:] else "via condor_hold (by user %s)" % getpass.getuser())


def main():
    what, argv, home = sys.argv[1], sys.argv[2:], os.environ["WEFT_FAKE_CONDOR"]
    if what == "starter":
        return starter(home, argv[0])
    if what == "hostname":
        print(os.environ.get("WEFT_FAKE_NODE") or os.uname().nodename)
        return 0
    with State(home) as s:
        away = s.control["schedd"] == "away"
    if away and what == "condor_q":
        print("\n-- Failed to fetch ads from: <127.0.0.1:9618> : head.example.org\nCEDAR:6001:Failed to connect to <127.0.0.1:9618>", file=sys.stderr)
        return 1
    if away and what != "condor_history":
        return fail("Can't find address of local schedd")
    return globals()[what](home, argv)


if __name__ == "__main__":
    sys.exit(main())

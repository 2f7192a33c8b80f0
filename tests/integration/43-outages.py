#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Redis killed, stopped and full, and a full disk under the result spool: clear errors, bounded memory, recovery without help."""
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import (Fabric, address, call, connection, gather, grown, main, pids_of, redis, register, sizes, submit, task, wait_for)  # noqa: E402
from sse import Stream  # noqa: E402

MIB = 1 << 20
SPOOL_MIB = 4
FN = {}


class Outages(Fabric):
    """Its spool has a small file system of its own, when we may mount one."""

    def __init__(self, build):
        super().__init__(build, workers=2)
        self.args += ["--endpoint-set", "spool.segment_bytes=65536", "--endpoint-set", "spool.max_unspooled_bytes=2MiB",
                      "--endpoint-set", "spool.memory_bytes=1MiB"]
        for d in ("endpoints", "endpoints/local", "endpoints/local/spool"):
            self.spool = os.path.join(self.state, d)
            os.mkdir(self.spool, 0o700)
        self.mounted, self.spool_why = False, "only root can mount a small file system"
        if os.geteuid() == 0:
            r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=0700" % SPOOL_MIB, "tmpfs", self.spool], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, universal_newlines=True)
            self.mounted = r.returncode == 0
            self.spool_why = None if self.mounted else "mount: " + r.stdout.strip()

    def stop(self, remove=True):
        left = super().stop(remove=False)
        if self.mounted:
            subprocess.run(["umount", "-l", self.spool], check=True)
            self.mounted = False
        if remove and not self.keep:
            shutil.rmtree(self.state, ignore_errors=True)
        return left


def warm(report, f):
    FN["echo"] = register(f, "import time\ndef echo(x, s=0):\n    time.sleep(s)\n    return x", "echo")
    FN["big"] = register(f, "import time\ndef big(n, s=0):\n    time.sleep(s)\n    return 'r' * n", "big")
    ids, _ = submit(f, FN["echo"], [{"args": [i]} for i in range(100)])
    gather(f, ids)
    FN["sizes"] = sizes(f)
    report.check("a hundred tasks to begin with", True)


def steady(f, reply):
    """503 with the error's form."""
    return reply[0] == 503 and isinstance(reply[1], dict) and reply[1].get("code") in ("SERVICE_UNAVAILABLE", "STORAGE_FULL") and reply[1].get("detail")


def recovered(f):
    try:
        return call(f, FN["echo"], "back", wait=5)["status"] == "success"
    except (RuntimeError, OSError):
        return False


def all_right(report, name, docs, want):
    bad = {i: d for i, d in docs.items() if d["status"] != "success" or d["result"] != want[i]}
    missing = [i for i in want if i not in docs]
    report.check("%s: every task has its result" % name, not bad and not missing, (len(bad), list(bad.items())[:2], len(missing)))


def redis_killed(report, f):
    ids, _ = submit(f, FN["echo"], [{"args": [i, 0.005]} for i in range(400)])
    want = {t: str(i) for i, t in enumerate(ids)}
    waiting, _ = submit(f, FN["echo"], [{"args": [77, 1.5]}])
    want[waiting[0]] = "77"
    answer = []
    t = threading.Thread(target=lambda: answer.append(waiting_get(f, waiting[0])))
    t.start()
    wait_for(lambda: task(f, ids[20])["status"] == "success", 30, "some to end")
    pid, = pids_of(f, "redis")
    os.kill(f.proc.pid, signal.SIGSTOP)     # who would start it again at once
    os.kill(pid, signal.SIGKILL)
    # what is sent before the service has noticed is in doubt, and held back: that is another test's
    wait_for(lambda: f.http("GET", "/readyz")[0] == 503, 30, "the service to notice")
    began, refused, odd, accepted, slowest = time.monotonic(), 0, [], 0, 0
    held = True
    while time.monotonic() - began < 60 and accepted < 5:
        at = time.monotonic()
        try:
            r = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {FN["echo"]: ['{"args": [5]}']}}, timeout=20)
        except OSError as e:
            odd.append(repr(e))
            break
        slowest = max(slowest, time.monotonic() - at)
        if r[0] == 200:
            want[r[1]["tasks"][FN["echo"]][0]] = "5"
            accepted += 1
        elif steady(f, r):
            refused += 1
        else:
            odd.append(r)
        if held and time.monotonic() - began > 1.5 and refused > 10:
            os.kill(f.proc.pid, signal.SIGCONT)
            held = False
        time.sleep(0.01)
    if held:
        os.kill(f.proc.pid, signal.SIGCONT)
    report.check("while Redis is gone clients get 503", refused > 10 and not odd, (refused, odd[:3]))
    report.check("and are served again when it is back", accepted >= 5, accepted)
    report.check("Redis was started again", pids_of(f, "redis") and pids_of(f, "redis") != [pid])
    print("# %d refused, back after %.1f s, slowest answer %.1f s" % (refused, time.monotonic() - began, slowest))
    docs = gather(f, list(want), 60)
    all_right(report, "Redis killed", docs, want)
    t.join(40)
    report.check("who waited over it got an answer", answer and answer[0][0] in (200, 503), answer)


def waiting_get(f, tid):
    c = connection(f, timeout=40)
    try:
        c.request("GET", "/v3/tasks/%s?wait=20" % tid, headers={"Authorization": "Bearer " + f.token})
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def redis_stopped(report, f):
    ids, _ = submit(f, FN["echo"], [{"args": [i, 0.01]} for i in range(200)])
    want = {t: str(i) for i, t in enumerate(ids)}
    pid, = pids_of(f, "redis")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        report.check("/healthz answers while Redis hangs", f.http("GET", "/healthz")[0] == 200 and time.monotonic() - began < 4)
        r = f.http("GET", "/v3/tasks/" + ids[0], timeout=30)
        took = time.monotonic() - began
        report.check("a read is answered with 503 within the command's time limit", steady(f, r) and took < 25, (r, took))
        began = time.monotonic()
        r = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {FN["echo"]: ["{}"]}}, timeout=30)
        report.check("then a submission is refused at once", steady(f, r) and time.monotonic() - began < 8, (r, time.monotonic() - began))
        report.check("/readyz says it is not ready", f.http("GET", "/readyz")[0] == 503)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: recovered(f), 30, "recovery")
    all_right(report, "Redis stopped for a while", gather(f, ids, 60), want)


def redis_full(report, f):
    ids, _ = submit(f, FN["echo"], [{"args": [i, 0.01]} for i in range(200)])
    want = {t: str(i) for i, t in enumerate(ids)}
    ended, a = submit(f, FN["echo"], [{"args": [i]} for i in range(5)], create_queue=True)
    unheard, b = submit(f, FN["echo"], [{"args": [i]} for i in range(2)])
    gather(f, ended + unheard)
    path = "/v3/taskgroups/%s/" % a["task_group_id"]
    wait_for(lambda: task(f, ids[10])["status"] == "success", 30, "some to end")
    redis(f, "config", "set", "maxmemory", "1mb")
    try:
        began, full = time.monotonic(), 0
        for i in range(20):
            r = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {FN["echo"]: ["{}"]}})
            full += r[0] == 503 and r[1]["code"] == "STORAGE_FULL"
        report.check("submissions are refused with STORAGE_FULL", full == 20, (full, r))
        c = connection(f)
        c.request("POST", "/v3/endpoints/%s/submit" % f.endpoint, '{"tasks": {"%s": ["{}"]}}' % FN["echo"], {"Authorization": "Bearer " + f.token})
        r = c.getresponse()
        report.check("and told when to try again", r.status == 503 and int(r.headers["Retry-After"]) > 0, r.headers)
        c.close()
        report.check("reads are served", task(f, ids[0])["status"] == "success")
        r = f.http("GET", path + "results")
        report.check("pages of a watched group too", r[0] == 200 and sorted(d["task_id"] for d in r[1]["results"]) == sorted(ended), r)
        s = Stream(*address(f)[1:], path + "events", f.token)
        got = s.read(5, timeout=30) if s.status == 200 else s.json
        report.check("and its events", s.status == 200 and sorted(x.data["task_id"] for x in got) == sorted(ended), got)
        s.close()
        r = f.http("GET", "/v3/taskgroups/%s/results" % b["task_group_id"])
        report.check("a group that nobody watched would have to be written", r[0] == 503 and r[1]["code"] == "STORAGE_FULL", r)
        time.sleep(max(0, 2.5 - (time.monotonic() - began)))    # the rest of the tasks run, and their results cannot be stored
        report.check("results that cannot be stored are not lost sight of", task(f, ids[-1])["status"] != "failed")
    finally:
        redis(f, "config", "set", "maxmemory", "0")
    wait_for(lambda: recovered(f), 30, "recovery")
    all_right(report, "Redis full for a while", gather(f, ids, 60), want)


def spool_full(report, f):
    if f.spool_why:
        report.skip("disk full at the spool", f.spool_why)
        return
    filler = os.path.join(f.spool, "filler")
    with open(filler, "wb", buffering=0) as s:     # nothing is left to be written when it is closed
        try:
            while True:
                s.write(b"x" * 65536)
        except OSError:
            pass
    before = sizes(f)
    # results of 50 KiB, 15 MiB of them, over a spool of none and 2 MiB of memory
    n = 300
    ids, _ = submit(f, FN["big"], ['{"args": [50000]}'] * n)
    want = {t: '"%s"' % ("r" * 50000) for t in ids}
    all_right(report, "the spool's disk is full", gather(f, ids, 60), want)
    # the forwarder stops: results cannot leave either
    forwarder, = pids_of(f, "forwarder")
    supervisor, = pids_of(f, "supervisor")
    os.kill(forwarder, signal.SIGSTOP)
    try:
        time.sleep(0.2)
    finally:
        os.kill(forwarder, signal.SIGCONT)
    ids, _ = submit(f, FN["big"], ['{"args": [50000, 0.002]}'] * n)
    want = {t: '"%s"' % ("r" * 50000) for t in ids}
    wait_for(lambda: task(f, ids[5])["status"] == "success", 30, "some to end")
    os.kill(forwarder, signal.SIGSTOP)
    try:
        time.sleep(4)
        report.check("disk full and nobody to take results: memory stays bounded", not grown(before, sizes(f), 48 * MIB), grown(before, sizes(f), 48 * MIB))
    finally:
        os.kill(forwarder, signal.SIGCONT)
    os.remove(filler)
    all_right(report, "disk full and the forwarder stopped for a while", gather(f, ids, 60), want)
    with open(os.path.join(f.state, "log", "endpoint.log"), errors="replace") as s:
        text = s.read()
    for d, _, names in os.walk(os.path.join(f.state, "endpoints", "local")):
        for name in names:
            if name.endswith(".log"):
                with open(os.path.join(d, name), errors="replace") as s:
                    text += s.read()
    report.check("the endpoint's log says what was wrong", "No space left" in text, text[-1500:])
    wait_for(lambda: not [x for x in os.listdir(f.spool) if os.path.getsize(os.path.join(f.spool, x)) > 65536 * 4], 30, "the spool to empty")
    report.check("the spool works again", recovered(f))


def bounded(report, f):
    wait_for(lambda: recovered(f), 30, "recovery")
    now = sizes(f)
    base = {p: v for p, v in FN["sizes"].items() if v[0] != "forwarder" or p in now}
    report.check("after all outages nothing has grown by more than 64 MiB, nothing has crashed", not grown(base, now, 64 * MIB), grown(base, now, 64 * MIB))


main(__doc__, [warm, redis_killed, redis_full, spool_full, redis_stopped, bounded], Outages)

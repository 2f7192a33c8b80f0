#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""weft-manager between a scripted agent (tests/fakes/peer.py) and workers: scripted ones, which die and stall on order, and the
real weft-worker."""
import argparse
import contextlib
import ctypes
import glob
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "fakes"))
try:
    import zmq
    import peer
    from e2e import sanitized
except ImportError as e:
    print("skip - manager: %s" % e)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

BUILD = None
PTRACE_SEIZE = 0x4206
TESTS = []
FAKE = os.path.join(ROOT, "tests", "fakes", "worker.py")
FN = uuid.uuid4().bytes


class Skip(Exception):
    pass


def test(f):
    TESTS.append(f)
    return f


def state(pid):
    """As in ps; "" when there is none."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def alive(pid):
    return state(pid) not in ("", "Z", "X")


def children(pid):
    """All descendants."""
    parents = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                with open("/proc/%s/stat" % p) as f:
                    parents.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(p))
            except OSError:
                pass
    found, todo = [], [pid]
    while todo:
        for c in parents.get(todo.pop(), []):
            found.append(c)
            todo.append(c)
    return found


def listening(pid):
    """The paths of the unix sockets that a process listens on."""
    held = set()
    for fd in glob.glob("/proc/%d/fd/*" % pid):
        try:
            held.add(os.readlink(fd))
        except FileNotFoundError:       # closed meanwhile
            pass
    with open("/proc/net/unix") as f:
        rows = [x.split() for x in f.readlines()[1:]]
    return [r[7] for r in rows if len(r) == 8 and r[3] == "00010000" and "socket:[%s]" % r[6] in held]


class Rig:
    """An agent and a manager with n workers, in a directory of their own; everything is gone after `with`."""

    def __init__(self, n=2, args=(), worker=FAKE, up=True, dir_name="m", worker_version=None, **agent):
        self.tmp = tempfile.mkdtemp(prefix="weft-t-")
        self.ctx = zmq.Context()
        self.agent_path = os.path.join(self.tmp, "a.sock")
        self.agent = peer.Agent(self.ctx, self.agent_path, **agent)
        self.agent.functions[FN] = peer.function(FN, "def f(**k): return k", "f", version=self.agent.version)
        self.dir = os.path.join(self.tmp, dir_name)
        if worker_version:
            worker = peer.speaking(worker, worker_version, self.tmp)
        self.log = open(os.path.join(self.tmp, "log"), "w+")
        self.n = n
        self.pids = set()
        self.p = subprocess.Popen(
            [os.path.join(BUILD, "bin", "weft-manager"), "--connect", self.agent.uri, "--endpoint-id", str(uuid.uuid4()), "--block", "b7",
             "--node", "node-1", "--workers", str(n), "--dir", self.dir, "--parent-pid", str(os.getpid()), "--worker-bin", worker,
             "--python", "/usr/bin/python3", "--heartbeat-ms", "200", "--threshold-ms", "10000", "--log-level", "debug", *args],
            stdin=subprocess.DEVNULL, stderr=self.log)
        if up:
            self.up()

    def __enter__(self):
        return self

    def up(self, seconds=30):
        self.agent.until(lambda: self.agent.capacity and self.agent.capacity["free_slots"] + self.agent.capacity["running"] == self.n
                         and self.agent.capacity["window_tasks"] > 0, seconds, "%d workers up" % self.n)

    def exit(self, seconds=30):
        self.agent.until(lambda: self.p.poll() is not None, seconds, "the manager's end")
        return self.p.returncode

    def __exit__(self, kind, value, tb):
        left = children(self.p.pid)
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        for pid in left:
            if alive(pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.agent.close()
        self.ctx.term()
        if kind not in (None, Skip):
            self.log.seek(0)
            sys.stderr.write("".join("    " + x for x in self.log.readlines()[-40:]))
        self.log.close()
        shutil.rmtree(self.tmp, ignore_errors=True)

    def said(self):
        with open(self.log.name) as f:
            return f.read()

    def run(self, *ops, fn=FN, seconds=30):
        return self.agent.wait(self.agent.submit([json.dumps(o).encode() for o in ops], fn), seconds)

    def gate(self):
        """An operation that ends when open_gate is called."""
        return {"op": "echo", "until": os.path.join(self.tmp, "gate")}

    @contextlib.contextmanager
    def still(self):
        """What is sent meanwhile is read at once, one after the other."""
        self.p.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.p.send_signal(signal.SIGCONT)

    def open_gate(self):
        open(os.path.join(self.tmp, "gate"), "w").close()

    def submit(self, *ops, fn=FN):
        return self.agent.submit([json.dumps(o).encode() for o in ops], fn)


def value(r):
    assert r["status"] == peer.SUCCESS, r
    return json.loads(r["result"])


# ---- sessions and the way of a task ------------------------------------------------------------------------------

@test
def hello_and_capacity():
    with Rig(2) as g:
        h, c = g.agent.hello, g.agent.capacity
        assert (h["role"], h["slots"], h["name"], h["block"], h["pid"]) == (2, 2, "node-1", "b7", g.p.pid), h
        assert (h["min_major"], h["max_major"]) == (1, 2) and h["version"] and "os" in json.loads(h["runtime"]), h
        assert (c["slots"], c["free_slots"], c["queued"], c["running"], c["managers"]) == (2, 2, 0, 0, 1), c
        assert c["window_tasks"] == 2 * (1 + 0 + 2) and c["time_left_s"] == 0xffffffff, c
        assert os.stat(g.dir).st_mode & 0o777 == 0o700
        assert os.path.exists(g.dir + "/w.sock") and os.path.exists(g.dir + "/w1/here")


@test
def agents_of_other_versions():
    for v in peer.versions.OTHERS:
        with Rig(1, version=v) as g:
            h = g.agent.hello
            assert (h["min_major"], h["max_major"], h["minor"]) == (1, peer.wire.MAJOR, peer.wire.MINOR), h
            for _ in range(20 if v.newer else 0):       # more than it would take of malformed ones
                g.agent.raw(*v.unknown(g.agent.epoch))
            rs = g.run({"op": "echo", "x": 1}, {"op": "echo", "x": 2})
            assert [value(r)["x"] for r in rs] == [1, 2] and g.agent.sessions == 1, (v, rs)
            assert all(value(r)["session"] == [peer.wire.MAJOR, peer.wire.MINOR] for r in rs), "below it is a session of its own"
            # how a task ends that the manager itself answers for
            r = g.run({"op": "die"})[0]
            assert r["status"] == peer.FAILED, (v, r)
            g.agent.send(peer.DRAIN, v.encode("DRAIN", {"start": True}))
            g.agent.until(lambda: g.agent.capacity["window_tasks"] == 0, what="a drain under %s" % v)


@test
def workers_of_other_versions():
    for v in peer.versions.OTHERS:
        with Rig(1, worker_version=v) as g:
            rs = g.run({"op": "echo", "x": 1}, {"op": "functions"})
            assert value(rs[0])["x"] == 1 and value(rs[1])["count"] == 1, (v, rs)
            assert all(value(r)["session"] == list(v.session) for r in rs), (v, rs)


@test
def both_of_another_version():
    """An old worker below an old agent: nothing of the manager's own version leaks from one to the other."""
    for v in peer.versions.OTHERS:
        with Rig(1, worker_version=v, version=v) as g:
            r = g.run({"op": "echo", "x": 1})[0]
            assert value(r)["session"] == list(v.session), (v, r)


@test
def result_carries_stamps():
    with Rig(1) as g:
        before = time.time_ns()
        r = g.run({"op": "echo", "x": "é"})[0]
        s = r["stamps"]
        assert value(r)["x"] == "é" and value(r)["node"] == "node-1"
        assert s[0] == 1000 and before <= s[6] <= s[7] <= s[8] <= s[9] <= s[10] <= s[11] <= s[12] <= time.time_ns(), s


@test
def two_workers_share_the_tasks():
    with Rig(2) as g:
        ids = g.submit(g.gate(), g.gate())
        g.agent.until(lambda: g.agent.capacity["running"] == 2, what="both run at once")
        g.open_gate()
        assert len({value(r)["pid"] for r in g.agent.wait(ids)}) == 2


@test
def function_goes_to_a_worker_once():
    with Rig(1) as g:
        counts = [value(g.run({"op": "functions"})[0])["count"] for _ in range(3)]
        assert counts == [1, 1, 1], counts


@test
def missing_function_is_asked_for():
    with Rig(1) as g:
        other = uuid.uuid4().bytes
        ids = g.agent.submit([b'{"op": "echo"}'] * 3, other)
        g.agent.until(lambda: g.agent.missing, what="FUNCTION_MISSING")
        g.run({"op": "echo"})          # others do not wait behind it
        assert g.agent.missing == [other], "asked once"
        g.agent.send(peer.FUNCTION, peer.function(other, "x", "f"))
        g.agent.wait(ids)


@test
def task_whose_function_does_not_come_is_given_back():
    with Rig(1, args=["--threshold-ms", "600"]) as g:
        ids = g.agent.submit([b"{}"], uuid.uuid4().bytes)
        g.agent.until(lambda: g.agent.returned == ids, what="the task given back")
        assert not g.agent.results, g.agent.results


@test
def task_waits_for_its_function_while_the_agent_is_away():
    with Rig(1, args=["--threshold-ms", "4000"]) as g:
        other = uuid.uuid4().bytes
        ids = g.agent.submit([b'{"op": "echo"}'], other)
        g.agent.until(lambda: g.agent.missing, what="FUNCTION_MISSING")
        g.agent.answer = False
        g.agent.send(peer.BYE, peer.reason())
        g.agent.serve(6)               # longer than a task waits in a session
        g.agent.answer = True
        g.agent.until(lambda: g.agent.missing == [other] * 2, what="asked for in the new session")
        g.agent.send(peer.FUNCTION, peer.function(other, "x", "f"))
        value(g.agent.wait(ids)[0])
        assert not g.agent.returned and len(g.agent.copies) == 1, (g.agent.returned, g.agent.copies)


@test
def worker_that_misses_a_function_gets_it():
    with Rig(1) as g:
        assert value(g.run({"op": "forget"})[0])["count"] == 1
        assert not g.agent.missing


@test
def container_is_refused_not_ignored():
    with Rig(1) as g:
        fn = uuid.uuid4().bytes
        g.agent.functions[fn] = peer.function(fn, "x", "f", container="docker://busybox")
        r = g.run({"op": "echo"}, fn=fn)[0]
        assert (r["status"], r["code"], r["fault"]) == (peer.FAILED, 31, 2) and "busybox" in r["error"], r


@test
def burst_of_short_tasks():
    with Rig(2) as g:
        g.run(*[{"op": "echo"}] * 50)
        ids = g.submit(*[{"op": "echo", "n": n} for n in range(3000)])
        rs = g.agent.wait(ids, 60)
        assert [value(r)["n"] for r in rs] == list(range(3000))
        assert len(g.agent.copies) == 3050, "each result once"
        assert max(c["window_tasks"] for c in g.agent.capacities) > 2 * 3, "the window grows with short tasks"


@test
def large_payloads_and_results():
    with Rig(2) as g:
        for _ in range(2):      # no more than workers: what waits behind a call of a second, on a busy machine, is given back
            rs = g.run(*[{"op": "echo", "blob": "x" * (3 << 20), "n": n} for n in range(2)], seconds=30)
            assert [len(value(r)["blob"]) for r in rs] == [3 << 20] * 2


@test
def task_sent_twice_runs_once():
    with Rig(1) as g:
        f = peer.task(uuid.uuid4().bytes, FN, json.dumps(g.gate()).encode())
        g.agent.send(peer.FUNCTION, g.agent.functions[FN])
        g.agent.send(peer.TASK, f, f)
        g.agent.send(peer.TASK, f)
        g.agent.submit([b"{}"], uuid.uuid4().bytes)
        g.agent.until(lambda: g.agent.missing, what="all this is read")
        g.open_gate()
        g.agent.wait([f[4:20]])
        g.run({"op": "echo"})
        assert len(g.agent.copies) == 2, "the second one was not run"


@test
def running_is_reported():
    with Rig(1) as g:
        ids = g.submit(g.gate())
        g.agent.until(lambda: (ids[0], 4) in g.agent.states, what="TASK_STATE")
        g.open_gate()
        g.agent.wait(ids)


# ---- losses ------------------------------------------------------------------------------------------------------

@test
def killed_worker_is_replaced_and_its_task_run_again():
    with Rig(2) as g:
        once = os.path.join(g.tmp, "once")
        r = g.run({"op": "die", "once": once})[0]
        assert value(r)["attempt"] == 1 and r["attempt"] == 1, r
        g.up()
        assert len({value(x)["pid"] for x in g.run({"op": "echo", "s": 0.4}, {"op": "echo", "s": 0.4})}) == 2


@test
def deadly_task_ends_as_lost_and_harms_no_other():
    with Rig(2, args=["--retries-on-loss", "2"]) as g:
        g.run(*[{"op": "echo"}] * 40)   # short: now tasks are put behind one another
        ids = g.submit(*[{"op": "echo"}] * 20, {"op": "die"}, *[{"op": "echo"}] * 20)
        rs = g.agent.wait(ids, 60)
        lost = rs.pop(20)
        assert (lost["status"], lost["code"], lost["fault"], lost["detail"]) == (peer.FAILED, 28, 2, 9), lost
        assert lost["attempt"] == 2 and lost["stamps"][0] == 1000 and lost["stamps"][12] > 0, lost
        assert "node-1" in lost["error"] and "signal 9" in lost["error"] and lost["node"] == "node-1", lost
        assert all(r["status"] == peer.SUCCESS for r in rs)


@test
def no_retry():
    with Rig(1, args=["--no-retry"]) as g:
        r = g.run({"op": "die"})[0]
        assert r["code"] == 28 and r["attempt"] == 0, r
        value(g.run({"op": "echo"})[0])


@test
def silent_worker_is_killed():
    with Rig(1, args=["--threshold-ms", "1000", "--no-retry"]) as g:
        r = g.run({"op": "hang"}, seconds=20)[0]
        assert r["code"] == 28, r
        value(g.run({"op": "echo"})[0])


@test
def chatty_worker_does_not_fill_memory():
    """What is best effort is dropped while the agent reads more slowly than a worker talks."""
    with Rig(1, rcvhwm=2) as g:
        file = os.path.join(g.tmp, "said")
        task = g.submit({"op": "chatty", "n": 12000, "file": file})[0]
        end = time.monotonic() + 60
        while not os.path.exists(file) and time.monotonic() < end:
            g.agent.send(peer.HEARTBEAT)        # nothing is read
            time.sleep(0.1)
        with open("/proc/%d/status" % g.p.pid) as f:
            rss = int(dict(line.split(":", 1) for line in f)["VmRSS"].split()[0]) >> 10
        assert rss < (550 if sanitized(g.p.pid) else 250), "the manager has %d MiB" % rss     # of 750
        g.agent.wait([task], 60)
        assert g.agent.states == [(task, 4)] and 0 < g.agent.outputs < 12000, (len(g.agent.states), g.agent.outputs)


@test
def strays_of_a_dead_worker_are_killed():
    with Rig(1) as g:
        file = os.path.join(g.tmp, "pid")
        worker = value(g.run({"op": "stray", "file": file})[0])["pid"]
        with open(file) as f:
            stray = int(f.read())
        assert alive(stray)
        os.kill(worker, signal.SIGKILL)
        g.agent.until(lambda: not alive(stray), what="the stray's end")
        value(g.run({"op": "echo"})[0])


@test
def worker_program_that_is_missing():
    with Rig(1, worker="/nonexistent/weft-worker", up=False) as g:
        g.agent.until(lambda: g.agent.capacity and g.agent.capacity["slots"] == 0, what="no slots")
        assert g.agent.capacity["window_tasks"] == 0 and g.p.poll() is None
        ids = g.submit({"op": "echo"})   # sent all the same
        g.agent.until(lambda: g.agent.returned == ids, 30, "given back")


# ---- cancel, give back, drain ------------------------------------------------------------------------------------

@test
def cancel():
    with Rig(1) as g:
        with g.still():                 # else the second one may have been given back
            running, queued, kept = g.submit({"op": "echo", "s": 300}, {"op": "echo"}, {"op": "echo"})
            g.agent.send(peer.CANCEL, queued)
        r = g.agent.wait([queued])[0]
        assert (r["status"], r["code"]) == (peer.CANCELLED, 12) and r["stamps"][0] == 1000 and r["stamps"][7] == 0, r
        g.agent.send(peer.CANCEL, uuid.uuid4().bytes)   # unknown: nothing happens
        g.agent.send(peer.CANCEL, running)
        assert g.agent.wait([running])[0]["status"] == peer.CANCELLED
        g.agent.until(lambda: kept in g.agent.results or kept in g.agent.returned, what="the third one's end")


@test
def cancelled_task_of_a_lost_worker_is_not_run_again():
    with Rig(1) as g:
        ids = g.submit({"op": "hang"})
        g.agent.until(lambda: g.agent.capacity["running"] == 1, what="it runs")
        g.agent.send(peer.CANCEL, *ids)
        assert g.agent.wait(ids)[0]["status"] == peer.CANCELLED


@test
def worker_that_not_even_sigkill_ends_holds_no_task():
    with Rig(2, args=["--threshold-ms", "1000"]) as g:
        stuck = {value(r)["pid"] for r in g.run(*[{"op": "echo", "s": 0.3}] * 2)}
        assert len(stuck) == 2
        for pid in stuck:              # the end of a traced process is told to its tracer, to its parent only afterwards
            if ctypes.CDLL(None, use_errno=True).ptrace(PTRACE_SEIZE, pid, None, None) < 0:
                raise Skip("no process may be traced here: %s" % os.strerror(ctypes.get_errno()))
        marks = [os.path.join(g.tmp, "hangs-%d" % k) for k in range(2)]
        ids = g.submit(*[{"op": "hang", "once": m} for m in marks])
        g.agent.until(lambda: all(map(os.path.exists, marks)), what="both hang")
        g.agent.send(peer.CANCEL, ids[1])
        again, cancelled = g.agent.wait(ids)
        assert value(again)["attempt"] == 1 and value(again)["pid"] not in stuck and cancelled["status"] == peer.CANCELLED, (again, cancelled)
        assert stuck <= set(children(g.p.pid)), "they are there still"
        for pid in stuck:              # now they end
            os.waitpid(pid, 0)
        g.agent.until(lambda: not stuck & set(children(g.p.pid)), what="their end collected")
        g.up()
        value(g.run({"op": "echo"})[0])


@test
def queue_behind_long_calls_is_given_back():
    with Rig(2) as g:
        ids = g.submit(*[g.gate()] * 6)
        g.agent.until(lambda: len(g.agent.returned) == 4, 30, "four tasks given back")
        assert sorted(g.agent.returned) == sorted(ids[2:]), "those that do not run"
        g.agent.until(lambda: g.agent.capacity["window_tasks"] == 2, what="a window of the workers only")
        g.open_gate()
        g.agent.wait(ids[:2])
        g.agent.until(lambda: g.agent.capacity["window_tasks"] > 2, what="a wider window when workers are idle")
        assert len(g.agent.returned) == 4


@test
def tasks_behind_an_unexpectedly_long_call_are_taken_back():
    with Rig(2) as g:
        g.run(*[{"op": "echo"}] * 60)
        long, *short = g.submit(g.gate(), *[{"op": "echo"}] * 30)
        g.agent.wait(short)             # by the other worker
        assert long not in g.agent.results
        g.open_gate()
        g.agent.wait([long])
        assert not g.agent.returned and len(g.agent.copies) == 91


@test
def drain_gives_back_and_ends():
    with Rig(2) as g:
        ids = g.submit(*[g.gate()] * 5)
        g.agent.until(lambda: g.agent.capacity["running"] == 2, what="two run")
        g.agent.send(peer.DRAIN, peer.drain(True))
        g.agent.until(lambda: len(g.agent.returned) == 3, what="what does not run given back")
        g.open_gate()
        assert g.exit() == 0
        assert sorted(g.agent.results) == sorted(ids[:2]) and sorted(g.agent.returned) == sorted(ids[2:])
        g.agent.until(lambda: g.agent.byes, what="BYE")     # it may stand in the socket still
        assert g.agent.capacity["window_tasks"] == 0
        assert not os.path.exists(g.dir), os.listdir(g.dir)


@test
def task_that_comes_while_draining_is_given_back():
    with Rig(1) as g:
        first = g.submit(g.gate())
        g.agent.until(lambda: g.agent.capacity["running"] == 1, what="it runs")
        g.agent.send(peer.DRAIN, peer.drain(True))
        late = g.submit({"op": "echo"})
        g.agent.until(lambda: g.agent.returned == late, what="given back")
        g.open_gate()
        g.agent.wait(first)
        assert g.exit() == 0


@test
def drain_can_be_ended():
    with Rig(2) as g:
        ids = g.submit(g.gate())
        g.agent.until(lambda: g.agent.capacity["running"] == 1, what="it runs")
        g.agent.send(peer.DRAIN, peer.drain(True))
        g.agent.until(lambda: g.agent.capacity["window_tasks"] == 0, what="no window")
        g.agent.serve(0.2)              # the idle worker leaves meanwhile
        g.agent.send(peer.DRAIN, peer.drain(False))
        g.open_gate()
        g.agent.wait(ids)
        g.up()
        assert all(value(r) for r in g.run({"op": "echo"}, {"op": "echo"})) and g.p.poll() is None


@test
def drains_itself_before_the_time_is_over():
    with Rig(1, args=["--time-left-s", "10"]) as g:     # that is one second before
        assert g.agent.capacity["time_left_s"] <= 10
        assert g.exit() == 0
        g.agent.until(lambda: g.agent.byes, what="BYE")     # it may stand in the socket still
        assert g.agent.drains and g.agent.drains[0]["start"]


@test
def curve_to_the_agent():
    server, mine = zmq.curve_keypair(), zmq.curve_keypair()
    with tempfile.NamedTemporaryFile("wb") as key:     # mode 0600
        key.write(b"public = %s\nsecret = %s\n" % mine)
        key.flush()
        with Rig(1, args=["--server-key", server[0].decode(), "--key-file", key.name], curve=server) as g:
            value(g.run({"op": "echo"})[0])


# ---- the agent ---------------------------------------------------------------------------------------------------

@test
def results_are_kept_until_acknowledged():
    with Rig(1) as g:
        g.agent.ack = False
        ids = g.submit({"op": "echo"}, {"op": "echo"})
        g.agent.wait(ids)
        g.agent.send(peer.BYE, peer.reason())
        g.agent.ack = True
        g.agent.until(lambda: g.agent.sessions == 2 and len(g.agent.copies) == 4, 30, "both once more in a new session")
        assert [r["id"] for r in g.agent.copies[2:]] == ids
        g.run({"op": "echo"})
        assert len(g.agent.copies) == 5


@test
def work_goes_on_while_the_agent_is_away():
    with Rig(1, args=["--threshold-ms", "2000"]) as g:
        first, *ids = g.submit({"op": "echo"}, {"op": "echo", "s": 0.4}, {"op": "echo"})
        g.agent.wait([first])
        g.agent.close()                # before the last one has waited long enough to be given back
        time.sleep(0.6)                # the others end meanwhile; there is nobody who could tell
        old, g.agent = g.agent, peer.Agent(g.ctx, g.agent_path)
        g.agent.functions = old.functions
        g.agent.wait([i for i in ids if i not in old.returned and i not in old.results])    # a very slow machine had the time for that
        assert value(g.run({"op": "functions"})[0])["count"] == 1, "workers keep their session"


@test
def what_it_has_is_told_in_a_new_session():
    """The agent has taken it for lost: it says whether that is anybody's still."""
    with Rig(1) as g:
        running, next_one = g.submit(g.gate(), {"op": "echo"})
        g.agent.until(lambda: (running, 4) in g.agent.states and next_one in g.agent.returned, what="one runs, the other is not kept behind it")
        for n in (2, 3):
            del g.agent.states[:]
            g.agent.send(peer.BYE, peer.reason())
            g.agent.until(lambda: g.agent.sessions == n and g.agent.states, what="TASK_STATE in session %d" % n)
            assert g.agent.states == [(running, 4)], g.agent.states
        g.agent.send(peer.CANCEL, running)
        assert g.agent.wait([running])[0]["status"] == peer.CANCELLED
        g.run({"op": "echo"})


@test
def lost_with_its_worker_and_without_a_session():
    """Whether it begins once more is the agent's to say."""
    with Rig(1) as g:
        ran = os.path.join(g.tmp, "ran")
        ids = g.submit({"op": "hang", "file": ran})
        g.agent.until(lambda: g.agent.capacity["running"] == 1 and os.path.exists(ran), what="it runs")
        worker = children(g.p.pid)[0]
        g.agent.answer = False
        g.agent.send(peer.BYE, peer.reason())
        g.agent.until(lambda: "session with the agent ended" in g.said(), what="the end of the session")
        os.kill(worker, signal.SIGKILL)
        g.agent.until(lambda: len([c for c in children(g.p.pid) if c != worker]) == 1, what="another worker")
        g.agent.answer = True
        g.agent.until(lambda: g.agent.sessions == 2 and g.agent.capacity["free_slots"] == 1, what="a free slot in the next session")
        g.run({"op": "echo"})
        with open(ran) as f:
            assert f.read() == "x" and ids[0] not in g.agent.results, "it began once"


@test
def manager_without_agent_ends():
    with Rig(1, args=["--orphan-timeout", "1s"]) as g:
        kids = children(g.p.pid)
        assert kids
        g.agent.close()
        assert g.p.wait(60) == 1
        assert not any(map(alive, kids))
        g.agent = peer.Agent(g.ctx, g.agent_path)


@test
def malformed_messages_do_no_harm():
    with Rig(1) as g:
        good = peer.task(uuid.uuid4().bytes, FN, b'{"op": "echo"}')
        h = lambda kind, n: peer.header(kind, n, g.agent.epoch)
        cases = [
            [b"Wf"], [b"xx" + h(peer.TASK, 1)[2:], good], [h(peer.TASK, 2), good], [h(peer.TASK, 1), good[:100]], [h(peer.TASK, 1), good + b"x"],
            [h(peer.TASK, 2), good, b"\x00" * 124],     # one bad record: nothing of the message takes effect
            [h(peer.CANCEL, 1), b"x" * 17], [h(peer.FUNCTION, 1), b"\x28\x00" + b"\xff" * 38], [h(peer.DRAIN, 1), b""], [h(peer.RESULT, 1), good],
            [h(99, 0)], [peer.header(peer.TASK, 1, g.agent.epoch, major=9), good],
        ]
        for frames in cases:
            g.agent.raw(*frames)
        value(g.run({"op": "echo"})[0])
        assert g.agent.sessions == 1 and good[4:20] not in g.agent.results, "nothing of them took effect"
        for _ in range(20):
            g.agent.raw(h(peer.TASK, 1), b"junk")
        g.agent.until(lambda: g.agent.sessions == 2, 30, "the session is refused and begun anew")
        assert g.agent.rejects and g.agent.rejects[0][0] == 2, g.agent.rejects
        value(g.run({"op": "echo"})[0])


@test
def worker_that_talks_nonsense_is_replaced():
    with Rig(1, args=["--no-retry"]) as g:
        assert value(g.run({"op": "malformed", "n": 5})[0])
        assert g.run({"op": "malformed", "n": 20})[0]["code"] == 28
        g.agent.until(lambda: g.agent.capacity["window_tasks"] > 0, what="a worker")
        assert value(g.run({"op": "echo"})[0])


@test
def stranger_on_the_workers_socket_is_refused():
    with Rig(1) as g:
        s = g.ctx.socket(zmq.DEALER)
        s.linger = 0
        s.connect("ipc://" + g.dir + "/w.sock")
        s.send_multipart([peer.header(peer.HELLO, 1), peer.hello(3, uuid.uuid4().bytes)])
        assert s.poll(30000)
        kind, _, _ = peer.header_of(s.recv_multipart()[0])
        assert kind == peer.REJECT
        s.send_multipart([peer.header(peer.RESULT, 1), b"x"])
        s.close()
        value(g.run({"op": "echo"})[0])


# ---- the end -----------------------------------------------------------------------------------------------------

@test
def more_connections_than_descriptors():
    """A function in a container has the socket of its worker, and connects to it as often as it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        g = Rig(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with g:
        value(g.run({"op": "echo"})[0])
        flood, end = [], time.monotonic() + 60
        while len(flood) < 400 and time.monotonic() < end:
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            try:
                s.connect(g.dir + "/w.sock")
                flood.append(s)
            except BlockingIOError:     # the queue of the listening socket is full
                s.close()
                time.sleep(0.01)
        g.agent.until(lambda: "a connection was refused" in g.said(), 30, "the end of its patience")
        value(g.run({"op": "echo"})[0])
        assert g.p.poll() is None and len(os.listdir("/proc/%d/fd" % g.p.pid)) <= 225
        for s in flood:
            s.close()
        value(g.run({"op": "die", "once": os.path.join(g.tmp, "once")}, seconds=60)[0])


@test
def sigterm_stops_everything():
    with Rig(2) as g:
        file = os.path.join(g.tmp, "pid")
        g.run({"op": "stray", "file": file})
        ids = g.submit(*[{"op": "echo", "s": 300}] * 4)
        g.agent.until(lambda: g.agent.capacity["running"] == 2, what="two run")
        kids = children(g.p.pid)
        with open(file) as f:
            kids.append(int(f.read()))
        g.p.send_signal(signal.SIGTERM)
        assert g.exit() == 0
        g.agent.until(lambda: g.agent.byes, what="BYE")
        assert set(ids[2:]) <= set(g.agent.returned) and not set(ids[:2]) & set(g.agent.returned)
        assert len(kids) >= 3 and not any(map(alive, kids))
        assert not os.path.exists(g.dir), os.listdir(g.dir)


@test
def killed_manager_leaves_no_process():
    with Rig(3) as g:
        g.submit(*[{"op": "echo", "s": 300}] * 3)
        g.agent.until(lambda: g.agent.capacity["running"] == 3, what="three run")
        kids = children(g.p.pid)
        g.p.kill()
        g.p.wait()
        assert len(kids) == 3
        g.agent.until(lambda: not any(map(alive, kids)), what="the workers' end")


@test
def next_manager_cleans_the_directory():
    with Rig(1) as g:
        g.p.kill()
        g.p.wait()
        os.makedirs(g.dir + "/w7/deep/er")
        open(g.dir + "/w7/deep/file", "w").close()
        open(g.dir + "/mine", "w").close()
        os.symlink("/etc", g.dir + "/w7/link")
        g.p = subprocess.Popen(g.p.args, stdin=subprocess.DEVNULL, stderr=g.log)
        g.agent.until(lambda: g.agent.sessions == 2, what="its session")
        g.agent.capacity = None         # the one before may have said something that was not read
        g.up()
        assert sorted(os.listdir(g.dir)) == ["mine", "w.sock", "w0"] and os.path.exists("/etc/passwd")


@test
def directory_is_made_with_its_parents():
    with Rig(1, dir_name="not/yet/there") as g:
        assert os.stat(g.tmp + "/not").st_mode & 0o777 == 0o700
        value(g.run({"op": "echo"})[0])


@test
def long_directory_gets_a_short_socket():
    with Rig(1, dir_name="d" * 120) as g:
        value(g.run({"op": "echo"})[0])
        short = [p for p in listening(g.p.pid) if p.startswith("/tmp/weft-m-") and p.endswith("/w.sock")]
        assert len(short) == 1 and os.stat(os.path.dirname(short[0])).st_mode & 0o777 == 0o700, short
        g.p.terminate()
        assert g.exit() == 0
        assert not os.path.exists(os.path.dirname(short[0]))


@test
def bad_options_are_refused():
    exe = os.path.join(BUILD, "bin", "weft-manager")
    for args in ([], ["--dir", "/tmp/weft-none"], ["--connect", "x", "--dir", "/tmp/weft-none", "--endpoint-id", "1"],
                 ["--connect", "x", "--dir", "/tmp/weft-none", "--retries-on-kill", "many"], ["--log-level", "loud"], ["--workers", "0"]):
        p = subprocess.run([exe, *args], capture_output=True, text=True, timeout=20)
        assert p.returncode == 2 and p.stderr, (args, p)
    with tempfile.TemporaryDirectory() as tmp:
        key = tmp + "/key"
        pair = zmq.curve_keypair()
        for text, mode in ((b"secret = " + pair[1], 0o644), (b"nothing here", 0o600)):
            with open(key, "wb") as f:
                f.write(text)
            os.chmod(key, mode)
            p = subprocess.run([exe, "--connect", "tcp://127.0.0.1:1", "--dir", tmp + "/d", "--server-key", pair[0].decode(), "--key-file",
                                key], capture_output=True, text=True, timeout=20)
            assert p.returncode == 1 and "key" in p.stderr, p
        assert pair[1].decode() not in p.stderr


# ---- the real worker ---------------------------------------------------------------------------------------------

def real():
    exe = os.path.join(BUILD, "bin", "weft-worker")
    if not os.path.exists(exe):
        raise Skip("weft-worker is not built")
    return exe


def real_python(g):
    fn = uuid.uuid4().bytes
    g.agent.functions[fn] = peer.function(fn, """
import os, signal, subprocess, time
def f(op, x=None):
    if op == "family":      # a child with a child, and one in a session of its own; x: where their pids go
        held = b"x" * (300 << 20)   # a process that takes its time to die
        kids = [subprocess.Popen(["sh", "-c", "sleep 600 & echo $! > %s.sleep; wait; :" % x]), subprocess.Popen(["setsid", "sleep", "600"])]
        while not (os.path.exists(x + ".sleep") and open(x + ".sleep").read().endswith("\\n")): time.sleep(0.01)
        with open(x + ".new", "w") as out: out.write("%d %d %s" % (kids[0].pid, kids[1].pid, open(x + ".sleep").read()))
        os.rename(x + ".new", x)
        return kids[0].wait() if held else None
    if op == "pid": return os.getpid()
    if op == "double": return 2 * x
    if op == "raise": raise ValueError(x)
    if op == "sleep": time.sleep(x); return "slept"
    while op == "gate" and not os.path.exists(x): time.sleep(0.01)
""", "f")
    return fn


def call(g, fn, *args, **more):
    return g.agent.wait(g.agent.submit([json.dumps({"args": args}).encode()], fn), **more)[0]


@test
def real_python_tasks():
    with Rig(2, worker=real()) as g:
        fn = real_python(g)
        ids = g.agent.submit([json.dumps({"args": ["double", n]}).encode() for n in range(500)], fn)
        assert [value(r) for r in g.agent.wait(ids, 60)] == [2 * n for n in range(500)]
        r = call(g, fn, "raise", "no good")
        assert (r["status"], r["code"], r["fault"]) == (peer.FAILED, 20, 1) and "no good" in r["error"], r


@test
def real_command_tasks():
    with Rig(1, worker=real()) as g:
        fn = uuid.uuid4().bytes
        g.agent.functions[fn] = peer.function(fn, json.dumps({"argv": ["tr", "a-z", "A-Z"]}), "", kind=peer.COMMAND)
        r = g.agent.wait(g.agent.submit([b"weft"], fn), 30)[0]
        assert r["status"] == peer.SUCCESS and r["result"] == b"WEFT", r


@test
def real_worker_killed():
    with Rig(1, worker=real()) as g:
        fn = real_python(g)
        runner = value(call(g, fn, "pid", seconds=30))
        ids = g.agent.submit([json.dumps({"args": ["gate", os.path.join(g.tmp, "gate")]}).encode()], fn)
        g.agent.until(lambda: g.agent.capacity["running"] == 1, what="it runs")
        os.kill([p for p in children(g.p.pid) if p != runner][0], signal.SIGKILL)
        g.open_gate()
        r = g.agent.wait(ids, 30)[0]
        assert value(r) is None and r["attempt"] == 1, r
        g.agent.until(lambda: not alive(runner), what="the old runner's end")


def family(g, fn, name):
    """The pids of what a call started, which runs on."""
    path = os.path.join(g.tmp, name)
    g.agent.submit([json.dumps({"args": ["family", path]}).encode()], fn)
    g.agent.until(lambda: os.path.exists(path), 30, "a call with processes of its own")
    with open(path) as f:
        return list(map(int, f.read().split()))


@test
def real_killed_worker_leaves_nothing_of_a_call():
    for _ in range(3):
        with Rig(1, worker=real()) as g:
            fn = real_python(g)
            runner = value(call(g, fn, "pid", seconds=30))
            pids = family(g, fn, "family")
            os.kill([p for p in children(g.p.pid) if p not in [runner, *pids]][0], signal.SIGKILL)
            g.agent.until(lambda: not any(map(alive, pids)), 30, "the end of what the call started")


@test
def real_cancel_and_give_back():
    with Rig(1, worker=real()) as g:
        fn = real_python(g)
        value(call(g, fn, "double", 1, seconds=30))
        ids = g.agent.submit([json.dumps({"args": ["sleep", 300]}).encode()] * 2, fn)
        g.agent.until(lambda: g.agent.returned == ids[1:], 30, "the second one given back")
        g.agent.send(peer.CANCEL, ids[0])
        assert g.agent.wait(ids[:1])[0]["status"] == peer.CANCELLED
        assert value(call(g, fn, "double", 4, seconds=30)) == 8


@test
def real_tasks_behind_a_long_call_are_taken_back():
    with Rig(2, worker=real()) as g:
        fn = real_python(g)
        gate = os.path.join(g.tmp, "gate")
        double, gated = (json.dumps({"args": a}).encode() for a in (["double", 1], ["gate", gate]))
        g.agent.wait(g.agent.submit([double] * 200, fn))
        long, *short = g.agent.submit([gated] + [double] * 30, fn)
        g.agent.until(lambda: sum(i in g.agent.results for i in short) >= 29, what="all but what was in the pipe")
        assert long not in g.agent.results
        g.open_gate()
        g.agent.wait([long, *short])


@test
def real_drain():
    with Rig(2, worker=real()) as g:
        fn = real_python(g)
        value(call(g, fn, "double", 1, seconds=30))
        ids = g.agent.submit([json.dumps({"args": ["gate", os.path.join(g.tmp, "gate")]}).encode()] * 4, fn)
        g.agent.until(lambda: g.agent.capacity["running"] == 2, what="two run")
        g.agent.send(peer.DRAIN, peer.drain(True))
        g.agent.until(lambda: len(g.agent.returned) == 2, what="what does not run given back")
        g.open_gate()
        assert g.exit() == 0
        assert len(g.agent.results) == 3 and len(g.agent.returned) == 2 and set(ids) <= set(g.agent.results) | set(g.agent.returned), \
            (ids, list(g.agent.results), list(g.agent.returned))


@test
def real_killed_manager_leaves_no_process():
    with Rig(2, worker=real()) as g:
        fn = real_python(g)
        value(call(g, fn, "double", 1, seconds=30))
        g.agent.submit([json.dumps({"args": ["sleep", 300]}).encode()] * 2, fn)
        g.agent.until(lambda: g.agent.capacity["running"] == 2, what="two run")
        kids = children(g.p.pid)
        g.p.kill()
        g.p.wait()
        g.agent.until(lambda: not any(map(alive, kids)), what="the end of workers and runners")


@test
def real_killed_manager_leaves_nothing_of_a_call():
    """Neither does one whose worker is stopped at that moment."""
    for stopped in (False, True):
        with Rig(1, worker=real()) as g:
            fn = real_python(g)
            runner = value(call(g, fn, "pid", seconds=30))
            pids = family(g, fn, "family")
            kids = children(g.p.pid)
            assert set(pids) < set(kids), (pids, kids)
            worker = [p for p in kids if p not in [runner, *pids]][0]
            if stopped:
                os.kill(worker, signal.SIGSTOP)
                g.agent.until(lambda: state(worker) == "T", what="it is stopped")
            g.p.kill()
            g.p.wait()
            try:
                g.agent.until(lambda: not any(map(alive, kids)), 30, "the end of all that it started")
            finally:
                for pid in filter(alive, kids):
                    os.kill(pid, signal.SIGKILL)


def main():
    global BUILD
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build")
    p.add_argument("names", nargs="*", help="only tests whose name contains one of these")
    o = p.parse_args()
    BUILD = os.path.abspath(o.build)
    passed = failed = skipped = 0
    for t in TESTS:
        if o.names and not any(n in t.__name__ for n in o.names):
            continue
        try:
            t()
            passed += 1
            print("ok - " + t.__name__, flush=True)
        except Skip as e:
            skipped += 1
            print("skip - %s: %s" % (t.__name__, e), flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print("not ok - " + t.__name__, flush=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


sys.exit(main())

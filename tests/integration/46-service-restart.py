#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N service processes on one port: replaced one by one while requests are open, killed while others serve, stopped in good order."""
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Fabric, address, call, connection, main, pids_of, register, wait_for  # noqa: E402

FN = {}


def make(build):
    return Fabric(build, workers=2, processes=3)


def begin(report, f):
    FN["echo"] = register(f, "import time\ndef echo(x, s=0):\n    time.sleep(s)\n    return x", "echo")
    FN["more"] = [register(f, "def f(x): return x + %d" % i, "f") for i in range(3)]
    report.check("three service processes and their master", len(pids_of(f, "service")) == 3 and len(pids_of(f, "service-master")) == 1, f.pids())
    answers = set()
    for i in range(40):         # a connection each: the kernel spreads them
        c = connection(f)
        c.request("POST", "/v3/endpoints/%s/submit?wait=40" % f.endpoint, json.dumps({"tasks": {FN["more"][i % 3]: ['{"args": [%d]}' % i]}}),
                  {"Authorization": "Bearer " + f.token})
        r = c.getresponse()
        doc = list(json.loads(r.read())["results"].values())[0]
        answers.add((r.status, doc["status"], int(doc.get("result", -1)) - i - i % 3))
        c.close()
    report.check("what one process registers all serve", answers == {(200, "success", 0)}, answers)


def held(pid, inodes):
    """How many of these sockets the process has."""
    fds = "/proc/%d/fd" % pid
    return sum(os.readlink(os.path.join(fds, x)) in inodes for x in os.listdir(fds))


def shared(report, f):
    """Connections are spread over the processes."""
    pids, port = pids_of(f, "service"), address(f)[1]
    open_ = [socket.create_connection(address(f), timeout=100) for _ in range(90)]
    ours = {c.getsockname()[1] for c in open_}

    def shares():       # of ours only: earlier connections may be about to be closed
        with open("/proc/net/tcp") as table:
            rows = [line.split() for line in list(table)[1:]]
        ends = {"socket:[%s]" % r[9] for r in rows if int(r[1].split(":")[1], 16) == port and int(r[2].split(":")[1], 16) in ours}
        return sorted(held(p, ends) for p in pids)
    try:
        wait_for(lambda: sum(shares()) == 90, 30, "all are accepted")
        report.check("90 connections are spread over the three processes", shares()[0] >= 10, shares())
    finally:
        for c in open_:
            c.close()


class Load:
    """Clients that submit and wait, each on a connection of its own. A connection that was closed between two requests is made anew, as
    HTTP has it; every answer but 200 counts, and so does every request that got none."""

    def __init__(self, f, n=8, fresh=False):
        self.f, self.fresh, self.stop_, self.ok, self.bad, self.slept = f, fresh, False, 0, [], []
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(n)]
        for t in self.threads:
            t.start()

    def run(self, i):
        c = None
        while not self.stop_:
            try:
                reused = c is not None
                if c is None:
                    c = connection(self.f, timeout=40)
                s = 0.3 if i % 2 else 0
                c.request("POST", "/v3/endpoints/%s/submit?wait=20" % self.f.endpoint, json.dumps({"tasks": {FN["echo"]: [json.dumps({"args": [i, s]})]}}),
                          {"Authorization": "Bearer " + self.f.token})
                r = c.getresponse()
                body = json.loads(r.read())
                if r.status != 200:
                    self.bad.append((r.status, body))
                else:
                    doc = list(body["results"].values())
                    if not doc or doc[0].get("result") != str(i):
                        self.slept.append(body)
                    self.ok += 1
                if self.fresh or (r.headers.get("Connection") or "").lower() == "close":
                    c.close()
                    c = None
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as e:
                c = None
                if not reused:
                    self.bad.append(repr(e))
            except OSError as e:
                c = None
                self.bad.append(repr(e))

    def end(self):
        self.stop_ = True
        for t in self.threads:
            t.join(60)


def long_wait(f, seconds, out):
    c = connection(f, timeout=40)
    try:
        c.request("POST", "/v3/endpoints/%s/submit?wait=25" % f.endpoint, json.dumps({"tasks": {FN["echo"]: [json.dumps({"args": ["long", seconds]})]}}),
                  {"Authorization": "Bearer " + f.token})
        r = c.getresponse()
        out.append((r.status, json.loads(r.read())))
    except Exception as e:
        out.append((0, repr(e)))
    c.close()


def restart(report, f):
    master, = pids_of(f, "service-master")
    before, long_ = set(pids_of(f, "service")), []
    t = threading.Thread(target=long_wait, args=(f, 4, long_))
    t.start()
    load = Load(f)
    wait_for(lambda: load.ok > 30, 40, "load")
    began = time.monotonic()
    os.kill(master, signal.SIGHUP)

    def replaced():
        return len(pids_of(f, "service")) == 3 and not before & set(pids_of(f, "service"))
    wait_for(replaced, 40, "all processes replaced")
    took = time.monotonic() - began
    n = load.ok
    wait_for(lambda: load.ok > n + 30, 40, "load on the new processes")
    load.end()
    t.join(40)
    report.check("SIGHUP: all processes are new, the master is the same", replaced() and pids_of(f, "service-master") == [master])
    report.check("no request failed meanwhile", not load.bad, (load.ok, load.bad[:3]))
    report.check("and each had its result", not load.slept, load.slept[:2])
    report.check("a request that had been waiting got its result", long_ and long_[0][0] == 200 and
                 [d.get("result") for d in long_[0][1]["results"].values()] == ['"long"'], long_)
    print("# replaced after %.1f s, %d requests" % (took, load.ok))


def storm(report, f):
    """New connections all the time, and three restarts in a row."""
    master, = pids_of(f, "service-master")
    load = Load(f, n=4, fresh=True)
    for _ in range(3):
        before = set(pids_of(f, "service"))
        os.kill(master, signal.SIGHUP)
        wait_for(lambda: len(pids_of(f, "service")) == 3 and not before & set(pids_of(f, "service")), 40, "replaced")
    load.end()
    report.check("three restarts under new connections: no request failed", not load.bad and load.ok > 10, (load.ok, load.bad[:3]))


class Queue:
    """Requests on connections of their own, of which some wait in the queue of a process that stands still."""

    def __init__(self, f, n=30):
        ask = "GET /v3/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n" % f.token
        self.waiting, self.answers, self.bad = [], 0, []
        for _ in range(n):
            s = socket.create_connection(address(f), timeout=100)
            s.sendall(ask.encode())
            s.setblocking(False)
            self.waiting.append(s)

    def read(self):
        """How many still wait."""
        for s in list(self.waiting):
            try:
                got = s.recv(65536)
            except BlockingIOError:
                continue
            except OSError as e:
                got = repr(e).encode()
            self.waiting.remove(s)
            s.close()
            self.answers += 1
            if not got.startswith(b"HTTP/1.1 200 "):
                self.bad.append(got)
        return len(self.waiting)


def stand_still(f, pid):
    """Stop a process; returns requests of which some are in its queue, the others answered."""
    os.kill(pid, signal.SIGSTOP)
    q = Queue(f)
    last, since = q.read(), time.monotonic()
    while time.monotonic() - since < 2:     # the others answer within milliseconds; only its queue is left when nothing moves
        now = q.read()
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.02)
    return q


def queued(report, f):
    """Connections that wait in the queue of a process are not lost with it."""
    f._conn = None
    master, = pids_of(f, "service-master")
    before = set(pids_of(f, "service"))
    victim = min(before)
    q = stand_still(f, victim)
    report.check("a process that stands still has a queue", 0 < len(q.waiting) < 30 and not q.bad, (len(q.waiting), q.bad[:3]))
    os.kill(master, signal.SIGHUP)
    wait_for(lambda: not q.read(), 40, "the queue is served")
    report.check("SIGHUP: what was queued is answered", q.answers == 30 and not q.bad, q.bad[:3])
    wait_for(lambda: len(pids_of(f, "service")) == 3 and not before & set(pids_of(f, "service")), 40, "replaced")
    victim = min(pids_of(f, "service"))
    q = stand_still(f, victim)
    report.check("again", 0 < len(q.waiting) < 30 and not q.bad, (len(q.waiting), q.bad[:3]))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not q.read(), 40, "the queue is served")
    report.check("SIGKILL: the next process takes up what was queued", q.answers == 30 and not q.bad, q.bad[:3])


def counted(report, f):
    """/metrics tells of all processes, whichever answers, and forgets nothing that a process counted which is gone."""
    asked = r'weft_service_requests_total{route="whoami",status="2xx"} '

    def metrics():
        c = connection(f)
        c.request("GET", "/metrics")
        text = c.getresponse().read().decode()
        c.close()
        return text

    def value(text, name):
        return [float(line[len(name):]) for line in text.splitlines() if line.startswith(name)][0]

    def processes(n):
        wait_for(lambda: value(metrics(), "weft_service_workers ") == n, 40, "%d processes count" % n)
    processes(3)
    before = value(metrics(), asked)
    q = Queue(f)
    wait_for(lambda: not q.read(), 30, "answers")
    wait_for(lambda: value(metrics(), asked) >= before + 30, 30, "all are counted")     # each when its answer was given
    texts = [metrics() for _ in range(8)]
    report.check("each process tells of the requests to all of them", {value(t, asked) for t in texts} == {before + 30},
                 (before, [value(t, asked) for t in texts]))
    report.check("the histogram too", value(texts[0], 'weft_service_request_seconds_count{route="whoami"} ') >= before + 30)
    report.check("Redis is up for all", value(texts[0], "weft_service_redis_up ") == 1)
    idle = [socket.create_connection(address(f), timeout=100) for _ in range(20)]
    wait_for(lambda: value(metrics(), "weft_service_connections ") >= 20, 30, "open connections of all are seen")
    for s in idle:
        s.close()
    wait_for(lambda: value(metrics(), "weft_service_connections ") < 10, 30, "and that they are closed")
    victim = min(pids_of(f, "service"))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(pids_of(f, "service")) == 3 and victim not in pids_of(f, "service"), 40, "a new process")
    processes(3)
    report.check("what a killed process had counted stays", value(metrics(), asked) == before + 30, value(metrics(), asked))
    cpu, old = value(metrics(), "process_cpu_seconds_total "), set(pids_of(f, "service"))
    os.kill(pids_of(f, "service-master")[0], signal.SIGHUP)
    wait_for(lambda: len(pids_of(f, "service")) == 3 and not old & set(pids_of(f, "service")), 40, "replaced")
    processes(3)
    text = metrics()
    report.check("and what replaced ones had", value(text, asked) == before + 30 and value(text, "process_cpu_seconds_total ") >= cpu > 0, text[:300])
    report.check("memory is that of all", value(text, "process_resident_memory_bytes ") > 3 * 4e6, value(text, "process_resident_memory_bytes "))


def fewer(report, f):
    """The number of processes is changed: connections go to whoever is there."""
    master, = pids_of(f, "service-master")
    path = os.path.join(f.state, "service.yaml")
    with open(path) as s:
        good = s.read()
    three = "workers: 3"
    report.check("the configuration says three", three in good, good)
    load = Load(f, n=4, fresh=True)
    try:
        for n in (1, 3, 2, 3):
            before = set(pids_of(f, "service"))
            with open(path, "w") as s:
                s.write(good.replace(three, "workers: %d" % n))
            os.kill(master, signal.SIGHUP)
            wait_for(lambda: len(pids_of(f, "service")) == n and not before & set(pids_of(f, "service")), 40, "%d processes" % n)
            q = Queue(f)
            wait_for(lambda: not q.read(), 40, "all are answered by %d processes" % n)
            report.check("%d processes answer all" % n, not q.bad, q.bad[:3])
    finally:
        load.end()
        with open(path, "w") as s:
            s.write(good)
    report.check("and no request failed meanwhile", not load.bad and load.ok > 10, (load.ok, load.bad[:3]))


def overlapping(report, f):
    """A second SIGHUP while the processes of the first have not begun to serve: the newest stay, whoever is ready first."""
    master, = pids_of(f, "service-master")
    redis, = pids_of(f, "redis")
    old, held = set(pids_of(f, "service")), []

    def others(*known):
        return set(pids_of(f, "service")).difference(*known)
    try:
        os.kill(redis, signal.SIGSTOP)      # they wait for it
        held.append(redis)
        os.kill(master, signal.SIGHUP)
        wait_for(lambda: len(others(old)) == 3, 30, "the processes of the first SIGHUP")
        middle = others(old)
        os.kill(master, signal.SIGHUP)
        wait_for(lambda: len(others(old, middle)) == 3, 30, "those of the second")
        newest = others(old, middle)
        for pid in newest:
            os.kill(pid, signal.SIGSTOP)
            held.append(pid)
        os.kill(redis, signal.SIGCONT)
        held.remove(redis)
        wait_for(lambda: not old & set(pids_of(f, "service")), 60, "the old ones have gone")
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: len(pids_of(f, "service")) == 3, 60, "three processes")
    report.check("two SIGHUPs in a row: the newest processes stay", set(pids_of(f, "service")) == newest, (newest, pids_of(f, "service")))
    f._conn = None


def bad_config(report, f):
    """A configuration that is no good is refused, and the old one stays."""
    f._conn = None              # its process is gone
    master, = pids_of(f, "service-master")
    path = os.path.join(f.state, "service.yaml")
    with open(path) as s:
        good = s.read()
    before = pids_of(f, "service")
    try:
        with open(path, "w") as s:
            s.write(good + "no_such_key: 1\n")
        log = os.path.join(f.state, "log", "service.log")
        size = os.path.getsize(log)
        os.kill(master, signal.SIGHUP)

        def told():
            with open(log) as s:
                s.seek(size)
                return "no_such_key" in s.read()
        try:
            report.check("SIGHUP with a bad configuration: the log names the key", wait_for(told, 30, "log"))
        except TimeoutError as e:
            report.check("SIGHUP with a bad configuration: the log names the key", False, e)
        report.check("and the old processes serve on", pids_of(f, "service") == before and call(f, FN["echo"], 1)["status"] == "success")
    finally:
        with open(path, "w") as s:
            s.write(good)


def killed(report, f):
    f._conn = None
    victims = pids_of(f, "service")
    load = Load(f, n=6)
    wait_for(lambda: load.ok > 20, 40, "load")
    os.kill(victims[0], signal.SIGKILL)
    n = load.ok
    wait_for(lambda: load.ok > n + 30, 40, "load served by others")
    wait_for(lambda: len(pids_of(f, "service")) == 3, 30, "a new process")
    load.end()
    report.check("a service process is killed: the others serve, and a new one comes", victims[0] not in pids_of(f, "service"))
    # its own open requests break: that is what a client repeats, with its Idempotency-Key
    lost = [b for b in load.bad if not isinstance(b, str)]
    report.check("nobody got an error answer", not lost, lost[:3])
    report.check("requests broke only on connections of the killed process", len(load.bad) <= 6, load.bad)


def end(report, f):
    """SIGTERM: what is open is finished, new connections are refused."""
    out = []
    t = threading.Thread(target=long_wait, args=(f, 6, out))
    t.start()
    wait_for(lambda: f.http("GET", "/v3/tasks?status=running")[1]["tasks"], 30, "it runs")
    master, = pids_of(f, "service-master")
    old = set(pids_of(f, "service"))
    os.kill(master, signal.SIGTERM)
    t.join(30)
    report.check("SIGTERM: a waiting request is answered", out and out[0][0] == 200, out)
    wait_for(lambda: not old & set(pids_of(f, "service")), 40, "old processes gone")
    f._conn = None

    def back():
        try:
            s = socket.create_connection(address(f), timeout=10)
            s.close()
            return call(f, FN["echo"], 2)["status"] == "success"
        except (OSError, RuntimeError):
            f._conn = None
            return False
    report.check("the fabric starts the service again", wait_for(back, 30, "service"))


main(__doc__, [begin, shared, restart, storm, queued, counted, fewer, overlapping, bad_config, killed, end], make)

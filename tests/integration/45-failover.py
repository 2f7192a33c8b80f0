#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two supervisors of forwarders, as on two hosts: one is killed while tasks run, the other takes the endpoint over within the lease time,
and no task is lost or stored twice."""
import argparse
import atexit
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from relay import Relay  # noqa: E402
from service_helpers import Resp, free_port  # noqa: E402
from e2e import Report, descendants, gather, ok, processes, register, role, stored_wrongly, submit, wait_for  # noqa: E402

LEASE_S = 20.0      # of which a third less a look is left for the start of a forwarder, on a slow machine too
LOOK_S = 1.0        # of a supervisor at who serves
START_S = 8.0


class Hosts:
    """Redis, service, endpoint, and supervisors that come and go. Has what e2e's helpers ask of a fabric."""

    def __init__(self, build):
        self.bin = os.path.join(os.path.abspath(build), "bin")
        self.state = tempfile.mkdtemp(prefix="weft-t-")
        self.procs = {}
        atexit.register(self.stop)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def file(self, name, text, mode=0o600):
        path = os.path.join(self.state, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w") as s:
            s.write(text)
        os.chmod(path, mode)
        return path

    def spawn(self, name, *argv, **env):
        with open(os.path.join(self.state, name + ".log"), "ab") as log:
            e = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
            self.procs[name] = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.state, env=dict(e, **env))
        return self.procs[name]

    def start(self):
        port = free_port()
        me, sock = str(os.getpid()), os.path.join(self.state, "redis.sock")
        self.url = "http://127.0.0.1:%d" % port
        self.redis_url = "unix://" + sock
        self.spawn("redis", os.path.join(self.bin, "weft"), "__tie", me, "redis-server", "--port", "0", "--unixsocket", sock, "--dir", self.state, "--save", "")
        wait_for(lambda: os.path.exists(sock), 30, "redis")
        conf = self.file("service.yaml", "listen: 127.0.0.1:%d\nredis:\n  url: %s\nregistry:\n  path: %s/registry.db\n  cache: 20s\nauth:\n  token_file: %s/token\nendpoint:\n  stale: 4s\nworkers: 2\n"
                         % (port, self.redis_url, self.state, self.state))
        self.spawn("service", os.path.join(self.bin, "weft"), "__tie", me, os.path.join(self.bin, "weft-service"), "run", "--config", conf)
        wait_for(lambda: self.get("/readyz") == 200 and os.path.exists(self.state + "/token"), 30, "service")
        with open(self.state + "/token") as t:
            self.token = t.read().strip()
        self.supervisor("host-a")
        subprocess.run([os.path.join(self.bin, "weft-endpoint"), "configure", "ep"], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, WEFT_HOME=self.state))
        self.file("endpoints/ep/config.yaml", "service:\n  url: %s\n  token_file: %s/token\nworkers_per_node: 2\nscaling:\n  min_blocks: 1\n"
                  % (self.url, self.state))
        self.spawn("endpoint", os.path.join(self.bin, "weft"), "__tie", me, os.path.join(self.bin, "weft-endpoint"), "start", "ep", "--foreground", WEFT_HOME=self.state)

        def online():
            for e in ok(self.http("GET", "/v2/endpoints")):
                self.endpoint = e["uuid"]
                s = ok(self.http("GET", "/v2/endpoints/%s/status" % self.endpoint))
                if s["status"] == "online" and s["details"]["total_workers"] == 2:
                    return True
            return False
        wait_for(online, 30, "endpoint")

    def supervisor(self, name, redis_url=None):
        return self.spawn(name, os.path.join(self.bin, "weft"), "__tie", str(os.getpid()), os.path.join(self.bin, "weft-forwarder"), "supervise",
                          "--config", os.devnull, "--set", "redis.url=" + (redis_url or self.redis_url),
                          "--set", "lease=%gs" % LEASE_S, "--set", "heartbeat.period=500ms")

    def get(self, path):
        try:
            return self.http("GET", path)[0]
        except OSError:
            return 0

    token = ""

    def http(self, method, path, body=None, timeout=60, token=None):
        c = http.client.HTTPConnection(self.url[len("http://"):], timeout=timeout)
        try:
            c.request(method, path, None if body is None else json.dumps(body), {"Authorization": "Bearer " + (token or self.token)})
            r = c.getresponse()
            text = r.read()
        finally:
            c.close()
        try:
            return r.status, json.loads(text)
        except ValueError:
            return r.status, text.decode("utf-8", "replace")

    def serving(self):
        """Names of the supervisors whose forwarder of the endpoint runs."""
        return [n for n, p in self.procs.items() if n.startswith("host") and p.poll() is None and
                any(role(a) == "forwarder" and self.endpoint in a for a in descendants(p.pid).values())]

    def logs(self):
        out = []
        for name in sorted(os.listdir(self.state)):
            if name.endswith(".log"):
                with open(os.path.join(self.state, name), errors="replace") as s:
                    out.append("== %s\n%s" % (name, s.read()[-3000:]))
        return "\n".join(out)

    def stop(self):
        mine = {}
        for name in ("endpoint", "host-a", "host-b", "host-c", "host-d", "host-e", "service", "redis"):
            p = self.procs.get(name)
            if p is None:
                continue
            mine.update(descendants(p.pid))
            if p.poll() is None:
                p.terminate()
                try:
                    p.wait(15)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
        self.procs = {}
        live = processes()
        for pid, argv in mine.items():
            if pid in live and live[pid][1] == argv:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        shutil.rmtree(self.state, ignore_errors=True)


SOURCE = '''
import os, time
def work(i, log, s=0.01):
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"%d\\n" % i)
    os.close(fd)
    time.sleep(s)
    return i * 3
'''


def just_renewed(h):
    """The worst moment to die: all of the lease has to run out."""
    redis = Resp(h.redis_url[len("unix://"):])
    left = []

    def renewed():
        left.append(redis("PTTL", "weft:ep:{%s}:lease" % h.endpoint))
        return len(left) > 1 and left[-1] > left[-2]
    wait_for(renewed, 30, "the lease to be renewed")
    redis.close()


def take_over(report, h, first, second, how):
    log = os.path.join(h.state, "ran")
    if os.path.exists(log):
        os.unlink(log)
    fn = register(h, SOURCE, "work")
    total, seen, errors = 600, {}, []
    ids, answer = submit(h, fn, [{"args": [i, log, 0.03]} for i in range(total)], create_queue=True)
    group = answer["task_group_id"]
    stop = threading.Event()

    def watch():
        """Every end state that is ever shown."""
        while not stop.is_set():
            try:
                docs = ok(h.http("POST", "/v3/batch_status", {"task_ids": ids}))["results"]
            except Exception as e:
                errors.append(repr(e))
                continue
            for t, d in docs.items():
                if d["status"] in ("success", "failed", "cancelled"):
                    seen.setdefault(t, set()).add((d["status"], d.get("result"), d["completion_t"]))
            stop.wait(0.1)
    w = threading.Thread(target=watch)
    w.start()
    try:
        wait_for(lambda: len(seen) > 50, 30, "some to end")
        just_renewed(h)
        began = time.monotonic()
        h.procs[first].send_signal(how)
        more = submit(h, fn, [{"args": [total + i, log]} for i in range(100)], task_group_id=group)[0]
        ids += more
        wait_for(lambda: h.serving() == [second], 60, "%s serving" % second)
        led = time.monotonic() - began
        one, a = submit(h, fn, [{"args": [7, log]}], wait=30)
        docs = gather(h, ids, 60)
        done = time.monotonic() - began
        bound = LEASE_S if how == signal.SIGKILL else LOOK_S + START_S      # who is told to stop lets go of the lease
        report.check("%s: the other host serves within %g s" % (how.name, bound), led < bound, led)
        report.check("%s: and tasks go on at once" % how.name, one[0] in a["results"] and a["results"][one[0]]["status"] == "success", a)
        wrong = [(t, docs.get(t)) for i, t in enumerate(ids) if docs.get(t, {}).get("result") != str(i * 3)]
        report.check("%s: no task is lost, each of %d has its result" % (how.name, len(ids)), not wrong, (len(wrong), wrong[:3]))
        wait_for(lambda: len(seen) == len(ids), 30, "all seen")
        stop.wait(0.3)
        changed = [s for s in seen.values() if len(s) > 1]
        report.check("%s: no end has changed once it was shown" % how.name, not changed, changed[:3])
        wrongly = stored_wrongly(h, group, ids)
        report.check("%s: each end was stored once" % how.name, not wrongly, sorted(wrongly.items())[:3])
        with open(log) as s:
            ran = len(s.read().split())
        print("# lead taken after %.2f s, all done after %.2f s, %d tasks run again" % (led, done, ran - len(ids) - 1))
        report.check("%s: clients saw no error" % how.name, not errors, errors[:3])
    finally:
        stop.set()
        w.join()


def lease(report, h):
    h.supervisor("host-b")
    time.sleep(LEASE_S + 2 * LOOK_S)        # the lease of the first has run out by then, if it is not renewed
    report.check("with two supervisors one serves", h.serving() == ["host-a"], h.serving())


def killed(report, h):
    take_over(report, h, "host-a", "host-b", signal.SIGKILL)


def stopped(report, h):
    h.supervisor("host-c")
    take_over(report, h, "host-b", "host-c", signal.SIGTERM)


def deleted(report, h):
    try:
        gone = wait_for(lambda: not h.serving(), 30, "no forwarder")
    except TimeoutError:
        gone = False
    report.check("a deleted endpoint has no forwarder", gone, h.serving())


def cut_off(report, h):
    """The only host that serves is cut off from Redis: the service says offline, and nothing is lost."""
    name, = h.serving()
    relay = Relay(lambda: h.redis_url[len("unix://"):])
    relay.start()
    h.supervisor("host-e", "redis://127.0.0.1:%d" % relay.port)
    h.procs[name].terminate()
    wait_for(lambda: h.serving() == ["host-e"], 60, "the host behind the wire serves")

    def status():
        return ok(h.http("GET", "/v2/endpoints/%s/status" % h.endpoint))["status"]
    wait_for(lambda: status() == "online", 30, "online")
    fn = register(h, SOURCE, "work")
    log = os.path.join(h.state, "ran")
    ids = submit(h, fn, [{"args": [i, log]} for i in range(200)])[0]
    relay.set_cut(True)
    ids += submit(h, fn, [{"args": [i, log]} for i in range(200, 230)])[0]
    try:
        off = wait_for(lambda: status() == "offline", 30, "offline")
    except TimeoutError:
        off = False
    report.check("a forwarder that is cut off from Redis: its endpoint is shown as offline", off, status())
    relay.set_cut(False)
    docs = gather(h, ids, 60)
    wrong = [(t, docs.get(t)) for i, t in enumerate(ids) if docs.get(t, {}).get("result") != str(i * 3)]
    report.check("and when it is back each task has its result", not wrong, (len(wrong), wrong[:2]))
    report.check("and it is online", wait_for(lambda: status() == "online", 30, "online"))


def deleted_through_another_worker(report, h):
    """One worker of the service deletes an endpoint, its forwarder is through with it, and others still have it in their caches."""
    fn = register(h, SOURCE, "work")
    ep = ok(h.http("POST", "/v3/endpoints", {"endpoint_name": "short-lived"}))["endpoint_id"]
    kept = [http.client.HTTPConnection(h.url[len("http://"):], timeout=60) for _ in range(8)]       # surely not all to one worker

    def through(c):
        c.request("POST", "/v3/endpoints/%s/submit" % ep, json.dumps({"tasks": {fn: ["{}"]}}), {"Authorization": "Bearer " + h.token})
        r = c.getresponse()
        return r.status, json.loads(r.read())
    ids = [ok(through(c))["tasks"][fn][0] for c in kept]
    ok(h.http("DELETE", "/v2/endpoints/" + ep))
    docs = gather(h, ids, 30)
    report.check("the tasks of a deleted endpoint are failed", all(d["status"] == "failed" for d in docs.values()), docs)
    redis = Resp(h.redis_url[len("unix://"):])
    wait_for(lambda: not redis("KEYS", "weft:ep:{%s}*" % ep), 30, "nothing left of it")
    answers = [through(c) for c in kept]
    report.check("each worker knows that it is deleted", all(s == 404 and a["code"] == "ENDPOINT_NOT_FOUND" for s, a in answers), answers)
    late = [a["tasks"][fn][0] for s, a in answers if s == 200]
    docs = gather(h, late, 5) if late else {}
    report.check("and no accepted task waits for ever", not [t for t in late if docs[t]["status"] != "failed"], docs)
    report.check("nothing of it comes back", not redis("KEYS", "weft:ep:{%s}*" % ep))
    for c in kept:
        c.close()


def deleted_while_nobody_serves(report, h):
    """The endpoint is deleted, with tasks in its queue, when every supervisor is dead: the next one ends them."""
    name, = h.serving()
    fn = register(h, SOURCE, "work")
    below = set(descendants(h.procs[name].pid))
    h.procs[name].kill()
    h.procs[name].wait()
    wait_for(lambda: not below & set(processes()), 30, "all that it started has died with it")
    ids = submit(h, fn, [{"args": [i, os.path.join(h.state, "ran")]} for i in range(50)])[0]
    ok(h.http("DELETE", "/v2/endpoints/" + h.endpoint))
    docs = ok(h.http("POST", "/v3/batch_status", {"task_ids": ids}))["results"]
    report.check("they wait while there is none", not any(d["status"] in ("success", "failed") for d in docs.values()))
    h.supervisor("host-d")
    docs = gather(h, ids, 60)
    report.check("a supervisor that starts later fails the tasks of a deleted endpoint",
                 len(docs) == 50 and all(d["status"] == "failed" and "deleted" in str(d) for d in docs.values()), list(docs.values())[:2])


def run():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--build", default="build")
    a = ap.parse_args()
    report, h = Report(), Hosts(a.build)
    try:
        h.start()
        for t in (lease, killed, stopped, cut_off, deleted_through_another_worker, deleted_while_nobody_serves, deleted):
            t(report, h)
    except Exception:
        report.check("failover", False, traceback.format_exc())
    if report.failed:
        print(h.logs())
    h.stop()
    report.end()


run()

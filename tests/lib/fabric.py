# SPDX-License-Identifier: Apache-2.0
"""A whole fabric for tests, demo and benchmarks: `weft up` in a private directory, on free ports, gone on any exit."""
import atexit
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "client", "python"))


def wait_for(condition, timeout, what):
    """Poll until condition() is true; returns its value. Raises when the time is over."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError("%s: not within %g s" % (what, timeout))
        time.sleep(0.02)


def processes():
    """pid -> (ppid, [argv]) of all live processes (no zombies)."""
    out = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name) as f:
                stat = f.read()
            with open("/proc/%s/cmdline" % name, "rb") as f:
                argv = [a.decode("utf-8", "replace") for a in f.read().split(b"\0") if a]
        except OSError:
            continue
        rest = stat[stat.rindex(")") + 2:].split()
        if rest[0] != "Z":
            out[int(name)] = (int(rest[1]), argv)
    return out


def descendants(pid):
    """pid -> argv of everything below pid."""
    all_, found, edge = processes(), {}, {pid}
    while edge:
        edge = {p for p, (pp, _) in all_.items() if pp in edge and p not in found}
        found.update({p: all_[p][1] for p in edge})
    return found


def programs(pid):
    """descendants (pid), without those that have yet to become another program: until then each looks like its parent."""
    found, all_ = descendants(pid), processes()
    return {p: a for p, a in found.items() if p in all_ and all_[p][1] == a and all_.get(all_[p][0], (0, None))[1] != a}


def role(argv):
    """What a process of the fabric is, by its command line."""
    if not argv:
        return "?"
    base = os.path.basename(argv[0].split(" ")[0])      # redis-server writes all of its title into the first one
    if base.startswith("redis-server"):
        return "redis"
    if base == "weft-service":
        return "service" if any(a.startswith("--worker") for a in argv) else "service-master"
    if base == "weft-forwarder":
        return "forwarder" if "run" in argv[1:2] else "supervisor"
    if base == "weft-endpoint":
        return "agent"
    if base == "weft-manager":
        return "manager"
    if base == "weft-worker":
        return "worker" if "--worker-id" in argv else "runner"
    if base.startswith("python"):
        return "runner"
    return base


class Fabric:
    def __init__(self, build, workers=2, processes=1, keep=False, env=None, python="/usr/bin/python3", port=0, user=None):
        self.build = os.path.abspath(build)
        self.bin = os.path.join(self.build, "bin")
        self.state = tempfile.mkdtemp(prefix="weft-t-")
        self.keep, self.proc, self.extra = keep, None, env or {}
        self.port = port
        self.args = ["--workers", str(workers), "--processes", str(processes), "--endpoint-set", "python=" + python]
        self.url = self.token = self.endpoint = None
        self.prefix = []                # of commands: as another user, when we are root
        if user is not None:
            self.prefix = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
            os.chown(self.state, user, user)
        self._conn = None
        self.watch = None               # is called with each answer, see schema.Watch
        atexit.register(self.stop)
        for s in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(s) == signal.SIG_DFL:
                signal.signal(s, lambda *_: sys.exit(143))

    def start(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
        env.update(self.extra)
        self.log = open(os.path.join(self.state, "up.log"), "ab")
        self.proc = subprocess.Popen(self.prefix + [os.path.join(self.bin, "weft"), "up", "--state", self.state, "--port", str(self.port),
                                      "--parent-pid", str(os.getpid())] + self.args, stdout=self.log, stderr=self.log,
                                     stdin=subprocess.DEVNULL, env=env)
        path = os.path.join(self.state, "env")

        def ready():
            if self.proc.poll() is not None:
                raise RuntimeError("weft up ended:\n" + self.logs())
            return os.path.exists(path)
        wait_for(ready, 60, "weft up")
        values = dict(line.strip().split("=", 1) for line in open(path))
        self.url, self.token, self.endpoint = (values["WEFT_" + k] for k in ("URL", "TOKEN", "ENDPOINT"))
        return self

    def logs(self, tail=3000):
        out = []
        logs = [os.path.join(self.state, "up.log")]
        for d, _, names in os.walk(self.state):
            logs += [os.path.join(d, n) for n in names if n.endswith(".log") and n != "up.log"]
        for p in logs:
            with open(p, errors="replace") as f:
                out.append("== %s\n%s" % (os.path.relpath(p, self.state), f.read()[-tail:]))
        return "\n".join(out)

    def env(self):
        e = dict(os.environ, WEFT_URL=self.url, WEFT_TOKEN=self.token, WEFT_ENDPOINT=self.endpoint)
        e["PATH"] = self.bin + ":" + e["PATH"]
        return e

    def weft(self, *args, check=True, **kw):
        """Run the CLI; returns CompletedProcess with text output."""
        r = subprocess.run([os.path.join(self.bin, "weft")] + list(args), env=self.env(), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, universal_newlines=True, timeout=kw.pop("timeout", 120), **kw)
        if check and r.returncode:
            raise RuntimeError("weft %s: exit %d\n%s%s" % (" ".join(args), r.returncode, r.stdout, r.stderr))
        return r

    def http(self, method, path, body=None, timeout=120, token=None):
        """One request; returns (status, decoded JSON or text)."""
        if self._conn is None:
            u = urllib.parse.urlsplit(self.url)
            self._conn = http.client.HTTPConnection(u.hostname, u.port, timeout=timeout)
        head = {"Authorization": "Bearer " + (token or self.token)}
        data = None
        if body is not None:
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
            head["Content-Type"] = "application/json"
        try:
            self._conn.request(method, path, data, head)
            r = self._conn.getresponse()
            text = r.read()
        except BaseException:
            self._conn.close()
            self._conn = None
            raise
        if self.watch:
            self.watch(method, path, r.status, r.headers["Content-Type"], text)
        try:
            return r.status, json.loads(text)
        except ValueError:
            return r.status, text.decode("utf-8", "replace")

    def client(self):
        import weft
        return weft.Client(self.url, self.token)

    def pids(self):
        """pid -> role of every process of this fabric but `weft up` itself."""
        return {p: role(a) for p, a in programs(self.proc.pid).items()}

    def stop(self, remove=True):
        """Stop everything; returns the processes that had to be killed, which a test may count. Who wants to see what it leaves behind calls
        it with remove=False, looks, and calls it again."""
        if self._conn:
            self._conn.close()
            self._conn = None
        left = {}
        if self.proc is not None:
            before = descendants(self.proc.pid)
            if self.proc.poll() is None:
                self.proc.terminate()
                try:
                    self.proc.wait(60)
                except subprocess.TimeoutExpired:
                    self.proc.kill()
                    self.proc.wait()
            live = processes()
            for p in before:
                if p in live and live[p][1] == before[p]:
                    left[p] = before[p]
                    try:
                        os.kill(p, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            self.proc = None
            self.log.close()
        if remove and not self.keep:
            shutil.rmtree(self.state, ignore_errors=True)
        return left

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        if exc[0] is not None and exc[0] is not SystemExit and self.proc is not None:
            print(self.logs(), file=sys.stderr)
        self.stop()


class Report:
    """Counts checks and prints them the way tests/run reads them."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, name, ok, why=""):
        if ok:
            self.passed += 1
            print("ok - " + name)
        else:
            self.failed += 1
            print("not ok - %s%s" % (name, ": " + str(why) if why != "" else ""))
        sys.stdout.flush()
        return ok

    def skip(self, name, reason):
        self.skipped += 1
        print("skip - %s: %s" % (name, reason))

    def end(self):
        print("%d passed, %d failed, %d skipped" % (self.passed, self.failed, self.skipped))
        sys.exit(1 if self.failed else 0)

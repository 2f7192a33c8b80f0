# SPDX-License-Identifier: Apache-2.0
"""An endpoint of a real fabric on a scripted batch system (tests/fakes/pbs.py, condor.py)."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile

import cluster
import e2e
from fabric import wait_for

SLEEP = "import time\ndef f(s):\n    time.sleep(s)\n    return s\n"


class Site:
    """make(directory) makes the scheduler: bin (a directory for PATH), jobs(), live(), control(), close(). ok() and the like raise with the endpoint's log."""

    def __init__(self, fabric, name, provider, make, home="home"):
        self.f, self.name, self.provider = fabric, name, provider
        self.dir = tempfile.mkdtemp(prefix="weft-%s-" % provider)
        self.home = os.path.join(self.dir, home)
        self.scheduler = make(os.path.join(self.dir, "scheduler"))
        token = os.path.join(self.dir, "token")
        with open(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(fabric.token + "\n")
        self.ok("configure", "--url", fabric.url, "--token-file", token, name)
        self.token = token
        self.config("")

    def run(self, *args, **kw):
        env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
        env.update(WEFT_HOME=self.home, PATH=self.scheduler.bin + ":" + env["PATH"])
        return subprocess.run([os.path.join(self.f.bin, "weft-endpoint")] + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, env=env, timeout=kw.pop("timeout", 90))

    def ok(self, *args, **kw):
        r = self.run(*args, **kw)
        if r.returncode:
            raise RuntimeError("weft-endpoint %s: exit %d\n%s%s\n%s" % (" ".join(args), r.returncode, r.stdout, r.stderr, self.log()))
        return r.stdout

    def config(self, settings):
        """Writes config.yaml anew, with these settings of the provider."""
        with open(os.path.join(self.ep, "config.yaml"), "w") as f:
            f.write("service: {url: %s, token_file: %s}\nprovider: {type: %s, %s: {%s}}\npython: /usr/bin/python3\n"
                    % (self.f.url, self.token, self.provider, self.provider, settings))

    @property
    def ep(self):
        return os.path.join(self.home, "endpoints", self.name)

    def start(self, *sets):
        quick = ["python=/usr/bin/python3", "scaling.period=200ms", "scaling.init_blocks=0", "scaling.idle_timeout=1s", "workers_per_node=1",
                 "provider.%s.poll_interval=300ms" % self.provider, "provider.%s.cmd_timeout=8s" % self.provider]
        self.ok("start", *[w for s in quick + list(sets) for w in ("--set", s)], self.name)
        self.id = self.status()["endpoint_id"]

    def status(self):
        return e2e.agent_status(lambda: self.run("status", "--json", self.name).stdout)

    def blocks(self):
        return self.status()["blocks"]

    def submit(self, function, payloads):
        return e2e.submit(self.f, function, [{"args": [p]} for p in payloads], endpoint=self.id)[0]

    def wait(self, condition, what, timeout=60):
        try:
            return wait_for(condition, timeout, what)
        except TimeoutError as e:
            raise RuntimeError("%s\n%s\n%s\n%s" % (e, json.dumps(self.blocks(), indent=1), json.dumps(self.scheduler.jobs(), indent=1)[-3000:], self.log()))

    def words(self, part, timeout=30):
        """Waits for these words in what status says of a block, of the last failure or of the scheduler; returns the status as text."""
        def seen():
            b = self.blocks()
            texts = [b["error"] or "", b["scheduler"] or ""] + [k["text"] for k in b["list"]]
            return next((t for t in texts if part in t), None)
        return self.wait(seen, "status says %r" % part, timeout)

    def pid(self):
        return self.status()["pid"]

    def log(self):
        out, logs = "", os.path.join(self.ep, "logs")
        for n in sorted(os.listdir(logs)) if os.path.isdir(logs) else []:
            with open(os.path.join(logs, n), errors="replace") as f:
                out += "==> %s\n%s" % (n, f.read()[-4000:])
        return out[-12000:]

    def noted(self):
        return cluster.noted(self.ep)

    def ours(self):
        """Live jobs of the endpoint."""
        return {i: j for i, j in self.scheduler.live().items() if j["Job_Name"].startswith("weft-")}

    def close(self):
        self.scheduler.control(server="up")
        with contextlib.suppress(Exception):
            self.run("stop", "--timeout", "10s", self.name)
        with contextlib.suppress(Exception):
            os.kill(int(open(os.path.join(self.ep, "run", "pid")).read()), signal.SIGKILL)
        with contextlib.suppress(Exception):
            self.run("delete", "--force", self.name)
        self.scheduler.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def all_succeed(report, name, site, ids, timeout=90):
    docs = e2e.gather(site.f, ids, timeout)
    bad = {i: d for i, d in docs.items() if d["status"] != "success"}
    missing = [i for i in ids if i not in docs]
    report.check(name, not bad and not missing, "" if not bad and not missing else "%s %s\n%s" % (list(bad.items())[:2], missing[:2], site.log()))


def stopped(report, name, site):
    site.ok("stop", site.name)
    with contextlib.suppress(TimeoutError):     # a qdel may still be on its way
        wait_for(lambda: not site.ours(), 30, "no job")
    report.check("%s: no job is left" % name, not site.ours(), site.ours())

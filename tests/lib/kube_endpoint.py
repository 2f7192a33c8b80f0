# SPDX-License-Identifier: Apache-2.0
"""An endpoint of its own beside a fabric, whose blocks come from Kubernetes: for the tests with the fake API server and with a real one."""
import os
import re
import shutil
import subprocess
import tempfile

from e2e import agent_status, processes, wait_for


class KubeEndpoint:
    """provider: lines under provider.kubernetes; scaling: a mapping; top: further lines of the configuration."""

    def __init__(self, fabric, provider, scaling=None, top=(), name="kube", python="/usr/bin/python3"):
        self.f, self.name = fabric, name
        self.home = tempfile.mkdtemp(prefix="weft-k-")
        token = os.path.join(self.home, "token")
        with open(os.open(token, os.O_CREAT | os.O_WRONLY, 0o600), "w") as out:
            out.write(fabric.token)
        self.run("configure", "--url", fabric.url, "--token-file", token)
        self.dir = os.path.join(self.home, "endpoints", name)
        values = {"period": "100ms", "init_blocks": 0, "min_blocks": 0, "max_blocks": 1, "idle_timeout": "1h", "connect_timeout": "1m",
                  "stop_grace": "5s"}
        values.update(scaling or {})
        lines = ["service:", "  url: " + fabric.url, "  token_file: " + token, "python: " + python]
        lines += ["heartbeat: {interval: 300ms, threshold: 3s}"] + list(top)
        lines += ["scaling:"] + ["  %s: %s" % v for v in sorted(values.items())]
        lines += ["provider:", "  type: kubernetes", "  kubernetes:"] + ["    " + line for line in provider]
        with open(os.path.join(self.dir, "config.yaml"), "w") as out:
            out.write("\n".join(lines) + "\n")

    def run(self, command, *args, timeout=60):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("WEFT_", "KUBE"))}
        env["WEFT_HOME"] = self.home
        return subprocess.run([os.path.join(self.f.bin, "weft-endpoint"), command] + list(args) + [self.name], env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True, timeout=timeout)

    def start(self, *settings):
        r = self.run("start", *[word for s in settings for word in ("--set", s)])
        if r.returncode:
            raise RuntimeError("weft-endpoint start: %s\n%s" % (r.stdout, self.log()))
        self.id = self.status()["endpoint_id"]
        return self

    def status(self):
        return agent_status(lambda: self.run("status", "--json").stdout)

    def text(self):
        return self.run("status").stdout

    def blocks(self):
        return self.status().get("blocks", {})

    def said(self):
        """All that status says of blocks and of the cluster."""
        b = self.blocks()
        return " | ".join([x.get("text") or "" for x in b.get("list", [])] + [b.get("error") or "", b.get("scheduler") or ""])

    def wait_said(self, pattern, timeout=30):
        try:
            return wait_for(lambda: re.search(pattern, self.said()), timeout, "status says /%s/" % pattern).group(0)
        except TimeoutError as e:
            raise TimeoutError("%s; it says: %s\n%s" % (e, self.said(), self.log()))

    def wait_up(self, n, timeout=60):
        wait_for(lambda: self.blocks().get("up") == n, timeout, "%d blocks up" % n)

    def managers(self):
        return self.status().get("managers", [])

    def pid(self):
        return self.status().get("pid", 0)

    def kill(self):
        """kill -9; returns when it is gone."""
        pid = self.pid()
        os.kill(pid, 9)
        wait_for(lambda: pid not in processes(), 30, "the agent is gone")

    def stop(self):
        return self.run("stop", timeout=90)

    def log(self, tail=6000):
        try:
            with open(os.path.join(self.dir, "logs", "endpoint.log"), errors="replace") as f:
                return f.read()[-tail:]
        except OSError as e:
            return str(e)

    def close(self):
        r = self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        return r

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            print(self.log())
        self.close()

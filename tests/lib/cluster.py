# SPDX-License-Identifier: Apache-2.0
"""An endpoint on a cluster, beside the fabric's own: configured by a file as its users do it, its agent a child of the test."""
import json
import os
import shutil
import signal
import socket
import subprocess

import e2e


def free_ports(n):
    """The first of n free ports in a row."""
    for base in range(20000 + os.getpid() % 10000, 60000, 17):
        held = []
        try:
            for i in range(n):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", base + i))
            return base
        except OSError:
            pass
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no free ports")


def fake_docker(f, *images):
    """The directory of a docker that has these images (tests/fakes/bin), and the environment that an endpoint finds it in."""
    folder = os.path.join(f.state, "docker")
    os.makedirs(os.path.join(folder, "containers"), exist_ok=True)
    with open(os.path.join(folder, "images"), "w") as out:
        out.write("".join(i + "\n" for i in images))
    fakes = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fakes", "bin")
    return folder, {"PATH": fakes + ":" + os.environ["PATH"], "FAKE_DOCKER": folder}


def result(doc):
    return json.loads(doc["result"]) if isinstance(doc["result"], str) else doc["result"]


def noted(directory):
    """Jobs that the next agent of the endpoint in this directory could take over."""
    try:
        with open(os.path.join(directory, "run", "takeover.json")) as f:
            return [b["job"] for b in json.load(f)["blocks"]]
    except (OSError, ValueError):
        return []


class Endpoint:
    """with Endpoint(fabric, "name", {"provider.type": "slurm", ...}) as ep: ... Started on entry, stopped on exit."""

    def __init__(self, fabric, name, conf, env=None):
        self.f, self.name, self.conf, self.extra = fabric, name, conf, env or {}
        self.home = os.path.join(fabric.state, "home")
        self.dir = os.path.join(self.home, "endpoints", name)
        self.proc = self.id = None

    def env(self):
        return dict(self.f.env(), WEFT_HOME=self.home, **self.extra)

    def command(self, *args, check=False):
        r = subprocess.run(self.f.prefix + [os.path.join(self.f.bin, "weft-endpoint")] + list(args) + [self.name], env=self.env(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
        if check and r.returncode:
            raise RuntimeError("weft-endpoint %s: exit %d: %s" % (" ".join(args), r.returncode, r.stdout))
        return r.stdout

    def configure(self):
        if os.path.exists(self.dir):
            return
        if not os.path.exists(self.home):
            os.makedirs(self.home)
            shutil.copystat(self.f.state, self.home)
            st = os.stat(self.f.state)
            os.chown(self.home, st.st_uid, st.st_gid)
        self.command("configure", check=True)
        path = os.path.join(self.dir, "config.yaml")
        tree = {}
        for key, value in sorted(dict({"service.url": self.f.url}, **self.conf).items()):
            at = tree
            for part in key.split(".")[:-1]:
                at = at.setdefault(part, {})
            at[key.split(".")[-1]] = value
        with open(path, "w") as f:
            json.dump(tree, f, indent=1)        # JSON is YAML
        self.command("check-config", check=True)

    def start(self):
        self.configure()
        with open(os.path.join(self.f.state, self.name + ".agent.log"), "ab") as log:
            self.proc = subprocess.Popen(self.f.prefix + [os.path.join(self.f.bin, "weft-endpoint"), "start", "--foreground", self.name], env=self.env(),
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        e2e.wait_for(self.connected, 60, "the endpoint %s connected" % self.name)
        self.id = self.status()["endpoint_id"]
        return self

    def connected(self):
        if self.proc.poll() is not None:
            raise RuntimeError("the endpoint ended:\n" + self.log())
        return self.status().get("connected")

    def kill(self):
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.command("stop")
            try:
                self.proc.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self.proc = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        if exc[0] is not None:
            print(self.command("status"))
            print(self.log()[-15000:])
            print(self.block_logs()[-6000:])
        self.stop()

    def status(self):
        def ask():
            out = self.command("status", "--json")
            return out[out.index("{"):]
        return e2e.agent_status(ask)

    def blocks(self):
        return self.status()["blocks"]

    def noted(self):
        return noted(self.dir)

    def log(self):
        with open(os.path.join(self.f.state, self.name + ".agent.log"), errors="replace") as f:
            return f.read()

    def block_logs(self):
        return self.command("logs", "--blocks")

    def submit(self, function, payloads, wait=0):
        return e2e.submit(self.f, function, payloads, wait=wait, endpoint=self.id)[0]

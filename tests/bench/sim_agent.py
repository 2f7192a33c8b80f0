# SPDX-License-Identifier: Apache-2.0
"""One real agent between a simulated forwarder and simulated managers: no-op tasks at 131,072 slots (2,048 managers of 64) and at 1,024.

The agent is weft-endpoint as it is shipped, with its spool and CURVE to the forwarder; it starts no managers of its own. Managers
answer at once, so that the agent's own work is what takes the time. Ids are checked: a lost or doubled task fails the benchmark.
The 1,024 and 131,072 measurements alternate; the ratio is taken of each pair.
"""
import argparse
import http.server
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from fabric import wait_for  # noqa: E402

SLOTS = 64              # of one manager
TIMEOUT = 300


class Service(http.server.ThreadingHTTPServer):
    """The two routes of weft-service that an agent calls. The forwarder is started when the agent's key is known."""
    daemon_threads = True

    def __init__(self, exe):
        super().__init__(("127.0.0.1", 0), Handler)
        self.exe, self.id = exe, str(uuid.uuid4())
        self.keys = subprocess.check_output([exe, "keys"], universal_newlines=True).split()
        self.forwarder, self.address, self.lock = None, None, threading.Lock()
        self.url = "http://127.0.0.1:%d" % self.server_address[1]

    def register(self, key):
        with self.lock:
            if self.forwarder is None:
                self.forwarder = subprocess.Popen([self.exe, "forwarder"] + self.keys + [key], stdin=subprocess.PIPE,
                                                  stdout=subprocess.PIPE, universal_newlines=True, bufsize=1)
                self.address = self.forwarder.stdout.readline().split()[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, doc):
        body = json.dumps(doc).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        doc = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # not by this request's thread: the forwarder ends with the thread that started it
        self.server.wanted = doc["weft"]["public_key"]
        self.server.asked.set()
        self.server.ready.wait(20)
        self.answer({"endpoint_id": self.server.id, "name": doc["endpoint_name"]})

    do_PUT = do_POST

    def do_GET(self):
        self.answer({"address": self.server.address, "server_key": self.server.keys[0], "heartbeat_ms": 2000})


CONFIG = """service:
  url: %(url)s
  token_file: %(token)s
provider:
  type: dryrun
scaling:
  init_blocks: 0
  min_blocks: 0
  max_blocks: 1
manager_transport: ipc
queue:
  max_tasks: 131072
"""


class Rig:
    """Agent, forwarder and one set of managers."""

    def __init__(self, build, managers):
        self.sim, self.bin = os.path.join(build, "bench", "sim_agent"), os.path.join(build, "bin")
        self.home, self.managers, self.procs = tempfile.mkdtemp(prefix="weft-a-"), managers, []
        self.service = None

    def spawn(self, *argv, **kw):
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **kw)
        self.procs.append(p)
        return p

    def start(self):
        s = self.service = Service(self.sim)
        s.asked, s.ready, s.wanted = threading.Event(), threading.Event(), None
        threading.Thread(target=s.serve_forever, daemon=True).start()
        env = dict(os.environ, WEFT_HOME=self.home)
        endpoint, directory = os.path.join(self.bin, "weft-endpoint"), os.path.join(self.home, "endpoints", "sim")
        subprocess.run([endpoint, "configure", "sim"], env=env, stdout=subprocess.DEVNULL, check=True)
        token = os.path.join(self.home, "token")
        with open(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write("simulated\n")
        with open(os.path.join(directory, "config.yaml"), "w") as f:
            f.write(CONFIG % {"url": s.url, "token": token})
        with open(os.path.join(self.home, "agent.log"), "w") as log:
            self.agent = self.spawn("setpriv", "--pdeathsig", "TERM", endpoint, "start", "sim", "--foreground", env=env, stdout=log, stderr=log)
        if not s.asked.wait(20):
            raise RuntimeError("the agent does not register:\n" + self.log())
        s.register(s.wanted)
        s.ready.set()
        sock = os.path.join(directory, "run", "managers.sock")
        wait_for(lambda: os.path.exists(sock), 20, "the agent's socket")
        self.spawn(self.sim, "managers", "ipc://" + sock, str(self.managers), str(SLOTS))
        self.tell("slots %d" % (self.managers * SLOTS))
        return self

    def log(self):
        with open(os.path.join(self.home, "agent.log"), errors="replace") as f:
            return f.read()[-3000:]

    def tell(self, line):
        f = self.service.forwarder
        f.stdin.write(line + "\n")
        f.stdin.flush()
        signal.alarm(TIMEOUT)
        reply = f.stdout.readline().split()
        signal.alarm(0)
        if not reply:
            raise RuntimeError("the forwarder ended after '%s'; agent:\n%s" % (line, self.log()))
        return reply[1:]

    def run(self, tasks):
        seconds, lost, doubled, bad = self.tell("run %d" % tasks)
        if (lost, doubled, bad) != ("0", "0", "0"):
            raise RuntimeError("of %d tasks %s are lost, %s doubled, %s bad" % (tasks, lost, doubled, bad))
        return tasks / float(seconds)

    def rss_mb(self):
        with open("/proc/%d/status" % self.agent.pid) as f:
            return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) / 1024

    def cpu_s(self):
        """Of all its threads."""
        with open("/proc/%d/stat" % self.agent.pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        if self.service and self.service.forwarder:     # first: it takes the end of the session for a failure
            self.service.forwarder.kill()
            self.service.forwarder.wait()
        for p in reversed(self.procs):
            p.terminate()
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        if self.service:
            self.service.shutdown()
            self.service.server_close()
        shutil.rmtree(self.home, ignore_errors=True)


def late(*_):
    raise TimeoutError("no answer within %d s" % TIMEOUT)


def measure(build, managers, tasks):
    rig = Rig(build, managers)
    try:
        rig.start()
        rig.run(tasks // 10)            # warm
        cpu = rig.cpu_s()
        rate = rig.run(tasks)
        return rate, (rig.cpu_s() - cpu) / tasks * 1e6, rig.rss_mb()
    finally:
        rig.stop()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default="build")
    ap.add_argument("--quick", action="store_true")
    ap.add_argument("--tasks", type=int)
    ap.add_argument("--rounds", type=int)
    a = ap.parse_args()
    rounds = a.rounds or (1 if a.quick else 3)
    tasks = a.tasks or (50000 if a.quick else 1000000)
    many, few = (128 if a.quick else 2048), 16
    name = "agent_slots_%d" % (many * SLOTS)
    files, need = resource.getrlimit(resource.RLIMIT_NOFILE)[1], 6 * many + 500
    if files != resource.RLIM_INFINITY and files < need:
        print(json.dumps({"skip": "%s: %d open files are needed, %d allowed" % (name, need, files)}))
        return 0
    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    build = os.path.abspath(a.build)
    low, high, low_cpu, high_cpu, rss = [], [], [], [], []
    for _ in range(rounds):
        for managers, rates, cpus in ((few, low, low_cpu), (many, high, high_cpu)):
            rate, cpu, mb = measure(build, managers, tasks)
            rates.append(rate)
            cpus.append(cpu)
        rss.append(mb)
    note = "%d tasks, none lost or doubled" % tasks
    for entry in ({"name": "agent_slots_%d_tasks_per_s" % (few * SLOTS), "unit": "1/s", "runs": low, "note": note},
                  {"name": name + "_tasks_per_s", "unit": "1/s", "runs": high, "note": note},
                  {"name": "agent_slots_ratio", "unit": "x", "runs": [h / l for h, l in zip(high, low)],
                   "note": "all three share the machine: the simulated managers' own cost is in it"},
                  {"name": "agent_slots_cpu_ratio", "unit": "x", "runs": [l / h for h, l in zip(high_cpu, low_cpu)],
                   "note": "the agent's own work alone, which other work on the machine changes little"},
                  {"name": "agent_slots_%d_cpu_us_per_task" % (few * SLOTS), "unit": "us", "runs": low_cpu, "note": "the agent alone"},
                  {"name": name + "_cpu_us_per_task", "unit": "us", "runs": high_cpu, "note": "the agent alone"},
                  {"name": "agent_rss_%d_mb" % (many * SLOTS), "unit": "MB", "runs": rss, "note": "after the tasks"}):
        print(json.dumps(entry))
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""10,000 peers of one ROUTER with CURVE whose process is killed and started again: seconds until all have sessions again.

The floor is the same number of bare DEALERs that connect to a bare ROUTER with libzmq alone, killed and started in the same way.
"""
import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROCESSES = 8           # a dialler has four or five descriptors, and eight while it tries again
TIMEOUT = 300


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Peers:
    def __init__(self, exe, n, bare):
        self.exe, self.n, self.prefix = exe, n, "bare-" if bare else ""
        self.server, self.client = (subprocess.check_output([exe, "keys"], universal_newlines=True).split() for _ in range(2))
        self.address = "tcp://127.0.0.1:%d" % free_port()
        self.listener, self.diallers = None, []

    def listen(self):
        end = time.monotonic() + 20
        while True:
            p = subprocess.Popen([self.exe, self.prefix + "listen", self.address] + self.server + [self.client[0], str(self.n)],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE if time.monotonic() < end else None)
            if p.stdout.readline().startswith(b"listening"):
                self.listener = p
                return
            p.wait()            # the killed one may still hold the address
            if time.monotonic() > end:
                raise RuntimeError("the listener does not start")

    def full(self):
        """Waits until all have sessions."""
        signal.alarm(TIMEOUT)
        line = self.listener.stdout.readline()
        signal.alarm(0)
        if line.strip() != b"full":
            raise RuntimeError("the listener ended")

    def start(self):
        self.listen()
        for i in range(PROCESSES):
            n = self.n // PROCESSES + (i < self.n % PROCESSES)
            self.diallers.append(subprocess.Popen([self.exe, self.prefix + "dial", self.address, self.server[0]] + self.client + [str(n)]))
        self.full()

    def again(self):
        began = time.monotonic()
        self.listener.kill()
        self.listener.wait()
        self.listen()
        self.full()
        return time.monotonic() - began

    def stop(self):
        for p in self.diallers + [self.listener]:
            if p:
                p.kill()
                p.wait()


def measure(exe, n, bare, rounds):
    p = Peers(exe, n, bare)
    try:
        p.start()
        return [p.again() for _ in range(rounds)]
    finally:
        p.stop()


def late(*_):
    raise TimeoutError("not all have sessions within %d s" % TIMEOUT)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default="build")
    ap.add_argument("--quick", action="store_true")
    ap.add_argument("--peers", type=int)
    ap.add_argument("--rounds", type=int)
    a = ap.parse_args()
    n = a.peers or (1000 if a.quick else 10000)
    rounds = a.rounds or (1 if a.quick else 3)
    name = "peers_%d_reconnect_s" % n
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    need = max(n + 500, 9 * n // PROCESSES + 500)
    if files != resource.RLIM_INFINITY and files < need:
        print(json.dumps({"skip": "%s: %d open files are needed, %d allowed" % (name, need, files)}))
        return 0
    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    exe = os.path.join(a.build, "bench", "sim_peers")
    floor = measure(exe, n, True, rounds)
    runs = measure(exe, n, False, rounds)
    print(json.dumps({"name": name, "unit": "s", "runs": runs, "floor": floor,
                      "note": "from the kill; the floor is libzmq alone: no sessions, no check of keys"}))
    return 0


sys.exit(main())

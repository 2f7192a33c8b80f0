#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The unmodified globus_compute_sdk.Executor from PyPI against `weft up`: all of executor_checks.py with the newest SDK, the short part with the
others of run.py. Skipped, and counted, where PyPI is out of reach. Meanwhile connections are cut, the service is killed, and a queue is
trimmed, when the checks ask for it."""
import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "lib"))
import venvs  # noqa: E402
from e2e import Fabric, Report, pids_of, redis, wait_for  # noqa: E402
from relay import Relay  # noqa: E402
from run import VERSIONS, count_line  # noqa: E402

LIMIT = 900
FAKE_MPI = os.path.abspath(os.path.join(HERE, "..", "..", "fakes", "mpi"))     # its "nodes" are this host


class Run:
    def __init__(self, report, fabric, directory):
        self.report, self.fabric, self.directory = report, fabric, directory
        self.relay = Relay(self.amqp_address)
        self.relay.start()

    def amqp_address(self):
        a = urllib.parse.urlsplit(self.fabric.http("GET", "/v2/get_amqp_result_connection_url")[1]["connection_url"])
        return a.hostname, a.port

    def do(self, words):
        """What the checks ask for; the answer to them."""
        if words[0] == "directory":
            return self.directory
        if words[0] == "cut":               # first silence, then the end of the connections
            self.relay.set_cut(True)
            time.sleep(1)
            for pair in list(self.relay.pairs):
                for s in pair:
                    try:
                        s.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
        elif words[0] == "heal":
            self.relay.set_cut(False)
        elif words == ["kill", "service"]:
            pids = pids_of(self.fabric, "service-master") + pids_of(self.fabric, "service")
            for p in pids:
                os.kill(p, signal.SIGKILL)
            wait_for(lambda: not any(p in self.fabric.pids() for p in pids) and self.answers(), 60, "the service is back")
        elif words == ["replace", "service"]:
            for p in pids_of(self.fabric, "service-master"):
                os.kill(p, signal.SIGHUP)
        elif words[0] == "trim":
            redis(self.fabric, "XTRIM", "weft:group:{%s}:done" % words[1], "MAXLEN", "10")
        elif words[0] == "acknowledged":
            key = "weft:group:{%s}:" % words[1]
            wait_for(lambda: redis(self.fabric, "GET", key + "acked").split()[-1:] == [redis(self.fabric, "XLEN", key + "done")], 60, "all is acknowledged")
        return "done"

    def answers(self):
        try:
            return self.fabric.http("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def checks(self, what, python, extent):
        env = dict(self.fabric.env(), WEFT_RELAY=str(self.relay.port), PYTHONUNBUFFERED="1")
        with open(os.path.join(self.directory, "stderr"), "w+") as errors:
            p = subprocess.Popen([python, os.path.join(HERE, "executor_checks.py"), extent], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=errors, universal_newlines=True)
            signal.alarm(LIMIT)
            try:
                for line in p.stdout:
                    self.line(what, line.rstrip("\n"), p)
                status = p.wait()
            finally:
                signal.alarm(0)
                if p.poll() is None:
                    p.kill()
                    p.wait()
            errors.seek(0)
            self.report.check("%s: ran to its end" % what, status in (0, 1), errors.read()[-2000:])

    def line(self, what, line, p):
        if line.startswith("@"):
            p.stdin.write(self.do(line[1:].split()) + "\n")
            p.stdin.flush()
        else:
            count_line(self.report, what, line)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("versions", nargs="*", help="only specifications that contain one of these")
    a = ap.parse_args()
    report = Report()
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("no end after %d s" % LIMIT))
    for spec in VERSIONS:
        if a.versions and spec not in a.versions:
            continue
        python, why = venvs.make(a.build, [spec, "numpy"])
        if python is None:
            report.skip("Executor, " + spec, why)
            continue
        f = Fabric(a.build, workers=2, python=python, env={"PATH": FAKE_MPI + ":" + os.environ["PATH"]})
        f.args += ["--endpoint-set", "mpi_launcher=mpiexec", "--endpoint-set", "scaling.nodes_per_block=2"]
        with tempfile.TemporaryDirectory(prefix="weft-t-") as directory, f:
            Run(report, f, directory).checks(spec, python, "full" if spec == VERSIONS[0] else "short")
    report.end()


main()

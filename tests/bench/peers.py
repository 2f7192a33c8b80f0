# SPDX-License-Identifier: Apache-2.0
"""Other systems, from PyPI, each in a process of its own that is measured in turn with the fabric. While it is not its turn it is stopped, with
all that it started, so that what it does when idle costs the fabric nothing."""
import collections
import os
import select
import shutil
import signal
import subprocess
import tempfile

import venvs
from fabric import descendants

HERE = os.path.dirname(os.path.abspath(__file__))
ANSWER_S = 300

# program: what runs in the environment with these packages, see peer_side.py. Versions are fixed, so that figures compare.
System = collections.namedtuple("System", "name packages program")
PARSL = System("Parsl", ["parsl==2026.10.26"], "peer_parsl.py")
RAY = System("Ray", ["ray==2.60.0"], "peer_ray.py")
HYPERQUEUE = System("HyperQueue", ["hyperqueue==0.27.0"], "peer_hyperqueue.py")


class Peer:
    """A context manager: `why` says in one line why there is none; None: `rate` may be called."""

    def __init__(self, build, system):
        self.system, self.proc = system, None
        self.python, self.why = venvs.make(build, system.packages)

    def __enter__(self):
        if self.why:
            return self
        self.dir = tempfile.mkdtemp(prefix="weft-p-")
        env = dict(os.environ, PATH=os.path.dirname(self.python) + ":" + os.environ["PATH"])
        with open(os.path.join(self.dir, "log"), "w") as log:
            self.proc = subprocess.Popen([self.python, os.path.join(HERE, self.system.program)], cwd=self.dir, env=env, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=log, universal_newlines=True)
        try:
            self.version = self.line()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.proc:
            self.signal(signal.SIGKILL)
            self.proc.wait()
            self.proc.stdin.close()
            self.proc.stdout.close()
            shutil.rmtree(self.dir, ignore_errors=True)

    def signal(self, number):
        """To all its processes, in whatever session they are; those that were started meanwhile too."""
        told = set()
        while True:
            pids = set(descendants(self.proc.pid)) - told
            if not pids:
                break
            for pid in pids:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            told |= pids
        self.proc.send_signal(number)

    def line(self):
        line = self.proc.stdout.readline().strip() if select.select([self.proc.stdout], [], [], ANSWER_S)[0] else None
        if not line:
            with open(os.path.join(self.dir, "log"), errors="replace") as log:
                said = (log.read().strip().splitlines() or ["nothing"])[-1]
            raise RuntimeError("%s %s; it said: %s" % (self.system.name, "ended" if line == "" else "gave no answer within %d s" % ANSWER_S, said))
        self.signal(signal.SIGSTOP)
        return line

    def rate(self, n, size):
        """n tasks with a text of so many bytes, per second."""
        self.signal(signal.SIGCONT)
        self.proc.stdin.write("%d %d\n" % (n, size))
        self.proc.stdin.flush()
        return float(self.line())

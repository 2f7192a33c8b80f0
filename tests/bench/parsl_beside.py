# SPDX-License-Identifier: Apache-2.0
"""Parsl's HighThroughputExecutor, from PyPI, in a process of its own that is measured in turn with the fabric. While it is not its turn it is
stopped, so that what it does when idle costs the fabric nothing."""
import os
import select
import shutil
import signal
import subprocess
import tempfile

import venvs

HERE = os.path.dirname(os.path.abspath(__file__))
SPEC = "parsl==2026.10.26"      # fixed, so that figures compare
ANSWER_S = 300


class Parsl:
    """A context manager: `why` says in one line why there is none; None: `rate` may be called."""

    def __init__(self, build):
        self.python, self.why = venvs.make(build, [SPEC])
        self.proc = None

    def __enter__(self):
        if self.why:
            return self
        self.dir = tempfile.mkdtemp(prefix="weft-p-")
        env = dict(os.environ, PATH=os.path.dirname(self.python) + ":" + os.environ["PATH"])
        # a session of its own: whatever of its processes is left can be ended with it
        self.proc = subprocess.Popen([self.python, os.path.join(HERE, "parsl_htex.py")], cwd=self.dir, env=env, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, universal_newlines=True, start_new_session=True)
        try:
            self.version = self.line()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.proc:
            os.killpg(self.proc.pid, signal.SIGKILL)
            self.proc.wait()
            self.proc.stdin.close()
            self.proc.stdout.close()
            shutil.rmtree(self.dir, ignore_errors=True)

    def line(self):
        if not select.select([self.proc.stdout], [], [], ANSWER_S)[0]:
            raise RuntimeError("Parsl gave no answer within %d s" % ANSWER_S)
        line = self.proc.stdout.readline().strip()
        if not line:
            raise RuntimeError("Parsl's process ended")
        os.killpg(self.proc.pid, signal.SIGSTOP)
        return line

    def rate(self, n, size):
        """Echoes of a text of so many bytes, per second."""
        os.killpg(self.proc.pid, signal.SIGCONT)
        self.proc.stdin.write("%d %d\n" % (n, size))
        self.proc.stdin.flush()
        return float(self.line())

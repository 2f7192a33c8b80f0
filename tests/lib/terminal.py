# SPDX-License-Identifier: Apache-2.0
"""Programs on a pseudo-terminal. Standard library only."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, argv, env, rows=24, cols=130):
        self.text = b""
        self.pid, self.fd = pty.fork()
        if not self.pid:
            try:
                signal.signal(signal.SIGINT, signal.SIG_DFL)    # tests that run in the background may have it ignored
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
                os.execve(argv[0], argv, dict(env, TERM="xterm"))
            finally:
                os._exit(99)

    def read(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:     # the other side is closed
            return False
        self.text += data
        return bool(data)

    def until(self, what, timeout=40):
        """Read until a text or a condition of the last frame is there; returns the last frame."""
        end = time.monotonic() + timeout
        test = what if callable(what) else lambda frame: what in self.text
        while time.monotonic() < end:
            frame = self.frame()
            if test(frame):
                return frame
            self.read(0.2)
        raise RuntimeError("%r did not come; the last frame is:\n%s" % (what, self.frame()))

    def frame(self):
        """The last one that is whole, as text."""
        whole = self.text.decode("utf-8", "replace").split("\033[H")[-2:]
        done = [x for x in whole if "\033[J" in x]
        return re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", done[-1].split("\033[J")[0]).replace("\r", "") if done else ""

    def send(self, keys):
        os.write(self.fd, keys)

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def end(self, timeout=20):
        """The exit status."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.read(0):
                    pass
                os.close(self.fd)
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            self.read(0.1)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise RuntimeError("it does not end")

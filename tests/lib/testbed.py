# SPDX-License-Identifier: Apache-2.0
"""The scripts of tests/testbed/, which start real servers on this host. That a server cannot be started here is a Skip with the reason: it says
something of this machine. What a server does that has been up is a test's matter."""
import contextlib
import os
import shutil
import subprocess

BEDS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "testbed")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CACHE = os.environ.setdefault("WEFT_TESTBED_CACHE", os.path.expanduser("~/.cache/weft-testbed"))


class Skip(Exception):
    """What a test needs cannot be had on this machine."""


def bed(name, *args, env=None, check=True):
    """What the script has said."""
    r = subprocess.run([os.path.join(BEDS, name)] + list(args), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       universal_newlines=True, errors="replace", timeout=1200)
    if check and r.returncode:
        raise RuntimeError("tests/testbed/%s %s: exit %d: %s" % (name, " ".join(args), r.returncode, r.stdout[-2000:]))
    return r.stdout


def missing(*programs):
    """Why servers that consist of these cannot run here, or None."""
    for p in programs:
        if not shutil.which(p, path=os.environ["PATH"] + ":" + PATH):
            return "%s is not installed: packaging/install-deps --clusters" % p
    return None if os.geteuid() == 0 else "its servers need root"


def need(*programs):
    why = missing(*programs)
    if why:
        raise Skip(why)


@contextlib.contextmanager
def starting(what):
    """What goes wrong in here is no fault of what is tested."""
    try:
        yield
    except (RuntimeError, OSError, subprocess.SubprocessError) as e:
        words = [line.strip() for line in str(e).splitlines() if line.strip()]
        raise Skip("%s cannot be started on this machine: %s" % (what, "; ".join(words[:1] + words[1:][-3:])[:800])) from e

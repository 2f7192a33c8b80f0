# SPDX-License-Identifier: Apache-2.0
"""A second Python for tests, of another version than Debian's: a real one of this machine, or Debian's under another version's name."""
import glob
import os
import shutil
import subprocess

MINE = "/usr/bin/python3"
QUESTION = "import sys; print('%d.%d' % sys.version_info[:2])"
SITE = '''import collections
import sys
_V = collections.namedtuple("version_info", "major minor micro releaselevel serial")
sys.version_info = _V(3, {minor}, 0, "final", 0)
'''


def version(python):
    """"3.11", or None when it does not run."""
    try:
        r = subprocess.run([python, "-c", QUESTION], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return r.stdout.strip() if r.returncode == 0 else None


def real():
    """(path, version) of an interpreter that is not Debian's version, the newest first; None where there is none."""
    mine = version(MINE)
    names = ["python3.%d" % n for n in range(14, 7, -1)]
    paths = [p for p in (shutil.which(n) for n in names) if p]
    for n in names:
        paths += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin/" + n)) + glob.glob("/opt/*/bin/" + n))
    for p in paths:
        v = version(p)
        if v and v != mine:
            return p, v
    return None


def pretended(directory, minor=7):
    """Debian's Python that says it is another version; it runs all the same."""
    site = os.path.join(directory, "site")
    os.makedirs(site)
    with open(os.path.join(site, "sitecustomize.py"), "w") as f:
        f.write(SITE.format(minor=minor))
    path = os.path.join(directory, "python3.%d" % minor)
    with open(path, "w") as f:
        f.write("#!/bin/sh\nPYTHONPATH=%s exec %s \"$@\"\n" % (site, MINE))
    os.chmod(path, 0o755)
    return path, "3.%d" % minor


def another(directory):
    return real() or pretended(directory)

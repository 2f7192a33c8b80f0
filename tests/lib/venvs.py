# SPDX-License-Identifier: Apache-2.0
"""Virtual environments with packages from PyPI, for tests of other people's clients."""
import fcntl
import os
import subprocess

import pythons


def make(build, specs, base=pythons.MINE):
    """(path of a Python that has these packages from PyPI, None), or (None, why not). Kept under BUILD for the next run."""
    name = "".join(c if c.isalnum() else "-" for c in "+".join(specs) + ("" if base == pythons.MINE else "-" + pythons.version(base)))
    path = os.path.join(os.path.abspath(build), "venv", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    python, whole = os.path.join(path, "bin", "python"), os.path.join(path, "whole")
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)        # a second run of the tests waits instead of disturbing
        if not os.path.exists(whole):
            for argv, limit in (([base, "-m", "venv", "--clear", path], 120),
                                ([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"] + specs, 600)):
                try:
                    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=limit)
                except subprocess.TimeoutExpired:
                    return None, "%s: no end after %d s" % (argv[2], limit)
                if r.returncode:
                    return None, "%s: %s" % (argv[2], (r.stdout.strip().splitlines() or ["no output"])[-1][-200:])
            open(whole, "w").close()
    return python, None

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The unmodified globus_compute_sdk.Client from PyPI against `weft up`. Skipped, and counted, where PyPI is out of reach.

The SDK lives in a virtual environment under BUILD, which is kept for the next run. The worker runs the same interpreter.
"""
import argparse
import fcntl
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "lib"))
from fabric import Fabric, Report  # noqa: E402

VERSIONS = ["globus-compute-sdk", "globus-compute-sdk<4", "globus-compute-sdk<2.30"]


def environment(build, spec):
    """Path of a Python that has the SDK, or None with the reason."""
    name = "".join(c if c.isalnum() else "-" for c in spec)
    path = os.path.join(os.path.abspath(build), "venv", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    python = os.path.join(path, "bin", "python")
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)        # a second run of the tests waits instead of disturbing
        if subprocess.run([python, "-c", "import globus_compute_sdk"], stderr=subprocess.DEVNULL).returncode if os.path.exists(python) else True:
            r = subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
            if r.returncode:
                return None, "no virtual environment: " + r.stdout.strip()[-200:]
            r = subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1", "--timeout", "10", spec],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=300)
            if r.returncode:
                return None, "PyPI cannot be reached: " + r.stdout.strip().splitlines()[-1][-200:]
    return python, None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    a = ap.parse_args()
    report = Report()
    for spec in VERSIONS:
        python, why = environment(a.build, spec)
        if python is None:
            report.skip(spec, why)
            continue
        with Fabric(a.build, workers=2, python=python) as f:
            r = subprocess.run([python, os.path.join(HERE, "client_checks.py")], env=f.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               universal_newlines=True, timeout=300)
            for line in r.stdout.splitlines():
                if line.startswith(("ok - ", "not ok - ")):
                    name, _, reason = line.split(" - ", 1)[1].partition(": ")
                    report.check("%s: %s" % (spec, name), line.startswith("ok"), reason)
                else:
                    print(line)
            report.check("%s: ran to its end" % spec, r.returncode == 0, r.stderr[-2000:])
    report.end()


main()

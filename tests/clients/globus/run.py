#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The unmodified globus_compute_sdk.Client from PyPI against `weft up`. Skipped, and counted, where PyPI is out of reach.

Each SDK lives in a virtual environment under BUILD, which is kept for the next run; the worker runs the same interpreter. The checks are
in the *_checks.py beside this file, which run there; page.py runs the commands of docs/from-globus-compute.md. Names of checks as arguments
(client, serialise, refusal, environment, python, page): only these.
"""
import argparse
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "lib"))
import pythons  # noqa: E402
import venvs  # noqa: E402
from fabric import Fabric, Report  # noqa: E402

# The newest, the last of each line before, and one that many still have
VERSIONS = ["globus-compute-sdk", "globus-compute-sdk<4", "globus-compute-sdk<3", "globus-compute-sdk<2.30"]
CHECKS = ["client", "serialise", "refusal", "environment", "python", "page"]
# Port 5000 may be taken on this machine. What the namespaces hold ends with them; a shell is their first process, because it reaps.
APART = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/bash", "-c", '"$@"; exit $?', "apart"]


def count_line(report, what, line):
    """A line of a program that prints checks; they become ours, under this name."""
    kind, _, rest = line.partition(" - ")
    name, _, reason = rest.partition(": ")
    if kind in ("ok", "not ok"):
        report.check("%s: %s" % (what, rest if kind == "ok" else name), kind == "ok", reason)
    elif kind == "skip":
        report.skip("%s: %s" % (what, name), reason)
    else:
        print(line)


def count(report, what, argv, env=None, timeout=400):
    """Run a program that prints checks."""
    r = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=timeout)
    for line in r.stdout.splitlines():
        count_line(report, what, line)
    report.check("%s: ran to its end" % what, r.returncode == 0, r.stderr[-2000:])


def checks_file(name):
    return os.path.join(HERE, name + "_checks.py")


def one_version(report, build, spec, only):
    python, why = venvs.make(build, [spec, "numpy"])
    if python is None:
        report.skip(spec, why)
        return
    here = [c for c in ("client", "serialise", "refusal") if c in only]
    if here:
        with Fabric(build, workers=2, python=python) as f:
            for c in here:
                count(report, "%s: %s" % (spec, c), [python, "-W", "ignore", checks_file(c)], f.env())
    for c in ("environment", "page"):
        if c not in only or (c == "page" and spec != VERSIONS[0]):
            continue
        if subprocess.run(APART + ["true"], stderr=subprocess.DEVNULL).returncode:
            report.skip("%s: %s" % (spec, c), "a namespace of its own cannot be made here")
            continue
        count(report, "%s: %s" % (spec, c), APART + [sys.executable, os.path.join(HERE, c + ".py"), build, python])


def other_python(report, build, spec):
    """Submitter and worker of different versions; then an endpoint that has both."""
    found = pythons.real()
    if not found:
        report.skip("another Python", "this machine has one version only")
        return
    base, version = found
    python, why = venvs.make(build, [spec, "numpy"])
    other, why = venvs.make(build, [spec], base) if python else (None, why)
    if not other:
        report.skip("another Python", why)
        return
    first = pythons.version(pythons.MINE)
    for mode, setting in (("alone", '{"%s": %s}' % (first, python)), ("both", '{"%s": %s, "%s": %s}' % (first, python, version, other))):
        with Fabric(build, workers=2, python=setting) as f:
            count(report, "Python %s to %s, %s" % (version, first, mode), [other, checks_file("python"), mode, first], f.env())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default="build")
    ap.add_argument("only", nargs="*", metavar="CHECKS", help=", ".join(CHECKS))
    a = ap.parse_args()
    only, report = a.only or CHECKS, Report()
    for spec in VERSIONS:
        if set(only) - {"python"}:
            one_version(report, a.build, spec, only)
    if "python" in only:
        other_python(report, a.build, VERSIONS[0])
    report.end()


if __name__ == "__main__":
    main()

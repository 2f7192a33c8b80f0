#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The demo ends well, shows what it promises, and leaves nothing behind."""
import argparse
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from fabric import Report  # noqa: E402


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    a = ap.parse_args()
    r = Report()
    p = subprocess.run([os.path.join(ROOT, "tests", "demo", "run"), "--build", a.build], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       universal_newlines=True, timeout=300)
    r.check("the demo ends with 0", p.returncode == 0, p.stdout[-3000:])
    accuracy = re.search(r"accuracy .*: ([\d.]+) %", p.stdout)
    r.check("it prints the accuracy", accuracy and float(accuracy.group(1)) > 90, p.stdout[-500:])
    for kind in ("random forest", "command", "shared object"):
        r.check("it prints throughput and latencies of the " + kind,
                re.search(kind + r".*one at a time .*tasks/s .*p50 .*p99", p.stdout) and re.search(kind + r".*one batch of 450 .*tasks/s", p.stdout), p.stdout[-500:])
    r.check("it prints one task's trace", re.search(r"execution .*%.*#", p.stdout), p.stdout[-1500:])
    r.end()


main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The figures of `make bench` stand beside the commit and the machine that they are of."""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "bench"))
from machine import machine  # noqa: E402


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    build = os.path.abspath(ap.parse_args().build)
    failed = checks = 0

    def check(name, good, detail=""):
        nonlocal failed, checks
        checks += 1
        failed += not good
        print("%s - %s%s" % ("ok" if good else "not ok", name, "" if good else ": %s" % (detail,)))
    m = json.loads(json.dumps(machine(build)))
    check("the commit is that of the programs", re.fullmatch("[0-9a-f]{40}|unknown", m["commit"]), m)
    check("the machine is named", m["cpu"] and m["cpus"] > 0 and m["memory_bytes"] > 1 << 24 and all(m[k] for k in ("arch", "kernel", "system", "python", "redis")), m)
    with tempfile.TemporaryDirectory() as d:
        os.makedirs(os.path.join(d, "gen", "service"))
        check("of a build that says none it is unknown", machine(d)["commit"] == "unknown")
        with open(os.path.join(d, "gen", "service", "git_sha.inc"), "w") as f:
            f.write('"%s"\n' % ("ab" * 20))
        other = machine(d)
        check("that of another commit is modified, where there is git to tell", other["commit"] == "ab" * 20 and
              other["modified"] == os.path.exists(os.path.join(ROOT, ".git")), other)
        # no part: both files are written, and bench.json is a list as ever
        r = subprocess.run([os.path.join(ROOT, "tests", "bench", "run"), "--build", d, "--only", "", "--quick"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        files = {}
        for name in ("bench.json", "bench-machine.json"):
            with open(os.path.join(d, name)) as f:
                files[name] = json.load(f)
        check("make bench writes both", r.returncode == 0 and files["bench.json"] == [] and dict(files["bench-machine.json"], measured_at="") == dict(other, measured_at="")
              and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", files["bench-machine.json"]["measured_at"]), (r, files))
    print("%d passed, %d failed" % (checks - failed, failed))
    return 1 if failed else 0


sys.exit(main())

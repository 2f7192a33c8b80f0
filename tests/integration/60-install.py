#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts in place works from there: programs, pages, examples, units, completion, SDK."""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from fabric import Fabric, Report  # noqa: E402

PROGRAMS = ["weft", "weft-service", "weft-forwarder", "weft-endpoint", "weft-manager", "weft-worker"]


def run(*argv, **kw):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=120, **kw)


def packages_of_libraries(program):
    """Those with the libraries that a program names, but for what every Debian has, and sanitizers."""
    needed = re.findall(r"NEEDED +(\S+)", run("objdump", "-p", program).stdout)
    return {line.split(":")[0] for name in needed if not re.match(r"lib(c\.so|asan|ubsan|tsan)", name)
            for line in run("dpkg-query", "-S", "*/" + name).stdout.splitlines()}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    a = ap.parse_args()
    r, dest = Report(), tempfile.mkdtemp(prefix="weft-i-")
    try:
        out = run(os.path.join(ROOT, "packaging", "install"), "--build", os.path.abspath(a.build), "--destdir", dest, "--prefix", "/usr", "--version", "9.9")
        if not r.check("install", out.returncode == 0, out.stdout):
            r.end()
        usr = os.path.join(dest, "usr")
        for p in PROGRAMS:
            v = run(os.path.join(usr, "bin", p), "--version")
            r.check("%s --version" % p, v.returncode == 0 and p in v.stdout, v.stdout)
        pages = [os.path.join(d, n) for d, _, names in os.walk(os.path.join(usr, "share", "man")) for n in names]
        r.check("a page per program, per configuration, and the protocol", len(pages) == 10, pages)
        for page in sorted(pages):
            with open(page) as f:
                text = f.read()
            left = re.findall(r"^@[A-Z]+@|@VERSION@", text, re.M)
            bad = run("man", "-l", "--warnings", "-P", "cat", page, env=dict(os.environ, MANWIDTH="100", LC_ALL="C.UTF-8"))
            r.check("man page " + os.path.basename(page), not left and "9.9" in text and bad.returncode == 0 and "warning" not in bad.stdout[:2000], left or bad.stdout[:500])
        for name in ("service", "forwarder", "endpoint"):
            with open(os.path.join(usr, "share", "doc", "weft", "examples", name + ".yaml")) as f:
                example = f.read()
            printed = run(os.path.join(usr, "bin", "weft-" + name), "print-config").stdout
            r.check("config/%s.yaml is what print-config prints" % name, example == printed)
        for unit in ("weft-service.service", "weft-forwarder.service", "weft-endpoint@.service"):
            with open(os.path.join(usr, "lib", "systemd", "system", unit)) as f:
                r.check("unit " + unit, "ExecStart=/usr/bin/weft-" in f.read())
        r.check("bash completion parses", run("bash", "-n", os.path.join(usr, "share", "bash-completion", "completions", "weft")).returncode == 0)
        sdk = run("/usr/bin/python3", "-c", "import weft; print(weft.__version__)", env={"PYTHONPATH": os.path.join(usr, "lib", "python3", "dist-packages")})
        r.check("the SDK imports", sdk.returncode == 0, sdk.stdout)
        bundle = os.path.join(usr, "lib", "weft", "bundle")
        v = run(os.path.join(bundle, "ld.so"), "--library-path", os.path.join(bundle, "lib"), os.path.join(bundle, "weft-worker"), "--version")
        r.check("the worker's bundle starts", v.returncode == 0 and "weft-worker" in v.stdout, v.stdout)
        with open(os.path.join(ROOT, "packaging", "images", "worker", "Dockerfile")) as f:
            has = re.search(r'^ARG PACKAGES="(.*)"$', f.read(), re.M).group(1).split()
        for p in ("weft-manager", "weft-worker"):
            wants = packages_of_libraries(os.path.join(a.build, "bin", p))
            r.check("the image for pods has the libraries of " + p, wants and wants <= set(has), wants - set(has))
        installed = Fabric(a.build)
        installed.bin = os.path.join(usr, "bin")
        with installed as f:
            path = os.path.join(f.state, "add.py")
            with open(path, "w") as src:
                src.write("def add(a, b):\n    return a + b\n")
            f.weft("function", "register", path + "::add")
            r.check("a call through the installed programs", f.weft("run", "add", '{"args": [20, 22]}').stdout.strip() == "42")
    finally:
        shutil.rmtree(dest, ignore_errors=True)
    r.end()


main()

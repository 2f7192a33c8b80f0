#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts in place works from there: programs, pages, examples, units, completion, SDK. What `make dist` packs can be built."""
import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from fabric import Fabric, Report  # noqa: E402

PROGRAMS = ["weft", "weft-service", "weft-forwarder", "weft-endpoint", "weft-manager", "weft-worker"]


def run(*argv, **kw):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=300, **kw)


def needed_by(program):
    return re.findall(r"NEEDED +(\S+)", run("objdump", "-p", program).stdout)


def packages_of_libraries(program):
    """Those with the libraries that a program names, but for what every Debian has, and sanitizers."""
    return {line.split(":")[0] for name in needed_by(program) if not re.match(r"lib(c\.so|asan|ubsan|tsan)", name)
            for line in run("dpkg-query", "-S", "*/" + name).stdout.splitlines()}


def make(*args, cwd=ROOT):
    """As a user calls it: without what a make that runs the tests has left in the environment."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "BUILD", "SAN", "DESTDIR", "PREFIX")}
    with open(os.path.join(ROOT, "Makefile")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)        # two at once would build the same files
        return run("make", "-s", *args, cwd=cwd, env=env)


def tarball(r, tmp):
    """All that is in git and nothing else, the same bytes each time, and make finds what it needs in it."""
    if not os.path.exists(os.path.join(ROOT, ".git")):
        r.skip("make dist", "not a git checkout")
        return
    where = os.path.join(tmp, "dist")
    os.makedirs(where)
    sums = []
    for _ in range(2):
        out = make("dist", "BUILD=" + where)
        if not r.check("make dist", out.returncode == 0, out.stdout):
            return
        with open(out.stdout.split()[-1], "rb") as f:
            sums.append(hashlib.sha256(f.read()).digest())
    r.check("two tarballs are the same", sums[0] == sums[1])
    with tarfile.open(out.stdout.split()[-1]) as t:
        t.extractall(where, filter="data") if hasattr(tarfile, "data_filter") else t.extractall(where)
    top, = (d for d in os.listdir(where) if os.path.isdir(os.path.join(where, d)))
    top = os.path.join(where, top)
    there = {os.path.relpath(os.path.join(d, n), top) for d, _, names in os.walk(top) for n in names}
    tracked = set(run("git", "ls-tree", "-r", "-z", "--name-only", "HEAD", cwd=ROOT).stdout.strip("\0").split("\0"))
    r.check("what is in git is in the tarball, and nothing else", there == tracked, sorted(there ^ tracked)[:20])
    # each thing that a rule names: make would say "No rule to make target"
    plan = make("-n", "install", "tests", "benches", "fuzzers", "DESTDIR=" + tmp, cwd=top)
    r.check("make finds all that it builds from", plan.returncode == 0 and "packaging/install" in plan.stdout, plan.stdout[-500:])
    one = make("build/obj/proto/link.o", cwd=top)
    r.check("and builds in it", one.returncode == 0 and os.path.exists(os.path.join(top, "build/obj/proto/link.o")), one.stdout[-500:])


def configured(r, usr):
    """/etc/weft is read where it is there; in a /etc of our own."""
    apart = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    if run(*apart, "true").returncode:
        r.skip("configuration in /etc/weft", "no mount namespaces here")
        return
    for name in ("service", "forwarder"):
        script = ('mount -t tmpfs none /etc && mkdir /etc/weft && echo "nosuch: 1" > "$2" && "$1" check-config; '
                  'test $? = 1 && "$1" check-config --config /dev/null')
        path = "/etc/weft/%s.yaml" % name
        out = run(*apart, "sh", "-c", script, "sh", os.path.join(usr, "bin", "weft-" + name), path)
        r.check("weft-%s reads %s, and a file that it is given instead" % (name, path), out.returncode == 0 and path + ":1: nosuch" in out.stdout, out.stdout)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    a = ap.parse_args()
    r, dest = Report(), tempfile.mkdtemp(prefix="weft-i-")
    try:
        build = os.path.relpath(a.build, ROOT)      # as make check calls it: the objects are known by this name
        san = ["SAN=address"] if any("libasan" in n for n in needed_by(os.path.join(ROOT, build, "bin", "weft"))) else []
        out = make("BUILD=" + build, *san, "install", "DESTDIR=" + dest, "PREFIX=/usr", "VERSION=9.9")
        if not r.check("make install", out.returncode == 0, out.stdout):
            r.end()
        r.check("everything is below DESTDIR and PREFIX", os.listdir(dest) == ["usr"], os.listdir(dest))
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
        writable = {}
        for unit in ("weft-service.service", "weft-forwarder.service", "weft-endpoint@.service"):
            with open(os.path.join(usr, "lib", "systemd", "system", unit)) as f:
                text = f.read()
            r.check("unit " + unit, "ExecStart=/usr/bin/weft-" in text)
            writable[unit] = re.findall(r"^(?:User|ReadWritePaths|(?:State|Logs)Directory(?:Mode)?)=.*", text, re.M)
        r.check("service and forwarders may write to the same directories: bulk.dir is theirs together",
                writable["weft-service.service"] == writable["weft-forwarder.service"] and len(writable["weft-service.service"]) > 1, writable)
        configured(r, usr)
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
        tarball(r, dest)
    finally:
        shutil.rmtree(dest, ignore_errors=True)
    r.end()


main()

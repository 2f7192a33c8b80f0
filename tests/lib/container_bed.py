# SPDX-License-Identifier: Apache-2.0
"""Container runtimes, the real ones, from Debian's packages: tests/testbed/ starts them in a directory of their own; each with a base image
(Debian, python3) and, where it keeps images, one that holds a single program. What is heavy to make is kept under $WEFT_TESTBED_CACHE."""
import os
import shutil
import subprocess
import tarfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BASE = "weft-test-base"
BEDS = os.path.join(ROOT, "tests", "testbed")
CACHE = os.environ.setdefault("WEFT_TESTBED_CACHE", os.path.expanduser("~/.cache/weft-testbed"))
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Skip(Exception):
    pass


def bed(name, *args, check=True):
    r = subprocess.run([os.path.join(BEDS, name)] + list(args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                       universal_newlines=True, timeout=1200)
    if check and r.returncode:
        raise RuntimeError("tests/testbed/%s %s: %s" % (name, " ".join(args), r.stdout[-2000:]))
    return r.stdout


def shout(directory):
    """One static program, and nothing beside it."""
    src = os.path.join(directory, "shout.c")
    with open(src, "w") as f:
        f.write("#include <ctype.h>\n#include <stdio.h>\nint main (void) { int c; while ((c = getchar ()) != EOF) putchar (toupper (c)); return 0; }\n")
    subprocess.run(["cc", "-static", "-O2", "-o", os.path.join(directory, "shout"), src], check=True)
    tar = os.path.join(directory, "shout.tar")
    with tarfile.open(tar, "w") as t:
        t.add(os.path.join(directory, "shout"), "shout")
    return tar


class Runtime:
    """One runtime with a base image and, where it keeps images, one that holds a single program."""
    limits = network = daemon = seccomp = True
    base = "/weft"
    empty = None
    user = None             # uid that the manager runs as; None = ours

    def __init__(self, tmp):
        self.tmp, self.env = tmp, {}
        self.dir = os.path.join(tmp, self.name)

    def need(self, *programs):
        for p in programs:
            if not shutil.which(p, path=PATH):
                raise Skip("%s is not installed: packaging/install-deps --clusters" % p)
        if os.geteuid() != 0:
            raise Skip("the test bed needs root")

    def down(self):
        bed(self.bed, "down", self.dir, check=False)

    def left(self):
        return ""


class Docker(Runtime):
    name = bed = "docker"
    image, empty = BASE, "weft-test-empty"

    def up(self):
        self.need("dockerd", "docker", "mmdebstrap")
        bed("docker", "base-image", self.dir)
        self.env["DOCKER_HOST"] = "unix://%s/docker.sock" % self.dir
        self.cli("import", shout(self.tmp), self.empty)

    def cli(self, *args):
        return subprocess.run(["docker", *args], env=dict(os.environ, PATH=PATH, **self.env), check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True, timeout=120).stdout

    def left(self):
        return self.cli("ps", "--all", "--quiet").strip()

    def kill_one(self):
        self.cli("kill", *self.cli("ps", "--quiet").split())

    def restart(self):
        bed("docker", "down", self.dir)
        bed("docker", "up", self.dir)

    def move(self):
        """The reference that is given back leads to another image than the last time."""
        name = "weft-test-moving:1"
        made = self.cli("create", self.image, "true").split()[-1]
        self.cli("commit", "--change", "LABEL weft.test=%d" % time.monotonic_ns(), made, name)
        self.cli("rm", made)
        return name


class Podman(Docker):
    name = bed = "podman"
    image, empty = "localhost/" + BASE, "localhost/weft-test-empty"
    daemon = False

    def up(self):
        self.need("podman", "runc", "mmdebstrap")
        self.env = {"CONTAINERS_CONF": self.dir + "/containers.conf", "CONTAINERS_STORAGE_CONF": self.dir + "/storage.conf"}
        bed("podman", "base-image", self.dir)
        self.cli("import", shout(self.tmp), self.empty)

    def cli(self, *args):
        return subprocess.run(["podman", *args], env=dict(os.environ, PATH=PATH, **self.env), check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True, timeout=120).stdout


class Apptainer(Runtime):
    name = bed = "apptainer"
    daemon = False

    def up(self):
        self.need("mmdebstrap", "unshare")
        bed("apptainer", "image", self.dir)
        self.image = self.dir + "/base.sif"
        self.env["PATH"] = self.dir + "/bin:" + PATH

    def move(self):
        moving = self.dir + "/moving.sif"
        shutil.copy(self.image, moving + ".new")
        os.rename(moving + ".new", moving)
        return moving


class Charliecloud(Runtime):
    """As an ordinary user: it is refused to root."""
    name, base = "charliecloud", "/mnt"
    daemon = limits = False
    user = 65534

    def up(self):
        self.need("ch-run", "unshare", "mmdebstrap", "setpriv")
        tar = os.path.join(CACHE, "base-%s.tar" % subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE).stdout.decode().strip())
        if not os.path.exists(tar):
            raise Skip("no base image: the docker test makes it")
        self.image = self.dir + "/base"
        os.makedirs(self.image)
        subprocess.run(["tar", "-C", self.image, "--exclude=./dev/*", "-xpf", tar], check=True)

    def down(self):
        pass

    def move(self):
        with open(self.image + "/usr/lib/weft-test-change", "w") as f:
            f.write(str(time.time()))
        return self.image


RUNTIMES = (Docker, Podman, Charliecloud, Apptainer)

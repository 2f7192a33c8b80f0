# SPDX-License-Identifier: Apache-2.0
"""Container runtimes, the real ones, from Debian's packages: tests/testbed/ starts them in a directory of their own; each with a base image
(Debian, python3) and, where it keeps images, one that holds a single program. RUNTIMES are as an endpoint has them that runs as root, but for
Charliecloud, which is refused to root; USERS are as an ordinary user has them. What is heavy to make is kept under $WEFT_TESTBED_CACHE."""
import functools
import os
import shlex
import shutil
import signal
import stat
import subprocess
import tarfile
import time

from testbed import PATH, Skip, bed, need, starting

BASE = "weft-test-base"


@functools.lru_cache(None)
def base_tar():
    """(the tarball of the base image, None), or (None, why there is none): tried once for all runtimes."""
    arch = subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    try:
        return bed("root", "base-" + arch, "bookworm", "essential", "python3").splitlines()[-1], None
    except (RuntimeError, OSError, subprocess.SubprocessError) as e:
        return None, e


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
    daemon = True
    no_limits = None        # why processes and CPU are not limited
    base = "/weft"
    empty = None
    copies_etc = False      # /etc/passwd inside is a copy of the container's own, which the user inside may write
    program = None          # what starts containers, where it is not called as the runtime is
    nothing = ("true",)     # after the image: a command that does nothing
    user = None             # uid that the manager runs as; None = ours
    as_user = []            # what runs a command as that user

    def __init__(self, tmp):
        self.tmp, self.env = tmp, {}
        self.dir = os.path.join(tmp, self.name)

    def up(self):
        """Started, with its images, and a plain container has run; or a Skip."""
        need("mmdebstrap", *self.programs)
        with starting(self.label):
            self.tar, why = base_tar()
            if why:
                raise why
            self.make()
            self.probe()

    def probe(self):
        """A container like ours, made by hand: where it does not run, none of ours could; limits that it does not keep, ours would not."""
        self.cli(*self.plain, self.image, *self.nothing)
        if self.no_limits:
            return
        try:
            self.cli(*self.plain, self.image, "sh", "-c", "for i in $(seq 100); do sleep 3 & done")
        except RuntimeError:        # no more processes
            return
        self.no_limits = "those that are set do not hold on this machine"

    def cli(self, *args, stdin=None):
        r = subprocess.run(self.as_user + [self.program or self.name, *args], env=dict(os.environ, **dict({"PATH": PATH}, **self.env)), stdin=stdin or subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=300)
        if r.returncode:
            raise RuntimeError("%s %s: %s" % (self.label, " ".join(args), r.stderr[-2000:]))
        if "imitation discarded" in r.stderr:
            self.no_limits = r.stderr.strip()
        return r.stdout

    def down(self):
        bed(self.bed, "down", self.dir, check=False)

    def left(self):
        return ""


class Docker(Runtime):
    name = bed = label = "docker"
    image, empty = BASE, "weft-test-empty"
    programs = "dockerd", "docker", "cc"
    plain = "run", "--rm", "--read-only", "--network=none", "--cap-drop=ALL", "--memory=64m", "--pids-limit=64", "--cpus=0.5"

    def make(self):
        bed("docker", "base-image", self.dir)
        self.env["DOCKER_HOST"] = "unix://%s/docker.sock" % self.dir
        self.cli("import", shout(self.tmp), self.empty)

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
    name = bed = label = "podman"
    image, empty = "localhost/" + BASE, "localhost/weft-test-empty"
    daemon = False
    programs = "podman", "runc", "cc"

    def make(self):
        self.point()
        bed("podman", "base-image", self.dir)
        self.cli("import", shout(self.tmp), self.empty)

    def point(self):
        self.env = {"CONTAINERS_CONF": self.dir + "/containers.conf", "CONTAINERS_STORAGE_CONF": self.dir + "/storage.conf"}


class Apptainer(Runtime):
    name = bed = label = "apptainer"
    daemon = False
    programs = "unshare", "tar"
    plain = "--silent", "exec", "--containall", "--no-privs", "--net", "--network", "none", "--memory", "67108864", "--pids-limit", "64", "--cpus", "0.5"

    def make(self):
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
    name = label = "charliecloud"
    base = "/mnt"
    daemon = False
    no_limits = "it sets none"
    user = 65534
    as_user = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]

    programs = "ch-run", "unshare", "setpriv", "tar"
    program = "unshare"
    plain = "--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "--net", "ch-run", "--private-tmp"
    nothing = "--", "true"

    def make(self):
        self.image = self.dir + "/base"
        self.env["USER"] = "weft"       # ch-run wants one
        os.makedirs(self.image)
        subprocess.run(["tar", "-C", self.image, "--exclude=./dev/*", "-xpf", self.tar], check=True)

    def down(self):
        pass

    def move(self):
        with open(self.image + "/usr/lib/weft-test-change", "w") as f:
            f.write(str(time.time()))
        return self.image


AS_USER = """#!/bin/sh
# Runs a command as user {uid}, whom /etc knows in a mount namespace of its own.
cd /
exec unshare --mount --propagation=slave sh -c '
  for i in passwd group subuid subgid; do mount --bind "$0/etc/$i" "/etc/$i" || exit; done
  [ ! -e "$0/fuse" ] || mount --bind "$0/fuse" /dev/fuse || exit
  exec setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps=-all env -u DBUS_SESSION_BUS_ADDRESS \\
    HOME="$0/home" USER=weft-user LOGNAME=weft-user XDG_RUNTIME_DIR="$0/run" "$@"' {dir} "$@"
"""


class Ordinary:
    """As a user whom this host has in none of its files, with ranges of further users: whatever belongs to that uid comes from here.
    Nobody is logged in as that user, so systemd delegates no control groups to it."""
    daemon = False
    no_limits = "for a user it takes control groups v2 that systemd delegates, which it does for those who are logged in"
    RANGE = 1000000, 65536

    def __init__(self, tmp):
        super().__init__(tmp)
        self.user = self.first_uid + os.getpid() % 100000
        self.own = os.path.join(tmp, self.short)
        self.as_user = [self.own + "/as-user"]

    def make_user(self):
        need("unshare", "setpriv", "newuidmap")
        lines = {"passwd": "weft-user:x:%d:%d::%s:/bin/sh" % (self.user, self.user, self.own + "/home"), "group": "weft-user:x:%d:" % self.user,
                 "subuid": "weft-user:%d:%d" % self.RANGE, "subgid": "weft-user:%d:%d" % self.RANGE}
        os.makedirs(self.own + "/etc")
        for name, line in lines.items():
            shutil.copy("/etc/" + name, self.own + "/etc")
            with open(self.own + "/etc/" + name, "a") as f:
                f.write("\n" + line + "\n")
        for name in ("home", "run"):
            self.give(self.own + "/" + name)
        if os.path.exists("/dev/fuse"):     # for all, as udev makes it
            os.mknod(self.own + "/fuse", stat.S_IFCHR | 0o666, os.stat("/dev/fuse").st_rdev)
            os.chmod(self.own + "/fuse", 0o666)
        with open(self.as_user[0], "w") as f:
            f.write(AS_USER.format(uid=self.user, dir=shlex.quote(self.own)))
        os.chmod(self.as_user[0], 0o755)
        r = subprocess.run(self.as_user + ["unshare", "--user", "--map-root-user", "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if r.returncode:
            raise Skip("users may have no user namespaces here: " + r.stdout.decode().strip())

    def give(self, path):
        os.mkdir(path, 0o700)
        os.chown(path, self.user, self.user)

    def processes(self):
        """Name and parent of each process of the user, by pid."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/status" % pid) as f:
                    s = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(s["Uid"].split()[0]) == self.user and s["State"][0] != "Z":
                found[int(pid)] = s["Name"], int(s["PPid"])
        return found

    def left(self):
        """Processes that have no manager above them, as well."""
        there, stray = self.processes(), []
        for pid in there:
            top = pid
            while there[top][0] != "weft-manager" and there[top][1] in there:
                top = there[top][1]
            if there[top][0] != "weft-manager":
                stray.append("%d %s" % (pid, there[pid][0]))
        return super().left() + " ".join(stray)


class UserApptainer(Ordinary, Apptainer):
    """Without the setuid part, which would be root's: an image is a directory, or a file that is mounted through /dev/fuse."""
    label, short, first_uid = "user-apptainer", "ua", 300000
    copies_etc = True
    plain = Apptainer.plain[:Apptainer.plain.index("--memory")]

    def make(self):
        super().make()
        self.file, self.image = self.image, self.dir + "/base"
        self.make_user()

    def kill_one(self):
        """The process that the manager started."""
        there = self.processes()
        for pid, (name, parent) in there.items():
            if name != "weft-worker" and parent in there and there[parent][0] == "weft-manager":
                os.kill(pid, signal.SIGKILL)


class UserPodman(Ordinary, Podman):
    """Rootless: the user is itself inside, and further users come from its ranges."""
    label, short, first_uid = "user-podman", "up", 400000
    plain = tuple(w for w in Podman.plain if not w.startswith(("--memory", "--pids", "--cpus"))) + ("--userns=keep-id",)
    RUNROOT_MAX = 50

    def __init__(self, tmp):
        super().__init__(tmp)
        self.dir = self.own + "/store"

    def make(self):
        if len(self.dir + "/run") > self.RUNROOT_MAX:
            raise Skip("Podman's run root must not be longer than %d characters: %s/run" % (self.RUNROOT_MAX, self.dir))
        self.make_user()
        self.give(self.dir)
        bed("podman", "up", self.dir)
        for name in os.listdir(self.dir):
            os.chown(os.path.join(self.dir, name), self.user, self.user)
        self.point()
        with open(self.tar, "rb") as tar:
            self.cli("import", "--quiet", "--change", 'CMD=["python3"]', "-", self.image, stdin=tar)

    def processes(self):
        """But for the one that stays, and holds the user's namespaces until `podman system migrate`."""
        try:
            with open(self.dir + "/tmp/pause.pid") as f:
                pause = int(f.read())
        except (OSError, ValueError):
            pause = None
        return {pid: p for pid, p in super().processes().items() if pid != pause}

    def down(self):
        self.point()
        for args in (("rm", "--all", "--force", "--time", "0"), ("system", "migrate")):
            try:
                self.cli(*args)
            except (RuntimeError, OSError, subprocess.SubprocessError):
                pass        # it never came up


RUNTIMES = (Docker, Podman, Charliecloud, Apptainer)
USERS = UserApptainer, UserPodman

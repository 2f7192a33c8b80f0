#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A PBS in a directory: qsub, qstat, qselect, qdel, pbsnodes, pbsdsh, and a mom that runs each job's script as a process of this host.

Words, exit statuses and formats are those of an OpenPBS 23.06.06 whose conversations were recorded, its broken JSON included; qselect, pbsdsh, and a server
without a history are from its sources. There is no server process: each command takes the lock on the state, starts what can start, and answers. A test
makes a Cluster, puts cluster.bin first on PATH, and changes cluster.control(...)."""
import fcntl
import getpass
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

SERVER, CONF, KILL_DELAY_S = "head", "control.json", 3
COMMANDS = ("qsub", "qstat", "qselect", "qdel", "qhold", "qrls", "pbsnodes", "pbsdsh", "hostname", "mpiexec", "ssh")
QUEUES = {"workq": {}, "debug": {"walltime": 60, "ncpus": 2}, "closed": {"enabled": False}, "stopped": {"started": False},
          "acl": {"users": ["bob"]}}
RESOURCES = {"ncpus", "mem", "ngpus", "vnode", "host", "mpiprocs", "select", "walltime", "place", "nodect",
             "filesystems"}
UNKNOWN_JOB, FINISHED, UNKNOWN_QUEUE, NOT_ENABLED, OVER_LIMIT, UNKNOWN_RESOURCE, ILLEGAL, UNAUTHORIZED = 153, 35, 170, 173, 188, 187, 166, 159


class Refused(Exception):
    def __init__(self, status, text):
        Exception.__init__(self, text)
        self.status = status


# ---- for tests ------------------------------------------------------------------------------------------------------


class Cluster:
    def __init__(self, directory, nodes=4, cpus=2):
        self.dir, self.bin = directory, os.path.join(directory, "bin")
        for d in ("bin", "jobs", "aux"):
            os.makedirs(os.path.join(directory, d))
        for c in COMMANDS:
            path = os.path.join(self.bin, c)
            with open(path, "w") as f:
                f.write("#!/bin/sh\nWEFT_FAKE_PBS=%s exec /usr/bin/python3 -S -E %s %s \"$@\"\n"
                        % (shlex.quote(directory), shlex.quote(os.path.abspath(__file__)), c))
            os.chmod(path, 0o755)
        self.control(server="up", history=True, nodes={"n%d" % i: "free" for i in range(1, nodes + 1)}, cpus=cpus, walltime_s=0, slow_qsub=False)

    def control(self, **changes):
        """server: up, refused or hang; history; nodes: name -> free or down; walltime_s: enforced in place of a job's own; slow_qsub: takes the job and hangs."""
        path = os.path.join(self.dir, CONF)
        now = {}
        if os.path.exists(path):
            with open(path) as f:
                now = json.load(f)
        now.update(changes)
        with open(path + ".new", "w") as f:
            json.dump(now, f)
        os.rename(path + ".new", path)

    def jobs(self):
        with State(self.dir) as s:
            return s.jobs

    def live(self):
        return {i: j for i, j in self.jobs().items() if j["job_state"] != "F"}

    def run(self, *argv, **env):
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
                              env=dict(os.environ, PATH=self.bin + ":" + os.environ["PATH"], **env))

    def node_down(self, name):
        with State(self.dir) as s:
            nodes = dict(s.control["nodes"], **{name: "down"})
            self.control(nodes=nodes)
            for j in s.jobs.values():
                if j["job_state"] == "R" and name in j["nodes"]:
                    os.kill(j["mom"], signal.SIGUSR2)

    def close(self):
        with State(self.dir) as s:
            pids = [j["mom"] for j in s.jobs.values() if j["job_state"] in "RE"]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        kill_marked(b"WEFT_FAKE_PBS=" + os.fsencode(self.dir) + b"\0", signal.SIGKILL)


# ---- the server's state ---------------------------------------------------------------------------------------------


class State:
    def __init__(self, directory):
        self.dir = directory

    def __enter__(self):
        self.lock = open(os.path.join(self.dir, "lock"), "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        with open(os.path.join(self.dir, CONF)) as f:
            self.control = json.load(f)
        self.jobs, self.next = {}, 1
        path = os.path.join(self.dir, "state.json")
        if os.path.exists(path):
            with open(path) as f:
                self.jobs, self.next = json.load(f)
        return self

    def __exit__(self, *exc):
        path = os.path.join(self.dir, "state.json")
        with open(path + ".new", "w") as f:
            json.dump([self.jobs, self.next], f)
        os.rename(path + ".new", path)
        self.lock.close()

    def schedule(self):
        for ident, j in self.jobs.items():
            if j["job_state"] != "Q":
                continue
            busy = [n for k in self.jobs.values() if k["job_state"] in "RE" for n in k.get("nodes", [])]
            free = [n for n, s in self.control["nodes"].items() if s == "free" and n not in busy]
            total = self.control["cpus"] * len(self.control["nodes"])
            if not QUEUES[j["queue"]].get("started", True):
                j["comment"] = "Not Running: Queue not started."
            elif j["ncpus"] > self.control["cpus"] or j["nodect"] > len(self.control["nodes"]):
                j["comment"] = "Can Never Run: Insufficient amount of resource: ncpus (R: %d A: %d T: %d)" % (j["ncpus"] * j["nodect"], total, total)
            elif j["nodect"] > len(free):
                j["comment"] = "Not Running: Not enough free nodes available"
            elif j.get("array"):
                j.update(job_state="B", substate=70, comment="Job Array Began at %s" % when())
            else:
                self.start(ident, j, free[:j["nodect"]])

    def start(self, ident, j, nodes):
        j.update(job_state="R", substate=42, nodes=nodes, run_count=1, stime=time.ctime(),
                 exec_host="+".join("%s/0*%d" % (n, j["ncpus"]) if j["ncpus"] > 1 else n + "/0" for n in nodes),
                 comment="Job run at %s on %s" % (when(), "+".join("(%s:ncpus=%d)" % (n, j["ncpus"]) for n in nodes)))
        with open(os.path.join(self.dir, "aux", ident), "w") as f:
            f.write("".join("%s\n" % n for n in nodes for _ in range(j["mpiprocs"])))
        env = {"PATH": os.path.join(self.dir, "bin") + ":/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "WEFT_FAKE_PBS": self.dir}
        j["mom"] = subprocess.Popen(["/usr/bin/python3", "-S", "-E", os.path.abspath(__file__), "mom", ident], env=env, stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True).pid

    def finish(self, ident, code, deleted=False):
        j = self.jobs[ident]
        j.update(job_state="F", substate=91 if deleted else 92 if code == 0 else 93)
        if code is not None:
            j["Exit_status"] = code
            if not deleted and code != -20:
                j["comment"] += " and " + ("finished" if code == 0 else "exceeded resource walltime" if code == -29 else "failed")
        if not self.control["history"]:
            del self.jobs[ident]

    def find(self, text):
        """The whole id of what a command was given."""
        for ident in (text, text + "." + SERVER):
            if ident in self.jobs:
                return ident
        raise Refused(UNKNOWN_JOB, "Unknown Job Id %s" % (text if "." in text else text + "." + SERVER))


def when():
    return time.strftime("%a %b %d at %H:%M")


def kill_marked(mark, signo, spare=()):
    """Processes with these bytes in their environment: what a mom knows by its sessions."""
    n = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in spare or int(name) == os.getpid():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as f:
                if mark in b"\0" + f.read() + b"\0":
                    os.kill(int(name), signo)
                    n += 1
        except OSError:
            pass
    return n


# ---- running a job --------------------------------------------------------------------------------------------------


def mom(home, ident):
    """Runs the script; TERM and later KILL when the job is deleted (SIGUSR1) or over its time, KILL when its node fails (SIGUSR2)."""
    signals = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with State(home) as s:
        j, walltime = s.jobs[ident], s.control["walltime_s"]
    env = dict(os.environ, PBS_JOBID=ident, PBS_JOBNAME=j["Job_Name"], PBS_ENVIRONMENT="PBS_BATCH", PBS_NODENUM="0", PBS_QUEUE=j["queue"],
               PBS_NODEFILE=os.path.join(home, "aux", ident), WEFT_FAKE_NODE=j["nodes"][0],
               WEFT_FAKE_JOB=os.path.join(home, ident), NCPUS=str(j["ncpus"]))
    output = j["Output_Path"].split(":", 1)[1]
    with open(output, "ab") as out:
        child = subprocess.Popen(["/bin/bash", os.path.join(home, "jobs", ident)], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 start_new_session=True, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals))
    mark = b"\0WEFT_FAKE_JOB=" + os.fsencode(os.path.join(home, ident)) + b"\0"
    deadline, deleted, over, failed = time.monotonic() + (walltime or j["walltime"]), False, False, False
    while child.poll() is None:
        got = signal.sigtimedwait(signals, max(0, deadline - time.monotonic()))
        if got is None and (deleted or over):
            kill_marked(mark, signal.SIGKILL)
        elif got is None:
            over, deadline = True, time.monotonic() + KILL_DELAY_S
            kill_marked(mark, signal.SIGTERM)
        elif got.si_signo == signal.SIGUSR1 and not deleted:
            deleted, deadline = True, time.monotonic() + KILL_DELAY_S
            kill_marked(mark, signal.SIGTERM)
        elif got.si_signo == signal.SIGUSR2:
            failed = True
            kill_marked(mark, signal.SIGKILL)
    kill_marked(mark, signal.SIGKILL)
    code = child.returncode if child.returncode >= 0 else 256 - child.returncode
    with State(home) as s:
        s.finish(ident, -20 if failed else -29 if over else code, deleted)
        s.schedule()


def pbsdsh(home, argv):
    """One task on the node of a line of the node file, as -n says, or on each; ends as the tasks do."""
    with open(os.environ["PBS_NODEFILE"]) as f:
        nodes = f.read().split()
    if argv[0] == "-n":
        nodes, argv = [nodes[int(argv[1])]], argv[2:]
    if argv[0] == "--":
        argv = argv[1:]
    tasks = [subprocess.Popen(argv, env=dict(os.environ, WEFT_FAKE_NODE=n), stdin=subprocess.DEVNULL, start_new_session=True) for n in nodes]
    signal.signal(signal.SIGTERM, lambda *_: [t.terminate() for t in tasks])
    for t in tasks:
        t.wait()
    return 0


def mpiexec(home, argv):
    hosts = argv[argv.index("--hostfile") + 1]
    with open(hosts) as f:
        nodes = f.read().split()
    assert argv[:2] == ["-n", str(len(nodes))], argv
    os.environ["PBS_NODEFILE"] = hosts
    return pbsdsh(home, argv[argv.index("--hostfile") + 2:])


def ssh(home, argv):
    """ssh [options] HOST COMMAND: the command through a shell there."""
    os.environ["WEFT_FAKE_NODE"] = argv[-2]
    os.execv("/bin/sh", ["sh", "-c", argv[-1]])


# ---- qsub -----------------------------------------------------------------------------------------------------------


def words(line):
    """As qsub splits a directive: quotes that take everything, a backslash outside of them."""
    out, word, i = [], None, 0
    while i < len(line):
        c = line[i]
        if c in "'\"":
            end = line.find(c, i + 1)
            if end < 0:
                raise Refused(1, "unmatched %s" % c)
            word, i = (word or "") + line[i + 1:end], end
        elif c == "\\" and i + 1 < len(line):
            word, i = (word or "") + line[i + 1], i + 1
        elif c.isspace():
            if word is not None:
                out.append(word)
            word = None
        else:
            word = (word or "") + c
        i += 1
    return out + ([word] if word is not None else [])


def options(argv, into, command_line):
    while argv and argv[0].startswith("-") and argv[0] not in ("-", "--"):
        o = argv[0][:2]
        if o in ("-h", "-V", "-f", "-z"):
            argv = argv[1:]
            into.setdefault(o, "")
            continue
        if o[1:] not in "aAcCejJklmMNopPqrRSuWv":
            raise Refused(2, "invalid option -- '%s'" % o[1:])
        value, argv = (argv[0][2:], argv[1:]) if len(argv[0]) > 2 else (argv[1], argv[2:])
        if o in ("-l", "-v"):
            into.setdefault(o, [])
            into[o].insert(0, value) if command_line else into[o].append(value)
        elif command_line or o not in into["line"]:
            into[o] = value
        if command_line:
            into["line"].add(o)
    return argv


def seconds(text):
    parts = text.split(":")
    if not all(p.isdigit() for p in parts) or len(parts) > 3:
        raise Refused(ILLEGAL, "Illegal attribute or resource value Resource_List.walltime")
    n = 0
    for p in parts:
        n = n * 60 + int(p)
    return n


def resources(o, j):
    for text in o.get("-l", []):
        for part in text.split(",") if not text.startswith("select=") else [text]:
            name, _, value = part.partition("=")
            if name not in RESOURCES:
                raise Refused(UNKNOWN_RESOURCE, "Unknown resource Resource_List.%s" % name)
            j["Resource_List"].setdefault(name, value)
    chunk = j["Resource_List"].setdefault("select", "1:ncpus=1").split(":")
    if not chunk[0].isdigit():
        raise Refused(ILLEGAL, "Illegal attribute or resource value Resource_List.select")
    j["nodect"] = int(chunk[0])
    for part in chunk[1:]:
        name, _, value = part.partition("=")
        if name not in RESOURCES:
            raise Refused(UNKNOWN_RESOURCE, "Unknown resource: %s" % name)
        if name == "mem" and not re.match(r"^\d+[kmgt]?[bw]?$", value):
            raise Refused(ILLEGAL, "Illegal attribute or resource value select.mem")
        if name in ("ncpus", "mpiprocs"):
            j[name] = int(value)
    j["walltime"] = seconds(j["Resource_List"].get("walltime", "43800:00:00"))


def qsub(home, argv):
    o = {"line": set()}
    rest = options(argv, o, True)
    if rest and rest[0] == "--":
        script = " ".join(shlex.quote(w) for w in rest[1:]) + "\n"
    elif rest:
        try:
            with open(rest[0], encoding="utf-8", errors="surrogateescape") as f:
                script = f.read()
        except OSError as e:
            raise Refused(1, "script file:: %s" % e.strerror)
        for line in script.splitlines():
            if line.startswith(o.get("-C", "#PBS")):
                options(words(line[len(o.get("-C", "#PBS")):]), o, False)
            elif line.strip() and not line.startswith("#"):
                break
    else:
        script = sys.stdin.read()
    name = o.get("-N", os.path.basename(rest[0]) if rest and rest[0] != "--" else "STDIN")
    if len(name) > 230:
        raise Refused(2, "Job name is too long ")
    if not re.match(r"^[A-Za-z0-9_.+-]+$", name):
        raise Refused(2, "illegal -N value")
    me = getpass.getuser()
    queue = o.get("-q", "workq")
    where, _, server = queue.partition("@")
    if server and server != SERVER:
        print("Unknown Host.", file=sys.stderr)
        raise Refused(160, "cannot connect to server %s (errno=15008)" % server[:7])
    if where not in QUEUES:
        raise Refused(UNKNOWN_QUEUE, "Unknown queue")
    q = QUEUES[where]
    if not q.get("enabled", True):
        raise Refused(NOT_ENABLED, "Queue is not enabled")
    if me not in q.get("users", [me]):
        raise Refused(UNAUTHORIZED, "Unauthorized Request ")
    j = {"Job_Name": name, "Job_Owner": "%s@%s" % (me, SERVER), "job_state": "Q", "queue": where, "server": SERVER, "ctime": time.ctime(), "Hold_Types": "n",
         "Resource_List": {}, "ncpus": 1, "mpiprocs": 1, "substate": 10, "Rerunable": "False" if o.get("-r") == "n" else "True",
         "Submit_arguments": " ".join(argv), "Mail_Points": o.get("-m", "a")}
    resources(o, j)
    if j["walltime"] > q.get("walltime", 1 << 40) or j["ncpus"] * j["nodect"] > q.get("ncpus", 1 << 40):
        raise Refused(OVER_LIMIT, "Job violates queue and/or server resource limits")
    if o.get("-A"):
        j["Account_Name"] = o["-A"]
    if "-h" in o:
        j.update(job_state="H", Hold_Types="u", substate=20)
    if "-J" in o:
        j["array"] = "True"
    j["Variable_List"] = {"PBS_O_HOME": os.environ.get("HOME", "/"), "PBS_O_QUEUE": where, "PBS_O_HOST": SERVER}
    for v in o.get("-v", []):
        k, _, value = v.partition("=")
        j["Variable_List"][k] = value
    with State(home) as s:
        ident = "%d%s.%s" % (s.next, "[]" if "-J" in o else "", SERVER)
        j["Output_Path"] = "%s:%s" % (SERVER, os.path.abspath(o.get("-o", "%s.o%d" % (name, s.next))))
        s.next += 1
        with open(os.path.join(home, "jobs", ident), "w", encoding="utf-8", errors="surrogateescape") as f:
            f.write(script)
        s.jobs[ident] = j
        s.schedule()
        hang = s.control["slow_qsub"]
    if hang:
        signal.pause()
    print(ident)


# ---- asking and deleting --------------------------------------------------------------------------------------------


def escape(text):
    """A string as 23.06 prints it: a backslash takes the next character with it, whatever that is."""
    out, i = "", 0
    for c, r in (("\b", "\\b"), ("\f", "\\f"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(c, r + "\0")
    while i < len(text):
        c = text[i]
        if c == "\\" and text[i + 1:i + 3].endswith("\0"):
            out, i = out + text[i:i + 2], i + 2
        elif c == "\\" and i + 1 < len(text) and text[i + 1] in "',":
            out, i = out + text[i + 1], i + 1
        elif c == "\\":
            out, i = out + text[i:i + 2], i + 1
        elif c == '"':
            out += '"' if text[i - 1:i] == "\\" else '\\"'
        elif ord(c) < 32 or c == "\x7f":
            out += "^" + chr(ord(c) ^ 64)
        elif c != "\0":
            out += c
        i += 1
    return out


def value(v):
    if not isinstance(v, str):
        return str(v)
    try:
        number = float(v)
        if not v.startswith("0") or number < 1:
            return v        # as it was given: `1.` is no JSON
    except ValueError:
        pass
    return '"%s"' % escape(v)


def json_lines(doc, indent=4):
    return ",\n".join('%s"%s":%s' % (" " * indent, k, "{\n%s\n%s}" % (json_lines(v, indent + 4), " " * indent) if isinstance(v, dict) else value(v))
                      for k, v in doc.items())


def print_json(doc):
    doc = dict({"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER}, **doc)
    sys.stdout.buffer.write(("{\n%s\n}" % json_lines(doc)).encode("utf-8", "surrogateescape"))


def qstat(home, argv):
    if argv == ["--version"]:
        print("pbs_version = 23.06.06")
        return 0
    flags, ids = [a for a in argv if a.startswith("-")], [a for a in argv if not a.startswith("-") and a != "json"]
    text = "-F" not in flags
    if not set(flags) <= {"-x", "-f", "-F", "-B", "-Q"} or "-f" not in flags or (text and not {"-B", "-Q"} & set(flags)):
        raise Refused(2, "not in this fake: %s" % " ".join(argv))
    with State(home) as s:
        s.schedule()
        jobs, control = s.jobs, s.control
        if "-B" in flags:
            return show({"Server": {SERVER: {"server_state": "Active", "scheduling": "True", "default_queue": "workq",
                                             "job_history_enable": "True" if control["history"] else "False"}}}, text)
        if "-Q" in flags:
            return show_queues(ids, text)
        found, status = {}, 0
        for i in ids or list(jobs):
            try:
                if "-x" in flags and not control["history"]:
                    print("qstat: PBS is not configured to maintain job history %s" % i, file=sys.stderr)
                    continue
                i = s.find(i)
                if jobs[i]["job_state"] == "F" and "-x" not in flags:
                    if ids:
                        print("qstat: %s Job has finished, use -x or -H to obtain historical job information" % i, file=sys.stderr)
                        status = FINISHED
                    continue
                found[i] = {k: v for k, v in jobs[i].items() if k not in ("mom", "nodes", "walltime", "ncpus", "mpiprocs", "nodect")}
            except Refused as e:
                print("qstat: %s" % e, file=sys.stderr)
                status = e.status
    print_json({"Jobs": found} if found else {})
    return status


def show(doc, text):
    """As JSON, or as `qstat -Q -f` and `-B -f` print it."""
    if not text:
        return print_json(doc)
    for kind, objects in doc.items():
        for name, members in objects.items():
            print("%s: %s" % (kind, name))
            for k, v in members.items():
                for sub, w in v.items() if isinstance(v, dict) else [("", v)]:
                    print("    %s%s = %s" % (k, "." + sub if sub else "", w))
            print()


def show_queues(names, text):
    status, found = 0, {}
    for n in names or QUEUES:
        if n.partition("@")[0] not in QUEUES:
            print("qstat: Unknown queue destination %s" % n, file=sys.stderr)
            status = UNKNOWN_QUEUE
            continue
        q = QUEUES[n.partition("@")[0]]
        found[n] = {"queue_type": "Execution", "enabled": str(q.get("enabled", True)), "started": str(q.get("started", True))}
        if "walltime" in q:
            found[n]["resources_max"] = {"ncpus": q["ncpus"], "walltime": "00:01:00"}
        if "users" in q:
            found[n].update(acl_user_enable="True", acl_users=",".join(q["users"]))
    show({"Queue": found} if found else {}, text)
    return status


def qselect(home, argv):
    assert argv[0] == "-u" and len(argv) == 2, argv
    with State(home) as s:
        s.schedule()
        for i, j in s.jobs.items():
            if j["job_state"] != "F" and j["Job_Owner"] == "%s@%s" % (argv[1], SERVER):
                print(i)


def qdel(home, argv):
    status = 0
    with State(home) as s:
        for text in argv:
            try:
                if not re.match(r"^\d+(\[\d*\])?(\.\w+)?$", text) or ("." in text and not text.endswith("." + SERVER)):
                    raise Refused(1, "illegally formed job identifier: %s" % text)
                i = s.find(text)
                j = s.jobs[i]
                if j["Job_Owner"] != "%s@%s" % (getpass.getuser(), SERVER):
                    raise Refused(UNAUTHORIZED, "Unauthorized Request  %s" % i)
                if j["job_state"] == "F":
                    raise Refused(FINISHED, "Job has finished %s" % i)
                if j["job_state"] == "R":
                    os.kill(j["mom"], signal.SIGUSR1)
                else:
                    s.finish(i, None, True)
            except Refused as e:
                print("qdel: %s" % e, file=sys.stderr)
                status = e.status
    return status


def hold(home, argv, types):
    with State(home) as s:
        for text in argv:
            j = s.jobs[s.find(text)]
            if j["job_state"] in "QH":
                j.update(job_state="H" if types != "n" else "Q", Hold_Types=types, substate=20 if types != "n" else 10)
        s.schedule()


def qhold(home, argv):
    """-h s: a hold of PBS itself, as after too many starts that failed."""
    hold(home, argv[2:] if argv[0] == "-h" else argv, argv[1] if argv[0] == "-h" else "u")


def qrls(home, argv):
    hold(home, argv, "n")


def pbsnodes(home, argv):
    assert argv == ["-l"], argv
    with State(home) as s:
        for n, state in s.control["nodes"].items():
            if state != "free":
                print("%-20s %s node down: communication closed" % (n, state))


def main():
    what, argv, home = sys.argv[1], sys.argv[2:], os.environ["WEFT_FAKE_PBS"]
    if what == "mom":
        return mom(home, argv[0])
    if what == "hostname":
        print(os.environ.get("WEFT_FAKE_NODE") or os.uname().nodename)
        return 0
    if what not in ("pbsdsh", "mpiexec", "ssh") and argv != ["--version"]:
        with open(os.path.join(home, CONF)) as f:
            server = json.load(f)["server"]
        if server == "hang":
            signal.pause()
        if server == "refused":
            print("Connection refused\n" + ("Couldn't connect to cluster: %s" % SERVER if what == "qdel"
                                            else "%s: cannot connect to server %s (errno=15010)" % (what, SERVER)), file=sys.stderr)
            return 255 if what == "qstat" else 162
    try:
        return globals()[what](home, argv)
    except Refused as e:
        print("%s: %s" % (what, e), file=sys.stderr)
        return e.status


if __name__ == "__main__":
    sys.exit(main())

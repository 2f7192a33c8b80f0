#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The weft CLI at work on a real fabric: functions run from their file, lines mapped and resumed, commands, logins, live views on a
pseudo-terminal, logs."""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Fabric, address, main, ok, pids_of, redis, sanitized, second_user, wait_for  # noqa: E402
from fileserver import self_signed  # noqa: E402
from relay import Relay  # noqa: E402
from terminal import Terminal  # noqa: E402

SOURCE = '''
import os
import time

def add(a, b):
    return a + b

def uneven(x):
    time.sleep(0.02 * (x % 5))
    if x % 10 == 7:
        raise ValueError("no %d" % x)
    return {"x": x, "text": "l1\\nl2"}

def square(x):
    return x * x

def note(x):
    with open(os.environ["WEFT_TEST_NOTES"], "ab", 0) as f:
        f.write(b"%d\\n" % x)
    if x % 100 == 50 and not os.path.exists(os.environ["WEFT_TEST_NOTES"] + ".mended"):
        raise RuntimeError("broken")
    return -x

def hold(x):
    time.sleep(0.1)
    return x

def gate(x):
    while not os.path.exists(os.environ["WEFT_TEST_NOTES"] + ".open"):
        time.sleep(0.02)
    return x

def talk(n):
    import sys
    for i in range(n):
        print("tick", i, flush=True)
        print("tock", i, file=sys.stderr, flush=True)
        time.sleep(0.3)
    return n
'''


def make(build):
    f = Fabric(build, workers=2)
    f.extra["WEFT_TEST_NOTES"] = os.path.join(f.state, "notes")
    with open(os.path.join(f.state, "w.py"), "w") as s:
        s.write(SOURCE)
    return f


def path(f, name):
    return os.path.join(f.state, name)


def fn(f, name):
    return path(f, "w.py") + "::" + name


def lines_file(f, name, lines):
    with open(path(f, name), "w") as s:
        s.write("".join("%s\n" % x for x in lines))
    return path(f, name)


def popen(f, *args, env=None, **kw):
    kw = dict(dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE), **kw)
    return subprocess.Popen([os.path.join(f.bin, "weft")] + list(args), env=env or f.env(), **kw)


def end_of(p, timeout=120):
    """(status, stdout, stderr) once it has ended."""
    out, err = p.communicate(timeout=timeout)
    return p.returncode, out.decode(), err.decode()


def functions(f):
    return json.loads(f.weft("function", "list", "--json").stdout)


# ---- functions of files ---------------------------------------------------------------------------------------------------------

def from_file(report, f):
    before = len(functions(f))
    r = f.weft("run", fn(f, "add"), '{"args": [1, 2]}')
    report.check("run FILE::NAME prints the result", r.stdout == "3\n", r)
    report.check("and registers it", len(functions(f)) == before + 1)
    ps = [popen(f, "run", fn(f, "square"), "7") for _ in range(4)]
    outs = [end_of(p)[1] for p in ps]
    report.check("four at once", outs == ["49\n"] * 4, outs)
    f.weft("run", fn(f, "add"), '{"args": [1, 2]}')
    report.check("the same content is registered once", len(functions(f)) == before + 2, [x["function_name"] for x in functions(f)])
    with open(path(f, "w2.py"), "w") as s:
        s.write(SOURCE + "\n# changed\n")
    f.weft("run", path(f, "w2.py") + "::add", '{"args": [1, 2]}')
    report.check("changed content is another function", len(functions(f)) == before + 3)
    r = f.weft("run", os.path.join(f.build, "examples", "digits_sum.so"), "1,2", check=False)
    report.check("a shared object without ::SYMBOL: weft_function", r.stdout == "3\n", r)
    r = f.weft("run", path(f, "none.so"), check=False)
    report.check("one that is not there is named", r.returncode == 1 and "none.so" in r.stderr and "No such file" in r.stderr, r)
    a, b = (f.weft("function", "register", "--once", "--name", "n%d" % i, "--", "cat").stdout for i in (1, 1))
    c = f.weft("function", "register", "--once", "--name", "n2", "--", "cat").stdout
    report.check("function register --once", a == b != c, (a, b, c))
    f.weft("function", "update", "n1", "--memory", "1GiB", "--image", "example.org/x:1")
    d = f.weft("function", "register", "--once", "--name", "n1", "--", "cat").stdout
    report.check("one that was changed since is not it any more", d != a, (a, d))
    f.weft("function", "delete", d.strip())
    e = f.weft("function", "register", "--once", "--name", "n1", "--", "cat").stdout
    report.check("nor one that was deleted", e not in (a, d), (a, d, e))
    body = {"function_name": "o", "function_code": "def o(): pass", "kind": "python", "entry": "o", "once": True}
    mine = ok(f.http("POST", "/v3/functions", body))["function_uuid"]
    body["meta"] = {"python_version": "9"}
    again = ok(f.http("POST", "/v3/functions", body))["function_uuid"]
    others = ok(f.http("POST", "/v3/functions", body, token=second_user(f)))["function_uuid"]
    report.check("once counts per owner, and metadata does not count", mine == again != others, (mine, again, others))
    status, doc = f.http("POST", "/v3/functions", dict(body, once="yes"))
    report.check("once must be a boolean", status == 422 and "once" in json.dumps(doc), (status, doc))
    for args, word in ((["run"], "FUNCTION"), (["run", "add", "--", "cat"], "both"), (["run", "add", "1", "--map", "x"], "PAYLOAD"),
                       (["run", "add", "--resume", "x"], "--map"), (["run", "add", "--map", "x", "--retry-failed"], "--resume")):
        r = f.weft(*args, check=False)
        report.check("weft %s: exit 2, and why" % " ".join(args), r.returncode == 2 and word in r.stderr and "--help" in r.stderr, r)
    r = f.weft("run", path(f, "none.py") + "::x", check=False)
    report.check("a file that is not there: exit 1, its name", r.returncode == 1 and "none.py" in r.stderr, r)
    r = f.weft("run", path(f, "w.py") + "::", check=False)
    report.check("no name behind the colons", r.returncode == 1 and "::NAME" in r.stderr, r)
    r = f.weft("run", path(f, "w.py"), check=False)
    report.check("a file without a name: how to say it", r.returncode == 1 and "w.py::NAME" in r.stderr, r)
    r = f.weft("run", fn(f, "uneven"), "7", check=False)
    report.check("a traceback, and no blank lines behind it", r.returncode == 3 and r.stderr.endswith("ValueError: no 7\n"), r)
    r = f.weft("result", "00000000-0000-0000-0000-000000000001", check=False)
    report.check("result of an unknown task ends, and says so", r.returncode == 3 and "not known" in r.stderr, r)


# ---- map --------------------------------------------------------------------------------------------------------------------------

def mapping(report, f):
    r = f.weft("run", fn(f, "uneven"), "--map", lines_file(f, "in", list(range(40)) + ["", "  "]), check=False)
    out = r.stdout.splitlines()
    good = [json.loads(x) for x in out] == [None if i % 10 == 7 else {"x": i, "text": "l1\nl2"} for i in range(40)]
    report.check("a line of JSON for each line, in order, null for a failure", good, r.stdout)
    report.check("failures are told with their line", [int(x) for x in re.findall(r"line (\d+): task \S+ failed: ValueError: no", r.stderr)] == [8, 18, 28, 38], r.stderr)
    report.check("exit 3, and how many", r.returncode == 3 and "4 of 40 lines failed" in r.stderr, r)
    r = f.weft("run", fn(f, "uneven"), "--map", "-", "--json", check=False, input="6\n\n7")
    docs = [json.loads(x) for x in r.stdout.splitlines()]
    report.check("--json: objects with the line, blank ones left out", [(d["line"], d["status"]) for d in docs] == [(1, "success"), (3, "failed")] and
                 docs[0]["result"]["x"] == 6 and "ValueError: no 7" in docs[1]["exception"] and docs[1]["code"] == "TASK_EXCEPTION", r)
    with open(path(f, "raw"), "wb") as s:
        s.write(b"1\n\xff\xfe\n3\n")
    r = f.weft("run", fn(f, "square"), "--map", path(f, "raw"), check=False)
    report.check("a line that is no text fails alone", r.returncode == 3 and r.stdout.split() == ["1", "null", "9"] and "line 2: the line is not UTF-8" in r.stderr, r)
    r = f.weft("run", "--map", "-", "--", "tr", "a-z", "A-Z", input='one\n"two"\n3\n')
    report.check("commands: text that is no JSON becomes a JSON string", [json.loads(x) for x in r.stdout.splitlines()] == ["ONE", "TWO", 3], r.stdout)
    r = f.weft("run", fn(f, "square"), "--map", lines_file(f, "none", []))
    report.check("no lines: nothing, and said", r.stdout == "" and "no lines" in r.stderr, r)
    r = f.weft("run", fn(f, "square"), "--map", path(f, "nofile"), check=False)
    report.check("no file", r.returncode == 1 and "nofile" in r.stderr, r)
    r = f.weft("run", fn(f, "talk"), "--map", lines_file(f, "slow", [100]), "--timeout", "1s", check=False)
    report.check("--timeout: exit 4, how to go on or stop", r.returncode == 4 and "time to wait is over" in r.stderr and "--resume" in r.stderr, r)
    for t in json.loads(f.weft("tasks", "--status", "pending", "--json").stdout)["tasks"]:
        f.weft("cancel", t["task_id"])
    p = popen(f, "run", fn(f, "square"), "--map", "-", stdin=subprocess.PIPE)
    for i in (5, 6):
        p.stdin.write(b"%d\n" % i)
        p.stdin.flush()
        line = p.stdout.readline()
        report.check("a result comes while the input goes on (%d)" % i, line == b"%d\n" % (i * i), line)
    rc, out, err = end_of(p)
    report.check("and it ends with it", rc == 0 and out == "", (rc, out, err))
    p = popen(f, "run", fn(f, "square"), "--map", lines_file(f, "many", range(30000)))
    n, last, peak, limit = 0, -1, 0, 40 * 1024
    for line in p.stdout:
        n += 1
        last = int(line)
        if n % 1000 == 0:
            with open("/proc/%d/status" % p.pid) as s:
                peak = max([peak] + [int(x.split()[1]) for x in s if x.startswith("VmHWM")])
            if sanitized(p.pid):
                limit = float("inf")
    rc, _, err = end_of(p)
    report.check("30,000 lines in order", rc == 0 and n == 30000 and last == 29999 ** 2, (rc, n, last, err))
    report.check("in bounded memory", 0 < peak < limit, "%d KiB" % peak)
    r = f.weft("submit", fn(f, "square"), "--map", lines_file(f, "three", [3, 4, 5]))
    ids = r.stdout.split()
    report.check("submit --map prints an id for each", len(ids) == 3 and f.weft("result", *ids).stdout.split() == ["9", "16", "25"], r)


def large(report, f):
    """Results that are long, and a line that is too long."""
    r = f.weft("run", "--map", "-", "--", "sh", "-c", "read n; head -c 2000000 /dev/zero | tr '\\0' $n", input="".join("%d\n" % (i % 10) for i in range(30)))
    out = r.stdout.splitlines()
    report.check("30 results of 2 MB", len(out) == 30 and all(x.strip('"') == str(i % 10) * 2000000 for i, x in enumerate(out)),
                 ([(len(x), x[:3]) for x in out[:3]], r.stderr))
    r = f.weft("run", "--map", "-", "--json", "--", "wc", "-c", input="1\n%s\n3\n" % ("x" * (11 << 20)), check=False)
    docs = [json.loads(x) for x in r.stdout.splitlines()]
    report.check("a line that is too large fails alone", r.returncode == 3 and [d["status"] for d in docs] == ["success", "failed", "success"] and
                 "larger than the service takes" in docs[1]["reason"], (r.returncode, [(d["status"], d.get("reason")) for d in docs]))


def notes(f):
    try:
        with open(path(f, "notes")) as s:
            return sorted(int(x) for x in s)
    except FileNotFoundError:
        return []


def locks(pid):
    """Locks on files that the process has."""
    with open("/proc/locks") as s:
        return [line for line in s if str(pid) in line.split()]


def resuming(report, f):
    args = ["run", fn(f, "note"), "--map", lines_file(f, "notes.in", range(6000)), "--resume", path(f, "notes.run")]
    for least in (1, 2500):
        p = popen(f, *args)
        wait_for(lambda: len(notes(f)) >= least, 60, "tasks to run")
        p.kill()
        p.communicate()
    p = popen(f, *args)
    wait_for(lambda: locks(p.pid), 60, "the record to be taken")
    p.send_signal(signal.SIGSTOP)
    report.check("a second one on the same record is refused", "in use" in f.weft(*args, check=False).stderr)
    p.send_signal(signal.SIGCONT)
    wait_for(lambda: len(notes(f)) >= 4000, 60, "tasks to run")     # also what the one before has submitted
    service = pids_of(f, "service")
    for pid in service:
        os.kill(pid, signal.SIGKILL)
    f._conn = None      # it is of no use any more
    rc, out, err = end_of(p)
    want = [-i if i % 100 != 50 else None for i in range(6000)]
    report.check("killed twice, its service killed once: all results in order", rc == 3 and [json.loads(x) for x in out.split()] == want, (rc, len(out.split()), err[-500:]))
    report.check("it says that it goes on", "going on with" in err, err[:300])
    report.check("no line ran twice", notes(f) == list(range(6000)), len(notes(f)))
    open(path(f, "notes.mended"), "w").close()
    r = f.weft(*args, "--retry-failed")
    report.check("--retry-failed mends what had failed", [int(x) for x in r.stdout.split()] == [-i for i in range(6000)], r.stderr)
    report.check("and runs nothing else", len(notes(f)) == 6060, len(notes(f)))
    r = f.weft(*args)
    report.check("once more: the same, and nothing runs", len(r.stdout.split()) == 6000 and len(notes(f)) == 6060, r.stderr)
    lines_file(f, "notes.in", [0, 1, 1] + list(range(3, 6000)))
    r = f.weft(*args, check=False)
    report.check("other input is refused, with the line", r.returncode == 1 and "line 3 of" in r.stderr and "another --resume" in r.stderr, r)
    r = f.weft("run", fn(f, "square"), *args[2:], check=False)
    report.check("another function is refused", r.returncode == 1 and "begun with function" in r.stderr, r)
    with open(path(f, "notes.run"), "ab") as s:
        s.write(b'{"first":99999,"tas')
    lines_file(f, "notes.in", range(6000))
    r = f.weft(*args)
    report.check("a torn last line is no harm", len(r.stdout.split()) == 6000, r.stderr)
    r = f.weft("run", fn(f, "note"), "--map", path(f, "notes.in"), "--resume", path(f, "w.py"), check=False)
    report.check("a file of another kind is left as it is", r.returncode == 1 and "not a record" in r.stderr and open(path(f, "w.py")).read() == SOURCE, r)


def interrupting(report, f):
    p = popen(f, "run", fn(f, "talk"), "--map", lines_file(f, "talks", [1000] * 6))
    group = wait_for(lambda: next((t["task_group_id"] for t in json.loads(f.weft("tasks", "--status", "running", "--json").stdout)["tasks"]), None),
                     30, "a running task")
    p.send_signal(signal.SIGINT)
    rc, out, err = end_of(p, 60)
    report.check("Ctrl-C: exit 130, how to stop the tasks", rc == 130 and "weft cancel --group " + group in err, (rc, err))
    r = f.weft("tasks", "--group", group)
    report.check("tasks --group", r.stdout.count("talk") == 6, r.stdout)
    r = f.weft("cancel", "--group", group)
    report.check("cancel --group", "6 cancelled" in r.stdout, r.stdout)
    r = f.weft("cancel", "--group", group, "--json")
    report.check("cancel --group --json, again", json.loads(r.stdout)["cancelled"] in (0, 6), r.stdout)


# ---- commands ---------------------------------------------------------------------------------------------------------------------

def commands(report, f):
    def run(*args, **kw):
        p = subprocess.run([os.path.join(f.bin, "weft"), "run"] + list(args), env=f.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=120, **dict(dict(input=b""), **kw))
        return p.returncode, p.stdout, p.stderr
    report.check("stdin and stdout", run("--", "tr", "a-z", "A-Z", input=b"hello") == (0, b"HELLO", b""))
    rc, out, err = run("--", "sh", "-c", "echo out; echo err >&2; exit 5")
    report.check("stdout, stderr and exit status", (rc, out, err) == (5, b"out\n", b"err\n"), (rc, out, err))
    rc, out, err = run("--", "sh", "-c", "echo good; echo bad >&2")
    report.check("stderr of one that succeeds", (rc, out, err) == (0, b"good\n", b"bad\n"), (rc, out, err))
    blob = bytes(range(256)) * 50
    rc, out, err = run("--", "cat", input=blob)
    report.check("bytes go through", rc == 0 and out == blob, (rc, len(out), err))
    rc, out, err = run("--", "sh", "-c", "wc -c; exit 4", input=blob)
    report.check("bytes and an exit status", rc == 4 and out.split() == [b"12800"], (rc, out, err))
    rc, out, err = run("--", "no-such-program")
    report.check("not found: 127, on which node", rc == 127 and b"no-such-program" in err and b"node" in err and err.count(b"\n") == 1, (rc, err))
    rc, out, err = run("--", "sh", "-c", "kill -TERM $$")
    report.check("signal: 128 + its number", rc == 143, (rc, err))
    rc, out, err = run("--time-limit", "300ms", "--", "sleep", "30")
    report.check("time limit: 125, and why", rc == 125 and b"time limit" in err, (rc, err))
    rc, out, err = run("--endpoint", "nowhere", "--", "true")
    report.check("no such endpoint: 125", rc == 125 and b"nowhere" in err, (rc, err))
    rc, out, err = run("--json", "--", "echo", "-n", "x")
    report.check("--json: the task's document", rc == 0 and json.loads(out)["result"] == "x", (rc, out, err))
    rc, out, err = run("--input", lines_file(f, "cin", ["a b c"]), "--", "wc", "-w")
    report.check("--input", rc == 0 and out.split() == [b"3"], (rc, out, err))
    tid = f.weft("submit", "--", "echo", "later").stdout.strip()
    report.check("submit -- COMMAND", f.weft("result", tid).stdout == "later\n")
    p = popen(f, "run", "--", "sleep", "100")
    tid = wait_for(lambda: next((t["task_id"] for t in json.loads(f.weft("tasks", "--status", "running", "--json").stdout)["tasks"]), None), 30, "it to run")
    p.send_signal(signal.SIGINT)
    rc, out, err = end_of(p, 60)
    report.check("Ctrl-C cancels it", rc == 130 and tid in err, (rc, err))
    report.check("really", json.loads(f.weft("status", tid, "--json").stdout)["status"] == "cancelled")


# ---- login ------------------------------------------------------------------------------------------------------------------------

def logins(report, f):
    home = path(f, "home")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
    env["WEFT_HOME"] = home

    def weft(*args, more=None, **kw):
        r = subprocess.run([os.path.join(f.bin, "weft")] + list(args), env=dict(env, **(more or {})), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           universal_newlines=True, timeout=60, **dict(dict(input=""), **kw))
        return r
    r = weft("whoami")
    report.check("nothing is set up: what to do", r.returncode == 1 and "weft login" in r.stderr and "weft up" in r.stderr, r.stderr)
    r = weft("login", f.url, input="weft_wrong\n")
    report.check("a wrong token is refused, nothing is stored", r.returncode == 1 and "does not accept" in r.stderr and not os.path.exists(home + "/profiles"), r)
    r = weft("login", "http://127.0.0.1:1", input="x\n")
    report.check("no service there", r.returncode == 1 and "cannot be reached" in r.stderr, r)
    r = weft("login", "http://weft.example.org", input="x\n")
    report.check("http to another machine is refused", r.returncode == 1 and "--plain-http" in r.stderr, r)
    r = weft("login", "weft.example.org", input="x\n")
    report.check("no URL", r.returncode == 1 and "https://" in r.stderr, r)
    r = weft("login", f.url + "/", input=f.token + "\n")
    report.check("login", r.returncode == 0 and "logged in" in r.stdout and f.token not in r.stdout + r.stderr, r)
    at = os.path.join(home, "profiles", "127.0.0.1")
    report.check("stored where only its owner reads", os.stat(at).st_mode & 0o777 == 0o600 and os.stat(home).st_mode & 0o777 == 0o700)
    report.check("and used", weft("whoami").returncode == 0 and json.loads(weft("endpoint", "list", "--json").stdout)[0]["uuid"] == f.endpoint)
    other = second_user(f, "bob")
    with open(path(f, "bobs"), "w") as s:
        os.fchmod(s.fileno(), 0o600)
        s.write(other)
    r = weft("login", f.url, "--profile", "bob", "--token-file", path(f, "bobs"), "--json")
    report.check("a second profile, from a file", r.returncode == 0 and json.loads(r.stdout)["name"] == "bob", r)
    name = lambda *a, **kw: json.loads(weft("whoami", "--json", *a, **kw).stdout)["name"]  # noqa: E731
    report.check("the last login is used", name() == "bob")
    report.check("--profile", name("--profile", "127.0.0.1") == "local")
    report.check("WEFT_PROFILE", name(more={"WEFT_PROFILE": "127.0.0.1"}) == "local")
    report.check("WEFT_URL and WEFT_TOKEN stand above the login", name(more={"WEFT_URL": f.url, "WEFT_TOKEN": f.token}) == "local")
    report.check("WEFT_PROFILE above them", name(more={"WEFT_URL": f.url, "WEFT_TOKEN": f.token, "WEFT_PROFILE": "bob"}) == "bob")
    report.check("--state", name("--state", f.state) == "local")
    report.check("WEFT_URL alone, of the login: its token", name(more={"WEFT_URL": f.url}) == "bob")
    r = weft("whoami", more={"WEFT_URL": "http://127.0.0.1:1"})
    report.check("a stored token goes nowhere else", r.returncode == 1 and "no token for http://127.0.0.1:1" in r.stderr, r)
    r = weft("whoami", "--url", "http://127.0.0.1:1")
    report.check("nor with --url", r.returncode == 1 and "no token for http://127.0.0.1:1" in r.stderr, r)
    r = weft("whoami", "--state", f.state, "--profile", "bob")
    report.check("--state and --profile contradict", r.returncode == 1 and "two different" in r.stderr, r)
    r = weft("whoami", "--profile", "nobody")
    report.check("an unknown profile", r.returncode == 1 and "weft login --profile nobody" in r.stderr, r)
    rows = json.loads(weft("profile", "list", "--json").stdout)
    report.check("profile list", [(x["profile"], x["in_use"]) for x in rows] == [("127.0.0.1", False), ("bob", True)] and "bob" in weft("profile", "list").stdout, rows)
    weft("profile", "use", "127.0.0.1")
    report.check("profile use", name() == "local")
    report.check("env --profile", "WEFT_TOKEN=" + other in weft("env", "--profile", "bob").stdout)
    os.chmod(at, 0o644)
    r = weft("whoami")
    report.check("a file that others can read is refused", r.returncode == 1 and "127.0.0.1" in r.stderr, r)
    os.chmod(at, 0o600)
    r = weft("login", f.url, "--profile", "app", "--client-id", "bob", input=other + "\n")
    report.check("client id and secret", r.returncode == 0 and name() == "bob", r)
    r = weft("login", f.url, "--profile", "app2", "--client-id", "bob", input="wrong\n")
    report.check("a wrong secret", r.returncode == 1 and "client id" in r.stderr, r)
    r = weft("login", f.url, "--profile", "app3", "--client-id", "bob", "--secret-file", path(f, "bobs"))
    report.check("the secret from a file", r.returncode == 0 and name("--profile", "app3") == "bob", r)
    for args, words in ((["--client-id", "bob", "--secret-file", path(f, "no.secret")], path(f, "no.secret") + ": No such file"),
                        (["--secret-file", path(f, "bobs")], "needs --client-id"), (["--client-id", "bob", "--token-file", path(f, "bobs")], "goes with --secret-file")):
        r = weft("login", f.url, "--profile", "app4", *args, input=other + "\n")
        report.check("refused: %s" % words, r.returncode == 1 and words in r.stderr and not os.path.exists(home + "/profiles/app4"), r)
    weft("profile", "use", "app")
    text = open(home + "/profiles/app").read()
    token = re.search("WEFT_TOKEN=(.*)", text).group(1)
    with open(home + "/profiles/app", "w") as s:
        s.write(re.sub("WEFT_TOKEN_EXPIRES=.*", "WEFT_TOKEN_EXPIRES=%d" % time.time(), text))
    report.check("an expired token is renewed", name() == "bob" and token not in open(home + "/profiles/app").read())
    text = open(home + "/profiles/app").read()
    with open(home + "/profiles/app", "w") as s:
        s.write(re.sub("WEFT_TOKEN=.*", "WEFT_TOKEN=weft_revoked", text))
    report.check("and one that is refused", name() == "bob" and "weft_revoked" not in open(home + "/profiles/app").read())
    r = weft("logout")
    report.check("logout", r.returncode == 0 and not os.path.exists(home + "/profiles/app"), r)
    report.check("then no profile is in use", weft("logout").returncode == 1 and weft("whoami").returncode == 1)
    report.check("logout --all", weft("logout", "--all").returncode == 0 and json.loads(weft("profile", "list", "--json").stdout) == [])
    t = Terminal([os.path.join(f.bin, "weft"), "login", f.url], env)
    t.until(b"token (is not shown): ")
    t.send(f.token.encode() + b"\n")
    t.until(b"logged in")
    report.check("asked on a terminal, the token is not shown", t.end() == 0 and f.token.encode() not in t.text, t.text)


def private_ca(report, f):
    """A service behind a proxy that ends TLS, with a certificate that nobody else knows."""
    context, cert = self_signed(f.state)
    proxy = Relay(lambda: address(f), context)
    proxy.start()
    url, home = "https://127.0.0.1:%d" % proxy.port, path(f, "tls-home")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
    env.update(WEFT_HOME=home, WEFT_TOKEN=f.token)

    def weft(*args, **kw):
        return subprocess.run([os.path.join(f.bin, "weft")] + list(args), env=env, stdin=kw.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=60, **kw)
    r = weft("whoami", "--url", url)
    report.check("a certificate that is not known is refused", r.returncode == 1 and "certificate" in r.stderr, r)
    r = weft("whoami", "--url", url, "--ca-file", cert)
    report.check("--ca-file", r.returncode == 0 and "local" in r.stdout, r)
    r = weft("run", "--url", url, "--ca-file", cert, fn(f, "square"), "7", "-e", f.endpoint)
    report.check("a call through it", r.stdout == "49\n", r)
    r = weft("whoami", "--url", url, "--ca-file", path(f, "none.pem"))
    report.check("--ca-file that is not there", r.returncode == 1 and path(f, "none.pem") in r.stderr, r)
    del env["WEFT_TOKEN"]
    with open(path(f, "tls.token"), "w") as s:
        os.fchmod(s.fileno(), 0o600)
        s.write(f.token)
    r = weft("login", url, "--token-file", path(f, "tls.token"), "--ca-file", os.path.basename(cert), cwd=f.state)
    report.check("login --ca-file", r.returncode == 0, r)
    r = weft("whoami", cwd="/")
    report.check("is remembered, and from another directory", r.returncode == 0 and "local" in r.stdout, r)
    r = weft("login", url, "--token-file", path(f, "tls.token"), "--profile", "other")
    report.check("by that profile only", r.returncode == 1 and "certificate" in r.stderr, r)


# ---- an endpoint that is not there ----------------------------------------------------------------------------------------------

def offline(report, f):
    """Who waits for it is told so, on standard error."""
    f.http("POST", "/v3/endpoints", {"endpoint_name": "asleep"})
    said = "endpoint asleep is offline: the task waits until it connects"
    for what in ([fn(f, "square"), "3"], ["--", "true"]):
        r = f.weft("run", "-e", "asleep", "--timeout", "300ms", *what, check=False)
        report.check("run %s on an endpoint that is offline: told when the time is over" % what[0], r.returncode == 4 and said in r.stderr and r.stdout == "", r)
        t = Terminal([os.path.join(f.bin, "weft"), "run", "-e", "asleep"] + what, f.env())
        t.until(said.encode())
        t.send(b"\x03")
        t.end()
        report.check("and on a terminal while it waits, once", t.text.count(b"is offline") == 1, t.text)
    r = f.weft("run", "-e", "asleep", "--timeout", "300ms", "--json", fn(f, "square"), "3", check=False)
    report.check("--json stays JSON", r.returncode == 4 and json.loads(r.stdout) == {} and said in r.stderr, r)
    r = f.weft("run", "--timeout", "10ms", fn(f, "talk"), "10", check=False)
    report.check("nothing of it of one that is online", r.returncode == 4 and "offline" not in r.stderr, r)
    f.weft("cancel", r.stderr.split("weft result ")[1].split()[0])


# ---- progress -------------------------------------------------------------------------------------------------------------------

def progress(report, f):
    """Of many tasks: on a terminal, and nowhere else."""
    weft, opened, out = os.path.join(f.bin, "weft"), path(f, "notes.open"), path(f, "progress.out")
    gated = [weft, "run", fn(f, "gate"), "--map", lines_file(f, "progress", range(40))]
    results = "".join("%d\n" % i for i in range(40))

    def let_go(t):
        with open(opened, "w"):
            pass
        status = t.end(60)
        os.unlink(opened)
        return status
    t = Terminal(gated, f.env())
    t.until(b" of 40 done, 0 failed, ")
    status = let_go(t)
    shown = re.sub(r"[^\r\n]*\r\033\[K", "", t.text.decode()).replace("\r\n", "\n")
    report.check("a map on a terminal shows how far it is, and leaves the results", status == 0 and shown == results, (status, t.text))
    t = Terminal(["/bin/sh", "-c", 'exec "$@" > ' + out, "sh"] + gated, f.env())
    t.until(b" of 40 done, 0 failed, ")
    status = let_go(t)
    with open(out) as s:
        report.check("on the terminal alone, when the results go elsewhere", status == 0 and s.read() == results and t.text.endswith(b"\r\033[K"), (status, t.text))
    r = f.weft("run", fn(f, "hold"), "--map", path(f, "progress"))
    report.check("a map in a pipe shows none", r.stdout == results and r.stderr == "", r)
    ids = [f.weft("submit", fn(f, "gate"), str(i)).stdout.strip() for i in range(3)]
    t = Terminal([weft, "result"] + ids, f.env())
    t.until(b"0 of 3 tasks done, ")
    status = let_go(t)
    report.check("results that are waited for on a terminal: how many are there", status == 0 and t.text.endswith(b"\r\033[K0\r\n1\r\n2\r\n"), (status, t.text))
    r = f.weft("result", *[f.weft("submit", fn(f, "talk"), "8").stdout.strip() for i in range(2)])      # 2.4 s, which is long enough
    report.check("and in a pipe nothing of it", r.stdout == "8\n8\n" and r.stderr == "", r)


# ---- live views --------------------------------------------------------------------------------------------------------------------

def watching(report, f):
    weft = os.path.join(f.bin, "weft")
    tid = f.weft("submit", fn(f, "talk"), "100").stdout.strip()
    p = popen(f, "tasks", "--watch", "--interval", "100ms", "--limit", "1")
    seen, lines = threading.Event(), []

    def gather():
        for line in p.stdout:
            lines.append(line.decode())
            if tid in lines[-1] and "running" in lines[-1]:
                seen.set()
    thread = threading.Thread(target=gather, daemon=True)
    thread.start()
    report.check("without a terminal, a line a change", seen.wait(40), lines)
    new = f.weft("submit", fn(f, "square"), "3").stdout.strip()
    f.weft("cancel", tid)
    wait_for(lambda: any(tid in x and "cancelled" in x for x in lines) and any(new in x and "success" in x for x in lines), 40, "changes in %r" % lines)
    report.check("the end of an old one, and a new one", True)
    report.check("no change is told twice", len(lines) == len(set(x.split("  ", 1)[1] for x in lines)), lines)
    p.kill()
    p.communicate()
    thread.join()
    p = popen(f, "tasks", "--watch", "--json", "--interval", "100ms", "--timeout", "5s", "--limit", "3")
    rc, out, err = end_of(p)
    docs = [json.loads(x) for x in out.splitlines()]
    report.check("--json --timeout: an object a change, then the end", rc == 0 and new in [d["task_id"] for d in docs] and len(docs) == 3, (rc, out, err))
    t = Terminal([weft, "tasks", "--watch", "--interval", "200ms"], f.env(), rows=8, cols=100)
    frame = t.until(lambda x: new in x)
    report.check("a table that fits the window", len(frame.split("\n")) <= 8 and all(len(x) <= 100 for x in frame.split("\n")) and "STATUS" in frame, frame)
    later = f.weft("submit", fn(f, "square"), "4").stdout.strip()
    t.until(lambda x: later in x and "square" in x)
    t.resize(30, 60)
    frame = t.until(lambda x: len(x.split("\n")) > 9)
    report.check("it follows the window's size", all(len(x) <= 60 for x in frame.split("\n")), frame)
    t.send(b"q")
    report.check("q ends it", t.end() == 0)
    report.check("and the terminal is as it was", t.text.endswith(b"\033[?25h\033[?1049l"), t.text[-60:])
    t = Terminal([weft, "tasks", "--watch"], f.env())
    t.until(lambda x: later in x)
    t.send(b"\x03")
    report.check("Ctrl-C too", t.end() == 0 and t.text.endswith(b"\033[?1049l"), t.text[-60:])


def topping(report, f):
    weft = os.path.join(f.bin, "weft")
    wait_for(lambda: " 0/2 " in f.weft("top", "--once", "--interval", "100ms").stdout, 30, "idle workers")
    r = f.weft("top", "--once")
    report.check("top --once", "1 online" in r.stdout and re.search(r"local +online +1 +1 +0/2", r.stdout) and "\033" not in r.stdout, r.stdout)
    stop = f.weft("submit", fn(f, "talk"), "200").stdout.strip()
    wait_for(lambda: json.loads(f.weft("status", stop, "--json").stdout)["status"] == "running", 30, "running")
    for i in range(3):
        f.weft("submit", fn(f, "talk"), "200")

    def figures():
        return json.loads(f.weft("top", "--once", "--json", "--interval", "100ms").stdout)["endpoints"][0]
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: [figures()["details"][x] for x in ("running", "idle_workers", "pending_tasks")] == [2, 0, 2], 30, "figures")
    e = figures()
    report.check("top --json: busy workers, the queue", e["status"] == "online" and e["details"]["total_workers"] == 2 and e["details"]["pending_tasks"] == 2 and
                 isinstance(e["tasks_per_s"], float), e)
    t = Terminal([weft, "top", "--interval", "200ms"], f.env(), rows=20, cols=140)
    frame = t.until(lambda x: re.search(r"local +online +1 +1 +2/2 #{10} +2 +2 ", x))
    report.check("the live view shows the same", "talk" in frame and len(frame.split("\n")) <= 20, frame)
    for x in json.loads(f.weft("tasks", "--status", "pending", "--json").stdout)["tasks"]:
        f.weft("cancel", x["task_id"])
    t.until(lambda x: re.search(r"local +online +1 +1 +0/2", x))
    subprocess.run([weft, "run", fn(f, "square"), "--map", lines_file(f, "rate", range(2000))], env=f.env(), stdout=subprocess.DEVNULL, timeout=120)
    t.until(lambda x: re.search(r"running, [1-9][0-9.]*/s", x) or b"/s" in t.text and re.search(rb"running, [1-9][0-9.]*/s", t.text))
    report.check("and rates", True)
    t.resize(5, 40)
    frame = t.until(lambda x: len(x.split("\n")) <= 5 and x)
    report.check("a tiny window is no harm", all(len(x) <= 40 for x in frame.split("\n")), frame)
    t.send(b"x q")
    report.check("q ends it", t.end() == 0)
    p = popen(f, "top", "--json", "--interval", "100ms")
    rows = [json.loads(p.stdout.readline()) for _ in range(3)]
    report.check("--json goes on, an object a line", all(r["endpoints"][0]["name"] == "local" for r in rows), rows)
    p.kill()
    p.communicate()
    listed = ok(f.http("GET", "/v3/endpoints?details=1"))["endpoints"][0]
    alone = ok(f.http("GET", "/v3/endpoints/%s/status" % f.endpoint))
    report.check("the list with details says what status says", listed["details"].keys() == alone["details"].keys() and "details" not in
                 ok(f.http("GET", "/v3/endpoints"))["endpoints"][0], (listed, alone))
    report.check("endpoints of others are not in it", ok(f.http("GET", "/v3/endpoints?details=1&role=any", token=second_user(f, "eve")))["endpoints"] == [])


def logs(report, f):
    tid = f.weft("submit", fn(f, "talk"), "3").stdout.strip()
    r = f.weft("logs", "--follow", tid)
    report.check("logs --follow: both streams", r.stdout == "tick 0\ntick 1\ntick 2\n" and r.stderr == "tock 0\ntock 1\ntock 2\n", r)
    r = f.weft("logs", tid)
    report.check("logs of an ended task", r.stdout.count("tick") == 3, r)
    j = json.loads(f.weft("logs", tid, "--json").stdout)
    report.check("logs --json", j["stdout"].count("tick") == 3 and j["stderr"].count("tock") == 3 and j["status"] == "success" and j["ended"], j)
    cid = f.weft("submit", "--", "sh", "-c", "echo o; echo e >&2").stdout.strip()
    r = f.weft("logs", "-f", cid)
    report.check("logs of a command", (r.stdout, r.stderr) == ("o\n", "e\n"), r)
    r = f.weft("logs", "00000000-0000-0000-0000-000000000001", check=False)
    report.check("logs of an unknown task", r.returncode == 1 and "404" in r.stderr, r)


def live_logs(report, f):
    """What a task prints while it runs."""
    for what, submit, kill in (("a function", ["submit", fn(f, "talk"), "1000"], "cancel"),
                               ("a command", ["submit", "--", "sh", "-c", "i=0; while :; do echo tick $i; echo tock $i >&2; i=$((i+1)); sleep 0.2; done"], "cancel")):
        tid = f.weft(*submit).stdout.strip()
        p = popen(f, "logs", "--follow", tid)
        first = [p.stdout.readline().decode() for _ in range(5)]
        report.check("%s is followed while it runs" % what, first == ["tick %d\n" % i for i in range(5)], first)
        report.check("stderr too", p.stderr.readline() == b"tock 0\n")
        r = f.weft("logs", tid)
        report.check("and looked at once", r.stdout.startswith("tick 0\ntick 1\n") and "has not ended" in r.stderr, r)
        j = json.loads(f.weft("logs", "--json", tid).stdout)
        report.check("as JSON", j["status"] == "running" and not j["ended"] and j["stdout"].startswith("tick 0\n") and j["stdout_bytes"] == len(j["stdout"]), j)
        status, doc = f.http("GET", "/v3/tasks/%s/output" % tid, token=second_user(f, "o" + what[-1:]))
        report.check("by its owner only", status == 404, (status, doc))
        f.weft(kill, tid)
        out, err = p.stdout.read().decode(), p.stderr.read().decode()
        rc = p.wait(40)
        lines = ("".join(first) + out).splitlines()
        report.check("it ends with the task, and nothing is missing or doubled", rc == 0 and lines == ["tick %d" % i for i in range(len(lines))] and len(lines) >= 5, (rc, out[-300:], err[-300:]))
    big = "import sys\ndef big(n):\n    import time\n    for i in range(n):\n        print('%07d' % i)\n    sys.stdout.flush()\n    time.sleep(5)\n    print('end \u00e4')\n"
    with open(path(f, "big.py"), "w") as s:
        s.write(big)
    tid = f.weft("submit", path(f, "big.py") + "::big", "100000").stdout.strip()
    r = f.weft("logs", "--follow", tid)
    lines = r.stdout.splitlines()
    report.check("too much at once: told, and the end is there", lines[-2:] == ["0099999", "end \u00e4"] and len(lines) < 100001 and "went by too fast" in r.stderr,
                 (len(lines), lines[-3:], r.stderr))
    tid = f.weft("submit", fn(f, "talk"), "1000").stdout.strip()
    r = f.weft("logs", "--follow", "--timeout", "10s", tid)
    report.check("--timeout", "tick 2" in r.stdout and "has not ended" in r.stderr, r)
    f.weft("cancel", tid)
    t = Terminal([os.path.join(f.bin, "weft"), "run", "--", "sh", "-c", "echo one; until [ -e '%s' ]; do sleep 0.05; done; seq 1 30000; echo last" % path(f, "shown")], f.env())
    t.until(lambda x: b"one\r\n" in t.text)
    report.check("run -- COMMAND shows its output as it comes", b"last" not in t.text, t.text[-200:])
    open(path(f, "shown"), "w").close()
    rc = t.end(60)
    want = ["one"] + [str(i) for i in range(1, 30001)] + ["last"]
    report.check("all of it in the end", rc == 0 and t.text.decode().split() == want, (rc, len(t.text)))
    wait_for(lambda: not any(redis(f, "--scan", "--pattern", "weft:task:*:" + key) for key in ("followed", "output")), 40, "output to be forgotten")
    report.check("nothing of it is kept for long", True)


def doctoring(report, f):
    """What weft-endpoint doctor says of a token that the service does not take, or that is not good enough."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
    env["WEFT_HOME"] = path(f, "endpoint-home")
    for name, token, level, word in (("wrong", "weft_wrong", "fail", "refused the token"), ("small", second_user(f, "reader", scopes=1), "fail", "not register"),
                                     ("good", f.token, "ok", "local")):
        with open(path(f, name + ".token"), "w") as s:
            os.fchmod(s.fileno(), 0o600)
            s.write(token)
        tool = os.path.join(f.bin, "weft-endpoint")
        subprocess.run([tool, "configure", "--url", f.url, "--token-file", path(f, name + ".token"), name], env=env, stdout=subprocess.DEVNULL, check=True)
        r = subprocess.run([tool, "doctor", "--json", name], env=env, stdout=subprocess.PIPE, universal_newlines=True, timeout=60)
        rows = [c for c in json.loads(r.stdout) if c["check"] == "account"]
        report.check("doctor, a %s token" % name, len(rows) == 1 and rows[0]["level"] == level and word in json.dumps(rows[0]) and
                     (r.returncode != 0) == (level == "fail"), rows)


main(__doc__, [from_file, mapping, large, resuming, interrupting, commands, logins, private_ca, progress, watching, topping, logs, live_logs, doctoring, offline], make)

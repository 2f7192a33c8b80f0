#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every command of the weft CLI against a real fabric, with --json and without; up --detach, down, what a restart keeps, and Ctrl-C."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Fabric, main, marked, processes, wait_for  # noqa: E402
from terminal import Terminal  # noqa: E402

SOURCE = '''
import time

def add(a, b):
    print("adding")
    return a + b

def fail():
    raise ValueError("no such luck")

def nap(s):
    time.sleep(s)
    return "slept"

def hog(mib):
    return len(bytearray(mib << 20))
'''


def make(build):
    return Fabric(build, workers=2)


def files(f):
    path = os.path.join(f.state, "funcs.py")
    with open(path, "w") as s:
        s.write(SOURCE)
    return path


def weft_json(f, *args, **kw):
    r = f.weft(*args, **kw)
    return json.loads(r.stdout)


def about(report, f):
    r = f.weft("--version")
    report.check("--version", r.stdout.startswith("weft "), r.stdout)
    r = f.weft("--help")
    report.check("--help lists the commands", all(c in r.stdout for c in ("up", "down", "env", "function register", "run", "submit", "trace")), r.stdout)
    for c in (["up"], ["down"], ["env"], ["whoami"], ["function", "register"], ["function", "list"], ["function", "show"], ["function", "delete"],
              ["run"], ["submit"], ["status"], ["result"], ["cancel"], ["tasks"], ["trace"], ["endpoint", "list"], ["endpoint", "show"]):
        r = f.weft(*c, "--help", check=False)
        report.check("%s --help" % " ".join(c), r.returncode == 0 and "weft " + c[0] in r.stdout, r.stdout + r.stderr)
        twice = [x for x in r.stdout.splitlines() if "(may be repeated)" in x and re.search("several times|repeatable", x)]
        report.check("%s --help says once what may be repeated" % " ".join(c), not twice, twice)
    r = f.weft("statsu", check=False)
    report.check("a misspelt command: the nearest is suggested", r.returncode == 2 and "status" in r.stderr, r.stderr)
    r = f.weft("run", "--nonsense", "x", check=False)
    report.check("an unknown option is refused", r.returncode == 2 and "nonsense" in r.stderr, r.stderr)
    for shell in ("bash", "zsh"):
        r = f.weft("completion", shell, check=False)
        report.check("completion %s" % shell, r.returncode == 0 and "submit" in r.stdout, r.stderr)
    script = os.path.join(f.state, "complete.bash")
    with open(script, "w") as s:
        s.write(f.weft("completion", "bash").stdout)
    r = subprocess.run(["bash", "-c", 'source "$1"; COMP_WORDS=(weft sub); COMP_CWORD=1; COMP_LINE="weft sub"; COMP_POINT=8; '
                        'fn=$(complete -p weft | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $fn weft sub weft; echo "${COMPREPLY[@]}"', "_", script],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    report.check("bash completes a command", "submit" in r.stdout, r.stdout + r.stderr)


def complete(script, words, env):
    """What bash makes of a line whose last word is being typed."""
    r = subprocess.run(["bash", "-c", 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _weft; printf "%s\\n" "${COMPREPLY[@]}"', "_", script] + words,
                       env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=45)
    return r.stdout.split(), r.stderr


def completion(report, f):
    """Names of functions, endpoints and profiles; quick and silent when they cannot be had."""
    home, script = os.path.join(f.state, "home"), os.path.join(f.state, "names.bash")
    os.makedirs(os.path.join(home, "profiles"))
    env = dict(f.env(), WEFT_HOME=home)
    with open(script, "w") as s:
        s.write(f.weft("completion", "bash").stdout)
    with open(os.path.join(home, "profiles", "lab"), "w") as s:
        s.write("WEFT_URL=%s\nWEFT_TOKEN=%s\n" % (f.url, f.token))
    os.chmod(os.path.join(home, "profiles", "lab"), 0o600)
    names = ["complete_me", "$(touch %s/harm)" % f.state, "com plete", "com*"]
    for name in names:
        f.weft("function", "register", "--name", name, "--", "true")
    endpoint = weft_json(f, "endpoint", "show", "--json")["name"]
    nowhere = {k: v for k, v in env.items() if k not in ("WEFT_URL", "WEFT_TOKEN", "WEFT_ENDPOINT")}
    for words, want, e in ((["run", "com"], ["complete_me"], env), (["submit", "--time-limit", "5s", "com"], ["complete_me"], env),
                           (["function", "show", "com"], ["complete_me"], env), (["tasks", "-f", "com"], ["complete_me"], env),
                           (["run", "complete_me", "com"], [], env), (["run", "--", "com"], [], env), (["run", "--input", "com"], [], env),
                           (["endpoint", "show", endpoint[:2]], [endpoint], env), (["run", "--endpoint", "=", endpoint[:2]], [endpoint], env),
                           (["run", "--profile", "l"], ["lab"], env), (["profile", "use", "l"], ["lab"], nowhere),
                           (["run", "com"], [], nowhere), (["run", "--profile", "lab", "com"], ["complete_me"], nowhere),
                           (["run", "--profile", "=", "lab", "com"], ["complete_me"], nowhere), (["run", "--url", "x", "com"], [], env)):
        got, said = complete(script, ["weft"] + words, e)
        report.check("bash completes %s%s" % (" ".join(words), "" if e is env else ", without WEFT_URL"), got == want and said == "", (got, said))
    got, said = complete(script, ["weft", "run", ""], env)
    report.check("no name that means something to a shell", "complete_me" in got and not [w for w in got if set(w) & set("$*(")] and "plete" not in got and said == "" and
                 not os.path.exists(f.state + "/harm"), (got, said))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for what, port in (("nobody listens", 1), ("nobody answers", mute.getsockname()[1])):
            got, said = complete(script, ["weft", "run", "com"], dict(env, WEFT_URL="http://127.0.0.1:%d" % port))     # a request has a minute
            report.check("where %s it gives up soon, and says nothing" % what, got == [] and said == "", (got, said))
    for name in names:
        f.weft("function", "delete", name)


def taken_port(report, f):
    state = tempfile.mkdtemp(prefix="weft-t-")
    try:
        r = f.weft("up", "--detach", "--state", state, "--port", f.url.rsplit(":", 1)[1], check=False)
        report.check("up on the port of another fabric says so in a sentence, and what to do", r.returncode == 1 and "in use" in r.stderr and
                     "--port 0" in r.stderr and r.stderr.count("\n") == 1 and "error" not in r.stderr, r.stdout + r.stderr)
        report.check("and leaves nothing running", not marked(state), marked(state))
    finally:
        shutil.rmtree(state, ignore_errors=True)


def environment(report, f):
    e = dict(line.split("=", 1) for line in f.weft("env", "--state", f.state).stdout.split())
    report.check("env prints what a shell exports", e == {"WEFT_URL": f.url, "WEFT_TOKEN": f.token, "WEFT_ENDPOINT": f.endpoint}, e.keys())
    report.check("env --json", weft_json(f, "env", "--state", f.state, "--json") == e)
    r = f.weft("env", "--state", os.path.join(f.state, "nothing"), check=False)
    report.check("env without a fabric says what to do", r.returncode == 1 and "weft up" in r.stderr, r.stderr)
    me = weft_json(f, "whoami", "--json")
    report.check("whoami --json", isinstance(me, dict) and me, me)
    r = f.weft("whoami")
    report.check("whoami", r.stdout.strip() != "", r.stdout)
    env = dict(os.environ, WEFT_URL=f.url, WEFT_TOKEN="weft_wrong")
    r = subprocess.run([os.path.join(f.bin, "weft"), "whoami"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    report.check("a wrong token: exit 1, HTTP 401", r.returncode == 1 and "401" in r.stderr, r.stderr)


def endpoints(report, f):
    e = weft_json(f, "endpoint", "list", "--json")
    report.check("endpoint list --json", [x["uuid"] for x in e] == [f.endpoint] and e[0]["status"] == "online", e)
    r = f.weft("endpoint", "list")
    report.check("endpoint list", f.endpoint in r.stdout and "online" in r.stdout, r.stdout)
    e = weft_json(f, "endpoint", "show", f.endpoint, "--json")
    report.check("endpoint show --json", e["status"] == "online" and e["details"]["total_workers"] == 2, e)
    r = f.weft("endpoint", "show", "local")
    report.check("endpoint show by name", "online" in r.stdout, r.stdout)
    wait_for(lambda: re.search(r"^blocks_started +1$", f.weft("endpoint", "show").stdout, re.M), 30, "endpoint show has the agent's counts")
    r = f.weft("endpoint", "show", "elsewhere", check=False)
    report.check("endpoint show of an unknown one", r.returncode == 1 and "elsewhere" in r.stderr, r.stderr)


def functions(report, f):
    path = files(f)
    fid = f.weft("function", "register", path + "::add", "--description", "adds").stdout.strip()
    report.check("function register prints an id", len(fid) == 36, fid)
    j = weft_json(f, "function", "register", path + "::nap", "--json")
    report.check("function register --json", len(j["function_uuid"]) == 36, j)
    f.weft("function", "register", path + "::fail")
    f.weft("function", "register", "--name", "upper", "--", "tr", "a-z", "A-Z")
    names = [x["function_name"] for x in weft_json(f, "function", "list", "--json")]
    report.check("function list --json, newest first", names == ["upper", "fail", "nap", "add"], names)
    r = f.weft("function", "list")
    report.check("function list", fid in r.stdout and "upper" in r.stdout, r.stdout)
    j = weft_json(f, "function", "show", "add", "--json")
    report.check("function show --json", j["function_uuid"] == fid and j["description"] == "adds" and "def add" in j["function_code"], j)
    opts = ("--memoize", "--batch-max", "16", "--batch-latency-ms", "50")
    j = weft_json(f, "function", "show", f.weft("function", "register", path + "::add", "--name", "opts", *opts).stdout.strip(), "--json")
    report.check("function register with --memoize and --batch-max", j["memoize"] is True and j["batch"] == {"max": 16, "latency_ms": 50}, j)
    r = f.weft("function", "register", path + "::add", "--batch-latency-ms", "50", check=False)
    report.check("--batch-latency-ms alone", r.returncode == 1 and "--batch-max" in r.stderr, r.stderr)
    f.weft("function", "delete", "opts")
    report.check("function show", fid in f.weft("function", "show", fid).stdout)
    gone = f.weft("function", "register", path + "::add", "--name", "gone").stdout.strip()
    weft_json(f, "function", "delete", "gone", "--json")
    r = f.weft("function", "show", gone, check=False)
    report.check("function delete", r.returncode == 1 and "404" in r.stderr, r.stderr)
    r = f.weft("function", "register", os.path.join(f.state, "none.py") + "::x", check=False)
    report.check("function register of a file that is not there", r.returncode == 1 and "none.py" in r.stderr, r.stderr)
    r = f.weft("function", "register", path, check=False)
    report.check("function register without an entry point", r.returncode == 1 and "::" in r.stderr, r.stderr)


def kinds(report, f):
    """What a file is, and where in it the function is, where its name does not say so; and a file that is a command."""
    def register(*args, **kw):
        return f.weft("function", "register", *args, **kw)
    odd, lib, script = (os.path.join(f.state, n) for n in ("odd.txt", "lib.bin", "script.py"))
    shutil.copyfile(files(f), odd)
    shutil.copyfile(os.path.join(f.build, "examples", "noop.so"), lib)
    with open(script, "w") as s:
        os.fchmod(s.fileno(), 0o755)
        s.write("#!/bin/sh\necho ran $1\n")
    for what, args, payload, want in (("--kind python --entry", (odd, "--kind", "python", "--entry", "add"), '{"args": [2, 3]}', "5\n"),
                                      ("--kind shared_object", (lib, "--kind", "shared_object"), "", "null\n"),
                                      ("--kind command", ("--kind", "command", script, "it"), "", "ran it\n")):
        r = f.weft("run", register(*args).stdout.strip(), payload)
        report.check("function register %s" % what, r.stdout == want, r)
    fid = register(lib, "--kind", "shared_object", "--entry", "elsewhere").stdout.strip()
    r = f.weft("run", fid, check=False)
    report.check("function register --entry: a symbol", r.returncode == 3 and "no symbol 'elsewhere'" in r.stderr, r)
    for args, words in (((odd, "--kind", "pascal", "--entry", "add"), "expected python, shared_object or command, got 'pascal'"),
                        (("--entry", "main", "--", "true"), "a command has none"), ((odd + "::add", "--warm", "10s"), "need --image"),
                        ((odd + "::add", "--memory", "1GiB"), "need --image"), ((odd + "::add", "--image", "a", "--replicas", "few"), "--replicas: expected a number"),
                        ((odd + "::add", "--image", "a", "--replicas", "5000"), "replicas: expected 0..1000 (HTTP 422"),
                        ((odd + "::add", "--image", "a", "--runtime", "lxc"), "'type': docker, podman")):
        r = register(*args, check=False)
        report.check("refused in words: %s" % " ".join(args[-2:]), r.returncode == 1 and words in r.stderr and "{" not in r.stderr and not r.stdout, r)


def limits(report, f):
    hog = f.weft("function", "register", files(f) + "::hog").stdout.strip()
    r = f.weft("run", hog, "400")
    report.check("without a limit", r.stdout == "%d\n" % (400 << 20), r)
    r = f.weft("run", hog, "400", "--memory-limit", "200MiB", check=False)
    report.check("run --memory-limit", r.returncode == 3 and "memory limit" in r.stderr, r)
    report.check("one that is enough", f.weft("run", hog, "400", "--memory-limit", "1GiB").stdout == "%d\n" % (400 << 20))
    small = f.weft("function", "register", files(f) + "::hog", "--memory-limit", "200MiB").stdout.strip()
    r = f.weft("run", small, "400", check=False)
    report.check("function register --memory-limit", r.returncode == 3 and "memory limit" in r.stderr, r)
    r = f.weft("run", hog, "1", "--expected", "400d", check=False)
    report.check("--expected over what the service takes is refused in words", r.returncode == 1 and "expected_s: expected 0..2592000 (HTTP 422" in r.stderr, r)


def running(report, f):
    r = f.weft("run", "add", '{"args": [2, 3]}')
    report.check("run prints the result", r.stdout == "5\n", r.stdout)
    j = weft_json(f, "run", "add", '{"args": [2, 3]}', "--json")
    (tid, doc), = j.items()
    report.check("run --json", doc["status"] == "success" and doc["result"] == "5" and doc["stdout"] == "adding\n", doc)
    r = f.weft("run", "fail", check=False)
    report.check("run of a failing function: exit 3, the traceback", r.returncode == 3 and "no such luck" in r.stderr, r)
    r = f.weft("run", "upper", "hello")
    report.check("run of a command", r.stdout == "HELLO\n", r.stdout)
    r = f.weft("run", "upper", "--input", "-", input="from stdin")
    report.check("run --input -", r.stdout == "FROM STDIN\n", r.stdout)
    path = os.path.join(f.state, "lines")
    with open(path, "w") as s:
        s.write("".join('{"args": [%d, 1]}\n' % i for i in range(50)))
    r = f.weft("run", "add", "--map", path)
    report.check("run --map: one task a line, in order", r.stdout.split() == [str(i + 1) for i in range(50)], r.stdout)
    r = f.weft("run", "add", '{"args": [1, 1]}', "--repeat", "20")
    report.check("run --repeat", r.stdout.split() == ["2"] * 20, r.stdout)
    for how in (["run", "add", '{"arg": [1, 2]}'], ["submit", "add", '{"arg": [1, 2]}'], ["run", "add", "--map", "-"]):
        r = f.weft(*how, check=False, input='{"arg": [1, 2]}\n{"arg": [3]}\n' if "-" in how else None)
        report.check("%s: a mistyped payload is sent as it is, and told" % " ".join(how), r.stderr.count("note: ") == 1 and '"arg"' in r.stderr and '"args"' in r.stderr, r)
    r = f.weft("run", "add", '{"args": [1, 2]}', "--trace")
    others = [f.weft("run", "add", p, check=False).stderr for p in ('{"arcs": [1]}', '{"args": [1], "of": 2}', '{}', '["arg"]')]
    report.check("of a right one nothing is said, nor of other objects", not r.stderr and not any("note: " in x for x in others) and all("TypeError" in x for x in others), (r, others))
    report.check("run --trace shows the hops", "execution" in r.stdout and "us" in r.stdout, r.stdout)
    r = f.weft("run", "nap", '{"args": [30]}', "--timeout", "500ms", check=False)
    report.check("run --timeout: exit 4, the task goes on", r.returncode == 4 and "weft result" in r.stderr, r)
    f.weft("cancel", r.stderr.split("weft result ")[1].split()[0])
    r = f.weft("run", "nap", '{"args": [30]}', "--time-limit", "300ms", check=False)
    report.check("run --time-limit", r.returncode == 3 and "time limit" in r.stderr.lower(), r)
    tid2 = f.weft("submit", "add", '{"args": [4, 5]}').stdout.strip()
    report.check("submit prints an id", len(tid2) == 36, tid2)
    report.check("result waits", f.weft("result", tid2).stdout == "9\n")
    j = weft_json(f, "result", tid2, "--json")
    report.check("result --json", j[tid2]["result"] == "9", j)
    r = f.weft("run", "upper", "dropped", "--input", "-", input="from stdin", check=False)
    report.check("run with a PAYLOAD and --input is refused", r.returncode == 2 and "--input" in r.stderr and r.stdout == "", r)
    for what in ("result", "status", "cancel", "logs", "files", "trace"):
        r = f.weft(what, "abc", check=False)
        report.check("%s of what is no id" % what, r.returncode == 1 and "'abc' is not a UUID" in r.stderr and "{" not in r.stderr, r)
    tid3 = f.weft("submit", "add", '{"args": [4, 6]}').stdout.strip()
    f.weft("result", tid3)
    for what in ("status", "cancel"):
        j = weft_json(f, what, tid2, tid3, "--json")
        report.check("%s --json of several: one object by id" % what, set(j) == {tid2, tid3} and all(d["task_id"] == t for t, d in j.items()), j)
    r = f.weft("status", tid2, "00000000-0000-0000-0000-000000000001", "--json", check=False)
    report.check("without those that are not known", r.returncode == 1 and set(json.loads(r.stdout)) == {tid2} and "404" in r.stderr, r)
    j = weft_json(f, "submit", "add", '{"args": [4, 5]}', "--json")
    report.check("submit --json", len(list(j["tasks"].values())[0]) == 1, j)
    r = f.weft("status", tid2)
    report.check("status", "success" in r.stdout and f.endpoint in r.stdout, r.stdout)
    j = weft_json(f, "status", tid2, "--json")
    report.check("status --json", j["task_id"] == tid2 and j["status"] == "success" and j["node"], j)
    r = f.weft("trace", tid2)
    report.check("trace", all(w in r.stdout for w in ("accept", "queue", "to_endpoint", "to_manager", "to_worker", "execution", "from_endpoint")), r.stdout)
    j = weft_json(f, "trace", tid2, "--json")
    s = j["stamps"]
    order = ["received", "queued", "forwarder_read", "forwarder_sent", "endpoint_received", "endpoint_sent", "manager_received", "manager_sent",
             "worker_received", "execution_start", "execution_end", "worker_sent", "manager_result", "endpoint_result", "forwarder_result"]
    report.check("trace --json has every stamp", not [k for k in order if k not in s], s)
    report.check("the stamps are in order", all(s[a] <= s[b] for a, b in zip(order, order[1:]) if a in s and b in s), s)
    tid3 = f.weft("submit", "nap", '{"args": [60]}').stdout.strip()
    wait_for(lambda: weft_json(f, "status", tid3, "--json")["status"] == "running", 30, "running")
    j = weft_json(f, "tasks", "--status", "running", "--json")
    report.check("tasks --status", [t["task_id"] for t in j["tasks"]] == [tid3], j)
    j = weft_json(f, "cancel", tid3, "--json")
    report.check("cancel --json", j["status"] == "cancelled", j)
    r = f.weft("result", tid3, check=False)
    report.check("result of a cancelled task: exit 3", r.returncode == 3 and "cancelled" in r.stderr, r)
    j = weft_json(f, "tasks", "--limit", "3", "--json")
    report.check("tasks --limit, newest first", len(j["tasks"]) == 3 and j["tasks"][0]["task_id"] == tid3 and j["next_cursor"], j)
    j2 = weft_json(f, "tasks", "--limit", "3", "--cursor", j["next_cursor"], "--json")
    report.check("tasks --cursor goes on", len(j2["tasks"]) == 3 and not {t["task_id"] for t in j["tasks"]} & {t["task_id"] for t in j2["tasks"]}, j2)
    for more in ([], ["--watch", "--timeout", "1s"]):
        r = f.weft("tasks", "--status", "foo", *more, check=False)
        report.check("tasks --status of what is none lists them %s" % more, r.returncode == 2 and
                     all(x in r.stderr for x in ("foo", "received", "waiting-for-ep", "running", "success", "cancelled", "pending")), r)
    r = f.weft("tasks", "--function", "fail")
    report.check("tasks --function", r.stdout.count("failed") == 1, r.stdout)
    r = f.weft("status", "00000000-0000-0000-0000-000000000001", check=False)
    report.check("status of an unknown task: exit 1, HTTP 404", r.returncode == 1 and "404" in r.stderr, r)
    r = f.weft("run", "nonesuch", check=False)
    report.check("run of an unknown function names it", r.returncode == 1 and "nonesuch" in r.stderr, r)


def detached(report, f):
    """A fabric of its own, over a restart."""
    state = tempfile.mkdtemp(prefix="weft-t-")
    weft = os.path.join(f.bin, "weft")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}

    def cli(*args, timeout=90):
        r = subprocess.run([weft] + list(args) + ["--state", state], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                           universal_newlines=True, timeout=timeout)
        return r
    up = ["up", "--detach", "--port", "0", "--workers", "1"]
    try:
        r = cli(*up, "--endpoint-set", "workers_per_node=zzz")
        report.check("up --detach of what cannot start says why", r.returncode == 1 and "workers_per_node" in r.stderr, r)
        report.check("and returns when all it has started has ended", not marked(state), marked(state))
        r = cli(*up)
        report.check("up --detach at once after it returns when it is ready", r.returncode == 0 and "weft is up" in r.stdout, r)
        r = cli(*up)
        report.check("a second up says that one is running", r.returncode == 1 and "already" in r.stderr, r)
        path = files(f)
        cli("function", "register", path + "::add")
        cli("function", "register", path + "::nap")
        done = cli("submit", "add", '{"args": [20, 3]}').stdout.strip()
        report.check("a task on it", cli("result", done).stdout == "23\n")
        naps = cli("submit", "nap", '{"args": [1]}', "--repeat", "3").stdout.split()
        queued = cli("submit", "add", '{"args": [20, 4]}', "--repeat", "20").stdout.split()
        r = cli("down")
        report.check("down", r.returncode == 0, r)
        r = cli("down")
        report.check("down again: nothing is running", r.returncode == 0 and "no fabric" in r.stdout, r)
        r = cli("env")
        report.check("env then still prints where it was, and says that nothing runs there", r.returncode == 0 and "WEFT_URL=" in r.stdout and
                     "no fabric is running" in r.stderr and "weft up" in r.stderr, r)
        r = cli("whoami")
        report.check("what asks it says what to do", r.returncode == 1 and "no fabric is running in " + state in r.stderr and "weft up" in r.stderr, r)
        r = cli(*up)
        report.check("up again", r.returncode == 0, r)
        r = cli("result", "--timeout", "30s", *(naps + queued))
        report.check("what was queued runs after the restart", r.stdout.split() == ["slept"] * 3 + ["24"] * 20 or
                     r.stdout.split() == ['"slept"'] * 3 + ["24"] * 20, r)
        report.check("old results are kept", cli("result", done).stdout == "23\n")
    finally:
        cli("down")
        shutil.rmtree(state, ignore_errors=True)


def foreground(report, f):
    """Up as long as nobody presses Ctrl-C, which stops everything; what programs read of it."""
    state = tempfile.mkdtemp(prefix="weft-t-")
    weft = os.path.join(f.bin, "weft")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
    up = [weft, "up", "--state", state, "--port", "0", "--workers", "1"]

    def down():
        return subprocess.run([weft, "down", "--state", state, "--json"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=90)

    def start(*more):
        # SIGINT may be ignored where tests run in the background
        return subprocess.Popen(up + ["--json"] + list(more), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                universal_newlines=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def nobody_left(what):
        wait_for(lambda: not marked(state), 30, "%s: %r has ended" % (what, marked(state)))
        report.check("%s: nobody is left" % what, True)
    try:
        p = start()
        text = ""
        while not text.endswith("\n}\n"):
            line = p.stdout.readline()
            assert line, p.communicate()
            text += line
        doc = json.loads(text)
        said = json.loads(subprocess.run([weft, "env", "--state", state, "--json"], env=env, stdout=subprocess.PIPE).stdout)
        report.check("up --json: where it is", (doc["url"], doc["endpoint"], doc["state"], doc["pid"]) == (said["WEFT_URL"], said["WEFT_ENDPOINT"], state, p.pid) and
                     doc["url"].endswith(":%d" % doc["port"]), doc)
        alive = processes()
        report.check("and what runs, by pid", list(doc["pids"]) == ["redis", "service", "forwarder", "endpoint"] and
                     all(pid in alive and alive[pid][0] == p.pid for pid in doc["pids"].values()), doc)
        report.check("the token is left to weft env", said["WEFT_TOKEN"] not in text)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        report.check("Ctrl-C ends it well; progress was on standard error", p.returncode == 0 and not out and "endpoint is connected" in err, (p.returncode, out, err))
        nobody_left("Ctrl-C")
        r = down()
        report.check("down --json: nothing was running", r.returncode == 0 and json.loads(r.stdout) == {"state": state, "stopped": False, "pid": None}, r)
        p = start("--endpoint-set", "scaling.min_blocks=0")     # without a worker it is not ready for a long time
        line = p.stderr.readline()
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        report.check("Ctrl-C before it is ready: exit 1, and it is told", line == "redis is up\n" and p.returncode == 1 and not out and "before it was ready" in err,
                     (p.returncode, line, out, err))
        nobody_left("Ctrl-C at the start")
        t = Terminal(up, env)
        t.until(b"stop it with: weft down")
        t.send(b"\x03")
        report.check("Ctrl-C on a terminal, which all processes of the foreground get", t.end(60) == 0 and b"endpoint is connected" in t.text, t.text)
        nobody_left("Ctrl-C on a terminal")
        r = subprocess.run(up + ["--detach", "--json"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, universal_newlines=True,
                           timeout=90)
        doc = json.loads(r.stdout)
        report.check("up --detach --json", r.returncode == 0 and doc["state"] == state and doc["pid"] in processes(), r)
        r = down()
        report.check("down --json: it was stopped", r.returncode == 0 and json.loads(r.stdout) == {"state": state, "stopped": True, "pid": doc["pid"]}, r)
        nobody_left("down")
    finally:
        down()
        shutil.rmtree(state, ignore_errors=True)


main(__doc__, [about, completion, environment, endpoints, functions, running, kinds, limits, taken_port, detached, foreground], make)

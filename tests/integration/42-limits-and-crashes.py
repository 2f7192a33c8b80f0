#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Functions that overrun, crash, fork, flood or never end: the error names the cause, the process group is gone, the worker lives."""
import os
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import (Fabric, call, gather, grown, main, marked, ok, pids_of, register, register_command, sizes, submit, task, wait_for)  # noqa: E402

MIB = 1 << 20
SOURCE = '''
import ctypes, os, signal, subprocess, sys, time

def echo(x):
    return x

def nap(s, mark=""):
    if mark:
        subprocess.Popen(["sleep", "600"], env={"MARK": mark})
    time.sleep(s)
    return "slept"

def spin():
    while True:
        pass

def deaf(mark):
    for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)
    subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; sleep 600; true"], env={"MARK": mark})
    while True:
        time.sleep(1)

def hog(mib):
    a = bytearray(mib << 20)
    for i in range(0, len(a), 4096):
        a[i] = 1
    time.sleep(20)
    return len(a)

def hog_child(mib):
    p = subprocess.run([sys.executable, "-c", "a = bytearray(%d << 20); a[::4096] = b'x' * len(a[::4096]); import time; time.sleep(20)" % mib])
    return p.returncode

def die(n):
    print("last words")
    sys.stderr.write("and last errors")
    os.kill(os.getpid(), n)
    time.sleep(5)

def segv():
    ctypes.string_at(8)

def leave(n):
    print("leaving")
    os._exit(n)

def exit_(n):
    sys.exit(n)

def kill_parent():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(5)

def forks(mark, n):
    for i in range(n):
        if os.fork() == 0:
            os.setsid()
            os.execvpe("sleep", ["sleep", "600"], {"MARK": mark, "PATH": os.environ["PATH"]})
    return n

def fork_and_return():
    pid = os.fork()
    return "child" if pid == 0 else "parent"

def flood(mib):
    line = "y" * 1023 + "\\n"
    for i in range(mib * 1024):
        sys.stdout.write(line)
    print("the end")
    return "flooded"

def flood_fd(mib):
    chunk = b"z" * 65536
    for i in range(mib * 16):
        os.write(1, chunk)
        os.write(2, chunk)
    return "flooded"

def close_all():
    os.closerange(0, 100)
    return "closed"

def talk_to_worker():
    os.write(4, b"\\xff\\xff\\xff\\xff garbage garbage garbage")
    time.sleep(5)

def half_a_frame():
    os.write(4, b"abc\\n")

def take_its_place():
    global kept
    os.closerange(3, 100)
    kept = os.pipe()

def raise_(kind):
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "memory": MemoryError(), "deep": RecursionError()}[kind]

def recurse(n):
    return recurse(n + 1)

def surroundings():
    os.environ["LEFT"] = "behind"
    os.chdir("/")
    sys.stdout = None

def clean():
    return [os.environ.get("LEFT"), os.getcwd() != "/", sys.stdout is not None]
'''
FN = {}


def make(build):
    return Fabric(build, workers=2)


def fn(f, name, **more):
    if more:
        return register(f, SOURCE, name, **more)
    if name not in FN:
        FN[name] = register(f, SOURCE, name)
    return FN[name]


def workers(f):
    return pids_of(f, "worker")


def failed(report, name, d, code, *texts, fault="user"):
    text = d.get("exception", "") or d.get("reason", "")
    report.check("%s: %s" % (name, code), d["status"] == "failed" and d.get("code") == code and d.get("fault") == fault and
                 all(t in text for t in texts) and bool(d.get("node")), d)


def alive(report, f, before, name):
    """Both workers are the same processes as before, and take tasks."""
    ids, _ = submit(f, fn(f, "echo"), [{"args": [i]} for i in range(10)], wait=40)
    docs = gather(f, ids, 60)
    report.check("%s: the workers live and work" % name, workers(f) == before and all(d["status"] == "success" for d in docs.values()),
                 (before, workers(f), docs))


def gone(mark):
    try:
        return wait_for(lambda: not marked(mark), 30, "processes of %s gone" % mark)
    except TimeoutError:
        return False


def times(report, f):
    before = workers(f)
    began = time.monotonic()
    d = call(f, fn(f, "spin"), limits={"time_limit_s": 0.5})
    took = time.monotonic() - began
    failed(report, "a function that never returns, with a limit of 0.5 s", d, "TASK_TIME_LIMIT", "500 ms", "node")
    report.check("it was ended in time", took < 20, took)
    d = call(f, fn(f, "nap", limits={"time_limit_s": 0.4}), 30)
    failed(report, "the function's own time limit", d, "TASK_TIME_LIMIT")
    mark = str(uuid.uuid4())
    d = call(f, fn(f, "deaf"), mark, limits={"time_limit_s": 0.5})
    failed(report, "a function deaf to signals", d, "TASK_TIME_LIMIT")
    report.check("its whole process group is gone", gone(mark), marked(mark))
    d = call(f, fn(f, "nap"), 0.2, limits={"time_limit_s": 10})
    report.check("a function within its limit is left alone", d["status"] == "success", d)
    c = register_command(f, ["sleep", "60"])
    ids, a = submit(f, c, ["x"], wait=40, limits={"time_limit_s": 0.5})
    failed(report, "a command over its time limit", a["results"].get(ids[0], {"status": "not ended"}), "TASK_TIME_LIMIT")
    alive(report, f, before, "time limits")


def cancels(report, f):
    before = workers(f)
    mark = str(uuid.uuid4())
    running, _ = submit(f, fn(f, "nap"), [{"args": [60, mark]}] * 2)
    queued, _ = submit(f, fn(f, "nap"), [{"args": [60]}] * 5)
    wait_for(lambda: all(task(f, i)["status"] == "running" for i in running), 30, "both run")
    wait_for(lambda: len(marked(mark)) >= 2, 30, "children")
    for i in queued + running:
        d = ok(f.http("DELETE", "/v3/tasks/" + i))
        if d["status"] != "cancelled":
            report.check("cancel", False, d)
    report.check("cancelled tasks say so at once", all(task(f, i)["status"] == "cancelled" for i in queued + running))
    report.check("the processes of running ones are gone", gone(mark), marked(mark))
    d = ok(f.http("GET", "/v2/tasks/" + running[0]))
    report.check("the v2 route shows them as failed, with the reason", d["status"] == "failed" and "cancel" in d["reason"], d)
    d = call(f, fn(f, "echo"), 5)
    report.check("the workers are free again", d["status"] == "success", d)
    again = ok(f.http("DELETE", "/v3/tasks/" + d["task_id"]))
    report.check("cancel of an ended task changes nothing", again["status"] == "success", again)
    alive(report, f, before, "cancel")


def memory(report, f):
    before = workers(f)
    d = call(f, fn(f, "hog"), 600, limits={"memory_limit_bytes": 200 * MIB})
    failed(report, "600 MiB with a limit of 200 MiB", d, "TASK_MEMORY_LIMIT")
    d = call(f, fn(f, "hog_child"), 600, limits={"memory_limit_bytes": 200 * MIB})
    report.check("a child of the function over the limit is stopped too", d.get("code") == "TASK_MEMORY_LIMIT" or
                 (d.get("result") not in (None, "0") and "MemoryError" in d["stderr"]), d)
    d = call(f, fn(f, "echo"), 1, limits={"memory_limit_bytes": 200 * MIB})
    report.check("a function within its limit is left alone", d["status"] == "success", d)
    d = call(f, fn(f, "recurse"), 0)
    failed(report, "endless recursion", d, "TASK_EXCEPTION", "RecursionError")
    alive(report, f, before, "memory limits")


def crashes(report, f):
    before = workers(f)
    for signo, name in ((9, "signal 9 (Killed)"), (15, "signal 15 (Terminated)"), (6, "signal 6 (Aborted)")):
        d = call(f, fn(f, "die"), signo)
        # who sent SIGKILL cannot be known: it may have been the kernel, for want of memory
        failed(report, "a function that kills its own process, %s" % name, d, "TASK_SIGNAL", name, fault="site" if signo == 9 else "user")
        report.check("the document has the number, and what was printed", d.get("exit_detail") == signo and d["stdout"] == "last words\n" and
                     d["stderr"] == "and last errors", d)
    d = call(f, fn(f, "segv"))
    failed(report, "a segmentation fault", d, "TASK_SIGNAL", "signal 11")
    d = call(f, fn(f, "leave"), 7)
    failed(report, "a function that ends its process with 7", d, "TASK_EXIT", "7")
    report.check("the document has the exit status", d.get("exit_detail") == 7 and d["stdout"] == "leaving\n", d)
    d = call(f, fn(f, "leave"), 0)
    failed(report, "a function that ends its process with 0", d, "TASK_EXIT")
    d = call(f, fn(f, "exit_"), 4)
    failed(report, "sys.exit", d, "TASK_EXCEPTION", "SystemExit")
    d = call(f, fn(f, "talk_to_worker"))
    report.check("garbage on the worker's pipe fails this task only", d["status"] == "failed", d)
    for name, why in (("half_a_frame", ""), ("take_its_place", "it closed its pipe")):
        began = time.monotonic()
        d = call(f, fn(f, name), wait=20)
        failed(report, name, d, "TASK_RUNNER", "disturbed its runner", why)
        report.check("%s: told at once" % name, time.monotonic() - began < 10, time.monotonic() - began)
    d = call(f, fn(f, "close_all"))
    report.check("a function that closes all descriptors fails alone", d["status"] == "failed", d)
    c = register_command(f, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    ids, a = submit(f, c, ["x"], wait=40)
    d = a["results"][ids[0]]
    failed(report, "a command that exits with 3", d, "TASK_EXIT", "3")
    report.check("with its output", d["stderr"] == "err\n" and d.get("exit_detail") == 3, d)
    c = register_command(f, ["sh", "-c", "kill -SEGV $$"])
    ids, a = submit(f, c, ["x"], wait=40)
    failed(report, "a command that dies of a signal", a["results"][ids[0]], "TASK_SIGNAL", "signal 11")
    for kind, word in (("interrupt", "KeyboardInterrupt"), ("deep", "RecursionError")):
        failed(report, word, call(f, fn(f, "raise_"), kind), "TASK_EXCEPTION", word)
    call(f, fn(f, "surroundings"))
    ids, _ = submit(f, fn(f, "clean"), [{"args": []}] * 8, wait=40)
    docs = gather(f, ids)
    report.check("environment, directory and stdout are those of before", all(d["result"] == "[null,true,true]" for d in docs.values()), docs)
    alive(report, f, before, "crashes")


def worker_killed(report, f):
    """A function that kills the worker above it: an honest error, and a new worker."""
    d = call(f, fn(f, "kill_parent"), wait=40)
    report.check("a function that kills its worker fails, and says why", d["status"] == "failed" and d["code"] in ("TASK_LOST", "TASK_SIGNAL"), d)
    wait_for(lambda: len(workers(f)) == 2, 30, "two workers")
    ids, _ = submit(f, fn(f, "echo"), [{"args": [i]} for i in range(20)])
    docs = gather(f, ids, 60)
    report.check("there are new workers, which work", all(d["status"] == "success" for d in docs.values()), docs)


def forking(report, f):
    before = workers(f)
    mark = str(uuid.uuid4())
    d = call(f, fn(f, "forks"), mark, 20)
    report.check("a function that forks daemons returns", d["status"] == "success", d)
    d = call(f, fn(f, "fork_and_return"))
    report.check("only the parent's result of a fork counts", d.get("result") == '"parent"', d)
    ids, _ = submit(f, fn(f, "forks"), [{"args": [mark, 5]}] * 4, wait=40)
    alive(report, f, before, "forks")
    FN["mark"] = mark


def floods(report, f):
    before, small = workers(f), sizes(f)
    began = time.monotonic()
    d = call(f, fn(f, "flood"), 300, wait=120)
    report.check("300 MiB through print: the end of it is kept", d["status"] == "success" and d["stdout"].endswith("the end\n") and
                 len(d["stdout"]) <= 65536, (d["status"], len(d.get("stdout", ""))))
    d = call(f, fn(f, "flood_fd"), 500, wait=120)
    report.check("1,000 MiB straight to the descriptors", d["status"] == "success" and len(d["stdout"]) <= 65536 and d["stdout"].endswith("zzz"),
                 (d["status"], len(d.get("stdout", ""))))
    c = register_command(f, ["sh", "-c", "yes | head -c 2000000000"])
    ids, a = submit(f, c, ["x"], wait=120)
    d = a["results"].get(ids[0]) or task(f, ids[0])
    failed(report, "a command that prints 2 GB", d, "TASK_RESULT_TOO_LARGE")
    report.check("no process has grown by more than 64 MiB", not grown(small, sizes(f), 64 * MIB), grown(small, sizes(f), 64 * MIB))
    print("# floods took %.1f s" % (time.monotonic() - began))
    alive(report, f, before, "floods")


def nothing_left(report, f):
    """After the fabric has ended nothing of any function is left, daemons that changed their session included."""
    mark = FN.get("mark", "none")
    f.keep, keep = True, f.keep
    left = f.stop()
    f.keep = keep
    report.check("no process of the fabric is left", not left, left)
    report.check("no daemon of a function is left", gone(mark), marked(mark))


main(__doc__, [times, cancels, memory, crashes, forking, floods, worker_killed, nothing_left], make)

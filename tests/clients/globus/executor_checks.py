# SPDX-License-Identifier: Apache-2.0
"""The SDK's Executor, unmodified, driven as its documentation does. Run by run_executor.py inside a virtual environment with the SDK: WEFT_URL,
WEFT_TOKEN, WEFT_ENDPOINT name the fabric, WEFT_RELAY a port through which AMQP can be cut. What happens to the fabric in the middle is asked for
on standard output (`@words`) and answered on standard input.

    executor_checks.py short|full
"""
import concurrent.futures
import os
import subprocess
import sys
import time
import uuid

import globus_compute_sdk
from globus_compute_sdk import Executor
import sdk
from sdk import ENDPOINT, check, make_client

RELAY = os.environ.get("WEFT_RELAY")
LIMIT = 180     # seconds for anything: a deadline, not a measure


def ask(words):
    print("@" + words, flush=True)
    return sys.stdin.readline().strip()


CLIENT = make_client()


def executor(group=None, **kw):
    """Of a task group of its own, unless one is given: by default all Executors of a process share the first one's."""
    return Executor(endpoint_id=ENDPOINT, task_group_id=group, client=CLIENT, **kw)


def new_group():
    """A task group must exist: that of a task."""
    b = CLIENT.create_batch()
    b.add(CLIENT.register_function(lambda: None))
    return CLIENT.batch_run(ENDPOINT, b)["task_group_id"]


def gather(futures):
    """Their results, in order; for those that failed or did not come, the exception."""
    concurrent.futures.wait(futures, LIMIT)
    out = []
    for f in futures:
        try:
            out.append(f.result(0))
        except Exception as e:
            out.append(e)
    return out


def wrong(got, want):
    return [(g, w) for g, w in zip(got, want) if g != w][:2]


def double(x):
    return 2 * x


def slow(x, seconds):
    import time
    time.sleep(seconds)
    return x


# ---- the checks ------------------------------------------------------------------------------------------------------


def check_one():
    with executor(new_group()) as ex:
        f = ex.submit(double, 21)
        check("submit of one", gather([f]) == [42], gather([f]))
        check("its future knows the task", uuid.UUID(str(f.task_id)))

        def fail():
            raise KeyError("on purpose")
        e = gather([ex.submit(fail)])[0]
        check("an exception comes as TaskExecutionFailed with the traceback", type(e).__name__ == "TaskExecutionFailed" and "on purpose" in str(e), repr(e))
        text = gather([ex.submit(lambda n: "é" * n, 1500000)])[0]
        check("a result of 3 MB comes", text == "é" * 1500000, repr(text)[:100])


def check_many(n):
    with executor(new_group()) as ex:
        began = time.monotonic()
        got = gather([ex.submit(double, i) for i in range(n)])
        want = [2 * i for i in range(n)]
        check("submit of %d" % n, got == want, wrong(got, want))
        print("# %d in %.1f s" % (n, time.monotonic() - began))


def check_two_executors():
    shared, other = new_group(), new_group()
    with executor(shared) as a, executor(shared) as b, executor(other) as c:
        futures = [ex.submit(double, i) for i in range(60) for ex in (a, b, c)]
        got, want = gather(futures), [2 * i for i in range(60) for _ in range(3)]
        check("three executors in one process, two of one task group", got == want, wrong(got, want))


def check_reload():
    group = new_group()
    with executor(group) as ex:
        gather([ex.submit(double, i) for i in range(5)])
    # another program submits, and is gone before its results come
    subprocess.run([sys.executable, os.path.abspath(__file__), "leave", str(group)], check=True, timeout=LIMIT, stdout=subprocess.DEVNULL)
    with executor(group) as again:
        futures = list(again.reload_tasks())
        got = gather(futures)
        check("reload_tasks gives what was done and what is still running", sorted(str(x) for x in got) == sorted(["None", "0", "2", "4", "6", "8", "0", "1", "2"]), got)
        late = gather([again.submit(double, 5)])
        check("and the executor goes on", late == [10], late)


def submitted(futures):
    end = time.monotonic() + LIMIT
    while not all(f.task_id for f in futures) and time.monotonic() < end:
        time.sleep(0.05)


def leave(group):
    ex = executor(group)
    submitted([ex.submit(slow, i, 4) for i in range(3)])


def check_shutdown():
    ex = executor(new_group())
    futures = [ex.submit(slow, i, 1) for i in range(4)]
    submitted(futures)      # those that are on their way to the service then are not waited for by the SDK
    ex.shutdown()
    check("shutdown waits for what was submitted", all(f.done() for f in futures) and gather(futures) == [0, 1, 2, 3], gather(futures))


def check_shell(directory):
    from globus_compute_sdk import ShellFunction
    with executor(new_group()) as ex:
        r = gather([ex.submit(ShellFunction("echo hello {who}; echo oops >&2; exit 3"), who="you")])[0]
        check("ShellFunction: output and status", getattr(r, "returncode", None) == 3 and r.stdout == "hello you\n" and "oops" in r.stderr, repr(r))
        pids = os.path.join(directory, "pids")
        began = time.monotonic()
        r = gather([ex.submit(ShellFunction("echo $$ >> %s; sleep 300 & echo $! >> %s; wait" % (pids, pids), walltime=4))])[0]
        check("ShellFunction over its walltime: 124", getattr(r, "returncode", None) == 124 and "TimeoutExpired" in str(r.exception_name) and
              time.monotonic() - began < 120, repr(r))
        children = [int(x) for x in open(pids).read().split()]
        end = time.monotonic() + 30
        while any(alive(p) for p in children) and time.monotonic() < end:
            time.sleep(0.1)
        check("and its processes are gone", len(children) == 2 and not any(alive(p) for p in children), children)


def check_mpi():
    from globus_compute_sdk import MPIFunction
    with executor(new_group()) as ex:
        ex.resource_specification = {"num_nodes": 2, "ranks_per_node": 2}
        r = gather([ex.submit(MPIFunction("sh -c 'echo $MPI_NODE $MPI_RANK {word}'"), word="here")])[0]
        lines = sorted(line.split() for line in getattr(r, "stdout", "").splitlines())
        check("MPIFunction runs its ranks on two nodes", len(lines) == 4 and [x[1:] for x in lines] == [[str(i), "here"] for i in range(4)]
              and len({x[0] for x in lines}) == 2 and lines[0][0] == lines[1][0], repr(getattr(r, "stdout", r)))
        ex.resource_specification = {"num_nodes": 2, "num_ranks": 2, "launcher_options": "--quiet"}
        r = gather([ex.submit(MPIFunction("sh -c 'exit $MPI_RANK'"))])[0]
        check("its status comes back", getattr(r, "returncode", None) == 1, repr(r))
        ex.resource_specification = None
        r = gather([ex.submit(MPIFunction("echo \"[$PARSL_MPI_PREFIX]\""))])[0]
        check("without a resource_specification it runs once", getattr(r, "stdout", None) == "[]\n", repr(r))
    with executor(new_group()) as ex:       # which the SDK shuts down when a submission is refused
        ex.resource_specification = {"num_nodes": 3}
        e = gather([ex.submit(MPIFunction("true"))])[0]
        check("more nodes than a block has: the SDK shows why", "blocks of this endpoint have 2" in str(e), repr(e))


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def check_cut():
    with executor(new_group(), amqp_port=int(RELAY)) as ex:
        check("through a relay", gather([ex.submit(double, 1)]) == [2])
        futures = [ex.submit(slow, i, 0.02) for i in range(100)]
        gather(futures[:10])
        ask("cut")
        more = [ex.submit(slow, i, 0.02) for i in range(100, 150)]
        ask("heal")
        got = gather(futures + more)
        check("every result comes when the connection was cut in the middle", got == list(range(150)), wrong(got, range(150)))


def check_service_ends():
    """The SDK acknowledges twice a second, and its Executor gives up when the connection ends while it still has something to acknowledge: so a
    service that ends in order waits for that, and one that is killed is survived when no result came just then. In any case no result is lost."""
    group = new_group()
    with executor(group) as ex:
        futures = [ex.submit(slow, i, 0.02) for i in range(300)]
        gather(futures[:20])
        ask("replace service")
        got = gather(futures)
        check("every result comes when the service's workers were replaced in the middle", got == list(range(300)), wrong(got, range(300)))
        futures = [ex.submit(slow, i, 5) for i in range(4)]
        submitted(futures)
        ask("acknowledged " + str(group))
        ask("kill service")
        got = gather(futures)
        check("every result comes when the service was killed in the middle", got == list(range(4)), wrong(got, range(4)))
        check("and the executor goes on", gather([ex.submit(double, 4)]) == [8])
    group = new_group()
    ex = executor(group)
    futures = [ex.submit(slow, i, 0.02) for i in range(200)]
    submitted(futures)
    gather(futures[:20])
    ask("kill service")
    lost = [f.task_id for f, x in zip(futures, gather(futures)) if isinstance(x, Exception)]
    print("# of 200 results %d were not seen by the Executor whose service was killed while results came" % len(lost))
    with executor(group) as again:
        got = {f.task_id: f for f in again.reload_tasks()}
        values = gather([got[f.task_id] for f in futures])
        check("reload_tasks brings all results of a service that was killed while they came", values == list(range(200)), wrong(values, range(200)))


def check_bound():
    """The bound of a queue is a million ends: instead of reaching it, what it would cut off is cut off."""
    group = new_group()
    ask("cut")
    with executor(group, amqp_port=int(RELAY)) as ex:
        futures = [ex.submit(double, i) for i in range(300)]
        submitted(futures)
        end, left = time.monotonic() + LIMIT, [f.task_id for f in futures]
        while left and time.monotonic() < end:
            docs = CLIENT.get_batch_result(left)
            left = [t for t in left if docs[t].get("pending", True)]
            time.sleep(0.2)
        ask("trim " + str(group))
        ask("heal")
        got, want = gather(futures), [2 * i for i in range(300)]
        check("every result comes when the queue was over its bound", got == want, wrong(got, want))


def main():
    print("# SDK", globus_compute_sdk.__version__)
    if sys.argv[1] == "leave":
        leave(sys.argv[2])
        os._exit(0)
    directory = ask("directory")
    checks = [check_one, lambda: check_many(10000 if sys.argv[1] == "full" else 500), check_two_executors]
    if sys.argv[1] == "full":
        checks += [check_reload, check_shutdown, lambda: check_shell(directory), check_mpi, check_cut, check_service_ends, check_bound]
    for c in checks:
        try:
            c()
        except Exception as e:
            check("%s ran to its end" % getattr(c, "__name__", "check"), False, repr(e))
    sys.stdout.flush()
    os._exit(1 if sdk.failed else 0)        # threads of an SDK whose results did not come would wait for ever


main()

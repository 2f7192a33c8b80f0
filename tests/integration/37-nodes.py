#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tasks that ask for whole nodes (resource_specification), through the whole fabric, on blocks of two nodes of this host; tests/fakes/mpi/mpiexec
stands in for the launcher. What they see, that they have their nodes for themselves and get them though small tasks keep coming, and that
nothing is lost or kept when a node, the agent or the patience of a user ends."""
import base64
import json
import os
import signal
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from cluster import Endpoint  # noqa: E402
from e2e import Fabric, call, gather, main, ok, pids_of, register, register_command, submit, task, wait_for  # noqa: E402
from fabric import processes, programs  # noqa: E402

SOURCE = '''
import os, subprocess, time
DIR = %r

def note(name, text=""):
    with open(os.path.join(DIR, name), "a") as f:
        f.write(text + "\\n")

def names():
    return {k: v for k, v in os.environ.items() if k.startswith("PARSL_")}

def run(program):
    return sorted(subprocess.check_output(os.environ["PARSL_MPI_PREFIX"].split() + ["sh", "-c", program]).decode().split())

def gate(name):
    note(name, "%%s %%d" %% (os.environ.get("PARSL_MPI_NODELIST"), os.getpid()))
    while not os.path.exists(os.path.join(DIR, name + ".go")):
        time.sleep(0.02)
    return os.environ.get("PARSL_MPI_NODELIST")

def short(x):
    time.sleep(0.2)
    return x
'''
TWO = {"num_nodes": 2, "ranks_per_node": 2}


def make(build):
    path = os.path.join(os.path.abspath(ROOT), "tests", "fakes", "mpi") + ":" + os.environ["PATH"]
    f = Fabric(build, workers=1, env={"PATH": path})
    for s in ("mpi_launcher=mpiexec", "scaling.nodes_per_block=2", "heartbeat.interval=200ms", "heartbeat.threshold=6s"):
        f.args += ["--endpoint-set", s]
    f.build = build
    f.calls = os.path.join(f.state, "calls")
    os.mkdir(f.calls)
    f.source = SOURCE % f.calls
    return f


def noted(f, name):
    """(nodes, pid) of each time that it ran."""
    try:
        with open(os.path.join(f.calls, name)) as s:
            return [(line.split()[0].split(","), int(line.split()[1])) for line in s if line.endswith("\n")]
    except OSError:
        return []


def go(f, name):
    open(os.path.join(f.calls, name + ".go"), "w").close()


def gate(f, name, **more):
    """A task that runs until go(), and has begun."""
    ids, _ = submit(f, register(f, f.source, "gate"), [{"args": [name]}], **more)
    wait_for(lambda: noted(f, name), 60, "%s runs" % name)
    return ids[0]


def result(doc):
    return json.loads(doc["result"]) if doc["status"] == "success" else doc


def what_it_sees(report, f):
    doc = call(f, register(f, f.source, "names"), resource_specification={"num_nodes": 2, "num_ranks": 6, "launcher_options": "--verbose"})
    names = result(doc)
    nodes = names.get("PARSL_MPI_NODELIST", "").split(",")
    report.check("two nodes", len(set(nodes)) == 2 and nodes == sorted(nodes), doc)
    report.check("how many ranks", [names.get("PARSL_" + k) for k in ("NUM_NODES", "RANKS_PER_NODE", "NUM_RANKS", "LAUNCHER_OPTIONS")]
                 == ["2", "3", "6", "--verbose"], names)
    report.check("the launcher's command line", names.get("PARSL_MPI_PREFIX") == names.get("PARSL_MPIEXEC_PREFIX")
                 == "mpiexec -n 6 -ppn 3 -hosts %s --verbose" % ",".join(nodes), names)
    report.check("those of others", names.get("PARSL_SRUN_PREFIX") == "srun --ntasks 6 --ntasks-per-node 3 --nodelist %s --nodes 2 --verbose" % ",".join(nodes)
                 and names.get("PARSL_APRUN_PREFIX") == "aprun -n 6 -N 3 -node-list %s --verbose" % ",".join(nodes), names)
    report.check("the next call sees nothing of it", result(call(f, register(f, f.source, "names"))) == {})
    doc = call(f, register(f, f.source, "run"), "echo $MPI_NODE.$MPI_RANK", resource_specification=TWO)
    report.check("the ranks run on their nodes", [r.split(".") for r in result(doc)] == [[nodes[0], "0"], [nodes[0], "1"], [nodes[1], "2"], [nodes[1], "3"]], doc)
    command = register_command(f, ["bash", "-c", "$PARSL_MPI_PREFIX sh -c 'echo $MPI_NODE.$MPI_RANK'"])
    ids, answer = submit(f, command, [""], wait=40, resource_specification={"num_ranks": 2, "ranks_per_node": 1})
    doc = answer["results"].get(ids[0]) or task(f, ids[0])
    report.check("a command finds it too", sorted((doc.get("result") or "").split()) == [nodes[0] + ".0", nodes[1] + ".1"], doc)
    with open(os.path.join(f.build, "examples", "environment.so"), "rb") as so:
        found = register(f, base64.b64encode(so.read()).decode(), "weft_function", kind="shared_object")
    ids, answer = submit(f, found, ["PARSL_MPI_PREFIX"], wait=40, resource_specification=TWO)
    doc = answer["results"].get(ids[0]) or task(f, ids[0])
    report.check("a shared object finds it too", (doc.get("result") or "").startswith("mpiexec -n 4 -ppn 2 -hosts %s  /" % ",".join(nodes)), doc)
    ids, answer = submit(f, found, ["PARSL_MPI_PREFIX"], wait=40)
    doc = answer["results"].get(ids[0]) or task(f, ids[0])
    report.check("and the next call of it nothing", (doc.get("result") or "").startswith("- /"), doc)
    report.check("and a single node is one for itself", result(call(f, register(f, f.source, "names"), resource_specification={"num_nodes": 1})).get("PARSL_NUM_NODES") == "1")
    large = [{"args": ["x" * 200000]}]
    ids, answer = submit(f, register(f, "import os\ndef size(x):\n    return [len(x), os.environ['PARSL_NUM_NODES']]\n", "size"), large, wait=40, resource_specification=TWO)
    doc = answer["results"].get(ids[0]) or task(f, ids[0])
    report.check("with a large payload", result(doc) == [200000, "2"], doc)


def clients(report, f):
    import weft
    with weft.Executor(f.endpoint, client=f.client(), resource_specification=TWO) as ex:
        functions = register(f, f.source, "names")
        one, two, three = ex.submit(functions), ex.submit(functions), ex.options(resource_specification={"num_nodes": 1, "ranks_per_node": 7}).submit(functions)
        report.check("weft.Executor", [x.result(60)["PARSL_NUM_RANKS"] for x in (one, two, three)] == ["4", "4", "7"])
    text = f.weft("run", "--nodes", "2", "--ranks-per-node", "3", "--launcher-options", "-q", "--", "bash", "-c",
                  "$PARSL_MPI_PREFIX sh -c 'echo $MPI_RANK'; echo $PARSL_LAUNCHER_OPTIONS").stdout
    report.check("weft run", sorted(text.split()) == ["-q", "0", "1", "2", "3", "4", "5"], text)
    r = f.weft("run", "--nodes", "3", "--", "true", check=False)
    report.check("weft run: more nodes than there are", r.returncode and "blocks of this endpoint have 2" in r.stderr, r.stderr)


def refusals(report, f):
    fn = register(f, f.source, "names")

    def refused(what, spec, words, endpoint=None, function=fn):
        status, doc = f.http("POST", "/v3/endpoints/%s/submit" % (endpoint or f.endpoint), {"tasks": {function: ["{}"]}, "resource_specification": spec})
        report.check("refused: " + what, status == 422 and words in json.dumps(doc), (status, doc))

    refused("more nodes than a block has", {"num_nodes": 3}, "asks for 3 nodes, and blocks of this endpoint have 2")
    refused("figures that do not agree", {"num_nodes": 2, "ranks_per_node": 2, "num_ranks": 3}, "'num_nodes' times 'ranks_per_node'")
    refused("ranks that cannot be shared out", {"num_nodes": 2, "num_ranks": 3}, "'num_nodes' times 'ranks_per_node'")
    refused("fewer ranks than on a node", {"ranks_per_node": 4, "num_ranks": 3}, "'num_nodes' times 'ranks_per_node'")
    refused("no number of nodes", {"ranks_per_node": 4}, "'num_nodes' is needed")
    refused("no node", {"num_nodes": 0}, "num_nodes")
    refused("text for a number", {"num_nodes": "two"}, "num_nodes")
    refused("far too many", {"num_nodes": 10**9}, "num_nodes")
    refused("long options", {"num_nodes": 1, "launcher_options": "x" * 1025}, "launcher_options")
    refused("a NUL in them", {"num_nodes": 1, "launcher_options": "a\0b"}, "launcher_options")
    refused("what nobody knows", {"num_nodes": 1, "nodes": 2}, "unknown member 'nodes'")
    refused("no object", [2], "resource_specification")
    report.check("an empty one asks for nothing", result(call(f, fn, resource_specification={})) == {})
    batched = register(f, "def many(xs):\n    return xs\n", "many", batch={"max": 4})
    refused("a function that takes batches", {"num_nodes": 1}, "batch entry", function=batched)
    refused("a priority that is no number", {"priority": "high"}, "priority")
    report.check("a priority alone asks for no nodes", result(call(f, fn, resource_specification={"priority": -2.5})) == {})
    with Endpoint(f, "plain", {"workers_per_node": 1, "scaling.init_blocks": 0}) as plain:
        refused("an endpoint without a launcher", {"num_nodes": 1}, "mpi_launcher", endpoint=plain.id)
        for spec in ({}, {"priority": 1}):
            status, doc = f.http("POST", "/v3/endpoints/%s/submit" % plain.id, {"tasks": {fn: ["{}"]}, "resource_specification": spec})
            report.check("which takes what asks for no nodes, %s" % spec, status == 200, (status, doc))


def alone(report, f):
    """While it runs its nodes take nothing else, not even another that asks for nodes."""
    first = gate(f, "alone", resource_specification=TWO)
    others, _ = submit(f, register(f, f.source, "short"), [{"args": [i]} for i in range(4)])
    second, _ = submit(f, register(f, f.source, "names"), [{"args": []}], resource_specification=TWO)
    third = call(f, register(f, f.source, "short"), 9, wait=1)
    report.check("others wait", third["status"] not in ("success", "failed", "running"), third)
    go(f, "alone")
    docs = gather(f, others + second + [first])
    report.check("then all succeed", all(d["status"] == "success" for d in docs.values()), docs)
    report.check("the node list is what it had", len(result(docs[first]).split(",")) == 2, docs[first])


def not_starved(report, f):
    """Small tasks keep coming: it gets its nodes before those that came after it are through."""
    short = register(f, f.source, "short")
    ids, _ = submit(f, short, [{"args": [i]} for i in range(10)])
    large, _ = submit(f, register(f, f.source, "names"), [{"args": []}], resource_specification=TWO)
    later, _ = submit(f, short, [{"args": [i]} for i in range(40)])
    docs = gather(f, large + later)
    ends = [float(docs[i]["completion_t"]) for i in later if docs[i]["status"] == "success"]
    report.check("while others that came later wait", docs[large[0]]["status"] == "success" and float(docs[large[0]]["completion_t"]) < max(ends), docs)
    docs = gather(f, ids + later)
    report.check("which succeed too", all(d["status"] == "success" for d in docs.values()), docs)


def cancelled(report, f):
    ident = gate(f, "cancelled", resource_specification=TWO)
    waits, _ = submit(f, register(f, f.source, "names"), [{"args": []}], resource_specification=TWO)
    wait_for(lambda: task(f, waits[0])["status"] == "waiting-for-launch", 30, "another waits for the nodes")
    ok(f.http("DELETE", "/v3/tasks/%s" % waits[0]))
    ok(f.http("DELETE", "/v3/tasks/%s" % ident))
    docs = gather(f, [ident] + waits)
    report.check("both end as cancelled", [docs[i]["status"] for i in [ident] + waits] == ["cancelled"] * 2, docs)
    report.check("and the nodes are there for others", result(call(f, register(f, f.source, "short"), 5)) == 5)
    report.check("one for the whole block too", "PARSL_MPI_PREFIX" in result(call(f, register(f, f.source, "names"), resource_specification=TWO)))


def over_its_time(report, f):
    ids, _ = submit(f, register(f, f.source, "gate"), [{"args": ["time"]}], resource_specification=TWO, limits={"time_limit_s": 0.5})
    doc = gather(f, ids)[ids[0]]
    report.check("a time limit ends it", doc["status"] == "failed" and "time limit" in json.dumps(doc), doc)
    report.check("and the nodes are there for others", "PARSL_MPI_PREFIX" in result(call(f, register(f, f.source, "names"), resource_specification=TWO)))


def managers(f):
    """Node -> pid."""
    out = {}
    for pid, argv in programs(f.proc.pid).items():
        if os.path.basename(argv[0] if argv else "") == "weft-manager" and "--node" in argv:
            out[argv[argv.index("--node") + 1]] = pid
    return out


def node_lost(report, f):
    """One that dies takes its block with it here; one that is silent is given up alone, and the call with it, which another node runs."""
    for which, how, name in ((1, signal.SIGSTOP, "silent"), (1, signal.SIGKILL, "other"), (0, signal.SIGKILL, "first")):
        ident = gate(f, name, resource_specification=TWO)
        nodes, runner = noted(f, name)[0]
        pid = managers(f)[nodes[which]]
        os.kill(pid, how)
        if how == signal.SIGSTOP:
            wait_for(lambda: runner not in processes(), 60, "its call is given up")
            report.check("it is not run again without a second node", len(noted(f, name)) == 1, noted(f, name))
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: len(noted(f, name)) == 2, 90, "it runs once more")
        go(f, name)
        doc = gather(f, [ident])[ident]
        report.check("%s node: queued again, and succeeds" % name, doc["status"] == "success" and len(result(doc).split(",")) == 2, doc)
        report.check("%s node: it ran twice" % name, len(noted(f, name)) == 2, noted(f, name))


def agent_killed(report, f):
    ident = gate(f, "agent", resource_specification=TWO)
    os.kill(pids_of(f, "agent")[0], signal.SIGKILL)
    wait_for(lambda: len(noted(f, "agent")) == 2, 90, "it runs once more")
    go(f, "agent")
    doc = gather(f, [ident])[ident]
    report.check("the agent is killed: it succeeds under the next one", doc["status"] == "success", doc)


def retries_end(report, f):
    """An endpoint that does not try again says what was lost."""
    conf = {"workers_per_node": 1, "scaling.nodes_per_block": 2, "mpi_launcher": "mpiexec", "retries_on_loss": 0,
            "heartbeat.interval": "200ms", "heartbeat.threshold": "6s"}
    with Endpoint(f, "once", conf, env={"PATH": f.extra["PATH"]}) as ep:
        told = [c for c in json.loads(ep.command("doctor", "--json")) if c["check"] == "mpi_launcher"]
        report.check("doctor looks for the launcher", len(told) == 1 and "mpiexec" in told[0]["text"] and told[0]["level"] == "ok", told)
        ids, _ = submit(f, register(f, f.source, "gate"), [{"args": ["once"]}], endpoint=ep.id, resource_specification=TWO)
        wait_for(lambda: noted(f, "once"), 60, "it runs")
        node = noted(f, "once")[0][0][1]
        for pid, argv in programs(ep.proc.pid).items():
            if os.path.basename(argv[0] if argv else "") == "weft-manager" and node in argv:
                os.kill(pid, signal.SIGSTOP)
                stopped = pid
        doc = gather(f, ids)[ids[0]]
        report.check("the node that was lost is named", doc["status"] == "failed" and "node %s, one of the 2 nodes of the task" % node in json.dumps(doc), doc)
        os.kill(stopped, signal.SIGCONT)


MANAGER = """#!/bin/sh
# The second node of a block does not come up while the file is there.
case " $* " in
*-1" "*) [ ! -e %s ] || exec sleep 600 ;;
esac
exec %s "$@"
"""


def waits_for(f, ident):
    return task(f, ident).get("waiting_reason") or ""


def node_never_starts(report, f):
    """A block that lacks a node serves small tasks; one that wants both hears why it waits, and gets another block."""
    broken, wrapper = os.path.join(f.state, "broken"), os.path.join(f.state, "manager.sh")
    open(broken, "w").close()
    with open(wrapper, "w") as out:
        out.write(MANAGER % (broken, os.path.join(f.bin, "weft-manager")))
    os.chmod(wrapper, 0o755)
    conf = {"workers_per_node": 1, "scaling.nodes_per_block": 2, "scaling.max_blocks": 1, "scaling.connect_timeout": "8s", "scaling.period": "100ms",
            "scaling.max_failures_per_hour": 3, "scaling.stop_grace": "500ms", "mpi_launcher": "mpiexec", "manager_bin": wrapper,
            "heartbeat.interval": "200ms", "heartbeat.threshold": "6s"}
    names = register(f, f.source, "names")
    with Endpoint(f, "lame", conf, env={"PATH": f.extra["PATH"]}) as ep:
        small = submit(f, register(f, f.source, "gate"), [{"args": ["small"]}], endpoint=ep.id)[0][0]
        wait_for(lambda: noted(f, "small"), 60, "a small task runs on the node that is there")
        ids, _ = submit(f, names, [{"args": []}], endpoint=ep.id, resource_specification=TWO)
        why = wait_for(lambda: ep.blocks()["failed"] == 1 and "not all" in waits_for(f, ids[0]) and waits_for(f, ids[0]), 60, "the block is given up, and the task's record says why")
        report.check("the record says what is missing", "block b1" in why and "has 1 of its 2 managers, and a task wants 2 nodes" in why
                     and "not all of its managers are connected" in why, why)
        report.check("and the status", "not all of its managers are connected" in ep.command("status"), ep.command("status"))
        report.check("what the small task does is not lost", task(f, small)["status"] == "running", task(f, small))
        os.remove(broken)
        go(f, "small")
        docs = gather(f, ids + [small])
        report.check("another block serves it", all(d["status"] == "success" for d in docs.values()) and len(noted(f, "small")) == 1, docs)
        blocks = ep.blocks()
        report.check("nothing is wrong any more", blocks["error"] is None and blocks["failed"] == 1 and blocks["started"] == 2, blocks)
        # one that goes silent: the same
        stopped = next(m["pid"] for m in ep.status()["managers"] if m["node"].endswith("-1"))
        os.kill(stopped, signal.SIGSTOP)
        wait_for(lambda: len(ep.status()["managers"]) == 1, 60, "it is given up")
        ids, _ = submit(f, names, [{"args": []}], endpoint=ep.id, resource_specification=TWO)
        doc = gather(f, ids)[ids[0]]
        report.check("a node that is silent: another block serves it", doc["status"] == "success" and ep.blocks()["started"] == 3, doc)
        # no more may fail: it says so, and the node that is left goes on with small tasks
        os.kill(next(m["pid"] for m in ep.status()["managers"] if m["node"].endswith("-1")), signal.SIGSTOP)
        wait_for(lambda: len(ep.status()["managers"]) == 1, 60, "it is given up")
        ids, _ = submit(f, names, [{"args": []}], endpoint=ep.id, resource_specification=TWO)
        why = wait_for(lambda: "max_failures_per_hour" in waits_for(f, ids[0]) and waits_for(f, ids[0]), 60, "the record says it")
        report.check("no more blocks may fail: this one is kept", "kept for smaller tasks" in why and "kept for smaller tasks" in ep.command("status"), why)
        report.check("and small tasks run", result(call(f, register(f, f.source, "short"), 3, endpoint=ep.id)) == 3)
        ok(f.http("DELETE", "/v3/tasks/%s" % ids[0]))


main(__doc__, [what_it_sees, clients, refusals, alone, not_starved, cancelled, over_its_time, node_lost, agent_killed, retries_end, node_never_starts], make)

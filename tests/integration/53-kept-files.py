#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files that tasks leave in a directory of the endpoint, through the real fabric: every kind of runner, names that lead elsewhere, bounds of one
task and of all, a manager that is killed while they are copied, containers, clients, endpoints without such a directory."""
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import e2e  # noqa: E402
from cluster import Endpoint, fake_docker, result  # noqa: E402
from e2e import Fabric, call, gather, pids_of, register, register_command, submit, task, wait_for  # noqa: E402

MIB = 1 << 20
HOME = tempfile.mkdtemp(prefix="weft-kept-")
OUT = os.path.join(HOME, "out")
MAX = 256 * MIB
MAKE = """
import os

def make(sizes, links={}):
    for name, size in sizes.items():
        with open(name, "wb") as f:
            f.write(b"\\x89" * min(size, 1000))
            f.truncate(size)
    for name, to in links.items():
        os.symlink(to, name)
    return sorted(os.listdir("."))
"""


def make(build):
    os.makedirs(OUT)
    f = Fabric(build, workers=2)
    f.args += ["--endpoint-set", "files.output_dir=" + OUT, "--endpoint-set", "files.output_max_bytes=%d" % MAX]
    return f


def keep(*names):
    return [{"name": n, "keep": True} for n in names]


def left(task_id):
    """Name -> size of what a task left."""
    folder = os.path.join(OUT, task_id)
    return {n: os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder)} if os.path.isdir(folder) else {}


def parts():
    folder = os.path.join(OUT, ".weft-%d" % os.geteuid())
    return [n for n in os.listdir(folder) if n[0] != "."] if os.path.isdir(folder) else []


def told(doc):
    return {x["name"]: (x["bytes"], x.get("path")) for x in doc.get("files", [])}


def where(doc, **sizes):
    return {n: (size, os.path.join(OUT, doc["task_id"], n)) for n, size in sizes.items()}


def fails(report, what, doc, *words):
    text = str(doc.get("exception")) + str(doc.get("reason"))
    report.check("%s: the task fails, and says why" % what, doc["status"] == "failed" and doc.get("code") == "TASK_FILE"
                 and all(str(w) in text for w in words), (doc.get("code"), text[:600], words))
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: not left(doc["task_id"]) and not parts(), 10, "nothing is left")
    report.check("%s: nothing is left" % what, not left(doc["task_id"]) and not parts(), (left(doc["task_id"]), parts()))


def kinds(report, f):
    fn = register(f, MAKE, "make")
    doc = call(f, fn, {"a": 3 * MIB, "b.png": 7, "c.png": 0, ".hidden.png": 1, "other": 5}, {"link.png": "/etc/passwd"}, outputs=keep("a", "*.png"))
    want = {"a": 3 * MIB, "b.png": 7, "c.png": 0}
    report.check("they are where the task's document says, neither links nor hidden files nor others", doc["status"] == "success"
                 and told(doc) == where(doc, **want) and left(doc["task_id"]) == want and doc["node"], (str(doc)[:900], left(doc["task_id"])))
    with open(os.path.join(OUT, doc["task_id"], "a"), "rb") as s:
        data = s.read()
    report.check("byte for byte", data == b"\x89" * 1000 + bytes(3 * MIB - 1000), len(data))
    report.check("nothing half written stands there", parts() == [], parts())
    a = f.http("GET", "/v3/tasks/%s/files/a" % doc["task_id"])
    report.check("they are not fetched: the answer says where they are", a[0] == 404 and os.path.join(OUT, doc["task_id"], "a") in str(a[1]), a)
    doc = call(f, fn, {"a": 70000, "b": 5}, outputs=["b"] + keep("a"))
    report.check("some come with the result, others are kept", told(doc) == dict(where(doc, a=70000), b=(5, None)), str(doc)[:900])
    doc = call(f, fn, {"a": 4, "b": 5}, outputs=["*"] + keep("a"))
    report.check("what matches both is kept", told(doc) == dict(where(doc, a=4), b=(5, None)) and left(doc["task_id"]) == {"a": 4}, str(doc)[:900])
    doc = call(f, fn, {"a": 4}, outputs=[{"name": "a", "keep": False}])
    report.check("keep: false is as without it", told(doc) == {"a": (4, None)} and not left(doc["task_id"]), str(doc)[:900])
    doc = call(f, fn, {}, outputs=keep("*"))
    report.check("none is fine for a pattern", doc["status"] == "success" and result(doc) == [] and "files" not in doc, str(doc)[:900])
    ids, _ = submit(f, fn, [{"args": [{"x-%d" % i: i}]} for i in range(24)], outputs=keep("x-*"))
    docs = gather(f, ids)
    report.check("of many tasks at once each has its own", all(left(t) == {"x-%d" % i: i} for i, t in enumerate(ids))
                 and all(told(docs[t]) == where(docs[t], **{"x-%d" % i: i}) for i, t in enumerate(ids)), str(docs)[:900])
    cmd = register_command(f, ["sh", "-c", "tr a-z A-Z > out.txt"], outputs=keep("out.txt"))
    ids, answer = submit(f, cmd, ["shout"], wait=40)
    doc = answer["results"].get(ids[0]) or task(f, ids[0], 40)
    report.check("a command's, named at registration", left(ids[0]) == {"out.txt": 5} and told(doc) == where(doc, **{"out.txt": 5}), str(doc)[:500])


def wrong(report, f):
    fn = register(f, MAKE, "make")
    fails(report, "a file that was not made", call(f, fn, {"a": 1}, outputs=keep("a", "must.bin")), "must.bin")
    fails(report, "too much", call(f, fn, {"a": 1, "big": MAX + 1}, outputs=keep("a", "big")), "files.output_max_bytes", MAX)
    fails(report, "too many", call(f, fn, {"f%d" % i: 0 for i in range(65)}, outputs=keep("f*")), "64")
    doc = call(f, register(f, "def bad():\n    open('a', 'w').write('x')\n    raise ValueError('no')\n", "bad"), outputs=keep("a"))
    report.check("of a call that fails nothing is kept", doc["status"] == "failed" and "files" not in doc and not left(doc["task_id"]), str(doc)[:600])
    ids, _ = submit(f, fn, [{"args": [{"a": 9}]}] * 3, outputs=keep("a"))
    gather(f, ids)
    wait_for(lambda: not [n for w in workrooms(f) for n in os.listdir(w) if n.startswith("kept-")], 30, "workers to remove what is through")
    for bad in ([{"name": "../x", "keep": True}], [{"keep": True}], [{"name": "a", "keep": 1}], [{"name": "a", "kept": True}], [{"name": 7, "keep": True}],
                keep("a") + ["a"], keep("a", "a"), keep(*map(str, range(65)))):
        a = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {fn: [{"args": [{}]}]}, "outputs": bad})
        report.check("outputs %s are refused" % str(bad)[:50], a[0] == 422 and "outputs" in str(a[1]), a)


def workrooms(f):
    out = []
    for base, folders, _ in os.walk(os.path.join(f.state, "endpoints")):
        out += [os.path.join(base, n) for n in folders if n[0] == "w" and n[1:].isdigit()]
    return out


def killed(report, f):
    """While it copies, most likely: the result holds whenever it happens."""
    fn = register(f, MAKE, "make")
    ids, _ = submit(f, fn, [{"args": [{"big": MAX - 10, "small": 10}]}], outputs=keep("*"))
    wait_for(lambda: parts() or task(f, ids[0])["status"] in e2e.ENDED, 60, "the copying to begin")
    for pid in pids_of(f, "manager"):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pids_of(f, "manager"), 60, "the next manager")
    doc = gather(f, ids)[ids[0]]
    paths = {x["name"]: x["path"] for x in doc.get("files", [])}
    report.check("a manager is killed while it copies: the task is run again", doc["status"] == "success" and set(paths) == {"big", "small"}, str(doc)[:900])
    report.check("what the document names is whole", all(os.path.getsize(paths[n]) == size for n, size in (("big", MAX - 10), ("small", 10))), paths)
    report.check("every directory with a final name is whole", all(sorted(os.listdir(os.path.join(OUT, n))) == ["big", "small"] for n in os.listdir(OUT)
                                                                   if n.startswith(ids[0])), os.listdir(OUT))
    report.check("what was half written is gone", parts() == [], parts())
    for n in os.listdir(OUT):
        if n.startswith(ids[0]):
            shutil.rmtree(os.path.join(OUT, n))


def without(report, f):
    fn = register(f, MAKE, "make")
    own = register(f, MAKE, "make", outputs=keep("a"))
    with Endpoint(f, "plain", {"workers_per_node": 1}) as ep:
        a = f.http("POST", "/v3/endpoints/%s/submit" % ep.id, {"tasks": {fn: [{"args": [{}]}]}, "outputs": keep("a")})
        report.check("an endpoint without the directory: refused at submit", a[0] == 422 and "files.output_dir" in str(a[1]), a)
        a = f.http("POST", "/v3/endpoints/%s/submit" % ep.id, {"tasks": {own: [{"args": [{}]}]}})
        report.check("for a function that keeps some as well", a[0] == 422 and "files.output_dir" in str(a[1]), a)
        doc = call(f, fn, {"a": 3}, outputs=["a"], endpoint=ep.id)
        report.check("those that come with the result are fine there", told(doc) == {"a": (3, None)}, str(doc)[:600])
    gone = os.path.join(HOME, "gone")
    with Endpoint(f, "gone", {"workers_per_node": 1, "files.output_dir": gone}) as ep:
        doc = call(f, fn, {"a": 3}, outputs=keep("a"), endpoint=ep.id)
        fails(report, "a node without the directory", doc, gone, "No such file")
        os.mkdir(gone)
        doc = call(f, fn, {"a": 3}, outputs=keep("a"), endpoint=ep.id)
        report.check("once it is there", told(doc) == {"a": (3, os.path.join(gone, doc["task_id"], "a"))}, str(doc)[:600])


def bounds_for_all(report, f):
    """Of all tasks together, and of the disk; what the operator sees of it."""
    fn = register(f, MAKE, "make")
    out = os.path.join(HOME, "small")
    os.mkdir(out)
    with Endpoint(f, "small", {"workers_per_node": 2, "files.output_dir": out, "files.output_total_bytes": 40 * MIB}) as ep:
        ids, _ = submit(f, fn, [{"args": [{"a": 5 * MIB, "b": 5 * MIB}]}] * 6, outputs=keep("*"), endpoint=ep.id)
        docs = gather(f, ids).values()
        good = [d for d in docs if d["status"] == "success"]
        sizes = [os.path.getsize(os.path.join(base, n)) for base, _, names in os.walk(out) for n in names if n[0] != "."]
        report.check("a bound for all tasks: no more than it stands there", len(good) == 4 and sum(sizes) == 40 * MIB, (len(good), sizes, str(docs)[:900]))
        for d in docs:
            if d not in good:
                fails(report, "the directory is full", d, "files.output_dir is full", 40 * MIB, "files.output_total_bytes", "emove old results")
        text = ep.command("doctor")
        report.check("doctor says how full it is, and what to do", "at most 40 of 40 MiB" in text and "remove old results" in text, text)
        shutil.rmtree(os.path.join(out, good[0]["task_id"]))

        def fits():
            return call(f, fn, {"a": 5 * MIB}, outputs=keep("*"), endpoint=ep.id)["status"] == "success"
        wait_for(fits, 90, "the room of what was removed to be seen")
    with Endpoint(f, "floor", {"workers_per_node": 1, "files.output_dir": out, "files.output_free_bytes": "1024TiB"}) as ep:
        doc = call(f, fn, {"a": 5}, outputs=keep("a"), endpoint=ep.id)
        fails(report, "the disk is full", doc, "the disk of files.output_dir is full", "files.output_free_bytes")
        text = ep.command("doctor")
        report.check("doctor says that it is", "files.output_free_bytes keeps" in text and "make room" in text, text)


def clients(report, f):
    fn = register(f, MAKE, "make")
    r = f.weft("run", "--output", "*.png", "--keep-outputs", fn, '{"args": [{"x y.png": 4}]}')
    last = f.http("GET", "/v3/tasks?limit=1")[1]["tasks"][0]["task_id"]
    report.check("weft run --output --keep-outputs says where", os.path.join(OUT, last, "x y.png") in r.stderr and left(last) == {"x y.png": 4}, (r.stdout, r.stderr))
    r = f.weft("files", "--dir", HOME, last)
    report.check("weft files says so too", os.path.join(OUT, last, "x y.png") in r.stderr and not os.path.exists(os.path.join(HOME, "x y.png")), r.stderr)
    path = os.path.join(HOME, "make.py")
    with open(path, "w") as s:
        s.write(MAKE)
    own = f.weft("function", "register", "--output", "a", "--keep-outputs", path + "::make").stdout.strip()
    f.weft("run", own, '{"args": [{"a": 6}]}')
    last = f.http("GET", "/v3/tasks?limit=1")[1]["tasks"][0]["task_id"]
    report.check("weft function register --keep-outputs", left(last) == {"a": 6}, left(last))
    c = f.client()
    ids, _ = c.submit(f.endpoint, fn, [json.dumps({"args": [{"s": 2, "t": 3}]})], outputs=["s", {"name": "t"}], keep_outputs=True)
    c.result(ids[0], timeout=60, kind="python")
    report.check("SDK: keep_outputs", left(ids[0]) == {"s": 2} and c.task_file(ids[0], "t") == b"\x89" * 3, left(ids[0]))
    own = c.register("python", MAKE, "make", entry="make", outputs=keep("s"))
    ids, _ = c.submit(f.endpoint, own, [json.dumps({"args": [{"s": 2}]})])
    c.result(ids[0], timeout=60, kind="python")
    report.check("SDK: register", left(ids[0]) == {"s": 2}, left(ids[0]))


def containers(report, f):
    docker, env = fake_docker(f, "a")
    with Endpoint(f, "boxes", {"containers.runtimes": ["docker"], "workers_per_node": 1, "files.output_dir": OUT}, env=env) as ep:
        fn = register(f, MAKE, "make", container="a")
        doc = call(f, fn, {"a": 70000}, outputs=keep("a"), endpoint=ep.id)
        report.check("from a container", told(doc) == where(doc, a=70000) and left(doc["task_id"]) == {"a": 70000}, str(doc)[:900])
        with open(os.path.join(docker, "calls.log")) as calls:
            report.check("which sees nothing of the directory", OUT not in calls.read())


try:
    e2e.main(__doc__, [kinds, wrong, killed, without, bounds_for_all, clients, containers], make)
finally:
    shutil.rmtree(HOME, ignore_errors=True)

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files that tasks name by URL, through the real fabric and a web server of the test: every kind of runner, checksums, limits, servers that
fail, one transfer for many tasks, the cache's bound, managers that are killed, file: URLs, names that lead elsewhere, containers."""
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import e2e  # noqa: E402
import schema  # noqa: E402
from cluster import Endpoint, fake_docker, result  # noqa: E402
from e2e import HOLD, Fabric, call, gather, ok, pids_of, register, register_command, submit, task, wait_for  # noqa: E402
from fileserver import FileServer, sha256  # noqa: E402
from service_helpers import free_port  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
CACHE = 4 * MIB
READ = """
import os

def read(name="data.csv"):
    with open(name, "rb") as f:
        data = f.read()
    return [len(data), data[:20].decode(), sorted(os.listdir("."))]
"""
HOME = tempfile.mkdtemp(prefix="weft-files-")
WEB, TLS = FileServer(), FileServer(tls=HOME)


def make(build):
    f = Fabric(build, workers=2)
    f.watch = schema.Watch()
    f.open = os.path.join(HOME, "open")
    f.cache = os.path.join(HOME, "cache")
    os.makedirs(os.path.join(f.open, "deep"))
    for key, value in (("cache_bytes", CACHE), ("cache_dir", f.cache), ("max_bytes", 2 * MIB), ("timeout", "20s"), ("ca_file", TLS.ca),
                       ("directories", f.open)):
        f.args += ["--endpoint-set", "files.%s=%s" % (key, value)]
    return f


def kept(f):
    """Name -> size of what is in the cache."""
    folder = os.path.join(f.cache, "content")
    return {n: os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder)}


def parts(f):
    return os.listdir(os.path.join(f.cache, "part"))


def one(name, data=None, web=WEB, kind="data", at="data.csv", **more):
    """An entry of `files`; data is put on the server."""
    f = {"name": at, "url": "%s/%s/%s" % (web.url, kind, name)}
    if data is not None:
        f["sha256"] = web.put(name, data)
    f.update(more)
    return f


def run(f, function, files, *args, **more):
    return call(f, function, *args, files=files, **more)


def fails(report, what, doc, *words):
    text = str(doc.get("exception")) + str(doc.get("reason"))
    good = doc["status"] == "failed" and doc.get("code") == "TASK_FILE" and all(str(w) in text for w in words)
    return report.check("%s: the task fails, and says why" % what, good, (doc.get("code"), text[:600], words))


# ---- what is brought ------------------------------------------------------------------------------------------------

def kinds(report, f):
    data = b"a,b\n1,2\n3,4\n"
    report.check("the cache is made when the first task wants a file", not os.path.exists(f.cache))
    fn = register(f, READ, "read")
    doc = run(f, fn, [one("k1", data)])
    report.check("python: the file is in the work directory, alone", doc["status"] == "success" and result(doc) == [12, "a,b\n1,2\n3,4\n", ["data.csv"]],
                 str(doc)[:800])
    report.check("the result says what was brought for it", doc.get("waited_for", {}).get("files", {}).get("bytes") == 12, doc.get("waited_for"))
    report.check("it is kept by its checksum, for reading only", kept(f) == {sha256(data): 12}
                 and os.stat(os.path.join(f.cache, "content", sha256(data))).st_mode & 0o777 == 0o444, kept(f))
    doc = call(f, register(f, "import os\n\ndef ls():\n    return os.listdir('.')\n", "ls"))
    report.check("python: the next call does not see it", result(doc) == [], doc)
    fn = register_command(f, ["sh", "-c", "cat data.csv; wc -l < two"])
    ids, answer = submit(f, fn, [""], wait=40, files=[one("k1", data), one("k2", b"x\ny\n", at="two")])
    doc = answer["results"].get(ids[0]) or task(f, ids[0], 40)
    report.check("command: two files", doc["status"] == "success" and doc["result"] == data.decode() + "2\n", str(doc)[:600])
    code = os.path.join(f.build, "examples", "lines.so")
    import base64
    with open(code, "rb") as s:
        fn = register(f, base64.b64encode(s.read()).decode(), "lines", kind="shared_object")
    ids, answer = submit(f, fn, ["data.csv"], wait=40, files=[one("k1", data)])
    doc = answer["results"].get(ids[0]) or task(f, ids[0], 40)
    report.check("shared object", doc["status"] == "success" and result(doc) == 3, str(doc)[:600])
    ids, answer = submit(f, fn, ["data.csv"], wait=40)
    doc = answer["results"].get(ids[0]) or task(f, ids[0], 40)
    report.check("shared object: without it in the next call", doc["status"] == "failed" and "no such file" in str(doc), str(doc)[:600])
    report.check("each file came once", [WEB.count("/data/k1"), WEB.count("/data/k2")] == [1, 1], WEB.hits)


def of_functions(report, f):
    entry = one("fn", b"of the function")
    fn = register(f, READ, "read", files=[entry], memoize=True)
    shown = ok(f.http("GET", "/v3/functions/" + fn))
    report.check("registration shows them", shown["files"] == [entry], shown)
    a, b = run(f, fn, []), run(f, fn, [])
    report.check("a function's file comes with each of its tasks", result(a)[1] == "of the function", a)
    report.check("equal calls of a memoised one are answered", b.get("memoised") is True or b.get("memoized") is True, sorted(b))
    doc = run(f, fn, [one("own", b"of the task")])
    report.check("a task's own file of that name stands in its place, and is no equal call", result(doc)[1] == "of the task", doc)
    doc = run(f, fn, [dict(one("own2", b"first"), sha256=None)])
    WEB.put("own2", b"second")
    again = run(f, fn, [dict(one("own2"), sha256=None)])
    report.check("without a checksum it is fetched each time, and nothing is remembered", [result(doc)[1], result(again)[1]] == ["first", "second"],
                 (doc, again))
    batch = register(f, "def size(xs):\n    return [len(open('data.csv').read()) + x for x in xs]\n", "size", batch={"max": 16}, files=[entry])
    ids, _ = submit(f, batch, [{"args": [i]} for i in range(20)])
    docs = gather(f, ids)
    report.check("batches", sorted(int(result(d)) for d in docs.values()) == [15 + i for i in range(20)], str(docs)[:500])
    ids, _ = submit(f, batch, [{"args": [i]} for i in range(4)], files=[one("b2", b"xy")])
    report.check("batches with files of their own", sorted(int(result(d)) for d in gather(f, ids).values()) == [2, 3, 4, 5])


def many(report, f):
    WEB.gate.clear()
    fn = register(f, READ, "read")
    ids, _ = submit(f, fn, [{"args": []}] * 20, files=[one("many", b"m" * 100000, kind="gate")])
    wait_for(lambda: WEB.count("/gate/many"), 30, "the transfer")
    doc = call(f, register(f, "def one():\n    return 1\n", "one"))
    report.check("tasks without files go on while others wait for theirs", result(doc) == 1, doc)
    WEB.gate.set()
    docs = gather(f, ids)
    report.check("20 tasks, one transfer", {result(d)[0] for d in docs.values()} == {100000} and WEB.count("/gate/many") == 1, WEB.hits)
    WEB.gate.clear()
    ids, _ = submit(f, fn, [{"args": []}] * 2, files=[one("dropped", b"d" * 100000, kind="gate")])
    wait_for(lambda: WEB.count("/gate/dropped"), 30, "the transfer")
    for i in ids:
        f.http("DELETE", "/v3/tasks/" + i)
    report.check("cancelled while they wait", {d["status"] for d in gather(f, ids).values()} <= {"cancelled", "failed"})
    wait_for(lambda: "/gate/dropped" in WEB.broken, 30, "the transfer to be given up")
    report.check("then nobody wants it: it is given up, nothing is left", wait_for(lambda: not parts(f), 30, "no parts") and True)
    WEB.gate.set()


# ---- what goes wrong ------------------------------------------------------------------------------------------------

def wrong(report, f):
    fn = register(f, READ, "read")
    data = b"what is there"
    doc = run(f, fn, [dict(one("w1", data), sha256=sha256(b"other"))])
    fails(report, "another checksum", doc, "data.csv", WEB.url + "/data/w1", sha256(data), sha256(b"other"), "13 bytes")
    report.check("it is the caller's fault", doc.get("fault") == "user", doc.get("fault"))
    fails(report, "404", run(f, fn, [one("none")]), WEB.url + "/data/none", "404", "not found")
    report.check("404 is not tried again", WEB.count("/data/none") == 1)
    fails(report, "403", run(f, fn, [one("x?token=secret", kind="secret")]), "403", "/secret/x?...")
    WEB.put("big", b"b" * (2 * MIB + 1))
    fails(report, "larger than the endpoint permits", run(f, fn, [one("big")]), 2 * MIB + 1, 2 * MIB, "files.max_bytes")
    fails(report, "larger than its own limit", run(f, fn, [one("w1", data, max_bytes=12)]), "13 bytes", "12", "max_bytes")
    fails(report, "endless, without a length", run(f, fn, [one("x", kind="endless")]), 2 * MIB)
    doc = run(f, fn, [one("w1", data)])
    report.check("the right one is there", doc["status"] == "success", doc)
    fails(report, "too large, and here already", run(f, fn, [one("w1", data, max_bytes=12)]), "13 bytes", "12")
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: not parts(f), 10, "no parts")
    report.check("nothing is left of all that", parts(f) == [] and sha256(data) in kept(f), (parts(f), kept(f)))


def servers(report, f):
    fn = register(f, READ, "read")
    doc = run(f, fn, [one("s1", b"third time", kind="flaky")])
    report.check("503 twice, then well", doc["status"] == "success" and WEB.count("/flaky/s1") == 3, (doc, WEB.hits))
    doc = run(f, fn, [one("s2", b"s" * 50000, kind="dies_once")])
    report.check("a server that dies midway is asked again", doc["status"] == "success" and result(doc)[0] == 50000, doc)
    doc = run(f, fn, [one("s3", b"S" * 50000, kind="dies")])
    fails(report, "one that always dies", doc, WEB.url + "/dies/s3", "1000 bytes came", "tried 4 times")
    report.check("it is the site's fault", doc.get("fault") == "site", doc.get("fault"))
    fails(report, "503 always", run(f, fn, [one("s", kind="down")]), "503", "tried 4 times")
    dead = "http://127.0.0.1:%d" % free_port()
    fails(report, "no server", run(f, fn, [{"name": "data.csv", "url": dead + "/data/x"}]), dead, "tried 4 times")
    doc = run(f, fn, [one("s4", b"unsized", kind="unsized"), one("s5", b"moved", kind="moved", at="two")], "two")
    report.check("without a length, and through a redirect", result(doc)[1] == "moved", doc)
    fails(report, "a redirect to file:", run(f, fn, [one("x", kind="escape")]), "/escape/x")
    doc = run(f, fn, [one("s6", b"behind TLS", web=TLS)])
    report.check("https, with the site's certificates", result(doc)[1] == "behind TLS", doc)
    began = time.monotonic()
    doc = run(f, fn, [one("x", kind="slow")])
    fails(report, "a slow one", doc, "not complete after 20 s", "files.timeout")
    report.check("within its time", time.monotonic() - began < 60, time.monotonic() - began)


def bound(report, f):
    fn = register(f, READ, "read")
    sizes = []
    for i in range(6):
        doc = run(f, fn, [one("b%d" % i, bytes([97 + i]) * int(1.5 * MIB))])
        if doc["status"] != "success":
            report.check("file %d of 1.5 MiB" % i, False, doc)
        sizes.append(sum(kept(f).values()))
    report.check("never more than the cache may have", max(sizes) <= CACHE, sizes)
    left = set(kept(f))
    report.check("the least recently used leave first", sha256(b"f" * int(1.5 * MIB)) in left and sha256(b"a" * int(1.5 * MIB)) not in left, left)
    run(f, fn, [one("b4", b"e" * int(1.5 * MIB))])
    run(f, fn, [one("b6", b"g" * int(1.5 * MIB))])
    left = set(kept(f))
    report.check("what was used again stays", sha256(b"e" * int(1.5 * MIB)) in left and sha256(b"f" * int(1.5 * MIB)) not in left, left)
    hold = register(f, HOLD + "    return len(open('data.csv').read())\n", "hold")
    stop = os.path.join(HOME, "go-%s" % time.time())
    ids, _ = submit(f, hold, [{"args": [stop]}], files=[one("u1", b"1" * int(1.5 * MIB)), one("u2", b"2" * int(1.5 * MIB), at="two")])
    wait_for(lambda: task(f, ids[0])["status"] == "running", 30, "the task to run")
    doc = run(f, fn, [one("u3", b"3" * int(1.5 * MIB))])
    fails(report, "all is in use", doc, "in use", "files.cache_bytes")
    report.check("what is in use stays", {sha256(b"1" * int(1.5 * MIB)), sha256(b"2" * int(1.5 * MIB))} <= set(kept(f)), kept(f))
    open(stop, "w").close()
    report.check("the one that uses it ends well", result(gather(f, ids)[ids[0]]) == int(1.5 * MIB))
    report.check("then there is room", run(f, fn, [one("u3", b"3" * int(1.5 * MIB))])["status"] == "success")


def tampered(report, f):
    fn = register(f, READ, "read")
    spoil = register(f, "def spoil():\n    try:\n        with open('data.csv', 'r+') as f:\n            f.write('SPOILT')\n        return 'written'\n"
                        "    except OSError as e:\n        return type(e).__name__\n", "spoil")
    data = b"do not write here"
    doc = run(f, spoil, [one("t1", data)])
    report.check("writing to it is refused, but to root", result(doc) == ("written" if os.geteuid() == 0 else "PermissionError"), doc)
    doc = run(f, fn, [one("t1", data)])
    report.check("what somebody wrote to is never given to another", result(doc)[1] == data.decode(), doc)
    report.check("it was fetched again", WEB.count("/data/t1") == (2 if os.geteuid() == 0 else 1), WEB.hits)
    doc = run(f, register(f, "import os\n\ndef rm():\n    os.unlink('data.csv')\n    open('data.csv', 'w').write('mine')\n    return open('data.csv').read()\n", "rm"),
              [one("t1", data)])
    report.check("removing it removes the name only", result(doc) == "mine" and result(run(f, fn, [one("t1", data)]))[1] == data.decode(), doc)


def killed(report, f):
    fn = register(f, READ, "read")
    WEB.gate.clear()
    entry = one("kill", b"k" * 200000, kind="gate")
    ids, _ = submit(f, fn, [{"args": []}] * 3, files=[entry])
    wait_for(lambda: WEB.count("/gate/kill") and parts(f), 30, "the transfer")
    left = parts(f)
    for pid in pids_of(f, "manager"):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: WEB.count("/gate/kill") >= 2, 60, "the next manager to fetch it")
    report.check("a killed manager's part is removed by the next one", not set(left) & set(parts(f)), (left, parts(f)))
    WEB.gate.set()
    docs = gather(f, ids)
    report.check("the tasks end well", {result(d)[0] for d in docs.values()} == {200000}, str(docs)[:600])
    for pid in pids_of(f, "manager"):
        os.kill(pid, signal.SIGKILL)
    before = WEB.count("/gate/kill")
    doc = run(f, fn, [entry])
    report.check("what is whole outlives managers", result(doc)[0] == 200000 and WEB.count("/gate/kill") == before, doc)


# ---- what is not permitted ------------------------------------------------------------------------------------------

def directories(report, f):
    fn = register(f, READ, "read")
    with open(os.path.join(f.open, "deep", "a b.txt"), "w") as s:
        s.write("from the site")
    secret = os.path.join(HOME, "secret.txt")
    with open(secret, "w") as s:
        s.write("secret")
    os.symlink(secret, os.path.join(f.open, "link"))
    os.symlink(HOME, os.path.join(f.open, "up"))
    os.mkfifo(os.path.join(f.open, "fifo"))

    def at(path, **more):
        return [dict({"name": "data.csv", "url": "file://" + path}, **more)]
    doc = run(f, fn, at(f.open + "/deep/a%20b.txt"))
    report.check("file: below a permitted directory", result(doc)[1] == "from the site", doc)
    doc = run(f, fn, at(f.open + "/deep/a%20b.txt", sha256=sha256(b"from the site")))
    report.check("file: with a checksum", doc["status"] == "success", doc)
    fails(report, "file: with another checksum", run(f, fn, at(f.open + "/deep/a%20b.txt", sha256=sha256(b"x"))), sha256(b"x"))
    no = "files.directories"
    for what, path, words in (("elsewhere", "/etc/passwd", (no,)), ("elsewhere, with the checksum of what is here", "/etc/passwd", (no,)),
                              ("beside it", f.open + "-not/x", (no,)), ("..", f.open + "/../secret.txt", (no,)),
                              ("escaped ..", f.open + "/%2e%2e/secret.txt", (no,)), ("escaped slash", f.open + "%2f..%2fsecret.txt", (no,)),
                              ("NUL", f.open + "/deep/a%00", ("usable path",)), ("a link", f.open + "/link", ("symbolic link",)),
                              ("through a link", f.open + "/up/secret.txt", ()), ("a directory", f.open + "/deep", ("regular file",)),
                              ("a pipe", f.open + "/fifo", ("regular file",)), ("nothing", f.open + "/none", ("No such file",))):
        more = {"sha256": sha256(b"from the site")} if "checksum" in what else {}
        doc = run(f, fn, at(path, **more))
        fails(report, "file: " + what, doc, "file://", *words)
        if "secret" in str(doc.get("result")):
            report.check("file: %s: nothing came out" % what, False, doc)


def refused(report, f):
    fn = register(f, READ, "read")
    url = WEB.url + "/data/k1"

    def answer(files):
        return f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {fn: [{"args": []}]}, "files": files})
    for name in ("../x", "/etc/x", "a/b", "..", ".", "", "a\0b", "a\nb", ".weft-x", "n" * 256):
        a = answer([{"name": name, "url": url}])
        report.check("name %r is refused" % name[:20], a[0] == 422 and "files" in str(a[1]), a)
    for bad in ("ftp://h/x", "x", "http://user:pw@h/x", "http://h/a b", "file:///../etc/passwd\n", "file://host/x", url + "#y", "http://" + "h" * 2048, 7, None):
        a = answer([{"name": "a", "url": bad}])
        report.check("URL %r is refused" % str(bad)[:30], a[0] == 422 and "files" in str(a[1]), a)
    for what, files in (("no list", {"a": url}), ("text", "a"), ("no objects", ["a"]), ("no URL", [{"name": "a"}]), ("one name twice", [{"name": "a", "url": url}] * 2),
                        ("an unknown member", [{"name": "a", "url": url, "md5": "x"}]), ("a short checksum", [{"name": "a", "url": url, "sha256": "ab"}]),
                        ("a limit of 0", [{"name": "a", "url": url, "max_bytes": 0}]), ("65 of them", [{"name": str(i), "url": url} for i in range(65)]),
                        ("too much text", [{"name": str(i), "url": "http://h/" + "u" * 2000} for i in range(5)])):
        a = answer(files)
        report.check("%s is refused" % what, a[0] == 422, a)
    a = f.http("POST", "/v3/functions", {"function_name": "x", "function_code": READ, "kind": "python", "entry": "read", "files": [{"name": "../x", "url": url}]})
    report.check("at registration too", a[0] == 422 and "../x" in str(a[1]), a)
    with Endpoint(f, "nofiles", {"files.cache_bytes": 0}) as ep:
        a = f.http("POST", "/v3/endpoints/%s/submit" % ep.id, {"tasks": {fn: [{"args": []}]}, "files": [one("k1", b"a")]})
        report.check("an endpoint that brings none: refused at submit", a[0] == 422 and "files.cache_bytes" in str(a[1]), a)
        own = register(f, READ, "read", files=[one("k1", b"a")])
        a = f.http("POST", "/v3/endpoints/%s/submit" % ep.id, {"tasks": {own: [{"args": []}]}})
        report.check("for a function with files as well", a[0] == 422 and "files.cache_bytes" in str(a[1]), a)
        report.check("tasks without files run there", result(call(f, register(f, "def one():\n    return 1\n", "one"), endpoint=ep.id)) == 1)
    with Endpoint(f, "https", {"files.http": False, "files.ca_file": TLS.ca, "workers_per_node": 1}) as ep:
        fails(report, "only https", run(f, fn, [one("k1", b"a")], endpoint=ep.id), "files.http")
        report.check("and https it does", result(run(f, fn, [one("k1", b"a", web=TLS)], endpoint=ep.id))[0] == 1)
        report.check("its cache is in its own directory", os.path.isdir(os.path.join(ep.dir, "files", "content")), os.listdir(ep.dir))
        out = ep.command("doctor")
        report.check("doctor looks at it", "files" in out and os.path.join(ep.dir, "files") in out, out)


# ---- what comes back ------------------------------------------------------------------------------------------------

MAKE = """
import os

def make(sizes, link=None):
    for name, size in sizes.items():
        with open(name, "wb") as f:
            f.write(b"\\x89" * size)
    if link:
        os.symlink(link, "link.png")
    return sorted(os.listdir("."))
"""


def fetched(f, task_id, name):
    import urllib.request
    r = urllib.request.Request("%s/v3/tasks/%s/files/%s" % (f.url, task_id, name), headers={"Authorization": "Bearer " + f.token})
    with urllib.request.urlopen(r, timeout=30) as answer:
        return answer.read(), answer.headers["Content-Type"]


def outputs(report, f):
    fn = register(f, MAKE, "make")
    doc = call(f, fn, {"a.png": 3, "b.png": 70000, "c.txt": 5, ".hidden.png": 1}, "/etc/passwd", outputs=["*.png", "c.txt"], files=[one("k1", b"in")])
    want = [{"name": "a.png", "bytes": 3}, {"name": "b.png", "bytes": 70000}, {"name": "c.txt", "bytes": 5}]
    report.check("the result names what came with it: neither links nor inputs nor hidden files", doc["status"] == "success"
                 and sorted(doc.get("files", []), key=lambda x: x["name"]) == want, str(doc)[:900])
    data, kind = fetched(f, doc["task_id"], "b.png")
    report.check("fetched one by one, byte for byte", data == b"\x89" * 70000 and kind == "application/octet-stream", (len(data), kind))
    for what, path, status in (("another name", doc["task_id"] + "/files/none", 404), ("a path", doc["task_id"] + "/files/..%2f..%2fetc%2fpasswd", 404),
                               ("the input", doc["task_id"] + "/files/data.csv", 404), ("another task", doc["task_id"][:-4] + "0000/files/a.png", 404)):
        a = f.http("GET", "/v3/tasks/" + path)
        report.check("%s is not there" % what, a[0] == status, a)
    doc = call(f, register(f, "import os\n\ndef ls():\n    return os.listdir('.')\n", "ls"), outputs=["*"])
    report.check("a call finds nothing of the one before; no files are fine for a pattern", result(doc) == [] and "files" not in doc, doc)
    fails(report, "a file that was not made", call(f, fn, {}, outputs=["must.bin"]), "must.bin")
    doc = call(f, fn, {"big": 11 * MIB}, outputs=["big"])
    fails(report, "more than fits a result", doc, "big", 10 * MIB)
    fails(report, "many", call(f, fn, {"f%d" % i: 0 for i in range(65)}, outputs=["f*"]), "64")
    cmd = register_command(f, ["sh", "-c", "tr a-z A-Z < in.txt > out.txt"], outputs=["out.txt"])
    ids, answer = submit(f, cmd, [""], wait=40, files=[one("up", b"shout", at="in.txt")])
    doc = answer["results"].get(ids[0]) or task(f, ids[0], 40)
    report.check("a command's, named at registration", fetched(f, ids[0], "out.txt")[0] == b"SHOUT", str(doc)[:500])
    batch = register(f, "def name(xs):\n    for x in xs:\n        open('out-%d' % x, 'w').write(str(x))\n    return xs\n", "name", batch={"max": 16})
    ids, _ = submit(f, batch, [{"args": [i]} for i in range(8)], outputs=["out-*"])
    docs = gather(f, ids)
    report.check("of a batch each has its own", sorted(x["name"] for i in ids for x in docs[i]["files"]) == ["out-%d" % i for i in range(8)]
                 and all(len(docs[i]["files"]) == 1 for i in ids), str(docs)[:500])
    for bad in ("../x", "a/b", "", 7):
        a = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {fn: [{"args": [{}]}]}, "outputs": [bad]})
        report.check("output %r is refused" % bad, a[0] == 422 and "outputs" in str(a[1]), a)
    folder = os.path.join(HOME, "out")
    os.makedirs(folder)
    r = f.weft("run", "--output", "*.png", "--output-dir", folder, fn, '{"args": [{"x y.png": 4, "z.png": 9}]}')
    report.check("weft run --output", sorted(os.listdir(folder)) == ["x y.png", "z.png"] and os.path.getsize(os.path.join(folder, "z.png")) == 9,
                 (r.stdout, r.stderr))
    os.unlink(os.path.join(folder, "z.png"))
    last = ok(f.http("GET", "/v3/tasks?limit=1"))["tasks"][0]["task_id"]
    r = f.weft("files", "--dir", folder, last, "z.png")
    report.check("weft files", os.path.getsize(os.path.join(folder, "z.png")) == 9, r.stderr)
    r = f.weft("files", "--dir", folder, last, check=False)
    report.check("nothing is written over", r.returncode == 1 and "exists" in r.stderr, r.stderr)
    c = f.client()
    ids, _ = c.submit(f.endpoint, fn, [json.dumps({"args": [{"s": 2}]})], outputs=["s"])
    c.result(ids[0], timeout=60, kind="python")
    report.check("SDK", c.task_file(ids[0], "s") == b"\x89\x89")


# ---- clients --------------------------------------------------------------------------------------------------------

def clients(report, f):
    data = b"for the clients"
    entry = one("c1", data)
    path = os.path.join(HOME, "show.py")
    with open(path, "w") as s:
        s.write(READ)
    given = "data.csv=%s#sha256=%s" % (entry["url"], entry["sha256"])
    fn = f.weft("function", "register", path + "::read").stdout.strip()
    r = f.weft("run", "--file", given, "--file", "two=%s" % entry["url"], fn, '{"args": ["two"]}')
    report.check("weft run --file", json.loads(r.stdout) == [len(data), data.decode(), ["data.csv", "two"]], r.stdout)
    r = f.weft("run", "--file", given.replace(entry["sha256"], sha256(b"z")), fn, check=False)
    report.check("its error", r.returncode == 3 and sha256(data) in r.stderr + r.stdout and entry["url"] in r.stderr + r.stdout, (r.stdout, r.stderr))
    for bad in ("data.csv", "=http://h", "a=", "a=http://h#md5=x"):
        r = f.weft("run", "--file", bad, fn, check=False)
        report.check("--file %s is refused" % bad, r.returncode == 1 and "--file" in r.stderr, (r.returncode, r.stderr))
    own = f.weft("function", "register", "--file", given, path + "::read").stdout.strip()
    r = f.weft("run", own)
    report.check("weft function register --file", json.loads(r.stdout)[1] == data.decode(), r.stdout)
    report.check("weft function show", "data.csv" in f.weft("function", "show", own).stdout)
    c = f.client()
    ids, _ = c.submit(f.endpoint, fn, [json.dumps({"args": []})], files=[entry])
    report.check("SDK: submit", c.result(ids[0], timeout=60, kind="python")[1] == data.decode())
    ids, _ = c.submit(f.endpoint, fn, [json.dumps({"args": []})], files={"data.csv": entry["url"] + "#sha256=" + entry["sha256"]})
    report.check("SDK: names and URLs", c.result(ids[0], timeout=60, kind="python")[1] == data.decode())
    own = c.register("python", READ, "read", entry="read", files=[entry])
    report.check("SDK: register", c.run(f.endpoint, own)[1] == data.decode())


# ---- many -----------------------------------------------------------------------------------------------------------

def descriptors(report, f):
    """A file takes a descriptor while a task has it: that they are few is no reason to fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    entry = one("own", b"common", kind="gate", at="common")
    WEB.gate.clear()
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        ep = Endpoint(f, "few", {"workers_per_node": 1}).start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        fn = register(f, "import os\n\ndef count():\n    return len(os.listdir('.'))\n", "count")
        ids = []
        for t in range(40):
            own = [one("own-%d-%d" % (t, k), b"%d %d" % (t, k), at="f%d" % k) for k in range(8)]
            ids += submit(f, fn, [{"args": []}], files=[entry] + own, endpoint=ep.id)[0]
        manager = ep.status()["managers"][0]["pid"]
        wait_for(lambda: len(os.listdir("/proc/%d/fd" % manager)) > 128, 60, "many files to be held")
        hits = 0
        while hits < len(WEB.hits):     # as many as it brings: the common one does not come meanwhile
            hits = len(WEB.hits)
            time.sleep(0.5)
        WEB.gate.set()
        docs = gather(f, ids)
        report.check("more files than the manager may have open: tasks wait, and none fails", all(result(d) == 9 for d in docs.values()),
                     [d for d in docs.values() if d["status"] != "success"][:1])
        wait_for(lambda: len(os.listdir("/proc/%d/fd" % manager)) < 128, 60, "them to be let go")
    finally:
        WEB.gate.set()
        ep.stop()


MANY = """
import os

def many(n):
    for i in range(n):
        if i % 1000 == 0:
            os.mkdir("d%d" % i)
        os.close(os.open("d%d/%d" % (i // 1000 * 1000, i), os.O_CREAT))
    return len(os.listdir("."))
"""


def litter(report, f):
    """A directory that takes longer to empty than the manager waits for a sign of life: the result is the first attempt's all the same."""
    with Endpoint(f, "hasty", {"heartbeat.interval": "200ms", "heartbeat.threshold": "1s", "workers_per_node": 1}) as ep:
        fn = register(f, MANY, "many")
        worker = register(f, "import os\n\ndef worker():\n    return os.getppid()\n", "worker")
        for _ in range(4):      # a machine that stands still for a second takes the worker's life as well
            pid = call(f, worker, endpoint=ep.id)
            ids, _ = submit(f, fn, [{"args": [300000]}], files=[one("l1", b"litter")], endpoint=ep.id)
            many = gather(f, ids, 300)[ids[0]]
            doc = run(f, register(f, READ, "read"), [one("l2", b"next")], endpoint=ep.id)
            again = call(f, worker, endpoint=ep.id)
            if result(again) == result(pid):
                break
        report.check("300,000 files are left: the call has succeeded", many["status"] == "success" and result(many) == 301, str(many)[:600])
        report.check("the next one has an empty directory at once", result(doc)[2] == ["data.csv"], str(doc)[:600])
        report.check("of the same worker", result(again) == result(pid), (pid, again))


# ---- containers -----------------------------------------------------------------------------------------------------

def containers(report, f):
    docker, env = fake_docker(f, "a")
    with Endpoint(f, "boxes", {"containers.runtimes": ["docker"], "workers_per_node": 1}, env=env) as ep:
        fn = register(f, READ, "read", container="a")
        doc = run(f, fn, [one("box", b"in a container")], endpoint=ep.id)
        report.check("a file in a container", doc["status"] == "success" and result(doc)[1:] == ["in a container", ["data.csv"]], str(doc)[:900])
        report.check("the result says both that it started and what was brought", {"container", "files"} <= set(doc.get("waited_for", {})), doc.get("waited_for"))
        with open(os.path.join(docker, "calls.log")) as calls:
            runs = [json.loads(line) for line in calls if '"run"' in line]
        mount = "type=bind,src=%s,dst=/weft/files,readonly" % os.path.join(os.path.realpath(ep.dir), "files", "content")
        report.check("its directory is mounted, for reading only", any(mount in r for r in runs), runs[-1:])


try:
    e2e.main(__doc__, [kinds, of_functions, many, wrong, servers, bound, tampered, killed, directories, refused, outputs, clients, descriptors, litter,
                       containers], make)
finally:
    for web in (WEB, TLS):
        web.stop()
    shutil.rmtree(HOME, ignore_errors=True)

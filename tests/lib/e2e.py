# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: their command line, functions and tasks over REST, a second user, sizes of processes."""
import argparse
import collections
import hashlib
import http.client
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import time
import traceback
import urllib.parse
import uuid

import bulkstore
from fabric import Fabric, Report, descendants, processes, role, wait_for  # noqa: F401
from service_helpers import Resp
from testbed import Skip

ENDED = ("success", "failed", "cancelled")
HOLD = "import os, time\ndef hold(gate):\n    while not os.path.exists(gate):\n        time.sleep(0.02)\n"     # until a file is there


def main(doc, tests, make=None):
    """Run test functions (report, fabric) on one fabric; with make None they get the build directory instead. Each may raise Skip."""
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default="build")
    ap.add_argument("only", nargs="*", help="names of tests to run; default: all")
    a = ap.parse_args()
    report = Report()
    f = None
    try:
        if make:
            f = make(a.build)
            f.start()
        for t in tests:
            if a.only and t.__name__ not in a.only:
                continue
            began = time.monotonic()
            try:
                t(report, f if f else a.build)
            except Skip as e:
                report.skip(t.__name__, e)
            except Exception:
                report.check(t.__name__, False, traceback.format_exc())
            print("# %s: %.1f s" % (t.__name__, time.monotonic() - began))
    except Skip as e:
        report.skip(os.path.basename(sys.argv[0]).replace(".py", ""), e)
    except Exception:
        report.check("the fabric", False, traceback.format_exc())
    if f:
        if f.watch:
            report.check("all answers were as openapi.json says", not f.watch.found, f.watch.found)
        if report.failed and f.proc:
            print(f.logs())
        left = f.stop(remove=False)
        report.check("everything ended when it was told to", not left, left)
        complaints = sanitizer_lines(f.state)
        if complaints:
            report.check("no sanitizer has complained", False, "\n".join(complaints[:40]))
        f.stop()
    report.end()


def sanitizer_lines(folder):
    """What programs that were built with sanitizers have written into the logs."""
    out = []
    for d, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".log"):
                with open(os.path.join(d, name), errors="replace") as s:
                    for line in s:
                        if "runtime error:" in line or "Sanitizer" in line or (out and line.startswith("    #")):
                            out.append("%s: %s" % (name, line.rstrip()))
    return out


def ok(reply, status=200):
    """The body of an answer that must be a success."""
    if reply[0] != status:
        raise RuntimeError("HTTP %s: %s" % (reply[0], json.dumps(reply[1])[:1000]))
    return reply[1]


def register(f, source, entry, token=None, **more):
    """Register Python source; returns the function's id."""
    body = {"function_name": entry, "function_code": source, "kind": "python", "entry": entry}
    body.update(more)
    return ok(f.http("POST", "/v3/functions", body, token=token))["function_uuid"]


def register_command(f, argv, **more):
    return register(f, json.dumps({"argv": argv}), "command", kind="command", **more)


def submit(f, function, payloads, wait=0, endpoint=None, token=None, **more):
    """Returns (ids, answer). A payload that is no string travels as JSON text."""
    body = {"tasks": {function: [p if isinstance(p, str) else json.dumps(p) for p in payloads]}}
    body.update(more)
    answer = ok(f.http("POST", "/v3/endpoints/%s/submit%s" % (endpoint or f.endpoint, "?wait=%g" % wait if wait else ""), body, token=token))
    return answer["tasks"][function], answer


def task(f, task_id, wait=0):
    return ok(f.http("GET", "/v3/tasks/%s%s" % (task_id, "?wait=%g" % wait if wait else "")))


def call(f, function, *args, wait=40, **more):
    """Run one task to its end; returns its document."""
    ids, answer = submit(f, function, [{"args": list(args)}], wait=wait, **more)
    return answer.get("results", {}).get(ids[0]) or task(f, ids[0])


def gather(f, ids, timeout=60):
    """Documents of all these tasks once they have ended, or as they are when the time is over."""
    docs, end = {}, time.monotonic() + timeout
    while True:
        open_ = [i for i in ids if i not in docs or docs[i]["status"] not in ENDED]
        left = end - time.monotonic()
        if not open_ or left <= 0:
            return docs
        docs.update(ok(f.http("POST", "/v3/batch_status?wait=%g" % min(left, 20), {"task_ids": open_}))["results"])


def agent_status(ask):
    """What an agent says of itself; ask() returns what `weft-endpoint status --json` prints. That says "starting" of one that has had no time
    to answer, which is asked again then."""
    docs = []

    def answered():
        docs[:] = [json.loads(ask())]
        return docs[0]["state"] != "starting"
    wait_for(answered, 60, "an answer of the agent")
    return docs[0]


def second_user(f, name="mallory", scopes=7):
    """A token of another person, put into the registry as the service's own tool does."""
    token = "weft_" + secrets.token_urlsafe(32)
    db = sqlite3.connect(os.path.join(f.state, "registry.db"), timeout=20)
    with db:
        user = uuid.uuid4().bytes
        db.execute("INSERT INTO users (id, name, created_ms) VALUES (?, ?, ?)", (user, name, int(time.time() * 1000)))
        db.execute("INSERT INTO tokens (hash, id, user, scopes, label, created_ms, expires_ms) VALUES (?, ?, ?, ?, 'test', ?, 0)",
                   (hashlib.sha256(token.encode()).digest(), uuid.uuid4().bytes, user, scopes, int(time.time() * 1000)))
    db.close()
    return token


def connection(f, timeout=60):
    u = urllib.parse.urlsplit(f.url)
    return http.client.HTTPConnection(u.hostname, u.port, timeout=timeout)


def address(f):
    u = urllib.parse.urlsplit(f.url)
    return u.hostname, u.port


def rss(pid):
    """Resident bytes, 0 when the process is gone."""
    try:
        with open("/proc/%d/statm" % pid) as s:
            return int(s.read().split()[1]) * 4096
    except OSError:
        return 0


def anonymous(pid):
    """Resident bytes that are no file's: what the process itself has asked for."""
    with open("/proc/%d/status" % pid) as s:
        return next(int(line.split()[1]) * 1024 for line in s if line.startswith("RssAnon"))


def sizes(f):
    """pid -> (role, resident bytes) of the fabric's own programs, runners left out."""
    return {p: (r, rss(p)) for p, r in f.pids().items() if r in ("service", "service-master", "supervisor", "forwarder", "agent", "manager", "worker")}


def sanitized(pid):
    """AddressSanitizer keeps freed memory for a while; bounds are wider then."""
    try:
        with open("/proc/%d/maps" % pid) as s:
            return "libasan" in s.read()
    except OSError:
        return False


def grown(before, after, limit):
    """Processes that are larger by more than limit, as a text; and those that are gone."""
    out = []
    if any(sanitized(p) for p in after):
        limit += 512 << 20
    for pid, (what, size) in before.items():
        if pid not in after:
            out.append("%s %d is gone" % (what, pid))
        elif after[pid][1] - size > limit:
            out.append("%s %d grew from %.1f to %.1f MiB" % (what, pid, size / 2**20, after[pid][1] / 2**20))
    return out


def redis(f, *args):
    """redis-cli on the fabric's socket."""
    r = subprocess.run(["redis-cli", "-s", os.path.join(f.state, "redis.sock")] + list(args), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       universal_newlines=True, timeout=20)
    if r.returncode or r.stdout.startswith("ERR"):
        raise RuntimeError("redis-cli %s: %s%s" % (" ".join(args), r.stdout, r.stderr))
    return r.stdout.strip()


def stored_ends(f, group):
    """Task ids of a watched group (create_queue), one for each end that was really stored: proto/lua/store.lua adds an entry with each."""
    r = Resp(os.path.join(f.state, "redis.sock"))
    try:
        return [str(uuid.UUID(bytes=fields[fields.index(b"t") + 1])) for _, fields in r("XRANGE", "weft:group:{%s}:done" % group, "-", "+")]
    finally:
        r.close()


def stored_wrongly(f, group, ids):
    """task id -> how often its end was stored, of those for which that is not once; ids of others that were stored there too."""
    stored = collections.Counter(stored_ends(f, group))
    return {t: stored[t] for t in set(stored) | set(ids) if stored[t] != 1 or t not in ids}


def pids_of(f, what):
    return sorted(p for p, r in f.pids().items() if r == what)


def marked(mark):
    """Processes that carry a word in their command line or environment."""
    out = []
    for pid in processes():
        for name in ("cmdline", "environ"):
            try:
                with open("/proc/%d/%s" % (pid, name), "rb") as s:
                    if mark.encode() in s.read() and pid != os.getpid():
                        out.append(pid)
                        break
            except OSError:
                pass
    return out


def bulk_files(f):
    """Names of the payloads and results in the bulk store of the fabric."""
    return bulkstore.names(os.path.join(f.state, "bulk"))


def bulk_unnamed(f):
    """Those that no stored result names."""
    keys = "\n".join("HGET weft:task:{%s} r" % uuid.UUID(hex=n[:32]) for n in bulk_files(f) if not n.endswith(".p"))
    r = subprocess.run(["redis-cli", "-s", os.path.join(f.state, "redis.sock")], input=keys.encode(), stdout=subprocess.PIPE, timeout=30)
    return [n for n in bulk_files(f) if n.endswith(".p") or n.encode() not in r.stdout]

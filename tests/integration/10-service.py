#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""weft-service with a real Redis; the forwarder's part is played here."""
import argparse
import base64
import json
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
from service_helpers import ROOT, Forwarder, Place, Redis, Report, Service, wait_for  # noqa: E402
import fabric  # noqa: E402
import schema  # noqa: E402
import wire  # noqa: E402

arg = argparse.ArgumentParser()
arg.add_argument("--build", default="build")
arg = arg.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
r = Report()
check = r.check
place = Place()
redis = Redis(place.path).start()
svc = Service(arg.build, place.path, redis.url, limits__payload_bytes="1MiB", limits__function_bytes="64KiB", limits__queue_tasks=3000,
              limits__batch_tasks=2000, limits__body_bytes="16MiB", drain_grace="5s", endpoint__lock="5s", registry__cache="0s")
svc.start(config=os.path.join(ROOT, "config", "service.yaml"))
svc.watch = schema.Watch()
raw = redis.client()
KEY = "0123456789" * 4


def source(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def is_uuid(s):
    try:
        return str(uuid.UUID(s)) == s
    except (ValueError, TypeError, AttributeError):
        return False


def error(name, a, status, code):
    j = a.json if isinstance(a.json, dict) else {}
    ok = (a.status == status and j.get("status") == "Failed" and j.get("code") == code and j.get("error_args") == [] and
          j.get("http_status_code") == status and j.get("reason") == j.get("detail") and bool(j.get("detail")) and
          a.headers.get("Content-Type") == "application/json")
    if status == 422 and isinstance(j.get("detail"), list):
        ok = ok and all(set(p) == {"loc", "msg", "type"} for p in j["detail"])
    else:
        ok = ok and isinstance(j.get("detail"), str)
    if status in (429, 503):
        ok = ok and int(a.headers.get("Retry-After", 0)) > 0
    return check(name, ok, a)


def tasks_in_redis():
    return len(raw("KEYS", "weft:task:*"))


def function(code="410\n01\nx", token="own", **more):
    a = svc.post("/v3/functions", dict({"function_name": "f", "function_code": code, "meta": {"python_version": "3.11.2"}}, **more), token=token)
    assert a.status == 200, a
    return a.json["function_uuid"]


def endpoint(name="ep", token="own", **more):
    a = svc.post("/v3/endpoints", dict({"endpoint_name": name, "metadata": {"hostname": "h1"}, "weft": {"public_key": KEY}}, **more), token=token)
    assert a.status == 200, a
    return a.json["endpoint_id"]


def submit(ep, tasks, query="", token="own", headers=None, **more):
    return svc.post("/v3/endpoints/%s/submit%s" % (ep, query), dict({"tasks": tasks, "create_queue": False}, **more), token=token, headers=headers)


added = svc.command("user", "add", "bob")
bob = svc.command("token", "create", "--user", "bob").stdout.strip()


def commands():
    check("user add", added.returncode == 0 and is_uuid(added.stdout.split()[0]), added)
    check("user add twice is refused", "exists" in svc.command("user", "add", "bob").stderr)
    check("user list", {"bob", "local"} <= set(svc.command("user", "list").stdout.split()))
    check("token file is private", os.stat(svc.sets["auth.token_file"]).st_mode & 0o777 == 0o600)
    check("print-config is config/service.yaml",
          svc.command("print-config", sets=False).stdout == open(os.path.join(ROOT, "config/service.yaml")).read())
    check("check-config", svc.command("check-config").returncode == 0)
    bad = subprocess.run([svc.bin, "check-config", "--set", "listen=0.0.0.0:5000"], stderr=subprocess.PIPE, universal_newlines=True)
    check("listening to the world is refused and explained", bad.returncode == 1 and "allow_plain_http" in bad.stderr, bad)
    with tempfile.TemporaryDirectory() as store:
        os.chmod(store, 0o755)
        bad = subprocess.run([svc.bin, "check-config", "--set", "bulk.dir=" + store], stderr=subprocess.PIPE, universal_newlines=True)
        check("check-config looks at bulk.dir", bad.returncode == 1 and "chmod 700" in bad.stderr)
        os.chmod(store, 0o700)
        check("one that is to be made into a store", subprocess.run([svc.bin, "check-config", "--set", "bulk.dir=" + store]).returncode == 0)
    bad = subprocess.run([svc.bin, "check-config", "--set", "wrkers=2"], stderr=subprocess.PIPE, universal_newlines=True)
    check("an unknown key is refused", bad.returncode == 1 and "workers" in bad.stderr, bad)
    programs = [[svc.bin, c] for c in ("check-config", "run")] + [[svc.bin, "user", "list"], [os.path.join(os.path.dirname(svc.bin), "weft-forwarder"), "supervise"]]
    for argv in programs:
        for more, n in ((["--config", "/nonexist"], 1), (["--set", "wrkers=2", "--set", "lissen=3"], 2)):
            bad = subprocess.run([*argv, *more], stderr=subprocess.PIPE, universal_newlines=True, timeout=20)
            lines, name = bad.stderr.splitlines(), os.path.basename(argv[0])
            check("%s %s: each problem once, behind its name" % (name, argv[1]), bad.returncode == 1 and len(set(lines)) == len(lines) == n and
                  all(x.startswith(name + ": ") for x in lines), bad.stderr)
    if not os.path.exists("/etc/weft/service.yaml"):
        bad = subprocess.run([svc.bin, "token", "create", "--user", "x", "--set", "registry.path=" + os.path.join(place.path, "no", "registry.db")], stderr=subprocess.PIPE,
                             universal_newlines=True)
        check("without a configuration the tools say so", bad.returncode == 1 and "no /etc/weft/service.yaml" in bad.stderr and "--config" in bad.stderr, bad.stderr)
    check("unknown token user", "user add" in svc.command("token", "create", "--user", "nobody").stderr)
    taken = Service(arg.build, place.path, redis.url)
    taken.sets["listen"] = svc.sets["listen"]
    out = subprocess.run([svc.bin, "run", *taken.set_args()], stderr=subprocess.PIPE, universal_newlines=True, timeout=20)
    check("a port in use is told", out.returncode == 1 and "in use" in out.stderr, out.stderr)


def tickets():
    """The way into the web console: once, soon, to read."""
    def take(ticket):
        return svc.post("/v3/console/tokens", {"ticket": ticket}, token=None)
    a = svc.post("/v3/console/tickets", {})
    ticket = a.json["ticket"]
    key, = raw("KEYS", "weft:ticket:*")
    check("a ticket, whose hash is kept for two minutes", a.json["expires_in"] == 120 and 0 < raw("TTL", key) <= 120 and ticket.encode() not in key, a)
    got = [take(ticket) for _ in range(2)]
    check("it gives one token that reads", got[0].status == 200 and got[0].json["scope"] == "read" and 43100 < got[0].json["expires_in"] <= 43200 and
          svc.get("/v3/whoami", token=got[0].json["access_token"]).json["scopes"] == "read", got[0])
    error("and no second one", got[1], 401, "INVALID_AUTH_TOKEN")
    error("the token may not more", svc.post("/v3/functions", {"function_name": "f", "function_code": "x"}, token=got[0].json["access_token"]), 403, "INSUFFICIENT_AUTH_SCOPE")
    error("an unknown ticket", take("x" * 43), 401, "INVALID_AUTH_TOKEN")
    error("a ticket that is too long", take("x" * 1000), 422, "SEMANTICALLY_INVALID")
    error("no ticket", svc.post("/v3/console/tokens", {}, token=None), 422, "SEMANTICALLY_INVALID")
    short = svc.command("token", "create", "--user", "bob", "--expires", "60s").stdout.strip()
    a = take(svc.post("/v3/console/tickets", {}, token=short).json["ticket"])
    check("it ends with the token that asked for it", 0 < a.json["expires_in"] <= 60 and svc.get("/v3/whoami", token=a.json["access_token"]).json["name"] == "bob", a)


def usage():
    """What forwarders count, by the hour; who may see it."""
    a, b = endpoint("used"), endpoint("used by others", token=bob)
    today = int(time.time()) // 86400
    for ep, day, fields in ((a, today, {"0.ended": 5, "0.failed": 2, "0.ran": 4, "0.run_us": 6000000, "nonsense": 7, "99.ended": 1}),
                            (a, today - 1, {"23.ended": 1, "23.cancelled": 1}), (a, today - 3, {"1.ended": 1}), (b, today, {"0.ended": 100})):
        for k, n in fields.items():
            raw("HINCRBY", "weft:ep:{%s}:usage:%d" % (ep, day), k, n)
    got = svc.get("/v3/usage?endpoint=" + a).json
    check("two days unless asked for more, in order", [h["tasks"] for h in got["hours"]] == [1, 5] and got["endpoints"] == 1 and not got["truncated"], got)
    last = got["hours"][-1]
    check("an hour", last["hour"].endswith("T00:00:00.000Z") and (last["failed"], last["cancelled"], last["ran"], last["mean_s"]) == (2, 0, 4, 1.5) and
          got["hours"][0]["mean_s"] is None, got)
    check("more days", sum(h["tasks"] for h in svc.get("/v3/usage?days=31&endpoint=" + a).json["hours"]) == 7)
    check("all of one's own, none of others'", sum(h["tasks"] for h in svc.get("/v3/usage?days=31").json["hours"]) == 7 and
          sum(h["tasks"] for h in svc.get("/v3/usage", token=bob).json["hours"]) == 100)
    error("of somebody else's endpoint", svc.get("/v3/usage?endpoint=" + b), 403, "ENDPOINT_ACCESS_FORBIDDEN")
    error("of no endpoint", svc.get("/v3/usage?endpoint=" + str(uuid.uuid4())), 404, "ENDPOINT_NOT_FOUND")
    for q in ("days=0", "days=32", "days=x"):
        error(q, svc.get("/v3/usage?" + q), 400, "REQUEST_MALFORMED")
    rows = {e["uuid"]: e for e in svc.get("/v3/endpoints?details=1&limit=1000").json["endpoints"]}
    check("details in the list are those of status", rows[a]["status"] == "offline" and rows[a]["details"] == svc.get("/v3/endpoints/%s/status" % a).json["details"], rows[a])
    svc.request("DELETE", "/v3/endpoints/" + a)
    svc.request("DELETE", "/v3/endpoints/" + b, token=bob)


def meta():
    a = svc.get("/v2/version", token=None)
    check("version is a string", a.status == 200 and isinstance(a.json, str), a)
    a = svc.get("/v2/version?service=all", token=None)
    check("version of all", {"api", "min_sdk_version", "min_ep_version", "git_sha", "container_service"} == set(a.json), a)
    built_from = json.loads(source(os.path.join(os.path.abspath(arg.build), "gen", "service", "git_sha.inc")))
    check("the commit that it was built from", a.json["git_sha"] == built_from and re.fullmatch("[0-9a-f]{40}|unknown", built_from), a)
    check("HEAD of version", svc.request("HEAD", "/v2/version", token=None).status == 200)
    check("healthz, readyz", svc.get("/healthz", token=None).status == 200 and svc.get("/readyz", token=None).status == 200)
    check("authenticate", svc.get("/v2/authenticate").json == "OK")
    who = svc.get("/v3/whoami").json
    check("whoami", who["name"] == "local" and is_uuid(who["user_id"]) and who["scopes"] == "all", who)
    m = svc.get("/metrics", token=None).text
    check("metrics", "weft_service_redis_up 1" in m and 'weft_service_requests_total{route="version",status="2xx"}' in m, m[:500])
    error("AMQP is not offered unless configured", svc.get("/v2/get_amqp_result_connection_url"), 501, "NOT_IMPLEMENTED")


def authentication():
    error("no token", svc.get("/v3/whoami", token=None), 401, "USER_UNAUTHENTICATED")
    error("unknown token", svc.get("/v3/whoami", token="wrong"), 401, "INVALID_AUTH_TOKEN")
    error("not a bearer token", svc.get("/v3/whoami", headers={"Authorization": "Basic x"}), 401, "INVALID_AUTH_TOKEN")
    ro = svc.command("token", "create", "--user", "bob", "--scopes", "read", "--label", "of the night's jobs").stdout.strip()
    check("a read token reads", svc.get("/v3/whoami", token=ro).json["scopes"] == "read")
    error("a read token does not register", svc.post("/v3/functions", {}, token=ro), 403, "INSUFFICIENT_AUTH_SCOPE")
    error("a read token does not submit", submit(str(uuid.uuid4()), {}, token=ro), 403, "INSUFFICIENT_AUTH_SCOPE")
    ids = [line.split()[0] for line in svc.command("token", "list", "--user", "bob").stdout.splitlines() if " read " in line]
    check("token list", len(ids) == 1, ids)
    labels = [line.split("  ")[-1].strip() for line in svc.command("token", "list", "--user", "bob").stdout.splitlines() if line.startswith(ids[0])]
    check("it says what a token is for", labels == ["of the night's jobs"], svc.command("token", "list", "--user", "bob").stdout)
    check("token revoke", svc.command("token", "revoke", ids[0]).returncode == 0)
    wait_for(lambda: svc.get("/v3/whoami", token=ro).status == 401, 30, "the revoked token ends")
    check("a revoked token ends within its cache time", True)
    check("tokens are not in the registry's file", svc.token.encode() not in open(svc.sets["registry.path"], "rb").read())
    form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "https://auth.globus.org/scopes/x/all"})
    basic = {"Authorization": "Basic " + base64.b64encode(("bob:" + bob).encode()).decode(), "Content-Type": "application/x-www-form-urlencoded"}
    a = svc.post("/v2/oauth2/token", form, token=None, headers=basic)
    check("token route", a.status == 200 and a.json["scope"] == "https://auth.globus.org/scopes/x/all" and a.json["expires_in"] == 172800 and
          a.json["token_type"] == "Bearer" and a.json["resource_server"] == "funcx_service" and a.json["other_tokens"] == [], a)
    check("the token that it gave", svc.get("/v3/whoami", token=a.json["access_token"]).json["name"] == "bob")
    wrong = {"Authorization": "Basic " + base64.b64encode(("local:" + bob).encode()).decode()}
    a = svc.post("/v2/oauth2/token", form, token=None, headers=wrong)
    check("someone else's secret", a.status == 401 and a.json["error"] == "invalid_client" and a.json["code"] == "INVALID_AUTH_TOKEN", a)
    given = svc.post("/v2/oauth2/token", form, token=None, headers=basic).json["access_token"]
    other = {"Authorization": "Basic " + base64.b64encode(("local:" + svc.token).encode()).decode()}
    back = urllib.parse.urlencode({"token": given})
    check("another user's token is not revoked", svc.post("/v2/oauth2/token/revoke", back, token=None, headers=other).status == 200
          and svc.get("/v3/whoami", token=given).status == 200)
    check("nor without a secret", svc.post("/v2/oauth2/token/revoke", back, token=None).status == 401)
    a = svc.post("/v2/oauth2/token/revoke", back, token=None, headers=basic)
    check("a token is given back", a.status == 200 and a.json == {"active": False}, a)
    wait_for(lambda: svc.get("/v3/whoami", token=given).status == 401, 30, "the returned token ends")
    check("once more: the same answer", svc.post("/v2/oauth2/token/revoke", back, token=None, headers=basic).status == 200)
    check("no token to revoke", svc.post("/v2/oauth2/token/revoke", "x=1", token=None, headers=basic).status == 400)
    check("other grants", svc.post("/v2/oauth2/token", "grant_type=password", token=None).status == 400)


def routes():
    error("unknown path", svc.get("/v9/x"), 404, "ROUTE_NOT_FOUND")
    a = svc.put("/v2/version", {}, token=None)
    error("wrong method", a, 405, "METHOD_NOT_ALLOWED")
    check("Allow header", a.headers.get("Allow") == "GET", a.headers)
    error("bad id in a path", svc.get("/v2/tasks/nonsense"), 400, "INVALID_UUID")
    error("no body", svc.post("/v3/functions"), 400, "REQUEST_MALFORMED")
    error("bad JSON", svc.post("/v3/functions", "{"), 400, "REQUEST_MALFORMED")
    error("duplicate keys", svc.post("/v3/functions", '{"function_name":"a","function_name":"b"}'), 400, "REQUEST_MALFORMED")
    error("an array for an object", svc.post("/v3/functions", "[]"), 400, "REQUEST_MALFORMED")
    error("body over the limit", svc.post("/v3/functions", b"x" * (17 << 20)), 413, "REQUEST_TOO_LARGE")
    text = source("service/route.c")
    table = text[text.index("route_table[] = {"):]
    served = set()
    for m, p in re.findall(r"\{ HTTP_(\w+), ([^,]+),", table):
        p = re.sub(r"V([23])E", r'"/v\1/endpoints/{endpoint}"', p)
        served.add((m.lower(), "".join(re.findall(r'"([^"]*)"', p))))
    doc = svc.get("/openapi.json", token=None).json
    told = {(m, p) for p, ms in doc["paths"].items() for m in ms}
    check("openapi.json lists what is served, no more, no less", served == told and len(served) > 40, served ^ told)
    ids = [o["operationId"] for ms in doc["paths"].values() for o in ms.values()]
    check("its operation ids are unique", len(ids) == len(set(ids)))
    bad = [k for k in re.findall(r'"#/components/(\w+/\w+)"', json.dumps(doc)) if k.split("/")[1] not in doc["components"][k.split("/")[0]]]
    check("its references resolve", not bad, bad)
    wrong = []
    for m, p in sorted(told):
        a = svc.request(m.upper(), re.sub(r"\{\w+\}", str(uuid.uuid4()), p), None if m == "get" else {}, token=None)
        if (a.status != 401) == bool(doc["paths"][p][m]["security"]) and p != "/v2/oauth2/token":
            wrong.append((m, p, a.status))
    check("every route asks for a token, but for those said not to", not wrong, wrong)
    codes(doc["components"]["schemas"])


def codes(schemas):
    """Each code that an answer or a task can have is told to users."""
    def enum(schema):
        return schemas[schema]["properties"]["code"]["enum"]
    table = {code: status for status, code in re.findall(r'\{ (\d+), \d+, "(\w+)" \}', source("service/fail.c"))}
    page = dict(re.findall(r'^\.BR (\w+) " \((\d+)\)"', source("packaging/man/weft-service.8.in"), re.M))
    check("openapi.json has the codes of errors", len(table) > 30 and enum("Error") == list(table), set(enum("Error")) ^ set(table))
    check("weft-service(8) has them too, with their status", page == table, set(page.items()) ^ set(table.items()))
    tasks = re.findall(r'\{ ERR_\w+, \d+, "(\w+)" \}', source("common/err.c"))
    check("openapi.json has the codes of tasks", enum("TaskV3") == tasks, enum("TaskV3"))
    section = source("packaging/man/weft-service.8.in").split(".SH CODES OF TASKS\n")[-1].split("\n.SH ")[0]
    page = re.findall(r"[A-Z][A-Z_]+", " ".join(re.findall(r"^\.TP\n\.BR (.*)$", section, re.M)))
    told = schemas["TaskV3"]["properties"]["code"]["description"]
    spans = re.findall(r'\[STAMP_\w+\] = \{ "(\w+)", "(\w+)" \}', source("service/taskdoc.c"))
    legend = re.findall(r'^\.TP\n\.BR (\w+) " \((\w+)\)"$', source("packaging/man/weft.1.in"), re.M)
    check("weft(1) says what each hop of a trace is", len(spans) == 15 and legend == spans, (legend, spans))
    check("weft-service(8) says what each of them means", sorted(page + ["NONE"]) == sorted(tasks), set(page) ^ set(tasks))
    check("so does openapi.json", not [c for c in page if not re.search(r"\b%s[:,]" % c, told)], told)


def options():
    """memoize, batch and container: refused, shown, and in the record that the endpoint gets."""
    def record(f):
        return wire.decode("FUNCTION", raw("GET", "weft:fn:{%s}" % f))
    plain = function()
    doc, rec = svc.get("/v2/functions/" + plain).json, record(plain)
    check("no options", doc["memoize"] is False and doc["batch"] is None and doc["container"] is None and rec["flags"] & 7 == rec["max_batch"] == 0, doc)
    image = function(container="docker.io/library/debian:12", memoize=True)
    doc, rec = svc.get("/v2/functions/" + image).json, record(image)
    check("an image as text", doc["container"] == "docker.io/library/debian:12" and doc["memoize"] is True and rec["flags"] & 7 == 1 and
          rec["container"] == b"docker.io/library/debian:12" and rec["container_type"] == b"", (doc, rec))
    box = {"image": "debian:12", "type": "podman", "network": True, "cpus": 1.5, "memory": "2GiB", "pids": 64, "warm_seconds": 300, "replicas": 2}
    full = function(container=box, batch={"max": 128, "latency_ms": 250}, limits={"memory_limit_bytes": 4 << 30})
    doc, rec = svc.get("/v2/functions/" + full).json, record(full)
    check("all options shown", doc["container"] == dict(box, memory=2 << 30, warm_seconds=300.0) and doc["batch"] == {"max": 128, "latency_ms": 250}, doc)
    check("and in the record", (rec["flags"] & 7, rec["max_batch"], rec["latency_ms"], rec["cpu_millis"], rec["max_pids"], rec["warm_ms"], rec["replicas"],
                                rec["container"], rec["container_type"], rec["memory_limit_bytes"]) ==
          (6, 128, 250, 1500, 64, 300000, 2, b"debian:12", b"podman", 2 << 30), rec)
    check("options in lists", any(x["function_uuid"] == full and x["batch"] for x in svc.get("/v2/functions").json["functions"]))
    for what, more in (("memoize", {"memoize": "yes"}), ("batch without max", {"batch": {}}), ("batch over the limit", {"batch": {"max": 4097}}),
                       ("batch with more members", {"batch": {"max": 1, "size": 2}}), ("batch that is a number", {"batch": 16}),
                       ("container without image", {"container": {"type": "docker"}}), ("container type", {"container": {"image": "x", "type": "lxc"}}),
                       ("container member", {"container": {"image": "x", "privileged": True}}), ("container memory", {"container": {"image": "x", "memory": "2 apples"}}),
                       ("negative pids", {"container": {"image": "x", "pids": -1}}), ("container that is a list", {"container": ["x"]})):
        error("options: " + what, svc.post("/v3/functions", dict({"function_name": "f", "function_code": "410\n01\nx"}, **more)), 422, "SEMANTICALLY_INVALID")
    error("options: batch of a command", svc.post("/v3/functions", {"function_name": "f", "function_code": '{"argv": ["x"]}', "kind": "command",
                                                                   "batch": {"max": 2}}), 422, "SEMANTICALLY_INVALID")


def container_rules():
    """PATCH of a container; images by id, as old SDKs have them; what an endpoint does not offer is refused at submit."""
    def record(f):
        return wire.decode("FUNCTION", raw("GET", "weft:fn:{%s}" % f))
    e = endpoint("hears of changes")
    f = function(container={"image": "debian:12", "pids": 64})
    a = svc.request("PATCH", "/v3/functions/" + f, {"container": {"image": "debian:13", "replicas": 3}})
    doc, rec = svc.get("/v2/functions/" + f).json, record(f)
    check("patched, and the rest stays", a.status == 200 and doc["container"] == {"image": "debian:13", "pids": 64, "replicas": 3} and
          (rec["container"], rec["max_pids"], rec["replicas"]) == (b"debian:13", 64, 3), (a, doc, rec))
    wait_for(lambda: any(x[1][1] == b"function" for x in raw("XRANGE", "weft:ep:{%s}:control" % e, "-", "+")), what="the forwarders hear of it")
    svc.request("PATCH", "/v3/functions/" + f, {"container": {"replicas": 0}})
    check("replicas given up", record(f)["replicas"] == 0 and record(f)["container"] == b"debian:13", record(f))
    error("patch of the code", svc.request("PATCH", "/v3/functions/" + f, {"function_code": "x"}), 422, "SEMANTICALLY_INVALID")
    error("patch of nothing", svc.request("PATCH", "/v3/functions/" + f, {}), 422, "SEMANTICALLY_INVALID")
    error("patch with a wrong type", svc.request("PATCH", "/v3/functions/" + f, {"container": {"type": "lxc"}}), 422, "SEMANTICALLY_INVALID")
    error("patch by another one", svc.request("PATCH", "/v3/functions/" + f, {"container": "x"}, token=bob), 403, "FUNCTION_ACCESS_FORBIDDEN")
    error("patch of what is not there", svc.request("PATCH", "/v3/functions/" + str(uuid.uuid4()), {"container": "x"}), 404, "FUNCTION_NOT_FOUND")

    a = svc.post("/v2/containers", {"name": "py", "description": None, "type": "singularity", "location": "/images/py.sif"})
    c = a.json.get("container_id")
    check("container registered", a.status == 200 and is_uuid(c), a)
    got = svc.get("/v2/containers/%s/singularity" % c).json["container"]
    check("and shown", (got["container_uuid"], got["location"], got["type"], got["build_status"]) == (c, "/images/py.sif", "singularity", "provided"), got)
    error("container type", svc.post("/v2/containers", {"name": "x", "type": "lxc", "location": "x"}), 422, "SEMANTICALLY_INVALID")
    check("it was not built here", svc.get("/v2/containers/build/" + c).json == {"status": "provided"})
    error("no such container to have been built", svc.get("/v2/containers/build/%s" % uuid.uuid4()), 404, "CONTAINER_NOT_FOUND")
    error("a build that is no id", svc.get("/v2/containers/build/x"), 400, "INVALID_UUID")
    a = svc.post("/v2/containers/build", {"name": "x", "pip": ["numpy"]})
    error("images are not built", a, 501, "NOT_IMPLEMENTED")
    check("and it is told what to do", "POST /v2/containers" in a.json["detail"], a)
    error("no such container", svc.get("/v2/containers/%s/docker" % uuid.uuid4()), 404, "CONTAINER_NOT_FOUND")
    a = svc.post("/v2/functions", {"function_name": "f", "function_code": "410\n01\nx", "entry_point": "f", "container_uuid": c})
    rec = record(a.json["function_uuid"])
    check("container_uuid of a function", rec["container"] == b"/images/py.sif" and rec["container_type"] == b"singularity", rec)
    error("container_uuid that is unknown", svc.post("/v2/functions", {"function_name": "f", "function_code": "410\n01\nx",
                                                                       "container_uuid": str(uuid.uuid4())}), 422, "SEMANTICALLY_INVALID")

    def submit(fn, ep):
        return svc.post("/v3/endpoints/%s/submit" % ep, {"tasks": {fn: ["x"]}})
    none = endpoint("none", metadata={"containers": [], "container_network": False})
    some = endpoint("some", metadata={"containers": ["docker", "apptainer"], "container_network": False, "container_images": ["debian:*"]})
    silent = endpoint("says nothing")
    for what, box, ep, words in (("no containers there", "debian:12", none, ["debian:12", "no containers"]),
                                 ("another runtime", {"image": "debian:12", "type": "podman"}, some, ["podman", "docker, apptainer"]),
                                 ("network", {"image": "debian:12", "network": True}, some, ["network"]),
                                 ("image", "alpine:3", some, ["alpine:3", "debian:*"])):
        a = submit(function(container=box), ep)
        error("refused at submit: " + what, a, 422, "SEMANTICALLY_INVALID")
        check("and named: " + what, all(w in a.json["reason"] for w in words), a)
    check("taken: what is offered", submit(function(container={"image": "debian:12", "type": "docker"}), some).status == 200)
    check("taken: an endpoint that says nothing refuses by itself", submit(function(container="alpine:3"), silent).status == 200)
    check("taken: no container wanted", submit(function(), none).status == 200)


def python_versions():
    """What Python a function was made with, who has it, and what submitters are told."""
    def record(f):
        return wire.decode("FUNCTION", raw("GET", "weft:fn:{%s}" % f))

    def made(version, code="410\n01\nxxxx", **more):
        return function(function_code=code, meta={"python_version": version}, **more)

    def sent(fn, ep, runtime=None):
        return svc.post("/v3/endpoints/%s/submit" % ep, dict({"tasks": {fn: ["x"]}}, **({"user_runtime": {"python_version": runtime}} if runtime else {})))
    bytecode, source, silent = made("3.13.0rc1"), made("3.13.0", "4\nst\nf:x"), function(function_code="410\n01\nxxxx", meta={})
    both = endpoint("both", metadata={"pythons": ["3.11", "3.9"]})
    quiet = endpoint("says nothing of Python")
    check("bytecode and its version are in the record", (record(bytecode)["python"], record(bytecode)["flags"]) == (0x30d, 8), record(bytecode))
    check("source: the version alone", (record(source)["python"], record(source)["flags"]) == (0x30d, 0), record(source))
    check("kind python has one too", record(made("3.9.1", "def f(): pass", kind="python", entry="f"))["python"] == 0x309)
    for bad in ("2.7.18", "", "three", "3", "3.1234", "3.x"):
        check("no version: %r" % bad, record(made(bad))["python"] == 0)
    a = sent(bytecode, both)
    error("bytecode of a Python that the endpoint lacks", a, 422, "SEMANTICALLY_INVALID")
    check("names both", all(w in a.json["reason"] for w in ("Python 3.13", "3.11, 3.9", "PureSourceTextInspect")), a)
    check("source goes", sent(source, both).status == 200)
    check("bytecode of a Python that it has", sent(made("3.9.18"), both).status == 200)
    check("an endpoint that says nothing refuses by itself", sent(bytecode, quiet).status == 200)
    check("in a container its image counts", sent(made("3.13.0", container="debian:12"), both).status == 200)
    error("the submitter's version where the function's is unknown", sent(silent, both, "3.12.1 (main, Jan  1 2026)"), 422, "SEMANTICALLY_INVALID")
    check("and nothing where both are", sent(silent, both).status == 200)
    a = sent(source, both, "3.12.1")
    check("a submitter with another Python is warned", a.status == 200 and "3.12" in a.json["ha_warning"] and "3.11, 3.9" in a.json["ha_warning"], a)
    a = sent(source, both, "3.9.18")
    check("one with the same is not", a.status == 200 and "ha_warning" not in a.json, a)
    error("user_runtime that is no object", svc.post("/v3/endpoints/%s/submit" % both, {"tasks": {source: ["x"]}, "user_runtime": 1}), 422, "SEMANTICALLY_INVALID")
    check("shown with the endpoint", svc.get("/v2/endpoints/" + both).json["pythons"] == ["3.11", "3.9"])
    svc.request("PATCH", "/v3/functions/" + bytecode, {"container": {"image": "debian:12"}})
    check("a changed container leaves it as it is", (record(bytecode)["python"], record(bytecode)["flags"], record(bytecode)["container"]) ==
          (0x30d, 8, b"debian:12"), record(bytecode))
    text = function(function_code="def \u00fcber(x):\n    return 'é' + x\n", function_name="\u00fcber", serialized=False)
    check("source that is not serialised is packed", svc.get("/v2/functions/" + text).json["function_code"] ==
          "40\nst\n\u00fcber:def \u00fcber(x):\n    return 'é' + x\n", svc.get("/v2/functions/" + text).json)
    error("for kind globus only", svc.post("/v3/functions", {"function_name": "f", "function_code": "def f(): pass", "kind": "python", "entry": "f",
                                                            "serialized": False}), 422, "SEMANTICALLY_INVALID")
    a = svc.post("/v3/functions", {"function_name": 1})
    check("problems as one text", a.status == 422 and "function_name: " in a.json["message"] and "; function_code: field required" in a.json["message"], a)


def functions():
    a = svc.post("/v3/functions", {"function_name": 5, "kind": "cobol", "limits": {"x": 1}, "public": "yes", "shared_with": ["nobody"]})
    error("many problems at once", a, 422, "SEMANTICALLY_INVALID")
    check("each is named", {p["loc"][1] for p in a.json["detail"]} >= {"function_name", "function_code", "kind", "limits", "public", "shared_with"}, a)
    f = function(description="d", limits={"time_limit_s": 2.5, "memory_limit_bytes": 1 << 20})
    doc = svc.get("/v2/functions/" + f).json
    check("function document", doc["function_uuid"] == f and doc["function_code"] == "410\n01\nx" and doc["description"] == "d" and doc["kind"] == "globus" and
          doc["metadata"] == {"python_version": "3.11.2"} and doc["limits"] == {"time_limit_s": 2.5, "memory_limit_bytes": 1 << 20}, doc)
    check("function record in Redis", raw("GET", "weft:fn:{%s}" % f) is not None)
    py = function("def g(x):\n return x", kind="python", entry="g")
    check("kind python", svc.get("/v2/functions/" + py).json["entry"] == "g")
    error("kind python without entry", svc.post("/v3/functions", {"function_name": "f", "function_code": "x", "kind": "python"}), 422, "SEMANTICALLY_INVALID")
    function('{"argv": ["/bin/echo"]}', kind="command")
    options()
    container_rules()
    python_versions()
    error("a command that is none", svc.post("/v3/functions", {"function_name": "f", "function_code": "{}", "kind": "command"}), 422, "SEMANTICALLY_INVALID")
    error("too much code", svc.post("/v3/functions", {"function_name": "f", "function_code": "x" * 70000}), 413, "FUNCTION_TOO_LARGE")
    old = svc.post("/v2/functions", {"function_name": "f", "function_code": "c", "metadata": {"sdk_version": "2.22"}, "container_uuid": None, "entry_point": "e"})
    check("registering as old SDKs do", old.status == 200 and svc.get("/v2/functions/" + old.json["function_uuid"]).json["entry"] == "e", old)
    error("unknown function", svc.get("/v2/functions/%s" % uuid.uuid4()), 404, "FUNCTION_NOT_FOUND")
    error("someone else's function", svc.get("/v2/functions/" + f, token=bob), 403, "FUNCTION_ACCESS_FORBIDDEN")
    check("a public function", svc.get("/v2/functions/" + function(public=True), token=bob).status == 200)
    shared = function(shared_with=["bob"])
    check("a shared function", svc.get("/v2/functions/" + shared, token=bob).status == 200)
    error("deleting someone else's", svc.delete("/v2/functions/" + shared, token=bob), 403, "FUNCTION_ACCESS_FORBIDDEN")
    check("delete", svc.delete("/v2/functions/" + shared).json == {"result": 302})
    error("deleting it again", svc.delete("/v2/functions/" + shared), 404, "FUNCTION_NOT_FOUND")
    seen, cursor = [], ""
    while True:
        page = svc.get("/v2/functions?limit=2" + cursor).json
        seen += [x["function_uuid"] for x in page["functions"]]
        if not page["next_cursor"]:
            break
        cursor = "&cursor=" + page["next_cursor"]
    check("list with cursor: all, once, newest first", f in seen and py in seen and shared not in seen and seen == sorted(set(seen), reverse=True), seen)
    check("others' lists are theirs", svc.get("/v2/functions", token=bob).json["functions"] == [])
    error("bad cursor", svc.get("/v2/functions?cursor=x"), 400, "INVALID_UUID")
    error("bad limit", svc.get("/v2/functions?limit=0"), 400, "REQUEST_MALFORMED")


def endpoints():
    sub = redis.client()
    sub("SUBSCRIBE", "weft:eps:changed")
    a = svc.post("/v3/endpoints", {"endpoint_name": "e1", "display_name": "E one", "version": "4.1", "public": False,
                                   "metadata": {"hostname": "h1", "ip_address": "10.0.0.1", "local_user": "u"}, "weft": {"public_key": KEY, "slots": 4}})
    e = a.json.get("endpoint_id")
    check("register", a.status == 200 and is_uuid(e) and {"task_queue_info", "result_queue_info", "heartbeat_queue_info"} <= set(a.json), a)
    h = raw("HGETALL", "weft:ep:{%s}" % e)
    h = dict(zip(h[::2], h[1::2]))
    check("in Redis: key, owner, name", h.get(b"key") == KEY.encode() and h.get(b"name") == b"e1" and is_uuid(h[b"owner"].decode()), h)
    check("in the set of endpoints, and announced", raw("SISMEMBER", "weft:eps", e) == 1 and sub.read()[2] == e.encode())
    doc = svc.get("/v2/endpoints/" + e).json
    want = {"uuid", "name", "display_name", "multi_user", "high_assurance", "public", "endpoint_config", "user_config_template", "user_config_schema",
            "description", "hostname", "local_user", "ip_address", "endpoint_version", "sdk_version", "python_version", "subscription_uuid",
            "subscription_admin_verified"}
    check("metadata", want <= set(doc) and doc["hostname"] == "h1" and doc["display_name"] == "E one" and doc["endpoint_version"] == "4.1", doc)
    error("bad key", svc.post("/v3/endpoints", {"endpoint_name": "e", "weft": {"public_key": "short"}}), 422, "SEMANTICALLY_INVALID")
    error("no name", svc.post("/v3/endpoints", {}), 422, "SEMANTICALLY_INVALID")
    check("status offline", svc.get("/v2/endpoints/%s/status" % e).json["status"] == "offline")
    began = time.monotonic()
    a = svc.get("/v3/endpoints/%s/forwarder?wait=0.3" % e)
    error("no forwarder yet", a, 503, "SERVICE_UNAVAILABLE")
    check("it waited", 0.25 < time.monotonic() - began < 20)
    got = []
    t = threading.Thread(target=lambda: got.append(svc.get("/v3/endpoints/%s/forwarder?wait=10" % e)))
    t.start()
    fw = Forwarder(redis, e)
    t.join()
    check("the forwarder is found", got[0].json == {"address": "tcp://127.0.0.1:1234", "server_key": "k" * 40, "heartbeat_ms": 2000}, got)
    error("someone else's forwarder", svc.get("/v3/endpoints/%s/forwarder" % e, token=bob), 403, "ENDPOINT_ACCESS_FORBIDDEN")
    st = svc.get("/v2/endpoints/%s/status" % e).json
    check("status online", st["status"] == "online" and st["details"]["total_workers"] == 4 and st["details"]["idle_workers"] == 3 and
          {"pending_tasks", "outstanding_tasks", "managers"} <= set(st["details"]), st)
    raw("HSET", "weft:ep:{%s}" % e, "seen", int(time.time() * 1000) - 60000)
    check("a silent one is offline", svc.get("/v2/endpoints/%s/status" % e).json["status"] == "offline")
    raw("HSET", "weft:ep:{%s}" % e, "cap", "not json", "seen", int(time.time() * 1000))
    check("damaged capacity does no harm", svc.get("/v2/endpoints/%s/status" % e).json["status"] == "online")
    for said, want in (('{"tasks_lost":3,"load":0.5,"s":"x","o":{"n":1},"b":true,"z":null}', {"tasks_lost": 3, "load": 0.5}), ("not json", None), ("[1]", None),
                       ('{"s":"x"}', None), ("", None)):
        raw("HSET", "weft:ep:{%s}" % e, "metrics", said)
        st = svc.get("/v2/endpoints/%s/status" % e).json
        check("metrics: the numbers of %r" % said, st["status"] == "online" and st["details"].get("metrics") == want, st)
    lst = svc.get("/v2/endpoints").json
    check("list of v2", [x for x in lst if x["uuid"] == e and x["name"] == "e1" and x["display_name"] == "E one" and is_uuid(x["owner"])], lst)
    check("list of v3 with state", [x for x in svc.get("/v3/endpoints").json["endpoints"] if x["uuid"] == e and x["status"] in ("online", "offline")])
    check("another user's list", svc.get("/v2/endpoints?role=any", token=bob).json == [])
    error("bad role", svc.get("/v2/endpoints?role=boss"), 400, "REQUEST_MALFORMED")
    for m, p in (("GET", ""), ("GET", "/status")):
        error("someone else's endpoint: %s%s" % (m, p), svc.request(m, "/v2/endpoints/%s%s" % (e, p), token=bob), 403, "ENDPOINT_ACCESS_FORBIDDEN")
    for m, p in (("DELETE", "/v2/endpoints/%s"), ("POST", "/v3/endpoints/%s/lock"), ("POST", "/v2/endpoints/%s/lock")):
        error("someone else's endpoint: %s %s" % (m, p), svc.request(m, p % e, {} if m == "POST" else None, token=bob), 403, "ENDPOINT_ACCESS_FORBIDDEN")
    error("someone else's endpoint: PUT", svc.put("/v3/endpoints/" + e, {"endpoint_name": "x"}, token=bob), 403, "ENDPOINT_ACCESS_FORBIDDEN")
    error("unknown endpoint", svc.get("/v2/endpoints/%s" % uuid.uuid4()), 404, "ENDPOINT_NOT_FOUND")
    error("updating an unknown one", svc.put("/v3/endpoints/%s" % uuid.uuid4(), {"endpoint_name": "x"}), 404, "ENDPOINT_NOT_FOUND")

    def controls():
        return [dict(zip(f[::2], f[1::2])) for _, f in raw("XRANGE", "weft:ep:{%s}:control" % e, "-", "+")]
    a = svc.put("/v3/endpoints/" + e, {"endpoint_name": "e2", "shared_with": ["bob"], "metadata": {}})
    check("update", a.status == 200 and a.json["endpoint_id"] == e and svc.get("/v2/endpoints/" + e).json["name"] == "e2", a)
    for method, part, word in (("GET", "console", "/status"), ("PUT", "subscription-admin-verified", "shared_with")):
        a = svc.request(method, "/v3/endpoints/%s/%s" % (e, part), None if method == "GET" else True)
        error("not offered: " + part, a, 501, "NOT_IMPLEMENTED")
        check("what to do instead of " + part, word in a.json["detail"], a)
    check("no key message for the same key", not controls())
    svc.put("/v3/endpoints/" + e, {"endpoint_name": "e2", "weft": {"public_key": "9" * 40}})
    check("a new key is told to the forwarder", controls()[-1] == {b"c": b"key"} and raw("HGET", "weft:ep:{%s}" % e, "key") == b"9" * 40)
    check("shared now", svc.get("/v2/endpoints/" + e, token=bob).status == 200 and
          [x["uuid"] for x in svc.get("/v2/endpoints?role=any", token=bob).json] == [e])
    error("immutable flags", svc.put("/v3/endpoints/" + e, {"endpoint_name": "e2", "multi_user": True}), 409, "RESOURCE_CONFLICT")
    a = svc.post("/v3/endpoints/%s/lock" % e)
    check("lock", a.json["endpoint_id"] == e and a.json["lock_expiration_timestamp"] > time.time() - 5, a)
    check("the lock is in Redis, for forwarders that come later", raw("HGET", "weft:ep:{%s}" % e, "locked") ==
          b"%d" % round(a.json["lock_expiration_timestamp"] * 1000))
    st = svc.get("/v2/endpoints/%s/status" % e).json
    check("a locked one is offline, whatever its forwarder says", st["status"] == "offline" and st["details"]["locked_until"] > time.strftime("%Y"), st)
    error("locked", svc.put("/v3/endpoints/" + e, {"endpoint_name": "e2"}), 423, "RESOURCE_LOCKED")
    a = wait_for(lambda: svc.put("/v3/endpoints/" + e, {"endpoint_name": "e2"}).status == 200)
    check("and the forwarder's view", raw("HGET", "weft:ep:{%s}" % e, "locked") == b"0")
    check("the lock was told to the forwarder", controls()[-1] == {b"c": b"lock"}, controls())
    check("it has ended", "locked_until" not in svc.get("/v2/endpoints/%s/status" % e).json["details"])
    check("lock as of v2", isinstance(svc.post("/v2/endpoints/%s/lock" % e, {}).json["lock_expiration_timestamp"], str))
    f, g = function(), function()
    a = svc.get("/v3/endpoints/%s/allowed_functions" % e).json
    check("unrestricted", a["endpoint_id"] == e and a["restricted"] is False and a["functions"] == [], a)
    check("whitelist add", svc.post("/v2/endpoints/%s/whitelist" % e, {"func": [f]}).status == 200 and
          svc.get("/v2/endpoints/%s/whitelist" % e).json["functions"] == [f])
    error("a function that is not allowed", submit(e, {g: ["x"]}), 403, "FUNCTION_NOT_PERMITTED")
    check("an allowed one", submit(e, {f: ["x"]}).status == 200)
    svc.delete("/v2/endpoints/%s/whitelist/%s" % (e, f))
    a = svc.get("/v3/endpoints/%s/allowed_functions" % e).json
    check("whitelist remove", a["restricted"] is True and a["functions"] == [], a)
    old = str(uuid.uuid4())
    a = svc.post("/v2/endpoints", {"endpoint_uuid": old, "endpoint_name": "old", "version": "2.2"})
    check("registering as old agents do", a.json["endpoint_id"] == old and svc.post("/v2/endpoints", {"endpoint_uuid": old, "endpoint_name": "old2"}).status == 200)
    error("with someone else's id", svc.post("/v2/endpoints", {"endpoint_uuid": old, "endpoint_name": "x"}, token=bob), 403, "ENDPOINT_ALREADY_REGISTERED")
    fw.stop()
    svc.post("/v2/endpoints/%s/whitelist" % e, {"func": [f]})
    check("one that waits", submit(e, {f: ["x"]}).status == 200)
    check("delete", svc.delete("/v3/endpoints/" + e).json == {"result": 302})
    check("gone from Redis, and told", raw("SISMEMBER", "weft:eps", e) == 0 and controls()[-1] == {b"c": b"deleted"})
    check("among those whose tasks are to be failed", raw("SISMEMBER", "weft:eps:deleted", e) == 1)
    error("submitting to it", submit(e, {f: ["x"]}), 404, "ENDPOINT_NOT_FOUND")
    last = raw("XREVRANGE", "weft:ep:{%s}:tasks" % e, "+", "-", "COUNT", 1)[0][0]
    a = svc.post("/v2/endpoints", {"endpoint_uuid": e, "endpoint_name": "again", "weft": {"public_key": KEY}})
    check("its id can be registered again", a.status == 200 and a.json["endpoint_id"] == e and raw("SISMEMBER", "weft:eps:deleted", e) == 0, a)
    check("with its key; what was queued before is void", raw("HMGET", "weft:ep:{%s}" % e, "key", "cut") == [KEY.encode(), last])
    check("and takes tasks", submit(e, {f: ["x"]}).status == 200)
    raw("DEL", "weft:ep:{%s}" % e)
    check("Redis forgot it: it is told again", submit(e, {f: ["x"]}).status == 200 and raw("HGET", "weft:ep:{%s}" % e, "key") == KEY.encode())


def submitting():
    f, g, e = function(), function(), endpoint()
    before = tasks_in_redis()
    for name, a, status, code in (
            ("unknown endpoint", submit(str(uuid.uuid4()), {f: ["x"]}), 404, "ENDPOINT_NOT_FOUND"),
            ("unknown function", submit(e, {f: ["x"], str(uuid.uuid4()): ["x"]}), 404, "FUNCTION_NOT_FOUND"),
            ("someone else's endpoint", submit(e, {f: ["x"]}, token=bob), 403, "ENDPOINT_ACCESS_FORBIDDEN"),
            ("no tasks", submit(e, {}), 422, "SEMANTICALLY_INVALID"),
            ("tasks of the wrong form", submit(e, {f: "x"}), 422, "SEMANTICALLY_INVALID"),
            ("a key that is no id", submit(e, {"x": ["x"]}), 422, "SEMANTICALLY_INVALID"),
            ("bad limits", submit(e, {f: ["x"]}, limits={"time_limit_s": "1"}), 422, "SEMANTICALLY_INVALID"),
            ("result_serializers that are no list", submit(e, {f: ["x"]}, result_serializers=5), 422, "SEMANTICALLY_INVALID"),
            ("result_serializers that are no strings", submit(e, {f: ["x"]}, result_serializers=["x", 5]), 422, "SEMANTICALLY_INVALID"),
            ("result_serializers of v2", svc.post("/v2/submit", {"tasks": [[f, e, "x"]], "result_serializers": {}}), 422, "SEMANTICALLY_INVALID"),
            ("user_endpoint_config that is no object", submit(e, {f: ["x"]}, user_endpoint_config="x"), 422, "SEMANTICALLY_INVALID"),
            ("bad wait", submit(e, {f: ["x"]}, "?wait=never"), 400, "REQUEST_MALFORMED"),
            ("too long a wait", submit(e, {f: ["x"]}, "?wait=301"), 400, "REQUEST_MALFORMED"),
            ("payload over the limit", submit(e, {f: ["x", "y" * (1 << 20) + "z"]}), 413, "TASK_PAYLOAD_TOO_LARGE"),
            ("too many tasks", submit(e, {f: ["x"] * 2001}), 413, "BATCH_RUN_TOO_LARGE"),
            ("unknown group", submit(e, {f: ["x"]}, task_group_id=str(uuid.uuid4())), 404, "TASK_GROUP_NOT_FOUND")):
        error("submit: " + name, a, status, code)
    public = endpoint("public", public=True)
    error("submit: someone else's function", submit(public, {f: ["x"]}, token=bob), 403, "FUNCTION_ACCESS_FORBIDDEN")
    wait_for(lambda: tasks_in_redis() == before, 30, "nothing is left")
    check("nothing rejected left a trace", True)
    key = f.upper()
    a = submit(e, {key: ["one", {"a": [1, 2.5, "ü"]}], g: ["three"]}, limits={"time_limit_s": 1.5, "memory_limit_bytes": 4096, "max_result_bytes": 99})
    check("submit", a.status == 200 and set(a.json) == {"request_id", "task_group_id", "endpoint_id", "tasks"} and a.json["endpoint_id"] == e and
          is_uuid(a.json["request_id"]) and is_uuid(a.json["task_group_id"]), a)
    check("keys are echoed as they came, in order", list(a.json["tasks"]) == [key, g] and [len(v) for v in a.json["tasks"].values()] == [2, 1], a)
    group = a.json["task_group_id"]
    fw = Forwarder(redis, e, lambda t: None)
    wait_for(lambda: len(fw.seen) == 3)
    t = fw.seen
    check("queue records", [x["payload"] for x in t] == [b"one", '{"a":[1,2.5,"ü"]}'.encode(), b"three"] and [x["payload_is_json"] for x in t] == [False, True, False] and
          [x["function"] for x in t] == [f, f, g] and t[0]["time_limit_ms"] == 1500 and t[0]["memory_limit_bytes"] == 4096 and
          t[0]["max_result_bytes"] == 99 and 0 < t[0]["received_ns"] <= t[0]["queued_ns"], t)
    ids = [i for v in a.json["tasks"].values() for i in v]
    doc = svc.get("/v2/tasks/" + ids[0]).json
    check("pending document", doc == {"task_id": ids[0], "status": "received"}, doc)
    error("someone else's task", svc.get("/v2/tasks/" + ids[0], token=bob), 404, "TASK_NOT_FOUND")
    error("someone else's trace", svc.get("/v3/tasks/%s/trace" % ids[0], token=bob), 404, "TASK_NOT_FOUND")
    error("unknown task", svc.get("/v2/tasks/%s" % uuid.uuid4()), 404, "TASK_NOT_FOUND")
    raw("HSET", "weft:task:{%s}" % ids[1], "s", "4")
    check("running", svc.get("/v2/tasks/" + ids[1]).json["status"] == "running")
    grp = svc.get("/v2/taskgroup/" + group).json
    check("task group", grp["taskgroup_id"] == group and [x["id"] for x in grp["tasks"]] == ids and grp["create_websockets_queue"] is False and
          all("created_at" in x for x in grp["tasks"]), grp)
    error("someone else's group", svc.get("/v2/taskgroup/" + group, token=bob), 403, "TASK_GROUP_ACCESS_FORBIDDEN")
    error("submitting into it", submit(public, {function(public=True): ["x"]}, task_group_id=group, token=bob), 403, "TASK_GROUP_ACCESS_FORBIDDEN")
    more = submit(e, {f: ["later"]}, task_group_id=group)
    check("into one's own group", more.json["task_group_id"] == group and len(svc.get("/v2/taskgroup/" + group).json["tasks"]) == 4, more)
    lone = submit(e, {f: ["alone"]}).json
    lid = lone["tasks"][f][0]
    check("a lone task is its own group, without a key", lone["task_group_id"] == lid and raw("EXISTS", "weft:group:{%s}" % lid) == 0 and
          [x["id"] for x in svc.get("/v2/taskgroup/" + lid).json["tasks"]] == [lid])
    more = submit(e, {f: ["joins"]}, task_group_id=lid).json
    check("others may join it", [x["id"] for x in svc.get("/v2/taskgroup/" + lid).json["tasks"]] == [lid] + more["tasks"][f] or
          set(x["id"] for x in svc.get("/v2/taskgroup/" + lid).json["tasks"]) == {lid, more["tasks"][f][0]})
    quiet = submit(e, {f: ["quiet"]}).json["tasks"][f][0]
    told = submit(e, {f: ["told"]}, create_queue=True).json["tasks"][f][0]
    joins = submit(e, {f: ["joins"]}, task_group_id=told).json["tasks"][f][0]
    for i in (joins, quiet, told):
        svc.delete("/v2/tasks/" + i)
    entries = raw("XRANGE", "weft:group:{%s}:done" % told, "-", "+")
    check("create_queue: the ends of the group are noted in order, a cancelled task's too",
          [(uuid.UUID(bytes=x[1][1]).hex, x[1][3]) for x in entries] == [(uuid.UUID(i).hex, b"7") for i in (joins, told)] and
          svc.get("/v2/taskgroup/" + told).json["create_websockets_queue"] is True, entries)
    check("without it they are not", raw("EXISTS", "weft:group:{%s}:done" % quiet) == 0)
    error("create_queue is a boolean", submit(e, {f: ["x"]}, create_queue="yes"), 422, "SEMANTICALLY_INVALID")
    wait_for(lambda: len(fw.seen) == 9)
    e2 = endpoint("second")
    old = svc.post("/v2/submit", {"tasks": [[f, e2, "a"], [g, e, "b"], [f, e2, "c"]], "create_websocket_queue": False})
    check("submit as of v2", old.status == 200 and is_uuid(old.json["task_group_id"]) and [x["status"] for x in old.json["results"]] == ["Success"] * 3, old)
    fw2 = Forwarder(redis, e2, lambda t: None)
    wait_for(lambda: len(fw2.seen) == 2)
    check("in the caller's order", [x["task"] for x in fw2.seen] == [old.json["results"][0]["task_uuid"], old.json["results"][2]["task_uuid"]])
    old = svc.post("/v2/submit", {"tasks": [[f, e2, "a"], [f, e2, "b"]], "create_websocket_queue": True}).json
    check("v2: a queue is asked for", svc.get("/v2/taskgroup/" + old["task_group_id"]).json["create_websockets_queue"] is True)
    wait_for(lambda: len(fw2.seen) == 4)
    del fw2.seen[2:]
    error("v2: a bad triple", svc.post("/v2/submit", {"tasks": [[f, e2]]}), 422, "SEMANTICALLY_INVALID")
    big = "B" * 200000
    a = submit(e2, {f: [big]}).json
    wait_for(lambda: len(fw2.seen) == 3)
    check("a large payload stands apart", fw2.seen[2]["payload_apart"] and fw2.seen[2]["payload"] == big.encode() and
          raw("EXISTS", "weft:task:{%s}:payload" % a["tasks"][f][0]) == 1)
    fw.stop()
    fw2.stop()


HUGE = 26 << 20         # each of these bytes is six in JSON: two are over what one answer carries


def too_much(f, e):
    """Results that are each small enough, and together too large for one answer."""
    a = submit(e, {f: ["huge", "huge"]}, "?wait=60")
    ids = re.findall(r'"tasks":\{"%s":\["([^"]+)","([^"]+)"\]\}' % f, a.text)[0]
    check("an answer has the results that it can carry", a.status == 200 and a.text.count('"status":"success"') == 1 and a.text.count("\\u0001") == HUGE and
          a.text.endswith("}}}"), (a, len(a.text)))
    del a
    for v in ("v2", "v3"):
        error("both at once, %s" % v, svc.post("/%s/batch_status?wait=60" % v, {"task_ids": ids}), 413, "RESULTS_TOO_LARGE")
    for i in ids:
        a = svc.get("/v2/tasks/" + i)
        check("one by one they come", a.status == 200 and a.text.count("\\u0001") == HUGE, (a, len(a.text)))


def waiting():
    f, e = function(), endpoint()
    runtime = json.dumps({"os": "Linux", "python_version": "3.11.2", "dill_version": "0.3.9"})

    def handle(t):
        p = t["payload"]
        if p == b"never":
            return None
        if p == b"slow":
            time.sleep(0.3)
        if p == b"fail":
            return {"status": 2, "fault": 1, "code": 20, "error": "Traceback: no", "stdout": "so", "stderr": "se", "node": "n1", "detail": 0}
        if p == b"big":
            return {"status": 1, "result": b"R" * 300000}
        if p == b"huge":
            return {"status": 1, "result": b"\1" * HUGE}
        return {"status": 1, "result": p, "runtime": runtime}
    fw = Forwarder(redis, e, handle)
    a = submit(e, {f: ["quick"]}, "?wait=10")
    i = a.json["tasks"][f][0]
    doc = a.json["results"].get(i, {})
    check("submit and wait", a.status == 200 and doc["status"] == "success" and doc["result"] == "quick" and doc["task_id"] == i and
          doc["function_id"] == f and doc["endpoint_id"] == e, a)
    check("completion_t is text", isinstance(doc["completion_t"], str) and abs(float(doc["completion_t"]) - time.time()) < 60)
    a = submit(e, {f: ["traced"]}, "?wait=10&trace=1").json
    st = list(a["results"].values())[0]["stamps"]
    check("service_result is stamped for a waiting caller", st["received"] <= st["queued"] <= st["forwarder_read"] <= st["service_result"], st)
    a = submit(e, {f: ["a", "b", "never"]}, "?wait=4").json
    check("those that ended in time", sorted(d["result"] for d in a["results"].values()) == ["a", "b"], a)
    t0 = time.monotonic()
    a = submit(e, {f: ["slow", "slow"]}, "?wait=60").json
    check("waits for all, and no longer", len(a["results"]) == 2 and 0.5 < time.monotonic() - t0 < 50)
    a = submit(e, {f: ["big"]}, "?wait=10").json
    check("a result too large for the channel", len(list(a["results"].values())[0]["result"]) == 300000)
    too_much(f, e)
    i = submit(e, {f: ["fail"]}, "?wait=10").json["tasks"][f][0]
    doc = svc.get("/v2/tasks/" + i).json
    check("failed document", doc["status"] == "failed" and doc["exception"] == "Traceback: no" and "result" not in doc and "completion_t" in doc, doc)
    doc = svc.get("/v3/tasks/" + i).json
    check("v3 document", doc["stdout"] == "so" and doc["stderr"] == "se" and doc["node"] == "n1" and doc["fault"] == "user" and doc["code"] == "TASK_EXCEPTION" and
          doc["task_group_id"] == i and "submitted" in doc, doc)
    i = submit(e, {f: ["slow"]}).json["tasks"][f][0]
    doc = svc.get("/v2/tasks/%s?wait=10" % i).json
    check("waiting for a task later", doc["status"] == "success" and doc["details"]["python_version"] == "3.11.2" and
          set(doc["details"]["task_transitions"]) == {"execution-start", "execution-end"}, doc)
    check("again at once", svc.get("/v2/tasks/%s?wait=10" % i).json == doc)
    t = svc.get("/v3/tasks/%s/trace" % i).json
    check("trace", t["task_id"] == i and t["spans"][0]["from"] == "received" and t["total_us"] > 200000 and
          abs(sum(s["us"] for s in t["spans"]) - t["total_us"]) < 1 and all(s["process"] for s in t["spans"]), t)
    check("later its last hop is the one that ends with Redis being given the result", "service_result" not in t["stamps"] and
          t["spans"][-1]["name"] != "store_and_wake", t)
    i = submit(e, {f: ["slow"]}).json["tasks"][f][0]
    t = svc.get("/v3/tasks/%s/trace?wait=10" % i).json
    check("who waited for it learns what storing it and waking him took", t["spans"][-1]["name"] == "store_and_wake" and t["spans"][-1]["us"] > 0, t)
    told = json.loads(source("service/openapi.json"))["paths"]["/v3/tasks/{task}/trace"]["get"].get("description", "")
    check("openapi.json says so", "store_and_wake" in told and "wait" in told, told)
    fw.online()     # on a slow machine it would have been silent for too long by now
    t0 = time.monotonic()
    i = submit(e, {f: ["never"]}).json["tasks"][f][0]
    doc = svc.get("/v2/tasks/%s?wait=0.4" % i).json
    check("the time is over", doc["status"] == "received" and 0.35 < time.monotonic() - t0 < 20, doc)
    ids = [submit(e, {f: [p]}).json["tasks"][f][0] for p in ("x", "slow", "y")]
    unknown = str(uuid.uuid4())
    a = svc.post("/v2/batch_status?wait=10", {"task_ids": ids + [unknown]}).json
    check("batch status, waiting", a["response"] == "batch" and [a["results"][k]["status"] for k in ids] == ["success"] * 3, a)
    check("unknown ids in it", a["results"][unknown]["status"] == "Failed" and a["results"][unknown]["reason"] == "Unknown task id")
    a = svc.post("/v2/batch_status", {"task_ids": ids}, token=bob).json["results"]
    check("someone else's look unknown", {d["status"] for d in a.values()} == {"Failed"}, a)
    a = svc.post("/v3/batch_status", {"task_ids": ids}).json["results"]
    check("batch status of v3", all(d["function_id"] == f for d in a.values()))
    a = svc.post("/v3/batch_status?wait=10&until=any", {"task_ids": [i, ids[0]]}).json["results"]
    check("until any", list(a) == [ids[0]], a)
    check("an empty batch", svc.post("/v2/batch_status", {"task_ids": []}).json == {"response": "batch", "results": {}})
    error("bad ids", svc.post("/v2/batch_status", {"task_ids": ["x"]}), 422, "SEMANTICALLY_INVALID")
    others = [threading.Thread(target=lambda: got.append(svc.get("/v2/tasks/%s?wait=10" % slow).json["status"])) for _ in range(8)]
    got, slow = [], submit(e, {f: ["slow"]}).json["tasks"][f][0]
    [t.start() for t in others]
    [t.join() for t in others]
    check("many wait for one task", got == ["success"] * 8, got)
    import socket
    s = socket.create_connection(("127.0.0.1", svc.port))
    s.sendall(("GET /v2/tasks/%s?wait=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (i, svc.token)).encode())

    def waiters():
        return int(float(re.search(r"^weft_service_waiters (\S+)", svc.get("/metrics", token=None).text, re.M).group(1)))
    wait_for(lambda: waiters() == 1)
    s.close()
    wait_for(lambda: waiters() == 0, 30, "the waiter goes with its client")
    check("a client that leaves does not wait on", True)
    fw.online(up=0)
    wait_for(lambda: svc.get("/v2/tasks/" + i).json["status"] == "waiting-for-ep", 30, "what is known of the endpoint is remembered for a second")
    check("waiting for its endpoint", True)
    fw.stop()


def cancelling():
    f, e = function(), endpoint()
    fw = Forwarder(redis, e, lambda t: None)
    i = submit(e, {f: ["x" * 20000]}).json["tasks"][f][0]
    wait_for(lambda: len(fw.seen) == 1)
    error("someone else's", svc.delete("/v3/tasks/" + i, token=bob), 404, "TASK_NOT_FOUND")
    error("unknown", svc.delete("/v3/tasks/%s" % uuid.uuid4()), 404, "TASK_NOT_FOUND")
    got = []
    t = threading.Thread(target=lambda: got.append(svc.get("/v2/tasks/%s?wait=10" % i).json))
    t.start()
    wait_for(lambda: raw("HGET", "weft:task:{%s}" % i, "w"))
    a = svc.delete("/v3/tasks/" + i)
    check("cancel", a.status == 200 and a.json["status"] == "cancelled" and a.json["task_id"] == i, a)
    t.join()
    check("who waits is woken", got[0]["status"] == "failed" and got[0]["reason"], got)
    check("again: the same", svc.delete("/v2/tasks/" + i).json["status"] == "failed")
    check("as of v2: failed with a reason", svc.get("/v2/tasks/" + i).json.get("reason"))
    tid = uuid.UUID(i).bytes
    c = [dict(zip(x[::2], x[1::2])) for _, x in raw("XRANGE", "weft:ep:{%s}:control" % e, "-", "+")]
    check("the forwarder is told, once", raw("SISMEMBER", "weft:ep:{%s}:cancelled" % e, tid) == 1 and c == [{b"c": b"cancel", b"t": tid}], c)
    check("its payload is gone", raw("EXISTS", "weft:task:{%s}:payload" % i) == 0)
    check("a result that comes later does not count", fw.store(raw, fw.seen[0], {"status": 1, "result": b"late"}) == 0)
    j = submit(e, {f: ["y"]}).json["tasks"][f][0]
    wait_for(lambda: len(fw.seen) == 2)
    fw.store(raw, fw.seen[1], {"status": 1, "result": b"done"})
    check("what has ended stays", svc.delete("/v3/tasks/" + j).json["status"] == "success")
    fw.stop()
    # the forwarder died between the record, which is large, and the script that ends the task
    k = submit(e, {f: ["torn"]}).json["tasks"][f][0]
    raw("HSETNX", "weft:task:{%s}" % k, "r", wire.encode("RESULT", {"task": k, "stamps": [1] * 16, "status": 1, "result": b"R" * 100000}))
    check("a result that stands there is told", svc.get("/v3/tasks/" + k).json["status"] == "success")
    check("a cancellation does not take it away", svc.delete("/v3/tasks/" + k).json["status"] == "success")
    told = svc.get("/v3/tasks/" + k).json
    check("it stays, with its data", told["status"] == "success" and len(told["result"]) == 100000, told["status"])
    check("and the task has ended", raw("HGET", "weft:task:{%s}" % k, "s") == b"5" and raw("PTTL", "weft:task:{%s}" % k) > 0)
    check("the forwarder is told of no cancellation", raw("SISMEMBER", "weft:ep:{%s}:cancelled" % e, uuid.UUID(k).bytes) == 0)


def cancelling_cut():
    """The service hears nothing of its cancellation: the connection breaks when Redis has made it, and before the service does more."""
    f, e = function(), endpoint()
    i = submit(e, {f: ["x"]}).json["tasks"][f][0]

    def waiting():
        return [c["id"] for c in (dict(p.split("=", 1) for p in line.split() if "=" in p) for line in raw("CLIENT", "LIST").decode().splitlines())
                if c["cmd"] == "evalsha" and "b" in c["flags"]]

    def asleep(pid):
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "T"
    raw("CLIENT", "PAUSE", 60000, "WRITE")
    got, workers = [], svc.workers()
    t = threading.Thread(target=lambda: got.append(svc.delete("/v3/tasks/" + i)))
    t.start()
    try:
        conns = wait_for(waiting, 30, "the script waits")
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: all(asleep(pid) for pid in workers))
        raw("CLIENT", "UNPAUSE")
        wait_for(lambda: raw("HGET", "weft:task:{%s}" % i, "s") == b"7", 30, "it is cancelled")
        for conn in conns:
            raw("CLIENT", "KILL", "ID", conn)
    finally:
        raw("CLIENT", "UNPAUSE")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    t.join()
    a = wait_for(lambda: [a for a in [svc.delete("/v3/tasks/" + i)] if a.status != 503])[0]
    check("a cancellation that was cut off, again: cancelled", a.status == 200 and a.json["status"] == "cancelled", (got, a))
    tid = uuid.UUID(i).bytes
    c = [dict(zip(x[::2], x[1::2])) for _, x in raw("XRANGE", "weft:ep:{%s}:control" % e, "-", "+")]
    check("the forwarder was told, once, all the same", raw("SISMEMBER", "weft:ep:{%s}:cancelled" % e, tid) == 1 and c == [{b"c": b"cancel", b"t": tid}], c)


def listing():
    f, g, e, e2 = function(), function(), endpoint(), endpoint("other")
    tok = svc.command("token", "create", "--user", "bob").stdout.strip()
    before = svc.get("/v3/tasks?limit=1000", token=tok).json
    check("bob has none", before == {"tasks": [], "next_cursor": None}, before)
    fb, eb = function(token=bob), endpoint("bobs", token=bob)
    ids = []
    for n in (1, 700, 3):
        ids += submit(eb, {fb: ["x"] * n}, token=bob).json["tasks"][fb]
    for query in ("status=x", "status=" + "x" * 100, "cursor=x", "cursor=1-1." + "1" * 100):
        error("bad filter " + query[:20], svc.get("/v3/tasks?" + query), 400, "REQUEST_MALFORMED")
    seen, cursor, pages = [], "", 0
    while True:
        page = svc.get("/v3/tasks?limit=250" + cursor, token=bob).json
        seen += [t["task_id"] for t in page["tasks"]]
        pages += 1
        if not page["next_cursor"] or pages > 20:
            break
        cursor = "&cursor=" + page["next_cursor"]
    check("list with cursor: all, once, newest first", seen == ids[::-1], (len(seen), pages))
    mine = submit(e, {f: ["a"], g: ["b"]}).json
    submit(e2, {f: ["c"]})
    svc.delete("/v3/tasks/" + mine["tasks"][f][0])

    def listed(q):
        return [t["task_id"] for t in svc.get("/v3/tasks?" + q).json["tasks"]]
    check("by endpoint", set(listed("endpoint=" + e)) == {mine["tasks"][f][0], mine["tasks"][g][0]})
    check("by function", listed("function=" + g) == mine["tasks"][g])
    check("by group", len(listed("group=" + mine["task_group_id"])) == 2)
    check("by status", listed("status=cancelled&endpoint=" + e) == mine["tasks"][f] and listed("status=pending&endpoint=" + e) == mine["tasks"][g])
    t = svc.get("/v3/tasks?limit=1").json["tasks"][0]
    check("an entry", {"task_id", "status", "function_id", "endpoint_id", "task_group_id", "submitted"} <= set(t), t)
    error("bad status", svc.get("/v3/tasks?status=lost"), 400, "REQUEST_MALFORMED")
    for c in ("x", "1-1", "1-1.", "-.1", "%2B.1", "1-1.99999999999999999999"):
        error("bad cursor " + c, svc.get("/v3/tasks?cursor=" + c), 400, "REQUEST_MALFORMED")


def batches():
    f, e = function(), endpoint()
    fw = Forwarder(redis, e)
    a = submit(e, {f: ["p%d" % i for i in range(1000)]}, "?wait=30").json
    ids = a["tasks"][f]
    check("a batch of 1,000, waited for", len(set(ids)) == 1000 and len(a["results"]) == 1000 and
          all(a["results"][ids[i]]["result"] == "p%d" % i for i in range(1000)))
    check("in order", [t["task"] for t in fw.seen] == ids)
    st = svc.post("/v2/batch_status", {"task_ids": ids}).json["results"]
    submit(e, {f: ["one", "more"]})
    noted = "SELECT COALESCE(SUM(items), 0), SUM(items * (object = ?)) = 1002 FROM audit WHERE action = 'task.submit'"
    db = sqlite3.connect(svc.sets["registry.path"])
    wait_for(lambda: db.execute(noted, (e,)).fetchone()[1], 30, "both submissions are noted, perhaps in one row")
    total = wait_for(lambda: db.execute(noted, (e,)).fetchone()[0] == svc.get("/v2/stats", token=bob).json["total_function_invocations"] and
                     db.execute(noted, (e,)).fetchone()[0], 30, "both counts")
    db.close()
    check("all that was ever submitted is counted", total >= 1002, total)
    check("its batch status", len(st) == 1000 and {d["status"] for d in st.values()} == {"success"})
    check("its group", [x["id"] for x in svc.get("/v2/taskgroup/" + a["task_group_id"]).json["tasks"]] == ids)
    fw.stop()
    full = endpoint("full")
    keys = tasks_in_redis()
    check("filling a queue", submit(full, {f: ["x"] * 2000}).status == 200)
    error("no room for so many", submit(full, {f: ["x"] * 1500}), 429, "ENDPOINT_QUEUE_FULL")
    check("nothing of them is left", raw("XLEN", "weft:ep:{%s}:tasks" % full) == 2000 and tasks_in_redis() == keys + 2000)
    check("room for the rest", submit(full, {f: ["x"] * 1000}).status == 200)
    error("full", submit(full, {f: ["x"]}), 429, "ENDPOINT_QUEUE_FULL")
    error("full, and waiting", submit(full, {f: ["z" * 20000]}, "?wait=5"), 429, "ENDPOINT_QUEUE_FULL")
    wait_for(lambda: tasks_in_redis() == keys + 3000, 30, "payloads are taken back")
    check("no payload is left either", True)
    raw("DEL", "weft:ep:{%s}:tasks" % full)


def left_halfway(f):
    """A process died when a part of the tasks was stored: who comes again gets the ids that they were to have, and none is stored twice."""
    e, h, n, large = endpoint(), {"Idempotency-Key": "key-left"}, 1200, 550
    payloads = ["l"] * large + ["z" * 20000] + ["l"] * (n - large - 1)
    had = set(raw("KEYS", "weft:idem:*"))
    a = submit(e, {f: payloads}, headers=h).json
    key = (set(raw("KEYS", "weft:idem:*")) - had).pop()
    wait_for(lambda: raw("GET", key)[:1] == b"R", 30, "the answer is kept")        # it is stored beside being given
    done = raw("GET", key)
    check("its answer is kept for a day", raw("PTTL", key) > 86000000)
    queued = lambda: raw("XLEN", "weft:ep:{%s}:tasks" % e)      # noqa: E731

    def left(age_s, stored, holder=b"0" * 16, others=0):
        """As if a process had died so long ago, after so many tasks. holder: that it still listens as. others: wait there, and so do its tasks."""
        ms = int((time.time() - age_s) * 1000)
        ids = [uuid.UUID(int=ms << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1) for _ in range(1 + n)]
        text = json.dumps(dict(a, tasks={f: [str(i) for i in ids[1:]]}, task_group_id=str(ids[0])))
        raw("DEL", "weft:ep:{%s}:tasks" % e)
        for half in (others // 2, others // 2) if others else ():
            assert submit(e, {f: ["o"] * half}).status == 200
        for i in ids[1:1 + stored]:
            if others:
                raw("XADD", "weft:ep:{%s}:tasks" % e, "*", "t", b"\2\0\0\0" + i.bytes)
            raw("HSET", "weft:task:{%s}" % i, "m", raw("HGET", "weft:task:{%s}" % a["tasks"][f][0], "m"), "s", "1")
        raw("SET", key, b"C" + done[1:33] + ids[-1].bytes + holder + struct.pack("<I", 1 + n) + b"".join(i.bytes for i in ids) + text.encode())
        return text
    alive = raw("PUBSUB", "CHANNELS", "weft:done:*")[0].split(b":")[2]
    for who, age_s, holder in (("one that is alive", 5, alive), ("one that may come back in a moment", -60, b"0" * 16)):      # it is young whenever we ask
        left(age_s, 500, holder)
        error(who + " is waited for", submit(e, {f: payloads}, headers=h), 409, "RESOURCE_CONFLICT")
        check("and nothing is stored, " + who, queued() == 0)
    for stored, age_s, holder in ((0, 5, b"0" * 16), (500, 5, b"0" * 16), (1199, 120, alive)):
        text = left(age_s, stored, holder)
        b = submit(e, {f: payloads}, headers=h)
        check("a dead one's answer, after %d tasks" % stored, b.status == 200 and b.json == json.loads(text), b)
        check("the others are stored, after %d" % stored, queued() == n - stored, queued())
        check("all are there, after %d" % stored, all(raw("EXISTS", "weft:task:{%s}" % i) for i in b.json["tasks"][f]))
        check("and once more it is the same, after %d" % stored, submit(e, {f: payloads}, headers=h).json == b.json and queued() == n - stored)

    def names(text):
        """Do the queue's entries behind the others name the tasks of this answer, each once?"""
        got = [fields[1][4:20] for _, fields in raw("XRANGE", "weft:ep:{%s}:tasks" % e, "-", "+")][-n:]
        return queued() >= n and sorted(got) == sorted(uuid.UUID(i).bytes for i in json.loads(text)["tasks"][f])
    text = left(5, 500, others=1700)
    b = submit(e, {f: payloads}, headers=h)
    check("what waits there already needs no room", b.status == 200 and b.json == json.loads(text) and names(text) and queued() == 1700 + n, (b, queued()))
    # it takes over, and gets no further
    text = left(5, 600, others=2100)
    kept = "weft:task:{%s}:payload" % json.loads(text)["tasks"][f][large]
    raw("SET", kept, b"z" * 20000)
    b = submit(e, {f: payloads}, headers=h)
    error("no room for the rest", b, 429, "ENDPOINT_QUEUE_FULL")
    check("and it does not say that nothing was stored", "nothing" not in b.json["detail"], b)
    check("the payload of a task that was queued stays", raw("EXISTS", kept) == 1)
    check("what was queued stays, too", queued() == 2100 + 600, queued())
    raw("XTRIM", "weft:ep:{%s}:tasks" % e, "MAXLEN", 600)
    b = submit(e, {f: payloads}, headers=h)
    check("once there is room it goes on, with the same ids", b.status == 200 and b.json == json.loads(text), b)
    check("and each task is queued once", queued() == n and names(text), queued())
    check("and once more it is the same", submit(e, {f: payloads}, headers=h).json == b.json and queued() == n)
    raw("DEL", "weft:ep:{%s}:tasks" % e)


def idempotency():
    f, e = function(), endpoint()
    h = {"Idempotency-Key": "key-1"}
    a = submit(e, {f: ["x"]}, headers=h)
    b = submit(e, {f: ["x"]}, headers=h)
    check("the first answer again", a.status == 200 and b.json == a.json and b.headers.get("Idempotent-Replayed") == "true", (a, b))
    check("and one task", raw("XLEN", "weft:ep:{%s}:tasks" % e) == 1)
    error("the key with another request", submit(e, {f: ["y"]}, headers=h), 422, "SEMANTICALLY_INVALID")
    fb, eb = function(token=bob), endpoint("b", token=bob)
    check("another user's key is another", submit(eb, {fb: ["x"]}, token=bob, headers=h).status == 200)
    error("too long a key", submit(e, {f: ["x"]}, headers={"Idempotency-Key": "k" * 129}), 400, "REQUEST_MALFORMED")
    h = {"Idempotency-Key": "key-2"}
    raw("CONFIG", "SET", "maxmemory", "1")
    first = submit(e, {f: ["x"]}, headers=h)
    raw("CONFIG", "SET", "maxmemory", "0")
    error("a request that fails", first, 503, "STORAGE_FULL")
    check("may be repeated", submit(e, {f: ["x"]}, headers=h).status == 200)
    left_halfway(f)
    fw = Forwarder(redis, e)
    a = submit(e, {f: ["w"]}, "?wait=10", headers={"Idempotency-Key": "key-3"}).json
    check("together with waiting", len(a["results"]) == 1, a)
    got = []
    ts = [threading.Thread(target=lambda: got.append(submit(e, {f: ["par"]}, headers={"Idempotency-Key": "key-4"}))) for _ in range(8)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    good = [x.json["tasks"][f][0] for x in got if x.status == 200]
    check("at once: one task, the others get its answer or a conflict", good and len(set(good)) == 1 and {x.status for x in got} <= {200, 409}, got)
    fw.stop()


def full_halfway():
    """Redis becomes full in the middle of a submission: what had been stored of it must not run, and the answer says what is known."""
    f, n = function(), 1050
    payloads = ["p" * 15000] * n

    def queued(e):
        return [fields[1][4:20] for _, fields in raw("XRANGE", "weft:ep:{%s}:tasks" % e, "-", "+")]

    def cancelled(e):
        return set(raw("SMEMBERS", "weft:ep:{%s}:cancelled" % e))

    def refused(h, meanwhile=lambda got: None):
        """The answer, and its endpoint: with a part of the tasks in its stream Redis is full. Whether we are fast enough is a matter of luck."""
        for _ in range(20):
            e, got, at = endpoint(), [], "weft:ep:{%s}:tasks"
            if h:
                h["Idempotency-Key"] = "full-" + e
            t = threading.Thread(target=lambda: got.append(submit(e, {f: payloads}, headers=h)))
            t.start()
            while not got and raw("XLEN", at % e) == 0:
                pass
            meanwhile(got)
            raw("CONFIG", "SET", "maxmemory", "1")
            t.join()
            raw("CONFIG", "SET", "maxmemory", "0")
            if got[0].status != 200:
                return got[0], e
            raw("DEL", at % e)
        raise TimeoutError("Redis was never full in time")
    for h in ({}, {"Idempotency-Key": ""}):
        which = ", with a key" if h else ""
        a, e = refused(h)
        error("Redis becomes full" + which, a, 503, "STORAGE_FULL")
        check("it says that nothing was stored" + which, "nothing was stored" in a.json["detail"], a)
        stored = queued(e)
        told = [dict(zip(x[::2], x[1::2])) for _, x in raw("XRANGE", "weft:ep:{%s}:control" % e, "-", "+")]
        check("a part had been, no forwarder sends it" + which, 500 <= len(stored) < n and cancelled(e) == set(stored), (len(stored), len(cancelled(e))))
        check("and it hears of all" + which, [x[b"t"] for x in told if x[b"c"] == b"cancel"] == stored, len(told))
        check("nothing else is left when the answer comes" + which, not any(raw("EXISTS", "weft:task:{%s}" % uuid.UUID(bytes=i)) for i in stored))
        raw("DEL", "weft:ep:{%s}:tasks" % e)
        if h:
            a = submit(e, {f: payloads}, headers=h)
            check("its key is free", a.status == 200 and queued(e) == [uuid.UUID(i).bytes for i in a.json["tasks"][f]] and not set(queued(e)) & set(stored), a.status)
            raw("DEL", "weft:ep:{%s}:tasks" % e)
    # it cannot be taken back
    h = {"Idempotency-Key": ""}
    raw("ACL", "SETUSER", "default", "-unlink")
    try:
        a, e = refused(h)
    finally:
        raw("ACL", "SETUSER", "default", "+@all")
    error("what was stored stays", a, 503, "SERVICE_UNAVAILABLE")
    check("and the answer does not say that nothing was", "nothing was" not in a.json["detail"] and "not known" in a.json["detail"], a)
    stored = queued(e)
    check("it was not cancelled by halves", len(stored) >= 500 and not cancelled(e))
    a = submit(e, {f: payloads}, headers=h)
    check("the next try goes on with the same ids", a.status == 200 and queued(e)[:len(stored)] == stored, a.status)
    check("each queued once", queued(e) == [uuid.UUID(i).bytes for i in a.json["tasks"][f]], len(queued(e)))
    raw("DEL", "weft:ep:{%s}:tasks" % e)
    # Redis takes no changes for a moment, as around a failover: it is taken back when it does again
    def refusals():
        return sum(int(x) for x in re.findall(r"errorstat_NOREPLICAS:count=(\d+)", raw("INFO", "errorstats").decode()))

    def no_changes(got):
        before = refusals()
        raw("CONFIG", "SET", "min-replicas-to-write", "1")
        try:
            wait_for(lambda: refusals() >= before + 5 or got, 30, "the service tries again, unless it had stored everything")
        finally:
            raw("CONFIG", "SET", "min-replicas-to-write", "0")
    a, e = refused({}, no_changes)
    error("no changes for a moment", a, 503, "SERVICE_UNAVAILABLE")
    stored = queued(e)
    check("and nothing was stored", "nothing was stored" in a.json["detail"] and len(stored) >= 500 and cancelled(e) == set(stored), (a, len(cancelled(e))))
    raw("DEL", "weft:ep:{%s}:tasks" % e)
    # another took it over meanwhile
    had = set(raw("KEYS", "weft:idem:*"))
    take = "#!lua flags=allow-oom\nif redis.call('GETRANGE', KEYS[1], 0, 0) == 'C' then redis.call('SETRANGE', KEYS[1], 0, 'T') end"
    a, e = refused(h, lambda got: [raw("EVAL", take, 1, k) for k in set(raw("KEYS", "weft:idem:*")) - had])
    error("refused when another had taken it over", a, 409, "RESOURCE_CONFLICT")
    stored = queued(e)
    check("its tasks are left to that one", len(stored) >= 500 and not cancelled(e), (len(stored), len(cancelled(e))))
    check("whole", all(raw("EXISTS", "weft:task:{%s}" % uuid.UUID(bytes=i)) for i in stored))
    raw("DEL", "weft:ep:{%s}:tasks" % e)


def redis_trouble():
    f, e = function(), endpoint()
    warm = submit(e, {f: ["warm"]})
    before = tasks_in_redis()
    raw("CONFIG", "SET", "maxmemory", "1")
    for q in ("", "?wait=5"):
        error("Redis is full%s" % q, submit(e, {f: ["x", "y" * 20000]}, q), 503, "STORAGE_FULL")
    check("reading goes on", svc.get("/v2/tasks/" + warm.json["tasks"][f][0]).status == 200)
    raw("CONFIG", "SET", "maxmemory", "0")
    wait_for(lambda: tasks_in_redis() == before, 30, "nothing is left")
    check("nothing was stored", True)
    check("and again", submit(e, {f: ["x"]}).status == 200)
    pending = warm.json["tasks"][f][0]
    got = []
    t = threading.Thread(target=lambda: got.append(submit(e, {f: ["during"]}, "?wait=2")))
    t.start()
    wait_for(lambda: any(b"during" in x for _, fl in raw("XREVRANGE", "weft:ep:{%s}:tasks" % e, "+", "-", "COUNT", 5) for x in fl))
    redis.stop()
    wait_for(lambda: svc.get("/readyz", token=None).status == 503, 30, "readyz says so")
    for name, a in (("submit", submit(e, {f: ["x"]})), ("submit, waiting", submit(e, {f: ["x"]}, "?wait=5")), ("task", svc.get("/v2/tasks/" + pending)),
                    ("batch status", svc.post("/v2/batch_status", {"task_ids": [pending]})), ("list", svc.get("/v3/tasks")),
                    ("group", svc.get("/v2/taskgroup/" + pending)), ("register endpoint", svc.post("/v3/endpoints", {"endpoint_name": "x"})),
                    ("endpoint status", svc.get("/v2/endpoints/%s/status" % e)), ("cancel", svc.delete("/v2/tasks/" + pending))):
        error("Redis is away: " + name, a, 503, "SERVICE_UNAVAILABLE")
    why = svc.get("/readyz", token=None).json["detail"]
    check("readyz says which Redis, why, and what to do", "Redis at %s: " % redis.path in why and "; start Redis there, or correct redis.url" in why, why)
    said = wait_for(lambda: [line for line in svc.log().split("\n") if 'msg="cannot connect"' in line], 30, "the log says so")
    check("and so does the log", all("address=%s " % redis.path in line and "redis.url" in line for line in said), said[:2])
    check("healthz stays", svc.get("/healthz", token=None).status == 200)
    check("what needs no Redis goes on", svc.get("/v2/functions/" + f).status == 200)
    g = svc.post("/v3/functions", {"function_name": "g", "function_code": "c"})
    check("registering a function too", g.status == 200, g)
    t.join()
    check("a stored task is never a 5xx, though waiting failed", got[0].status == 200 and got[0].json["results"] == {}, got)
    redis.start()
    wait_for(lambda: svc.get("/readyz", token=None).status == 200, 30, "ready again")
    globals()["raw"] = redis.client()
    a = submit(e, {g.json["function_uuid"]: ["x"]})
    check("Redis is back", a.status == 200 and raw("EXISTS", "weft:fn:{%s}" % g.json["function_uuid"]) == 1, a)
    fw = Forwarder(redis, e)
    i = svc.get("/v2/tasks/%s?wait=10" % pending).json
    check("tasks went through it", i["status"] == "success", i)
    fw.stop()
    ghost = str(uuid.uuid4())
    # emptied: what the registry knows comes back by itself
    raw("FLUSHALL")
    redis.stop()
    redis.start()
    globals()["raw"] = redis.client()
    wait_for(lambda: raw("SISMEMBER", "weft:eps", e) == 1, 30, "endpoints are put back")
    check("an emptied Redis is filled from the registry", raw("HGET", "weft:ep:{%s}" % e, "key") == KEY.encode())
    raw("SADD", "weft:eps", ghost)
    raw("CLIENT", "KILL", "TYPE", "normal")
    wait_for(lambda: raw("SISMEMBER", "weft:eps", ghost) == 0, 30, "endpoints that are none are taken away")
    check("a deletion that Redis missed is made good", True)
    fw = Forwarder(redis, e)
    a = wait_for(lambda: (lambda x: x if x.status == 200 else None)(submit(e, {f: ["again"]}, "?wait=30")), 30)
    check("functions too", len(a.json["results"]) == 1 and raw("EXISTS", "weft:fn:{%s}" % f) == 1, a)
    fw.stop()


def redis_cut():
    """Connections cut at awkward moments."""
    f, e = function(), endpoint()
    hold = threading.Event()
    fw = Forwarder(redis, e, lambda t: (hold.wait(30), {"status": 1, "result": t["payload"]})[1])
    got = []
    t = threading.Thread(target=lambda: got.append(submit(e, {f: ["held"]}, "?wait=60")))
    t.start()
    wait_for(lambda: fw.seen)
    raw("CLIENT", "KILL", "TYPE", "pubsub")
    hold.set()
    t.join()
    check("the channel is cut while one waits: no lost wake-up", len(got[0].json["results"]) == 1, got)
    # Redis stands still while tasks are being stored, and the connection is cut before it answers
    redis.proc.send_signal(signal.SIGSTOP)
    got = []
    t = threading.Thread(target=lambda: got.append(submit(e, {f: ["doubt"]}, "?wait=60")))
    t.start()
    time.sleep(0.3)  # the command is on its way; nothing can be asked of a stopped Redis
    redis.proc.send_signal(signal.SIGCONT)
    t.join()
    check("a Redis that stood still", got[0].status == 200 and len(got[0].json["results"]) == 1, got)
    statuses, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            a = submit(e, {f: ["n%d" % len(statuses)]}, "?wait=30")
            statuses.append((a.status, len((a.json or {}).get("results", {}))))
    ts = [threading.Thread(target=load) for _ in range(4)]
    [x.start() for x in ts]
    ours = raw("CLIENT", "ID")
    cuts, until = 0, time.monotonic() + 60
    while (cuts < 12 or sum(s[0] == 200 for s in statuses) <= 20) and time.monotonic() < until:
        time.sleep(0.1)  # the pace of the trouble
        cuts += 1
        for line in raw("CLIENT", "LIST").decode().splitlines():
            c = dict(p.split("=", 1) for p in line.split() if "=" in p)
            if int(c["id"]) != ours and "xreadgroup" not in c["cmd"] and "evalsha" in c["cmd"] or "subscribe" in c["cmd"]:
                raw("CLIENT", "KILL", "ID", c["id"])
    stop.set()
    [x.join() for x in ts]
    bad = [s for s in statuses if s[0] not in (200, 503) or (s[0] == 200 and s[1] != 1)]
    check("connections cut under load: each answer is right", not bad and sum(s[0] == 200 for s in statuses) > 20, (bad[:5], len(statuses)))
    stored = [x["payload"] for x in fw.seen if x["payload"].startswith(b"n")]
    check("and no task twice", len({x["task"] for x in fw.seen}) == len(fw.seen) and len(stored) >= sum(s[0] == 200 for s in statuses))
    fw.stop()


def others():
    """Routes that nothing above has asked, for what they answer."""
    f, e = function(), endpoint()
    fw = Forwarder(redis, e)
    group = svc.post("/v3/taskgroups", {}).json["taskgroup_id"]
    task = submit(e, {f: ["x", "y"]}, "?wait=30", task_group_id=group, create_queue=True).json["tasks"][f][0]
    for path in ("/v3/taskgroups/" + group, "/v3/taskgroups/%s/results" % group, "/v3/tasks/%s/output" % task, "/v3/functions", "/v3/functions/" + f,
                 "/v3/endpoints/" + e, "/console/main.js"):
        a = svc.get(path)
        check("GET " + path.replace(group, "{group}").replace(task, "{task}").replace(f, "{function}").replace(e, "{endpoint}"), a.status == 200 and a.text, a)
    fw.stop()
    check("a function is deleted, as of v3", svc.delete("/v3/functions/" + f).json == {"result": 302})
    check("an endpoint is deleted, as of v2", svc.delete("/v2/endpoints/" + e).json == {"result": 302})


def audit():
    db = sqlite3.connect(svc.sets["registry.path"])
    want = {"function.register", "function.delete", "endpoint.register", "endpoint.update", "endpoint.lock", "endpoint.delete", "endpoint.allow",
            "endpoint.disallow", "task.submit", "task.cancel", "token.grant", "function.update", "container.register"}
    missing = set(want)

    def written():  # a few times a second
        missing.difference_update(x for (x,) in db.execute("SELECT DISTINCT action FROM audit"))
        return not missing
    try:
        wait_for(written)
    except TimeoutError:
        pass
    check("the audit log has each kind of change", not missing, missing)
    db.close()


def rate():
    p = Place()
    s = Service(arg.build, p.path, redis.url, limits__requests_per_s=0.1, limits__request_burst=3)
    s.start()
    codes = [s.get("/v3/whoami") for _ in range(6)]     # in less than the ten seconds in which one more is let in
    check("rate limit", [a.status for a in codes[:3]] == [200] * 3 and 429 in [a.status for a in codes], codes)
    error("its answer", [a for a in codes if a.status == 429][0], 429, "RATE_LIMITED")
    check("SIGTERM ends it", s.stop() == 0)


def processes():
    p = Place()
    s = Service(arg.build, p.path, redis.url, workers=2, drain_grace="5s")
    s.start()
    a = s.post("/v3/functions", {"function_name": "f", "function_code": "c"})
    f = a.json["function_uuid"]
    e = s.post("/v3/endpoints", {"endpoint_name": "e"}).json["endpoint_id"]
    wait_for(lambda: len(s.workers()) == 2)
    first = s.workers()
    os.kill(min(first), signal.SIGKILL)
    wait_for(lambda: (lambda now: len(now) == 2 and min(first) not in now)(s.workers()), 30, "a dead worker is replaced")
    check("a dead worker is replaced", True)
    bad, done, stop = [], [0], threading.Event()

    def load():
        while not stop.is_set():
            try:
                x = s.get("/v3/whoami")
            except OSError as ex:
                x = ex
            if getattr(x, "status", 0) != 200:
                bad.append(x)
            done[0] += 1
    wait_for(lambda: s.log().count("msg=serving") >= 3)
    ts = [threading.Thread(target=load) for _ in range(3)]
    [t.start() for t in ts]
    got = []
    slow = threading.Thread(target=lambda: got.append(s.post("/v3/endpoints/%s/submit?wait=1.5" % e, {"tasks": {f: ["x"]}})))
    slow.start()
    wait_for(lambda: done[0] > 20, 30, "some load before")
    old = set(s.workers())
    s.proc.send_signal(signal.SIGHUP)
    wait_for(lambda: (lambda now: len(now) == 2 and not old & set(now))(s.workers()), 30, "all workers are new")
    n = done[0]
    wait_for(lambda: done[0] > n + 20, 30, "some load after")
    stop.set()
    [t.join() for t in ts]
    slow.join()
    check("SIGHUP replaces the workers", True)
    check("a request in hand is finished", got[0].status == 200, got)
    check("and no request fails meanwhile", not bad, (len(bad), done[0], bad[:3]))
    kids = s.workers()
    s.proc.kill()
    s.proc.wait()
    wait_for(lambda: not set(kids) & set(fabric.processes()), 30, "the workers go with their master")
    check("a killed master takes its workers with it", True)
    served = s.log().count("msg=serving")
    s.start()
    wait_for(lambda: s.log().count("msg=serving") == served + 2)
    check("and starts again, with what it knew", s.get("/v2/functions/" + f).status == 200)
    kids = set(s.workers())
    check("SIGTERM ends it", s.stop() == 0)
    check("nobody is left", len(kids) == 2 and not kids & set(fabric.processes()), kids)
    bad = [line for line in s.log().splitlines() if "Sanitizer" in line or "worker retired" in line and 'status="exit status 0"' not in line]
    check("its workers end well", not bad, bad[:5])


for section in (commands, meta, authentication, tickets, usage, routes, functions, endpoints, submitting, waiting, cancelling, cancelling_cut, listing, batches, idempotency,
                full_halfway, redis_trouble, redis_cut, others, audit, rate, processes):
    r.guard(section)
for where, wrong in sorted(svc.watch.found.items()):
    check("openapi.json says so: " + where, False, wrong)
check("all answers were as openapi.json says", not svc.watch.found)
asked = {(m, p) for m, p, status in svc.watch.seen if status < 400 or status == 501}
unseen = {(m, p) for p, ms in svc.watch.doc["paths"].items() for m in ms} - asked
check("of all routes but those of tests of their own", unseen == {("get", "/v3/taskgroups/{group}/events"), ("get", "/v3/tasks/{task}/files/{name}")}, unseen)
check("the service ends when asked to", svc.stop() == 0)
log = svc.log()
check("no worker died", "worker died" not in log, [line for line in log.splitlines() if "worker died" in line][:3])
bad = [line for line in log.splitlines() if re.search("Sanitizer|runtime error", line) or "worker retired" in line and 'status="exit status 0"' not in line]
check("workers end well", not bad, bad[:5])
check("no token in the log", svc.token not in log and bob not in log)
redis.stop()
r.end()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Several Python interpreters on one endpoint: which one runs a function, what is refused and with what words, what doctor says.

The second one is a real Python of this machine where there is one, else Debian's under the name of another version (tests/lib/pythons.py)."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import e2e  # noqa: E402
import pythons  # noqa: E402
from e2e import Fabric, ok, register, submit, wait_for  # noqa: E402

WHICH = "import sys\n\ndef which(x=None):\n    return '%d.%d' % sys.version_info[:2]\n"
BYTECODE = "9\n01\ngASV.."


def made(f, version, code=WHICH, name="which", **more):
    return register(f, code, name, meta={"python_version": version}, **more)


def packed(text):
    return "%d\n%s" % (len(text), text)


def globus(f, version, code):
    return ok(f.http("POST", "/v3/functions", {"function_name": "g", "function_code": code, "meta": {"python_version": version}}))["function_uuid"]


def result(f, function, payload):
    ids, answer = submit(f, function, [payload], wait=60)
    return answer["results"][ids[0]]


def picks(report, f, first, second):
    report.check("an endpoint says what it has", ok(f.http("GET", "/v2/endpoints/" + f.endpoint))["pythons"] == [first, second],
                 ok(f.http("GET", "/v2/endpoints/" + f.endpoint)))
    for version, expected in ((first, first), (second, second), ("3.99", first), (None, first)):
        fn = made(f, version) if version else register(f, WHICH, "which")
        doc = result(f, fn, {})
        report.check("made with %s: run by %s" % (version or "a version nobody told", expected), json.loads(doc.get("result", "null")) == expected, doc)
    # in turn, so that one worker changes from one interpreter to the other and back
    fns, docs = [made(f, v) for v in (first, second)], []
    for i in range(20):
        docs.append(json.loads(result(f, fns[i % 2], {})["result"]))
    report.check("in turn, 20 times", docs == [first, second] * 10, docs)
    ids, answer = submit(f, fns[1], [{"args": [i]} for i in range(200)], wait=120)
    got = [json.loads(answer["results"][t]["result"]) for t in ids]
    report.check("200 at once", got == [second] * 200, set(got))
    batch = made(f, second, "import sys\n\ndef which(xs):\n    return ['%d.%d' % sys.version_info[:2]] * len(xs)\n", batch={"max": 16})
    ids, answer = submit(f, batch, [{"args": [i]} for i in range(100)], wait=120)
    report.check("a batch function", [json.loads(answer["results"][t]["result"]) for t in ids] == [second] * 100)
    source = globus(f, second, packed("st\nwhich:" + WHICH))
    doc = result(f, source, packed("11\n[]") + packed("11\n{}"))
    v2 = ok(f.http("GET", "/v2/tasks/" + doc["task_id"]))
    report.check("source of Globus Compute", second in str(doc) and doc["status"] == "success", doc)
    report.check("its details name that interpreter", v2.get("details", {}).get("python_version", second).startswith(second), v2)
    doc = result(f, made(f, second, "def which():\n    import os\n    os.kill(os.getpid(), 9)\n"), {})
    report.check("one that dies is the same interpreter's next one", doc["status"] == "failed" and
                 json.loads(result(f, fns[1], {})["result"]) == second and json.loads(result(f, fns[0], {})["result"]) == first, doc)


def refuses(report, f, first, second):
    for version in (first, second):
        doc = result(f, globus(f, version, BYTECODE), packed("11\n[]") + packed("11\n{}"))
        if doc.get("code") == "TASK_MODULE":        # a Python of this machine may have no dill
            report.check("bytes for %s: what is missing is named" % version, "'dill' is not installed" in doc["exception"], doc)
            continue
        report.check("bytes for %s that no Python can decode: a failed task" % version, doc["status"] == "failed" and doc["code"] == "TASK_DECODE"
                     and "Python " + version in doc["exception"], doc)
    fn = globus(f, "3.99.1", BYTECODE)
    status, answer = f.http("POST", "/v3/endpoints/%s/submit" % f.endpoint, {"tasks": {fn: ["x"]}})
    report.check("bytecode of a Python that is not there: refused at submission", status == 422 and "3.99" in answer["detail"] and
                 "%s, %s" % (first, second) in answer["detail"], answer)
    doc = result(f, made(f, first), {})
    report.check("the workers go on", doc["status"] == "success", doc)


def wrong_claim(report, build):
    """The configuration says another version than the interpreter has: its runner sees it."""
    claim = "3.98"
    with Fabric(build, workers=1, python='{"%s": %s, "3.97": %s}' % (claim, pythons.MINE, PATH)) as f:
        doc = result(f, globus(f, claim, BYTECODE), packed("11\n[]") + packed("11\n{}"))
        report.check("bytecode on a falsely named interpreter is not tried", doc["status"] == "failed" and doc["code"] == "TASK_DECODE", doc)
        report.check("the error names both versions", "Python " + claim in doc["exception"] and "Python " + FIRST in doc["exception"], doc["exception"])
        doc = result(f, made(f, "3.97"), {})
        report.check("and the worker goes on", json.loads(doc["result"]) == SECOND, doc)


def doctor(report, build):
    """What doctor says of a configuration file, and what check-config refuses."""
    program = os.path.join(os.path.abspath(build), "bin", "weft-endpoint")
    with tempfile.TemporaryDirectory(prefix="weft-t-") as home:
        env = dict({k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}, WEFT_HOME=home)

        def run(*args):
            return subprocess.run([program] + list(args), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                                  timeout=120)

        def configured(text):
            with open(config) as f:
                lines = [line for line in f.read().split("\n") if not line.startswith("python:")]
            with open(config, "w") as f:
                f.write("\n".join(lines) + "\npython: " + text + "\n")
            return run("check-config", "mine")

        r = run("configure", "--url", "http://127.0.0.1:9", "mine")
        assert r.returncode == 0, r.stdout
        config = os.path.join(home, "endpoints", "mine", "config.yaml")
        assert configured('{"%s": %s, "%s": %s, "3.96": /nowhere/python}' % (FIRST, pythons.MINE, SECOND, PATH)).returncode == 0
        said = json.loads(run("doctor", "--json", "mine").stdout)
        lines = [x for x in said if x["check"] == "python"]
        report.check("doctor checks each", len(lines) == 3 and pythons.MINE in str(lines[0]) and PATH in str(lines[1]), lines)
        report.check("one that runs", lines[0]["level"] in ("ok", "warn") and lines[1]["level"] in ("ok", "warn"), lines)
        report.check("one that is not there", lines[2]["level"] == "fail" and "/nowhere/python" in str(lines[2]), lines)
        assert configured('{"3.95": %s}' % pythons.MINE).returncode == 0
        lines = [x for x in json.loads(run("doctor", "--json", "mine").stdout) if x["check"] == "python"]
        report.check("one of another version than its name", lines[0]["level"] == "fail" and FIRST in str(lines) and "3.95" in str(lines), lines)
        for text, words in (('{3.11.2: /usr/bin/python3}', "3.11.2"), ('{"three": /usr/bin/python3}', "three"), ("{}", "python"),
                            ('{"3.11": "a,b"}', "a,b"), ('{"3.11": /x, "3.11": /y}', "twice"), ("[/usr/bin/python3]", "single value or mapping"),
                            ("{" + ", ".join('"3.%d": /x' % i for i in range(17)) + "}", "16")):
            r = configured(text)
            report.check("check-config refuses " + text[:40], r.returncode != 0 and words in r.stdout, r.stdout)


def both(report, build):
    with Fabric(build, workers=2, python='{"%s": %s, "%s": %s}' % (FIRST, pythons.MINE, SECOND, PATH)) as f:
        picks(report, f, FIRST, SECOND)
        refuses(report, f, FIRST, SECOND)


def lone(report, build):
    with Fabric(build, workers=1) as f:
        got = ok(f.http("GET", "/v2/endpoints/" + f.endpoint))
        report.check("a lone interpreter's version is in its name", got["pythons"] == [FIRST] and got["python_version"] == FIRST, got)
    with tempfile.TemporaryDirectory(prefix="weft-t-") as d:
        path = os.path.join(d, "interpreter")
        with open(path, "w") as s:
            s.write("#!/bin/sh\nexec %s \"$@\"\n" % pythons.MINE)
        os.chmod(path, 0o755)
        with Fabric(build, workers=1, python=path) as f:
            wait_for(lambda: ok(f.http("GET", "/v2/endpoints/" + f.endpoint))["pythons"] == [FIRST], 60, "the version is told")
            report.check("or is asked of it, and told when it is known", True)


with tempfile.TemporaryDirectory(prefix="weft-t-") as scratch:
    FIRST = pythons.version(pythons.MINE)
    PATH, SECOND = pythons.another(scratch)
    print("# second Python: %s, %s" % (SECOND, PATH))
    e2e.main(__doc__, [both, wrong_claim, doctor, lone])

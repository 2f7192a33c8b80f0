#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Python SDK on event streams: what happens when things break, limits for some calls, asyncio, its README, other Pythons, its wheel."""
import ast
import asyncio
import doctest
import glob
import io
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Fabric, main, pids_of, redis, wait_for  # noqa: E402
from relay import Relay  # noqa: E402

import weft  # noqa: E402
from weft import progress  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SDK = os.path.join(ROOT, "client", "python")


def square(x):
    return x * x


def nap(s, value=None):
    import time
    time.sleep(s)
    return value


def hold(gate, value):
    import os
    import time
    while not os.path.exists(gate):
        time.sleep(0.02)
    return value


def big(n):
    return "r" * n


def make(build):
    return Fabric(build, workers=2, processes=2)


def events(report, f):
    c = f.client()
    fid = c.register_function(square)
    kind = c.get_function(fid)["kind"]
    group = c.create_task_group()
    report.check("a new group is empty", c.task_group(group)["tasks"] == [] and list(c.results(group)) == [])
    ids = []
    for i in range(5):
        ids += c.submit(f.endpoint, fid, [weft.encode_arguments(kind, [i], {})], task_group_id=group)[0]
    stream = c.events(group)
    got = [e for _, e in zip(ids, stream)]
    report.check("events", sorted(e.data["task_id"] for e in got) == sorted(ids) and sorted(c.decode(e.data, kind) for e in got) == [0, 1, 4, 9, 16] and
                 stream.last_id == got[-1].id and group in repr(stream), got)
    stream.close()
    report.check("a closed stream is at its end", list(stream) == [])
    again = c.events(group, after=got[2].id)
    report.check("from a place on", [e.data["task_id"] for _, e in zip(range(2), again)] == [e.data["task_id"] for e in got[3:]])
    again.close()
    report.check("results", [d["task_id"] for d in c.results(group)] == [e.data["task_id"] for e in got])
    later = threading.Timer(0.3, lambda: c.submit(f.endpoint, fid, [weft.encode_arguments(kind, [7], {})], task_group_id=group))
    later.start()
    seen = [d for _, d in zip(range(6), c.results(group, wait=20))]
    report.check("results that are waited for", len(seen) == 6 and c.decode(seen[5], kind) == 49, seen[5:])
    later.join()
    redis(f, "XTRIM", "weft:group:{%s}:done" % group, "MAXLEN", "2")
    report.check("results that the service's pages have no more", sorted(d["task_id"] for d in c.results(group)) == sorted(d["task_id"] for d in seen))
    report.check("without those that were had before", [d["task_id"] for d in c.results(group, cursor=got[4].id)] == [seen[5]["task_id"]])
    for e, kind_of in ((str(uuid.uuid4()), weft.NotFoundError), ("x", weft.ServiceError)):
        try:
            next(iter(c.events(e)))
            report.check("a group that is none", False)
        except kind_of as error:
            report.check("a group that is none", error.code in ("TASK_GROUP_NOT_FOUND", "INVALID_UUID"), error)


def limits(report, f):
    with weft.Executor(f.endpoint, client=f.client()) as ex:
        quick, patient, slow = ex.options(time_limit_s=0.5), ex.options(time_limit_s=30), ex.submit(nap, 1.5, "slow")
        error = quick.submit(nap, 60).exception(30)
        report.check("a limit for one call", isinstance(error, weft.TaskFailed) and error.document["code"] == "TASK_TIME_LIMIT", error)
        report.check("the others keep theirs", slow.result(30) == "slow")
        report.check("map with options", list(patient.map(square, range(3), timeout=30)) == [0, 1, 4] and "30" in repr(patient))
        report.check("options belong to nobody else", "time_limit_s" not in repr(ex.options(expected_s=3)))
        large = ex.submit(big, 300000)
        report.check("a large result", large.result(30) == "r" * 300000)
        failed = ex.submit(square, "x")
        wait_for(failed.done, 30, "it failed")
        report.check("states and tables", large.state == "success" and failed.state == "failed" and "TypeError" in failed._repr_html_() and
                     "<table" in ex._repr_html_() and large.task_id in large._repr_html_() and large.document()["node"] and
                     large.trace()["total_us"] > 0, (large, failed))
        out = io.StringIO()
        bar = progress._Line(3, "three", out)
        for _ in range(3):
            bar.update()
        bar.close()
        report.check("a bar of our own", "three" in out.getvalue() and "3/3" in out.getvalue(), out.getvalue())
        report.check("none where nobody looks", isinstance(progress.bar(1000, None, io.StringIO()), progress._Nothing))
        saved, sys.stderr = sys.stderr, io.StringIO()
        try:
            list(ex.map(square, range(10), progress=True))
            shown = sys.stderr.getvalue()
        finally:
            sys.stderr = saved
        report.check("a bar of map", "10/10" in shown, shown)
        half = ex.map(nap, [0.01] + [60] * 5)
        next(half)
        half.close()
        report.check("a map that is given up cancels what is left", ex.submit(square, 5).result(30) == 25)


def broken(report, f):
    """Connections are cut, workers of the service killed: every call has its one result, and no task is made twice."""
    c = f.client()
    before = len(c.tasks(limit=1000)["tasks"])
    wire = Relay(lambda: ("127.0.0.1", int(f.url.rsplit(":", 1)[1])))
    wire.start()
    stop, rng = threading.Event(), random.Random(7)

    def harm():
        while not stop.wait(0.3):
            for a, b in list(wire.pairs):
                if rng.random() < 0.5:
                    for s in (a, b):
                        try:
                            s.shutdown(2)
                        except OSError:
                            pass
            pids = pids_of(f, "service")
            if len(pids) == 2 and rng.random() < 0.5:
                os.kill(rng.choice(pids), signal.SIGKILL)
    t = threading.Thread(target=harm)
    t.start()
    failures = []
    with weft.Executor(f.endpoint, client=weft.Client("http://127.0.0.1:%d" % wire.port, f.token)) as ex:
        began, futures = time.monotonic(), []
        while time.monotonic() - began < 6:
            futures += [(i, ex.submit(square, i)) for i in range(20)]
            time.sleep(0.05)
        stop.set()
        t.join()
        for i, x in futures:
            try:
                if x.result(60) != i * i:
                    failures.append((i, x.result()))
            except Exception as e:
                failures.append((i, repr(e)))
    report.check("each of %d calls has its result" % len(futures), not failures, failures[:5])
    seen, cursor = 0, None
    while True:
        page = c.tasks(limit=1000, cursor=cursor)
        seen, cursor = seen + len(page["tasks"]), page["next_cursor"]
        if not cursor:
            break
    report.check("and no task was made twice", seen - before == len(futures), (seen - before, len(futures)))


class Gatherer(Relay):
    """A proxy between, which makes one piece of a gap and the events that follow it."""

    def relay(self, s):
        try:
            if b"event: gap" in s.recv(262144, socket.MSG_PEEK):
                wait_for(lambda: re.search(rb"event: task\n.*\n\n\r\n$", s.recv(262144, socket.MSG_PEEK)), 30, "an event behind the gap")
                head, end, rest = s.recv(262144).partition(b"\r\n\r\n") if s.recv(5, socket.MSG_PEEK) == b"HTTP/" else (b"", b"", s.recv(262144))
                text = b""
                while rest:
                    n, _, rest = rest.partition(b"\r\n")
                    text, rest = text + rest[:int(n, 16)], rest[int(n, 16) + 2:]
                next(a if s is b else b for a, b in self.pairs if s in (a, b)).sendall(b"%s%s%x\r\n%s\r\n" % (head, end, len(text), text))
                return
        except OSError:
            pass        # told again below
        super().relay(s)


class Unlucky(weft.Client):
    """Does not reach the service the first times that it asks for the states of tasks."""
    asked = 0

    def tasks_status(self, *args, **kwargs):
        self.asked += 1
        if self.asked <= 2:
            raise weft.ServiceUnavailable("out of luck")
        return super().tasks_status(*args, **kwargs)


def gap(report, f):
    """Events are gone when the stream is back, and the service cannot be asked at once for what they said; a proxy lets the stream go on behind the gap."""
    wire = Gatherer(lambda: ("127.0.0.1", int(f.url.rsplit(":", 1)[1])))
    wire.start()
    client = Unlucky("http://127.0.0.1:%d" % wire.port, f.token)
    ex = weft.Executor(f.endpoint, client=client)
    try:
        ex.submit(square, 3).result(30)     # the stream has a place to go on from
        gate = os.path.join(f.state, "gate")
        futures = [ex.submit(hold, gate, i) for i in range(6)]
        wait_for(lambda: all(x.task_id for x in futures), 30, "they are submitted")
        wire.set_cut(True)
        open(gate, "w").close()
        others = [d["status"] for d in f.client().tasks_status([x.task_id for x in futures], wait=30).values()]
        redis(f, "XTRIM", "weft:group:{%s}:done" % ex.task_group_id, "MAXLEN", "1")
        report.check("they end while nobody is told", others == ["success"] * 6 and not any(x.done() for x in futures), (others, futures))
        for pair in list(wire.pairs):
            for s in pair:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        wire.set_cut(False)
        try:
            got = [x.result(30) for x in futures]
        except Exception as e:
            got = repr(e)
        report.check("it asks until it is told", got == list(range(6)) and client.asked == 3, (got, client.asked))
        report.check("and goes on with the stream", ex.submit(square, 4).result(30) == 16 and client.asked == 3, client.asked)
    finally:
        ex.shutdown(wait=False, cancel_futures=True)


def aio(report, f):
    async def run():
        async with weft.AsyncExecutor(f.endpoint, client=f.client()) as ex:
            report.check("await", await ex.submit(square, 9) == 81)
            report.check("gather", await asyncio.gather(*[ex.submit(square, i) for i in range(50)]) == [i * i for i in range(50)])
            report.check("async for", [x async for x in ex.map(square, range(20))] == [i * i for i in range(20)])
            try:
                await ex.submit(square, "x")
                report.check("an exception", False)
            except weft.TaskFailed as e:
                report.check("an exception", "TypeError" in str(e), e)
            try:
                await asyncio.wait_for(ex.submit(nap, 60), 0.5)
                report.check("a timeout", False)
            except asyncio.TimeoutError:
                report.check("a timeout", True)
            client = f.client()
            wait_for(lambda: client.tasks(limit=1)["tasks"][0]["status"] == "cancelled", 30, "cancelled on the endpoint too")
            report.check("which cancels the task", True)
            report.check("options", "0.5" in repr(ex.options(time_limit_s=0.5)._via))
            beats = 0
            slow = ex.submit(nap, 3, "done")
            while not slow.done():
                await asyncio.sleep(0.01)
                beats += 1
            report.check("the loop goes on meanwhile", beats > 20 and slow.result() == "done", beats)
    asyncio.run(run())


def readme(report, f):
    saved = dict(os.environ)
    os.environ.update(f.env(), WEFT_URL=f.url, WEFT_TOKEN=f.token, WEFT_ENDPOINT=f.endpoint)
    out = io.StringIO()
    try:
        test = doctest.DocTestParser().get_doctest(open(os.path.join(SDK, "README.md")).read(), {"__name__": "__main__"}, "README.md", "README.md", 0)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test, out=out.write)
    finally:
        os.environ.clear()
        os.environ.update(saved)
    report.check("every example of the README does what it says", runner.failures == 0 and runner.tries > 15, out.getvalue()[:3000])


def pythons(report, f):
    """Python 3.8 to 3.13: the grammar of the oldest here, and a real call from each interpreter that is there."""
    bad = []
    for path in glob.glob(os.path.join(SDK, "weft", "*.py")):
        with open(path) as src:
            try:
                ast.parse(src.read(), path, feature_version=(3, 8))
            except SyntaxError as e:
                bad.append(str(e))
    report.check("nothing is newer than the grammar of Python 3.8", not bad, bad)
    script = ("import sys, asyncio, concurrent.futures; sys.path.insert(0, %r); import weft\n"
              "weft.executor.LONE_WAIT_S = 5.0\n"
              "with weft.Executor(%r, client=weft.Client(%r, sys.argv[1])) as ex:\n"
              "    assert ex.submit(sys.argv[2], 'abc').result(60) == 'ABC', 'wrong result'\n"
              "    assert list(ex.map(sys.argv[2], ['x', 'y'])) == ['X', 'Y']\n"
              "    for look in (lambda x: None, lambda x: concurrent.futures.wait([x]), lambda x: next(concurrent.futures.as_completed([x]))):\n"
              "        x = ex.submit(sys.argv[2], 'z')\n"
              "        while not x.in_air:     # sent by this thread\n"
              "            x = (x.result(60), ex.submit(sys.argv[2], 'z'))[1]\n"
              "        look(x)\n"
              "        assert x.result(60) == 'Z'\n"
              "async def main():\n"
              "    async with weft.AsyncExecutor(%r, client=weft.Client(%r, sys.argv[1])) as ex:\n"
              "        return await ex.submit(sys.argv[2], 'q')\n"
              "assert asyncio.run(main()) == 'Q'\n") % (SDK, f.endpoint, f.url, f.endpoint, f.url)
    code = "def shout(s):\n    return s.upper()\n"
    fid = f.client().register("python", code, "shout", entry="shout")
    for version in ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13"):
        found = next(iter(sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/%s.*/bin/python3" % version)))), None) or shutil.which("python" + version)
        if not found:
            report.skip("a call from Python " + version, "it is not installed here")
            continue
        out = subprocess.run([found, "-W", "error", "-c", script, f.token, fid], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=120,
                             env=dict(os.environ, PYTHONPATH="", PYTHONDONTWRITEBYTECODE="1"))
        report.check("a call from Python " + version, out.returncode == 0, out.stdout)


def wheel(report, f):
    where = tempfile.mkdtemp(prefix="weft-wheel-")
    try:
        out = subprocess.run([os.path.join(ROOT, "packaging", "wheel"), "--build", where], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                             timeout=300)
        report.check("wheel and sdist are built", out.returncode == 0 and len(glob.glob(where + "/python/*")) == 2, out.stdout)
        subprocess.run(["/usr/bin/python3", "-m", "venv", where + "/v"], check=True, timeout=300)
        pip = subprocess.run([where + "/v/bin/pip", "install", "--no-index", "--no-deps"] + glob.glob(where + "/python/*.whl"), stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, universal_newlines=True, timeout=300)
        out = subprocess.run([where + "/v/bin/python", "-I", "-c", "import weft, os, sys; print(weft.__version__, os.path.exists(os.path.join(os.path.dirname(weft.__file__), 'py.typed')), "
                              "weft.__file__.startswith(sys.prefix))"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=60)
        report.check("and installed without a network", pip.returncode == 0 and out.stdout.split() == [weft.__version__, "True", "True"], pip.stdout + out.stdout)
    finally:
        shutil.rmtree(where, ignore_errors=True)


main(__doc__, [events, limits, broken, gap, aio, readme, pythons, wheel], make)

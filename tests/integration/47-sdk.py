#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Python SDK: weft.Client and weft.Executor, with dill and without it."""
import concurrent.futures
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Fabric, main, wait_for  # noqa: E402
from relay import Relay  # noqa: E402

import weft  # noqa: E402
from weft import serialize  # noqa: E402

try:
    import dill
except ImportError:
    dill = None


def square(x):
    return x * x


def nap(s, value=None):
    import time
    time.sleep(s)
    return value


def fail(text):
    raise ValueError(text)


def shout(text, times=1):
    return text.upper() * times


class NoDill:
    """As on a machine without dill."""

    def __enter__(self):
        self.saved, serialize._dill = serialize._dill, lambda: None

    def __exit__(self, *exc):
        serialize._dill = self.saved


class LongerWait:
    """Lone calls are answered in time, and their threads go on sending them, on a slow machine, too."""

    def __enter__(self):
        ex = weft.executor
        self.saved = ex.LONE_WAIT_S, ex.WATCH_S
        ex.LONE_WAIT_S, ex.WATCH_S = 8.0, 8.0

    def __exit__(self, *exc):
        weft.executor.LONE_WAIT_S, weft.executor.WATCH_S = self.saved


def make(build):
    return Fabric(build, workers=2)


def executor(f, **kw):
    return weft.Executor(f.endpoint, client=f.client(), **kw)


def raises(kind, call):
    try:
        call()
    except kind as e:
        return e
    return None


def client(report, f):
    c = f.client()
    report.check("repr, version, whoami", f.url in repr(c) and c.version() and c.whoami())
    with NoDill():
        fid = c.register_function(shout, description="loud", time_limit_s=20)
        report.check("run", c.run(f.endpoint, fid, "a", times=3) == "AAA")
        doc = c.get_function(fid)
        report.check("get_function", doc["kind"] == "python" and doc["entry"] == "shout" and doc["limits"]["time_limit_s"] == 20, doc)
        doc = c.get_function(c.register_function(shout, memoize=True, batch=16))
        report.check("register_function with memoize and batch", doc["memoize"] is True and doc["batch"] == {"max": 16, "latency_ms": 0}, doc)
        ids, _ = c.submit(f.endpoint, fid, [json.dumps({"args": [x]}) for x in "abc"])
        report.check("submit and result", [c.result(i, timeout=20) for i in ids] == ["A", "B", "C"])
        report.check("tasks", [t["task_id"] for t in c.tasks(limit=3)["tasks"]] == ids[::-1])
        report.check("tasks_status", all(d["status"] == "success" for d in c.tasks_status(ids).values()))
        report.check("trace", "execution_end" in c.trace(ids[0])["stamps"])
        n = c.register_function(nap)
        ids, _ = c.submit(f.endpoint, n, ['{"args": [30]}'])
        e = raises(weft.TaskPending, lambda: c.result(ids[0], timeout=0.3))
        report.check("result with a timeout: TaskPending says where it is", e and e.status, e)
        report.check("cancel", c.cancel(ids[0])["status"] == "cancelled" and raises(weft.TaskCancelled, lambda: c.result(ids[0], timeout=30)))
        e = raises(weft.TaskFailed, lambda: c.run(f.endpoint, c.register_function(fail), "broken"))
        report.check("TaskFailed has document and traceback", e and e.document["code"] == "TASK_EXCEPTION" and "ValueError: broken" in e.traceback, e)
        long, quick = c.submit(f.endpoint, n, ['{"args": [20]}'])[0] + c.submit(f.endpoint, n, ['{"args": [0.2, 5]}'])[0]
        began = time.monotonic()
        docs = c.tasks_status([long, quick], wait=18, until="any")
        report.check("until=any: answered with the first that ends, and only it", list(docs) == [quick] and time.monotonic() - began < 15, docs)
        c.cancel(long)
    up = c.register_command(["tr", "a-z", "A-Z"])
    ids, _ = c.submit(f.endpoint, up, ["command"])
    report.check("register_command", c.result(ids[0], kind="command") == "COMMAND")
    key = str(uuid.uuid4())
    a, _ = c.submit(f.endpoint, fid, ['"x"'], idempotency_key=key)
    b, _ = c.submit(f.endpoint, fid, ['"x"'], idempotency_key=key)
    report.check("a repeated submission makes no second task", a == b, (a, b))
    c.delete_function(up)
    report.check("NotFoundError", raises(weft.NotFoundError, lambda: c.get_function(up)))
    report.check("AuthError", raises(weft.AuthError, lambda: weft.Client(f.url, "weft_wrong").whoami()))
    report.check("ServiceError names the code", getattr(raises(weft.ServiceError, lambda: c.get_function("x")), "code", None) == "INVALID_UUID")
    report.check("LimitError", raises(weft.LimitError, lambda: c.submit(f.endpoint, fid, ["x" * (11 << 20)])))
    report.check("a URL that is none", raises(weft.WeftError, lambda: weft.Client("ftp://x", "t")))
    report.check("endpoints and their status", c.endpoints() and c.endpoint_status(f.endpoint)["status"] == "online")


def plain(report, f):
    """Without dill: source text and JSON."""
    with NoDill():
        with executor(f) as ex:
            report.check("submit", ex.submit(square, 12).result(20) == 144)
            report.check("keyword arguments", ex.submit(shout, "x", times=2).result(20) == "XX")
            report.check("map keeps the order", list(ex.map(square, range(200), timeout=30)) == [i * i for i in range(200)])
            e = ex.submit(fail, "out").exception(20)
            report.check("an exception is a TaskFailed with the traceback", isinstance(e, weft.TaskFailed) and "ValueError: out" in str(e), e)
            report.check("a lambda says what to do", "dill" in str(ex.submit(lambda: 1).exception(20)))
            report.check("a builtin says what to do", "dill" in str(ex.submit(math.sqrt, 4).exception(20)))
            report.check("an argument that is no JSON belongs to its call alone", "JSON" in str(ex.submit(square, {1, 2}).exception(20)))
            report.check("and others go on", ex.submit(square, 3).result(20) == 9)
            fid = ex.client.register_function(square)
            report.check("a function by its id", ex.submit(fid, 5).result(20) == 25)
            report.check("an id that is unknown fails its call", isinstance(ex.submit(str(uuid.uuid4()), 1).exception(20), weft.NotFoundError))
            one = ex.submit(square, 1)
            report.check("a future knows its task", one.result(20) == 1 and ex.client.task(one.task_id)["status"] == "success")
            report.check("a payload over the limit fails alone", isinstance([ex.submit(shout, "x" * (11 << 20)), ex.submit(shout, "y")][0].exception(40), weft.LimitError) and
                         ex.submit(shout, "z").result(20) == "Z")
        report.check("submit after shutdown", raises(RuntimeError, lambda: ex.submit(square, 1)))


def many(report, f):
    with NoDill():
        with executor(f) as ex:
            began = time.monotonic()
            futures = [ex.submit(square, i) for i in range(2000)]
            values = [x.result(60) for x in futures]
            took = time.monotonic() - began
            report.check("2,000 tasks", values == [i * i for i in range(2000)])
            print("# 2,000 tasks in %.2f s" % took)
            done = set()
            for x in concurrent.futures.as_completed([ex.submit(square, i) for i in range(50)], timeout=30):
                done.add(x.result())
            report.check("as_completed", done == {i * i for i in range(50)})
        report.check("its threads have ended", not [t for t in threading.enumerate() if t.name.startswith("weft-")])


def prompt(report, f):
    """Results of new tasks do not wait behind a poll for older ones, and nothing polls busily."""
    with NoDill():
        with executor(f) as ex:
            ex.submit(square, 1).result(20)
            slow = ex.submit(nap, 14, "slow")
            wait_for(lambda: slow.task_id, 30, "accepted")
            time.sleep(0.3)
            worst, cpu = 0, time.process_time()
            for i in range(30):
                began = time.monotonic()
                ex.submit(square, i).result(20)
                worst = max(worst, time.monotonic() - began)
            report.check("while one task runs 30 later ones come back at once", worst < 5 and not slow.done(), worst)
            more = [ex.submit(nap, 0.05, i) for i in range(6)]      # more waves than watchers
            for x in more:
                wait_for(lambda: x.task_id, 30, "accepted")
            report.check("also more waves than watchers", [x.result(30) for x in more] == list(range(6)) and not slow.done())
            cpu = time.process_time()
            time.sleep(1)
            report.check("waiting costs nothing", time.process_time() - cpu < 0.3, time.process_time() - cpu)
            report.check("the slow one comes too", slow.result(60) == "slow")


def lone_calls(report, f):
    """While each call has its result in the answer to its submission nobody reads the stream; what waits for it finds it again."""
    def streams():
        return int(f.http("GET", "/metrics")[1].split("\nweft_service_streams ")[1].split("\n")[0])
    with NoDill(), LongerWait():
        with executor(f) as ex:
            ex.submit(square, 1).result(20)
            wait_for(lambda: streams() == 1, 30, "the stream is read")

            def left():
                return ex.submit(square, 2).result(20) == 4 and streams() == 0
            wait_for(left, 30, "the stream is left")
            for _ in range(3):      # each time it is left again
                both = [ex.submit(nap, 0.1, "slow"), ex.submit(square, 4)]     # no longer the only one in hand
                report.check("calls that wait have their results", [x.result(20) for x in both] == ["slow", 16] and streams() == 1)
                wait_for(left, 30, "the stream is left again")
            report.check("many calls have theirs", [x.result(20) for x in [ex.submit(square, i) for i in range(300)]] == [i * i for i in range(300)])
            wait_for(left, 30, "the stream is left again")
        report.check("its threads have ended", not [t for t in threading.enumerate() if t.name.startswith("weft-")])
        with executor(f) as ex:     # an end without waiting, from there
            wait_for(lambda: all(ex.submit(square, 2).result(20) == 4 for _ in range(10)) and streams() == 0, 30, "the stream is left")
            ex.shutdown(wait=False)
        wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("weft-")], 30, "its threads end")


def own(ex):
    """Calls of one at a time, until their threads send them themselves."""
    def sent():
        before = ex._lane.sent
        return ex.submit(square, 2).result(20) == 4 and ex._lane.sent > before
    wait_for(sent, 60, "a call is sent by its own thread")


def alone(report, f):
    """The only call in hand is sent by its own thread; its result comes to everybody who looks, to nobody, and whatever happens to the connection."""
    wire = Relay(lambda: ("127.0.0.1", int(f.url.rsplit(":", 1)[1])))
    wire.start()
    with NoDill(), LongerWait(), weft.Executor(f.endpoint, client=weft.Client("http://127.0.0.1:%d" % wire.port, f.token)) as ex:
        def submitted(fn, *args):
            own(ex)
            before = ex._lane.sent
            x = ex.submit(fn, *args)
            report.check("it is in the air", x.in_air and ex._lane.sent == before + 1)
            return x

        def tasks():
            return len(ex.client.tasks(group=ex.task_group_id, limit=1000)["tasks"])
        for fn, args in ((fail, ["first"]), (nap, [0])):        # registered by the submitter
            ex.submit(fn, *args).exception(20)
        report.check("a failure of a call that its own thread has sent", "out" in str(submitted(fail, "out").exception(20)))
        called = threading.Event()
        submitted(square, 3).add_done_callback(lambda x: x.result() == 9 and called.set())
        report.check("a callback", called.wait(20))
        report.check("wait", len(concurrent.futures.wait([submitted(square, 3)], 20).done) == 1)
        report.check("as_completed", [x.result() for x in concurrent.futures.as_completed([submitted(square, 3)], 20)] == [9])
        x = submitted(square, 5)
        wait_for(x.done, 30, "it is done")
        report.check("done", not x.in_air and x.result() == 25)
        x = submitted(square, 5)
        wait_for(lambda: x._state == "FINISHED", 30, "the result of a call that nobody looks at")
        x = submitted(nap, 4, "late")
        report.check("a short timeout", raises(concurrent.futures.TimeoutError, lambda: x.result(0.1)) and x.result(20) == "late")
        x = submitted(nap, 60)
        report.check("cancelled in the air", x.cancel() and x.cancelled() and raises(concurrent.futures.CancelledError, lambda: x.result(20)))
        wait_for(lambda: x.task_id and ex.client.task(x.task_id)["status"] == "cancelled", 30, "cancelled on the endpoint too")
        x = submitted(square, 6)
        report.check("one in the air and others", [y.result(20) for y in [x] + [ex.submit(square, i) for i in range(50)]] == [36] + [i * i for i in range(50)])
        x, got = submitted(nap, 0.2, 7), []
        threads = [threading.Thread(target=lambda: got.append(x.result(20))) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        report.check("four who wait for it", got == [7] * 4, got)
        report.check("arguments that are no JSON", own(ex) or "JSON" in str(ex.submit(square, {1}).exception(20)))
        report.check("a large payload", own(ex) or len(ex.submit(shout, "x" * 100000).result(20)) == 100000)

        def cut():
            for pair in list(wire.pairs):
                for s in pair:
                    try:
                        s.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass    # closed by now
        for how, look in (("waited for", lambda x: x.result(30)), ("looked at", lambda x: wait_for(x.done, 30, "done") and x.result())):
            own(ex)
            before = tasks()
            x = ex.submit(nap, 0.5, "cut")
            wait_for(lambda: tasks() == before + 1, 30, "it has come to the service")
            cut()
            report.check("the connection is cut while it is %s" % how, look(x) == "cut")
            report.check("and it ran once", tasks() == before + 1)
        own(ex)
        cut()           # as when the service was restarted
        report.check("the connection is cut before", ex.submit(square, 8).result(30) == 64)
        x = submitted(nap, 0.3, "last")
    report.check("an end with a call in the air", x._state == "FINISHED" and x.result() == "last")
    report.check("its threads have ended", not [t for t in threading.enumerate() if t.name.startswith("weft-")])
    report.check("and its connection is closed", not ex._lane.is_open)
    ex = weft.Executor(f.endpoint, client=f.client())
    with NoDill(), LongerWait():
        own(ex)
        ex.submit(nap, 0).result(20)
        own(ex)
        x = ex.submit(nap, 60)
        ex.shutdown(cancel_futures=True)
    report.check("an end that cancels the one in the air", x.cancelled())


class Away(weft.Client):
    """Does not reach the service the first times that it asks for a task."""
    asked = 0

    def task(self, *args, **kwargs):
        self.asked += 1
        if self.asked <= 2:
            raise weft.ServiceUnavailable("away")
        return super().task(*args, **kwargs)


def faults(report, f):
    """What goes wrong for one call does so for it alone."""
    with NoDill():
        for _ in range(5):      # at once, before there is a stream
            ex = executor(f)
            x = ex.submit(square, 3)
            ex.shutdown()
            report.check("an end right after the first call: it is done, and all threads are gone", x.done() and x.result() == 9 and
                         not [t for t in threading.enumerate() if t.name.startswith("weft-")])
        with executor(f) as ex:
            first = ex.submit(square, 1)
            first.add_done_callback(lambda _: sys.exit("a callback that ends its thread"))
            batch = [ex.submit(nap, 0.1, i) for i in range(10)]
            for x in batch:
                x.add_done_callback(lambda _: sys.exit("a callback that ends its thread"))
            report.check("callbacks that exit", [x.result(20) for x in batch] == list(range(10)) and ex.submit(square, 2).result(20) == 4)
            x = ex.submit(nap, 60)
            x.add_done_callback(lambda _: sys.exit("a callback that ends its thread"))
            wait_for(lambda: x.task_id, 30, "accepted")
            ex.client.cancel(x.task_id)
            report.check("also of one that was cancelled", raises(concurrent.futures.CancelledError, lambda: x.result(20)) and
                         ex.submit(nap, 0.1, 2).result(20) == 2)
            e = ex.options(time_limit_s=[5]).submit(square, 1).exception(20)
            report.check("a limit that is none", isinstance(e, Exception) and ex.submit(square, 3).result(20) == 9, e)
            child = os.fork()
            if not child:
                try:
                    os._exit(0 if raises(RuntimeError, lambda: ex.submit(square, 1)) else 1)
                finally:
                    os._exit(2)
            report.check("a process that was forked is told so", os.waitpid(child, 0)[1] == 0 and ex.submit(square, 4).result(20) == 16)
        client = Away(f.url, f.token)
        with weft.Executor(f.endpoint, client=client) as ex:
            ex.submit(square, 1).result(20)
            xs = [ex.submit(shout, "x" * 200000) for _ in range(2)] + [ex.submit(nap, 0.1, 1)]
            report.check("a large result is waited for until the service can be reached", [len(str(x.result(30))) for x in xs] == [200000, 200000, 1] and
                         client.asked == 4, client.asked)
            wait_for(lambda: ex.submit(shout, "x").result(20) and ex._lane.is_open, 30, "calls that their own threads send")
            answer = ex._lane.answer

            def told_by_the_stream_before(call):
                told = answer(call)
                task_id, document = told["results"].popitem()
                ex._early[task_id] = dict({k: v for k, v in document.items() if k != "result"}, result_ref="/v3/tasks/" + task_id)
                return told
            ex._lane.answer, client.asked = told_by_the_stream_before, -10 ** 9
            began, x = time.monotonic(), ex.submit(shout, "x", 1000)
            lone, late = x.in_air, raises(concurrent.futures.TimeoutError, lambda: x.result(2))
            took = time.monotonic() - began
            client.asked = 3
            report.check("but by nobody longer than he wants to wait", lone and late and took < 10 and x.result(30) == "X" * 1000, (lone, late, took))
        x = weft.Future(executor(f))
        x.set_running_or_notify_cancel()
        report.check("a call that is just failing is not cancelled", x.cancel() is False)
        x._executor.shutdown()


def interrupted(report, f):
    """The user interrupts while a call that is in the air is waited for."""
    script = ("import signal, sys, threading; sys.path.insert(0, %r); import weft\n"
              "signal.signal(signal.SIGINT, signal.default_int_handler)     # it may be ignored where tests run in the background\n"
              "weft.executor.LONE_WAIT_S = weft.executor.WATCH_S = 10.0\n"
              "with weft.Executor(%r, client=weft.Client(%r, sys.argv[1])) as ex:\n"
              "    while not ex._lane.sent:\n"
              "        ex.submit(sys.argv[2], 0).result(60)\n"
              "    x = ex.submit(sys.argv[2], 4)\n"
              "    assert x.in_air\n"
              "    threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT)).start()\n"
              "    try:\n"
              "        x.result()\n"
              "        sys.exit('not interrupted')\n"
              "    except KeyboardInterrupt:\n"
              "        print('interrupted')\n"
              "    assert x.result(60) == 4\n") % (os.path.dirname(os.path.dirname(weft.__file__)), f.endpoint, f.url)
    fid = f.client().register("python", "import time\ndef nap(s):\n    time.sleep(s)\n    return s\n", "nap", entry="nap")
    out = subprocess.run([sys.executable, "-c", script, f.token, fid], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
    report.check("an interrupt, and its result all the same", out.returncode == 0 and out.stdout == "interrupted\n", out.stdout)


def cancel(report, f):
    with NoDill():
        with executor(f) as ex:
            running = [ex.submit(nap, 60) for _ in range(2)]
            queued = [ex.submit(nap, 60) for _ in range(5)]
            wait_for(lambda: all(x.task_id for x in running + queued), 30, "accepted")
            wait_for(lambda: ex.client.task(running[0].task_id)["status"] == "running", 30, "running")
            report.check("cancel of running and queued", all(x.cancel() for x in queued + running))
            report.check("they are cancelled, here and there", all(x.cancelled() and x.done() for x in running + queued) and
                         all(d["status"] == "cancelled" for d in ex.client.tasks_status([x.task_id for x in running + queued]).values()))
            report.check("result raises CancelledError", raises(concurrent.futures.CancelledError, lambda: running[0].result(30)))
            done = ex.submit(square, 4)
            report.check("cancel of what has ended is False", done.result(20) == 16 and not done.cancel())
            other = ex.submit(nap, 60)
            wait_for(lambda: other.task_id, 30, "accepted")
            ex.client.cancel(other.task_id)
            report.check("cancelled by somebody else: the future says so", raises(concurrent.futures.CancelledError, lambda: other.result(30)))
            report.check("wait sees cancelled futures", len(concurrent.futures.wait(running + queued, timeout=30).done) == 7)
        ex = executor(f)
        left = [ex.submit(nap, 60) for _ in range(10)]
        wait_for(lambda: left[-1].task_id, 30, "accepted")
        began = time.monotonic()
        ex.shutdown(cancel_futures=True)
        report.check("shutdown with cancel_futures", all(x.cancelled() for x in left) and time.monotonic() - began < 40)
        with executor(f, time_limit_s=0.5) as ex:
            e = ex.submit(nap, 30).exception(20)
            report.check("the executor's time limit", isinstance(e, weft.TaskFailed) and e.document["code"] == "TASK_TIME_LIMIT", e)


def two(report, f):
    with NoDill():
        with executor(f) as a, executor(f) as b:
            fa, fb = [a.submit(square, i) for i in range(300)], [b.submit(shout, str(i)) for i in range(300)]
            report.check("two executors do not mix", [x.result(30) for x in fa] == [i * i for i in range(300)] and [x.result(30) for x in fb] == [str(i) for i in range(300)])
        with executor(f) as ex:
            out, threads = {}, []
            for k in range(8):
                threads.append(threading.Thread(target=lambda k=k: out.update({k: [x.result(30) for x in [ex.submit(square, k * 100 + i) for i in range(50)]]})))
                threads[-1].start()
            for t in threads:
                t.join()
            report.check("one executor, eight threads", all(out[k] == [(k * 100 + i) ** 2 for i in range(50)] for k in range(8)))


def with_dill(report, f):
    if dill is None:
        report.skip("with dill", "dill is not installed here")
        return
    factor = 7
    with executor(f) as ex:
        report.check("a closure", ex.submit(lambda x: x * factor, 6).result(30) == 42)
        report.check("a builtin", ex.submit(math.sqrt, 16).result(30) == 4.0)
        report.check("any object, both ways", ex.submit(lambda s: {len(s), "x"}, {1, 2, 3}).result(30) == {3, "x"})
        report.check("map", list(ex.map(lambda x: x + factor, range(100), timeout=30)) == [i + 7 for i in range(100)])
        e = ex.submit(fail, "dilled").exception(30)
        report.check("an exception", isinstance(e, weft.TaskFailed) and "dilled" in str(e), e)
        e = ex.submit(lambda: (x for x in ())).exception(30)
        report.check("a result that cannot be pickled", isinstance(e, weft.TaskFailed) and e.document["code"] == "TASK_ENCODE", e)


main(__doc__, [client, plain, many, prompt, lone_calls, alone, faults, interrupted, cancel, two, with_dill], make)

# SPDX-License-Identifier: Apache-2.0
"""What goes over: every serialisation strategy, kinds of functions, values and sizes; and what fails on the way."""
import base64
import os

import dill
import globus_compute_sdk.serialize as serialize
from globus_compute_sdk.serialize import ComputeSerializer
from sdk import ENDPOINT, VERSION, await_result, call, check, detail, end, make_client, raised, rest, skip

CODE = ["DillCode", "DillCodeSource", "DillCodeTextInspect", "PureSourceTextInspect", "PureSourceDill", "CombinedCode", "AllCodeStrategies"]
DATA = ["DillDataBase64", "JSONData", "AllDataStrategies"]


def scaled(values, factor=2):
    """Needs nothing from outside: source strategies take it as it stands."""
    import math
    return [math.floor(v * factor) for v in values]


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)

    def swapped(self):
        return type(self)(self.y, self.x)


def strategies():
    for code in CODE:
        for data in DATA:
            if not hasattr(serialize, code) or not hasattr(serialize, data):
                print("# this SDK has no %s with %s" % (code, data))
                continue
            c = make_client(code_serialization_strategy=getattr(serialize, code)(), data_serialization_strategy=getattr(serialize, data)())
            got = call(c, scaled, [1, 2.6], factor=3)
            check("%s with %s" % (code, data), got == [3, 7], got)
    if VERSION < (4, 0):
        return
    c = make_client(data_serialization_strategy=serialize.JSONData())
    b = c.create_batch(result_serializers=["globus_compute_sdk.serialize.JSONData"])
    b.add(c.register_function(scaled), args=([1],))
    b.add(c.register_function(lambda: len), args=())
    task, function = [ids[0] for ids in c.batch_run(ENDPOINT, b)["tasks"].values()]
    check("a result asked for as JSON", await_result(c, task) == [2])
    raw = rest("GET", "/v2/tasks/" + task)
    check("and it is JSON, not something that the SDK can read as well", raw["result"] == "11\n[2]", raw)
    check("a function asked for as JSON comes as code", await_result(c, function) is len and rest("GET", "/v2/tasks/" + function)["result"][:3] == "01\n")


def callables(c):
    offset = 10

    def closure(x):
        return x + offset

    def recursive(n):
        return 1 if n < 2 else n * recursive(n - 1)

    async def waits(x):
        import asyncio
        await asyncio.sleep(0.01)
        return x * 2

    def default(x, *rest, key="k", **more):
        return x, rest, key, more

    check("a closure", call(c, closure, 5) == 15)
    check("a lambda", call(c, lambda x: x ** 2, 7) == 49)
    check("a recursive function", call(c, recursive, 6) == 720)
    check("a coroutine function", call(c, waits, 4) == 8)
    check("positional, default, keyword arguments", call(c, default, 1, 2, 3, key="z", a=None) == (1, (2, 3), "z", {"a": None}))
    check("a function that gives a function", call(c, lambda n: lambda x: x + n, 3)(4) == 7)
    check("a function as an argument", call(c, lambda f, x: f(x), lambda x: x + 1, 1) == 2)
    check("a bound method", call(c, Point(1, 2).swapped) == Point(2, 1))


def values(c):
    def same(x):
        return x

    fid = c.register_function(same)

    def there_and_back(x):
        return await_result(c, c.run(x, endpoint_id=ENDPOINT, function_id=fid))

    samples = [None, True, 0, -1, 2 ** 70, 1.5, float("inf"), "", "ünïcödé \U0001f600 \0", b"\0\xff", [1, [2]], (1, 2), {1, 2}, {"a": {"b": [None]}},
               range(5), complex(1, 2)]
    wrong = [x for x in samples if there_and_back(x) != x]
    check("%d values of all kinds" % len(samples), not wrong, wrong)
    check("an instance of a class of the script", there_and_back(Point(3, 4)) == Point(3, 4))
    check("a class", there_and_back(Point)(1, 2) == Point(1, 2))
    exception = there_and_back(ValueError("kept"))
    check("an exception as a value", isinstance(exception, ValueError) and exception.args == ("kept",), exception)
    try:
        import numpy
    except ImportError:
        skip("numpy arrays", "no numpy in this environment")
        return
    array = numpy.arange(12, dtype="float32").reshape(3, 4)
    got = there_and_back(array)
    check("a numpy array", got.dtype == array.dtype and (got == array).all(), got)
    check("a numpy scalar and a structured array", there_and_back(numpy.int16(7)) == 7 and
          there_and_back(numpy.zeros(2, dtype=[("a", "i4"), ("b", "U3")])).dtype.names == ("a", "b"))

    def mean(a):
        import numpy
        return numpy.mean(a)

    check("numpy in the function", call(c, mean, array) == 5.5)


def sizes(c):
    def length(x):
        return len(x)

    fid = c.register_function(length)
    nine = base64.b64encode(os.urandom(9 * 1000 * 1000 * 3 // 4)).decode()
    plain = make_client(data_serialization_strategy=serialize.JSONData())
    check("an argument of 9 MB, as JSON", await_result(plain, plain.run(nine, endpoint_id=ENDPOINT, function_id=fid)) == len(nine))
    check("an argument of 9 MB, pickled", await_result(c, c.run(os.urandom(6600000), endpoint_id=ENDPOINT, function_id=fid)) == 6600000)

    def make(n):
        return "x" * n

    check("a result of 7 MB", call(c, make, 7000000) == "x" * 7000000)
    e = raised(call, c, make, 11 << 20)
    check("MaxResultSizeExceeded", type(e).__name__ == "TaskExecutionFailed" and "MaxResultSizeExceeded" in str(e), repr(e)[:300])
    e = raised(c.run, "x" * (12 << 20), endpoint_id=ENDPOINT, function_id=fid)
    check("an argument over the limit", detail(e)[:2] == (413, "TASK_PAYLOAD_TOO_LARGE"), repr(e)[:300])


def failures(c):
    def deep(x):
        def inner(y):
            return {}[y]
        return inner(x)

    e = raised(call, c, deep, "on purpose")
    check("an exception comes back with its traceback", type(e).__name__ == "TaskExecutionFailed" and "KeyError: 'on purpose'" in str(e)
          and "in inner" in str(e) and "in deep" in str(e), repr(e))

    class Own(Exception):
        pass

    def fails():
        raise Own("of a class of one's own")

    e = raised(call, c, fails)
    check("an exception of one's own class", "of a class of one's own" in str(e), repr(e))
    e = raised(call, c, lambda: __import__("sys").exit(3))
    check("sys.exit is a failure, and no end of the worker", "SystemExit" in str(e), repr(e))
    e = raised(call, c, lambda: __import__("os").kill(__import__("os").getpid(), 11))
    check("a function that crashes says so", "signal 11" in str(e), repr(e))
    e = raised(call, c, lambda: (x for x in "abc"))
    check("a result that cannot be pickled", type(e).__name__ == "TaskExecutionFailed" and "cannot serialise the return value, a generator" in str(e), repr(e))

    def module():
        import no_such_module
        return no_such_module

    e = raised(call, c, module)
    check("a module that the endpoint lacks", "No module named 'no_such_module'" in str(e), repr(e))
    e = raised(call, c, deep)
    check("a call with the wrong arguments", "missing 1 required positional argument" in str(e), repr(e))
    check("and the next call is served", call(c, lambda: "served") == "served")


def shell(c):
    from globus_compute_sdk import ShellFunction
    got = call(c, ShellFunction("echo {what}; echo more >&2; exit 3"), what="said")
    # its own class on the endpoint adds a line about sandboxes to stderr
    check("ShellFunction", (got.returncode, got.stdout) == (3, "said\n") and got.stderr.startswith("more\n"), vars(got))
    got = call(c, ShellFunction("sleep 60", walltime=1))
    check("ShellFunction over its walltime", got.returncode == 124 and got.exception_name == "subprocess.TimeoutExpired", vars(got))


def main():
    print("# dill", dill.__version__, "packed:", len(ComputeSerializer().pack_buffers(["00\nx"])))
    c = make_client()
    strategies()
    callables(c)
    values(c)
    sizes(c)
    failures(c)
    shell(c)
    end()


main()

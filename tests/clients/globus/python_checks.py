# SPDX-License-Identifier: Apache-2.0
"""A submitter whose Python is another one than the endpoint's first. The argument: `alone`, the endpoint has none like ours, or `both`."""
import platform
import sys
import warnings

import globus_compute_sdk.serialize as serialize
from sdk import ENDPOINT, await_result, check, detail, end, make_client, raised

MINE = "%d.%d" % sys.version_info[:2]


def which(x=0):
    import sys
    return "%d.%d" % sys.version_info[:2]


def shown(function, *args, **kwargs):
    """Its value, and the warnings that a user sees."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        return function(*args, **kwargs), " ".join(str(w.message) for w in seen if issubclass(w.category, UserWarning))


def alone(theirs):
    c = make_client()
    got = detail(raised(c.run, endpoint_id=ENDPOINT, function_id=c.register_function(which)))
    check("bytecode is refused at submission, with both versions", got[:2] == (422, "SEMANTICALLY_INVALID") and MINE in got[2] and theirs in got[2], got)
    check("and with what to do", "PureSourceTextInspect" in got[2], got)
    c = make_client(code_serialization_strategy=serialize.PureSourceTextInspect())
    task, warned = shown(c.run, 1, endpoint_id=ENDPOINT, function_id=c.register_function(which))
    check("source runs on the other version", await_result(c, task) == theirs)
    check("the submission warned", MINE in warned and theirs in warned, warned)
    c = make_client(code_serialization_strategy=serialize.AllCodeStrategies())
    check("all strategies at once: the source is taken", await_result(c, c.run(1, endpoint_id=ENDPOINT, function_id=c.register_function(which))) == theirs)

    c = make_client(code_serialization_strategy=serialize.PureSourceDill())
    e = raised(lambda: await_result(c, c.run(of_ours, endpoint_id=ENDPOINT, function_id=c.register_function(held_by))))
    check("a function of ours among the arguments: fails, with both versions", e is not None and MINE in str(e) and theirs in str(e), repr(e))
    check("and no worker is lost", await_result(c, c.run(1, endpoint_id=ENDPOINT, function_id=c.register_function(which))) == theirs)


def both(theirs):
    c = make_client()
    task, warned = shown(c.run, endpoint_id=ENDPOINT, function_id=c.register_function(which))
    check("the endpoint takes the interpreter like ours", await_result(c, task) == MINE)
    check("nobody warns", not warned, warned)
    got, warned = shown(c.get_task, c.run(endpoint_id=ENDPOINT, function_id=c.register_function(which)))
    check("get_endpoint_metadata names what it has", c.get_endpoint_metadata(ENDPOINT)["pythons"] == [theirs, MINE], c.get_endpoint_metadata(ENDPOINT))
    check("a function among the arguments", await_result(c, c.run(of_ours, endpoint_id=ENDPOINT, function_id=c.register_function(held_by))) == "none")


def held_by(f):
    return f(1)


def of_ours(x):
    """Bytecode that differs from one version to the next."""
    try:
        with open("/dev/null") as f:
            return [y for y in range(x) if y or f.closed] or "none"
    finally:
        del x


print("# Python", platform.python_version())
{"alone": alone, "both": both}[sys.argv[1]](sys.argv[2])
end()

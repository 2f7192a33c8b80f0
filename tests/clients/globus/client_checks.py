# SPDX-License-Identifier: Apache-2.0
"""Each method of Client, as its documentation calls it."""
import time
import uuid

import globus_compute_sdk
from sdk import ENDPOINT, VERSION, await_result, call, check, detail, end, make_client, raised, rest

BATCH = 1000


def double(x, y=1):
    return 2 * x + y


def functions(c):
    fid = c.register_function(double, description="twice, and more", public=False)
    check("register_function", uuid.UUID(fid))
    doc = c.get_function(fid)
    check("get_function", doc["function_uuid"] == fid and doc["function_name"] == "double" and doc["function_code"]
          and doc["description"] == "twice, and more", doc)
    if VERSION >= (3, 4):
        check("its metadata is the interpreter's", doc["metadata"]["python_version"] and doc["metadata"]["sdk_version"], doc)
    else:                               # later ones refuse, or make it themselves
        named = c.register_function(double, metadata={"python_version": "3.11.2", "sdk_version": "x"})
        check("metadata of one's own", c.get_function(named)["metadata"]["sdk_version"] == "x", c.get_function(named))
    if hasattr(c, "register_source_code"):
        source = c.register_source_code("import math\n\ndef area(r):\n    return math.pi * r * r\n", "area")
        got = await_result(c, c.run(2, endpoint_id=ENDPOINT, function_id=source))
        check("register_source_code", 12.56 < got < 12.57, got)
    return fid


def tasks(c, fid):
    task = c.run(21, y=0, endpoint_id=ENDPOINT, function_id=fid)
    check("run", uuid.UUID(task))
    check("run with a UUID object for the endpoint", uuid.UUID(c.run(1, endpoint_id=uuid.UUID(ENDPOINT), function_id=fid)))
    check("get_result", await_result(c, task) == 42)
    check("get_result again, by another client", make_client().get_result(task) == 42)
    doc = c.get_task(task)
    check("get_task of a finished task", doc["pending"] is False and doc["status"] == "success" and doc["result"] == 42
          and float(doc["completion_t"]) > 1.6e9, doc)

    def slow():
        import time
        time.sleep(3)
        return "done"

    task = c.run(endpoint_id=ENDPOINT, function_id=c.register_function(slow))
    e = raised(c.get_result, task)
    check("get_result of a task that runs raises TaskPending", type(e).__name__ == "TaskPending", repr(e))
    check("get_task of a task that runs", c.get_task(task)["pending"] is True, c.get_task(task))
    check("its result comes", await_result(c, task) == "done")
    e = raised(c.get_task, str(uuid.uuid4()))
    check("get_task of an unknown task", detail(e)[0] == 404, repr(e))
    docs = c.get_batch_result([task, str(uuid.uuid4())])
    check("get_batch_result with an unknown id gives the others", docs[task]["result"] == "done", docs)


def collect(c, ids, seconds=120):
    until, results = time.monotonic() + seconds, {}
    while len(results) < len(ids) and time.monotonic() < until:
        docs = c.get_batch_result([t for t in ids if t not in results])
        results.update({t: d["result"] for t, d in docs.items() if not d.get("pending", True) and "result" in d})
        time.sleep(0.05)
    return [results.get(t) for t in ids]


def batches(c, fid):
    b = c.create_batch()
    for i in range(BATCH):
        b.add(fid, args=(i,), kwargs={"y": i})
    answer = c.batch_run(ENDPOINT, b)
    ids = answer["tasks"][fid]
    check("batch_run answers an id for each task, and UUIDs", len(set(ids)) == BATCH and uuid.UUID(answer["request_id"])
          and uuid.UUID(answer["task_group_id"]) and answer["endpoint_id"] == ENDPOINT, answer)
    check("get_batch_result: every result of a batch of %d, in order" % BATCH, collect(c, ids) == [3 * i for i in range(BATCH)])

    def negate(x):
        return -x

    other = c.register_function(negate)
    b = c.create_batch(task_group_id=answer["task_group_id"])
    for i in range(10):
        b.add(fid, args=(i,))
        b.add(other, args=(i,))
    second = c.batch_run(ENDPOINT, b)
    check("a batch of two functions in the group of another", second["task_group_id"] == answer["task_group_id"]
          and len(second["tasks"][fid]) == len(second["tasks"][other]) == 10, second)
    check("its results", collect(c, second["tasks"][fid] + second["tasks"][other]) == [2 * i + 1 for i in range(10)] + [-i for i in range(10)])
    b = c.create_batch(task_group_id=str(uuid.uuid4()))
    b.add(fid, args=(1,))
    e = raised(c.batch_run, ENDPOINT, b)
    check("a task group that does not exist", detail(e)[:2] == (404, "TASK_GROUP_NOT_FOUND"), repr(e))
    e = raised(c.batch_run, ENDPOINT, c.create_batch())
    check("an empty batch is refused, by the SDK or here", isinstance(e, ValueError) or detail(e)[:2] == (422, "SEMANTICALLY_INVALID"), repr(e))
    b = c.create_batch(user_endpoint_config={"worker_init": "true", "cores": 2})
    b.add(fid, args=(5,))
    check("user_endpoint_config is taken", collect(c, c.batch_run(ENDPOINT, b)["tasks"][fid]) == [11])
    for spec in ({}, {"priority": 3}):      # what Globus Compute's engines for single nodes take
        b = c.create_batch(resource_specification=spec)
        b.add(fid, args=(5,))
        check("resource_specification %s asks for no nodes" % spec, collect(c, c.batch_run(ENDPOINT, b)["tasks"][fid]) == [11])
    b = c.create_batch(resource_specification={"num_nodes": 2, "ranks_per_node": 1})
    b.add(fid, args=(5,))
    e = raised(c.batch_run, ENDPOINT, b)
    check("resource_specification: an endpoint without a launcher refuses it", detail(e)[0] == 422 and "mpi_launcher" in str(e), repr(e))
    if VERSION >= (3, 0):
        b = c.create_batch(result_serializers=["globus_compute_sdk.serialize.JSONData"])
        b.add(fid, args=(5,))
        check("result_serializers are taken", collect(c, c.batch_run(ENDPOINT, b)["tasks"][fid]) == [11])


def endpoints(c):
    status = c.get_endpoint_status(ENDPOINT)
    check("get_endpoint_status", status["status"] == "online" and status["details"]["total_workers"] >= 1, status)
    mine = [e for e in c.get_endpoints() if e["uuid"] == ENDPOINT]
    check("get_endpoints", len(mine) == 1 and mine[0]["name"] and mine[0]["owner"], mine)
    if VERSION >= (3, 0):
        check("get_endpoints (role=any)", any(e["uuid"] == ENDPOINT for e in c.get_endpoints(role="any")))
    meta = c.get_endpoint_metadata(ENDPOINT)
    check("get_endpoint_metadata", meta["uuid"] == ENDPOINT and meta["hostname"] and meta["multi_user"] is False, meta)
    got = c.get_allowed_functions(ENDPOINT)
    check("get_allowed_functions: any", got["restricted"] is False and got["functions"] == [], got)


def stopped_tasks(c):
    """Time limits and cancelling are not in the SDK: they come from elsewhere, and the SDK shows how the task ended."""
    def sleep(s):
        import time
        time.sleep(s)
        return s

    doc = c.get_function(c.register_function(sleep))
    limited = rest("POST", "/v3/functions", {"function_name": "sleep", "function_code": doc["function_code"], "meta": doc["metadata"] or {},
                                             "limits": {"time_limit_s": 1}})["function_uuid"]
    e = raised(await_result, c, c.run(60, endpoint_id=ENDPOINT, function_id=limited))
    check("a task over its time limit", type(e).__name__ == "TaskExecutionFailed" and "time limit" in str(e), repr(e))
    task = c.run(60, endpoint_id=ENDPOINT, function_id=doc["function_uuid"])
    rest("DELETE", "/v3/tasks/" + task)
    e = raised(await_result, c, task)
    check("a task that is cancelled", type(e).__name__ == "TaskExecutionFailed" and "cancelled" in str(e), repr(e))
    check("and what comes after", await_result(c, c.run(0, endpoint_id=ENDPOINT, function_id=limited)) == 0)


def own_endpoint(c, fid):
    """One that this client registers itself: nobody serves it."""
    answer = c.register_endpoint("by-the-sdk", None, metadata={"description": "of a test", "hostname": "here"}, allowed_functions=[fid])
    ep = answer["endpoint_id"]
    check("register_endpoint", uuid.UUID(ep) and answer["result_queue_info"]["connection_url"] and answer["task_queue_info"], answer)
    check("its status", c.get_endpoint_status(ep)["status"] == "offline", c.get_endpoint_status(ep))
    check("its metadata", c.get_endpoint_metadata(ep)["description"] == "of a test", c.get_endpoint_metadata(ep))
    got = c.get_allowed_functions(ep)
    check("get_allowed_functions: one", got["restricted"] is True and got["functions"] == [fid], got)
    check("an allowed function waits for it", uuid.UUID(c.run(1, endpoint_id=ep, function_id=fid)))
    e = raised(c.run, 1, endpoint_id=ep, function_id=c.register_function(lambda x: x))
    check("a function that is not allowed", detail(e)[:2] == (403, "FUNCTION_NOT_PERMITTED") and "not permitted" in detail(e)[2], repr(e))
    answer = c.register_endpoint("by-the-sdk", ep, metadata={"description": "changed"}, display_name="Shown")
    check("register_endpoint of a known id changes it", answer["endpoint_id"] == ep and c.get_endpoint_metadata(ep)["display_name"] == "Shown", answer)
    stopped = c.stop_endpoint(ep)
    check("stop_endpoint", stopped["endpoint_id"] == ep and stopped["lock_expiration_timestamp"], stopped)
    e = raised(c.register_endpoint, "by-the-sdk", ep)
    check("a stopped endpoint cannot register for a while", detail(e)[0] == 423, repr(e))
    check("delete_endpoint", c.delete_endpoint(ep)["result"] == 302)
    e = raised(c.run, 1, endpoint_id=ep, function_id=fid)
    check("a deleted endpoint takes nothing", detail(e)[:2] == (404, "ENDPOINT_NOT_FOUND"), repr(e))


def removal(c, fid):
    check("delete_function", c.delete_function(fid)["result"] == 302)
    e = raised(c.run, 1, endpoint_id=ENDPOINT, function_id=fid)
    check("a deleted function cannot be run", detail(e)[:2] == (404, "FUNCTION_NOT_FOUND"), repr(e))


def containers(c):
    if not hasattr(c, "register_container"):
        print("# SDK %s has no register_container" % globus_compute_sdk.__version__)
        return
    check("register_container", uuid.UUID(c.register_container("docker.io/library/python:3.11", "docker", "py", "Python")))


def main():
    print("# SDK", globus_compute_sdk.__version__)
    c = make_client()
    c.version_check()
    check("version_check", True)
    fid = functions(c)
    tasks(c, fid)
    batches(c, fid)
    endpoints(c)
    stopped_tasks(c)
    own_endpoint(c, fid)
    containers(c)
    report = call(c, lambda: __import__("os").environ["GC_TASK_UUID"])
    check("GC_TASK_UUID names the task", uuid.UUID(report))
    got = await_result(c, c.get_worker_hardware_details(ENDPOINT))
    check("get_worker_hardware_details", isinstance(got, str) and "CPU" in got.upper(), got)
    removal(c, fid)
    end()


main()

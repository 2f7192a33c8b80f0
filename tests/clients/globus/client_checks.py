# SPDX-License-Identifier: Apache-2.0
"""Run inside a virtual environment with the SDK: WEFT_URL, WEFT_TOKEN, WEFT_ENDPOINT name the service. Prints `ok - `/`not ok - ` lines.

The SDK knows only fixed service addresses; its clients are pointed at ours by their base_url attributes, no SDK file is changed.
"""
import inspect
import os
import sys
import time
import uuid

import globus_compute_sdk
import globus_sdk
from globus_compute_sdk import Client

URL, TOKEN, ENDPOINT = (os.environ["WEFT_" + k] for k in ("URL", "TOKEN", "ENDPOINT"))
BATCH = 1000
failed = 0


def check(name, ok, why=""):
    global failed
    failed += not ok
    print(("ok - " if ok else "not ok - ") + name + ("" if ok else ": " + str(why).replace("\n", " ")[:500]))
    sys.stdout.flush()


class Manager:
    """What SDK 2.x asks for a token: its login_manager interface."""

    def __init__(self, token):
        self.token = token

    def ensure_logged_in(self):
        return True

    def logout(self):
        return True

    def get_auth_client(self):
        return None

    def get_web_client(self, *, base_url=None, **_):
        from globus_compute_sdk.sdk.web_client import WebClient
        return WebClient(base_url=URL, authorizer=globus_sdk.AccessTokenAuthorizer(self.token))

    def get_identity_resource_name(self):
        return ""


def make_client(token=TOKEN):
    auth = globus_sdk.AccessTokenAuthorizer(token)
    if "authorizer" in inspect.signature(Client.__init__).parameters:
        c = Client(local_compute_services=True, authorizer=auth, do_version_check=False)
    else:
        c = Client(login_manager=Manager(token), do_version_check=False)
    for holder in ("_compute_web_client",):
        web = getattr(c, holder, None)
        if web is not None:
            for v in ("v2", "v3"):
                if hasattr(web, v):
                    getattr(web, v).base_url = URL
    if getattr(c, "web_client", None) is not None and hasattr(c.web_client, "base_url"):
        c.web_client.base_url = URL
    return c


def await_result(client, task, seconds=60):
    end = time.monotonic() + seconds
    while True:
        try:
            return client.get_result(task)
        except Exception as e:
            if "pending" not in str(e).lower() and type(e).__name__ != "TaskPending":
                raise
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


def main():
    print("# SDK", globus_compute_sdk.__version__)
    c = make_client()
    c.version_check()
    check("version_check", True)

    def double(x, y=1):
        return 2 * x + y

    fid = c.register_function(double)
    check("register_function", uuid.UUID(fid))
    task = c.run(21, y=0, endpoint_id=ENDPOINT, function_id=fid)
    check("run", uuid.UUID(task))
    check("get_result", await_result(c, task) == 42)
    check("get_task of a finished task", c.get_task(task).get("status") == "success", c.get_task(task))

    b = c.create_batch()
    for i in range(BATCH):
        try:
            b.add(fid, args=(i,), kwargs={"y": i})
        except (TypeError, ValueError):
            b.add(function_id=fid, endpoint_id=ENDPOINT, args=(i,), kwargs={"y": i})
    try:
        answer = c.batch_run(ENDPOINT, b)
    except TypeError:
        answer = c.batch_run(b)
    ids = answer["tasks"][fid] if isinstance(answer, dict) else answer
    check("batch_run gives an id per task", len(ids) == BATCH, len(ids))
    end, results = time.monotonic() + 120, {}
    while len(results) < BATCH and time.monotonic() < end:
        docs = c.get_batch_result([t for t in ids if t not in results])
        results.update({t: d["result"] for t, d in docs.items() if not d.get("pending", True) and "result" in d})
        time.sleep(0.05)
    right = sum(1 for i, t in enumerate(ids) if results.get(t) == 3 * i)
    check("every result of a batch of %d is right" % BATCH, right == BATCH, right)

    def fail():
        raise KeyError("on purpose")

    task = c.run(endpoint_id=ENDPOINT, function_id=c.register_function(fail))
    try:
        value = await_result(c, task)
        check("an exception comes back", False, value)
    except Exception as e:
        check("an exception comes back", "KeyError" in str(e) and "on purpose" in str(e), repr(e))

    check("get_endpoint_status", c.get_endpoint_status(ENDPOINT).get("status") == "online", c.get_endpoint_status(ENDPOINT))
    check("get_endpoints", any(e["uuid"] == ENDPOINT for e in c.get_endpoints()))
    if hasattr(c, "get_endpoint_metadata"):
        check("get_endpoint_metadata", c.get_endpoint_metadata(ENDPOINT)["uuid"] == ENDPOINT)
    if hasattr(c, "get_allowed_functions"):
        got = c.get_allowed_functions(ENDPOINT)
        check("get_allowed_functions", got["restricted"] is False if isinstance(got, dict) or hasattr(got, "data") else got is not None, got)
    if hasattr(c, "get_function"):
        check("get_function", c.get_function(fid)["function_uuid"] == fid)
    if hasattr(c, "delete_function"):
        c.delete_function(fid)
        try:
            c.run(1, endpoint_id=ENDPOINT, function_id=fid)
            check("a deleted function cannot be run", False)
        except Exception as e:
            check("a deleted function cannot be run", getattr(e, "http_status", 404) == 404, repr(e))
    try:
        c.run(1, endpoint_id=str(uuid.uuid4()), function_id=c.register_function(double))
        check("unknown endpoint", False)
    except Exception as e:
        check("unknown endpoint", getattr(e, "http_status", None) == 404, repr(e))
    try:
        make_client("wrong-token").get_endpoints()
        check("wrong token", False)
    except Exception as e:
        check("wrong token", getattr(e, "http_status", None) == 401, repr(e))
    sys.exit(1 if failed else 0)


main()

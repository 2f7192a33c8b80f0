# SPDX-License-Identifier: Apache-2.0
"""What the *_checks.py share. They run inside a virtual environment with the SDK; WEFT_URL, WEFT_TOKEN, WEFT_ENDPOINT name the fabric.

The SDK knows only fixed service addresses; its clients are pointed at ours by their base_url attributes, no SDK file is changed.
"""
import inspect
import json
import logging
import os
import sys
import time
import urllib.request
import warnings

import globus_compute_sdk
import globus_sdk
from globus_compute_sdk import Client

URL, TOKEN, ENDPOINT = (os.environ.get("WEFT_" + k, "") for k in ("URL", "TOKEN", "ENDPOINT"))
VERSION = tuple(int(x) for x in globus_compute_sdk.__version__.split(".")[:2])
failed = 0
logging.getLogger("globus_compute_sdk").setLevel(logging.CRITICAL)     # it reports each failed task on standard error
warnings.simplefilter("ignore", DeprecationWarning)


def check(name, ok, why=""):
    global failed
    failed += not ok
    print(("ok - " if ok else "not ok - ") + name + ("" if ok else ": " + str(why).replace("\n", " ")[:500]))
    sys.stdout.flush()
    return ok


def skip(name, reason):
    print("skip - %s: %s" % (name, reason))


def end():
    sys.exit(1 if failed else 0)


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


def make_client(token=None, **kw):
    token = token or TOKEN
    auth = globus_sdk.AccessTokenAuthorizer(token)
    if "authorizer" in inspect.signature(Client.__init__).parameters:
        c = Client(local_compute_services=True, authorizer=auth, do_version_check=False, **kw)
    else:
        c = Client(login_manager=Manager(token), do_version_check=False, **kw)
    web = getattr(c, "_compute_web_client", None)
    for v in ("v2", "v3"):
        if hasattr(web, v):
            getattr(web, v).base_url = URL
    if VERSION < (4, 9):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if getattr(c, "web_client", None) is not None:
                c.web_client.base_url = URL
    return c


def await_result(client, task, seconds=120):
    """Its value, or what get_result raises of a task that failed."""
    end_at = time.monotonic() + seconds
    while True:
        try:
            return client.get_result(task)
        except Exception as e:
            if type(e).__name__ != "TaskPending" or time.monotonic() > end_at:
                raise
        time.sleep(0.05)


def call(client, function, *args, **kwargs):
    """Register, run, wait: the result."""
    return await_result(client, client.run(*args, endpoint_id=ENDPOINT, function_id=client.register_function(function), **kwargs))


def rest(method, path, body=None):
    """A call of the service past the SDK, for what the SDK has no method for."""
    request = urllib.request.Request(URL + path, method=method, data=None if body is None else json.dumps(body).encode(),
                                     headers={"Authorization": "Bearer " + TOKEN, "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as r:
        return json.load(r)


def raised(function, *args, **kwargs):
    """The exception that the call raises; None when it raises none."""
    try:
        function(*args, **kwargs)
    except Exception as e:
        return e
    return None


def detail(e):
    """HTTP status, code and text of an API error, as the SDK shows it."""
    return getattr(e, "http_status", None), getattr(e, "code", None), str(getattr(e, "message", None) or e)

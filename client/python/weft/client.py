# SPDX-License-Identifier: Apache-2.0
"""One method per route. Thread-safe: each thread has its own keep-alive connection."""
from __future__ import annotations

import json
import os
import random
import ssl
import sys
import threading
import time
import urllib.parse
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from . import serialize
from .connection import Connection
from .errors import LimitError, ServiceUnavailable, TaskCancelled, TaskFailed, TaskPending, WeftError
from .stream import EventStream
from .transport import BACKOFF_S, error_of

VERSION = "0.1.0"
RETRIES = 6           # of requests that did not reach the service, or that it could not serve now
MAX_WAIT_S = 300.0    # what the service allows for ?wait
STATUS_MAX = 1000     # tasks whose states are asked for at once, when their ends were not told
ENDED = ("success", "failed", "cancelled")
Document = Dict[str, Any]
Files = Union[None, Mapping[str, str], Sequence[Mapping[str, Any]]]
Outputs = Iterable[Union[str, Mapping[str, Any]]]


def _outputs(outputs: Outputs, keep: bool) -> List[Any]:
    return [{"name": o, "keep": True} if keep and isinstance(o, str) else o if isinstance(o, str) else dict(o) for o in outputs or ()]


def _files(files: Files) -> List[Dict[str, Any]]:
    """{name: "URL#sha256=HEX"}, or what the API takes, as what the API takes."""
    if not isinstance(files, Mapping):
        return [dict(f) for f in files or ()]
    out = []
    for name, url in files.items():
        url, _, rest = url.partition("#")
        entry: Dict[str, Any] = {"name": name, "url": url}
        for key, value in urllib.parse.parse_qsl(rest):
            entry[key] = int(value) if key == "max_bytes" else value
        out.append(entry)
    return out


def new_key() -> str:
    """An Idempotency-Key: a request that is sent again with it makes no second task."""
    return os.urandom(16).hex()


def submission_path(endpoint_id: str, wait: float = 0.0) -> str:
    return "/v3/endpoints/%s/submit" % endpoint_id + ("?wait=%g" % wait if wait else "")


def submission(function_id: str, payloads: Iterable[Any], task_group_id: Optional[str] = None, time_limit_s: Optional[float] = None,
               memory_limit_bytes: Optional[int] = None, memoize: bool = True, expected_s: Optional[float] = None, watch: bool = False,
               files: Files = None, outputs: Outputs = (), keep_outputs: bool = False,
               resource_specification: Optional[Mapping[str, Any]] = None) -> Document:
    """The body of a submission, see :meth:`Client.submit`."""
    body: Document = {"tasks": {str(function_id): list(payloads)}, "create_queue": bool(watch)}
    limits: Dict[str, float] = {}
    if time_limit_s is not None:
        limits["time_limit_s"] = time_limit_s
    if memory_limit_bytes is not None:
        limits["memory_limit_bytes"] = memory_limit_bytes
    if expected_s is not None:
        limits["expected_s"] = expected_s
    if limits:
        body["limits"] = limits
    if not memoize:
        body["memoize"] = False
    if files:
        body["files"] = _files(files)
    if outputs:
        body["outputs"] = _outputs(outputs, keep_outputs)
    if resource_specification:
        body["resource_specification"] = dict(resource_specification)
    if task_group_id:
        body["task_group_id"] = str(task_group_id)
    return body


class Client:
    """Talk to a Weft service.

    url, token: default to WEFT_URL and WEFT_TOKEN. timeout: seconds for an answer that is not waited for on purpose.
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, timeout: float = 60.0, ca_file: Optional[str] = None):
        self.url = (url or os.environ.get("WEFT_URL") or "http://127.0.0.1:5000").rstrip("/")
        self._token = token or os.environ.get("WEFT_TOKEN")
        if not self._token:
            raise WeftError("no token: pass token=, or set WEFT_TOKEN (`weft env` prints it)")
        self.timeout = timeout
        self._parts = urllib.parse.urlsplit(self.url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise WeftError("%r is not a URL of a service; expected http://HOST:PORT or https://HOST:PORT" % self.url)
        self._ssl = ssl.create_default_context(cafile=ca_file) if self._parts.scheme == "https" else None
        self._local = threading.local()

    def __repr__(self) -> str:
        return "weft.Client(%r)" % self.url

    def __getstate__(self) -> Dict[str, Any]:
        raise TypeError("a weft.Client holds a token and connections: it is not sent along with a function; make one there")

    # ---- transport

    def _connect(self, timeout: float) -> Connection:
        return Connection(self._parts.hostname or "", self._parts.port, self._ssl, timeout)

    def _headers(self) -> Dict[str, str]:
        return {"Authorization": "Bearer %s" % self._token, "User-Agent": "weft-sdk/" + VERSION}

    def _submission_headers(self, key: str) -> Dict[str, str]:
        return dict(self._headers(), **{"Content-Type": "application/json", "Idempotency-Key": key})

    def _path(self, path: str) -> str:
        return self._parts.path + path

    def _connection(self, timeout: float) -> Connection:
        c: Optional[Connection] = getattr(self._local, "connection", None)
        if c is None or self._local.process != os.getpid():    # a forked process does not talk on its parent's
            c = self._local.connection = self._connect(timeout)
            self._local.process = os.getpid()
        c.set_timeout(timeout)
        return c

    def request(self, method: str, path: str, body: Any = None, wait: float = 0.0, headers: Optional[Mapping[str, str]] = None,
                raw: bool = False) -> Any:
        """Send one request; returns the decoded JSON answer. Retries what is safe to send again. body: an object, or its JSON as bytes."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        head = self._headers()
        if data is not None:
            head["Content-Type"] = "application/json"
        head.update(headers or {})
        safe = method != "POST" or "Idempotency-Key" in head or not path.startswith("/v3/endpoints/")
        last: Optional[Exception] = None
        for attempt in range(RETRIES):
            if attempt:
                time.sleep(min(5.0, BACKOFF_S * 2 ** attempt) * random.uniform(0.5, 1.5))
            c = self._connection(self.timeout + wait)
            fresh = c.sock is None
            try:
                status = c.request(method, self._path(path), head, data)
                text = c.read()
            except OSError as e:
                c.close()
                last = e
                if not safe and not fresh and not isinstance(e, ConnectionRefusedError):
                    raise ServiceUnavailable("the connection to %s broke during %s %s: %s" % (self.url, method, path, e)) from e
                continue
            # 409: an earlier try of this very request is still being worked on
            if status in (429, 502, 503, 504) or (status == 409 and "Idempotency-Key" in head):
                last = error_of(status, text)
                pause = c.headers.get("retry-after", "")
                if pause.isdigit() and attempt + 1 < RETRIES:
                    time.sleep(min(float(pause), 5.0))
                continue
            if status >= 400:
                raise error_of(status, text)
            if raw:
                return text
            try:
                return json.loads(text) if text else None
            except ValueError as e:
                raise WeftError("%s answered %s %s with %r, which is no JSON: is it the service, or a page of something in between?" %
                                (self.url, method, path, text[:80])) from e
        if isinstance(last, LimitError):
            raise last
        raise ServiceUnavailable("%s does not answer %s %s: %s" % (self.url, method, path, last))

    # ---- about

    def version(self) -> Document:
        return self.request("GET", "/v2/version?service=all")

    def whoami(self) -> Document:
        return self.request("GET", "/v3/whoami")

    # ---- functions

    def register_function(self, function: Callable[..., Any], name: Optional[str] = None, public: bool = False,
                          description: Optional[str] = None, time_limit_s: Optional[float] = None, memory_limit_bytes: Optional[int] = None,
                          container: Any = None, memoize: bool = False, batch: Union[None, int, Mapping[str, int]] = None,
                          files: Files = None) -> str:
        """Register a Python callable; returns its id.

        memoize: the endpoint may answer equal calls with the result of an earlier one. batch: {"max": N, "latency_ms": M}, or N: the
        function takes a list of up to N inputs and returns a list of results (an exception in it fails that input only). files: brought to the
        work directory of each of its calls, see submit."""
        return self._register_function(function, name=name, public=public, description=description, time_limit_s=time_limit_s,
                                       memory_limit_bytes=memory_limit_bytes, container=container, memoize=memoize, batch=batch, files=files)[0]

    def _register_function(self, function: Callable[..., Any], name: Optional[str] = None, **more: Any) -> Tuple[str, str]:
        """(id, kind)"""
        kind, code, entry = serialize.encode_function(function)
        return self.register(kind, code, name or entry, entry=entry, **more), kind

    def register_command(self, argv: Sequence[str], name: Optional[str] = None, env: Optional[Mapping[str, str]] = None, **more: Any) -> str:
        """Register a command: a payload becomes its standard input, its standard output the result."""
        code = json.dumps({"argv": list(argv), "env": dict(env or {})})
        return self.register("command", code, name or os.path.basename(argv[0]), **more)

    def register(self, kind: str, code: str, name: str, entry: Optional[str] = None, public: bool = False, description: Optional[str] = None,
                 time_limit_s: Optional[float] = None, memory_limit_bytes: Optional[int] = None, container: Any = None, memoize: bool = False,
                 batch: Union[None, int, Mapping[str, int]] = None, files: Files = None, outputs: Outputs = (), keep_outputs: bool = False) -> str:
        """Register code of a kind: globus, python, command or shared_object. See the service's /openapi.json."""
        body: Document = {"function_name": name, "function_code": code, "kind": kind, "public": bool(public),
                "meta": {"python_version": "%d.%d.%d" % sys.version_info[:3], "sdk_version": "weft-" + VERSION,
                         "serde_identifier": "01" if kind == "globus" else ""}}
        limits: Dict[str, float] = {}
        if time_limit_s is not None:
            limits["time_limit_s"] = time_limit_s
        if memory_limit_bytes is not None:
            limits["memory_limit_bytes"] = memory_limit_bytes
        for key, value in (("entry", entry), ("description", description), ("container", container), ("limits", limits),
                           ("memoize", bool(memoize)), ("batch", {"max": batch} if isinstance(batch, int) else batch),
                           ("files", _files(files)), ("outputs", _outputs(outputs, keep_outputs))):
            if value:
                body[key] = value
        return self.request("POST", "/v3/functions", body)["function_uuid"]

    def get_function(self, function_id: str) -> Document:
        return self.request("GET", "/v2/functions/%s" % function_id)

    def functions(self) -> Any:
        return self.request("GET", "/v2/functions")

    def delete_function(self, function_id: str) -> Document:
        return self.request("DELETE", "/v2/functions/%s" % function_id)

    # ---- endpoints

    def endpoints(self) -> Any:
        return self.request("GET", "/v3/endpoints")

    def endpoint_status(self, endpoint_id: str) -> Document:
        return self.request("GET", "/v2/endpoints/%s/status" % endpoint_id)

    # ---- tasks

    def submit(self, endpoint_id: str, function_id: str, payloads: Iterable[Any], wait: float = 0.0, task_group_id: Optional[str] = None,
               time_limit_s: Optional[float] = None, memory_limit_bytes: Optional[int] = None, idempotency_key: Optional[str] = None,
               memoize: bool = True, expected_s: Optional[float] = None, watch: bool = False,
               files: Files = None, outputs: Outputs = (), keep_outputs: bool = False,
               resource_specification: Optional[Mapping[str, Any]] = None) -> Tuple[List[str], Document]:
        """Submit one task per payload string; returns ``(task ids, answer)``. A repeated POST makes no second task.

        memoize: False refuses results of earlier calls. expected_s: how long it may take; it is not started on nodes whose time ends before.
        files: brought to the work directory by the endpoint: {name: URL} with "#sha256=HEX" behind the URL when the checksum is known, or a
        list of {"name", "url", "sha256", "max_bytes"}. Files with a checksum are kept on the node, and fetched once for many tasks.
        outputs: names or patterns of files in the work directory that come back with the result; see :meth:`task_file`.
        Those given as {"name": ..., "keep": True}, and with keep_outputs all, are left in a directory of the endpoint instead; ``files`` of the
        task document has their paths there.
        resource_specification: each task has whole nodes of a block for itself, as {"num_nodes": 2, "ranks_per_node": 4}; "num_ranks" and
        "launcher_options" may be in it too. The beginning of a command line that starts a program on them is in PARSL_MPI_PREFIX then.
        watch: the ends of the group are noted from the start, for :meth:`events` and :meth:`results`."""
        body = submission(function_id, payloads, task_group_id, time_limit_s=time_limit_s, memory_limit_bytes=memory_limit_bytes, memoize=memoize,
                          expected_s=expected_s, watch=watch, files=files, outputs=outputs, keep_outputs=keep_outputs,
                          resource_specification=resource_specification)
        wait = min(float(wait), MAX_WAIT_S)
        answer = self.request("POST", submission_path(endpoint_id, wait), body, wait=wait, headers={"Idempotency-Key": idempotency_key or new_key()})
        return answer["tasks"][str(function_id)], answer

    def task(self, task_id: str, wait: float = 0.0) -> Document:
        """The task document, as it is now or when it ends within ``wait`` seconds."""
        return self.request("GET", "/v3/tasks/%s%s" % (task_id, "?wait=%g" % wait if wait else ""), wait=wait)

    def task_file(self, task_id: str, name: str) -> bytes:
        """The bytes of a file that came with the task's result; the task document names them in ``files``."""
        data: bytes = self.request("GET", "/v3/tasks/%s/files/%s" % (task_id, urllib.parse.quote(name, safe="")), raw=True)
        return data

    def tasks_status(self, task_ids: Iterable[str], wait: float = 0.0, until: str = "all") -> Dict[str, Document]:
        """Documents of many tasks by id. until: "all" waits for all, "any" for the first that ends, and then leaves out the others."""
        query = "?wait=%g&until=%s" % (wait, until) if wait else ""
        return self.request("POST", "/v3/batch_status" + query, {"task_ids": list(task_ids)}, wait=wait)["results"]

    def result(self, task_id: str, timeout: Optional[float] = None, kind: Optional[str] = None) -> Any:
        """Wait for the task and return its result. timeout None = for ever; raises TaskPending when it is over."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = 60.0 if until is None else max(0.0, min(60.0, until - time.monotonic()))
            doc = self.task(task_id, wait=left)
            if doc["status"] in ENDED:
                return self.decode(doc, kind)
            if until is not None and time.monotonic() >= until:
                raise TaskPending(task_id, doc["status"])

    @staticmethod
    def decode(document: Document, kind: Optional[str] = None) -> Any:
        """The object of a finished task document; raises TaskFailed or TaskCancelled."""
        if document["status"] == "success":
            return serialize.decode_result(document.get("result", "null"), kind)
        if document["status"] == "cancelled" or document.get("code") == "CANCELLED":
            raise TaskCancelled(document)
        raise TaskFailed(document)

    def cancel(self, task_id: str) -> Document:
        return self.request("DELETE", "/v3/tasks/%s" % task_id)

    def tasks(self, **filters: Any) -> Document:
        """Own tasks, newest first: filters endpoint, function, status, group, limit, cursor."""
        query = urllib.parse.urlencode({k: v for k, v in filters.items() if v is not None})
        return self.request("GET", "/v3/tasks" + ("?" + query if query else ""))

    def trace(self, task_id: str) -> Document:
        return self.request("GET", "/v3/tasks/%s/trace" % task_id)

    # ---- task groups

    def create_task_group(self) -> str:
        """An empty group to submit into (``task_group_id=``), whose ends are noted from the start."""
        return self.request("POST", "/v3/taskgroups")["taskgroup_id"]

    def task_group(self, group_id: str) -> Document:
        """The group's tasks, in the order of submission."""
        return self.request("GET", "/v3/taskgroups/%s" % group_id)

    def events(self, group_id: str, after: Optional[str] = None) -> EventStream:
        """The ends of a group's tasks as they come, those that are over first: an endless iterator, see :class:`weft.EventStream`."""
        return EventStream(self, group_id, after)

    def results(self, group_id: str, cursor: str = "", wait: float = 0.0) -> Iterator[Document]:
        """Documents of the ended tasks of a group, in the order of their ends; ends when there are no more (within ``wait`` seconds).

        When a very large group had more ends than the service keeps the order of, all its tasks are asked for, and those that have ended
        come then, perhaps some of them for a second time."""
        asked: Set[str] = set()
        while True:
            query = urllib.parse.urlencode({"cursor": cursor, "wait": "%g" % wait} if wait else {"cursor": cursor})
            page = self.request("GET", "/v3/taskgroups/%s/results?%s" % (group_id, query), wait=wait)
            if page.get("missed"):
                for documents in ended_of(self, [t["id"] for t in self.task_group(group_id)["tasks"]]):
                    asked.update(d["task_id"] for d in documents)
                    yield from documents
            for document in page["results"]:
                if document["task_id"] not in asked:
                    yield document
            cursor = page["cursor"]
            if not page["results"] or not (page["more"] or wait):
                return

    def run(self, endpoint_id: str, function_id: str, *args: Any, **kwargs: Any) -> Any:
        """Call a registered Python function and wait: submit and result in one request."""
        kind = self.get_function(function_id).get("kind", "globus")
        payload = serialize.encode_arguments(kind, args, kwargs)
        ids, answer = self.submit(endpoint_id, function_id, [payload], wait=60)
        doc = answer.get("results", {}).get(ids[0])
        return self.decode(doc, kind) if doc else self.result(ids[0], kind=kind)


def ended_of(client: Client, ids: Sequence[str]) -> Iterator[List[Document]]:
    """Documents of those tasks that have ended and are still known, by STATUS_MAX tasks: for when their ends were not told."""
    for at in range(0, len(ids), STATUS_MAX):
        yield [d for d in client.tasks_status(ids[at:at + STATUS_MAX]).values() if str(d.get("status")).lower() in ENDED]

# SPDX-License-Identifier: Apache-2.0
"""A ``concurrent.futures.Executor`` over a Weft endpoint.

Two threads: one gathers submissions into batches (what is waiting when the last request came back goes together), one long-polls for
results. No fixed pauses: a lone call leaves at once.
"""
import concurrent.futures
import os
import queue
import threading

from . import serialize
from .client import Client
from .errors import ServiceError, ServiceUnavailable, TaskCancelled, WeftError

BATCH = 1000        # tasks in one submission
WATCH = 2000        # pending tasks asked for in one poll
POLL_S = 30.0


class Executor(concurrent.futures.Executor):
    """Run callables on an endpoint.

    endpoint_id: default WEFT_ENDPOINT. client: default ``Client()``. time_limit_s, memory_limit_bytes: for each task.
    Functions are registered once per executor. A future's ``task_id`` is set once the task is accepted.
    """

    def __init__(self, endpoint_id=None, client=None, time_limit_s=None, memory_limit_bytes=None):
        self.endpoint_id = str(endpoint_id or os.environ.get("WEFT_ENDPOINT") or "")
        if not self.endpoint_id:
            raise WeftError("no endpoint: pass endpoint_id=, or set WEFT_ENDPOINT (`weft env` prints it)")
        self.client = client or Client()
        self._limits = {"time_limit_s": time_limit_s, "memory_limit_bytes": memory_limit_bytes}
        self._functions = {}        # id(callable) -> (callable, function id, kind); the callable is kept alive
        self._queue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = {}          # task id -> (future, kind)
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._open = 0              # submissions not yet pending
        self._threads = [threading.Thread(target=self._submitter, name="weft-submit", daemon=True),
                         threading.Thread(target=self._watcher, name="weft-results", daemon=True)]
        for t in self._threads:
            t.start()

    def __repr__(self):
        with self._lock:
            return "<weft.Executor endpoint=%s pending=%d>" % (self.endpoint_id, len(self._pending) + self._open)

    def submit(self, fn, /, *args, **kwargs):
        """Run ``fn(*args, **kwargs)`` on the endpoint; returns a Future. ``fn`` may be the id of a registered function."""
        future = concurrent.futures.Future()
        future.task_id = None
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot submit after shutdown")
            self._open += 1
        self._queue.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        with self._lock:
            if not self._closing:
                self._closing = True
                self._queue.put(None)
            pending = list(self._pending.items()) if cancel_futures else []
            self._changed.notify_all()
        for task_id, _ in pending:
            try:
                self.client.cancel(task_id)
            except WeftError:
                pass        # it ends by itself
        if wait:
            for t in self._threads:
                t.join()

    # ---- submission

    def _function(self, fn):
        if isinstance(fn, str):
            key = fn
        else:
            key = id(fn)
        known = self._functions.get(key)
        if known is None:
            if isinstance(fn, str):
                known = (fn, fn, self.client.get_function(fn).get("kind", "globus"))
            else:
                known = (fn, self.client.register_function(fn), serialize.encode_function(fn)[0])
            self._functions[key] = known
        return known[1], known[2]

    def _take(self):
        """Everything that is waiting, at least one; True when the queue was closed."""
        items, closed = [], False
        item = self._queue.get()
        while True:
            if item is None:
                closed = True
            else:
                items.append(item)
            if closed or len(items) >= BATCH:
                return items, closed
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return items, closed

    def _submitter(self):
        closed = False
        while not closed:
            items, closed = self._take()
            groups = {}
            for future, fn, args, kwargs in items:
                if not future.set_running_or_notify_cancel():
                    self._finished_submission()
                    continue
                try:
                    function_id, kind = self._function(fn)
                    payload = serialize.encode_arguments(kind, args, kwargs)
                except Exception as e:      # also what pickling raises: it belongs to this call alone
                    self._fail(future, e)
                    continue
                groups.setdefault((function_id, kind), []).append((future, payload))
            for (function_id, kind), calls in groups.items():
                self._submit_group(function_id, kind, calls)

    def _submit_group(self, function_id, kind, calls):
        try:
            ids, _ = self.client.submit(self.endpoint_id, function_id, [p for _, p in calls], **self._limits)
        except Exception as e:
            for future, _ in calls:
                self._fail(future, e)
            return
        with self._lock:
            for task_id, (future, _) in zip(ids, calls):
                future.task_id = task_id
                self._pending[task_id] = (future, kind)
                self._open -= 1
            self._changed.notify_all()

    def _fail(self, future, error):
        future.set_exception(error)
        self._finished_submission()

    def _finished_submission(self):
        with self._lock:
            self._open -= 1
            self._changed.notify_all()

    # ---- results

    def _watcher(self):
        while True:
            with self._lock:
                while not self._pending:
                    if self._closing and not self._open:
                        return
                    self._changed.wait()
                ids = []
                for task_id in self._pending:
                    ids.append(task_id)
                    if len(ids) == WATCH:
                        break
            try:
                # a short poll while more is being submitted, so that new tasks join soon
                documents = self.client.tasks_status(ids, wait=POLL_S, until="any")
            except ServiceUnavailable:
                continue            # the client has waited; the tasks are safe in the service
            except ServiceError as e:
                self._resolve_all(ids, e)
                continue
            for task_id, document in documents.items():
                if document.get("status") in ("success", "failed", "cancelled"):
                    self._resolve(task_id, document)

    def _resolve(self, task_id, document):
        with self._lock:
            future, kind = self._pending.pop(task_id, (None, None))
            self._changed.notify_all()
        if future is None:
            return
        try:
            value = self.client.decode(document, kind)
        except TaskCancelled as e:
            future.set_exception(e)
        except Exception as e:
            future.set_exception(e)
        else:
            future.set_result(value)

    def _resolve_all(self, ids, error):
        for task_id in ids:
            with self._lock:
                future, _ = self._pending.pop(task_id, (None, None))
            if future is not None:
                future.set_exception(error)

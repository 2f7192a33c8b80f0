# SPDX-License-Identifier: Apache-2.0
"""A ``concurrent.futures.Executor`` over a Weft endpoint.

One thread gathers submissions into batches: what is waiting when the last request came back goes together, so a lone call leaves at
once. A few watchers long-poll for results, each for tasks of its own. New tasks go to an idle watcher; when all are in a poll, the one
with the fewest tasks has its poll interrupted and takes them. So no result waits for a poll that does not know its task.
"""
import concurrent.futures
import os
import queue
import threading

from . import serialize
from .client import Client, Interrupt
from .errors import LimitError, ServiceError, ServiceUnavailable, WeftError

BATCH = 1000        # tasks in one submission
BATCH_CHARS = 32 << 20  # of their payloads together
WATCHERS = 4
WATCH = 2000        # tasks asked for in one poll
POLL_S = 30.0
ENDED = ("success", "failed", "cancelled")


class Future(concurrent.futures.Future):
    """``task_id`` is set once the service has accepted the task."""

    def __init__(self, executor):
        super().__init__()
        self.task_id = None
        self._executor = executor

    def cancel(self):
        """Cancel the task, also when it runs. False when it has ended by itself."""
        if self.done():
            return self.cancelled()
        if self.task_id is None and super().cancel():
            if self.task_id is not None:        # it was accepted just now
                self._executor._cancel(self)
            return True
        return self._executor._cancel(self)


class _Watcher:
    def __init__(self):
        self.ids = {}               # task id -> None, in order
        self.interrupt = Interrupt()
        self.asked = False          # told to come back for more
        self.idle = False


class Executor(concurrent.futures.Executor):
    """Run callables on an endpoint.

    endpoint_id: default WEFT_ENDPOINT. client: default ``Client()``. time_limit_s, memory_limit_bytes: for each task.
    Functions are registered once per executor.
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
        self._changed = threading.Condition(self._lock)
        self._pending = {}          # task id -> (future, kind); who takes a task out settles its future
        self._unwatched = {}        # task id -> None
        self._watchers = []
        self._closing = False
        self._open = 0              # submissions not yet pending
        self._threads = []
        self._start(self._submitter, "weft-submit")

    def __repr__(self):
        with self._lock:
            return "<weft.Executor endpoint=%s pending=%d>" % (self.endpoint_id, len(self._pending) + self._open)

    def _start(self, target, name, *args):
        t = threading.Thread(target=target, name=name, args=args, daemon=True)
        self._threads.append(t)
        t.start()

    def submit(self, fn, /, *args, **kwargs):
        """Run ``fn(*args, **kwargs)`` on the endpoint; returns a Future. ``fn`` may be the id of a registered function."""
        future = Future(self)
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot submit after shutdown")
            self._open += 1
            self._queue.put((future, fn, args, kwargs))     # inside, so that it stands before shutdown's end mark
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        with self._lock:
            if not self._closing:
                self._closing = True
                self._queue.put(None)
            pending = [f for f, _ in self._pending.values()] if cancel_futures else []
            self._cancel_rest = cancel_futures
            self._changed.notify_all()
        for future in pending:
            try:
                future.cancel()
            except WeftError:
                pass        # it ends by itself
        if wait:
            for t in list(self._threads):
                t.join()

    _cancel_rest = False

    def _cancel(self, future):
        status = self.client.cancel(future.task_id)["status"]
        if status != "cancelled":
            return False
        with self._lock:
            mine = self._pending.pop(future.task_id, None)
            self._changed.notify_all()
        if mine:
            self._settle_cancelled(future)
        return True

    # ---- submission

    def _function(self, fn):
        key = fn if isinstance(fn, str) else id(fn)
        known = self._functions.get(key)
        if known is None:
            if isinstance(fn, str):
                known = (fn, fn, self.client.get_function(fn).get("kind", "globus"))
            else:
                known = (fn,) + self.client._register_function(fn)
            self._functions[key] = known
        return known[1], known[2]

    def _take(self):
        """Everything that is waiting, at least one; True when the queue was closed."""
        items = []
        item = self._queue.get()
        while item is not None:
            items.append(item)
            if len(items) >= BATCH:
                return items, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return items, False
        return items, True

    def _submitter(self):
        closed = False
        while not closed:
            items, closed = self._take()
            groups = {}
            for future, fn, args, kwargs in items:
                if self._cancel_rest:
                    future.cancel()
                if future.cancelled():
                    future.set_running_or_notify_cancel()
                    self._submission_over()
                    continue
                try:
                    function_id, kind = self._function(fn)
                    payload = serialize.encode_arguments(kind, args, kwargs)
                except Exception as e:      # also what pickling raises: it belongs to this call alone
                    self._fail(future, e)
                    continue
                groups.setdefault((function_id, kind), []).append((future, payload))
            for (function_id, kind), calls in groups.items():
                self._submit_calls(function_id, kind, calls)

    def _submit_calls(self, function_id, kind, calls):
        part, size = [], 0
        for future, payload in calls:
            if part and size + len(payload) > BATCH_CHARS:
                self._submit_group(function_id, kind, part)
                part, size = [], 0
            part.append((future, payload))
            size += len(payload)
        self._submit_group(function_id, kind, part)

    def _submit_group(self, function_id, kind, calls):
        try:
            ids, _ = self.client.submit(self.endpoint_id, function_id, [p for _, p in calls], **self._limits)
        except LimitError as e:
            if e.status == 413 and len(calls) > 1:      # one call too large, or all together: find out which
                half = len(calls) // 2
                self._submit_group(function_id, kind, calls[:half])
                self._submit_group(function_id, kind, calls[half:])
                return
            self._fail_all(calls, e)
            return
        except Exception as e:
            self._fail_all(calls, e)
            return
        cancelled = []
        with self._lock:
            for task_id, (future, _) in zip(ids, calls):
                future.task_id = task_id
                self._open -= 1
                if future.cancelled():
                    cancelled.append(future)
                self._pending[task_id] = (future, kind)
                self._unwatched[task_id] = None
            self._call_watcher()
            self._changed.notify_all()
        for future in cancelled:        # while it was on its way
            try:
                self._cancel(future)
            except WeftError:
                pass

    def _fail_all(self, calls, error):
        for future, _ in calls:
            self._fail(future, error)

    def _fail(self, future, error):
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
        self._submission_over()

    def _submission_over(self):
        with self._lock:
            self._open -= 1
            self._changed.notify_all()

    # ---- results

    def _call_watcher(self):
        """See that somebody takes the unwatched tasks. Under the lock."""
        if any(w.idle or w.asked for w in self._watchers):
            return
        if len(self._watchers) < WATCHERS:
            w = _Watcher()
            w.asked = True
            self._watchers.append(w)
            self._start(self._watch, "weft-results", w)
            return
        w = min(self._watchers, key=lambda w: len(w.ids))
        w.asked = True
        w.interrupt.fire()

    def _next_ids(self, w):
        """What to poll for, or None at the end. Waits while there is nothing."""
        with self._lock:
            w.asked = False
            w.interrupt.reset()
            while True:
                for task_id in list(self._unwatched):
                    if len(w.ids) >= WATCH:
                        break
                    del self._unwatched[task_id]
                    w.ids[task_id] = None
                for task_id in [t for t in w.ids if t not in self._pending]:
                    del w.ids[task_id]
                if w.ids:
                    if self._unwatched and len(self._watchers) < WATCHERS:
                        self._call_watcher()
                    return list(w.ids)
                if self._closing and not self._open and not self._pending:
                    self._changed.notify_all()
                    return None
                w.idle = True
                self._changed.wait()
                w.idle = False

    def _watch(self, w):
        while True:
            ids = self._next_ids(w)
            if ids is None:
                return
            try:
                documents = self.client.tasks_status(ids, wait=POLL_S, until="any", interrupt=w.interrupt)
            except (Interrupt.Fired, ServiceUnavailable):
                continue            # new tasks; or the client has waited already, and the tasks are safe in the service
            except ServiceError as e:
                self._resolve_all(ids, e)
                continue
            except Exception as e:  # an answer that is not what we know: nobody else would tell
                self._resolve_all(ids, WeftError("unexpected answer of the service: %r" % e))
                continue
            for task_id, document in documents.items():
                if str(document.get("status")).lower() in ENDED:
                    self._resolve(task_id, document)

    def _resolve(self, task_id, document):
        with self._lock:
            future, kind = self._pending.pop(task_id, (None, None))
            if not self._pending:
                self._changed.notify_all()
        if future is None:
            return
        if document["status"] == "cancelled" or document.get("code") == "CANCELLED":
            self._settle_cancelled(future)
            return
        try:
            value = self.client.decode(document, kind)
        except Exception as e:
            self._settle(future, future.set_exception, e)
        else:
            self._settle(future, future.set_result, value)

    @staticmethod
    def _settle_cancelled(future):
        concurrent.futures.Future.cancel(future)
        future.set_running_or_notify_cancel()

    @staticmethod
    def _settle(future, how, value):
        if future.set_running_or_notify_cancel():
            how(value)

    def _resolve_all(self, ids, error):
        for task_id in ids:
            with self._lock:
                future, _ = self._pending.pop(task_id, (None, None))
                self._changed.notify_all()
            if future is not None:
                self._settle(future, future.set_exception, error)

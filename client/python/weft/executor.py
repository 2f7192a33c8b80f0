# SPDX-License-Identifier: Apache-2.0
"""A ``concurrent.futures.Executor`` over a Weft endpoint.

One thread gathers submissions into batches: what is waiting when the last request came back goes together, so a lone call leaves at
once. Another reads the event stream of the executor's task group; nothing polls. A result may come before the answer to its submission:
it is kept until that says whose it is. The result of the only call in hand mostly comes in that answer. While that is so the stream is left,
since each event would wake a thread for nothing, and is taken up where it was when a call has to wait for it, or many events stand there.
Such a call then needs no other thread: see lone.py.
"""
from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import os
import queue
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

from . import progress as bars
from . import serialize
from .client import Client, ended_of, new_key, submission, submission_path
from .errors import LimitError, ServiceUnavailable, WeftError
from .future import Future, table
from .lone import Call, Lane
from .stream import Event, EventStream
from .transport import Interrupt

BATCH = 1000        # tasks in one submission
BATCH_CHARS = 32 << 20  # of their payloads together
LONE_WAIT_S = 0.01  # that the only call in hand waits for its result in the answer to its submission, before the stream has to bring it
LONE_CALLS = 20     # so many in a row that had it there, and the stream is left,
LONE_CHARS = 1 << 15    # of the payload of a call that its own thread sends, which that must not wait for
WATCH_S = 0.2       # between looks after such calls whose results nobody has asked for
BEHIND = 200        # until so many events stand there: who needs it later has no more to read than these
LOG = logging.getLogger("concurrent.futures")
Function = Union[str, Callable[..., Any]]


class Limits(dict):
    """Options of a submission that are given; hashable, so that calls with the same ones go together."""

    def __hash__(self) -> int:      # type: ignore[override]
        return hash(tuple(sorted((k, tuple(v) if isinstance(v, dict) else v) for k, v in self.items())))


class Options:
    """An executor with other limits, see :meth:`Executor.options`. It shares everything else with its executor."""

    def __init__(self, executor: Executor, limits: Limits):
        self._executor, self._limits = executor, limits

    def submit(self, fn: Function, /, *args: Any, **kwargs: Any) -> Future:
        return self._executor._submit(fn, args, kwargs, self._limits)

    def map(self, fn: Function, *iterables: Iterable[Any], timeout: Optional[float] = None, chunksize: int = 1,
            progress: Union[None, bool, str] = None) -> Iterator[Any]:
        return self._executor._map(fn, iterables, timeout, progress, self._limits)

    def __repr__(self) -> str:
        return "<weft options %s of %r>" % (dict(self._limits), self._executor)


class Ended(NamedTuple):
    """A call whose large result is still to be fetched."""

    future: Future
    kind: str
    document: Dict[str, Any]


class Executor(concurrent.futures.Executor):
    """Run callables on an endpoint.

    endpoint_id: default WEFT_ENDPOINT. client: default ``Client()``. The others are for every task: time_limit_s, after which it is killed;
    memory_limit_bytes; expected_s, how long it may take; memoize False refuses results of earlier calls; resource_specification, nodes of its
    own, see :meth:`Client.submit`. :meth:`options` sets them for some.
    Functions are registered once per executor.
    """

    def __init__(self, endpoint_id: Optional[str] = None, client: Optional[Client] = None, time_limit_s: Optional[float] = None,
                 memory_limit_bytes: Optional[int] = None, expected_s: Optional[float] = None, memoize: bool = True,
                 resource_specification: Optional[Mapping[str, Any]] = None):
        self.endpoint_id = str(endpoint_id or os.environ.get("WEFT_ENDPOINT") or "")
        if not self.endpoint_id:
            raise WeftError("no endpoint: pass endpoint_id=, or set WEFT_ENDPOINT (`weft env` prints it)")
        self.client = client or Client()
        self.task_group_id: Optional[str] = None    # of all tasks of this executor; set with the first submission
        self._limits = _limits(time_limit_s=time_limit_s, memory_limit_bytes=memory_limit_bytes, expected_s=expected_s, memoize=memoize,
                               resource_specification=resource_specification)
        self._functions: Dict[Any, Tuple[Any, str, str]] = {}   # id(callable) -> (callable, function id, kind); the callable is kept alive
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: Dict[str, Tuple[Future, str]] = {}   # task id -> (future, kind); who takes a task out settles its future
        self._early: Dict[str, Dict[str, Any]] = {}         # documents that came before the answer to their submission
        self._closing = self._cancel_rest = False
        self._open = 0              # submissions not yet pending
        self._done = 0
        self._answered = 0          # calls in a row whose results came in the answers to their submissions
        self._behind = 0            # of such calls: whose events were not yet seen
        self._waits = threading.Condition(self._lock)       # for the reader: a call waits for the stream, or nothing will come any more
        self._lane = Lane(self.client, submission_path(self.endpoint_id, LONE_WAIT_S), LONE_WAIT_S)
        self._air: Optional[Call] = None    # sent by its own thread; who takes it out reads the answer
        self._watching = False      # the submitter looks after such calls; before it does there are none
        self._seen = 0              # of them, when it looked last
        self._process = os.getpid()
        self._missed = False        # events that were not seen, and not yet asked for: the stream does not tell of them again
        self._interrupt = Interrupt()
        self._threads: List[threading.Thread] = []
        self._start(self._submitter, "weft-submit")

    def __repr__(self) -> str:
        with self._lock:
            return "<weft.Executor endpoint=%s pending=%d done=%d>" % (self.endpoint_id, len(self._pending) + self._open, self._done)

    def _repr_html_(self) -> str:
        with self._lock:
            rows = [("service", self.client.url), ("endpoint", self.endpoint_id), ("task group", self.task_group_id or "none yet"),
                    ("pending", str(len(self._pending) + self._open)), ("done", str(self._done))]
        return table("weft.Executor", rows)

    def _start(self, target: Callable[..., None], name: str) -> None:
        t = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(t)
        t.start()

    def submit(self, fn: Function, /, *args: Any, **kwargs: Any) -> Future:     # type: ignore[override]
        """Run ``fn(*args, **kwargs)`` on the endpoint; returns a Future. ``fn`` may be the id of a registered function."""
        return self._submit(fn, args, kwargs, self._limits)

    def map(self, fn: Function, *iterables: Iterable[Any], timeout: Optional[float] = None, chunksize: int = 1,    # type: ignore[override]
            progress: Union[None, bool, str] = None) -> Iterator[Any]:
        """Results of ``fn(x, y, ...)`` in the order of the inputs. All are submitted before this returns.

        progress: a bar on standard error; None shows it on a terminal from 100 calls on, a string is the text before it. chunksize is
        accepted and not needed: calls travel in batches anyway."""
        return self._map(fn, iterables, timeout, progress, self._limits)

    def options(self, time_limit_s: Optional[float] = None, memory_limit_bytes: Optional[int] = None, expected_s: Optional[float] = None,
                memoize: bool = True, resource_specification: Optional[Mapping[str, Any]] = None) -> Options:
        """The same executor with other limits: ``ex.options(time_limit_s=5).submit(f, x)``. What is not given stays."""
        given = _limits(time_limit_s=time_limit_s, memory_limit_bytes=memory_limit_bytes, expected_s=expected_s, memoize=memoize,
                        resource_specification=resource_specification)
        return Options(self, Limits(self._limits, **given))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more submissions; with wait, until all tasks have ended. cancel_futures: they are cancelled, also those that run."""
        with self._lock:
            if not self._closing:
                self._closing = True
                if self._air is not None:
                    self._queue.put(self._air)
                    self._air = None
            pending = [f for f, _ in self._pending.values()] if cancel_futures else []
            self._cancel_rest = cancel_futures
            self._finish_if_done()
        for future in pending:
            try:
                future.cancel()
            except WeftError:
                pass        # it ends by itself
        if wait:
            for t in self._threads:     # the first may start another one before it ends
                t.join()

    def _submit(self, fn: Function, args: Any, kwargs: Any, limits: Limits) -> Future:
        if self._process != os.getpid():
            raise RuntimeError("cannot submit in a process that was forked: make an Executor there")
        future = Future(self)
        future.function_name = fn if isinstance(fn, str) else getattr(fn, "__name__", None)
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot submit after shutdown")
            alone = self._watching and self._answered and not self._open and not self._pending and self._lane.is_open
            self._open += 1
        if alone:
            self._send(future, fn, args, kwargs, limits)
        else:
            self._queue.put((future, fn, args, kwargs, limits))
        return future

    def _map(self, fn: Function, iterables: Any, timeout: Optional[float], progress: Union[None, bool, str], limits: Limits) -> Iterator[Any]:
        until = None if timeout is None else time.monotonic() + timeout
        futures = [self._submit(fn, args, {}, limits) for args in zip(*iterables)]
        bar = bars.bar(len(futures), progress)
        for f in futures:
            f.add_done_callback(lambda _: bar.update(1))

        def results() -> Iterator[Any]:
            try:
                futures.reverse()       # taken from the end, so that results are not kept
                while futures:
                    if until is None:
                        yield futures.pop().result()
                    else:
                        yield futures.pop().result(max(0.0, until - time.monotonic()))
            finally:
                bar.close()
                for f in futures:
                    try:
                        f.cancel()
                    except WeftError:
                        pass
        return results()

    def _cancel(self, future: Future) -> bool:
        assert future.task_id is not None
        status = self.client.cancel(future.task_id)["status"]
        if status != "cancelled":
            return False
        with self._lock:
            mine = self._pending.pop(future.task_id, None)
            self._finish_if_done()
        if mine:
            self._settle_cancelled(future)
        return True

    def _finish_if_done(self) -> None:
        """Nothing will come any more: the threads may go. Under the lock."""
        if self._closing and not self._open and not self._pending:
            self._queue.put(None)
            self._interrupt.fire()
            self._waits.notify_all()

    # ---- the only call in hand, by the threads of the caller

    def _send(self, future: Future, fn: Function, args: Any, kwargs: Any, limits: Limits) -> None:
        todo: Any = (future, fn, args, kwargs, limits)      # what is left for the submitter, which also finds out what is wrong
        try:
            known = self._functions.get(_key(fn))
            payload = serialize.encode_arguments(known[2], args, kwargs) if known else None
            if known and payload is not None and len(payload) <= LONE_CHARS:
                body = json.dumps(submission(known[1], [payload], self.task_group_id, **limits)).encode()
                todo = call = Call(future, known[2], known[1], body, new_key())
                self._lane.send(call)
                future.in_air, self._air, todo = True, call, None
        except Exception:
            pass
        finally:
            if todo is not None:
                self._queue.put(todo)

    def _claim(self, future: Future) -> Optional[Call]:
        """The call, when it is for the one who asks to read its answer."""
        with self._lock:
            call = self._air
            future.in_air = False
            if call is None or call.future is not future or self._process != os.getpid():
                return None
            self._air = None
            return call

    def _hand_over(self, future: Future) -> None:
        call = self._claim(future)
        if call is not None:
            self._queue.put(call)

    def _collect(self, future: Future, timeout: Optional[float]) -> Optional[float]:
        """Read the answer here and now, where that can be waited for. Returns what is left of timeout."""
        if timeout is not None and timeout < self._lane.patience_s:
            self._hand_over(future)
            return timeout
        call = self._claim(future)
        if call is None:
            return timeout
        began = time.monotonic()
        try:
            answer = self._lane.answer(call)
            self._accepted(call.kind, [(future, "")], answer["tasks"][call.function_id], answer, True, here=timeout is not None)
        except Exception:
            self._queue.put(call)
        except BaseException:       # the user interrupts
            self._queue.put(call)
            raise
        return None if timeout is None else max(0.0, timeout - (time.monotonic() - began))

    def _finish_lone(self, call: Call) -> None:
        """Nobody waits for it, or there was no answer: whatever it is, in the submitter."""
        if call.future.task_id is not None and call.future.done():
            return      # its thread was interrupted just then
        if self._cancel_rest:
            call.future.cancel()
        try:
            try:
                answer = self._lane.answer(call)
            except Exception:
                answer = self.client.request("POST", submission_path(self.endpoint_id), call.body,
                                             headers={"Idempotency-Key": call.key})
            ids = answer["tasks"][call.function_id]
        except Exception as e:
            self._fail(call.future, e)
            return
        self._accepted(call.kind, [(call.future, "")], ids, answer, True)

    def _watch(self) -> None:
        """A call has its result also when nobody asks for it. Where no more of them go nothing is to be watched."""
        with self._lock:
            quiet, self._seen = self._seen == self._lane.sent, self._lane.sent
            call = self._air
            self._watching = not quiet or self._open > 0
        if call is not None and quiet:
            self._hand_over(call.future)

    # ---- submission

    def _function(self, fn: Function) -> Tuple[str, str]:
        key = _key(fn)
        known = self._functions.get(key)
        if known is None:
            if isinstance(fn, str):
                known = (fn, fn, self.client.get_function(fn).get("kind", "globus"))
            else:
                known = (fn,) + self.client._register_function(fn)
            self._functions[key] = known
        return known[1], known[2]

    def _take(self) -> List[Any]:
        """Everything that is waiting, at least one, or nothing when it is time to look after the call in the air."""
        items: List[Any] = []
        try:
            items.append(self._queue.get(timeout=WATCH_S if self._watching else None))
            while len(items) < BATCH:
                items.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return items

    def _listen(self) -> str:
        """The executor's group, made before its first task: its stream is open when the first result comes."""
        if self.task_group_id is None:
            self.task_group_id = self.client.create_task_group()
            self._start(self._reader, "weft-results")
        return self.task_group_id

    def _submitter(self) -> None:
        while True:
            items = self._take()
            if not items:
                self._watch()
            groups: Dict[Any, List[Tuple[Future, str]]] = {}
            for future, fn, args, kwargs, limits in (item for item in items if type(item) is tuple):
                if self._cancel_rest:
                    future.cancel()
                if future.cancelled():
                    future.set_running_or_notify_cancel()
                    self._submission_over()
                    continue
                try:
                    function_id, kind = self._function(fn)
                    payload = serialize.encode_arguments(kind, args, kwargs)
                    groups.setdefault((function_id, kind, limits), []).append((future, payload))
                except Exception as e:      # also what pickling raises, and limits that are none: it belongs to this call alone
                    self._fail(future, e)
            for (function_id, kind, limits), calls in groups.items():
                self._submit_calls(function_id, kind, limits, calls)
            for item in items:
                if isinstance(item, Call):
                    self._finish_lone(item)
                elif isinstance(item, Ended):
                    self._resolve(*item)
            if None in items:
                break
            items = future = fn = args = kwargs = groups = calls = item = None      # type: ignore[assignment]  # not kept until the next call
            if self._answered and (self._lane.is_open or (self._answered >= LONE_CALLS and self._lane.open())):
                self._watching = True
        self._lane.close()

    def _submit_calls(self, function_id: str, kind: str, limits: Limits, calls: List[Tuple[Future, str]]) -> None:
        part: List[Tuple[Future, str]] = []
        size = 0
        for future, payload in calls:
            if part and size + len(payload) > BATCH_CHARS:
                self._submit_group(function_id, kind, limits, part)
                part, size = [], 0
            part.append((future, payload))
            size += len(payload)
        self._submit_group(function_id, kind, limits, part)

    def _submit_group(self, function_id: str, kind: str, limits: Limits, calls: List[Tuple[Future, str]]) -> None:
        lone = self._open == 1 and not self._pending and not self._closing
        try:
            ids, answer = self.client.submit(self.endpoint_id, function_id, [p for _, p in calls], LONE_WAIT_S if lone else 0.0, self._listen(), **limits)
        except LimitError as e:
            if e.status == 413 and len(calls) > 1:      # one call too large, or all together: find out which
                half = len(calls) // 2
                self._submit_group(function_id, kind, limits, calls[:half])
                self._submit_group(function_id, kind, limits, calls[half:])
                return
            self._fail_all(calls, e)
            return
        except Exception as e:
            self._fail_all(calls, e)
            return
        self._accepted(kind, calls, ids, answer, lone)

    def _accepted(self, kind: str, calls: List[Tuple[Future, str]], ids: List[str], answer: Dict[str, Any], lone: bool, here: bool = False) -> None:
        """The answer to a submission; lone: it was waited for there. here: in a thread that must not wait for more than it has."""
        cancelled, early = [], []
        with self._lock:
            self._early.update(answer.get("results", {}))
            for task_id, (future, _) in zip(ids, calls):
                if future.task_id is None:      # else its thread was interrupted in here
                    self._open -= 1
                future.task_id = task_id
                document = self._early.pop(task_id, None) if self._early else None
                if document is not None:
                    if here and "result_ref" in document:
                        self._queue.put(Ended(future, kind, document))
                    else:
                        early.append((future, kind, document))
                    continue
                if future.cancelled():
                    cancelled.append(future)
                self._pending[task_id] = (future, kind)
            if lone and not self._pending:
                self._answered += 1
                self._behind += 1
            else:
                self._answered = 0
            if not self._answered or self._behind >= BEHIND:
                self._waits.notify_all()
            if not self._open:
                self._early.clear()     # of nobody here
            self._finish_if_done()
        for future, kind, document in early:
            self._resolve(future, kind, document)
        for future in cancelled:        # while it was on its way
            try:
                self._cancel(future)
            except WeftError:
                pass

    def _fail_all(self, calls: List[Tuple[Future, str]], error: Exception) -> None:
        for future, _ in calls:
            self._fail(future, error)

    def _fail(self, future: Future, error: Exception) -> None:
        self._settle(future, future.set_exception, error)
        self._submission_over()

    def _submission_over(self) -> None:
        with self._lock:
            self._open -= 1
            self._finish_if_done()

    # ---- results

    def _reader(self) -> None:
        assert self.task_group_id is not None
        stream = EventStream(self.client, self.task_group_id, interrupt=self._interrupt, brief=True)
        while True:
            try:
                if self._missed:
                    self._catch_up()
                with contextlib.closing(stream.batches()) as batches:
                    for events in batches:
                        self._take_events(events)
                        if self._answered >= LONE_CALLS and self._behind <= 0:
                            break
            except Exception as e:      # refused: nobody else would tell; or an answer that is not what we know
                self._give_up(e if isinstance(e, WeftError) else WeftError("unexpected event of the service: %r" % e))
                self._interrupt.wait(1.0)
            with self._lock:
                self._waits.wait_for(lambda: self._pending or self._answered < LONE_CALLS or self._behind >= BEHIND or self._interrupt.fired)
                if self._interrupt.fired or (self._closing and not self._open and not self._pending):
                    return

    def _take_events(self, events: List[Event]) -> None:
        ended = []
        with self._lock:
            for event in events:
                if event.kind != "task":
                    continue
                task_id = event.data["task_id"]
                mine = self._pending.pop(task_id, None)
                if mine is not None:
                    ended.append(mine + (event.data,))
                    continue
                self._behind = max(self._behind - 1, -LONE_CALLS)
                if self._open:
                    self._early[task_id] = event.data
        for future, kind, document in ended:
            self._resolve(future, kind, document)
        if any(event.kind == "gap" for event in events):
            self._missed, self._behind = True, 0
            self._catch_up()
        if self._closing:
            with self._lock:
                self._finish_if_done()

    def _catch_up(self) -> None:
        """Events are missing: ask for all that we wait for."""
        with self._lock:
            ids = list(self._pending)
        for documents in ended_of(self.client, ids):
            self._take_events([Event(None, "task", d) for d in documents])
        self._missed = False

    def _resolve(self, future: Future, kind: str, document: Dict[str, Any]) -> None:
        self._done += 1
        try:
            if "result_ref" in document:
                document = self._whole(document["task_id"])
            if document["status"] == "cancelled" or document.get("code") == "CANCELLED":
                self._settle_cancelled(future)
                return
            value = self.client.decode(document, kind)
        except Exception as e:
            self._settle(future, future.set_exception, e)
        else:
            self._settle(future, future.set_result, value)

    def _whole(self, task_id: str) -> Dict[str, Any]:
        """The document with a large result, which is safe in the service: as with the stream it is waited for until that can be reached."""
        while True:
            try:
                return self.client.task(task_id)
            except ServiceUnavailable:
                time.sleep(1.0)

    @staticmethod
    def _settle_cancelled(future: Future) -> None:
        _tell(concurrent.futures.Future.cancel, future)
        future.set_running_or_notify_cancel()

    @staticmethod
    def _settle(future: Future, how: Callable[[Any], None], value: Any) -> None:
        if future.set_running_or_notify_cancel():
            _tell(how, value)

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, ServiceUnavailable):
            return      # the tasks are safe in the service
        with self._lock:
            pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            self._settle(future, future.set_exception, error)
        with self._lock:
            self._finish_if_done()


def _tell(how: Callable[[Any], Any], what: Any) -> None:
    """Settle a future; what its callbacks do, such as sys.exit(), does not end the thread that others wait for."""
    try:
        how(what)
    except KeyboardInterrupt:
        raise
    except BaseException:
        LOG.exception("exception calling a future's callback")


def _key(fn: Function) -> Any:
    """What functions are known by."""
    return fn if isinstance(fn, str) else id(fn)


def _limits(memoize: bool = True, **given: Any) -> Limits:
    out = Limits({k: dict(v) if isinstance(v, Mapping) else v for k, v in given.items() if v is not None})
    if not memoize:
        out["memoize"] = False
    return out

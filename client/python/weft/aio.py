# SPDX-License-Identifier: Apache-2.0
"""The executor for ``asyncio``."""
from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator, Iterable, Optional, Union

from . import progress as bars
from .executor import Executor, Function, Options
from .future import Future, table


class AsyncExecutor:
    """As :class:`weft.Executor`, with awaitable results::

        async with weft.AsyncExecutor() as ex:
            print(await ex.submit(pow, 2, 10))
            async for value in ex.map(f, range(100)):
                ...

    Cancelling what ``submit`` returned, or the task that awaits it, cancels the task on the endpoint too. Arguments are those of
    :class:`weft.Executor`, or an executor to share."""

    def __init__(self, endpoint_id: Union[None, str, Executor] = None, **kwargs: Any):
        self._own = not isinstance(endpoint_id, Executor)
        self.executor: Executor = Executor(endpoint_id, **kwargs) if not isinstance(endpoint_id, Executor) else endpoint_id
        self._via: Union[Executor, Options] = self.executor

    def __repr__(self) -> str:
        return "<weft.AsyncExecutor of %r>" % self.executor

    def _repr_html_(self) -> str:
        return table("weft.AsyncExecutor", [("executor", repr(self.executor))])

    async def __aenter__(self) -> AsyncExecutor:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self.shutdown(cancel_futures=kind is not None and issubclass(kind, asyncio.CancelledError))

    def options(self, **limits: Any) -> AsyncExecutor:
        """The same executor with other limits, see :meth:`weft.Executor.options`."""
        other = AsyncExecutor(self.executor)
        other._via = self.executor.options(**limits)
        return other

    def submit(self, fn: Function, /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        return _awaitable(self._via.submit(fn, *args, **kwargs))

    async def map(self, fn: Function, *iterables: Iterable[Any], progress: Union[None, bool, str] = None) -> AsyncIterator[Any]:
        """Results in the order of the inputs."""
        futures = [self.submit(fn, *args) for args in zip(*iterables)]
        bar = bars.bar(len(futures), progress)
        for f in futures:
            f.add_done_callback(lambda _: bar.update(1))
        try:
            for f in futures:
                yield await f
        finally:
            bar.close()
            for f in futures:
                f.cancel()

    async def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        if self._own:
            await asyncio.get_running_loop().run_in_executor(None, lambda: self.executor.shutdown(wait, cancel_futures=cancel_futures))


def _awaitable(future: Future) -> asyncio.Future[Any]:
    loop = asyncio.get_running_loop()
    mine: asyncio.Future[Any] = loop.create_future()

    def settle() -> None:
        if mine.done():
            return
        if future.cancelled():
            mine.cancel()
            return
        error: Optional[BaseException] = future.exception()
        if error is not None:
            mine.set_exception(error)
        else:
            mine.set_result(future.result())

    def ended(_: Any) -> None:
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            pass        # the loop is closed: nobody waits

    def cancelled(_: Any) -> None:
        if mine.cancelled() and not future.done():
            loop.run_in_executor(None, _cancel, future)     # a request: not on the loop

    future.add_done_callback(ended)
    mine.add_done_callback(cancelled)
    return mine


def _cancel(future: Future) -> None:
    from .errors import WeftError
    try:
        future.cancel()
    except WeftError:
        pass

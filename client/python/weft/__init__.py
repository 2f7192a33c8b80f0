# SPDX-License-Identifier: Apache-2.0
"""Weft's Python SDK: standard library only; ``dill`` is used when it is installed.

    import weft

    with weft.Executor() as ex:              # WEFT_URL, WEFT_TOKEN and WEFT_ENDPOINT from the environment
        print(ex.submit(pow, 2, 10).result())

``Client`` has a method for each route about functions, tasks, groups and lists of endpoints; ``Executor`` is a ``concurrent.futures.Executor``, ``AsyncExecutor`` the same for asyncio.
"""
from .aio import AsyncExecutor
from .client import VERSION as __version__
from .client import Client
from .errors import (AuthError, LimitError, NotFoundError, ServiceError, ServiceUnavailable, TaskCancelled, TaskFailed,
                     TaskPending, WeftError)
from .executor import Executor
from .future import Future
from .serialize import decode_result, encode_arguments
from .stream import Event, EventStream

__all__ = ["AsyncExecutor", "Client", "Event", "EventStream", "Executor", "Future", "decode_result", "encode_arguments", "WeftError",
           "ServiceError", "ServiceUnavailable", "AuthError", "NotFoundError", "LimitError", "TaskFailed", "TaskPending", "TaskCancelled",
           "__version__"]

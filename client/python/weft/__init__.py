# SPDX-License-Identifier: Apache-2.0
"""Weft's Python SDK: standard library only; ``dill`` is used when it is installed.

    import weft

    with weft.Executor() as ex:              # WEFT_URL, WEFT_TOKEN and WEFT_ENDPOINT from the environment
        print(ex.submit(pow, 2, 10).result())

``Client`` is one method per route of the service; ``Executor`` is a ``concurrent.futures.Executor``.
"""
from .client import VERSION as __version__
from .client import Client
from .errors import (AuthError, LimitError, NotFoundError, ServiceError, ServiceUnavailable, TaskCancelled, TaskFailed,
                     TaskPending, WeftError)
from .executor import Executor, Future

__all__ = ["Client", "Executor", "Future", "WeftError", "ServiceError", "ServiceUnavailable", "AuthError", "NotFoundError",
           "LimitError", "TaskFailed", "TaskPending", "TaskCancelled", "__version__"]

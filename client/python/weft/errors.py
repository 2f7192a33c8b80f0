# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, one class per thing that a caller does differently."""
from __future__ import annotations

from typing import Any, Dict


class WeftError(Exception):
    """Root of all errors of this package."""


class ServiceError(WeftError):
    """The service answered with an error: ``status`` (HTTP), ``code`` (its name, e.g. TASK_NOT_FOUND) and ``detail``."""

    def __init__(self, status: int, code: str, detail: Any):
        super().__init__("%s (HTTP %s): %s" % (code, status, detail))
        self.status, self.code, self.detail = status, code, detail


class AuthError(ServiceError):
    """401 or 403."""


class NotFoundError(ServiceError):
    """404."""


class LimitError(ServiceError):
    """413 or 429: too large, or too much for now."""


class ServiceUnavailable(WeftError):
    """The service could not be reached, or cannot work now, also after retries."""


class TaskPending(WeftError):
    """The task has not ended; ``status`` says where it is."""

    def __init__(self, task_id: str, status: str):
        super().__init__("task %s is %s" % (task_id, status))
        self.task_id, self.status = task_id, status


class TaskFailed(WeftError):
    """The task ended badly. ``document`` is the whole task document: code, fault, node, stdout, stderr."""

    def __init__(self, document: Dict[str, Any]):
        text = document.get("exception") or document.get("reason") or "no reason given"
        super().__init__("task %s failed: %s" % (document.get("task_id"), text.strip()))
        self.document = document
        self.traceback = text


class TaskCancelled(TaskFailed):
    """The task was cancelled."""

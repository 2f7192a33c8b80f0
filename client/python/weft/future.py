# SPDX-License-Identifier: Apache-2.0
"""What ``Executor.submit`` returns."""
from __future__ import annotations

import concurrent.futures
import html
import threading
from typing import TYPE_CHECKING, Any, Dict, Optional

if TYPE_CHECKING:
    from .executor import Executor


class Future(concurrent.futures.Future):
    """A call on an endpoint. ``task_id`` is set once the service has accepted the task."""

    def __init__(self, executor: Executor):
        self.in_air = False     # it was sent, and nobody reads the answer yet
        super().__init__()
        self.task_id: Optional[str] = None
        self.function_name: Optional[str] = None
        self._executor = executor

    @property
    def _condition(self) -> threading.Condition:    # type: ignore[override]
        """Who asks for anything about a future, adds a callback or waits for several, comes by here. Only ``result`` and
        ``exception`` read the answer themselves; for all others it has to be there without them."""
        if self.in_air:
            self._executor._hand_over(self)
        return self._own_condition

    @_condition.setter
    def _condition(self, condition: threading.Condition) -> None:
        self._own_condition = condition

    def result(self, timeout: Optional[float] = None) -> Any:
        if self.in_air:
            timeout = self._executor._collect(self, timeout)
        return super().result(timeout)

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        if self.in_air:
            timeout = self._executor._collect(self, timeout)
        return super().exception(timeout)

    def cancel(self) -> bool:
        """Cancel the task, also when it runs: its process is killed. False when it has ended by itself."""
        if self.done():
            return self.cancelled()
        if self.task_id is None and super().cancel():
            if self.task_id is not None:        # it was accepted just now
                self._executor._cancel(self)
            return True
        return self.task_id is not None and self._executor._cancel(self)    # else it has just failed

    def trace(self) -> Dict[str, Any]:
        """Where the time went: spans of the task from process to process."""
        if self.task_id is None:
            raise RuntimeError("the service has not accepted the task yet")
        return self._executor.client.trace(self.task_id)

    def document(self) -> Dict[str, Any]:
        """The task document as the service has it now: state, node, output, times."""
        if self.task_id is None:
            raise RuntimeError("the service has not accepted the task yet")
        return self._executor.client.task(self.task_id)

    @property
    def state(self) -> str:
        """As far as is known here, without asking: submitting, pending, success, failed or cancelled."""
        if self.cancelled():
            return "cancelled"
        if not self.done():
            return "submitting" if self.task_id is None else "pending"
        return "failed" if self.exception() is not None else "success"

    def __repr__(self) -> str:
        return "<weft.Future %s task=%s %s>" % (self.function_name or "", self.task_id, self.state)

    def _repr_html_(self) -> str:
        rows = [("function", self.function_name or ""), ("task", self.task_id or "not accepted yet"), ("state", self.state)]
        if self.done() and not self.cancelled():
            error = self.exception()
            rows.append(("error", str(error)) if error is not None else ("result", repr(self.result())))
        return table("weft.Future", rows)


def table(title: str, rows: Any) -> str:
    """A small table for notebooks."""
    body = "".join("<tr><th style='text-align:left'>%s</th><td style='text-align:left'><code>%s</code></td></tr>" % (
        html.escape(k), html.escape(v if len(v) <= 500 else v[:500] + " ...")) for k, v in rows)
    return "<table><caption style='text-align:left'>%s</caption>%s</table>" % (html.escape(title), body)

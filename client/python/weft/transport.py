# SPDX-License-Identifier: Apache-2.0
"""What requests and streams share."""
from __future__ import annotations

import json
import socket
import threading
from typing import Any, Optional

from .errors import AuthError, LimitError, NotFoundError, ServiceError, WeftError

BACKOFF_S = 0.1       # doubles, with jitter, up to 5 s


class Interrupt:
    """Ends an event stream that another thread reads: ``EventStream(..., interrupt=i)`` there, ``i.fire()`` here."""

    class Fired(WeftError):
        """It was given up on purpose."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket] = None
        self._event = threading.Event()

    @property
    def fired(self) -> bool:
        return self._event.is_set()

    def fire(self) -> None:
        with self._lock:
            self._event.set()
            if self._socket is not None:
                try:
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)     # not SSLSocket's, which the reader would trip over
                except OSError:
                    pass

    def attach(self, sock: Any) -> None:
        with self._lock:
            if self.fired:
                raise self.Fired("interrupted")
            self._socket = sock

    def detach(self) -> None:
        with self._lock:
            self._socket = None

    def wait(self, seconds: float) -> bool:
        """Sleep, unless it is fired."""
        return self._event.wait(seconds)


def error_of(status: int, body: bytes) -> ServiceError:
    """The exception for an answer that is an error."""
    try:
        doc = json.loads(body)
        code, detail = doc.get("code", "HTTP_%d" % status), doc.get("detail") or doc.get("reason")
    except (ValueError, AttributeError):
        code, detail = "HTTP_%d" % status, body[:200].decode("utf-8", "replace")
    kind = {401: AuthError, 403: AuthError, 404: NotFoundError, 413: LimitError, 429: LimitError}.get(status, ServiceError)
    return kind(status, code, detail)

# SPDX-License-Identifier: Apache-2.0
"""The only call in hand, on a connection of its own: the thread that makes it sends it, and the one that waits for it reads the answer.

To wake another thread for a request, and to be woken by it with the answer, takes longer than everything else that is done here for a call."""
from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from .client import Client, Document
from .errors import WeftError

if TYPE_CHECKING:
    from .future import Future

PATIENCE_S = 1.0    # more than what the service was asked to wait, and the answer is not waited for here


class Call(NamedTuple):
    """A call, and the request that submits it: whoever sends that again, as it is, makes no second task."""

    future: Future
    kind: str
    function_id: str
    body: bytes
    key: str


class Lane:
    """One connection, and at most one call on it, for one thread at a time.

    Of everything that goes wrong, exceptions of any kind, the connection is closed. Then the same request is sent in the ordinary way,
    which tries again and says what is wrong."""

    def __init__(self, client: Client, path: str, wait: float):
        self._client, self._path = client, client._path(path)
        self.patience_s = wait + PATIENCE_S
        self._connection = client._connect(self.patience_s)
        self._sent_key = ""     # of the call whose answer is to come
        self.sent = 0           # calls

    @property
    def is_open(self) -> bool:
        return self._connection.sock is not None

    def open(self) -> bool:
        try:
            if not self.is_open:
                self._connection.connect()
        except OSError:
            pass
        return self.is_open

    def close(self) -> None:
        self._sent_key = ""
        self._connection.close()

    def send(self, call: Call) -> None:
        self._sent_key = call.key
        self.sent += 1
        try:
            self._connection.send("POST", self._path, self._client._submission_headers(call.key), call.body)
        except BaseException:
            self.close()
            raise

    def answer(self, call: Call) -> Document:
        """The answer to the call that was sent; after patience_s without one it is given up."""
        if self._sent_key != call.key:
            raise WeftError("the answer to %s is lost" % call.key)
        self._sent_key = ""
        try:
            status, text = self._connection.receive(), self._connection.read()
            if status != 200:
                raise WeftError("HTTP %d" % status)
            answer: Document = json.loads(text)
            return answer
        except BaseException:
            self.close()
            raise

# SPDX-License-Identifier: Apache-2.0
"""Reading the event stream of a task group: ``GET /v3/taskgroups/{id}/events``, resumed for as long as it is wanted."""
from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional

from .errors import ServiceUnavailable
from .transport import BACKOFF_S, Interrupt, error_of

if TYPE_CHECKING:
    from .client import Client

SILENCE_S = 60.0    # the service says something every 15 s; after so long a silence the connection is dead


class Event(NamedTuple):
    """One event: ``id`` is its place in the group, ``kind`` "task" or "gap", ``data`` the task document, or what is missing."""

    id: Optional[str]
    kind: str
    data: Dict[str, Any]


class EventStream:
    """The ends of a group's tasks, in order and each once, whatever breaks in between.

    ``last_id`` is the place of the last event that was taken; pass it as ``after`` to go on there in another process."""

    def __init__(self, client: Client, group_id: str, after: Optional[str] = None, interrupt: Optional[Interrupt] = None,
                 brief: bool = False):
        self._query = "?brief=1" if brief else ""
        self._client = client
        self.group_id = str(group_id)
        self.last_id = after
        self._interrupt = interrupt or Interrupt()

    def __repr__(self) -> str:
        return "<weft.EventStream group=%s last_id=%s>" % (self.group_id, self.last_id)

    def close(self) -> None:
        """End the iteration, from any thread."""
        self._interrupt.fire()

    def __iter__(self) -> Iterator[Event]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[List[Event]]:
        """The same, but all that arrived together at once."""
        failures = 0
        while not self._interrupt.fired:
            error = None
            try:
                for batch in self._connection():
                    failures = 0
                    yield batch
            except Interrupt.Fired:
                return
            except (ServiceUnavailable, OSError) as e:
                error = e
            if error is None or failures == 0:
                failures += 1   # it ended, or broke: soon back
                self._interrupt.wait(random.uniform(0.01, 0.05))
                continue
            self._interrupt.wait(min(5.0, BACKOFF_S * 2 ** failures) * random.uniform(0.5, 1.5))
            failures += 1

    def _connection(self) -> Iterator[List[Event]]:
        c = self._client._connect(SILENCE_S)
        try:
            c.connect()
            self._interrupt.attach(c.sock)
            headers = dict(self._client._headers(), Accept="text/event-stream")
            if self.last_id:
                headers["Last-Event-ID"] = self.last_id
            status = c.request("GET", self._client._path("/v3/taskgroups/%s/events%s" % (self.group_id, self._query)), headers)
            if status != 200:
                error = error_of(status, c.read())
                if status in (429, 502, 503, 504):
                    raise ServiceUnavailable(str(error))
                raise error
            yield []            # it stands
            yield from self._events(c.pieces())
        except OSError:
            if self._interrupt.fired:
                raise Interrupt.Fired("interrupted") from None
            raise
        finally:
            self._interrupt.detach()
            c.close()

    def _events(self, pieces: Iterator[bytes]) -> Iterator[List[Event]]:
        rest = b""
        for piece in pieces:
            blocks = (rest + piece).split(b"\n\n")
            rest = blocks.pop()
            events = [e for e in map(_parse, blocks) if e is not None]
            if events:
                self.last_id = events[-1].id or self.last_id
                yield events


def _parse(block: bytes) -> Optional[Event]:
    if block.startswith(b"id: "):       # as the service writes them
        lines = block.split(b"\n")
        if len(lines) == 3 and lines[1] == b"event: task" and lines[2].startswith(b"data: "):
            return Event(lines[0][4:].decode(), "task", json.loads(lines[2][6:]))
    return _parse_any(block)


def _parse_any(block: bytes) -> Optional[Event]:
    kind, place, data = "message", None, None
    for line in block.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"data":
            data = value
        elif name == b"id":
            place = value.decode()
        elif name == b"event":
            kind = value.decode()
    return None if data is None else Event(place, kind, json.loads(data))

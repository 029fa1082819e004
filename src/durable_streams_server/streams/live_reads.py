"""A protocol with the part of the engine that live reads use.

Long-polls and event streams depend on this protocol, and the engine depends on them. Without this protocol, their files would import each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..protocol.state import StreamState
from .clock import StoreClock
from .cursors import Cursors
from .draining import Drain
from .options import EngineOptions
from .reader import Reader
from .tails import Group, Waiter


class LiveReads(Protocol):
    """The members of the engine that long-polls and event streams use.

    Attributes:
        options: the page size, the timeouts, and the maximum age of an event stream.
        clock: steady time and the wall clock.
        cursors: the CDN cursors of live responses.
        random: returns a new random number from 0 to 1 on each call.
        reader: reads pages.
        drain: decides when live reads end while the server drains; None if it does not.
        stopping: whether the server is shutting down, so that live reads must end.
    """

    options: EngineOptions
    clock: StoreClock
    cursors: Cursors
    random: Callable[[], float]
    reader: Reader
    drain: Drain | None
    stopping: bool

    def retry(self) -> bytes:
        """Returns the field `retry:` of the last event, which sets how long a browser waits before it reconnects, or empty bytes."""
        ...

    def subscribe(self, state: StreamState, waiter: Waiter) -> Group:
        """Wakes a live read at each change of a stream. Returns the group of all live reads of that stream."""
        ...

    def unsubscribe(self, state: StreamState, waiter: Waiter) -> None:
        """Stops waking a live read."""
        ...

    def next_cursor(self, client_cursor: str | None) -> str:
        """Returns the CDN cursor for a response to a client that sent `client_cursor` (PROTOCOL 10.1)."""
        ...

    def is_ahead(self, client_cursor: str | None) -> bool:
        """Returns whether a client's cursor belongs to the present interval or a later one.

        The responses to that client then need their own cursors.
        """
        ...

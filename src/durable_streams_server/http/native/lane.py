"""The state that all connections of the native lane share, and the timer that checks them all.

A timer for each connection would be started and cancelled with every request. One timer that checks every connection once a second
costs a millisecond for ten thousand of them, and renews the Date header as well.
"""

import asyncio
from typing import Any, Final

from ...protocol.units import KIB
from ..asgi.application import DurableStreamsApp
from ..limits.admission import Admission
from ..limits.timeouts import Timeouts
from ..wire import chunk, date_line
from .heap import Heap
from .known import KnownRequests
from .patrol import Patrol, Watched
from .phase import phase_durations

_TICK: Final = 1.0  # seconds
_BUFFER: Final = 256 * KIB  # maximum octets that a connection receives at once
#: Maximum octets that a connection receives at once while the event loop has too much work for one turn. Most requests are smaller.
SMALL_BUFFER: Final = 2 * KIB


class Lane:
    """The state that all connections of the native lane share. A server has one lane.

    Args:
        app: the application that answers the requests.
        timeouts: how long a client may take.
        admission: decides on new connections. The default is an `Admission` with default settings.

    Attributes:
        phase_durations: seconds that each phase of a connection may last, indexed by `Phase`.
        observer: gets a report of each response.
        clock: the clock of the observer.
        known: requests that are recognised by the octets of their heads and not parsed again.
        date: the Date header line of the current second.
        now: time of the event loop's clock, renewed once a second.
        buffer: the buffer that every connection receives into. The octets are parsed or copied before the next connection receives.
        small_buffer: the first `SMALL_BUFFER` bytes of `buffer`.
    """

    def __init__(
        self,
        app: DurableStreamsApp,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  (a frozen value, so it can be shared)
        admission: Admission | None = None,
    ) -> None:
        self.app = app
        self.handler = app.handler
        self.budget = app.budget
        self.turns = app.engine.turns
        self.heap = Heap(self.turns.add)
        self.outgoing = app.outgoing
        self.observer = app.observer
        self.clock = app.observer.clock
        self.phase_durations = phase_durations(timeouts)
        self.least_rate = timeouts.least_rate
        self.admission = admission or Admission()
        self.known = KnownRequests()
        self.date = date_line()
        self.now = 0.0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.connections: set[Any] = set()  # uvicorn's set, so it holds every kind of connection
        self._timer: asyncio.TimerHandle | None = None
        self._last_chunk: tuple[bytes, bytes] = (b"", b"")
        self.buffer = memoryview(bytearray(_BUFFER))
        self.small_buffer = self.buffer[:SMALL_BUFFER]

    def begin(self, connections: set[Any]) -> None:
        """Attaches the lane to the running event loop and to the server's set of connections."""
        self.connections = connections
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()

    def watch(self, connection: Watched) -> None:
        """Adds a connection, which is then checked once a second."""
        if self._timer is None:
            self._tick()
        self.connections.add(connection)
        if self._timer is None:
            self._timer = self._schedule_tick()

    def chunk(self, data: bytes) -> bytes:
        """Returns `data` framed as one chunk of a chunked body.

        All readers of a stream are sent the same bytes object one after the other, so the last chunk is kept for the next reader.
        """
        known, framed = self._last_chunk
        if known is not data:
            framed = chunk(data)
            self._last_chunk = (data, framed)
        return framed

    def _tick(self) -> None:
        """Renews the date and the time, and begins a check of all connections."""
        assert self.loop is not None
        self.date = date_line()
        now = self.now = self.loop.time()
        if self.connections:
            patrol = Patrol(self.app.engine.sending, self.connections, now)
            self.turns.add(patrol.check_some)
        self._timer = self._schedule_tick() if self.connections else None

    def _schedule_tick(self) -> asyncio.TimerHandle:
        """Schedules the next tick."""
        assert self.loop is not None
        return self.loop.call_later(_TICK, self._tick)

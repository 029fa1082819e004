"""What all connections of one native server share: the handler, the body budget, the date, and one timer for all of them.

A timer for each connection would be set and taken back with every request. One that looks at every connection once a second
costs a millisecond for ten thousand of them, and gives the second's date line besides.
"""

import asyncio
from typing import Any, Final

from ...protocol.units import KIB
from ..asgi import DurableStreamsApp
from ..limits.admission import Admission
from ..wire import chunk, date
from .heap import Heap
from .known import KnownRequests
from .patrol import Patrol, Watched
from .phase import Timeouts

_TICK: Final = 1.0  # seconds
_ROOM: Final = 256 * KIB  # octets received at once
LITTLE: Final = 2 * KIB  #: octets received at once in a crowd: most requests fit


class Lane:
    """One native server's shared part.

    Args:
        app: the application whose handler answers.
        timeouts: how long a connection may take.
        admission: decides on new connections; as a server without settings does if not given.

    Attributes:
        known: requests that need not be parsed again.
        room: what comes on any connection is put here, and handed on before the next comes.
        little_room: its beginning.
    """

    def __init__(
        self,
        app: DurableStreamsApp,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  (frozen)
        admission: Admission | None = None,
    ) -> None:
        self.app = app
        self.handler = app.handler
        self.budget = app.budget
        self.turns = app.engine.turns
        self.heap = Heap(self.turns.add)
        self.outgoing = app.outgoing
        self.times = timeouts.table
        self.least_rate = timeouts.least_rate
        self.admission = admission or Admission()
        self.known = KnownRequests()
        self.date = date()
        self.now = 0.0  # the loop's time, to the second
        self.loop: asyncio.AbstractEventLoop | None = None
        self.connections: set[Any] = set()  # uvicorn's, which it shuts down
        self._timer: asyncio.TimerHandle | None = None
        self._framed: tuple[bytes, bytes] = (b"", b"")
        self.room = memoryview(bytearray(_ROOM))
        self.little_room = self.room[:LITTLE]

    def begin(self, connections: set[Any]) -> None:
        """Takes the server's loop, which runs, and its set of connections."""
        self.connections = connections
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()

    def added(self, connection: Watched) -> None:
        """Has a connection looked after."""
        if self._timer is None:
            self._tick()
        self.connections.add(connection)
        if self._timer is None:
            self._timer = self._again()

    def chunk(self, data: bytes) -> bytes:
        """Frames event-stream bytes as a chunk, once for all readers that are handed the same bytes in turn."""
        known, framed = self._framed
        if known is not data:
            framed = chunk(data)
            self._framed = (data, framed)
        return framed

    def _tick(self) -> None:
        assert self.loop is not None
        self.date = date()
        now = self.now = self.loop.time()
        if self.connections:
            self.turns.add(Patrol(self, self.connections, now).step)
        self._timer = self._again() if self.connections else None

    def _again(self) -> asyncio.TimerHandle:
        assert self.loop is not None
        return self.loop.call_later(_TICK, self._tick)

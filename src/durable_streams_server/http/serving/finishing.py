"""Ends the connections of a server that stops: gives clients time for their last responses, and then aborts what is left."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

_INTERVAL: Final = 0.1  # seconds between two checks
#: If no live read and no connection ends for these seconds, only stalled clients are left.
_GRACE: Final = 0.4
#: Seconds after which the server cuts all clients, also those that wait for a write or for the end of their live read. Few disks take as
#: long for a sync.
LONGEST: Final = 2.2


class Finish:
    """Aborts the connections of a stopping server that do not end by themselves. Must be created on the event loop.

    Two kinds of clients get more time: those that wait for a write, because a lost response would leave them in doubt, and a crowd, as long
    as the server is still busy ending its live reads and connections.

    Args:
        connections: the open connections.
        live_reads: returns the number of live reads that have not ended.
    """

    def __init__(self, connections: set[Any], live_reads: Callable[[], int]) -> None:
        self._connections = connections
        self._live_reads = live_reads
        self._loop = asyncio.get_running_loop()
        self._began_at = self._progress_at = self._loop.time()
        self._left = self._count()
        self._schedule()

    def _count(self) -> int:
        return len(self._connections) + self._live_reads()

    def _schedule(self) -> None:
        self._loop.call_later(_INTERVAL, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        before, self._left = self._left, self._count()
        if self._left < before:
            self._progress_at = now
        if now - self._began_at >= LONGEST:
            cut(self._connections)
            return
        if now - self._progress_at >= _GRACE:
            cut({each for each in self._connections if not each.is_writing})
        if self._connections:
            self._schedule()


def cut(connections: set[Any]) -> None:
    """Aborts connections."""
    for connection in tuple(connections):
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()

"""Ends the live reads of a server that will stop soon, so that their clients do not all reconnect in the same second.

Each event stream ends at a time of its own, spread evenly over the drain. Long-polls are short, and their clients poll again and again over
the same connection. So each connection has a random time, computed from its key. Until then, its client may poll as before. The poll that
waits at that time is the last one on the connection.

Clients that reconnect may reach this server again. Their new live reads last until the server stops, because otherwise they
would have to reconnect once more. `retry_spread` returns the time over which their browsers reconnect after the stop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from .spread import Spread

#: Seconds that a client may take between two polls. If a poll begins later than this after the time of its connection, the client has
#: opened a new connection.
_BETWEEN_POLLS: Final = 2.0
#: If fewer live reads end at once, their browsers get no extra delay.
_FEW: Final = 100
#: Maximum milliseconds over which the browsers of a stopped server reconnect. There is about one millisecond for each of them.
_LONGEST_SPREAD: Final = 10_000


class Drainable(Protocol):
    """A live read that a drain ends."""

    def begin_drain(self, drain: Drain) -> bool:
        """Prepares for the end of the live read. Returns whether the drain must call `end_soon`."""
        ...

    def end_soon(self) -> None:
        """Ends the live read cleanly and soon. It must not raise."""
        ...


class Drain:
    """Ends the live reads of a server within some seconds. Must be created on the event loop.

    Args:
        reads: the live reads that exist now.
        seconds: the seconds until the server stops, above 0.
        random_: returns a new random number from 0 to 1 on each call.
    """

    def __init__(
        self,
        reads: Iterable[Drainable],
        seconds: float,
        random_: Callable[[], float] = random.random,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._loop.time()
        self._seconds = seconds
        self._salt = random_()
        ending = [read for read in reads if read.begin_drain(self)]
        self._spread: Spread[Drainable] = Spread(ending, seconds, _end, random_)

    def time_of(self, connection: int) -> float:
        """Returns the seconds until the time of a connection. They are negative afterwards.

        Args:
            connection: the key of the connection, from `hash`.
        """
        part = random.Random(connection + self._salt).random()
        return self._begun_at + self._seconds * part - self._loop.time()

    def longest_wait(self, connection: int) -> float:
        """Returns the seconds that a long-poll which begins now may wait.

        Args:
            connection: the key of its connection.
        """
        left = self.time_of(connection)
        if left > 0:
            return left
        if left > -_BETWEEN_POLLS:
            return 0.0
        return max(0.0, self._begun_at + self._seconds - self._loop.time())

    def cancel(self) -> None:
        """Ends no further live reads."""
        self._spread.cancel()


def retry_spread(readers: int) -> int:
    """Returns the milliseconds over which the browsers of `readers` live reads that end at once shall reconnect. 0 means no delay."""
    return 0 if readers < _FEW else min(readers, _LONGEST_SPREAD)


def _end(read: Drainable) -> None:
    read.end_soon()

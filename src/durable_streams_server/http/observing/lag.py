"""`LoopLag`: measures how late the event loop runs its timers, because every client waits at least that long."""

from __future__ import annotations

import asyncio
from typing import Final

from ...storage.distribution import LONG_SECONDS, Distribution

#: Seconds between two measurements.
INTERVAL: Final = 0.25
#: Upper bounds of the buckets in seconds. Timers of uvloop have a resolution of a millisecond.
_BOUNDS: Final = (0.001, 0.0025, 0.005, *LONG_SECONDS[:-2])


class LoopLag:
    """Measures the lag of one event loop at a time, four times a second.

    Attributes:
        seconds: the lags so far.
    """

    def __init__(self) -> None:
        self.seconds = Distribution(_BOUNDS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # loop time for which the timer is set

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to measure an event loop. If another one was measured, that one must have ended."""
        self._loop = loop
        self._plan()

    def stop(self) -> None:
        """Stops measuring. May be called more than once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self) -> None:
        assert self._loop is not None
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        assert self._loop is not None
        self.seconds.add(max(0.0, self._loop.time() - self._due))
        self._plan()

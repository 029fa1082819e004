"""When something is to be done about a subscription: a heap of times, and one timer for the first of them.

A heartbeat moves a lease's end further away many times before it is ever reached, so it only moves the time that is noted;
an entry of the heap that comes up early is put back.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

from ..protocol.lifetime import MICROSECONDS
from ..streams.clock import Clock

_LONGEST: Final = 3600.0  # seconds; a timer further away is set again on the way

_SPARE: Final = 64  # entries that may mean nothing before it is worth looking for them


class Schedule:
    """Times by subscription id, one each.

    Args:
        clock: steady time.
        act: called with each id whose time has come; on the loop.
    """

    def __init__(self, clock: Clock, act: Callable[[str], None]) -> None:
        self._clock = clock
        self._act = act
        self._times: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._queued: dict[str, int] = {}  # the earliest entry of the heap
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._set_for = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to call `act`."""
        self._loop = loop
        self._set_timer()

    def stop(self) -> None:
        """Calls `act` no more."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def set(self, id_: str, at: int | None) -> None:
        """Has `act` called with an id at a time, in microseconds of steady time; None takes it back."""
        if at is None:
            self._times.pop(id_, None)
            return
        self._times[id_] = at
        queued = self._queued.get(id_)
        if queued is None or at < queued:
            self._queued[id_] = at
            heapq.heappush(self._heap, (at, id_))
            if len(self._heap) > 2 * len(self._times) + _SPARE:
                self._clear()
            self._set_timer()

    def run(self) -> None:
        """Acts on what is due now."""
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            at, id_ = heapq.heappop(self._heap)
            if self._queued.get(id_) != at:
                continue  # an earlier entry has taken its place
            del self._queued[id_]
            time = self._times.get(id_)
            if time is None:
                continue
            if time > now:
                self.set(id_, time)
            else:
                del self._times[id_]
                self._act(id_)

    @property
    def next(self) -> int | None:
        """When `run` may next have something to do, in microseconds of steady time."""
        return self._heap[0][0] if self._heap else None

    def _clear(self) -> None:
        """Throws away the entries that mean nothing any more: a wake that comes and goes within a lease leaves one."""
        self._queued = dict(self._times)
        self._heap = [(at, id_) for id_, at in self._times.items()]
        heapq.heapify(self._heap)

    def _set_timer(self) -> None:
        if self._loop is None or not self._heap:
            return
        at = self._heap[0][0]
        if self._timer is not None:
            if self._set_for <= at:
                return
            self._timer.cancel()
        self._set_for = at
        delay = min(_LONGEST, max(0.0, (at - self._clock()) / MICROSECONDS))
        self._timer = self._loop.call_later(delay, self._run)

    def _run(self) -> None:
        self._timer = None
        try:
            self.run()
        finally:
            self._set_timer()

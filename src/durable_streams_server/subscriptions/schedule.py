"""Schedules the next step of each subscription, with a heap of times and one timer for the earliest of them.

Heartbeats postpone the end of a lease many times before the lease ends. So setting a later time only changes an entry in a dict. When the
old heap entry is popped, it is pushed again with the new time.

Timers of the event loop do not notice when the clock is set. So the schedule reads its clock at least once a second while anything is
scheduled, and steps are at most a second late. Due steps run in slices that share the loop with other long work, because ten thousand
subscriptions may be due at once.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

from ..log import log as _log
from ..protocol.units import SECOND
from ..streams.clock import Clock
from ..streams.turns import Turns

#: Maximum seconds between two readings of the clock.
_MAX_TIMER: Final = 1.0
#: Microseconds until a step is retried after an exception.
_RETRY_AFTER: Final = SECOND
#: The heap is rebuilt when it has more obsolete entries than this number plus the number of scheduled subscriptions.
_MAX_OBSOLETE: Final = 64
#: Maximum subscriptions in one slice, which takes less than a millisecond.
_SLICE: Final = 20


class Schedule:
    """Keeps at most one time for each subscription.

    Args:
        clock: returns steady time.
        act: is called on the event loop with the id of each subscription that is due.
        turns: runs the slices of due subscriptions.
    """

    def __init__(self, clock: Clock, act: Callable[[str], None], turns: Turns) -> None:
        self._clock = clock
        self._act = act
        self._turns = turns
        self._times: dict[str, int] = {}  # by id, in microseconds
        self._heap: list[tuple[int, str]] = []
        self._queued: dict[str, int] = {}  # the time of the valid heap entry of each id
        self._loop: asyncio.AbstractEventLoop | None = None  # None while stopped
        self._timer: asyncio.TimerHandle | None = None
        self._set_for = 0  # the time for which the timer is set
        self._is_running = False  # True while a slice waits for its turn

    def __len__(self) -> int:
        """Returns the number of subscriptions with a time."""
        return len(self._times)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Calls `act` on `loop` from now on."""
        self._loop = loop
        self._set_timer()

    def stop(self) -> None:
        """Stops calling `act`."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def set(self, id_: str, at: int | None) -> None:
        """Sets the time of a subscription, in microseconds of steady time. None removes the subscription."""
        if at is None:
            self._times.pop(id_, None)
            return
        self._times[id_] = at
        queued = self._queued.get(id_)
        if queued is None or at < queued:
            self._queued[id_] = at
            heapq.heappush(self._heap, (at, id_))
            if len(self._heap) > 2 * len(self._times) + _MAX_OBSOLETE:
                self._rebuild_heap()
            self._set_timer()

    def run(self) -> None:
        """Calls `act` for every subscription that is due now."""
        while self._run_slice():
            pass

    @property
    def next(self) -> int | None:
        """The earliest time at which `run` may have something to do, in microseconds of steady time."""
        return self._heap[0][0] if self._heap else None

    def _run_slice(self) -> bool:
        """Calls `act` for some of the due subscriptions, and returns whether there may be more."""
        now = self._clock()
        for _ in range(_SLICE):
            if not self._heap or self._heap[0][0] > now:
                return False
            at, id_ = heapq.heappop(self._heap)
            if self._queued.get(id_) != at:
                continue  # an earlier entry has replaced this one
            del self._queued[id_]
            time = self._times.get(id_)
            if time is None:
                continue
            if time > now:
                self.set(id_, time)
            else:
                del self._times[id_]
                self._act_on(id_, now)
        return True

    def _act_on(self, id_: str, now: int) -> None:
        """Calls `act` for one subscription. After an exception, logs it and schedules a retry, so that no step is lost."""
        try:
            self._act(id_)
        except Exception:
            _log.exception("what was planned for the subscription %s went wrong", id_)
            self.set(id_, now + _RETRY_AFTER)

    def _rebuild_heap(self) -> None:
        """Removes obsolete heap entries. A wake that begins and ends within a lease leaves an obsolete entry."""
        self._queued = dict(self._times)
        self._heap = [(at, id_) for id_, at in self._times.items()]
        heapq.heapify(self._heap)

    def _set_timer(self) -> None:
        """Sets the timer for the first heap entry, unless it is set for an earlier time already."""
        if self._loop is None or not self._heap or self._is_running:
            return
        at = self._heap[0][0]
        if self._timer is not None:
            if self._set_for <= at:
                return
            self._timer.cancel()
        self._set_for = at
        delay = min(_MAX_TIMER, max(0.0, (at - self._clock()) / SECOND))
        self._timer = self._loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._heap and self._heap[0][0] <= self._clock():
            self._is_running = True
            self._turns.add(self._step)
        else:
            self._set_timer()

    def _step(self) -> bool:
        """Runs one slice, and returns whether another one follows immediately."""
        more = False
        try:
            more = self._loop is not None and self._run_slice()
        finally:
            self._is_running = more
            if not more:
                self._set_timer()
        return more

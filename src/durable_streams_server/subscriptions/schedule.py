"""When something is to be done about a subscription: a heap of times, and one timer for the first of them.

A heartbeat moves a lease's end further away many times before it is ever reached, so it only moves the time that is noted;
an entry of the heap that comes up early is put back.

The timer looks at the clock once a second while anything is planned, so that a clock that is set, which no timer hears of,
delays nothing by more than that. What is due is done in slices, each in its turn: ten thousand may be due at once.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

from ..log import log as _log
from ..protocol.units import SECOND
from ..streams.clock import Clock
from ..streams.turns import Turns

_LOOK_EVERY: Final = 1.0  # seconds between two looks at the clock
_AGAIN: Final = SECOND  # until something that went wrong is tried again
_SPARE: Final = 64  # entries that may mean nothing before it is worth looking for them
_SLICE: Final = 20  # subscriptions acted on in one step: less than a millisecond


class Schedule:
    """Keeps one time for each subscription.

    Args:
        clock: steady time.
        act: called with each id whose time has come; on the loop.
        turns: the line in which what is due is done.
    """

    def __init__(self, clock: Clock, act: Callable[[str], None], turns: Turns) -> None:
        self._clock = clock
        self._act = act
        self._turns = turns
        self._times: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._queued: dict[str, int] = {}  # the earliest entry of the heap
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._set_for = 0
        self._is_running = False  # a step stands in line

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
        """Acts on all that is due now."""
        while self._run_slice():
            pass

    @property
    def next(self) -> int | None:
        """When `run` may next have something to do, in microseconds of steady time."""
        return self._heap[0][0] if self._heap else None

    def _run_slice(self) -> bool:
        """Acts on some of what is due; returns whether there may be more."""
        now = self._clock()
        for _ in range(_SLICE):
            if not self._heap or self._heap[0][0] > now:
                return False
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
                self._act_on(id_, now)
        return True

    def _act_on(self, id_: str, now: int) -> None:
        """Acts on one id. A fault is logged, and the id comes up again: nothing that was planned is forgotten."""
        try:
            self._act(id_)
        except Exception:
            _log.exception("what was planned for the subscription %s went wrong", id_)
            self.set(id_, now + _AGAIN)

    def _clear(self) -> None:
        """Throws away the entries that mean nothing any more: a wake that comes and goes within a lease leaves one."""
        self._queued = dict(self._times)
        self._heap = [(at, id_) for id_, at in self._times.items()]
        heapq.heapify(self._heap)

    def _set_timer(self) -> None:
        if self._loop is None or not self._heap or self._is_running:
            return
        at = self._heap[0][0]
        if self._timer is not None:
            if self._set_for <= at:
                return
            self._timer.cancel()
        self._set_for = at
        delay = min(_LOOK_EVERY, max(0.0, (at - self._clock()) / SECOND))
        self._timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._heap and self._heap[0][0] <= self._clock():
            self._is_running = True
            self._turns.add(self._step)
        else:
            self._set_timer()

    def _step(self) -> bool:
        """Takes one slice; returns whether another is to follow."""
        more = False
        try:
            more = self._loop is not None and self._run_slice()
        finally:
            self._is_running = more
            if not more:
                self._set_timer()
        return more

"""The sweep: streams whose time has run out are ended when it does, not when somebody touches them."""

import asyncio
from typing import Final

from ..log import log as _log
from ..protocol.commands import Expire
from ..protocol.units import SECOND
from ..storage.store import Store
from .clock import StoreClock

_SOONEST: Final = (
    0.01  # seconds; a crowd of deadlines is swept in batches, with room for other work between
)


#: Seconds between two looks at the clocks: at the wall clock, which dates follow, and at the time of the next deadline, since no
#: timer hears of a clock that is set.
_CHECK_INTERVAL: Final = 1.0
_TOLD_FROM: Final = SECOND  # of a step of the wall clock that an operator may want to know of


class Sweep:
    """One timer, set for the store's next deadline, and one that looks whether the wall clock was set."""

    def __init__(self, store: Store, clock: StoreClock) -> None:
        self._store = store
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._set_for: int | None = None
        self._clock_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to sweep, on the running loop."""
        self.check_clock()
        self.schedule()

    def check_clock(self) -> None:
        """Looks whether the wall clock was set: then the dates that it has passed are due."""
        step = self._clock.detect_step()
        if step:
            if abs(step) >= _TOLD_FROM:
                _log.warning("the clock was set by %+.1f seconds", step / SECOND)
            self._store.clock_was_set()
            self.schedule()
        loop = asyncio.get_running_loop()
        self._clock_timer = loop.call_later(_CHECK_INTERVAL, self.check_clock)

    def schedule(self) -> None:
        """Sets the timer for the next deadline, if there is one and it is not set for an earlier one."""
        deadline = self._store.next_deadline()
        if deadline is None or (self._set_for is not None and self._set_for <= deadline):
            return
        self._cancel()
        self._set_for = deadline
        delay = max(_SOONEST, (deadline - self._clock()) / SECOND)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(delay, _CHECK_INTERVAL), self._run)

    def stop(self) -> None:
        """Takes the timers back."""
        self._cancel()
        if self._clock_timer is not None:
            self._clock_timer.cancel()
            self._clock_timer = None

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._set_for = None

    def expire_due(self) -> None:
        """Ends what is due now."""
        now = self._clock()
        for path, incarnation in self._store.due(now):
            self._store.execute(Expire(path, incarnation), now)

    def _run(self) -> None:
        self._timer = self._set_for = None
        self.expire_due()
        self.schedule()

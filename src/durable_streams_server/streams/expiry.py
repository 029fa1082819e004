"""The sweep: a timer that expires streams when their lifetime ends, even if no client uses them."""

import asyncio
from typing import Final

from ..errors import StreamError
from ..log import log as _log
from ..protocol.commands import Expire
from ..protocol.decisions.outcomes import DeleteOutcome, Outcome
from ..protocol.units import SECOND
from ..storage.store import Store
from ..storage.ticket import Abandoned, Ticket
from .clock import StoreClock

#: Minimum seconds until the next sweep. If many streams expire together, they are expired in batches, and other work runs in between.
_MIN_DELAY: Final = 0.01
#: Seconds between two checks of the wall clock and of the next deadline. Timers do not notice that the wall clock was set.
_CHECK_INTERVAL: Final = 1.0
_LOGGED_STEP: Final = SECOND  # smallest step of the wall clock that is logged


class Sweep:
    """Expires the streams of a store. It has one timer for the next deadline, and one that checks whether the wall clock was set.

    Attributes:
        expired: the number of streams that were removed because their lifetime had ended.
    """

    def __init__(self, store: Store, clock: StoreClock) -> None:
        self._store = store
        self._clock = clock
        self.expired = 0
        self._timer: asyncio.TimerHandle | None = None
        self._set_for: int | None = None
        self._clock_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts both timers on the running event loop."""
        self.check_clock()
        self.schedule()

    def check_clock(self) -> None:
        """Checks whether the wall clock was set. If it was set, the streams whose deadlines have passed by the new time are due."""
        step = self._clock.detect_step()
        if step:
            if abs(step) >= _LOGGED_STEP:
                _log.warning("the clock was set by %+.1f seconds", step / SECOND)
            self._store.clock_was_set()
            self.schedule()
        loop = asyncio.get_running_loop()
        self._clock_timer = loop.call_later(_CHECK_INTERVAL, self.check_clock)

    def schedule(self) -> None:
        """Sets the timer for the store's next deadline, unless it is already set for that time or an earlier one."""
        deadline = self._store.next_deadline()
        if deadline is None or (self._set_for is not None and self._set_for <= deadline):
            return
        self._cancel()
        self._set_for = deadline
        delay = max(_MIN_DELAY, (deadline - self._clock()) / SECOND)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(delay, _CHECK_INTERVAL), self._run)

    def stop(self) -> None:
        """Cancels both timers."""
        self._cancel()
        if self._clock_timer is not None:
            self._clock_timer.cancel()
            self._clock_timer = None

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._set_for = None

    def expire_due(self) -> None:
        """Expires the streams that are due now."""
        now = self._clock()
        for path, incarnation in self._store.due(now):
            self._store.execute(Expire(path, incarnation), now).add_callback(self._count)

    def _count(self, expiry: Ticket[Outcome]) -> None:
        """Counts an expiry that is durable. A refused one is tried again."""
        try:
            self.expired += isinstance(expiry.result(), DeleteOutcome)
        except (StreamError, Abandoned):
            return

    def _run(self) -> None:
        self._timer = self._set_for = None
        self.expire_due()
        self.schedule()

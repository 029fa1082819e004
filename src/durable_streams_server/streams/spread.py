"""`Spread`: calls a function once for each of many things, spread evenly over some seconds and in random order.

A server that stops ends its live reads this way, so that thousands of clients do not reconnect in the same second.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from ..log import log as _log

T = TypeVar("T")

#: Seconds between two rounds of calls.
_INTERVAL: Final = 0.02


class Spread(Generic[T]):
    """Calls a function once for each thing. Must be created and cancelled on the event loop.

    Args:
        things: what the function is called with.
        seconds: the time in which all calls are made, above 0. The calls begin at once.
        call: the function. An exception that it raises is logged.
        random_: returns a new random number from 0 to 1 on each call.
    """

    def __init__(
        self,
        things: Iterable[T],
        seconds: float,
        call: Callable[[T], object],
        random_: Callable[[], float] = random.random,
    ) -> None:
        self._things = sorted(things, key=lambda _: random_())
        self._count = len(self._things)
        self._seconds = seconds
        self._call = call
        self._ahead = random_()  # otherwise a single thing would always have to wait until the end
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._run()

    def __len__(self) -> int:
        """Returns the number of calls that are still to be made."""
        return len(self._things)

    def cancel(self) -> None:
        """Makes no further calls."""
        self._things.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        """Makes the calls that are due, and schedules the next round if calls are left."""
        self._timer = None
        part = (self._loop.time() - self._begun_at) / self._seconds
        due = self._count if part >= 1 else int(self._count * part + self._ahead)
        things = self._things
        while things and self._count - len(things) < due:
            thing = things.pop()
            try:
                self._call(thing)
            except Exception:
                _log.exception("a step of a drain failed")
        if things:
            self._timer = self._loop.call_later(_INTERVAL, self._run)

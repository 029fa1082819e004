"""Holds the large pages that clients are reading, and cuts the slowest clients while other reads wait for memory.

The send budget of `streams/large.py` counts the bytes of the pages. While reads wait for the budget, the slowest clients are cut, once
a second, until all waiting reads have room. Every client has a few seconds before it can be cut.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from ...streams.large import SendBudget
from ...streams.turns import Turns

#: Seconds before a client that reads a large page can be cut, however slowly it reads.
GRACE: Final = 5.0
_INTERVAL: Final = 1.0  # seconds between two rounds of cutting slow clients
_CUT: Final = 0.001  # seconds that the event loop takes to close a connection and free its page


class Sender(Protocol):
    """A connection whose client is reading a large page."""

    @property
    def taken(self) -> int:
        """A counter that grows by one with each byte that the client reads. Its start value is arbitrary."""
        ...

    def cut(self) -> None:
        """Aborts the connection and drops its reference to the page."""
        ...


class _Held(msgspec.Struct):
    """A held page, the time from which it is held, and the value of `Sender.taken` at that time."""

    page: object
    since: float
    taken: int


class Outgoing:
    """Holds one large page for each client that is reading one.

    Args:
        budget: the send budget, for which reads wait.
        turns: runs the steps in which clients are cut.
        clock: returns monotonic time in seconds.
    """

    def __init__(
        self, budget: SendBudget, turns: Turns, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._budget = budget
        self._turns = turns
        self._clock = clock
        self._held: dict[Sender, _Held] = {}
        self._timer: asyncio.TimerHandle | None = None
        budget.on_wait = self._start_timer

    def __len__(self) -> int:
        """Returns how many clients are reading large pages."""
        return len(self._held)

    def hold(self, sender: Sender, page: object) -> None:
        """Holds a page for a client. Does nothing if the same page is already held for the client."""
        held = self._held.get(sender)
        if held is None or held.page is not page:
            self._held[sender] = _Held(page, self._clock(), sender.taken)

    def release(self, sender: Sender) -> None:
        """Releases the page of a client, if one is held."""
        self._held.pop(sender, None)

    def cut_slowest(self) -> None:
        """Cuts clients, the slowest first, until enough bytes are free for all reads that wait now.

        Each client is cut in a step of its own, because it takes a millisecond to free megabytes.
        """
        now = self._clock()
        slow = deque(
            sorted(
                (each for each in self._held.items() if now - each[1].since >= GRACE),
                key=lambda each: (each[0].taken - each[1].taken) / (now - each[1].since),
            )
        )
        wanted = self._budget.wanted_in_all

        def cut_next() -> bool:
            nonlocal wanted
            if not slow or wanted <= 0:
                return False
            sender, held = slow.popleft()
            if self._held.get(sender) is held:  # the client is still reading the same page
                before = self._budget.held
                del self._held[sender], held
                wanted -= before - self._budget.held
                sender.cut()
                self._turns.spend(_CUT)
            return True

        self._turns.add(cut_next)

    def _start_timer(self) -> None:
        """Schedules the next round, unless one is scheduled. The budget calls this when a read begins to wait."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._on_timer)

    def _on_timer(self) -> None:
        """Cuts slow clients and schedules the next round, if reads still wait."""
        self._timer = None
        if self._budget.wanted:
            self.cut_slowest()
            self._start_timer()

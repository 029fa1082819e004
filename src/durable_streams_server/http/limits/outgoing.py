"""Who is being sent large pages, so that the slowest can be cut while others wait for room.

`streams/large.py` counts the pages. Here are the clients that have not taken theirs. While reads wait for the budget, the clients
that have taken least in their time are cut, once a second, until there is room for all who wait. A client has some seconds first.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from ...streams.large import SendBudget
from ...streams.turns import Turns

GRACE: Final = 5.0  #: seconds that a client may take for a large page, however slow it is, while others wait for room
_LOOK: Final = 1.0  # seconds between two looks at who is slow
_CUT: Final = 0.001  # seconds that the loop takes to close a connection and to free its page


class Sender(Protocol):
    """A client that is being sent a large page."""

    @property
    def taken(self) -> int:
        """Bytes that the client has taken, on a count of its own that only grows."""
        ...

    def cut(self) -> None:
        """Ends the client's connection, and holds the page no more."""
        ...


class _Held(msgspec.Struct):
    page: object
    since: float
    taken: int


class Outgoing:
    """The clients that are being sent large pages. It holds each client's page.

    Args:
        budget: where reads wait.
        turns: the line in which clients are cut.
        clock: seconds that only grow.
    """

    def __init__(
        self, budget: SendBudget, turns: Turns, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._budget = budget
        self._turns = turns
        self._clock = clock
        self._held: dict[Sender, _Held] = {}
        self._timer: asyncio.TimerHandle | None = None
        budget.on_wait = self._someone_waits

    def __len__(self) -> int:
        """Returns how many clients have pages to take."""
        return len(self._held)

    def hold(self, sender: Sender, page: object) -> None:
        """Holds a page until its client has taken it. To hold the page that is held already changes nothing."""
        held = self._held.get(sender)
        if held is None or held.page is not page:
            self._held[sender] = _Held(page, self._clock(), sender.taken)

    def release(self, sender: Sender) -> None:
        """Lets a client's page go. One that has none is no error."""
        self._held.pop(sender, None)

    def cut_slowest(self) -> None:
        """Cuts clients, the slowest first, until what they held is as large as all the reads that wait now.

        To free megabytes takes a millisecond, so each client is cut in a step of its own.
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
            if self._held.get(sender) is held:  # it has not taken all of it meanwhile
                before = self._budget.held
                del self._held[sender], held
                wanted -= before - self._budget.held
                sender.cut()
                self._turns.spend(_CUT)
            return True

        self._turns.add(cut_next)

    def _someone_waits(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._budget.wanted:
            self.cut_slowest()
            self._someone_waits()

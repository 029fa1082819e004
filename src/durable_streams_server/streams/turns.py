"""The loop's time, shared out fairly: long work runs in short steps, and what waits gets one step each, in turn.

One event loop serves all clients, so work that goes on for long would hold up every one of them. Such work is cut into steps of
about a millisecond (DESIGN, 15). Steps stand in four lines, so that what is cheap does not wait for what is not: see `Line`. In
each turn of the loop each line runs for a few milliseconds at most; then the loop looks at its sockets, and the lines go on.

    turns.add(step)         `step` is called when it is its turn; while it returns True it goes back to the end of its line
    turns.admits(…)         whether a request may still be begun at once, in this turn of the loop
    await turns.wait_turn()      the same lines for a coroutine
"""

import asyncio
import enum
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from ..log import log as _log
from ..storage.ticket import Ticket

#: Seconds that each line may run in one turn of the loop: short beside the 50 ms that a cheap request may wait, long beside the
#: cost of a turn.
SHARE: Final = 0.004
_WRITE: Final = 0.00005  # seconds that a write takes, or less
_SLOWEST: Final = 512  # octets whose parsing takes no longer than a write; if it took longer, another thread ran meanwhile
_RECEIVED: Final = 8192  # octets whose receipt counts as a write: the loop receives from all ready sockets in one turn
#: Writes that are begun at once in one turn of the loop; the rest stand in line. These take some 13 ms, and they are made durable
#: together.
WRITES_AT_ONCE: Final = 256
#: Requests that are begun without a look at the loop's turn.
FEW: Final = 32
#: Reads that are begun at once. They pass the writes that stand in line: a cheap read is not to wait for a crowd of writers.
READS_AT_ONCE: Final = 512
#: Seconds of one turn of the loop after which reads stand in line too, once as many requests as `WRITES_AT_ONCE` have begun.
LONGEST_READS: Final = 0.024


class Line(enum.IntEnum):
    """Where a step stands, in the order in which the lines run."""

    READS = 0  # cheap reads that could not be begun at once
    URGENT = 1  # the other requests, and octets to parse
    WAKES = 2  # live readers to wake
    WORK = 3  # long work


#: Lets a thread run that waits for this one's core, or for the interpreter (the GIL). Where the system has no such call, the scheduler
#: and Python's switch interval must do.
_give_way: Final[Callable[[], None]] = getattr(os, "sched_yield", lambda: None)
#: Seconds that a thread may be waited for before the loop sleeps for it. A loop that never sleeps lets go of the interpreter in each
#: turn and takes it back before the thread is awake: we saw a thread wait 6 s for it.
_PATIENCE: Final = 0.005
_NAP: Final = 0.00002  # seconds; some 75 microseconds with the system's own delay, long enough for a thread to wake

_sleep: Final = time.sleep
Step = Callable[[], object]
D = TypeVar("D", bytes, memoryview)


class Turns:
    """The lines. Every method is called on the loop's thread.

    Args:
        share: seconds that each line may run in one turn of the loop.
        clock: seconds that only grow.
        is_waited_for: whether another thread is about to do what clients wait for. A loop that always has something to do never sleeps,
            so it lets that thread run between two turns.

    Attributes:
        begun: requests that were begun in this turn of the loop, and few before it.
        unasked: how many may be begun without asking `admits`; each adds one to `begun`.
    """

    def __init__(
        self,
        share: float = SHARE,
        clock: Callable[[], float] = time.monotonic,
        is_waited_for: Callable[[], bool] = lambda: False,
    ) -> None:
        self._share = share
        self._clock = clock
        self._is_waited_for = is_waited_for
        self._lines: tuple[deque[Step], ...] = tuple(deque() for _ in Line)
        self._is_planned = False
        self._until = 0.0
        self._is_reset_planned = False
        self._waited_since: float | None = (
            None  # when the loop last slept for a thread, or began to wait
        )
        self._begun_at = 0.0  # when more than few had been begun in this turn of the loop
        self.begun = 0
        self.unasked = FEW

    def __len__(self) -> int:
        """Returns how many steps stand in line, besides the wake-ups, which no request waits for."""
        reads, urgent, _, work = self._lines
        return len(reads) + len(urgent) + len(work)

    @property
    def is_idle(self) -> bool:
        """Whether no step is left in any line."""
        return not self._is_planned

    def add(self, step: Step, line: Line = Line.WORK) -> None:
        """Has `step` called after all that stand in its line now, and again and again while it returns True.

        A step may run for a millisecond or so. An exception of one is logged and ends that step alone.
        """
        self._lines[line].append(step)
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._run)

    def admits(self, is_read: bool) -> bool:
        """Returns whether a request may be begun at once, and counts it then, or must stand in line.

        The count begins anew in the loop's next turn, or later if few have been begun: then it is no matter.

        Args:
            is_read: whether it passes the writes that stand in line.
        """
        if self.begun >= WRITES_AT_ONCE:
            if not is_read or self.begun >= READS_AT_ONCE:
                return False
            if self._clock() - self._begun_at >= LONGEST_READS:
                return False
        self._count(1)
        return True

    def has_time(self, seconds: float) -> bool:
        """Returns whether work of `seconds` may be done at once, and counts it if so. If not, it must stand in line."""
        if len(self) or self.begun >= WRITES_AT_ONCE or seconds > self._share:
            return False
        self._count(1 + int(seconds / _WRITE))
        return True

    @property
    def is_full(self) -> bool:
        """Whether writes must stand in line until the loop's next turn."""
        return self.begun >= WRITES_AT_ONCE

    def count(self, work: Callable[[D], object], data: D) -> None:
        """Calls `work` with octets. It counts the time that this takes, and the receipt of the octets, as so many writes."""
        clock = self._clock
        begun = clock()
        work(data)
        taken = min(int((clock() - begun) / _WRITE), len(data) // _SLOWEST)
        self._count(len(data) // _RECEIVED + taken)

    def _count(self, more: int) -> None:
        begun = self.begun = self.begun + more
        if begun > FEW and not self._is_reset_planned:
            self._is_reset_planned = True
            self._begun_at = self._clock()
            self.unasked = WRITES_AT_ONCE  # until the loop's next turn restarts the count
            asyncio.get_running_loop().call_soon(self._reset)

    def _reset(self) -> None:
        self._is_reset_planned = False
        self.begun = 0
        self.unasked = FEW

    def spend(self, seconds: float) -> None:
        """Counts time that a step will cost the loop outside of the line, such as a socket that it has the loop read."""
        self._until -= seconds

    @property
    def is_over(self) -> bool:
        """Whether the line that runs has used up its share of this turn."""
        return self._clock() >= self._until

    def ticket(self) -> Ticket[None]:
        """Returns a ticket that resolves when the caller's turn has come."""
        turn: Ticket[None] = Ticket()
        self.add(lambda: turn.resolve(None))
        return turn

    async def wait_turn(self, line: Line = Line.WORK, cost: float = 0.0) -> None:
        """Returns when the caller's turn has come.

        Args:
            line: where to stand.
            cost: seconds that the caller will work for, once it goes on outside of the line.
        """
        turn = asyncio.get_running_loop().create_future()

        def begin() -> None:
            if not turn.done():
                turn.set_result(None)
                self.spend(cost)

        self.add(begin, line)
        await turn

    def _run(self) -> None:
        """Runs each line for its share, at least one step. Of wake-ups it runs each step once: the next appends come in between."""
        reads, urgent, wakes, work = self._lines
        self._run_line(reads)
        self._run_line(urgent)
        self._run_line(wakes, len(wakes))
        self._run_line(work)
        self._is_planned = any(self._lines)
        if self._is_planned:
            self._let_threads_run()
            asyncio.get_running_loop().call_soon(self._run)
        else:
            self._waited_since = None

    def _let_threads_run(self) -> None:
        """Lets a thread have the interpreter that clients wait for."""
        if not self._is_waited_for():
            self._waited_since = None
            return
        now = self._clock()
        if self._waited_since is None:
            self._waited_since = now
        if now - self._waited_since < _PATIENCE:
            _give_way()
        else:
            self._waited_since = now
            _sleep(_NAP)

    def _run_line(self, line: deque[Step], most: int = sys.maxsize) -> None:
        """Runs at most so many steps of a line, until its share of the turn is over."""
        if not line:
            return
        clock = self._clock
        self._until = clock() + self._share
        while line and most > 0:
            most -= 1
            step = line.popleft()
            try:
                if step() is True:
                    line.append(step)
            except Exception:
                _log.exception("a step of long work failed")
            if clock() >= self._until:
                return

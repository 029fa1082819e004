"""Shares the time of the event loop fairly. Long work runs in short steps, which take turns.

One event loop serves all clients, so long work would delay every one of them. It is therefore cut into steps of about a millisecond
(DESIGN, 15). Steps wait in four lines, so that cheap work does not wait for expensive work; see `Line`. In each turn of the event loop, each
line runs for a few milliseconds at most. Then the loop serves its sockets, and the lines continue in the next turn.

    turns.add(step)           calls `step` when it is its turn; a step that returns True is added to its line again
    turns.admits(...)         returns whether a request may start immediately in this turn of the loop
    await turns.wait_turn()   waits in a line, for coroutines
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

#: Seconds that each line may run in one turn of the loop. That is short compared with the 50 ms that a cheap request may wait, and long
#: compared with the overhead of a turn.
SHARE: Final = 0.004
_WRITE: Final = 0.00005  # maximum seconds that one write takes
_SLOWEST: Final = 512  # bytes that are parsed within the time of one write; if parsing takes longer, another thread was running
_RECEIVED: Final = 8192  # received bytes that count as one write, because the loop receives from all ready sockets in one turn
#: Maximum number of writes that start in one turn of the loop. Further writes wait in line. These writes take about 13 ms, and one sync
#: makes all of them durable.
WRITES_AT_ONCE: Final = 256
#: Number of requests that start in one turn without a check of the turn's limits.
FEW: Final = 32
#: Maximum number of requests after which a read may still start in one turn. Reads overtake the writes in line, so that a cheap read does not
#: wait for many writers.
READS_AT_ONCE: Final = 512
#: Maximum seconds of a turn in which reads still start immediately once `WRITES_AT_ONCE` requests have started.
LONGEST_READS: Final = 0.024


class Line(enum.IntEnum):
    """The line in which a step waits. The lines run in this order."""

    READS = 0  # cheap reads that could not start immediately
    URGENT = 1  # other requests, and received bytes to parse
    WAKES = 2  # live reads to wake
    WORK = 3  # long work


#: Gives way to another thread that waits for this processor core or for the interpreter lock (GIL). On systems without `sched_yield`, the
#: scheduler and Python's switch interval do that alone.
_give_way: Final[Callable[[], None]] = getattr(os, "sched_yield", lambda: None)
#: Seconds for which a thread may wait before the loop sleeps to let it run. A loop that never sleeps releases the interpreter lock in each
#: turn but takes it again before the thread wakes. We saw a thread wait for 6 s.
_PATIENCE: Final = 0.005
_NAP: Final = 0.00002  # seconds of sleep; with the delay of the system about 75 us, which is enough for a thread to wake

_sleep: Final = time.sleep
Step = Callable[[], object]
D = TypeVar("D", bytes, memoryview)


class Turns:
    """Runs the lines of one event loop. All methods must be called in the loop's thread.

    Args:
        share: seconds that each line may run in one turn of the loop.
        clock: returns seconds that never decrease.
        is_waited_for: returns whether clients wait for the work of another thread. A busy loop never sleeps, so it has to let that
            thread run between two turns.

    Attributes:
        begun: number of requests that have started in this turn. A few requests of earlier turns may be included.
        unasked: number of requests that may start without a call of `admits`. The caller adds 1 to `begun` for each of them.
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
        #: Time at which a thread began to wait, or at which the loop last slept for it.
        self._waited_since: float | None = None
        self._begun_at = 0.0  # time at which this turn had started more than `FEW` requests
        self.begun = 0
        self.unasked = FEW

    def __len__(self) -> int:
        """Returns the number of steps in all lines except the line of wake-ups, which no request waits for."""
        reads, urgent, _, work = self._lines
        return len(reads) + len(urgent) + len(work)

    @property
    def waiting(self) -> tuple[int, ...]:
        """The number of steps in each line, indexed by `Line`."""
        return tuple(map(len, self._lines))

    @property
    def is_idle(self) -> bool:
        """Whether all lines are empty."""
        return not self._is_planned

    def add(self, step: Step, line: Line = Line.WORK) -> None:
        """Queues a step, which is a short piece of work, at the end of a line. A step that returns True is queued again after it has run.

        A step should run for about a millisecond at most. If it raises an exception, the exception is logged and only that step ends.
        """
        self._lines[line].append(step)
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._run)

    def admits(self, is_read: bool) -> bool:
        """Returns whether a request may start immediately, and counts it if so. Otherwise the request must wait in line.

        The count restarts in the next turn of the loop. After a turn with few requests it may restart later, which makes no difference.

        Args:
            is_read: whether the request is a cheap read, which overtakes the writes in line.
        """
        if self.begun >= WRITES_AT_ONCE:
            if not is_read or self.begun >= READS_AT_ONCE:
                return False
            if self._clock() - self._begun_at >= LONGEST_READS:
                return False
        self._count(1)
        return True

    def has_time(self, seconds: float) -> bool:
        """Returns whether work of `seconds` may be done immediately, and counts it if so. Otherwise the work must wait in line."""
        if len(self) or self.begun >= WRITES_AT_ONCE or seconds > self._share:
            return False
        self._count(1 + int(seconds / _WRITE))
        return True

    @property
    def is_full(self) -> bool:
        """Whether writes must wait in line until the next turn of the loop."""
        return self.begun >= WRITES_AT_ONCE

    def count(self, work: Callable[[D], object], data: D) -> None:
        """Calls `work` with received bytes. Counts the receipt of the bytes, and the time that `work` takes, as a number of writes."""
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
            self.unasked = WRITES_AT_ONCE  # until the next turn resets it
            asyncio.get_running_loop().call_soon(self._reset)

    def _reset(self) -> None:
        self._is_reset_planned = False
        self.begun = 0
        self.unasked = FEW

    def spend(self, seconds: float) -> None:
        """Subtracts time from the share of the running line. A step calls it for work that it causes outside of the line, such as a socket read."""
        self._until -= seconds

    @property
    def is_over(self) -> bool:
        """Whether the running line has used up its share of this turn."""
        return self._clock() >= self._until

    def ticket(self) -> Ticket[None]:
        """Returns a ticket that resolves when it is the caller's turn."""
        turn: Ticket[None] = Ticket()
        self.add(lambda: turn.resolve(None))
        return turn

    async def wait_turn(self, line: Line = Line.WORK, cost: float = 0.0) -> None:
        """Waits in a line until it is the caller's turn.

        Args:
            line: the line to wait in.
            cost: seconds of work that the caller will do after its wait.
        """
        turn = asyncio.get_running_loop().create_future()

        def begin() -> None:
            if not turn.done():
                turn.set_result(None)
                self.spend(cost)

        self.add(begin, line)
        await turn

    def _run(self) -> None:
        """Runs each line for its share of the turn, but at least one step. Each wake-up step runs once, so that appends are accepted in between."""
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
        """Releases the interpreter lock if clients wait for the work of another thread."""
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
        """Runs at most `most` steps of a line, and stops when the line's share of the turn is used up."""
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

"""The loop's time, shared out fairly: long work runs in short steps, and what waits gets one step each, in turn.

One event loop serves all clients, so work that goes on for long would hold up every one of them. Such work is cut into steps of
about a millisecond (DESIGN, 15). All steps stand in one line. In each turn of the loop the line runs for a few milliseconds at
most; then the loop looks at its sockets, and the line goes on.

    turns.add(step)      `step` is called when it is its turn; while it returns True it goes back to the end of the line
    turns.admits()       whether a short piece of work may still be done at once, in this turn of the loop
    await turns.mine()   the same line for a coroutine
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from ..storage.ticket import Ticket

#: Seconds that the line may run in one turn of the loop: short beside the 50 ms that a cheap request may wait, long beside the
#: cost of a turn.
SHARE: Final = 0.004
#: Short pieces of work that are done at once in one turn of the loop, such as requests that have just come; the rest stand in
#: line. A request takes about 50 us.
AT_ONCE: Final = 64

Step = Callable[[], object]

_log = logging.getLogger("durable_streams_server")


class Turns:
    """The line. Every method is called on the loop's thread.

    Args:
        share: seconds that the line may run in one turn of the loop.
        clock: seconds that only grow.
    """

    def __init__(self, share: float = SHARE, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._line: deque[Step] = deque()
        self._is_planned = False
        self._turn = -1.0
        self._begun = 0

    def __len__(self) -> int:
        """Returns how many steps stand in line."""
        return len(self._line)

    def add(self, step: Step) -> None:
        """Has `step` called after all that stand in line now, and again and again while it returns True.

        A step may run for a millisecond or so. An exception of one is logged and ends that step alone.
        """
        self._line.append(step)
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._run)

    def admits(self) -> bool:
        """Counts a short piece of work; returns whether it may be done at once, or must stand in line behind others.

        The count begins anew with each turn of the loop. A loop's time is that at which its turn began (libuv), or goes on
        within the turn (asyncio's own loop, which is used where there is no uvloop); then all work is done at once.
        """
        if self._line:
            return False
        now = asyncio.get_running_loop().time()
        if now != self._turn:
            self._turn = now
            self._begun = 0
        self._begun += 1
        return self._begun <= AT_ONCE

    def ticket(self) -> Ticket[None]:
        """Returns a ticket that resolves when the caller's turn has come."""
        turn: Ticket[None] = Ticket()
        self.add(lambda: turn.resolve(None))
        return turn

    async def mine(self) -> None:
        """Returns when the caller's turn has come."""
        turn = asyncio.get_running_loop().create_future()

        def begin() -> None:
            if not turn.done():
                turn.set_result(None)

        self.add(begin)
        await turn

    def _run(self) -> None:
        """Runs the line for its share, at least one step."""
        line = self._line
        clock = self._clock
        until = clock() + self._share
        while line:
            step = line.popleft()
            try:
                if step() is True:
                    line.append(step)
            except Exception:
                _log.exception("a step of long work failed")
            if clock() >= until:
                break
        self._is_planned = bool(line)
        if line:
            asyncio.get_running_loop().call_soon(self._run)

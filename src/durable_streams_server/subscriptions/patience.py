"""The time limit of one exchange with a webhook's receiver.

A receiver may work as long as the lease, up to ten minutes, before it ends its answer. A receiver that is dead often accepts the
connection and sends nothing, and each such exchange holds one of the places for deliveries. So the first byte has a short limit
of its own, until a heartbeat shows that the receiver is working.

    patience = Patience(lease)
    reply = await client.post(url, body, headers, patience)  # meanwhile, at each heartbeat: patience.extend(lease)
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

FIRST_BYTE_SECONDS: Final = 30.0  # a receiver that needs longer sends heartbeats or answers 202


class Patience:
    """Limits the time of one exchange. Call all methods on the exchange's event loop.

    Args:
        seconds: how long the exchange may take, counted from its start. Until the head of the answer has come, it may take
            `FIRST_BYTE_SECONDS` at most.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = -math.inf  # times of the loop's clock, which is monotonic
        self._first_byte_by = math.inf
        self._is_working = False  # the receiver has sent the head of its answer, or a heartbeat
        self._timer: asyncio.Timeout | None = None  # while the exchange runs

    @property
    def deadline(self) -> float | None:
        """The time of the loop's clock at which the exchange is cancelled; None unless an exchange is running."""
        return None if self._timer is None else self._timer.when()

    def extend(self, seconds: float) -> None:
        """Moves the end to `seconds` from now, unless it is later already, and lifts the limit for the first byte.

        Call it for a heartbeat, before or during the exchange. After the exchange it has no effect.
        """
        self._end = max(self._end, asyncio.get_running_loop().time() + seconds)
        self._lift()

    def head_came(self) -> None:
        """Lifts the limit for the first byte, because the head of the answer has come."""
        self._lift()

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Runs an exchange within its time. Use a patience for one exchange only.

        Raises:
            TimeoutError: the time ran out.
        """
        now = asyncio.get_running_loop().time()
        self._end = max(self._end, now + self._seconds)
        self._first_byte_by = now + FIRST_BYTE_SECONDS
        async with asyncio.timeout_at(self._limit()) as self._timer:
            try:
                yield
            finally:
                self._timer = None

    def _limit(self) -> float:
        return self._end if self._is_working else min(self._end, self._first_byte_by)

    def _lift(self) -> None:
        self._is_working = True
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(self._limit())

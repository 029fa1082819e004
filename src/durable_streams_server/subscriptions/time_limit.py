"""Limits the time of one exchange with a webhook receiver.

A receiver may work as long as its lease, up to ten minutes, before it ends its answer. A dead receiver often accepts the connection
and sends nothing, and each such exchange occupies a delivery slot. So the first byte has a short limit of its own, until a
heartbeat shows that the receiver is working.

    time_limit = TimeLimit(lease)
    reply = await client.post(url, body, headers, time_limit)
    time_limit.extend(lease)  # at each heartbeat, while the exchange runs
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

#: Seconds that a receiver has to send the head of its answer. A receiver that needs longer sends heartbeats or answers 202.
FIRST_BYTE_SECONDS: Final = 30.0


class TimeLimit:
    """Limits the time of one exchange. Call all methods on the event loop of the exchange.

    Args:
        seconds: the maximum duration of the exchange, counted from its start. Until the head of the answer arrives, the maximum is
            `FIRST_BYTE_SECONDS` if that is less.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Both are times of the event loop's clock.
        self._end = -math.inf
        self._first_byte_by = math.inf
        self._is_working = False  # True once the head of the answer or a heartbeat has arrived
        self._timer: asyncio.Timeout | None = None  # None unless the exchange is running

    @property
    def deadline(self) -> float | None:
        """The time of the event loop's clock at which the exchange is cancelled, or None if no exchange is running."""
        return None if self._timer is None else self._timer.when()

    def extend(self, seconds: float) -> None:
        """Gives the exchange at least `seconds` from now, and removes the limit for the first byte.

        Call it for a heartbeat, before or during the exchange. After the exchange it has no effect.
        """
        self._end = max(self._end, asyncio.get_running_loop().time() + seconds)
        self._remove_first_byte_limit()

    def head_received(self) -> None:
        """Removes the limit for the first byte, because the head of the answer has arrived."""
        self._remove_first_byte_limit()

    @asynccontextmanager
    async def enforce(self) -> AsyncIterator[None]:
        """Cancels the block when the time is over. Use a time limit for one exchange only.

        Raises:
            TimeoutError: the time is over.
        """
        now = asyncio.get_running_loop().time()
        self._end = max(self._end, now + self._seconds)
        self._first_byte_by = now + FIRST_BYTE_SECONDS
        async with asyncio.timeout_at(self._deadline()) as self._timer:
            try:
                yield
            finally:
                self._timer = None

    def _deadline(self) -> float:
        return self._end if self._is_working else min(self._end, self._first_byte_by)

    def _remove_first_byte_limit(self) -> None:
        self._is_working = True
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(self._deadline())

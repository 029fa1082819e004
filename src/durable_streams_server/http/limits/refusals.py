"""Decides which refusals are sent at once, and which are held for a second.

Many clients try again as soon as they are refused, whatever `Retry-After` says. Without a hold, the refusals would take the time of all other
clients, because a refusal that closes the connection costs more than an append.
"""

import time
from collections.abc import Callable
from typing import Final

from ...errors import TooManyRequests, Unavailable

#: Seconds that a refusal is held.
HOLD: Final = 1.0
#: Number of refusals in each second that are sent without a hold. A client usually gets one of these, so it need not wait.
REFUSED_AT_ONCE: Final = 64


class RefusalRate:
    """Counts the refusals in each second.

    Args:
        clock: returns monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun_at = 0.0  # when the present second has begun
        self._count = 0  # refusals in the present second

    def must_hold(self) -> bool:
        """Counts one refusal. Returns whether it must be held for `HOLD` seconds, because there are too many in this second."""
        now = self._clock()
        if now - self._begun_at >= 1.0:
            self._begun_at, self._count = now, 0
        self._count += 1
        return self._count > REFUSED_AT_ONCE

    def must_hold_body(self, refusal: Exception) -> bool:
        """Returns whether the refusal of a request that is not whole must be held. Counts it if a limit is the reason.

        Such a refusal closes the connection, because the rest of the body would have to be received otherwise.
        """
        return isinstance(refusal, (TooManyRequests, Unavailable)) and self.must_hold()

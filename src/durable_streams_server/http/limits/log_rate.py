"""Limits the log messages about a frequent event to one a minute."""

from collections.abc import Callable
from typing import Final

_INTERVAL: Final = 60.0  # seconds


class LogRate:
    """Counts events, and decides once a minute that they should be logged.

    Args:
        clock: returns monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._unlogged = 0
        self._logged_at: float | None = None

    def count(self) -> int:
        """Counts one event. Returns the number of events to log now, or 0 if a message was due less than a minute ago."""
        self._unlogged += 1
        now = self._clock()
        if self._logged_at is not None and now - self._logged_at < _INTERVAL:
            return 0
        events, self._unlogged, self._logged_at = self._unlogged, 0, now
        return events

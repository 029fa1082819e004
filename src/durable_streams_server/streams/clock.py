"""The clock of the running server, replaceable in tests."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time that decisions are made by."""

    def __call__(self) -> int:
        """Returns microseconds of Unix time."""
        ...


def system_clock() -> int:
    """Returns the machine's time in microseconds of Unix time."""
    return time.time_ns() // 1000

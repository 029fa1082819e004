"""Computes the CDN cursor (PROTOCOL 10.1).

Time is divided into intervals, and a cursor is the number of an interval. Clients repeat the cursor in the URL of their next live
read, so a cache reuses a live response for one interval at most.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from .arguments import NUMBER, require
from .limits import MAX_TOKEN_BYTES

DEFAULT_CURSOR_EPOCH: Final = datetime(2024, 10, 9, tzinfo=UTC)
DEFAULT_CURSOR_INTERVAL_SECONDS: Final = 20
MAX_JITTER_SECONDS: Final = 3600  # PROTOCOL 10.1, step 3
_NUMBER: Final = re.compile(r"-?[0-9]+")  # negative while the clock is before the epoch
#: The greatest cursor from which every jitter still leads to a cursor of at most `MAX_TOKEN_BYTES` digits.
_LAST: Final = str(10**MAX_TOKEN_BYTES - 1 - MAX_JITTER_SECONDS)


@dataclass(frozen=True, slots=True)
class CursorOptions:
    """The length and the beginning of cursor intervals.

    Attributes:
        interval_seconds: the length of one interval, greater than zero.
        epoch: the beginning of interval 0, with a time zone.
    """

    interval_seconds: float = DEFAULT_CURSOR_INTERVAL_SECONDS
    epoch: datetime = DEFAULT_CURSOR_EPOCH

    def __post_init__(self) -> None:
        require(NUMBER, interval_seconds=self.interval_seconds)
        require(datetime, epoch=self.epoch)
        if not self.interval_seconds > 0:
            raise ValueError("interval_seconds must be above zero")
        if self.epoch.tzinfo is None:
            raise ValueError("epoch must have a time zone")


DEFAULT_CURSOR_OPTIONS: Final = CursorOptions()


def interval_at(seconds: float, options: CursorOptions = DEFAULT_CURSOR_OPTIONS) -> int:
    """Returns the number of the interval that contains a Unix time in seconds."""
    return math.floor((seconds - options.epoch.timestamp()) / options.interval_seconds)


def advance(
    client_cursor: str | None, current: int, jitter: Callable[[], int], options: CursorOptions
) -> str:
    """Returns the cursor for a response: the current interval, or a number greater than the client's cursor.

    The second case applies if the client's cursor is not less than the current interval.

    Args:
        client_cursor: the cursor that the client sent, or None. A value that is not a whole number of up to 256 digits counts
            as None.
        current: the number of the current interval.
        jitter: a function that returns a random number of seconds, 1 to 3600. It is called in the second case only.
        options: the length of intervals.
    """
    if client_cursor is None or len(client_cursor) > MAX_TOKEN_BYTES:
        return str(current)
    if not _NUMBER.fullmatch(client_cursor) or (client := int(client_cursor)) < current:
        return str(current)
    return str(client + max(1, math.ceil(jitter() / options.interval_seconds)))


def has_next(cursor: str) -> bool:
    """Returns whether a greater cursor of at most 256 bytes exists. Only the greatest numbers have none."""
    return len(cursor) < MAX_TOKEN_BYTES or not cursor.isdigit() or cursor <= _LAST

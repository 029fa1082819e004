"""The CDN cursor (PROTOCOL 10.1): time cut into intervals, so that a live response is cached for one interval at most."""

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
_NUMBER: Final = re.compile(r"-?[0-9]+")  # below zero while the clock is before the epoch
#: The last number that can be exceeded by any jitter without growing longer than a client may send.
_LAST: Final = str(10**MAX_TOKEN_BYTES - 1 - MAX_JITTER_SECONDS)


@dataclass(frozen=True, slots=True)
class CursorOptions:
    """How time is cut into intervals.

    Attributes:
        interval_seconds: the length of one interval, above zero.
        epoch: where counting begins; a time zone must be given.
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
    """Returns the number of the interval that holds `seconds` (Unix time)."""
    return math.floor((seconds - options.epoch.timestamp()) / options.interval_seconds)


def advance(
    client_cursor: str | None, current: int, jitter: Callable[[], int], options: CursorOptions
) -> str:
    """Returns the cursor to send: the current interval, or one strictly past the client's if that is not behind.

    Args:
        client_cursor: what the client sent; anything but a plain whole number of up to 256 digits counts as nothing.
        current: the present interval.
        jitter: returns the seconds to go forward, 1 to 3600; called on a collision alone.
    """
    if client_cursor is None or len(client_cursor) > MAX_TOKEN_BYTES:
        return str(current)
    if not _NUMBER.fullmatch(client_cursor) or (client := int(client_cursor)) < current:
        return str(current)
    return str(client + max(1, math.ceil(jitter() / options.interval_seconds)))


def has_next(cursor: str) -> bool:
    """Whether a cursor of at most 256 bytes can be exceeded by one that is no longer. Only the highest numbers cannot."""
    return len(cursor) < MAX_TOKEN_BYTES or not cursor.isdigit() or cursor <= _LAST

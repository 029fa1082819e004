"""The CDN cursor (PROTOCOL 10.1): time cut into intervals, so that a live response is cached for one interval at most."""

import math
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from .names import MAX_SAFE_INTEGER

DEFAULT_CURSOR_EPOCH: Final = datetime(2024, 10, 9, tzinfo=UTC)
DEFAULT_CURSOR_INTERVAL_SECONDS: Final = 20
_MAX_JITTER_SECONDS: Final = 3600


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
        if not self.interval_seconds > 0:
            raise ValueError("interval_seconds must be above zero")
        if self.epoch.tzinfo is None:
            raise ValueError("epoch must have a time zone")


_DEFAULTS: Final = CursorOptions()


def interval_at(seconds: float, options: CursorOptions = _DEFAULTS) -> int:
    """Returns the number of the interval that holds `seconds` (Unix time)."""
    return math.floor((seconds - options.epoch.timestamp()) / options.interval_seconds)


def advance(client_cursor: str | None, current: int, jitter: int, options: CursorOptions) -> str:
    """Returns the cursor to send: the current interval, or one strictly past the client's if that is not behind.

    Args:
        client_cursor: what the client sent; anything but a plain number counts as nothing.
        current: the present interval.
        jitter: seconds to go forward on a collision, 1 to 3600.
    """
    if client_cursor is None or not (client_cursor.isascii() and client_cursor.isdigit()):
        return str(current)
    if len(client_cursor) > 16 or (client := int(client_cursor)) > MAX_SAFE_INTEGER // 2:
        return str(current)  # no cursor of ours: the present interval cannot be near it for aeons
    if client < current:
        return str(current)
    return str(client + max(1, math.ceil(jitter / options.interval_seconds)))


def calculate_cursor(options: CursorOptions = _DEFAULTS) -> str:
    """Returns the cursor of the present moment: the interval number as a decimal string."""
    return str(interval_at(time.time(), options))


def generate_response_cursor(client_cursor: str | None, options: CursorOptions = _DEFAULTS) -> str:
    """Returns the cursor for a live response, always strictly past the one that the client sent.

    This is what keeps a client from being served the same cached response for ever (PROTOCOL 10.1, step 3).
    """
    jitter = random.randint(1, _MAX_JITTER_SECONDS)
    return advance(client_cursor, interval_at(time.time(), options), jitter, options)


def handle_cursor_collision(
    current_cursor: str, previous_cursor: str | None, options: CursorOptions = _DEFAULTS
) -> str:
    """Returns `current_cursor`, moved forward by a random jitter if the client already has it or a later one."""
    jitter = random.randint(1, _MAX_JITTER_SECONDS)
    return advance(previous_cursor, int(current_cursor), jitter, options)

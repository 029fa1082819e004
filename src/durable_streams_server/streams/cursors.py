"""The CDN cursor of this moment: `protocol/cursor.py` with a clock and a source of chance."""

import random
import time

from ..protocol.cursor import (
    DEFAULT_CURSOR_OPTIONS,
    MAX_JITTER_SECONDS,
    CursorOptions,
    advance,
    interval_at,
)


def random_jitter() -> int:
    """Returns how many seconds a colliding cursor goes forward (PROTOCOL 10.1, step 3)."""
    return random.randint(1, MAX_JITTER_SECONDS)


def calculate_cursor(options: CursorOptions = DEFAULT_CURSOR_OPTIONS) -> str:
    """Returns the cursor of the present moment: the interval number as a decimal string."""
    return str(interval_at(time.time(), options))


def generate_response_cursor(
    client_cursor: str | None, options: CursorOptions = DEFAULT_CURSOR_OPTIONS
) -> str:
    """Returns the cursor for a live response, always strictly past the one that the client sent.

    This is what keeps a client from being served the same cached response for ever (PROTOCOL 10.1, step 3).
    """
    return advance(client_cursor, interval_at(time.time(), options), random_jitter, options)


def handle_cursor_collision(
    current_cursor: str,
    previous_cursor: str | None,
    options: CursorOptions = DEFAULT_CURSOR_OPTIONS,
) -> str:
    """Returns `current_cursor`, moved forward by a random jitter if the client already has it or a later one."""
    return advance(previous_cursor, int(current_cursor), random_jitter, options)

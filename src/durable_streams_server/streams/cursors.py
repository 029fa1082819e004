"""Computes CDN cursors at the present time, by the rules of `protocol/cursor.py` with a clock and random jitter."""

import random
import time
from collections.abc import Callable

from ..protocol import sse
from ..protocol.arguments import OPTIONAL_TEXT, require
from ..protocol.cursor import (
    DEFAULT_CURSOR_OPTIONS,
    MAX_JITTER_SECONDS,
    CursorOptions,
    advance,
    interval_at,
)
from ..protocol.units import SECOND


class Cursors:
    """Computes the CDN cursors of a running server. The number of the present interval is computed once per interval.

    Args:
        options: the length and the epoch of the intervals.
        wall: returns the wall-clock time in microseconds of Unix time.
    """

    def __init__(self, options: CursorOptions, wall: Callable[[], int]) -> None:
        self._options = options
        self._wall = wall
        self._interval = 0
        self._text = ""
        self._ending = b""
        self._since = self._until = 0.0  # microseconds of Unix time

    def present(self) -> str:
        """Returns the cursor of the present interval."""
        now = self._wall()
        if not self._since <= now < self._until:
            self._begin(now)
        return self._text

    def ending(self) -> bytes:
        """Returns the last bytes of the control event for a reader at the tail of an open stream. They contain the present cursor."""
        now = self._wall()
        if not self._since <= now < self._until:
            self._begin(now)
        return self._ending

    def after(self, client_cursor: str | None) -> str:
        """Returns the cursor for a live response to a client that sent `client_cursor` (PROTOCOL 10.1)."""
        present = self.present()
        if client_cursor is None:
            return present
        return advance(client_cursor, self._interval, random_jitter, self._options)

    def _begin(self, now: int) -> None:
        options = self._options
        self._interval = interval_at(now / SECOND, options)
        self._text = str(self._interval)
        self._ending = sse.control_ending(self._text, up_to_date=True, closed=False)
        epoch, length = options.epoch.timestamp(), options.interval_seconds
        self._since = now  # the number is also computed again if the clock is set back
        self._until = (epoch + (self._interval + 1) * length) * SECOND


def random_jitter() -> int:
    """Returns the random number of seconds by which a colliding cursor moves forward (PROTOCOL 10.1, step 3)."""
    return random.randint(1, MAX_JITTER_SECONDS)


def calculate_cursor(options: CursorOptions = DEFAULT_CURSOR_OPTIONS) -> str:
    """Returns the present CDN cursor, which is the number of the present interval as a decimal string."""
    require(CursorOptions, options=options)
    return str(interval_at(time.time(), options))


def generate_response_cursor(
    client_cursor: str | None, options: CursorOptions = DEFAULT_CURSOR_OPTIONS
) -> str:
    """Returns the CDN cursor for a live response. It is always greater than the cursor that the client sent.

    So a cache cannot serve the same response to a client for ever (PROTOCOL 10.1, step 3).
    """
    require(OPTIONAL_TEXT, client_cursor=client_cursor)
    require(CursorOptions, options=options)
    return advance(client_cursor, interval_at(time.time(), options), random_jitter, options)


def handle_cursor_collision(
    current_cursor: str,
    previous_cursor: str | None,
    options: CursorOptions = DEFAULT_CURSOR_OPTIONS,
) -> str:
    """Returns `current_cursor` if it is greater than `previous_cursor`. Otherwise returns a greater cursor, chosen with random jitter."""
    require(str, current_cursor=current_cursor)
    require(OPTIONAL_TEXT, previous_cursor=previous_cursor)
    require(CursorOptions, options=options)
    return advance(previous_cursor, int(current_cursor), random_jitter, options)

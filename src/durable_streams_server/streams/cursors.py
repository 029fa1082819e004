"""The CDN cursor of this moment: `protocol/cursor.py` with a clock and a source of chance."""

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
    """The cursors of a server that runs. The present interval's number is computed once for the interval.

    Args:
        options: how time is cut into intervals.
        wall: returns microseconds of Unix time.
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
        """Returns how the control event of a reader at the tail of an open stream ends."""
        now = self._wall()
        if not self._since <= now < self._until:
            self._begin(now)
        return self._ending

    def after(self, client_cursor: str | None) -> str:
        """Returns the cursor for a live response to a client that sent this one (PROTOCOL 10.1)."""
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
        self._since = now  # if the clock is set back, the number is computed again
        self._until = (epoch + (self._interval + 1) * length) * SECOND


def random_jitter() -> int:
    """Returns how many seconds a colliding cursor goes forward (PROTOCOL 10.1, step 3)."""
    return random.randint(1, MAX_JITTER_SECONDS)


def calculate_cursor(options: CursorOptions = DEFAULT_CURSOR_OPTIONS) -> str:
    """Returns the cursor of the present moment: the interval number as a decimal string."""
    require(CursorOptions, options=options)
    return str(interval_at(time.time(), options))


def generate_response_cursor(
    client_cursor: str | None, options: CursorOptions = DEFAULT_CURSOR_OPTIONS
) -> str:
    """Returns the cursor for a live response, always strictly past the one that the client sent.

    This is what keeps a client from being served the same cached response for ever (PROTOCOL 10.1, step 3).
    """
    require(OPTIONAL_TEXT, client_cursor=client_cursor)
    require(CursorOptions, options=options)
    return advance(client_cursor, interval_at(time.time(), options), random_jitter, options)


def handle_cursor_collision(
    current_cursor: str,
    previous_cursor: str | None,
    options: CursorOptions = DEFAULT_CURSOR_OPTIONS,
) -> str:
    """Returns `current_cursor`, moved forward by a random jitter if the client already has it or a later one."""
    require(str, current_cursor=current_cursor)
    require(OPTIONAL_TEXT, previous_cursor=previous_cursor)
    require(CursorOptions, options=options)
    return advance(previous_cursor, int(current_cursor), random_jitter, options)

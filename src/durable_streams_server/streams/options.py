"""The settings of an engine. They have a file of their own because the engine's parts import them, and the engine imports its parts."""

from __future__ import annotations

import math

import msgspec

from ..protocol.cursor import CursorOptions
from ..protocol.limits import (
    DEFAULT_LONG_POLL_TIMEOUT,
    DEFAULT_MAX_UNSENT,
    DEFAULT_PAGE_SIZE,
    DEFAULT_SSE_MAX_AGE,
    MAX_PAGE_SIZE,
    MIN_PAGE_SIZE,
    SSE_KEEP_ALIVE,
)
from ..protocol.names import DEFAULT_STREAM_ROOT


class EngineOptions(msgspec.Struct, frozen=True):
    """The limits and timeouts of reads, and the path below which subscriptions match streams.

    Attributes:
        page_size: maximum bytes of one catch-up or long-poll response.
        long_poll_timeout: seconds after which a long-poll without data is answered.
        sse_max_age: maximum seconds that an event stream lasts before the server ends it and the client reconnects (PROTOCOL 10.2).
            Each event stream ends at a random time between 80% and 100% of this age, so that clients that connected together do not
            reconnect together.
        sse_keep_alive: seconds between comments on an idle event stream.
        cursor: the interval and epoch of CDN cursors.
        stream_root: the path below which the patterns of subscriptions match.
        max_unsent: maximum bytes of large pages that may be held at once for clients that have not received them.
    """

    page_size: int = DEFAULT_PAGE_SIZE
    long_poll_timeout: float = DEFAULT_LONG_POLL_TIMEOUT
    sse_max_age: float = DEFAULT_SSE_MAX_AGE
    sse_keep_alive: float = SSE_KEEP_ALIVE
    cursor: CursorOptions = CursorOptions()
    stream_root: str = DEFAULT_STREAM_ROOT
    max_unsent: int = DEFAULT_MAX_UNSENT

    def __post_init__(self) -> None:
        if not MIN_PAGE_SIZE <= self.page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"page_size must be from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}")
        for timeout in (self.long_poll_timeout, self.sse_max_age, self.sse_keep_alive):
            if not 0 < timeout < math.inf:
                raise ValueError("timeouts must be above zero")
        if self.max_unsent < 1:
            raise ValueError("max_unsent must be at least 1")

"""Settings of pages and live reads."""

import dataclasses

from ...protocol.limits import (
    DEFAULT_LONG_POLL_TIMEOUT,
    DEFAULT_PAGE_SIZE,
    DEFAULT_SSE_MAX_AGE,
    MAX_PAGE_SIZE,
    MIN_PAGE_SIZE,
)
from ..values import SECONDS, Size
from .definition import Topic, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reads(Topic):
    """Pages and live reads."""

    long_poll_timeout: float = setting(
        DEFAULT_LONG_POLL_TIMEOUT,
        "How long a long-poll waits for data.",
        kind=SECONDS,
        metavar="SECONDS",
    )
    sse_max_age: float = setting(
        DEFAULT_SSE_MAX_AGE,
        "Longest life of an event stream, whose client then reconnects; a random part of up to 20% is taken off.",
        kind=SECONDS,
        metavar="SECONDS",
    )
    page_size: int = setting(
        DEFAULT_PAGE_SIZE,
        "Size of one page, such as 64k or 4m; a larger append, or JSON value, is a page alone.",
        kind=Size(MIN_PAGE_SIZE, MAX_PAGE_SIZE),
    )

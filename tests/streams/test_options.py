"""The ranges of the engine's settings."""

from typing import Any

import pytest

from durable_streams_server.protocol.limits import MAX_PAGE_SIZE, MIN_PAGE_SIZE
from durable_streams_server.streams.options import EngineOptions


@pytest.mark.parametrize(
    "options",
    [
        {"page_size": MIN_PAGE_SIZE - 1},
        {"page_size": MAX_PAGE_SIZE + 1},
        {"long_poll_timeout": 0},
        {"sse_max_age": -1},
        {"sse_keep_alive": 0},
        {"sse_keep_alive": float("nan")},
        {"long_poll_timeout": float("inf")},
        {"max_unsent": 0},
    ],
)
def test_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"page_size|timeouts|max_unsent"):
        EngineOptions(**options)


@pytest.mark.parametrize("page_size", [MIN_PAGE_SIZE, MAX_PAGE_SIZE])
def test_page_size_at_either_limit_is_accepted(page_size: int) -> None:
    assert EngineOptions(page_size=page_size).page_size == page_size

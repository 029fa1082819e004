"""The CDN cursor: it names an interval, and is always past the client's."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.cursor import (
    DEFAULT_CURSOR_EPOCH,
    DEFAULT_CURSOR_INTERVAL_SECONDS,
    CursorOptions,
    advance,
    interval_at,
)

OPTIONS = CursorOptions()


def test_the_defaults_are_the_protocols() -> None:
    assert datetime(2024, 10, 9, tzinfo=UTC) == DEFAULT_CURSOR_EPOCH
    assert DEFAULT_CURSOR_INTERVAL_SECONDS == 20


def test_intervals_are_counted_from_the_epoch() -> None:
    begin = DEFAULT_CURSOR_EPOCH.timestamp()
    assert [interval_at(begin + seconds, OPTIONS) for seconds in (0, 19.9, 20, 60)] == [0, 0, 1, 3]


@pytest.mark.parametrize("client", [None, "", "x", "-1", "1.5", "٣", "9" * 30, "1e3"])
def test_what_is_no_cursor_counts_as_none(client: str | None) -> None:
    assert advance(client, 100, lambda: 1, OPTIONS) == "100"


def test_an_older_cursor_gets_the_present_one() -> None:
    assert advance("99", 100, lambda: 3600, OPTIONS) == "100"


@given(st.integers(0, 10**12), st.integers(0, 10**9), st.integers(1, 3600))
def test_the_cursor_is_strictly_past_the_clients(client: int, current: int, jitter: int) -> None:
    assert int(advance(str(client), current, lambda: jitter, OPTIONS)) > client or client < current


@pytest.mark.parametrize(
    "options",
    [{"interval_seconds": 0}, {"interval_seconds": -1}, {"epoch": datetime(2024, 1, 1)}],
)
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"interval|zone"):
        CursorOptions(**options)  # type: ignore[arg-type]

"""Tests of the CDN cursor, which is the current interval or a number greater than the client's cursor."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.cursor import (
    DEFAULT_CURSOR_EPOCH,
    DEFAULT_CURSOR_INTERVAL_SECONDS,
    CursorOptions,
    advance,
    has_next,
    interval_at,
)

OPTIONS = CursorOptions()


def test_default_cursor_options_are_those_of_the_protocol() -> None:
    assert datetime(2024, 10, 9, tzinfo=UTC) == DEFAULT_CURSOR_EPOCH
    assert DEFAULT_CURSOR_INTERVAL_SECONDS == 20


def test_cursor_intervals_are_counted_from_the_epoch() -> None:
    begin = DEFAULT_CURSOR_EPOCH.timestamp()
    assert [interval_at(begin + seconds, OPTIONS) for seconds in (0, 19.9, 20, 60)] == [0, 0, 1, 3]


@pytest.mark.parametrize(
    "client", [None, "", "x", "-", "--1", "1.5", "٣", "1e3", "+101", "1" * 5000]
)
def test_malformed_client_cursor_is_ignored(client: str | None) -> None:
    assert advance(client, 100, lambda: 1, OPTIONS) == "100"


def test_old_client_cursor_gets_the_current_interval() -> None:
    assert advance("99", 100, lambda: 3600, OPTIONS) == "100"


@given(st.integers(-(10**12), 10**40), st.integers(-(10**9), 10**9), st.integers(1, 3600))
def test_next_cursor_is_greater_than_the_clients_cursor(
    client: int, current: int, jitter: int
) -> None:
    assert int(advance(str(client), current, lambda: jitter, OPTIONS)) > client


@pytest.mark.parametrize("client", [2**53 - 1, 2**53, 2**53 + 1, 2**64, 10**255, 10**256 - 1])
def test_cursor_above_2_to_the_53_is_still_increased(client: int) -> None:
    assert int(advance(str(client), 100, lambda: 1, OPTIONS)) == client + 1


def test_negative_cursor_of_a_clock_before_the_epoch_is_increased() -> None:
    present = interval_at(0, OPTIONS)
    assert present < 0
    assert advance(None, present, lambda: 1, OPTIONS) == str(present)
    assert advance(str(present), present, lambda: 1, OPTIONS) == str(present + 1)
    assert advance("-1", 100, lambda: 1, OPTIONS) == "100"


@pytest.mark.parametrize(
    "options",
    [{"interval_seconds": 0}, {"interval_seconds": -1}, {"epoch": datetime(2024, 1, 1)}],
)
def test_invalid_cursor_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"interval|zone"):
        CursorOptions(**options)  # type: ignore[arg-type]  # each case has another invalid field


@pytest.mark.parametrize(
    ("cursor", "holds"),
    [
        ("", True),
        ("1", True),
        ("-" + "9" * 255, True),
        ("x" * 256, True),
        ("9" * 255, True),
        (str(10**256 - 1 - 3600), True),
        (str(10**256 - 3600), False),
        ("9" * 256, False),
    ],
)
def test_only_the_greatest_cursors_have_no_next_one(cursor: str, holds: bool) -> None:
    assert has_next(cursor) is holds
    if holds and cursor.isdigit():
        assert len(advance(cursor, 0, lambda: 3600, CursorOptions(interval_seconds=1))) <= 256

"""CDN cursors: the public functions, and the cursors of a running server."""

import time

import pytest

from durable_streams_server import (
    DEFAULT_CURSOR_EPOCH,
    DEFAULT_CURSOR_INTERVAL_SECONDS,
    CursorOptions,
    calculate_cursor,
    generate_response_cursor,
    handle_cursor_collision,
)
from durable_streams_server.protocol import sse
from durable_streams_server.protocol.cursor import DEFAULT_CURSOR_OPTIONS, interval_at
from durable_streams_server.streams.cursors import Cursors, random_jitter


def test_cursor_counts_intervals_since_epoch() -> None:
    expected = (time.time() - DEFAULT_CURSOR_EPOCH.timestamp()) / DEFAULT_CURSOR_INTERVAL_SECONDS
    assert abs(int(calculate_cursor()) - expected) <= 1


def test_response_cursor_is_greater_than_client_cursor() -> None:  # TRAPS 35
    present = calculate_cursor()
    assert int(generate_response_cursor(None)) >= int(present)
    for client in (present, str(int(present) + 10)):
        assert int(generate_response_cursor(client)) > int(client)


def test_shorter_interval_gives_greater_cursor() -> None:
    assert int(calculate_cursor(CursorOptions(interval_seconds=1))) > int(calculate_cursor())


@pytest.mark.parametrize(
    ("previous", "same"), [(None, True), ("4", True), ("5", False), ("9", False)]
)
def test_cursor_that_collides_with_previous_one_is_increased(
    previous: str | None, same: bool
) -> None:
    cursor = handle_cursor_collision("5", previous)
    assert (cursor == "5") is same
    assert same or int(cursor) > int(previous or 0)


def test_jitter_is_between_1_second_and_1_hour() -> None:
    jitters = {random_jitter() for _ in range(300)}
    assert min(jitters) >= 1
    assert max(jitters) <= 3600
    assert len(jitters) > 50


class Wall:
    """A wall clock that the test sets, in microseconds. Counts how often it is read."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000
        self.reads = 0

    def __call__(self) -> int:
        self.reads += 1
        return self.now


@pytest.mark.parametrize("seconds", [0, 1, 19, 20, 21, 1000, 1e6, -1, -20, -21, -1e6])
def test_present_cursor_follows_clock_forward_and_back(seconds: float) -> None:
    wall = Wall()
    cursors = Cursors(DEFAULT_CURSOR_OPTIONS, wall)
    cursors.present()
    wall.now += int(seconds * 1e6)
    expected = str(interval_at(wall.now / 1e6, DEFAULT_CURSOR_OPTIONS))
    assert cursors.ending() == sse.control_ending(expected, up_to_date=True, closed=False)
    assert cursors.present() == expected


def test_present_cursor_is_number_of_present_interval() -> None:
    wall = Wall()
    options = CursorOptions(interval_seconds=0.01)
    cursors = Cursors(options, wall)
    for _ in range(1000):
        wall.now += 777
        assert cursors.present() == str(interval_at(wall.now / 1e6, options))


def test_next_cursor_is_greater_than_client_cursor() -> None:  # TRAPS 35
    cursors = Cursors(DEFAULT_CURSOR_OPTIONS, Wall())
    present = cursors.present()
    assert cursors.after(None) == cursors.after("no number") == cursors.after("0") == present
    for client in (present, str(int(present) + 10)):
        assert int(cursors.after(client)) > int(client)


def test_cursor_advances_while_clock_stands_at_1970() -> None:
    wall = Wall()
    wall.now = 0
    cursors = Cursors(DEFAULT_CURSOR_OPTIONS, wall)
    client = cursors.after(None)
    for _ in range(5):
        later = cursors.after(client)
        assert int(later) > int(client)
        client = later


def test_infinite_interval_has_cursor_zero() -> None:
    cursors = Cursors(CursorOptions(interval_seconds=float("inf")), Wall())
    assert cursors.present() == cursors.present() == "0"

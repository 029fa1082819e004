"""The cursor functions of the public API."""

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
from durable_streams_server.streams.cursors import random_jitter


def test_the_present_cursor_counts_intervals_since_the_epoch() -> None:
    expected = (time.time() - DEFAULT_CURSOR_EPOCH.timestamp()) / DEFAULT_CURSOR_INTERVAL_SECONDS
    assert abs(int(calculate_cursor()) - expected) <= 1


def test_a_response_cursor_is_past_the_clients() -> None:  # TRAPS 35
    present = calculate_cursor()
    assert int(generate_response_cursor(None)) >= int(present)
    for client in (present, str(int(present) + 10)):
        assert int(generate_response_cursor(client)) > int(client)


def test_the_interval_can_be_set() -> None:
    assert int(calculate_cursor(CursorOptions(interval_seconds=1))) > int(calculate_cursor())


@pytest.mark.parametrize(
    ("previous", "same"), [(None, True), ("4", True), ("5", False), ("9", False)]
)
def test_a_collision_moves_forward(previous: str | None, same: bool) -> None:
    cursor = handle_cursor_collision("5", previous)
    assert (cursor == "5") is same
    assert same or int(cursor) > int(previous or 0)


def test_the_jitter_is_between_a_second_and_an_hour() -> None:
    jitters = {random_jitter() for _ in range(300)}
    assert min(jitters) >= 1
    assert max(jitters) <= 3600
    assert len(jitters) > 50

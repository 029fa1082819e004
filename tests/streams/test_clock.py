"""The system clock, and the steady clock of a store, which does not jump when the wall clock is set."""

import time

import pytest

from durable_streams_server.protocol.limits import MAX_TIME, MIN_TIME
from durable_streams_server.protocol.timeline import Timeline
from durable_streams_server.streams.clock import clock_of, system_clock
from tests.requests import NOW, SECOND
from tests.streams.engines import ManualClock, SettableClock


def test_system_clock_returns_microseconds() -> None:
    before = time.time()
    assert before - 0.001 <= system_clock() / 1_000_000 <= time.time() + 0.001


def test_steady_clock_starts_at_present_and_advances() -> None:
    clock = clock_of(Timeline(), system_clock)
    first = clock()
    assert abs(first - time.time_ns() // 1000) < SECOND
    assert clock() >= first
    assert clock.detect_step() == 0


def test_setting_wall_clock_does_not_change_steady_clock() -> None:
    wall, timeline = SettableClock(), Timeline()
    clock = clock_of(timeline, wall)
    wall.set(-7200)
    wall.forward(1)
    assert (clock(), clock.wall()) == (NOW + SECOND, NOW - 7199 * SECOND)
    assert (clock.detect_step(), timeline.offset) == (-7200 * SECOND, -7200 * SECOND)
    assert clock.detect_step() == 0


def test_two_clocks_with_same_timeline_return_same_time() -> None:
    wall, timeline = SettableClock(), Timeline()
    first = clock_of(timeline, wall)
    wall.set(7200)
    wall.forward(1)
    assert clock_of(timeline, wall)() == first()


def test_clock_without_wall_time_returns_same_steady_and_wall_time() -> None:
    plain, timeline = ManualClock(), Timeline()
    clock = clock_of(timeline, plain)
    plain.forward(3600)
    assert clock() == clock.wall() == NOW + 3600 * SECOND
    assert (clock.detect_step(), timeline.offset) == (0, 0)


@pytest.mark.parametrize(("told", "kept"), [(-(10**15), MIN_TIME), (10**18, MAX_TIME)])
def test_plain_clock_limits_time_to_valid_range(told: int, kept: int) -> None:
    assert clock_of(Timeline(), lambda: told)() == kept

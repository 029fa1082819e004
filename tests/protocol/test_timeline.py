"""Tests of steady time, which advances correctly even if somebody sets the wall clock."""

import pytest

from durable_streams_server.protocol.timeline import Timeline
from tests.requests import NOW, SECOND

HOUR = 3600 * SECOND


def test_steady_time_starts_at_the_wall_clock() -> None:
    timeline = Timeline()
    assert timeline.begin("clock", NOW, 7) == NOW - 7
    assert (timeline.offset, timeline.floor) == (0, NOW)


@pytest.mark.parametrize("step", [HOUR, -HOUR, 24 * HOUR, -24 * HOUR, -50_000 * HOUR])
def test_setting_the_wall_clock_changes_the_offset_but_not_steady_time(step: int) -> None:
    timeline = Timeline()
    base = timeline.begin("clock", NOW, 0)
    assert timeline.see(base + SECOND, NOW + SECOND) == 0
    assert timeline.see(base + 2 * SECOND, NOW + 2 * SECOND + step) == step
    assert timeline.see(base + 3 * SECOND, NOW + 3 * SECOND + step) == 0
    assert (timeline.offset, timeline.floor) == (step, NOW + 3 * SECOND)


def test_small_difference_between_clocks_is_ignored() -> None:
    timeline = Timeline()
    timeline.begin("clock", NOW, 0)
    assert timeline.see(NOW + SECOND, NOW + SECOND + 9_999) == 0
    assert timeline.offset == 0


def test_restart_continues_steady_time_with_the_stored_offset() -> None:
    assert Timeline(HOUR, NOW).begin("clock", NOW + 2 * HOUR, 0) == NOW + HOUR


def test_steady_time_after_restart_never_starts_before_the_stored_floor() -> None:
    timeline = Timeline(0, NOW)
    assert timeline.begin("clock", NOW - 24 * HOUR, 0) == NOW
    assert timeline.offset == -24 * HOUR


@pytest.mark.parametrize("step", [HOUR, -24 * HOUR])
def test_steady_time_continues_by_ticks_after_restart_on_same_boot(step: int) -> None:
    first = Timeline()
    first.begin("clock", NOW, 7, "boot")
    second = Timeline(first.offset, first.floor, first.boot, first.base)
    ticks = 7 + SECOND
    assert second.begin("clock", NOW + step, ticks, "boot") + ticks == NOW + SECOND
    assert second.offset == step - SECOND


@pytest.mark.parametrize("boot", ["other", ""])
def test_restart_on_another_boot_uses_the_wall_clock(boot: str) -> None:
    timeline = Timeline(0, NOW, boot and "boot", 123)
    assert timeline.begin("clock", NOW + HOUR, 7, boot) == NOW + HOUR - 7


def test_second_begin_with_the_same_clock_source_returns_the_same_base() -> None:
    timeline = Timeline()
    base = timeline.begin("clock", NOW, 0)
    assert timeline.begin("clock", NOW + HOUR, SECOND) == base


def test_steady_time_has_at_most_16_digits_with_any_wall_clock() -> None:
    base = Timeline().begin("clock", 300_000 * 365 * 24 * HOUR, 0)
    assert len(str(base)) == 16


@pytest.mark.parametrize("wall", [-(10**30), -1, 10**17, 10**30])
def test_any_wall_clock_results_in_times_within_range(wall: int) -> None:
    timeline = Timeline()
    base = timeline.begin("clock", NOW, 0)
    timeline.see(base, wall)
    timeline.reach(wall)
    assert abs(timeline.offset) < 1 << 62
    assert 0 <= timeline.floor < 1 << 62
    assert 0 <= Timeline().begin("clock", wall, 0) < 10**16


def test_floor_of_steady_time_never_decreases() -> None:
    timeline = Timeline()
    timeline.reach(NOW)
    timeline.reach(NOW - 1)
    assert timeline.floor == NOW

"""Tests that `Schedule` runs the step of each subscription once, at its time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.streams.turns import Turns
from durable_streams_server.subscriptions.schedule import Schedule
from tests.requests import NOW, SECOND
from tests.streams.engines import ManualClock
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.services import run_turns, wait_until


class Bench:
    """A schedule with a manual clock, which records the ids whose step runs."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.acted: list[str] = []
        self.schedule = Schedule(self.clock, self.acted.append, Turns())

    def at(self, seconds: float) -> list[str]:
        """Sets the clock to `seconds` after the start, and returns the ids whose step runs."""
        self.clock.now = NOW + round(seconds * SECOND)
        self.acted.clear()
        self.schedule.run()
        return list(self.acted)

    def set(self, id_: str, seconds: float | None) -> None:
        self.schedule.set(id_, None if seconds is None else NOW + round(seconds * SECOND))


def test_scheduled_step_runs_once_at_its_time() -> None:
    bench = Bench()
    for id_, seconds in [("b", 2), ("a", 1), ("c", 3)]:
        bench.set(id_, seconds)
    assert bench.at(0.9) == []
    assert bench.at(1) == ["a"]
    assert bench.at(5) == ["b", "c"]
    assert bench.at(9) == []
    assert bench.schedule.next is None


def test_step_scheduled_in_the_past_runs_immediately() -> None:
    bench = Bench()
    bench.set("a", -5)
    assert bench.schedule.next == NOW - 5 * SECOND
    assert bench.at(0) == ["a"]


def test_rescheduling_step_to_later_time_delays_it() -> None:
    bench = Bench()
    bench.set("a", 1)
    bench.set("a", 5)
    assert bench.at(1) == []
    assert bench.at(4.9) == []
    assert bench.at(5) == ["a"]


def test_rescheduling_step_to_earlier_time_advances_it() -> None:
    bench = Bench()
    bench.set("a", 5)
    bench.set("a", 1)
    assert bench.at(1) == ["a"]
    assert bench.at(9) == []


def test_step_removed_from_schedule_does_not_run() -> None:
    bench = Bench()
    bench.set("a", 1)
    bench.set("a", None)
    bench.set("b", None)
    assert bench.at(9) == []
    bench.set("a", 10)
    assert bench.at(10) == ["a"]


def test_step_scheduled_for_now_by_running_step_runs_in_same_call() -> None:
    clock = ManualClock()
    acted: list[str] = []

    def act(id_: str) -> None:
        acted.append(id_)
        if len(acted) < 4:
            schedule.set("b" if id_ == "a" else "a", clock.now)

    schedule = Schedule(clock, act, Turns())
    schedule.set("a", NOW)
    schedule.run()
    assert acted == ["a", "b", "a", "b"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.one_of(st.none(), st.integers(0, 9)),
            st.integers(0, 3),
        ),
        max_size=40,
    )
)
def test_random_schedules_run_the_steps_that_are_due(
    steps: list[tuple[str, int | None, int]],
) -> None:
    bench, model, now = Bench(), dict[str, int](), 0
    for id_, ahead, passes in steps:
        if ahead is None:
            model.pop(id_, None)
        else:
            model[id_] = now + ahead
        bench.set(id_, model.get(id_))
        now += passes
        due = {each for each, at in model.items() if at <= now}
        acted = bench.at(now)
        assert sorted(acted) == sorted(due)
        model = {each: at for each, at in model.items() if each not in due}


def test_rescheduling_one_subscription_often_does_not_grow_the_heap() -> None:
    """Each wake sets three times: now, the end of its lease, and the end after each heartbeat."""
    bench = Bench()
    bench.set("other", 1e6)
    for number in range(10_000):
        now = number / 1000
        bench.set("a", now)
        assert bench.at(now) == ["a"]
        for beat in (600, 601, 602):
            bench.set("a", now + beat)
        if number % 2:
            bench.set("a", None)
    assert len(bench.schedule._heap) < 100
    bench.set("a", 5)
    assert bench.at(10) == ["a"]


async def test_timer_runs_steps_between_start_and_stop(loop_clock: LoopClock) -> None:
    clock = ManualClock()
    acted: list[str] = []
    schedule = Schedule(clock, acted.append, Turns())
    schedule.set("late", NOW + 3600 * SECOND)
    schedule.set("due", NOW - 1)
    await loop_clock.forward(1)
    assert acted == []  # the schedule has not been started
    schedule.start(asyncio.get_running_loop())
    await run_turns()
    assert acted == ["due"]
    schedule.set("nearer", NOW + SECOND // 2)
    clock.forward(0.5)
    await loop_clock.forward(0.5)
    assert acted == ["due", "nearer"]
    schedule.stop()
    schedule.set("never", NOW)
    await loop_clock.forward(10)
    assert acted == ["due", "nearer"]


async def test_exception_in_one_step_is_logged_and_does_not_delay_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    acted: list[str] = []

    def act(id_: str) -> None:
        acted.append(id_)
        if id_ == "bad":
            raise RuntimeError("a fault")

    schedule = Schedule(clock, act, Turns())
    schedule.set("bad", NOW - 2)
    schedule.set("good", NOW - 1)
    schedule.start(asyncio.get_running_loop())
    await run_turns()
    schedule.stop()
    assert acted == ["bad", "good"]
    assert "a fault" in caplog.text
    assert schedule.next == NOW + SECOND  # the failed step is retried


@pytest.mark.parametrize("step", [3600, -5])
async def test_clock_change_delays_steps_by_one_second_at_most(
    step: int, loop_clock: LoopClock
) -> None:
    """The timer of the event loop does not notice that the clock was set, so the schedule reads its clock once a second."""
    clock = ManualClock()
    acted: list[str] = []
    schedule = Schedule(clock, acted.append, Turns())
    schedule.start(asyncio.get_running_loop())
    schedule.set("lease", NOW + 600 * SECOND)
    clock.forward(step)
    schedule.set("news", clock.now)
    await loop_clock.forward(1)
    schedule.stop()
    assert acted == (["lease", "news"] if step > 600 else ["news"])


async def test_many_due_steps_let_other_work_run_in_between() -> None:
    clock, turns = ManualClock(), Turns()
    acted: list[str] = []
    schedule = Schedule(clock, acted.append, turns)
    for number in range(1000):
        schedule.set(f"{number}", NOW)
    most = seen = 0

    def step() -> bool:
        """Records the largest number of steps that ran between two calls of this function."""
        nonlocal most, seen
        most, seen = max(most, len(acted) - seen), len(acted)
        return len(acted) < 1000

    schedule.start(asyncio.get_running_loop())
    turns.add(step)
    await wait_until(lambda: len(acted) == 1000)
    schedule.stop()
    assert most <= 20


def test_schedule_counts_its_subscriptions() -> None:
    bench = Bench()
    bench.set("a", 1)
    bench.set("a", 2)
    bench.set("b", 1)
    assert len(bench.schedule) == 2
    bench.set("a", None)
    assert len(bench.schedule) == 1

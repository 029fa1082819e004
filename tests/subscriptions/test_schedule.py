"""Times by id: moved, taken back, and acted on once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.streams.turns import Turns
from durable_streams_server.subscriptions.schedule import Schedule
from tests.requests import NOW, SECOND
from tests.streams.engines import ManualClock


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.acted: list[str] = []
        self.schedule = Schedule(self.clock, self.acted.append, Turns())

    def at(self, seconds: float) -> list[str]:
        """Sets the time, and returns what is acted on."""
        self.clock.now = NOW + round(seconds * SECOND)
        self.acted.clear()
        self.schedule.run()
        return list(self.acted)

    def set(self, id_: str, seconds: float | None) -> None:
        self.schedule.set(id_, None if seconds is None else NOW + round(seconds * SECOND))


def test_each_is_acted_on_once_when_its_time_has_come() -> None:
    bench = Bench()
    for id_, seconds in [("b", 2), ("a", 1), ("c", 3)]:
        bench.set(id_, seconds)
    assert bench.at(0.9) == []
    assert bench.at(1) == ["a"]
    assert bench.at(5) == ["b", "c"]
    assert bench.at(9) == []
    assert bench.schedule.next is None


def test_a_time_that_has_passed_is_acted_on_next() -> None:
    bench = Bench()
    bench.set("a", -5)
    assert bench.schedule.next == NOW - 5 * SECOND
    assert bench.at(0) == ["a"]


def test_a_time_is_moved_further_away() -> None:
    bench = Bench()
    bench.set("a", 1)
    bench.set("a", 5)
    assert bench.at(1) == []
    assert bench.at(4.9) == []
    assert bench.at(5) == ["a"]


def test_a_time_is_moved_nearer() -> None:
    bench = Bench()
    bench.set("a", 5)
    bench.set("a", 1)
    assert bench.at(1) == ["a"]
    assert bench.at(9) == []


def test_a_time_is_taken_back() -> None:
    bench = Bench()
    bench.set("a", 1)
    bench.set("a", None)
    bench.set("b", None)
    assert bench.at(9) == []
    bench.set("a", 10)
    assert bench.at(10) == ["a"]


def test_what_is_set_while_acting_is_acted_on_too() -> None:
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
def test_any_course_of_times_is_kept(steps: list[tuple[str, int | None, int]]) -> None:
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


def test_heartbeats_and_short_wakes_leave_no_heap_behind() -> None:
    """A subscription that is woken many times within one lease: at once, then to the end of the lease, then not at all."""
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


async def test_a_timer_runs_for_the_first_time() -> None:
    clock = ManualClock()
    acted: list[str] = []
    schedule = Schedule(clock, acted.append, Turns())
    schedule.set("late", NOW + 3600 * SECOND)
    schedule.set("due", NOW - 1)
    await asyncio.sleep(0)
    assert acted == []  # it has not been started
    schedule.start(asyncio.get_running_loop())
    await asyncio.sleep(0.002)
    assert acted == ["due"]
    schedule.set("nearer", NOW + 1000)
    clock.now += 1000
    await asyncio.sleep(0.005)
    assert acted == ["due", "nearer"]
    schedule.stop()
    schedule.set("never", NOW)
    await asyncio.sleep(0.002)
    assert acted == ["due", "nearer"]


async def test_a_fault_in_one_action_holds_no_other_up(caplog: pytest.LogCaptureFixture) -> None:
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
    await asyncio.sleep(0.005)
    schedule.stop()
    assert acted == ["bad", "good"]
    assert "a fault" in caplog.text
    assert schedule.next == NOW + SECOND  # it is tried again


@pytest.mark.parametrize("step", [3600, -5])
async def test_clock_that_is_set_delays_nothing_by_more_than_a_second(step: int) -> None:
    """A timer that was set for a time far away hears of no clock that is set forward; of one that is set back, neither."""
    clock = ManualClock()
    acted: list[str] = []
    schedule = Schedule(clock, acted.append, Turns())
    schedule.start(asyncio.get_running_loop())
    schedule.set("lease", NOW + 600 * SECOND)
    clock.forward(step)
    schedule.set("news", clock.now)
    async with asyncio.timeout(3):
        while "news" not in acted:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    schedule.stop()
    assert acted == (["lease", "news"] if step > 600 else ["news"])


async def test_many_that_are_due_at_once_take_their_turns() -> None:
    clock, turns = ManualClock(), Turns()
    acted: list[str] = []
    schedule = Schedule(clock, acted.append, turns)
    for number in range(1000):
        schedule.set(f"{number}", NOW)
    most = seen = 0

    def step() -> bool:
        """Stands in the same line, and sees how many were acted on since it was last here."""
        nonlocal most, seen
        most, seen = max(most, len(acted) - seen), len(acted)
        return len(acted) < 1000

    schedule.start(asyncio.get_running_loop())
    turns.add(step)
    async with asyncio.timeout(5):
        while len(acted) < 1000:  # noqa: ASYNC110
            await asyncio.sleep(0)
    schedule.stop()
    assert most <= 20

"""Waiters at the tails of streams: a change wakes only the waiters of its own stream, in rounds."""

import asyncio
from collections.abc import Callable

import pytest

from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import Appended, Removed, StreamState
from durable_streams_server.streams.draining import Drain
from durable_streams_server.streams.tails import Group, SharedEvent, Tails
from durable_streams_server.streams.turns import Turns
from tests.requests import NOW
from tests.streams.engines import run_until_idle
from tests.streams.test_turns import Clock


class Sleeper:
    """A waiter that counts how often it was woken, and then calls `on_wake`."""

    def __init__(self) -> None:
        self.woken = 0
        self.on_wake: Callable[[], object] = lambda: None

    def begin_drain(self, _: Drain) -> bool:
        raise AssertionError("nothing drains")

    def end_soon(self) -> None:
        raise AssertionError("nothing drains")

    def wake(self) -> None:
        self.woken += 1
        self.on_wake()


class Ticking:
    """A clock that a test advances by a millisecond at a time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self) -> None:
        self.now += 0.001


def state(incarnation: int) -> StreamState:
    """Returns the state of a new empty stream."""
    return StreamState(f"/{incarnation}", incarnation, parse_media_type("a/b"), FOREVER, NOW)


def added(state: StreamState, size: int = 1) -> Appended:
    """Appends bytes at a stream's tail, publishes them, and returns the change."""
    change = Appended(state.path, state.incarnation, state.tail, b"x" * size, False, NOW)
    state.tail += size
    state.publish(change)
    return change


def event(end: int, *, at_tail: bool = True) -> SharedEvent:
    """Returns an encoded event that ends at position `end`."""
    return SharedEvent(end, at_tail, False, b"event")


def crowd(count: int) -> tuple[Group, list[Sleeper]]:
    """Returns a group of waiters, and the waiters."""
    group, sleepers = Group(), [Sleeper() for _ in range(count)]
    group.waiters = dict.fromkeys(sleepers)
    return group, sleepers


async def test_change_wakes_only_waiters_of_its_stream() -> None:  # TRAPS 39
    turns = Turns()
    tails, first, second = Tails(turns), state(1), state(2)
    here, there = Sleeper(), Sleeper()
    tails.subscribe(first, here)
    tails.subscribe(second, there)
    tails.wake(first, added(first))
    await run_until_idle(turns)
    assert (here.woken, there.woken) == (1, 0)
    tails.wake_all()
    assert (here.woken, there.woken) == (2, 1)


async def test_crowd_is_woken_in_slices_when_the_server_stops() -> None:
    clock = Ticking()
    turns = Turns(clock=clock)
    tails, stream = Tails(turns), state(1)
    sleepers = [Sleeper() for _ in range(1000)]
    for sleeper in sleepers:
        tails.subscribe(stream, sleeper)
        sleeper.on_wake = clock.advance
    tails.wake_all_in_turns()
    assert sum(sleeper.woken for sleeper in sleepers) == 256
    await asyncio.sleep(0)
    assert 256 < sum(sleeper.woken for sleeper in sleepers) < 300
    await run_until_idle(turns)
    assert {sleeper.woken for sleeper in sleepers} == {1}


async def test_unsubscribed_waiter_is_not_woken() -> None:
    turns = Turns()
    tails, stream, sleeper = Tails(turns), state(1), Sleeper()
    tails.subscribe(stream, sleeper)
    assert (len(tails), stream.readers) == (1, 1)
    tails.wake(stream, added(stream))
    tails.unsubscribe(stream, sleeper)
    tails.unsubscribe(stream, sleeper)
    assert (len(tails), stream.readers) == (0, 0)
    tails.wake(stream, added(stream))
    await run_until_idle(turns)
    assert sleeper.woken == 0


async def test_waiter_is_woken_once_for_all_appends_of_one_turn() -> None:
    turns = Turns()
    tails, stream, sleepers = Tails(turns), state(1), [Sleeper() for _ in range(100)]
    for sleeper in sleepers:
        tails.subscribe(stream, sleeper)
    tails.wake(stream, added(stream))
    tails.wake(stream, added(stream))
    assert {sleeper.woken for sleeper in sleepers} == {0}
    await run_until_idle(turns)
    assert {sleeper.woken for sleeper in sleepers} == {1}
    tails.wake(stream, added(stream))
    await run_until_idle(turns)
    assert {sleeper.woken for sleeper in sleepers} == {2}


async def test_each_loop_turn_wakes_limited_number_of_waiters_per_stream() -> None:
    turns = Turns(clock=Clock())  # so that a busy machine cannot use up the time of a turn
    tails, streams = Tails(turns), [state(number) for number in range(3)]
    crowds = {stream.incarnation: [Sleeper() for _ in range(80)] for stream in streams}
    for stream in streams:
        for sleeper in crowds[stream.incarnation]:
            tails.subscribe(stream, sleeper)
        tails.wake(stream, added(stream))
    counts = []
    while not turns.is_idle:
        await asyncio.sleep(0)
        counts.append([sum(each.woken for each in sleepers) for sleepers in crowds.values()])
    assert counts == [[32] * 3, [64] * 3, [80] * 3]


async def test_waking_readers_pauses_after_its_time_share_of_loop_turn() -> None:
    clock = Clock()
    turns = Turns(share=0.004, clock=clock)
    tails, streams = Tails(turns), [state(number) for number in range(10)]

    class Slow(Sleeper):
        def wake(self) -> None:
            super().wake()
            clock.now += 0.001

    sleepers = [Slow() for _ in streams]
    for stream, sleeper in zip(streams, sleepers, strict=True):
        tails.subscribe(stream, sleeper)
        tails.wake(stream, added(stream))
    await asyncio.sleep(0)
    assert [sleeper.woken for sleeper in sleepers] == [1] * 4 + [0] * 6
    await run_until_idle(turns)
    assert [sleeper.woken for sleeper in sleepers] == [1] * 10


def test_append_during_wake_up_round_starts_another_round() -> None:
    stream = state(1)
    group, sleepers = crowd(100)
    assert group.begin_round(added(stream))
    assert not group.begin_round(
        added(stream)
    )  # the first round has not started, so it covers this change too
    assert group.step()
    assert sum(sleeper.woken for sleeper in sleepers) == 32
    assert not group.begin_round(added(stream))
    del group.waiters[sleepers[-1]]
    late = Sleeper()
    group.waiters[late] = None
    while group.step():
        pass
    assert [sleeper.woken for sleeper in sleepers] == [2] * 99 + [0]
    assert late.woken == 1
    assert group.begin_round(added(stream))


@pytest.mark.parametrize(("count", "slice_"), [(20, 20), (300, 4), (6400, 100), (100_000, 256)])
def test_waiters_of_busy_stream_are_woken_in_small_slices(count: int, slice_: int) -> None:
    stream = state(1)
    group, sleepers = crowd(count)

    def wake_slice() -> int:
        before = sum(sleeper.woken for sleeper in sleepers)
        group.step()
        return sum(sleeper.woken for sleeper in sleepers) - before

    group.begin_round(added(stream))
    assert wake_slice() == min(32, count)
    if count <= 32:  # the round is over
        return
    group.begin_round(added(stream))
    assert wake_slice() == slice_
    while sleepers[-1].woken == 0:
        group.step()
    assert (wake_slice() or wake_slice()) == slice_  # the stream also changed in the round before
    while group.step():
        pass
    group.begin_round(added(stream))
    assert wake_slice() == 32


def test_append_by_woken_waiter_wakes_all_waiters_again() -> None:
    stream, group = state(1), Group()

    class Writer(Sleeper):
        def wake(self) -> None:
            super().wake()
            if self.woken == 1:
                assert not group.begin_round(added(stream))

    waiters = [Sleeper(), Writer()]
    group.waiters = dict.fromkeys(waiters)
    assert group.begin_round(added(stream))
    while group.step():
        pass
    assert [waiter.woken for waiter in waiters] == [2, 2]


def test_latest_is_none_unless_wake_up_round_has_one_append() -> None:
    stream = state(1)
    group, _ = crowd(2)
    first = added(stream)
    group.begin_round(first)
    assert group.latest is first
    assert not group.step()
    assert group.latest is None
    group.begin_round(added(stream))
    group.begin_round(added(stream))
    assert group.latest is None
    group.step()
    group.begin_round(Removed(stream.path, stream.incarnation))
    assert group.latest is None


def test_event_up_to_tail_is_shared_with_waiters_at_same_offset() -> None:
    group, sleepers = crowd(40)
    found: list[SharedEvent | None] = []
    sleepers[0].on_wake = lambda: group.share(5, event(9))
    sleepers[1].on_wake = lambda: found.extend(
        group.shared(start, tail) for start, tail in ((5, 9), (5, 10), (4, 9))
    )
    group.begin_round(added(state(1)))
    while group.step():
        pass
    assert found == [event(9), None, None]
    assert group.shared(5, 9) is None  # the round is over, so its events are dropped
    assert not group.shares


def test_event_is_not_shared_if_stream_has_one_waiter() -> None:
    group, sleepers = crowd(1)
    shares: list[bool] = []
    sleepers[0].on_wake = lambda: shares.append(group.shares)
    group.begin_round(added(state(1)))
    group.step()
    assert shares == [False]


def test_event_ending_before_tail_is_shared_after_tail_moves() -> None:
    group, _ = crowd(40)
    group.begin_round(added(state(1)))
    assert group.step()
    group.share(5, event(9, at_tail=False))
    assert group.shared(5, 1000) == event(9, at_tail=False)


def test_stream_waiters_share_at_most_8_events() -> None:
    group, _ = crowd(40)
    group.begin_round(added(state(1)))
    assert group.step()
    for start in range(100):
        group.share(start, event(start + 1, at_tail=False))
    assert sum(group.shared(start, 1000) is not None for start in range(100)) <= 8


async def test_waiter_may_unsubscribe_while_it_is_woken() -> None:
    turns = Turns()
    tails, stream = Tails(turns), state(1)

    class Leaver(Sleeper):
        def wake(self) -> None:
            super().wake()
            tails.unsubscribe(stream, self)

    leavers = [Leaver() for _ in range(3)]
    for leaver in leavers:
        tails.subscribe(stream, leaver)
    tails.wake(stream, added(stream))
    await run_until_idle(turns)
    assert [leaver.woken for leaver in leavers] == [1, 1, 1]
    assert len(tails) == 0

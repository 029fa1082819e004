"""Who waits at which tail: a wake-up costs what its own stream's waiters cost."""

import asyncio

from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.streams.tails import Group, Tails
from durable_streams_server.streams.turns import Turns
from tests.requests import NOW


class Sleeper:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def state(incarnation: int) -> StreamState:
    return StreamState(f"/{incarnation}", incarnation, parse_media_type("a/b"), FOREVER, NOW)


async def test_only_the_waiters_of_one_stream_are_woken() -> None:  # TRAPS 39
    tails, first, second = Tails(Turns()), state(1), state(2)
    here, there = Sleeper(), Sleeper()
    tails.subscribe(first, here)
    tails.subscribe(second, there)
    tails.wake(first)
    assert (here.woken, there.woken) == (1, 0)
    tails.wake_all()
    assert (here.woken, there.woken) == (2, 1)


async def test_waiters_are_counted_and_forgotten() -> None:
    tails, stream, sleeper = Tails(Turns()), state(1), Sleeper()
    tails.subscribe(stream, sleeper)
    assert (len(tails), stream.readers) == (1, 1)
    tails.unsubscribe(stream, sleeper)
    tails.unsubscribe(stream, sleeper)
    assert (len(tails), stream.readers) == (0, 0)
    tails.wake(stream)
    assert sleeper.woken == 0


async def test_a_crowd_is_woken_once_for_all_that_a_turn_of_the_loop_appends() -> None:
    tails, stream, sleepers = Tails(Turns()), state(1), [Sleeper() for _ in range(100)]
    for sleeper in sleepers:
        tails.subscribe(stream, sleeper)
    tails.wake(stream)
    tails.wake(stream)
    assert {sleeper.woken for sleeper in sleepers} == {0}
    await asyncio.sleep(0)
    assert {sleeper.woken for sleeper in sleepers} == {1}
    tails.wake(stream)
    await asyncio.sleep(0)
    assert {sleeper.woken for sleeper in sleepers} == {2}


def test_step_of_a_round_wakes_a_few_and_news_within_it_makes_another_round() -> None:
    group, sleepers = Group(), [Sleeper() for _ in range(100)]
    for sleeper in sleepers:
        group.waiters[sleeper] = None
    assert group.begin_round()
    assert not group.begin_round()  # it has not begun, so it will show this news too
    assert group.step()
    assert 0 < sum(sleeper.woken for sleeper in sleepers) < 50
    assert not group.begin_round()
    del group.waiters[sleepers[-1]]
    late = Sleeper()
    group.waiters[late] = None
    while group.step():
        pass
    assert [sleeper.woken for sleeper in sleepers] == [2] * 99 + [0]
    assert late.woken == 1
    assert group.begin_round()


async def test_a_waiter_may_leave_while_all_are_woken() -> None:
    tails, stream = Tails(Turns()), state(1)

    class Leaver(Sleeper):
        def wake(self) -> None:
            super().wake()
            tails.unsubscribe(stream, self)

    leavers = [Leaver() for _ in range(3)]
    for leaver in leavers:
        tails.subscribe(stream, leaver)
    tails.wake(stream)
    assert [leaver.woken for leaver in leavers] == [1, 1, 1]
    assert len(tails) == 0

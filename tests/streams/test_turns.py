"""Long work runs in steps: in order, for a bounded share of each turn of the event loop, and without harm to other steps."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import pytest

from durable_streams_server.streams import turns as turns_module
from durable_streams_server.streams.turns import (
    FEW,
    LONGEST_READS,
    READS_AT_ONCE,
    WRITES_AT_ONCE,
    Line,
    Turns,
)


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def counting(count: int, done: list[str], name: str) -> Callable[[], bool]:
    """Returns a step that appends its name to `done` and asks to be called `count` times."""
    left = count

    def step() -> bool:
        nonlocal left
        left -= 1
        done.append(name)
        return left > 0

    return step


async def run_all(turns: Turns) -> None:
    """Runs the event loop until no step is queued. Wake-ups do not count."""
    for _ in range(1000):
        if not len(turns):
            return
        await asyncio.sleep(0)
    raise AssertionError("the line does not end")


async def test_queued_tasks_run_one_step_each_in_turn() -> None:
    turns = Turns()
    done: list[str] = []
    turns.add(counting(3, done, "a"))
    turns.add(counting(2, done, "b"))
    turns.add(counting(1, done, "c"))
    await run_all(turns)
    assert done == ["a", "b", "c", "a", "b", "a"]


async def test_work_queue_yields_to_event_loop_after_its_time_share() -> None:
    clock = Clock()
    order: list[str] = []
    turns = Turns(share=0.004, clock=clock)

    def step() -> bool:
        clock.now += 0.001
        order.append("step")
        return len(order) < 10

    turns.add(step)
    asyncio.get_running_loop().call_soon(order.append, "loop")
    await run_all(turns)
    assert order[:6] == ["step"] * 4 + ["loop", "step"]


async def test_step_longer_than_share_ends_turn() -> None:
    clock = Clock()
    order: list[str] = []
    turns = Turns(share=0.004, clock=clock)

    def long() -> None:
        clock.now += 1
        order.append("long")

    turns.add(long)
    turns.add(long)
    asyncio.get_running_loop().call_soon(order.append, "loop")
    await run_all(turns)
    assert order == ["long", "loop", "long"]


async def test_failing_step_is_logged_and_other_steps_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    turns = Turns()
    done: list[str] = []

    def fail() -> None:
        raise ValueError("the step's own trouble")

    turns.add(fail)
    turns.add(counting(1, done, "next"))
    with caplog.at_level(logging.ERROR):
        await run_all(turns)
    assert done == ["next"]
    assert "a step of long work failed" in caplog.text


async def test_step_added_by_running_step_goes_to_end_of_queue() -> None:
    turns = Turns()
    done: list[str] = []

    def first() -> None:
        done.append("first")
        turns.add(counting(1, done, "added"))

    turns.add(first)
    turns.add(counting(1, done, "second"))
    await run_all(turns)
    assert done == ["first", "second", "added"]


async def test_loop_turn_admits_limited_number_of_writes_and_reads() -> None:
    turns = Turns()
    for _ in range(2):
        begun = [turns.admits(is_read=False) for _ in range(WRITES_AT_ONCE + 10)]
        assert begun == [True] * WRITES_AT_ONCE + [False] * 10
        begun = [turns.admits(is_read=True) for _ in range(READS_AT_ONCE)]
        assert begun == sorted(begun, reverse=True)  # only the first reads are admitted
        assert 0 < begun.count(True) < READS_AT_ONCE
        await asyncio.sleep(0)


async def test_postponed_writes_do_not_reduce_number_of_admitted_reads() -> None:
    turns = Turns()
    for _ in range(1000):
        turns.admits(is_read=False)
    assert turns.begun == WRITES_AT_ONCE
    assert turns.admits(is_read=True)


async def test_slow_body_parsing_uses_admission_of_several_writes() -> None:
    now = 0.0
    turns = Turns(clock=lambda: now)

    def work(data: bytes) -> None:
        nonlocal now
        now += 0.0000501 * (WRITES_AT_ONCE - 21)  # the time of WRITES_AT_ONCE - 21 writes

    turns.count(work, b"x" * 8192 * 20)
    assert not turns.is_full
    assert turns.admits(is_read=False)
    assert turns.is_full
    assert not turns.admits(is_read=False)
    assert turns.admits(is_read=True)
    await asyncio.sleep(0)
    assert not turns.is_full


async def test_delayed_parsing_uses_at_most_one_write_per_512_bytes() -> None:
    now = 0.0
    turns = Turns(clock=lambda: now)

    def work(_: bytes) -> None:
        nonlocal now
        now += 1.0

    turns.count(work, b"x" * 5120)
    assert turns.begun == 10


async def test_admission_lets_more_requests_skip_the_check_until_next_turn() -> None:
    turns = Turns()
    assert turns.unasked == FEW
    turns.begun = FEW
    assert turns.admits(is_read=False)
    assert turns.unasked == WRITES_AT_ONCE
    await asyncio.sleep(0)
    assert turns.begun == 0
    assert turns.unasked == FEW


async def test_reads_are_queued_after_24_ms_of_one_loop_turn() -> None:
    clock = Clock()
    turns = Turns(clock=clock)
    for _ in range(WRITES_AT_ONCE + 1):
        assert turns.admits(is_read=True)
    clock.now = LONGEST_READS
    assert not turns.admits(is_read=True)
    await asyncio.sleep(0)
    assert turns.admits(is_read=True)


async def test_queued_requests_run_before_long_work() -> None:
    clock = Clock()
    turns = Turns(share=0.004, clock=clock)
    order: list[str] = []

    def work() -> bool:
        clock.now += 0.003
        order.append("work")
        return len(order) < 9

    for _ in range(3):
        turns.add(work)
    for _ in range(3):
        turns.add(lambda: order.append("request"), Line.URGENT)
    await run_all(turns)
    assert order[:3] == ["request"] * 3
    assert "work" in order


async def test_coroutine_waits_in_same_queue_as_steps() -> None:
    turns = Turns()
    done: list[str] = []
    turns.add(counting(2, done, "a"))
    waiting = asyncio.create_task(turns.wait_turn())
    await asyncio.sleep(0)
    turns.add(counting(1, done, "b"))
    await waiting
    assert done[0] == "a"
    await run_all(turns)


async def test_cancelled_coroutine_leaves_queue() -> None:
    turns = Turns()
    waiting = asyncio.create_task(turns.wait_turn())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await run_all(turns)


async def test_spend_reduces_remaining_time_of_loop_turn() -> None:
    clock = Clock()
    turns = Turns(share=0.004, clock=clock)
    order: list[str] = []

    def step() -> bool:
        turns.spend(0.002)
        order.append("step")
        return len(order) < 5

    turns.add(step)
    asyncio.get_running_loop().call_soon(order.append, "loop")
    await run_all(turns)
    assert order == ["step", "step", "loop", "step", "step"]


async def test_has_time_is_false_if_turn_is_full_or_step_queued() -> None:
    turns = Turns(share=0.004)
    assert not turns.has_time(0.005)
    done = [turns.has_time(0.004) for _ in range(10)]
    assert done == [True] * 4 + [False] * 6  # 4 times 4 ms is more than the 13 ms of 256 writes
    await asyncio.sleep(0)
    assert turns.has_time(0.004)
    turns.add(lambda: None)
    assert not turns.has_time(0.0001)
    await run_all(turns)
    assert turns.has_time(0.0001)


async def test_each_work_queue_runs_for_its_time_share_in_fixed_order() -> None:
    clock = Clock()
    turns = Turns(share=0.004, clock=clock)
    order: list[str] = []

    def step(name: str) -> Callable[[], None]:
        def run() -> None:
            clock.now += 0.003
            order.append(name)

        return run

    for _ in range(3):
        for line in (Line.WORK, Line.URGENT, Line.READS):
            turns.add(step(line.name), line)
    await asyncio.sleep(0)
    assert order == ["READS", "READS", "URGENT", "URGENT", "WORK", "WORK"]
    await run_all(turns)
    assert order[6:] == ["READS", "URGENT", "WORK"]


async def test_wake_up_queue_runs_one_step_per_loop_turn() -> None:
    turns = Turns()
    order: list[str] = []
    turns.add(counting(3, order, "wake"), Line.WAKES)
    turns.add(counting(3, order, "work"))
    asyncio.get_running_loop().call_soon(order.append, "loop")
    await asyncio.sleep(0)
    assert order == ["wake", "work", "work", "work", "loop"]
    assert len(turns) == 0
    assert turns.has_time(0.001)
    assert not turns.is_idle
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order[5:] == ["wake", "wake"]
    assert turns.is_idle


@pytest.mark.parametrize("is_waited_for", [True, False])
async def test_event_loop_yields_to_threads_that_clients_wait_for(
    is_waited_for: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(turns_module, "_give_way", lambda: order.append("others"))
    turns = Turns(is_waited_for=lambda: is_waited_for)
    turns.add(counting(3, order, "wake"), Line.WAKES)
    for _ in range(3):
        await asyncio.sleep(0)
    assert turns.is_idle
    between = ["others"] if is_waited_for else []
    assert order == ["wake", *between, "wake", *between, "wake"]


async def test_event_loop_sleeps_to_let_long_waiting_thread_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, order = 0.0, []

    def step() -> bool:
        nonlocal now
        now += 0.002
        order.append("step")
        return len(order) < 16

    monkeypatch.setattr(turns_module, "_give_way", lambda: order.append("yield"))
    monkeypatch.setattr(turns_module, "_sleep", lambda _: order.append("sleep"))
    turns = Turns(share=0.001, clock=lambda: now, is_waited_for=lambda: True)
    turns.add(step)
    for _ in range(9):
        await asyncio.sleep(0)
    assert order[:10] == ["step", "yield"] * 3 + ["step", "sleep"] + ["step", "yield"]


async def test_busy_work_queues_do_not_starve_other_threads() -> None:
    begin, ended = threading.Event(), asyncio.Event()
    begun: list[float] = []

    def wait() -> None:
        begin.wait(10)
        begun.append(time.monotonic())

    def step() -> bool:
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass
        if begun or until > end:
            ended.set()
        return not ended.is_set()

    thread = threading.Thread(target=wait)
    thread.start()
    turns = Turns(is_waited_for=lambda: True)
    end = time.monotonic() + 5
    turns.add(step)
    for _ in range(10):  # enough turns to make the loop busy
        await asyncio.sleep(0)
    called = time.monotonic()
    begin.set()
    await ended.wait()
    thread.join()
    assert begun[0] - called < 0.5


async def test_waiting_steps_are_counted_by_line() -> None:
    turns = Turns()
    turns.add(lambda: None, Line.READS)
    turns.add(lambda: None, Line.WAKES)
    turns.add(lambda: None, Line.WAKES)
    assert turns.waiting == (1, 0, 2, 0)
    await turns.wait_turn()
    assert turns.waiting == (0, 0, 0, 0)

"""Large reads: one shared object per run, counted against a budget until its last reader releases it."""

import asyncio
import gc
from collections.abc import Callable

import pytest

from durable_streams_server.storage.slow_work import SEND_MEMORY, SlowWork
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.large import KEPT, Key, LargeReads, Run, SendBudget
from tests.http.socket_driver import run_turns

MIB = 1024 * 1024
A: Key = (1, 0, 100)
B: Key = (2, 0, 100)


class Disk:
    """A disk whose reads complete when the test calls `done`."""

    def __init__(self) -> None:
        self.reading: list[Ticket[bytes]] = []

    def read(self) -> Ticket[bytes]:
        ticket: Ticket[bytes] = Ticket()
        self.reading.append(ticket)
        return ticket

    def done(self, data: bytes = b"x" * 100) -> None:
        self.reading.pop(0).resolve(data)


def at_once(step: Callable[[], None]) -> None:
    """Runs a step immediately, as if no other step were queued."""
    step()


@pytest.fixture
def disk() -> Disk:
    return Disk()


def reads(limit: int) -> LargeReads:
    """Returns a `LargeReads` that runs its steps immediately and has a budget of `limit` bytes."""
    return LargeReads(SendBudget(limit), at_once)


def test_large_read_uses_budget_until_last_reference_is_dropped(disk: Disk) -> None:
    large = reads(1000)
    first, second = large.read(A, disk.read), large.read(A, disk.read)
    disk.done()
    assert disk.reading == []  # both readers share one disk read
    assert first.result() is second.result()
    third = large.read(A, disk.read)
    assert third.result() is first.result()
    assert large.budget.held == 100
    large._evict(1000)
    assert large.budget.held == 100
    del first, second, third
    assert large.budget.held == 0


def test_large_read_is_cached_while_budget_has_room(disk: Disk) -> None:
    large = reads(250)
    for key in (A, B):
        large.read(key, disk.read)
        disk.done()
    assert large.budget.held == 200
    large.read(A, disk.read)
    assert disk.reading == []
    large.read((3, 0, 100), disk.read)  # the oldest run is evicted
    assert large.budget.held == 200
    assert large.kept_bytes == 100


def test_cache_of_large_reads_has_limited_size(disk: Disk) -> None:
    large = reads(10 * KEPT)
    for number in range(60):
        large.read((number, 0, MIB), disk.read)
        disk.done(b"x" * MIB)
    assert large.kept_bytes == KEPT
    assert large.budget.held == KEPT


async def test_read_beyond_budget_waits_until_another_page_is_released(disk: Disk) -> None:
    large = reads(150)
    waited: list[bool] = []
    large.budget.on_wait = lambda: waited.append(True)
    first = large.read(A, disk.read)
    disk.done()
    held = first.result()
    second = large.read(B, disk.read)
    assert waited == [True]
    assert disk.reading == []
    assert large.budget.wanted == 100
    del first, held
    await run_turns()
    disk.done()
    assert second.result().data == b"x" * 100
    assert large.budget.held == 100


async def test_wait_for_budget_counts_as_slow_work(disk: Disk) -> None:
    now = 100.0
    work = SlowWork(lambda: now)
    large = LargeReads(SendBudget(150, work), at_once)
    first = large.read(A, disk.read)
    disk.done()
    held = first.result()
    second = large.read(B, disk.read)
    now += 2
    del first, held
    await run_turns()
    disk.done()
    assert second.done
    assert work.between(0, 1000) == {SEND_MEMORY: 2.0}


async def test_read_larger_than_budget_waits_its_turn_and_runs_alone(
    disk: Disk,
) -> None:
    large = reads(150)
    first = large.read(A, disk.read)
    disk.done()
    huge = large.read((3, 0, 1000), disk.read)
    small = large.read((4, 0, 10), disk.read)
    assert disk.reading == []
    del first
    await run_turns()
    assert len(disk.reading) == 1
    disk.done(b"h" * 1000)
    assert huge.done
    assert not small.done
    del huge
    await run_turns()
    disk.done(b"s" * 10)
    assert small.done
    assert large.budget.held == 10


async def test_cancelled_read_leaves_queue(disk: Disk) -> None:
    large = reads(100)
    first = large.read(A, disk.read)
    disk.done()
    second, third = large.read(B, disk.read), large.read((3, 0, 100), disk.read)
    second.cancel()
    assert large.budget.wanted == 100
    again = large.read(B, disk.read)
    del first
    await run_turns()
    assert len(disk.reading) == 1
    disk.done()
    assert third.done
    assert not again.done
    third.result()
    del third
    await run_turns()
    disk.done()
    assert again.done


async def test_cancelled_read_is_not_started(disk: Disk) -> None:
    steps: list[Callable[[], None]] = []
    large = LargeReads(SendBudget(100), steps.append)
    ticket = large.read(A, disk.read)
    ticket.cancel()
    for step in steps:
        step()
    assert disk.reading == []
    assert large.budget.held == 0


def test_failed_read_returns_its_bytes_to_budget(disk: Disk) -> None:
    large = reads(100)
    first, second = large.read(A, disk.read), large.read(A, disk.read)
    disk.reading.pop().fail(OSError("no disk"))
    for ticket in (first, second):
        with pytest.raises(OSError, match="no disk"):
            ticket.result()
    assert large.budget.held == 0

    def refuse() -> Ticket[bytes]:
        raise KeyError

    with pytest.raises(KeyError):
        large.read(A, refuse).result()
    assert large.budget.held == 0


def test_each_waiting_reader_of_large_read_is_answered_in_separate_step(disk: Disk) -> None:
    steps: list[Callable[[], None]] = []
    large = LargeReads(SendBudget(100), steps.append)
    tickets = [large.read(A, disk.read) for _ in range(3)]
    steps.pop()()
    disk.done()
    assert [ticket.done for ticket in tickets] == [False] * 3
    for number, step in enumerate(steps, 1):
        step()
        assert sum(ticket.done for ticket in tickets) == number


def test_readers_share_one_json_encoding_of_large_read(disk: Disk) -> None:
    large = reads(250)
    ticket = large.read(A, disk.read)
    disk.done()
    run = ticket.result()
    made: list[bytes] = []

    def make() -> bytes:
        made.append(b"[" + b"x" * 100 + b"]")
        return made[-1]

    first = run.encoded(102, make)
    assert first is made[0]
    assert run.encoded(102, make) is first
    assert len(made) == 1
    assert large.budget.held == 202
    large._evict(250)
    del ticket, run
    assert large.budget.held == 0


def test_large_read_is_not_encoded_if_budget_has_no_room(disk: Disk) -> None:
    large = reads(150)
    ticket = large.read(A, disk.read)
    disk.done()
    assert ticket.result().encoded(102, lambda: b"x" * 102) is None
    assert large.budget.held == 100


def test_cached_read_skips_queue_only_if_loop_turn_has_time(disk: Disk) -> None:
    steps: list[Callable[[], None]] = []
    asked: list[int] = []
    has_time = [True, False]

    def answer(size: int) -> bool:
        asked.append(size)
        return has_time.pop(0)

    large = LargeReads(SendBudget(100), steps.append, answer)
    first = large.read(A, disk.read)
    steps.pop()()
    disk.done()
    steps.pop()()
    assert asked == []  # a run that is read from the store waits in line
    assert large.read(A, disk.read).result() is first.result()
    second = large.read(A, disk.read)
    assert not second.done
    steps.pop()()
    assert second.result() is first.result()
    assert asked == [100, 100]


async def test_dropped_large_read_frees_budget_without_garbage_collection(disk: Disk) -> None:
    gc.disable()
    try:
        budget = SendBudget(100)
        budget.add(60)
        run = Run(budget, b"x" * 60)
        waiting = budget.take(60)
        del run
        assert budget.held == 0
        await asyncio.sleep(0)
        assert waiting.done
        assert budget.held == 60
    finally:
        gc.enable()

"""The time that tasks may wait for the next part of a body."""

import asyncio

import pytest

from durable_streams_server.http.limits.patience import Patience


def this_task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def waiting(patience: Patience, event: asyncio.Event) -> str:
    """Waits for an event, and says how that ended."""
    task = this_task()
    patience.wait(task)
    try:
        await event.wait()
    except asyncio.CancelledError:
        if not patience.ran_out(task):
            raise
        return "too late"
    finally:
        patience.forget(task)
    return "in time"


async def test_task_that_waits_too_long_is_told_and_goes_on() -> None:
    patience = Patience(0.01)
    task = asyncio.create_task(waiting(patience, asyncio.Event()))
    assert await asyncio.wait_for(task, 5) == "too late"
    assert len(patience) == 0


async def test_task_that_gets_its_part_is_left_alone() -> None:
    patience = Patience(0.01)
    slow, event = asyncio.Event(), asyncio.Event()
    event.set()
    assert await waiting(patience, event) == "in time"
    assert await waiting(patience, slow) == "too late"  # by then the first would have been, too


async def test_each_part_has_the_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(10)
    loop, task = asyncio.get_running_loop(), this_task()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    patience.wait(task)
    now += 9
    patience.wait(task)
    now += 9
    patience._look()
    assert len(patience) == 1
    now += 1
    patience._look()
    assert len(patience) == 0
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert patience.ran_out(task)


async def test_cancellation_by_somebody_else_is_not_taken_for_ours() -> None:
    patience = Patience(10)
    task = asyncio.create_task(waiting(patience, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(patience) == 0


async def test_cancellation_by_somebody_else_at_the_same_time_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patience = Patience(10)
    task = asyncio.create_task(waiting(patience, asyncio.Event()))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    now = loop.time() + 10
    monkeypatch.setattr(loop, "time", lambda: now)
    patience._look()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_task_that_was_cancelled_before_and_went_on_is_told_all_the_same() -> None:
    patience = Patience(0.01)
    task = this_task()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert await waiting(patience, asyncio.Event()) == "too late"
    task.uncancel()


async def test_timer_rests_while_nobody_waits() -> None:
    patience = Patience(0.01)
    await waiting(patience, asyncio.Event())
    assert patience._timer is None
    await waiting(patience, asyncio.Event())
    assert patience._timer is None

"""The timer of tasks that wait for the next part of a body."""

import asyncio

import pytest

from durable_streams_server.http.limits.body_timer import BodyTimer


def this_task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def waiting(body_timer: BodyTimer, event: asyncio.Event) -> str:
    """Waits for an event under the timer. Returns "in time" or "too late"."""
    task = this_task()
    body_timer.start(task)
    try:
        await event.wait()
    except asyncio.CancelledError:
        if not body_timer.timed_out(task):
            raise
        return "too late"
    finally:
        body_timer.stop(task)
    return "in time"


async def test_task_that_waits_too_long_for_body_times_out_and_continues() -> None:
    body_timer = BodyTimer(0.01)
    task = asyncio.create_task(waiting(body_timer, asyncio.Event()))
    assert await asyncio.wait_for(task, 5) == "too late"
    assert len(body_timer) == 0


async def test_task_that_gets_its_body_part_in_time_is_not_cancelled() -> None:
    body_timer = BodyTimer(0.01)
    slow, event = asyncio.Event(), asyncio.Event()
    event.set()
    assert await waiting(body_timer, event) == "in time"
    assert (
        await waiting(body_timer, slow) == "too late"
    )  # the first wait would have timed out by now


async def test_body_timeout_restarts_for_each_part_of_the_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body_timer = BodyTimer(10)
    loop, task = asyncio.get_running_loop(), this_task()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    body_timer.start(task)
    now += 9
    body_timer.start(task)
    now += 9
    body_timer._cancel_due_tasks()
    assert len(body_timer) == 1
    now += 1
    body_timer._cancel_due_tasks()
    assert len(body_timer) == 0
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert body_timer.timed_out(task)


async def test_cancellation_by_other_code_is_not_reported_as_timeout() -> None:
    body_timer = BodyTimer(10)
    task = asyncio.create_task(waiting(body_timer, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(body_timer) == 0


async def test_simultaneous_cancellation_by_other_code_takes_precedence_over_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body_timer = BodyTimer(10)
    task = asyncio.create_task(waiting(body_timer, asyncio.Event()))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    now = loop.time() + 10
    monkeypatch.setattr(loop, "time", lambda: now)
    body_timer._cancel_due_tasks()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_task_that_survived_a_cancellation_still_times_out() -> None:
    body_timer = BodyTimer(0.01)
    task = this_task()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert await waiting(body_timer, asyncio.Event()) == "too late"
    task.uncancel()


async def test_body_timer_stops_while_no_task_waits() -> None:
    body_timer = BodyTimer(0.01)
    await waiting(body_timer, asyncio.Event())
    assert body_timer._timer is None
    await waiting(body_timer, asyncio.Event())
    assert body_timer._timer is None

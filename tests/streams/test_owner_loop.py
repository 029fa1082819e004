"""The next caller takes a store back from an event loop that ended without detaching the store."""

import asyncio
import threading

import pytest

from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.calls import State
from tests.streams.callers import attach, do_nothing, make_calls, thread_of_call
from tests.streams.threads import InThread, LoopThread, Pause, wait_until

pytestmark = pytest.mark.usefixtures("frequent_checks")


def test_waiting_call_runs_in_its_thread_once_loop_is_closed(loop_thread: LoopThread) -> None:
    calls, pause, taken_back = make_calls(), Pause(), threading.Event()
    attach(calls, loop_thread, taken_back.set)

    def stop() -> None:
        pause()
        loop_thread.loop.stop()

    loop_thread.loop.call_soon_threadsafe(stop)
    pause.wait_until_reached()
    call = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)  # the call is too late for the last turn of the loop
    pause.release()
    loop_thread.join()
    loop_thread.loop.close()
    assert call.result() == call.ident
    assert taken_back.is_set()


def test_call_after_loop_was_closed_runs_in_calling_thread(loop_thread: LoopThread) -> None:
    calls, taken_back = make_calls(), threading.Event()
    attach(calls, loop_thread, taken_back.set)
    loop_thread.stop()
    call = InThread(lambda: thread_of_call(calls))
    assert call.result() == call.ident
    assert taken_back.is_set()


def test_started_call_raises_error_if_its_loop_is_closed(
    loop_thread: LoopThread,
) -> None:
    calls, ticket = make_calls(), Ticket[int]()
    attach(calls, loop_thread)
    call = InThread(lambda: calls.run(lambda: ticket))
    wait_until(lambda: len(calls._started) == 1)
    loop_thread.stop()
    with pytest.raises(RuntimeError, match="nobody knows what became of this call"):
        call.result()
    assert thread_of_call(calls) == threading.get_ident()


def test_store_can_be_closed_after_owning_loop_was_closed(loop_thread: LoopThread) -> None:
    calls, order = make_calls(), list[str]()
    attach(calls, loop_thread, lambda: order.append("back"))
    loop_thread.stop()
    calls.close(lambda: order.append("end"))
    assert order == ["back", "end"]


def test_call_is_refused_if_owning_loop_has_stopped(loop_thread: LoopThread) -> None:
    calls = make_calls()
    attach(calls, loop_thread)
    loop_thread.stop(close=False)
    with pytest.raises(RuntimeError, match="the event loop that has the store has stopped"):
        thread_of_call(calls)
    assert calls.waiting == 0
    loop_thread.loop.close()


def test_call_in_thread_of_stopped_loop_runs_immediately() -> None:
    calls, loop = make_calls(), asyncio.new_event_loop()

    async def attach() -> None:
        calls.attach(loop, do_nothing, do_nothing)

    loop.run_until_complete(attach())
    assert thread_of_call(calls) == threading.get_ident()
    calls.close(do_nothing)
    loop.close()


def test_store_can_be_used_after_owning_loop_ends_with_error() -> None:
    calls, pause, order = make_calls(), Pause(), list[str]()

    async def main() -> None:
        for _ in range(2):  # two applications share the store
            calls.attach(asyncio.get_running_loop(), do_nothing, lambda: order.append("back"))
        pause()
        raise ValueError("the program failed")

    running = InThread(lambda: asyncio.run(main()))
    pause.wait_until_reached()
    call = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)
    pause.release()
    with pytest.raises(ValueError, match="the program failed"):
        running.result()
    assert call.result() in (call.ident, running.ident)
    assert (order, calls.state) == (["back"], State.FREE)

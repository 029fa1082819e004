"""Synchronous calls of a store end, with a result or an error, while event loops attach, detach and fail at any moment."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams.calls import State
from tests.streams.callers import attach, call_that_pauses, do_nothing, make_calls, thread_of_call
from tests.streams.threads import InThread, LoopThread, Pause, wait_until

pytestmark = pytest.mark.usefixtures("frequent_checks")


def test_call_without_loop_runs_in_calling_thread() -> None:
    calls = make_calls()
    thread = InThread(lambda: thread_of_call(calls))
    assert thread.result() == thread.ident


def test_call_within_call_runs_immediately() -> None:
    calls = make_calls()
    assert calls.run(lambda: Ticket.of(thread_of_call(calls))) == threading.get_ident()


def test_second_thread_waits_until_first_call_ends() -> None:
    calls, pause = make_calls(), Pause()
    first = InThread(lambda: call_that_pauses(calls, pause))
    pause.wait_until_reached()
    second = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)
    pause.release()
    first.result()
    assert second.result() == second.ident


def test_attach_waits_for_running_call_and_later_calls_run_on_loop(
    loop_thread: LoopThread,
) -> None:
    calls, pause = make_calls(), Pause()
    first = InThread(lambda: call_that_pauses(calls, pause))
    pause.wait_until_reached()
    taken = threading.Event()
    attaching = loop_thread.start_call(
        lambda: calls.attach(loop_thread.loop, taken.set, do_nothing)
    )
    wait_until(lambda: calls._pending_changes == 1)
    second = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)
    assert not taken.is_set()
    pause.release()
    first.result()
    attaching.result()
    assert second.result() == loop_thread.ident
    loop_thread.call(calls.detach)


def test_call_during_attach_runs_on_loop(loop_thread: LoopThread) -> None:
    calls, pause = make_calls(), Pause()
    attaching = loop_thread.start_call(lambda: calls.attach(loop_thread.loop, pause, do_nothing))
    pause.wait_until_reached()
    call = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)
    pause.release()
    attaching.result()
    assert call.result() == loop_thread.ident
    loop_thread.call(calls.detach)


def test_call_during_failing_attach_runs_in_calling_thread(loop_thread: LoopThread) -> None:
    calls, pause = make_calls(), Pause()

    def fail() -> None:
        pause()
        raise OSError("no disk")

    attaching = loop_thread.start_call(lambda: calls.attach(loop_thread.loop, fail, do_nothing))
    pause.wait_until_reached()
    call = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)
    pause.release()
    with pytest.raises(OSError, match="no disk"):
        attaching.result()
    assert call.result() == call.ident


def test_call_not_started_before_detach_runs_in_calling_thread(
    loop_thread: LoopThread,
) -> None:
    calls, pause = make_calls(), Pause()
    attach(calls, loop_thread)

    def stop() -> None:
        pause()
        calls.detach()

    stopping = loop_thread.start_call(stop)
    pause.wait_until_reached()
    call = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)  # the loop has the call but is busy
    pause.release()
    stopping.result()
    assert call.result() == call.ident


def test_call_racing_with_detach_runs_on_loop_or_in_calling_thread(
    loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, pause = make_calls(), Pause()
    attach(calls, loop_thread)
    hand_over = loop_thread.loop.call_soon_threadsafe

    def handing_over(callback: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if callback == calls._start_waiting:
            pause()
        return hand_over(callback, *arguments, **options)

    monkeypatch.setattr(loop_thread.loop, "call_soon_threadsafe", handing_over)
    call = InThread(lambda: thread_of_call(calls))
    pause.wait_until_reached()  # the thread has found the owning loop but has not handed the call to it yet
    stopping = loop_thread.start_call(calls.detach)
    pause.release()
    assert call.result() in (call.ident, loop_thread.ident)
    stopping.result()
    assert calls.state is State.FREE


def test_call_during_detach_runs_in_calling_thread(loop_thread: LoopThread) -> None:
    calls, pause = make_calls(), Pause()
    attach(calls, loop_thread, pause)
    stopping = loop_thread.start_call(calls.detach)
    pause.wait_until_reached()
    call = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)
    pause.release()
    stopping.result()
    assert call.result() == call.ident


def test_detach_finishes_call_that_loop_has_started(loop_thread: LoopThread) -> None:
    calls, ticket = make_calls(), Ticket[int]()
    attach(calls, loop_thread)
    call = InThread(lambda: calls.run(lambda: ticket))
    wait_until(lambda: len(calls._started) == 1)
    loop_thread.call(calls.detach)
    assert call.result() == loop_thread.ident


def test_call_raises_error_that_stopped_store_if_store_cannot_finish_call(
    loop_thread: LoopThread,
) -> None:
    calls, ticket = make_calls(OSError("no disk")), Ticket[int]()
    attach(calls, loop_thread)
    call = InThread(lambda: calls.run(lambda: ticket))
    wait_until(lambda: len(calls._started) == 1)
    loop_thread.call(calls.detach)
    with pytest.raises(OSError, match="no disk"):
        call.result()
    with pytest.raises(OSError, match="no disk"):
        calls.run(lambda: ticket)
    with pytest.raises(OSError, match="gone"):
        calls.run(lambda: Ticket.failed(Abandoned(OSError("gone"))))


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_error_raised_on_loop_reaches_calling_thread(
    loop_thread: LoopThread, kind: type[BaseException]
) -> None:
    calls = make_calls()

    def fail() -> Ticket[int]:
        raise kind("wrong")

    attach(calls, loop_thread)
    with pytest.raises(kind, match="wrong"):
        InThread(lambda: calls.run(fail)).result()


def test_call_from_callback_on_loop_runs_immediately(loop_thread: LoopThread) -> None:
    calls = make_calls()
    attach(calls, loop_thread)
    assert loop_thread.call(lambda: thread_of_call(calls)) == loop_thread.ident
    loop_thread.call(calls.detach)


def test_call_runs_on_attached_loop_or_else_in_calling_thread(
    loop_thread: LoopThread,
) -> None:
    calls = make_calls()
    for each in (loop_thread, LoopThread()):
        attach(calls, each)
        assert InThread(lambda: thread_of_call(calls)).result() == each.ident
        each.call(calls.detach)
        each.call(calls.detach)
        call = InThread(lambda: thread_of_call(calls))
        assert call.result() == call.ident
        each.stop()


def test_call_waiting_for_one_loop_runs_on_next_loop(loop_thread: LoopThread) -> None:
    calls, pause, second = make_calls(), Pause(), LoopThread()
    attach(calls, loop_thread, pause)
    stopping = loop_thread.start_call(calls.detach)
    pause.wait_until_reached()
    attaching = second.start_call(lambda: calls.attach(second.loop, do_nothing, do_nothing))
    wait_until(lambda: calls._pending_changes == 1)
    call = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)
    pause.release()
    stopping.result()
    attaching.result()
    assert call.result() == second.ident
    second.call(calls.detach)
    second.stop()


def test_attach_to_second_loop_is_refused_while_first_loop_owns_store(
    loop_thread: LoopThread,
) -> None:
    calls, second = make_calls(), LoopThread()
    attach(calls, loop_thread)
    for other in (second, loop_thread):
        with pytest.raises(RuntimeError, match="an event loop has it"):
            other.call(lambda: calls.attach(second.loop, do_nothing, do_nothing))
    with pytest.raises(RuntimeError, match="another thread"):
        second.call(calls.detach)
    with pytest.raises(RuntimeError, match="cannot be closed"):
        calls.close(do_nothing)
    assert InThread(lambda: thread_of_call(calls)).result() == loop_thread.ident
    loop_thread.call(calls.detach)
    second.stop()


def test_attach_and_close_within_call_are_refused() -> None:
    calls = make_calls()
    loop = asyncio.new_event_loop()

    def close() -> Ticket[None]:
        calls.close(do_nothing)
        return Ticket.of(None)

    def attach_loop() -> Ticket[bool]:
        return Ticket.of(calls.attach(loop, do_nothing, do_nothing))

    changes: tuple[Callable[[], Ticket[Any]], ...] = (close, attach_loop)
    for change in changes:
        with pytest.raises(RuntimeError, match="in the middle of a call"):
            calls.run(change)
    loop.close()
    assert thread_of_call(calls) == threading.get_ident()


def test_calls_during_and_after_close_are_refused(loop_thread: LoopThread) -> None:
    calls, pause = make_calls(), Pause()
    closing = InThread(lambda: calls.close(pause))
    pause.wait_until_reached()
    call = InThread(lambda: thread_of_call(calls))
    wait_until(lambda: calls.waiting == 1)
    pause.release()
    closing.result()
    for refused in (call.result, lambda: thread_of_call(calls)):
        with pytest.raises(RuntimeError, match="the store is closed"):
            refused()
    calls.close(do_nothing)
    with pytest.raises(RuntimeError, match="the store is closed"):
        calls.attach(loop_thread.loop, do_nothing, do_nothing)


def test_close_on_loop_detaches_store_before_closing_it(loop_thread: LoopThread) -> None:
    calls, order = make_calls(), list[str]()
    attach(calls, loop_thread, lambda: order.append("back"))
    loop_thread.call(lambda: calls.close(lambda: order.append("end")))
    assert order == ["back", "end"]


def test_interrupted_thread_leaves_no_waiting_call(
    loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, pause = make_calls(), Pause()
    first = InThread(lambda: call_that_pauses(calls, pause))
    pause.wait_until_reached()
    with monkeypatch.context() as patch:
        patch.setattr(calls, "_must_take_back", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            thread_of_call(calls)
    assert calls.waiting == 0
    pause.release()
    first.result()
    assert thread_of_call(calls) == threading.get_ident()


def _interrupt(_: object) -> bool:
    raise KeyboardInterrupt

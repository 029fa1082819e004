"""A waiting call ends once, with a result or an error, and wakes its thread."""

import threading

import pytest

from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams.waiting_call import WaitingCall


class Ends:
    """Records each call that ends, and whether its waiting thread had already been woken."""

    def __init__(self) -> None:
        self.seen: list[tuple[WaitingCall[str], bool]] = []

    def __call__(self, call: WaitingCall[str]) -> None:
        self.seen.append((call, call.awake.is_set()))


def test_call_notifies_its_owner_before_waking_waiting_thread() -> None:
    ends = Ends()
    call = WaitingCall(lambda: Ticket.of("done"))
    assert (call.thread, call.is_done) == (threading.get_ident(), False)
    call.start(ends)
    assert ends.seen == [(call, False)]
    assert (call.is_done, call.awake.is_set(), call.result()) == (True, True, "done")


def test_call_with_open_ticket_ends_when_ticket_resolves() -> None:
    ends, ticket = Ends(), Ticket[str]()
    call = WaitingCall(lambda: ticket)
    call.start(ends)
    assert (call.is_done, ends.seen) == (False, [])
    ticket.resolve("late")
    assert (call.result(), len(ends.seen)) == ("late", 1)


def test_settle_passes_ticket_only_once_call_has_started() -> None:
    ticket = Ticket[str]()
    call = WaitingCall(lambda: ticket)
    settled: list[Ticket[str]] = []
    call.settle(settled.append)
    assert settled == []
    call.start(Ends())
    call.settle(settled.append)
    assert settled == [ticket]


def test_call_of_stopped_store_raises_error_that_stopped_store() -> None:
    call = WaitingCall(lambda: Ticket[str].failed(Abandoned(OSError("no disk"))))
    call.start(Ends())
    with pytest.raises(OSError, match="no disk"):
        call.result()


def test_error_of_function_ends_call() -> None:
    ends = Ends()

    def fail() -> Ticket[str]:
        raise ValueError("wrong")

    call = WaitingCall(fail)
    call.start(ends)
    assert len(ends.seen) == 1
    with pytest.raises(ValueError, match="wrong"):
        call.result()


def test_system_exit_of_function_ends_call_and_reaches_loop() -> None:
    def leave() -> Ticket[str]:
        raise SystemExit(3)

    call = WaitingCall(leave)
    with pytest.raises(SystemExit):
        call.start(Ends())
    with pytest.raises(SystemExit):
        call.result()


def test_fail_does_not_replace_result_of_finished_call() -> None:
    call = WaitingCall(lambda: Ticket.of("done"))
    call.start(Ends())
    call.fail(OSError("too late"))
    assert call.result() == "done"


def test_give_turn_wakes_waiting_thread_before_call_is_done() -> None:
    call = WaitingCall(lambda: Ticket.of("done"))
    call.give_turn()
    assert (call.has_turn, call.awake.is_set(), call.is_done) == (True, True, False)

"""Tickets resolve once, in order, and pass errors and cancellation on."""

import pytest

from durable_streams_server.storage.ticket import Cancelled, Ticket


def test_callbacks_run_in_order_and_at_once_when_done() -> None:
    ticket: Ticket[int] = Ticket()
    seen: list[str] = []
    ticket.add_callback(lambda _: seen.append("first"))
    ticket.add_callback(lambda _: seen.append("second"))
    assert seen == []
    ticket.resolve(1)
    ticket.add_callback(lambda _: seen.append("third"))
    assert seen == ["first", "second", "third"]
    assert ticket.result() == 1


def test_only_the_first_resolution_counts() -> None:
    ticket: Ticket[int] = Ticket()
    ticket.resolve(1)
    ticket.resolve(2)
    ticket.fail(RuntimeError())
    assert ticket.result() == 1


@pytest.mark.parametrize("late", [False, True])
def test_then_passes_values_on(late: bool) -> None:
    first: Ticket[int] = Ticket()
    if not late:
        first.resolve(20)
    chained = first.then(lambda value: Ticket.of(value + 1)).then(
        lambda value: Ticket.of(value * 2)
    )
    if late:
        assert not chained.done
        first.resolve(20)
    assert chained.result() == 42


@pytest.mark.parametrize("late", [False, True])
def test_then_passes_errors_on(late: bool) -> None:
    def broken(value: int) -> Ticket[int]:
        raise ValueError(value)

    first: Ticket[int] = Ticket()
    if not late:
        first.resolve(7)
    chained = first.then(broken).then(lambda value: Ticket.of(value))
    if late:
        first.resolve(7)
    with pytest.raises(ValueError, match="7"):
        chained.result()


def test_cancelling_a_chain_reaches_what_is_waited_for() -> None:
    undone: list[str] = []
    first: Ticket[int] = Ticket()
    first.on_cancel(lambda: undone.append("first"))
    chained = first.then(lambda value: Ticket.of(value))
    chained.cancel()
    assert undone == ["first"]
    with pytest.raises(Cancelled):
        chained.result()
    first.resolve(1)  # too late, and no error


def test_cancelling_in_the_second_step_reaches_that_step() -> None:
    undone: list[str] = []
    second: Ticket[int] = Ticket()
    second.on_cancel(lambda: undone.append("second"))
    first: Ticket[int] = Ticket()
    chained = first.then(lambda _: second)
    first.resolve(1)
    chained.cancel()
    assert undone == ["second"]


def test_a_done_ticket_cannot_be_cancelled() -> None:
    ticket = Ticket.of(1)
    ticket.cancel()
    assert ticket.result() == 1

"""Tests of tickets: resolution, callbacks, cancellation, `then` and `repeat`."""

import pytest

from durable_streams_server.storage.ticket import Cancelled, Ticket, repeat


def test_callbacks_run_in_order_and_immediately_if_ticket_is_done() -> None:
    ticket: Ticket[int] = Ticket()
    seen: list[str] = []
    ticket.add_callback(lambda _: seen.append("first"))
    ticket.add_callback(lambda _: seen.append("second"))
    assert seen == []
    ticket.resolve(1)
    ticket.add_callback(lambda _: seen.append("third"))
    assert seen == ["first", "second", "third"]
    assert ticket.result() == 1


def test_resolved_ticket_ignores_later_results() -> None:
    ticket: Ticket[int] = Ticket()
    ticket.resolve(1)
    ticket.resolve(2)
    ticket.fail(RuntimeError())
    assert ticket.result() == 1


@pytest.mark.parametrize("late", [False, True])
def test_then_passes_value_to_next_function(late: bool) -> None:
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
def test_then_passes_error_to_last_ticket(late: bool) -> None:
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


def test_cancelling_chained_ticket_cancels_its_first_ticket() -> None:
    undone: list[str] = []
    first: Ticket[int] = Ticket()
    first.on_cancel(lambda: undone.append("first"))
    chained = first.then(lambda value: Ticket.of(value))
    chained.cancel()
    assert undone == ["first"]
    with pytest.raises(Cancelled):
        chained.result()
    first.resolve(1)  # has no effect and raises no error


def test_cancelling_chained_ticket_cancels_its_pending_second_ticket() -> None:
    undone: list[str] = []
    second: Ticket[int] = Ticket()
    second.on_cancel(lambda: undone.append("second"))
    first: Ticket[int] = Ticket()
    chained = first.then(lambda _: second)
    first.resolve(1)
    chained.cancel()
    assert undone == ["second"]


def test_cancel_does_nothing_to_a_done_ticket() -> None:
    ticket = Ticket.of(1)
    ticket.cancel()
    assert ticket.result() == 1


MANY = 100_000  # far more than the recursion limit


def test_repeat_runs_100000_steps_that_are_done_at_once() -> None:
    taken = 0

    def step() -> Ticket[str | None]:
        nonlocal taken
        taken += 1
        return Ticket.of("end" if taken == MANY else None)

    assert repeat(step).result() == "end"
    assert taken == MANY


def test_repeat_runs_100000_steps_that_are_done_later() -> None:
    steps: list[Ticket[str | None]] = []

    def step() -> Ticket[str | None]:
        steps.append(Ticket())
        return steps[-1]

    ticket = repeat(step)
    for _ in range(MANY):
        steps[-1].resolve(None)
    assert not ticket.done
    steps[-1].resolve("end")
    assert ticket.result() == "end"
    assert len(steps) == MANY + 1


def test_repeat_runs_100000_steps_after_a_wait() -> None:
    first: Ticket[str | None] = Ticket()
    left = iter([None] * MANY)
    taken: list[None] = []

    def step() -> Ticket[str | None]:
        if not taken:
            taken.append(None)
            return first
        return Ticket.of(next(left, "end"))

    ticket = repeat(step)
    assert not ticket.done
    first.resolve(None)
    assert ticket.result() == "end"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("raised", [False, True])
def test_repeat_fails_with_the_error_of_a_step(late: bool, raised: bool) -> None:
    first: Ticket[int | None] = Ticket()
    left = iter([first])

    def step() -> Ticket[int | None]:
        following = next(left, None)
        if following is not None:
            return following
        if raised:
            raise ValueError("no")
        return Ticket.failed(ValueError("no"))

    if not late:
        first.resolve(None)
    ticket = repeat(step)
    first.resolve(None)
    with pytest.raises(ValueError, match="no"):
        ticket.result()


def test_cancelling_repeat_cancels_its_step_and_starts_no_other() -> None:
    undone: list[int] = []
    steps: list[Ticket[int | None]] = []

    def step() -> Ticket[int | None]:
        number = len(steps)
        steps.append(Ticket())
        steps[-1].on_cancel(lambda: undone.append(number))
        return steps[-1]

    ticket = repeat(step)
    steps[0].resolve(None)
    ticket.cancel()
    assert undone == [1]
    assert len(steps) == 2
    with pytest.raises(Cancelled):
        ticket.result()

"""Answers a request once a ticket is done, such as the ticket for the gate's decision or for the outcome of a write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..storage.ticket import Abandoned, Ticket

T = TypeVar("T")
R = TypeVar("R")


def answer_later(
    ticket: Ticket[T],
    answer: Callable[[T], R | Ticket[R]],
    refuse: Callable[[Exception], R],
) -> Ticket[R]:
    """Returns a ticket for the reply to a request that waits for another ticket.

    Args:
        ticket: What the reply waits for. It is cancelled if the returned ticket is.
        answer: Returns the reply that follows from the value of the ticket, or a ticket for the reply.
        refuse: Returns the reply that follows from an error of the ticket or of `answer`.
    """
    reply: Ticket[R] = Ticket()
    reply.on_cancel(ticket.cancel)

    def finish(done: Ticket[T]) -> None:
        if reply.done:
            return
        try:
            answered = answer(done.result())
        except Abandoned as abandoned:
            reply.fail(abandoned)
        except Exception as error:
            reply.resolve(refuse(error))
        else:
            if isinstance(answered, Ticket):
                reply.on_cancel(answered.cancel)
                answered.add_callback(hand_over)
            else:
                reply.resolve(answered)

    def hand_over(answered: Ticket[R]) -> None:
        if reply.done:
            return
        try:
            reply.resolve(answered.result())
        except Exception as error:
            reply.fail(error)

    ticket.add_callback(finish)
    return reply

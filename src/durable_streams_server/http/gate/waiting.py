"""Answers a request once the gate has decided on it, if the decision has to wait, for example until keys are fetched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...storage.ticket import Abandoned, Ticket
from .permit import Permit

R = TypeVar("R")


def answer_when_admitted(
    permit: Ticket[Permit],
    answer: Callable[[Permit], R | Ticket[R]],
    refuse: Callable[[Exception], R],
) -> Ticket[R]:
    """Returns a ticket for the reply to a request whose permit is not decided yet.

    Args:
        permit: The ticket for the permit. It is cancelled if the returned ticket is.
        answer: Returns the reply to the admitted request, or a ticket for the reply.
        refuse: Returns the reply to the refused request.
    """
    reply: Ticket[R] = Ticket()
    reply.on_cancel(permit.cancel)

    def finish(done: Ticket[Permit]) -> None:
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

    permit.add_callback(finish)
    return reply

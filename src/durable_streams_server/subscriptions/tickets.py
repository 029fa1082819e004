"""Converts between tickets and coroutines, because stores and HTTP handlers use tickets while deliveries are coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..storage.ticket import Ticket

T = TypeVar("T")


def ticket_for(coroutine: Coroutine[Any, Any, T]) -> Ticket[T]:
    """Runs a coroutine as a task, and returns a ticket for its result. Cancelling the ticket cancels the task."""
    ticket: Ticket[T] = Ticket()
    task = asyncio.get_running_loop().create_task(coroutine)

    def cancel() -> None:
        task.cancel()

    def finish(finished: asyncio.Task[T]) -> None:
        if finished.cancelled():
            ticket.cancel()
        elif (error := finished.exception()) is not None:
            ticket.fail(error)
        else:
            ticket.resolve(finished.result())

    ticket.on_cancel(cancel)
    task.add_done_callback(finish)
    return ticket


async def wait_for(ticket: Ticket[T]) -> T:
    """Returns the value of a ticket once the ticket is done, or raises its error."""
    if not ticket.done:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: Ticket[T]) -> None:
            if not done.done():
                done.set_result(None)

        ticket.add_callback(wake)
        await done
    return ticket.result()

"""Returns the results of tickets, in plain code and in coroutines.

A ticket of a store that has stopped fails with `Abandoned`. Programs should not see that error, so these functions raise the error
that stopped the store instead.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from ..storage.ticket import Abandoned, Ticket

T = TypeVar("T")


def result_of(ticket: Ticket[T]) -> T:
    """Returns the result of a ticket that is done.

    Raises:
        BaseException: the ticket's error. If the store has stopped, that is the error that stopped it.
    """
    try:
        return ticket.result()
    except Abandoned as abandoned:
        raise abandoned.cause from None


async def write_result(ticket: Ticket[T]) -> T:
    """Waits for the ticket of a write and returns its result. The write continues if the calling task is cancelled."""
    if not ticket.done:
        await _until_done(ticket)
    return result_of(ticket)


async def read_result(ticket: Ticket[T]) -> T:
    """Waits for the ticket of a read and returns its result. The read is cancelled if the calling task is cancelled."""
    if not ticket.done:
        try:
            await _until_done(ticket)
        finally:
            ticket.cancel()
    return result_of(ticket)


async def _until_done(ticket: Ticket[T]) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_: Ticket[T]) -> None:
        if not done.done():
            done.set_result(None)

    ticket.add_callback(wake)
    await done

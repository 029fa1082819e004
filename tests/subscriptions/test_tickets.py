"""Tests the conversion between tickets and coroutines."""

import asyncio

import pytest

from durable_streams_server.storage.ticket import Cancelled, Ticket
from durable_streams_server.subscriptions.tickets import ticket_for, wait_for
from tests.subscriptions.services import run_turns, wait_until


async def test_ticket_for_resolves_with_the_result_of_its_coroutine() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    ticket = ticket_for(work())
    assert not ticket.done
    await wait_until(lambda: ticket.done)
    assert ticket.result() == 7


async def test_ticket_for_fails_with_the_error_of_its_coroutine() -> None:
    async def fail() -> None:
        raise ValueError("no")

    ticket = ticket_for(fail())
    await wait_until(lambda: ticket.done)
    with pytest.raises(ValueError, match="no"):
        ticket.result()


async def test_cancelled_ticket_cancels_its_coroutine() -> None:
    ended = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    ticket = ticket_for(wait())
    await run_turns()
    ticket.cancel()
    await asyncio.wait_for(ended.wait(), 5)


async def test_coroutine_that_cancels_itself_cancels_its_ticket() -> None:
    async def cancel() -> None:
        raise asyncio.CancelledError

    ticket = ticket_for(cancel())
    await wait_until(lambda: ticket.done)
    with pytest.raises(Cancelled):
        ticket.result()


async def test_wait_for_returns_the_value_of_a_done_ticket() -> None:
    assert await wait_for(Ticket.of(7)) == 7


async def test_wait_for_waits_until_the_ticket_is_done() -> None:
    ticket: Ticket[int] = Ticket()
    task = asyncio.create_task(wait_for(ticket))
    await run_turns()
    assert not task.done()
    ticket.resolve(7)
    assert await task == 7


async def test_wait_for_raises_the_error_of_its_ticket() -> None:
    ticket: Ticket[int] = Ticket()
    asyncio.get_running_loop().call_soon(ticket.fail, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await wait_for(ticket)


async def test_ticket_may_resolve_after_its_waiting_task_was_cancelled() -> None:
    ticket: Ticket[int] = Ticket()
    task = asyncio.create_task(wait_for(ticket))
    await run_turns()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ticket.resolve(7)

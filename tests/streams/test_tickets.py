"""Plain code and coroutines get the results of tickets."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from durable_streams_server.storage.ticket import Abandoned, Cancelled, Ticket
from durable_streams_server.streams.tickets import read_result, result_of, write_result


def test_result_of_abandoned_ticket_raises_error_that_stopped_store() -> None:
    assert result_of(Ticket.of(7)) == 7
    with pytest.raises(OSError, match="no disk") as caught:
        result_of(Ticket[int].failed(Abandoned(OSError("no disk"))))
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("wait", [read_result, write_result])
async def test_coroutine_waits_for_result_of_ticket(
    wait: Callable[[Ticket[int]], Awaitable[int]],
) -> None:
    ticket = Ticket[int]()
    asyncio.get_running_loop().call_soon(ticket.resolve, 7)
    assert await wait(ticket) == 7
    assert await wait(Ticket.of(8)) == 8


async def test_read_is_cancelled_with_its_task() -> None:
    ticket = Ticket[int]()
    task = asyncio.create_task(read_result(ticket))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(Cancelled):
        ticket.result()


async def test_write_continues_after_its_task_is_cancelled() -> None:
    ticket = Ticket[int]()
    task = asyncio.create_task(write_result(ticket))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ticket.done
    ticket.resolve(7)
    assert ticket.result() == 7

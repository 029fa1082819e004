"""Tests that acknowledgements move cursors only to offsets at which a read can begin."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from durable_streams_server.errors import BadRequest
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.offsets import Offset, parse
from durable_streams_server.protocol.subscriptions.commands import Acknowledge, Claim
from durable_streams_server.protocol.subscriptions.views import MAX_LISTED, View
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Marks
from durable_streams_server.storage.ticket import Ticket
from tests.protocol.subscriptions.world import JSON, POOL, ROOT, A, B
from tests.requests import append, create
from tests.storage.contract_base import settled
from tests.subscriptions.services import Running


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running().start()
    await made.create_streams(A, B, POOL)
    yield made
    await made.stop()


async def claim(running: Running) -> View:
    view = await running.run(Claim("s", "w"))
    assert isinstance(view, View)
    return view


def acknowledge(view: View, *acks: tuple[str, Offset], done: bool = False) -> Acknowledge:
    assert view.wake is not None
    return Acknowledge(view.grant, view.generation, view.wake.wake_id, acks, done)


async def test_large_wake_can_be_acknowledged_in_one_request(running: Running) -> None:
    paths = [f"{ROOT}/many/{number}" for number in range(MAX_LISTED)]
    await running.subscribe(type="pull-wake", pattern="many/*")
    for path in paths:
        await running.run(create(path, JSON, b"1"))
    view = await claim(running)
    acks = [(stream.path, parse(stream.tail)) for stream in view.streams]
    assert len(acks) == MAX_LISTED
    outcome = await settled(running.service.acknowledge(acknowledge(view, *acks, done=True)))
    assert outcome.next_wake is False
    assert (await running.view()).wake is None


class SlowStore(MemoryStore):
    """A store that returns marks and bytes in the next turn of the event loop, as if it read them from a disk."""

    def marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        ticket: Ticket[Marks] = Ticket()
        found = super().marks(incarnation, position).result()
        asyncio.get_running_loop().call_soon(lambda: ticket.resolve(found))
        return ticket

    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        ticket: Ticket[bytes] = Ticket()
        found = super().read_bytes(incarnation, start, end).result()
        asyncio.get_running_loop().call_soon(lambda: ticket.resolve(found))
        return ticket


async def test_large_acknowledgement_waits_while_its_offsets_are_read_from_disk(
    running: Running,
) -> None:
    slow = Running(SlowStore()).start()
    await slow.create_streams(POOL)
    paths = [f"{ROOT}/many/{number}" for number in range(MAX_LISTED)]
    await slow.subscribe(type="pull-wake", pattern="many/*")
    for path in paths:
        await slow.run(create(path, JSON, b"[1,2]"))
    view = await claim(slow)
    acks = [(stream.path, parse(stream.tail)._replace(position=2)) for stream in view.streams]
    async with asyncio.timeout(10):
        await settled(slow.service.acknowledge(acknowledge(view, *acks)))
    assert {stream.acked[-1] for stream in (await slow.view()).streams} == {"2"}
    await slow.stop()


@pytest.mark.parametrize("position", [1, 3, 5, 99])
async def test_acknowledged_offset_where_no_read_can_begin_is_refused(
    running: Running, position: int
) -> None:
    await running.subscribe(type="pull-wake")
    await running.run(append(A, b"[1,2]", JSON))
    await running.append_news(B)
    view = await claim(running)
    offsets = {stream.path: parse(stream.tail) for stream in view.streams}
    acks = [(B, offsets[B]), (A, offsets[A]._replace(position=position))]
    for order in (acks, acks[::-1]):
        with pytest.raises(BadRequest) as caught:
            await settled(running.service.acknowledge(acknowledge(view, *order, done=True)))
        assert caught.value.code == "INVALID_OFFSET"
    assert len((await running.view()).streams) == 2


@pytest.mark.parametrize("position", [1, 2, 4])
async def test_acknowledged_offset_inside_a_text_append_is_refused(
    running: Running, position: int
) -> None:
    path = f"{ROOT}/raw/1"
    await running.subscribe(type="pull-wake", pattern="raw/*")
    await running.run(create(path, "text/plain", b"abc"))
    view = await claim(running)
    ack = (path, parse(view.streams[0].tail)._replace(position=position))
    with pytest.raises(BadRequest) as caught:
        await settled(running.service.acknowledge(acknowledge(view, ack)))
    assert caught.value.code == "INVALID_OFFSET"


async def test_acknowledgements_of_deleted_streams_are_ignored(running: Running) -> None:
    await running.subscribe(type="pull-wake")
    await running.append_news(A, B)
    view = await claim(running)
    acks = [(stream.path, parse(stream.tail)) for stream in view.streams]
    await running.run(Delete(A))
    await running.run(Delete(B))
    await running.run(create(B, JSON, b"[1,2,3]"))
    acks.append((f"{ROOT}/never", Offset(1, 1)))
    outcome = await settled(running.service.acknowledge(acknowledge(view, *acks, done=True)))
    assert outcome.next_wake is True
    assert [stream.path for stream in (await running.view()).streams] == [B]

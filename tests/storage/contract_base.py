"""The fixture and the helpers that all parts of the store contract share."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import pytest

from durable_streams_server.errors import (
    StreamError,
)
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.protocol.decisions.quota import Quota, Usage
from durable_streams_server.protocol.state import Created, StreamState
from durable_streams_server.storage.store import Published, Store
from durable_streams_server.storage.ticket import Ticket
from tests.requests import NOW

T = TypeVar("T")

NO_QUOTA = Quota()


async def settled(ticket: Ticket[T]) -> T:
    """Waits for a ticket, and returns its value or raises its error."""
    if not ticket.done:
        done = asyncio.get_running_loop().create_future()
        ticket.add_callback(lambda _: done.set_result(None))
        await done
    return ticket.result()


class ContractBase:
    """Creates a store for each test, and has helpers that run commands on it."""

    def make_store(self, max_producers: int = 100_000, quota: Quota = NO_QUOTA) -> Store:
        """Returns a new, empty store."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        """Yields a new store, and checks after each test that its usage is the sum over its streams, and its count of owners exact."""
        made = self.make_store()
        paths: set[str] = set()

        def note_paths(published: Sequence[Published]) -> None:
            changes = (item.change for item in published)
            paths.update(change.path for change in changes if isinstance(change, Created))

        made.listen(note_paths)
        yield made
        found = [await settled(made.find(path)) for path in paths]
        sizes = [state.tail - state.base for state in found if state is not None]
        assert made.usage == Usage(len(sizes), sum(sizes))
        owners = Counter(each.owner for each in made.subscriptions if each.owner is not None)
        assert made.subscriptions.owners.counts == owners
        made.close()

    async def run(self, store: Store, command: Command, now: int = NOW) -> Outcome:
        return await settled(store.execute(command, now))

    async def refused(
        self, store: Store, command: Command, kind: type[StreamError], now: int = NOW
    ) -> StreamError:
        with pytest.raises(kind) as caught:
            await self.run(store, command, now)
        return caught.value

    async def state(self, store: Store, path: str) -> StreamState:
        state = await settled(store.find(path))
        assert state is not None
        return state

    async def content(self, store: Store, path: str) -> bytes:
        state = await self.state(store, path)
        parts = [
            await settled(store.read_bytes(*part)) for part in state.extents(0, state.visible_tail)
        ]
        return b"".join(parts)

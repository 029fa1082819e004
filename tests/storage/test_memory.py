"""Runs the contract tests, which every store must pass, on the memory store, and tests its size limit."""

from durable_streams_server.errors import StorageFull
from durable_streams_server.protocol.commands import Delete, Expire
from durable_streams_server.protocol.decisions.quota import Quota
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Release,
    Tend,
)
from durable_streams_server.protocol.subscriptions.outcomes import AckOutcome
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Store
from tests.protocol.subscriptions.world import JSON, POOL, A, B, subscribe
from tests.requests import NOW, SECOND, append, create
from tests.storage.contract import StoreContract
from tests.storage.contract_base import NO_QUOTA


class TestMemoryStore(StoreContract):
    def make_store(self, max_producers: int = 100_000, quota: Quota = NO_QUOTA) -> Store:
        return MemoryStore(max_producers=max_producers, quota=quota)

    async def test_expiry_is_not_refused_when_store_has_no_room(self) -> None:
        store = MemoryStore(quota=Quota(max_total_bytes=300))
        store.configure(Registry("/reg"))
        await self.run(store, create("/a", lifetime=Lifetime(ttl=1)))
        await self.refused(store, append("/a", b"x" * 300), StorageFull)
        room = 300 - (await self.state(store, "/reg")).tail
        await self.run(store, append("/a", b"x" * room))
        later = NOW + 2 * SECOND
        await self.refused(store, create("/a", body=b"x" * (room + 1)), StorageFull, later)
        await self.run(store, Expire("/a", (await self.state(store, "/a")).incarnation), later)
        assert list(store.paths()) == ["/reg"]

    async def test_pull_wake_workers_can_finish_their_work_in_full_store(self) -> None:
        store = MemoryStore(quota=Quota(max_total_bytes=400))
        for path in (POOL, A, B):
            await self.run(store, create(path, JSON))
        await self.run(store, subscribe(lease_ttl_ms=1_000))
        await self.run(store, append(A, b"1", JSON))
        await self.run(store, append(B, b"1", JSON))
        events = (await self.state(store, POOL)).tail
        await self.run(store, create("/full"))
        await self.run(store, append("/full", b"x" * (400 - events - 4)))
        await self.refused(store, append(A, b"1", JSON), StorageFull)

        async def claim(now: int) -> View:
            view = await self.run(store, Claim("s", "w"), now)
            assert isinstance(view, View)
            assert view.wake is not None
            return view

        view = await claim(NOW)
        await self.run(store, Release(view.grant, view.generation, view.grant.wake_id))
        view = await claim(NOW)
        await self.run(store, Tend("s"), NOW + SECOND)  # the lease has run out
        view = await claim(NOW + SECOND)
        acks = tuple((each.path, parse(each.tail)) for each in view.streams[:1])
        ack = Acknowledge(view.grant, view.generation, view.grant.wake_id, acks, True)
        assert await self.run(store, ack, NOW + SECOND) == AckOutcome(next_wake=True)
        assert (await self.state(store, POOL)).tail == events  # there is no room for an event
        await self.run(store, Delete("/full"))
        await self.run(store, Tend("s"), NOW + 3 * SECOND)
        assert (await self.state(store, POOL)).tail > events  # now there is room for the event

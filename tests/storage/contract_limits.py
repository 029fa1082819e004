"""Contract tests of the limits of streams and bytes, and of the usage that these limits bound."""

import pytest

from durable_streams_server.errors import StorageFull, StreamError, TooLarge, TooManyRequests
from durable_streams_server.protocol.commands import Command, Delete, Expire
from durable_streams_server.protocol.decisions.quota import Quota, Usage
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.storage.store import Store
from tests.requests import NOW, SECOND, append, create, fork_of
from tests.storage.contract_base import ContractBase, settled


class LimitContract(ContractBase):
    """Tests of the limits of streams and bytes."""

    async def code(self, store: Store, command: Command, kind: type[StreamError]) -> str:
        """Returns the code with which a command is refused, after checking that the refusal changes nothing."""
        before = store.usage
        refusal = await self.refused(store, command, kind)
        assert store.usage == before
        return refusal.code

    async def test_usage_counts_streams_and_their_own_bytes(self, store: Store) -> None:
        assert store.usage == Usage(0, 0)
        await self.run(store, create("/a", body=b"abc"))
        await self.run(store, append("/a", b"de"))
        assert store.usage == Usage(1, 5)
        await self.run(store, create("/b", None, b"own", fork=fork_of("/a")))
        assert store.usage == Usage(2, 8)
        await self.run(store, create("/json", "application/json", b"[1, 2]"))
        assert store.usage == Usage(3, 12)
        await self.run(store, append("/a", closes=True))
        assert store.usage == Usage(3, 12)

    async def test_deleted_source_counts_until_its_last_fork_is_deleted(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"abc"))
        await self.run(store, create("/b", None, b"d", fork=fork_of("/a")))
        await self.run(store, Delete("/a"))
        assert store.usage == Usage(2, 4)
        await self.run(store, Delete("/b"))
        assert store.usage == Usage(0, 0)

    async def test_expired_stream_counts_until_it_is_removed(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"abc", lifetime=Lifetime(ttl=1)))
        await self.run(store, create("/b", body=b"de", lifetime=Lifetime(ttl=1)))
        later = NOW + 2 * SECOND
        assert store.usage == Usage(2, 5)
        await self.run(store, Expire("/a", (await self.state(store, "/a")).incarnation), later)
        assert store.usage == Usage(1, 2)
        await self.run(store, create("/b", "text/plain", b"new one"), later)
        assert store.usage == Usage(1, 7)

    async def test_registry_counts_like_any_stream(self, store: Store) -> None:
        store.configure(Registry("/reg"))
        await self.run(store, create("/a", body=b"abc"))
        tail = (await self.state(store, "/reg")).tail
        assert store.usage == Usage(2, 3 + tail)

    async def test_streams_beyond_the_limit_are_refused_until_one_is_deleted(self) -> None:
        store = self.make_store(quota=Quota(max_streams=2))
        await self.run(store, create("/a"))
        await self.run(store, create("/b"))
        for new in (create("/c"), create("/c", None, fork=fork_of("/a"))):
            assert await self.code(store, new, TooManyRequests) == "TOO_MANY_STREAMS"
        await self.run(store, create("/a"))  # confirms the stream that is there
        await self.run(store, append("/a", b"x"))
        await self.run(store, Delete("/b"))
        await self.run(store, create("/c", None, fork=fork_of("/a")))
        await self.run(store, Delete("/a"))  # its bytes are kept for the fork, so it still counts
        assert await self.code(store, create("/d"), TooManyRequests) == "TOO_MANY_STREAMS"
        await self.run(store, Delete("/c"))
        await self.run(store, create("/d"))
        store.close()

    async def test_creates_in_flight_count(self) -> None:
        store = self.make_store(quota=Quota(max_streams=2))
        tickets = [store.execute(create(f"/{name}"), NOW) for name in "abc"]
        removal = store.execute(Delete("/a"), NOW)
        replacement = store.execute(create("/d"), NOW)
        for ticket in (*tickets[:2], removal, replacement):
            await settled(ticket)
        with pytest.raises(TooManyRequests):
            await settled(tickets[2])
        assert sorted(store.paths()) == ["/b", "/d"]
        store.close()

    async def test_stream_takes_bytes_up_to_its_limit(self) -> None:
        store = self.make_store(quota=Quota(max_stream_bytes=10))
        await self.run(store, create("/a", body=b"12345"))
        last = append("/a", b"67890", stamp=Stamp(b"p", 0, 0))
        await self.run(store, last)
        assert await self.code(store, append("/a", b"x"), TooLarge) == "STREAM_TOO_LARGE"
        await self.run(store, last)  # the duplicate is confirmed
        big = create("/b", body=b"12345678901")
        assert await self.code(store, big, TooLarge) == "STREAM_TOO_LARGE"
        await self.run(store, create("/b", body=b"1234567890"))
        closing = append("/a", b"x", closes=True)
        assert await self.code(store, closing, TooLarge) == "STREAM_TOO_LARGE"
        await self.run(store, append("/a", closes=True))
        assert await self.content(store, "/a") == b"1234567890"
        store.close()

    async def test_fork_has_room_for_as_many_bytes_of_its_own(self) -> None:
        store = self.make_store(quota=Quota(max_stream_bytes=10))
        await self.run(store, create("/a", body=b"1234567890"))
        await self.run(store, create("/b", None, b"12345", fork=fork_of("/a")))
        await self.run(store, append("/b", b"67890"))
        assert await self.code(store, append("/b", b"x"), TooLarge) == "STREAM_TOO_LARGE"
        big = create("/c", None, b"12345678901", fork=fork_of("/a"))
        assert await self.code(store, big, TooLarge) == "STREAM_TOO_LARGE"
        store.close()

    async def test_events_of_the_server_pass_the_limit_of_one_stream(self) -> None:
        store = self.make_store(quota=Quota(max_stream_bytes=10))
        store.configure(Registry("/reg"))
        await self.run(store, create("/a"))
        await self.run(store, Delete("/a"))
        assert (await self.state(store, "/reg")).tail > 10
        store.close()

    async def test_store_takes_bytes_up_to_its_limit(self) -> None:
        store = self.make_store(quota=Quota(max_total_bytes=10))
        await self.run(store, create("/a", body=b"12345"))
        await self.run(store, append("/a", b"67890"))
        assert await self.code(store, append("/a", b"x"), StorageFull) == "STORE_FULL"
        assert await self.code(store, create("/b", body=b"x"), StorageFull) == "STORE_FULL"
        await self.run(store, create("/b"))
        await self.run(store, append("/b", closes=True))
        assert await self.content(store, "/a") == b"1234567890"
        await self.run(store, Delete("/a"))
        await self.run(store, create("/c", body=b"1234567890"))
        store.close()

    async def test_bytes_in_flight_count(self) -> None:
        store = self.make_store(quota=Quota(max_total_bytes=10))
        await self.run(store, create("/a"))
        tickets = [store.execute(append("/a", b"1234"), NOW) for _ in range(4)]
        codes = []
        for ticket in tickets:
            try:
                await settled(ticket)
                codes.append("")
            except StorageFull as refusal:
                codes.append(refusal.code)
        assert codes == ["", "", "STORE_FULL", "STORE_FULL"]
        assert store.usage == Usage(1, 8)
        store.close()

    async def test_limits_can_be_changed_at_any_time(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"12345"))
        assert store.quota == Quota()
        store.limit(Quota(1, 5, 5))
        assert store.quota == Quota(1, 5, 5)
        assert await self.code(store, create("/b"), TooManyRequests) == "TOO_MANY_STREAMS"
        assert await self.code(store, append("/a", b"x"), TooLarge) == "STREAM_TOO_LARGE"
        store.configure(Registry("/reg"))
        assert await self.code(store, append("/a", b"x"), TooLarge) == "STREAM_TOO_LARGE"
        store.limit(Quota(max_total_bytes=1))  # less than the store has already
        assert await self.code(store, append("/a", b"x"), StorageFull) == "STORE_FULL"
        await self.run(store, Delete("/a"))
        store.limit(Quota())
        await self.run(store, create("/b", body=b"123456"))

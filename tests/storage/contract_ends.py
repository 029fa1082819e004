"""Contract tests of deletes, forks, lifetimes, listeners and the registry."""

from typing import cast

import pytest

from durable_streams_server.errors import (
    Conflict,
    Gone,
    MethodNotAllowed,
    NotFound,
)
from durable_streams_server.protocol.commands import Command, Delete, Expire
from durable_streams_server.protocol.decisions.outcomes import CreateOutcome
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.state import (
    Appended,
    Created,
    Removed,
    SoftDeleted,
)
from durable_streams_server.storage.store import Store
from tests.requests import NOW, SECOND, append, create, fork_of
from tests.storage.contract_base import ContractBase, settled


class EndContract(ContractBase):
    """Tests of deletes, forks, lifetimes, listeners and the registry."""

    async def test_stream_created_after_delete_is_another_incarnation(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"old"))
        first = await self.state(store, "/a")
        await self.run(store, Delete("/a"))
        assert first.removed
        assert await settled(store.find("/a")) is None
        await self.refused(store, Delete("/a"), NotFound)
        await self.run(store, create("/a", body=b"new"), NOW - 5 * SECOND)  # the clock was set back
        second = await self.state(store, "/a")
        assert second.incarnation > first.incarnation
        assert await self.content(store, "/a") == b"new"

    async def test_incarnations_always_increase(self, store: Store) -> None:
        seen = []
        for number in range(20):
            await self.run(store, create(f"/{number}"), NOW)
            seen.append((await self.state(store, f"/{number}")).incarnation)
        assert seen == sorted(set(seen))

    async def test_deleted_source_is_kept_until_its_forks_are_deleted(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"abc"))
        await self.run(store, create("/b", None, fork=fork_of("/a")))
        await self.run(store, append("/b", b"def"))
        await self.run(store, Delete("/a"))
        await self.refused(store, append("/a", b"x"), Gone)
        await self.refused(store, Delete("/a"), Gone)
        await self.refused(store, create("/a"), Conflict)
        await self.refused(store, create("/c", None, fork=fork_of("/a")), Conflict)
        assert list(store.paths()) == ["/b"]
        assert await self.content(store, "/b") == b"abcdef"
        await self.run(store, Delete("/b"))
        assert await settled(store.find("/a")) is None
        await self.run(store, create("/a"))

    async def test_delete_of_last_fork_removes_all_deleted_sources(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"a"))
        await self.run(store, create("/b", None, b"b", fork=fork_of("/a")))
        await self.run(store, create("/c", None, b"c", fork=fork_of("/b")))
        await self.run(store, Delete("/a"))
        await self.run(store, Delete("/b"))
        assert await self.content(store, "/c") == b"abc"
        await self.run(store, Delete("/c"))
        for path in ("/a", "/b", "/c"):
            assert await settled(store.find(path)) is None

    async def test_source_of_a_refused_fork_can_be_deleted_completely(self, store: Store) -> None:
        await self.run(store, create("/a", "text/plain", b"abc"))
        await self.refused(store, create("/b", "application/json", fork=fork_of("/a")), Conflict)
        await self.run(store, Delete("/a"))
        assert await settled(store.find("/a")) is None

    async def test_fork_has_its_own_producers_and_stream_seq(self, store: Store) -> None:
        await self.run(store, create("/a"))
        await self.run(store, append("/a", b"x", stamp=Stamp(b"p", 0, 0), seq=b"9"))
        await self.run(store, create("/b", None, fork=fork_of("/a")))
        await self.run(store, append("/b", b"y", stamp=Stamp(b"p", 0, 0), seq=b"1"))
        assert await self.content(store, "/b") == b"xy"
        assert await self.content(store, "/a") == b"x"

    async def test_ttl_counts_from_the_last_use(self, store: Store) -> None:
        await self.run(store, create("/a", lifetime=Lifetime(ttl=10)))
        assert store.next_deadline() == NOW + 10 * SECOND
        await self.run(store, append("/a", b"x"), NOW + 8 * SECOND)
        assert list(store.due(NOW + 11 * SECOND)) == []
        store.touch(await self.state(store, "/a"), NOW + 15 * SECOND)
        assert list(store.due(NOW + 20 * SECOND)) == []
        ((path, incarnation),) = store.due(NOW + 25 * SECOND)
        await self.run(store, Expire(path, incarnation), NOW + 25 * SECOND)
        assert await settled(store.find("/a")) is None

    async def test_path_of_expired_stream_can_be_created_again_at_once(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"old", lifetime=Lifetime(ttl=1)))
        later = NOW + 2 * SECOND
        await self.refused(store, append("/a", b"x"), NotFound, later)
        outcome = await self.run(store, create("/a", "text/plain", b"new"), later)
        assert cast(CreateOutcome, outcome).created
        assert await self.content(store, "/a") == b"new"

    async def test_expire_keeps_a_stream_that_has_not_expired(self, store: Store) -> None:
        await self.run(store, create("/a", lifetime=Lifetime(ttl=10)))
        state = await self.state(store, "/a")
        await self.run(store, Expire("/a", state.incarnation), NOW + 9 * SECOND)
        await self.run(store, Expire("/a", state.incarnation - 1), NOW + 11 * SECOND)
        assert await self.state(store, "/a") is state

    async def test_live_reader_prevents_the_expiry_of_its_stream(self, store: Store) -> None:
        await self.run(store, create("/a", lifetime=Lifetime(ttl=1)))
        state = await self.state(store, "/a")
        state.readers += 1
        assert list(store.due(NOW + 5 * SECOND)) == []
        state.readers -= 1
        assert list(store.due(NOW + 10 * SECOND)) == [("/a", state.incarnation)]

    async def test_listener_is_called_with_every_durable_change_before_its_ticket_resolves(
        self, store: Store
    ) -> None:
        told: list[str] = []
        store.listen(
            lambda published: told.extend(type(each.change).__name__ for each in published)
        )

        async def run(command: Command, *expected: type) -> None:
            told.clear()
            ticket = store.execute(command, NOW)
            at_resolution: list[str] = []
            ticket.add_callback(lambda _: at_resolution.extend(told))
            await settled(ticket)
            assert at_resolution == [kind.__name__ for kind in expected]

        await run(create("/a", body=b"x"), Created, Appended)
        await run(append("/a", b"y"), Appended)
        await run(create("/b", None, fork=fork_of("/a")), Created)
        await run(Delete("/a"), SoftDeleted)
        await run(Delete("/b"), Removed, Removed)

    async def test_registry_lists_each_create_and_delete_once(self, store: Store) -> None:
        store.configure(Registry("/v1/stream/reg", "/v1/stream"))
        await self.run(store, create("/v1/stream/a", "text/plain"))
        await self.run(store, create("/v1/stream/a", "text/plain"))
        await self.run(store, append("/v1/stream/a", b"x", "text/plain"))
        await self.run(store, create("/v1/stream/b", None, fork=fork_of("/v1/stream/a")))
        await self.run(store, Delete("/v1/stream/a"))
        await self.run(store, Delete("/v1/stream/b"))
        short = create("/v1/stream/c", lifetime=Lifetime(ttl=1))
        await self.run(store, short)
        state = await self.state(store, "/v1/stream/c")
        await self.run(store, Expire("/v1/stream/c", state.incarnation), NOW + 2 * SECOND)
        text = (await self.content(store, "/v1/stream/reg")).decode()
        events = [
            (part.split('"key":"')[1][0], part.split('"operation":"')[1].split('"')[0])
            for part in text.split('"type":"stream"')[1:]
        ]
        assert events == [
            ("a", "insert"),
            ("b", "insert"),
            ("a", "delete"),
            ("b", "delete"),
            ("c", "insert"),
            ("c", "delete"),
        ]

    async def test_clients_cannot_write_the_registry(self, store: Store) -> None:
        store.configure(Registry("/reg"))
        await self.run(store, create("/a"))
        for command in (create("/reg"), append("/reg", b"1"), Delete("/reg")):
            await self.refused(store, command, MethodNotAllowed)

    async def test_unsuitable_stream_cannot_become_the_registry(self, store: Store) -> None:
        await self.run(store, create("/reg", "text/plain"))
        await self.run(store, create("/mortal", "application/json", lifetime=Lifetime(ttl=5)))
        for path in ("/reg", "/mortal"):
            with pytest.raises(ValueError, match="registry"):
                store.configure(Registry(path))

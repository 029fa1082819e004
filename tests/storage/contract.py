"""What every store promises, as tests. A store's own test file subclasses this and says how to make one."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar, cast

import pytest

from durable_streams_server.errors import (
    AlreadyClaimed,
    Conflict,
    Fenced,
    Gone,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    ProducerFenced,
    SequenceGap,
    StreamClosed,
    StreamError,
    TooManyRequests,
)
from durable_streams_server.protocol import offsets
from durable_streams_server.protocol.commands import Command, Delete, Expire
from durable_streams_server.protocol.decisions.outcomes import AppendOutcome, CreateOutcome, Outcome
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.limits import MAX_JSON_DEPTH
from durable_streams_server.protocol.producers import ProducerState, Stamp
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.state import (
    Appended,
    Created,
    Removed,
    SoftDeleted,
    StreamState,
)
from durable_streams_server.protocol.subscriptions.changes import CursorsMoved, WakeChanged
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    KeepKeys,
    Unsubscribe,
    parse_subscribe,
)
from durable_streams_server.protocol.subscriptions.outcomes import AckOutcome, KeysOutcome
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.store import Published, Store
from durable_streams_server.storage.ticket import Ticket
from tests.protocol.subscriptions.world import JSON, POOL, A, B, subscribe
from tests.requests import NOW, SECOND, append, create, fork_of

T = TypeVar("T")


async def settled(ticket: Ticket[T]) -> T:
    """Waits for a ticket."""
    if not ticket.done:
        done = asyncio.get_running_loop().create_future()
        ticket.add_callback(lambda _: done.set_result(None))
        await done
    return ticket.result()


class StoreContract:
    """The contract of `storage.store.Store`."""

    def make_store(self, max_producers: int = 100_000) -> Store:
        """Returns a new, empty store."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        made = self.make_store()
        yield made
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

    # -- create and append --------------------------------------------------

    async def test_a_new_store_is_empty(self, store: Store) -> None:
        assert await settled(store.find("/a")) is None
        assert list(store.paths()) == []
        assert store.next_deadline() is None

    async def test_create_then_find(self, store: Store) -> None:
        outcome = cast(CreateOutcome, await self.run(store, create("/a", "text/plain", b"hello")))
        state = await self.state(store, "/a")
        assert outcome.created
        assert outcome.next_offset == state.name(5)
        assert (state.visible_tail, state.visible_closed) == (5, False)
        assert await self.content(store, "/a") == b"hello"
        assert list(store.paths()) == ["/a"]

    async def test_streams_may_come_and_go_while_paths_are_listed(self, store: Store) -> None:
        for name in "abcdef":
            await self.run(store, create(f"/{name}"))
        paths = store.paths()
        listed = [next(paths), next(paths)]
        going = next(path for path in ("/a", "/b", "/c") if path not in listed)
        await self.run(store, create("/g"))
        await self.run(store, Delete(going))
        listed += paths
        assert len(listed) == len(set(listed))
        assert {"/a", "/b", "/c", "/d", "/e", "/f"} - {going} <= set(listed)

    async def test_create_again_confirms_and_changes_nothing(self, store: Store) -> None:
        await self.run(store, create("/a", "text/plain", b"hello"))
        outcome = cast(CreateOutcome, await self.run(store, create("/a", "text/plain", b"other")))
        assert not outcome.created
        assert await self.content(store, "/a") == b"hello"

    async def test_create_with_another_configuration_is_refused(self, store: Store) -> None:
        await self.run(store, create("/a", "text/plain"))
        await self.refused(store, create("/a", "application/json"), Conflict)
        await self.refused(store, create("/a", "text/plain", closes=True), Conflict)
        await self.refused(store, create("/a", "text/plain", lifetime=Lifetime(ttl=5)), Conflict)

    async def test_appends_follow_each_other(self, store: Store) -> None:
        await self.run(store, create("/a"))
        outcomes = [
            await self.run(store, append("/a", part)) for part in (b"one", b"two", b"three")
        ]
        names = [cast(AppendOutcome, outcome).next_offset for outcome in outcomes]
        assert await self.content(store, "/a") == b"onetwothree"
        assert names == sorted(set(names))

    async def test_appends_issued_at_once_keep_their_order(self, store: Store) -> None:
        tickets = [store.execute(create("/a"), NOW)]
        parts = [b"%03d" % number for number in range(100)]
        tickets += [store.execute(append("/a", part), NOW) for part in parts]
        for ticket in tickets:
            await settled(ticket)
        assert await self.content(store, "/a") == b"".join(parts)

    async def test_append_to_nothing_is_refused(self, store: Store) -> None:
        await self.refused(store, append("/a", b"x"), NotFound)

    async def test_a_refused_append_leaves_no_trace(self, store: Store) -> None:
        await self.run(store, create("/a", "application/json"))
        stamp = Stamp(b"p", 0, 0)
        await self.refused(store, append("/a", b"{", "application/json", stamp=stamp), StreamError)
        await self.refused(store, append("/a", b"x", "text/plain", stamp=stamp), Conflict)
        state = await self.state(store, "/a")
        assert state.tail == 0
        assert len(state.producers) == 0
        assert state.last_seq is None
        await self.run(store, append("/a", b"1", "application/json", stamp=stamp))
        assert await self.content(store, "/a") == b"1,"

    async def test_close_with_and_without_data(self, store: Store) -> None:
        await self.run(store, create("/a"))
        await self.run(store, append("/a", b"end", closes=True))
        state = await self.state(store, "/a")
        assert (state.visible_tail, state.visible_closed) == (3, True)
        error = await self.refused(store, append("/a", b"more"), StreamClosed)
        assert (b"stream-next-offset", state.name(3).encode()) in error.headers
        repeated = cast(AppendOutcome, await self.run(store, append("/a", closes=True)))
        assert repeated.closed
        assert not repeated.wrote

    async def test_stream_seq_must_grow(self, store: Store) -> None:
        await self.run(store, create("/a"))
        await self.run(store, append("/a", b"x", seq=b"09"))
        await self.refused(store, append("/a", b"y", seq=b"09"), Conflict)
        await self.run(store, append("/a", b"z", seq=b"10"))
        assert await self.content(store, "/a") == b"xz"

    async def test_expected_offset_is_checked_after_deduplication(self, store: Store) -> None:
        await self.run(store, create("/a"))
        begin = (await self.state(store, "/a")).name(0)
        stamp = Stamp(b"p", 0, 0)
        await self.run(store, append("/a", b"x", expected=begin, stamp=stamp))
        again = await self.run(store, append("/a", b"x", expected=begin, stamp=stamp))
        assert not cast(AppendOutcome, again).wrote
        error = await self.refused(store, append("/a", b"y", expected=begin), OffsetMismatch)
        tail = (await self.state(store, "/a")).name(1).encode()
        assert (b"stream-next-offset", tail) in error.headers

    # -- producers ----------------------------------------------------------

    async def test_a_duplicate_writes_nothing_and_tells_nobody(self, store: Store) -> None:
        await self.run(store, create("/a"))
        for seq in range(3):
            await self.run(store, append("/a", b"%d" % seq, stamp=Stamp(b"p", 0, seq)))
        told: list[Published] = []
        store.listen(told.extend)
        repeated = await self.run(store, append("/a", b"0", stamp=Stamp(b"p", 0, 0)))
        assert cast(AppendOutcome, repeated).producer == ProducerState(0, 2)
        assert told == []
        assert await self.content(store, "/a") == b"012"

    async def test_gaps_and_zombies_are_refused(self, store: Store) -> None:
        await self.run(store, create("/a"))
        await self.run(store, append("/a", b"x", stamp=Stamp(b"p", 1, 0)))
        await self.refused(store, append("/a", b"y", stamp=Stamp(b"p", 1, 2)), SequenceGap)
        await self.refused(store, append("/a", b"y", stamp=Stamp(b"p", 0, 0)), ProducerFenced)
        assert await self.content(store, "/a") == b"x"

    async def test_the_closing_append_can_be_repeated(self, store: Store) -> None:
        await self.run(store, create("/a"))
        last = append("/a", b"end", closes=True, stamp=Stamp(b"p", 0, 0))
        await self.run(store, last)
        repeated = cast(AppendOutcome, await self.run(store, last))
        assert repeated.closed
        assert not repeated.wrote
        other = append("/a", b"end", closes=True, stamp=Stamp(b"p", 0, 1))
        await self.refused(store, other, StreamClosed)

    async def test_producers_are_limited(self) -> None:
        store = self.make_store(max_producers=2)
        await self.run(store, create("/a"))
        for name in (b"p", b"q"):
            await self.run(store, append("/a", b"x", stamp=Stamp(name, 0, 0)))
        error = await self.refused(
            store, append("/a", b"x", stamp=Stamp(b"r", 0, 0)), TooManyRequests
        )
        assert (b"retry-after", b"1") in error.headers
        await self.run(store, append("/a", b"x", stamp=Stamp(b"p", 0, 1)))
        store.close()

    # -- reading ------------------------------------------------------------

    async def test_reads_give_the_bytes_between_positions(self, store: Store) -> None:
        await self.run(store, create("/a"))
        for part in (b"abc", b"def", b"ghi"):
            await self.run(store, append("/a", part))
        incarnation = (await self.state(store, "/a")).incarnation
        for start in range(10):
            for end in range(start, 10):
                read = await settled(store.read_bytes(incarnation, start, end))
                assert read == b"abcdefghi"[start:end]

    async def test_marks_stand_at_append_ends(self, store: Store) -> None:
        await self.run(store, create("/a"))
        for part in (b"abc", b"def"):
            await self.run(store, append("/a", part))
        incarnation = (await self.state(store, "/a")).incarnation
        marks = [await settled(store.marks(incarnation, position)) for position in (0, 1, 3, 5, 6)]
        assert marks == [(0, 3, 3), (0, 3, 3), (3, 6, 6), (3, 6, 6), (6, 6, 6)]

    async def test_a_large_json_append_has_marks_within(self, store: Store) -> None:
        body = b"[" + b",".join(b'{"n":%d}' % number for number in range(20_000)) + b"]"
        await self.run(store, create("/a", "application/json"))
        await self.run(store, append("/a", body, "application/json"))
        state = await self.state(store, "/a")
        position, widest = 0, 0
        while position < state.visible_tail:
            marks = await settled(store.marks(state.incarnation, position))
            assert marks.lower == position
            assert marks.append_end == state.visible_tail
            edge = await settled(store.read_bytes(state.incarnation, marks.upper - 2, marks.upper))
            assert edge == b"},"
            widest = max(widest, marks.upper - marks.lower)
            position = marks.upper
        assert widest < 40_000

    async def test_a_value_as_deep_as_is_allowed_is_kept_and_cut(self, store: Store) -> None:
        deep = b'{"a":' * MAX_JSON_DEPTH + b'"%b"' % (b"x" * 40_000) + b"}" * MAX_JSON_DEPTH
        await self.run(store, create("/a", "application/json", deep))
        await self.run(store, append("/a", deep, "application/json"))
        assert await self.content(store, "/a") == deep + b"," + deep + b","
        incarnation = (await self.state(store, "/a")).incarnation
        marks = await settled(store.marks(incarnation, len(deep)))
        assert marks == (0, len(deep) + 1, len(deep) + 1)

    # -- ends ---------------------------------------------------------------

    async def test_delete_and_create_again_is_another_incarnation(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"old"))
        first = await self.state(store, "/a")
        await self.run(store, Delete("/a"))
        assert first.removed
        assert await settled(store.find("/a")) is None
        await self.refused(store, Delete("/a"), NotFound)
        await self.run(store, create("/a", body=b"new"), NOW - 5 * SECOND)  # a clock set back
        second = await self.state(store, "/a")
        assert second.incarnation > first.incarnation
        assert await self.content(store, "/a") == b"new"

    async def test_incarnations_only_grow(self, store: Store) -> None:
        seen = []
        for number in range(20):
            await self.run(store, create(f"/{number}"), NOW)
            seen.append((await self.state(store, f"/{number}")).incarnation)
        assert seen == sorted(set(seen))

    async def test_a_source_outlives_its_deletion_for_its_forks(self, store: Store) -> None:
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

    async def test_the_cascade_goes_up_the_chain(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"a"))
        await self.run(store, create("/b", None, b"b", fork=fork_of("/a")))
        await self.run(store, create("/c", None, b"c", fork=fork_of("/b")))
        await self.run(store, Delete("/a"))
        await self.run(store, Delete("/b"))
        assert await self.content(store, "/c") == b"abc"
        await self.run(store, Delete("/c"))
        for path in ("/a", "/b", "/c"):
            assert await settled(store.find(path)) is None

    async def test_a_refused_fork_takes_no_reference(self, store: Store) -> None:
        await self.run(store, create("/a", "text/plain", b"abc"))
        await self.refused(store, create("/b", "application/json", fork=fork_of("/a")), Conflict)
        await self.run(store, Delete("/a"))
        assert await settled(store.find("/a")) is None

    async def test_a_fork_has_its_own_writers(self, store: Store) -> None:
        await self.run(store, create("/a"))
        await self.run(store, append("/a", b"x", stamp=Stamp(b"p", 0, 0), seq=b"9"))
        await self.run(store, create("/b", None, fork=fork_of("/a")))
        await self.run(store, append("/b", b"y", stamp=Stamp(b"p", 0, 0), seq=b"1"))
        assert await self.content(store, "/b") == b"xy"
        assert await self.content(store, "/a") == b"x"

    # -- lifetimes ----------------------------------------------------------

    async def test_a_sliding_lifetime_runs_from_the_last_use(self, store: Store) -> None:
        await self.run(store, create("/a", lifetime=Lifetime(ttl=10)))
        assert store.next_deadline() == NOW + 10 * SECOND
        await self.run(store, append("/a", b"x"), NOW + 8 * SECOND)
        assert list(store.due(NOW + 11 * SECOND)) == []
        store.touch(await self.state(store, "/a"), NOW + 15 * SECOND)
        assert list(store.due(NOW + 20 * SECOND)) == []
        ((path, incarnation),) = store.due(NOW + 25 * SECOND)
        await self.run(store, Expire(path, incarnation), NOW + 25 * SECOND)
        assert await settled(store.find("/a")) is None

    async def test_an_expired_path_can_be_created_again_at_once(self, store: Store) -> None:
        await self.run(store, create("/a", body=b"old", lifetime=Lifetime(ttl=1)))
        later = NOW + 2 * SECOND
        await self.refused(store, append("/a", b"x"), NotFound, later)
        outcome = await self.run(store, create("/a", "text/plain", b"new"), later)
        assert cast(CreateOutcome, outcome).created
        assert await self.content(store, "/a") == b"new"

    async def test_expire_spares_what_lives(self, store: Store) -> None:
        await self.run(store, create("/a", lifetime=Lifetime(ttl=10)))
        state = await self.state(store, "/a")
        await self.run(store, Expire("/a", state.incarnation), NOW + 9 * SECOND)
        await self.run(store, Expire("/a", state.incarnation - 1), NOW + 11 * SECOND)
        assert await self.state(store, "/a") is state

    async def test_a_live_reader_keeps_a_stream_alive(self, store: Store) -> None:
        await self.run(store, create("/a", lifetime=Lifetime(ttl=1)))
        state = await self.state(store, "/a")
        state.readers += 1
        assert list(store.due(NOW + 5 * SECOND)) == []
        state.readers -= 1
        assert list(store.due(NOW + 10 * SECOND)) == [("/a", state.incarnation)]

    # -- who is told --------------------------------------------------------

    async def test_every_durable_change_is_told_before_its_ticket(self, store: Store) -> None:
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

    # -- the registry -------------------------------------------------------

    async def test_the_registry_lists_each_begin_and_end_once(self, store: Store) -> None:
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

    async def test_a_stream_of_another_kind_cannot_become_the_registry(self, store: Store) -> None:
        await self.run(store, create("/reg", "text/plain"))
        await self.run(store, create("/mortal", "application/json", lifetime=Lifetime(ttl=5)))
        for path in ("/reg", "/mortal"):
            with pytest.raises(ValueError, match="registry"):
                store.configure(Registry(path))

    # -- subscriptions ------------------------------------------------------

    async def subscribed(self, store: Store) -> None:
        """Makes a wake stream, two streams, and a pull-wake for them."""
        for path in (POOL, A, B):
            await self.run(store, create(path, JSON))
        await self.run(store, subscribe())

    def subscription(self, store: Store, id_: str = "s") -> Subscription:
        found = store.subscriptions.get(id_)
        assert found is not None
        return found

    async def test_an_append_and_what_it_means_are_published_together(self, store: Store) -> None:
        await self.subscribed(store)
        heard: list[list[Published]] = []
        store.listen(lambda published: heard.append(list(published)))
        await self.run(store, append(A, b"1", JSON))
        (record,) = heard
        assert [type(item.change) for item in record] == [
            Appended,
            CursorsMoved,
            WakeChanged,
            Appended,
        ]
        assert [item.state is None for item in record] == [False, True, True, False]
        event = (await self.content(store, POOL)).decode()
        assert '"subscription_id":"s","stream":"events/a","generation":1' in event

    async def test_a_wake_is_claimed_acknowledged_and_over(self, store: Store) -> None:
        await self.subscribed(store)
        await self.run(store, append(A, b"1", JSON))
        view = cast(View, await self.run(store, Claim("s", "w")))
        await self.refused(store, Claim("s", "v"), AlreadyClaimed)
        (stream,) = view.streams
        assert view.wake is not None
        ack = Acknowledge(
            view.grant, 1, view.wake.wake_id, ((A, offsets.parse(stream.tail)),), True
        )
        assert await self.run(store, ack) == AckOutcome(next_wake=False)
        await self.refused(store, ack, Fenced)
        await self.refused(store, Claim("s", "v"), Conflict)
        subscription = self.subscription(store)
        assert (subscription.wake, subscription.due, subscription.generation) == (None, {}, 1)

    async def test_a_refused_command_of_a_subscription_changes_nothing(self, store: Store) -> None:
        await self.subscribed(store)
        await self.run(store, append(A, b"1", JSON))
        heard: list[Published] = []
        store.listen(heard.extend)
        await self.refused(store, subscribe(description="other"), Conflict)
        await self.refused(store, Claim("t", "w"), NotFound)
        await self.run(store, subscribe())
        assert heard == []
        assert self.subscription(store).config.description is None

    async def test_a_subscription_made_again_is_another_incarnation(self, store: Store) -> None:
        await self.run(store, subscribe())
        first = self.subscription(store).incarnation
        await self.run(store, Unsubscribe("s"))
        assert store.subscriptions.get("s") is None
        await self.run(store, subscribe())
        second = self.subscription(store).incarnation
        await self.run(store, create("/a"))
        assert first < second < (await self.state(store, "/a")).incarnation

    async def test_keys_are_replaced_only_by_who_knows_them(self, store: Store) -> None:
        one, two = (Key(name, b"s" * 32, b"t" * 32, NOW) for name in ("one", "two"))
        assert await self.run(store, KeepKeys((one,), ())) == KeysOutcome((one,))
        assert await self.run(store, KeepKeys((two,), ())) == KeysOutcome((one,))
        assert await self.run(store, KeepKeys((two, one), ("one",))) == KeysOutcome((two, one))
        assert store.subscriptions.keys == (two, one)

    async def test_patterns_are_below_the_stream_root(self, store: Store) -> None:
        store.configure(None, "/x")
        await self.run(store, create("/x/events/a", JSON, b"1"))
        await self.run(store, create(A, JSON))
        command = parse_subscribe(
            "s", b'{"type":"pull-wake","pattern":"events/*","wake_stream":"w"}', "/x"
        )
        await self.run(store, command)
        await self.run(store, append("/x/events/a", b"2", JSON))
        await self.run(store, append(A, b"2", JSON))
        assert list(self.subscription(store).due) == ["/x/events/a"]

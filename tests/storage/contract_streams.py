"""Contract tests of creates, appends, producers and reads."""

from typing import cast

from durable_streams_server.errors import (
    Conflict,
    NotFound,
    OffsetMismatch,
    ProducerFenced,
    SequenceGap,
    StreamClosed,
    StreamError,
    TooManyRequests,
)
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.decisions.outcomes import AppendOutcome, CreateOutcome
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.limits import MAX_JSON_DEPTH
from durable_streams_server.protocol.producers import ProducerState, Stamp
from durable_streams_server.storage.store import Published, Store
from tests.requests import NOW, append, create
from tests.storage.contract_base import ContractBase, settled


class StreamContract(ContractBase):
    """Tests of creates, appends, producers and reads."""

    async def test_new_store_is_empty(self, store: Store) -> None:
        assert await settled(store.find("/a")) is None
        assert list(store.paths()) == []
        assert store.next_deadline() is None

    async def test_created_stream_can_be_found(self, store: Store) -> None:
        outcome = cast(CreateOutcome, await self.run(store, create("/a", "text/plain", b"hello")))
        state = await self.state(store, "/a")
        assert outcome.created
        assert outcome.next_offset == state.name(5)
        assert (state.visible_tail, state.visible_closed) == (5, False)
        assert await self.content(store, "/a") == b"hello"
        assert list(store.paths()) == ["/a"]

    async def test_created_stream_is_public_only_if_its_create_says_so(self, store: Store) -> None:
        await self.run(store, create("/a", public=True))
        await self.run(store, create("/b"))
        assert (await self.state(store, "/a")).public
        assert not (await self.state(store, "/b")).public

    async def test_probe_succeeds_and_changes_nothing(self, store: Store) -> None:
        heard: list[object] = []
        await self.run(store, create("/a", "text/plain"))
        store.listen(heard.extend)
        await settled(store.probe())
        await settled(store.probe())
        assert heard == []
        assert list(store.paths()) == ["/a"]

    async def test_streams_may_be_created_and_deleted_while_paths_are_listed(
        self, store: Store
    ) -> None:
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

    async def test_ordered_paths_are_those_after_a_path_with_a_prefix(self, store: Store) -> None:
        made = ["/b/2", "/a", "/b", "/b/1", "/b/\U0001f642", "/b/é", "/ba", "/b/10"]
        for path in made:
            await self.run(store, create(path, "text/plain"))
        await self.run(store, Delete("/b/1"))
        listed = sorted({*made} - {"/b/1"})
        for prefix in ("", "/", "/b", "/b/", "/b/1", "/c"):
            for after in ("", "/a", "/b/1", "/b/10", "/b/z", "/c"):
                for limit in (1, 2, 100):
                    found = list(filter(None, store.ordered_paths(prefix, after, limit)))
                    matching = [p for p in listed if p > after and p.startswith(prefix)]
                    assert found == matching[:limit]

    async def test_repeated_create_is_confirmed_and_changes_nothing(self, store: Store) -> None:
        await self.run(store, create("/a", "text/plain", b"hello"))
        outcome = cast(CreateOutcome, await self.run(store, create("/a", "text/plain", b"other")))
        assert not outcome.created
        assert await self.content(store, "/a") == b"hello"

    async def test_create_with_another_configuration_is_refused(self, store: Store) -> None:
        await self.run(store, create("/a", "text/plain"))
        await self.refused(store, create("/a", "application/json"), Conflict)
        await self.refused(store, create("/a", "text/plain", closes=True), Conflict)
        await self.refused(store, create("/a", "text/plain", lifetime=Lifetime(ttl=5)), Conflict)

    async def test_each_append_begins_at_the_end_of_the_one_before(self, store: Store) -> None:
        await self.run(store, create("/a"))
        outcomes = [
            await self.run(store, append("/a", part)) for part in (b"one", b"two", b"three")
        ]
        names = [cast(AppendOutcome, outcome).next_offset for outcome in outcomes]
        assert await self.content(store, "/a") == b"onetwothree"
        assert names == sorted(set(names))

    async def test_concurrent_appends_keep_their_order(self, store: Store) -> None:
        tickets = [store.execute(create("/a"), NOW)]
        parts = [b"%03d" % number for number in range(100)]
        tickets += [store.execute(append("/a", part), NOW) for part in parts]
        for ticket in tickets:
            await settled(ticket)
        assert await self.content(store, "/a") == b"".join(parts)

    async def test_append_to_missing_stream_is_refused(self, store: Store) -> None:
        await self.refused(store, append("/a", b"x"), NotFound)

    async def test_refused_append_changes_nothing(self, store: Store) -> None:
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

    async def test_append_closes_stream_with_and_without_data(self, store: Store) -> None:
        await self.run(store, create("/a"))
        await self.run(store, append("/a", b"end", closes=True))
        state = await self.state(store, "/a")
        assert (state.visible_tail, state.visible_closed) == (3, True)
        error = await self.refused(store, append("/a", b"more"), StreamClosed)
        assert (b"stream-next-offset", state.name(3).encode()) in error.headers
        repeated = cast(AppendOutcome, await self.run(store, append("/a", closes=True)))
        assert repeated.closed
        assert not repeated.wrote

    async def test_stream_seq_must_increase(self, store: Store) -> None:
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

    async def test_duplicate_append_writes_nothing_and_calls_no_listener(
        self, store: Store
    ) -> None:
        await self.run(store, create("/a"))
        for seq in range(3):
            await self.run(store, append("/a", b"%d" % seq, stamp=Stamp(b"p", 0, seq)))
        told: list[Published] = []
        store.listen(told.extend)
        repeated = await self.run(store, append("/a", b"0", stamp=Stamp(b"p", 0, 0)))
        assert cast(AppendOutcome, repeated).producer == ProducerState(0, 2)
        assert told == []
        assert await self.content(store, "/a") == b"012"

    async def test_sequence_gap_and_older_epoch_are_refused(self, store: Store) -> None:
        await self.run(store, create("/a"))
        await self.run(store, append("/a", b"x", stamp=Stamp(b"p", 1, 0)))
        await self.refused(store, append("/a", b"y", stamp=Stamp(b"p", 1, 2)), SequenceGap)
        await self.refused(store, append("/a", b"y", stamp=Stamp(b"p", 0, 0)), ProducerFenced)
        assert await self.content(store, "/a") == b"x"

    async def test_closing_append_can_be_repeated(self, store: Store) -> None:
        await self.run(store, create("/a"))
        last = append("/a", b"end", closes=True, stamp=Stamp(b"p", 0, 0))
        await self.run(store, last)
        repeated = cast(AppendOutcome, await self.run(store, last))
        assert repeated.closed
        assert not repeated.wrote
        other = append("/a", b"end", closes=True, stamp=Stamp(b"p", 0, 1))
        await self.refused(store, other, StreamClosed)

    async def test_number_of_producers_is_limited(self) -> None:
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

    async def test_read_returns_the_bytes_between_two_positions(self, store: Store) -> None:
        await self.run(store, create("/a"))
        for part in (b"abc", b"def", b"ghi"):
            await self.run(store, append("/a", part))
        incarnation = (await self.state(store, "/a")).incarnation
        for start in range(10):
            for end in range(start, 10):
                read = await settled(store.read_bytes(incarnation, start, end))
                assert read == b"abcdefghi"[start:end]

    async def test_page_cut_marks_are_at_the_ends_of_appends(self, store: Store) -> None:
        await self.run(store, create("/a"))
        for part in (b"abc", b"def"):
            await self.run(store, append("/a", part))
        incarnation = (await self.state(store, "/a")).incarnation
        marks = [await settled(store.marks(incarnation, position)) for position in (0, 1, 3, 5, 6)]
        assert marks == [(0, 3, 3), (0, 3, 3), (3, 6, 6), (3, 6, 6), (6, 6, 6)]

    async def test_large_json_append_has_page_cut_marks_inside(self, store: Store) -> None:
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

    async def test_json_append_of_maximum_depth_is_stored_with_page_cut_marks(
        self, store: Store
    ) -> None:
        deep = b'{"a":' * MAX_JSON_DEPTH + b'"%b"' % (b"x" * 40_000) + b"}" * MAX_JSON_DEPTH
        await self.run(store, create("/a", "application/json", deep))
        await self.run(store, append("/a", deep, "application/json"))
        assert await self.content(store, "/a") == deep + b"," + deep + b","
        incarnation = (await self.state(store, "/a")).incarnation
        marks = await settled(store.marks(incarnation, len(deep)))
        assert marks == (0, len(deep) + 1, len(deep) + 1)

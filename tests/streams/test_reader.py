"""Pages are bounded, end at the end of an append, a JSON value or a character, and join a fork with its source."""

import asyncio
from contextlib import ExitStack
from itertools import accumulate
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest, NotFound
from durable_streams_server.protocol.commands import Delete, Fork
from durable_streams_server.protocol.json import mode as json_mode
from durable_streams_server.protocol.json import wire as json_wire
from durable_streams_server.protocol.limits import MARK_SPACING
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.units import KIB, MIB
from durable_streams_server.storage import blocks
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams import forks, reader
from tests.requests import NOW, append, create
from tests.streams.engines import Bench, run_until_idle

JSON, TEXT = "application/json", "text/plain"


def pages(bench: Bench, cap: int, path: str = "/a", start: int = 0) -> list[bytes]:
    """Returns the data of all pages of a stream."""
    state, found = bench.state(path), []
    while True:
        page = bench.engine.reader.page(state, start, cap).result()
        found.append(page.data)
        start = page.end
        if page.at_tail:
            return found


@pytest.mark.parametrize("media", ["application/octet-stream", TEXT])
def test_pages_contain_whole_appends(media: str) -> None:
    bench = Bench()
    bench.do(
        create("/a", media, b"abcd"), append("/a", b"efgh", media), append("/a", b"i" * 50, media)
    )
    bench.do(append("/a", b"jkl", media))
    assert pages(bench, 8) == [b"abcdefgh", b"i" * 50, b"jkl"]
    assert pages(bench, 7) == [b"abcd", b"efgh", b"i" * 50, b"jkl"]
    assert pages(bench, 1) == [b"abcd", b"efgh", b"i" * 50, b"jkl"]


def test_page_of_fork_ends_at_fork_point() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"abcdefgh"))
    start = parse(bench.state("/a").name(0))
    bench.engine.create(create("/b", None, fork=Fork("/a", start, 3))).result()
    bench.do(append("/b", b"DEF"), append("/b", b"GHI"))
    assert pages(bench, 4, "/b") == [b"abc", b"DEF", b"GHI"]


def test_page_of_text_contains_at_least_one_whole_character() -> None:
    bench = Bench()
    euro, large = "€".encode(), b"x" * 5000
    bench.do(create("/a", TEXT, b"abc" + euro[:2]), append("/a", euro[2:] + large, TEXT))
    bench.do(append("/a", b"tail", TEXT))
    assert pages(bench, 1000, start=3) == [euro + large, b"tail"]


@pytest.mark.parametrize("media", ["application/octet-stream", TEXT])
def test_read_may_start_at_append_or_one_byte_later(media: str) -> None:
    bench = Bench()
    bench.do(create("/a", media, b"a" * 10), append("/a", b"b" * 10, media))
    state, reader = bench.state(), bench.engine.reader
    begins = {0: 0, 1: 0, 10: 10, 11: 10, 20: 20}
    for position in range(21):
        ticket = reader.check(state, position)
        if position in begins:
            assert ticket.result() == begins[position]
        else:
            with pytest.raises(BadRequest) as caught:
                ticket.result()
            assert caught.value.code == "INVALID_OFFSET"


def test_read_of_text_may_start_inside_incomplete_last_character() -> None:
    bench = Bench()
    euro = "€".encode()
    bench.do(create("/a", TEXT, b"ab" + euro[:2]), append("/a", euro[2:], TEXT))
    state, reader = bench.state(), bench.engine.reader
    assert reader.check(state, 2).result() == 2
    assert reader.page(state, 2, 100).result().data == euro
    with pytest.raises(BadRequest):
        reader.check(state, 3).result()


def test_bytes_that_are_not_utf8_are_served_unchanged() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT, b"\xff\xfe\x80\x80\x80\x80\x80\xc3"))
    assert b"".join(pages(bench, 4)) == b"\xff\xfe\x80\x80\x80\x80\x80\xc3"


@pytest.mark.parametrize("cap", [1, 4])
def test_page_of_text_is_not_an_incomplete_character_even_if_cap_is_smaller(cap: int) -> None:
    bench = Bench()
    bench.do(create("/a", TEXT, b"\xe0\xa0"), append("/a", b"0", TEXT))
    bench.do(append("/a", b"rest of the text", TEXT))
    assert pages(bench, cap)[0].startswith(b"\xe0\xa00")


def test_json_page_ends_between_values_and_contains_large_value_whole() -> None:
    bench = Bench()
    bench.do(create("/a", JSON), append("/a", b'[1,22,"%s",4]' % (b"x" * 50), JSON))
    assert pages(bench, 5) == [b"1,22,", b'"%s",' % (b"x" * 50), b"4,"]


def test_fork_of_fork_reads_as_one_stream() -> None:
    bench = Bench()
    store = bench.engine
    bench.do(create("/a", JSON, b"[1,2,3]"))
    fork(bench, "/b", "/a", 4)
    bench.do(append("/b", b"[40,50]", JSON))
    fork(bench, "/c", "/b", 7)
    bench.do(append("/c", b"[6]", JSON), append("/a", b"[7]", JSON), append("/b", b"[8]", JSON))
    assert b"".join(pages(bench, 3, "/c")) == b"1,2,40,6,"
    assert pages(bench, 4, "/c") == [b"1,2,", b"40,", b"6,"]
    assert store.reader.page(bench.state("/c"), 2, 100).result().data == b"2,40,6,"


def test_read_cannot_start_inside_json_value() -> None:
    bench = Bench()
    bench.do(create("/a", JSON, b"[11,22]"), append("/a", b"[33]", JSON))
    state = bench.state()
    for position in range(10):
        ticket = bench.engine.reader.check(state, position)
        if position in (0, 3, 6, 9):
            assert ticket.result() == position
        else:
            with pytest.raises(BadRequest) as caught:
                ticket.result()
            assert caught.value.code == "INVALID_OFFSET"


def test_page_at_tail_of_closed_stream_is_empty_and_closed() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"a"), append("/a", b"b"), append("/a", closes=True))
    page = bench.engine.reader.page(bench.state(), 2, 10).result()
    assert (page.data, page.at_tail, page.closed) == (b"", True, True)
    first = bench.engine.reader.page(bench.state(), 0, 1).result()
    assert (first.at_tail, first.closed) == (False, False)


def fork(bench: Bench, path: str, source: str, position: int) -> None:
    """Creates a fork at a byte position of its source."""
    name = parse(bench.state(source).name(position))
    bench.engine.create(create(path, None, fork=Fork(source, name, None))).result()


def test_repeated_large_read_returns_cached_object_and_cache_is_bounded() -> None:
    bench = Bench()
    half = b"a" * (MIB // 2)
    bench.do(create("/a", body=half), append("/a", half), create("/small", body=b"s" * KIB))
    first = bench.engine.reader.page(bench.state("/a"), 0, MIB).result().data
    assert bench.engine.reader.page(bench.state("/a"), 0, MIB).result().data is first
    for start in range(0, MIB, 64 * KIB):  # 40 MiB of these stay cached
        bench.engine.reader.page(bench.state("/a"), start, MIB).result()
    for number in range(45):
        bench.do(create(f"/{number}", body=b"b" * MIB))
        bench.engine.reader.page(bench.state(f"/{number}"), 0, MIB).result()
    assert bench.engine.large.kept_bytes <= 40 * MIB
    assert bench.engine.reader.page(bench.state("/a"), 0, MIB).result().data is not first
    kept = bench.engine.large.kept_bytes
    bench.engine.reader.page(bench.state("/small"), 0, MIB).result()
    assert bench.engine.large.kept_bytes == kept


class CountingStore(MemoryStore):
    """A memory store that records the number of bytes of each read."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        self.sizes.append(end - start)
        return super().read_bytes(incarnation, start, end)


@pytest.fixture
def counted() -> tuple[Bench, CountingStore]:
    """An engine with a JSON stream, and its store. The second value of the stream is large, and its third append has 300,000 values."""
    bench = Bench()
    bench.store = bench.engine.store = store = CountingStore()
    bench.engine.reader = reader.Reader(store)
    large = b'[11,"' + b"x,[" * MIB + b'",{"a":[2,3]}]'
    bench.do(create("/a", JSON), append("/a", large, JSON))
    bench.do(append("/a", b"[4,5]", JSON), append("/a", b"[" + b"7," * 299_999 + b"7]", JSON))
    return bench, store


def test_page_before_large_value_is_cut_after_reading_few_bytes(
    counted: tuple[Bench, CountingStore],
) -> None:
    bench, store = counted
    page = bench.engine.reader.page(bench.state(), 0, 100_000).result()
    assert page.data == b"11,"
    assert store.sizes == [MARK_SPACING, 3]


def test_end_of_large_value_is_found_after_reading_few_bytes(
    counted: tuple[Bench, CountingStore],
) -> None:
    bench, store = counted
    page = bench.engine.reader.page(bench.state(), 3, 100_000).result()
    assert len(page.data) == 3 * MIB + 3
    assert store.sizes == [MARK_SPACING, len(page.data)]


def test_offset_inside_large_value_is_refused_after_reading_few_bytes(
    counted: tuple[Bench, CountingStore],
) -> None:
    bench, store = counted
    state = bench.state()
    for position in (1, 2, 10, MARK_SPACING - 1, MARK_SPACING + 7, 2 * MIB):
        with pytest.raises(BadRequest) as caught:
            bench.engine.reader.check(state, position).result()
        assert caught.value.code == "INVALID_OFFSET"
    assert max(store.sizes) <= MARK_SPACING
    assert bench.engine.reader.check(state, 3).result() == 3
    after = 3 * MIB + 6
    assert bench.engine.reader.check(state, after).result() == after


async def test_search_for_distant_sub_offset_takes_several_loop_turns(
    counted: tuple[Bench, CountingStore],
) -> None:
    bench, store = counted
    state = bench.state()
    begin = state.tail - 600_000
    turns = bench.engine.turns
    for sub_offset, fork in ((299_998, "/b"), (300_000, "/c")):
        command = create(fork, None, fork=Fork("/a", parse(state.name(begin)), sub_offset))
        found = forks.resolve(store, bench.engine.reader, command, bench.clock.now, turns)
        assert not found.done
        while not found.done:
            assert len(turns) == 1
            await asyncio.sleep(0)
        place = found.result().fork
        assert place is not None
        assert place.position == begin + 2 * sub_offset
    assert max(store.sizes) <= MARK_SPACING
    command = create("/d", None, fork=Fork("/a", parse(state.name(begin)), 300_001))
    refused = forks.resolve(store, bench.engine.reader, command, bench.clock.now).result().fork
    assert refused is not None
    assert isinstance(refused.problem, BadRequest)


async def test_fork_is_refused_if_source_is_deleted_during_offset_search(
    counted: tuple[Bench, CountingStore],
) -> None:
    bench, _ = counted
    anchor = parse(bench.state().name(bench.state().tail - 600_000))
    made = bench.engine.create(create("/b", None, fork=Fork("/a", anchor, 299_998)))
    assert not made.done
    bench.do(Delete("/a"))
    await run_until_idle(bench.engine.turns)
    with pytest.raises(NotFound) as caught:
        made.result()
    assert caught.value.code == "SOURCE_NOT_FOUND"


SMALL = [b"1", b"22", b'"a,b"', b'"\\",["', b"[]", b'[1,{"k":"]"}]']
VALUES = st.sampled_from([*SMALL, b'"' + b"x" * 30 + b'"', b"[" + b'"y",' * 12 + b"0]"])


@given(
    st.lists(st.lists(VALUES, min_size=1, max_size=8), min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(8, 24),
    st.data(),
)
def test_json_pages_end_between_values_for_any_spacing_of_marks(
    appends: list[list[bytes]], cap: int, spacing: int, data: st.DataObject
) -> None:
    bench = Bench()
    ends = [0]
    with ExitStack() as patches:
        for module in (json_mode, json_wire, blocks, reader):
            patches.enter_context(patch.object(module, "MARK_SPACING", spacing))
        bench.do(create("/a", JSON))
        for texts in appends:
            bench.do(append("/a", b"[" + b",".join(texts) + b"]", JSON))
            for text in texts:
                ends.append(ends[-1] + len(text) + 1)
        source = bench.state()
        at = data.draw(st.sampled_from(ends))
        bench.do(create("/b", None, fork=Fork("/a", None, None, at, source.incarnation)))
        bench.do(append("/b", b'[8,"nine,",10]', JSON))
        whole = b"".join(text + b"," for texts in appends for text in texts)
        forked = [*(end for end in ends if end <= at), at + 2, at + 10, at + 13]
        for path, expected, wire in (
            ("/a", ends, whole),
            ("/b", forked, whole[:at] + b'8,"nine,",10,'),
        ):
            found = pages(bench, cap, path)
            assert b"".join(found) == wire
            position = 0
            for page in found:
                values = [end for end in expected if position < end <= position + len(page)]
                assert values[-1] == position + len(page)
                assert len(page) <= cap or len(values) == 1
                position = values[-1]
            state = bench.state(path)
            for position in range(len(wire) + 1):
                try:
                    bench.engine.reader.check(state, position).result()
                except BadRequest:
                    assert position not in expected
                else:
                    assert position in expected
        for number, position in enumerate(ends):
            last = next((end for end in _append_ends(appends) if end > position), position)
            between = [end for end in ends if position < end <= last]
            for count, end in enumerate(between, 1):
                fork = Fork("/a", parse(source.name(position)), count)
                command = create(f"/{number}-{count}", None, fork=fork)
                place = forks.resolve(bench.store, bench.engine.reader, command, NOW).result().fork
                assert place is not None
                assert place.position == end


def _append_ends(appends: list[list[bytes]]) -> list[int]:
    return list(accumulate(sum(len(text) + 1 for text in texts) for texts in appends))

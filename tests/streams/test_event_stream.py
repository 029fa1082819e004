"""Event streams from the first byte to a clean end, pulled piece by piece."""

import asyncio
import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.limits import SSE_PAGE_SIZE
from durable_streams_server.protocol.units import MIB
from durable_streams_server.streams.event_stream import END, WAIT, EventStream
from durable_streams_server.streams.options import EngineOptions
from tests.protocol.test_sse import parse
from tests.requests import append, create
from tests.streams.engines import Bench, next_turn, read, run_until_idle

JSON, TEXT = "application/json", "text/plain"


class Reader:
    """A reader that pulls when the test calls `pull`.

    Attributes:
        calls: number of times that the event stream announced new data.
        called: an event that is set with each announcement.
        ended: whether the event stream has ended.
        raw: all bytes received.
    """

    def __init__(self, bench: Bench, offset: str = "-1") -> None:
        self.calls = 0
        self.called = asyncio.Event()
        self.ended = False
        self.raw = b""
        self.stream: EventStream = bench.engine.events(
            read(offset=offset, live="sse"), self.ready
        ).result()

    def ready(self) -> None:
        self.calls += 1
        self.called.set()

    def pull(self) -> list[tuple[str, str]]:
        """Pulls events until the event stream has no more now, or ends. Returns the type and data of each."""
        found = b""
        while True:
            piece = self.stream.pull()
            if piece is END:
                self.ended = True
            if not isinstance(piece, bytes):
                break
            found += piece
        self.raw += found
        return [(kind, data) for kind, data, _ in parse(found)]


def control(data: str) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(data)
    return parsed


async def test_control_event_follows_each_data_event() -> None:  # TRAPS 33
    bench = Bench()
    bench.do(create("/a", JSON, b"[1,2]"))
    reader = Reader(bench)
    first = reader.pull()
    assert [kind for kind, _ in first] == ["data", "control"]
    assert first[0][1] == "[1,2]"
    assert control(first[1][1])["upToDate"] is True
    bench.do(append("/a", b"[3]", JSON))
    await next_turn()
    assert reader.calls == 1
    assert reader.pull()[0] == ("data", "[3]")
    reader.stream.close()


async def test_empty_stream_sends_control_event_immediately() -> None:  # TRAPS 36
    bench = Bench()
    bench.do(create("/a", JSON))
    reader = Reader(bench)
    ((kind, _),) = reader.pull()
    assert kind == "control"
    assert reader.raw.startswith(b"retry:")
    bench.do(append("/a", b"1", JSON))
    reader.pull()
    assert reader.raw.count(b"retry:") == 1
    reader.stream.close()


async def test_event_stream_sends_last_data_before_stream_closed_event() -> None:  # TRAPS 31
    bench = Bench()
    bench.do(create("/a", JSON))
    reader = Reader(bench)
    reader.pull()
    bench.do(append("/a", b"[9]", JSON, closes=True))
    data, last = reader.pull()
    assert data == ("data", "[9]")
    assert control(last[1])["streamClosed"] is True
    assert control(last[1])["upToDate"] is True
    assert reader.ended
    reader.stream.close()


async def test_large_backlog_is_sent_in_bounded_events() -> None:  # TRAPS 38
    bench = Bench()
    bench.do(create("/a", TEXT), *(append("/a", b"x" * 1000, TEXT) for _ in range(100)))
    reader = Reader(bench)
    events = reader.pull()
    sizes = [len(data) for kind, data in events if kind == "data"]
    assert sum(sizes) == 100_000
    assert max(sizes) <= SSE_PAGE_SIZE
    controls = [control(data) for kind, data in events if kind == "control"]
    assert [event.get("upToDate") for event in controls] == [None] * (len(controls) - 1) + [True]
    reader.stream.close()


@pytest.mark.parametrize("media", [TEXT, "application/octet-stream", "text/plain; charset=utf-16"])
async def test_event_contains_whole_appends_of_any_size(media: str) -> None:
    bench = Bench()
    sent = [b"a" * 20_000, b"b" * 10, b"c" * 10, b"d" * (SSE_PAGE_SIZE - 1) + b"\r\nd", b"e" * MIB]
    bench.do(create("/a", media), *(append("/a", body, media) for body in sent))
    reader = Reader(bench)
    data = [data for kind, data in reader.pull() if kind == "data"]
    if media == TEXT:
        assert data == [part.decode().replace("\r\n", "\n") for part in as_events(sent)]
    else:
        assert [base64.b64decode(text) for text in data] == as_events(sent)
    reader.stream.close()


def as_events(sent: list[bytes]) -> list[bytes]:
    """Returns the expected bytes of each event for the five appends of the test. Only the two small appends share an event."""
    return [sent[0], sent[1] + sent[2], sent[3], sent[4]]


async def test_event_that_ends_within_append_is_not_up_to_date() -> None:
    bench = Bench()
    euro = "€".encode()
    bench.do(create("/a", TEXT, b"ab" + euro[:2]))
    reader = Reader(bench)
    (_, text), (_, ending) = reader.pull()
    told = control(ending)
    assert (text, told["streamNextOffset"]) == ("ab", bench.state().name(2))
    assert "upToDate" not in told
    bench.do(append("/a", euro[2:] + b"!", TEXT))
    (_, text), (_, ending) = reader.pull()
    told = control(ending)
    assert (text, told["streamNextOffset"]) == ("€!", bench.state().name(6))
    assert told["upToDate"] is True
    reader.stream.close()


async def test_control_event_before_incomplete_character_is_not_up_to_date() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT, "€".encode()[:1]))
    reader = Reader(bench)
    ((kind, ending),) = reader.pull()
    told = control(ending)
    assert (kind, told["streamNextOffset"]) == ("control", bench.state().name(0))
    assert "upToDate" not in told
    reader.stream.close()


async def test_incomplete_character_is_sent_with_its_remaining_bytes() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT))
    reader = Reader(bench)
    reader.pull()
    whole = "é".encode()
    bench.do(append("/a", b"a" + whole[:1], TEXT))
    assert reader.pull()[0] == ("data", "a")
    bench.do(append("/a", whole[1:], TEXT))
    assert reader.pull()[0] == ("data", "é")
    bench.do(append("/a", whole[:1], TEXT))
    assert reader.pull() == []
    bench.do(append("/a", closes=True))
    assert reader.pull()[0] == ("data", "\ufffd")
    reader.stream.close()


async def test_delete_ends_event_stream() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT))
    reader = Reader(bench)
    reader.pull()
    bench.do(Delete("/a"))
    await next_turn()
    assert reader.calls == 1
    assert reader.pull() == []
    assert reader.ended
    reader.stream.close()


async def test_event_stream_at_maximum_age_ends_with_control_event() -> None:
    bench = Bench(EngineOptions(sse_max_age=0.01))
    bench.do(create("/a", TEXT, b"x"))
    reader = Reader(bench)
    reader.pull()
    await reader.called.wait()
    ((kind, data),) = reader.pull()
    assert kind == "control"
    assert control(data)["upToDate"] is True
    assert reader.ended
    reader.stream.close()


async def test_event_streams_opened_together_end_at_different_times() -> None:
    bench = Bench(EngineOptions(sse_max_age=100))
    bench.do(create("/a", TEXT))
    opened = asyncio.get_running_loop().time()
    readers = [Reader(bench) for _ in range(300)]
    ages = sorted(reader.stream._ends_at - opened for reader in readers)
    assert 80 <= ages[0] < 85
    assert 95 < ages[-1] <= 100 + 1  # 1 second for opening all of them
    assert max(sum(age <= other < age + 1 for other in ages) for age in ages) < 60
    for reader in readers:
        reader.stream.close()


@pytest.mark.parametrize(("random", "age"), [(0.0, 100.0), (0.5, 90.0), (1.0, 80.0)])
async def test_age_of_event_stream_is_80_to_100_percent_of_maximum(
    random: float, age: float
) -> None:
    bench = Bench(EngineOptions(sse_max_age=100))
    bench.engine.random = lambda: random
    bench.do(create("/a", TEXT))
    opened = asyncio.get_running_loop().time()
    reader = Reader(bench)
    assert age <= reader.stream._ends_at - opened < age + 1
    reader.stream.close()


async def test_idle_event_stream_sends_keep_alive_comment() -> None:
    bench = Bench(EngineOptions(sse_keep_alive=0.01))
    bench.do(create("/a", TEXT))
    reader = Reader(bench)
    reader.pull()
    await reader.called.wait()
    assert reader.stream.pull() == b": keep-alive\n\n"
    reader.stream.close()


async def test_shutdown_ends_event_stream_with_control_event() -> None:  # TRAPS 36, 48
    bench = Bench()
    bench.do(create("/a", TEXT))
    reader = Reader(bench)
    reader.pull()
    bench.engine.begin_shutdown()
    assert [kind for kind, _ in reader.pull()] == ["control"]
    assert reader.ended
    reader.stream.close()


async def test_closed_event_stream_is_removed_from_waiting_readers() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT))
    reader = Reader(bench)
    assert (len(bench.engine.tails), bench.state().readers) == (1, 1)
    reader.stream.close()
    reader.stream.close()
    assert (len(bench.engine.tails), bench.state().readers) == (0, 0)


async def test_event_id_is_offset_after_event() -> None:
    bench = Bench()
    bench.do(create("/a", JSON, b"[1]"))
    reader = Reader(bench)
    reader.pull()
    name = bench.state().name(2)
    assert [identity for _, _, identity in parse(reader.raw)] == [name, name]
    resumed = Reader(bench, name)
    assert [kind for kind, _ in resumed.pull()] == ["control"]
    reader.stream.close()
    resumed.stream.close()


async def test_pull_returns_wait_if_stream_has_no_new_data() -> None:
    bench = Bench()
    bench.do(create("/a", JSON))
    reader = Reader(bench)
    reader.pull()
    assert reader.stream.pull() is WAIT
    reader.stream.close()


@pytest.mark.parametrize("position", ["-1", "now"])
async def test_event_stream_of_closed_stream_ends_immediately(position: str) -> None:
    bench = Bench()
    bench.do(create("/a", JSON, b"[1]", closes=True))
    reader = Reader(bench, position)
    events = reader.pull()
    assert control(events[-1][1])["streamClosed"] is True
    assert reader.ended
    reader.stream.close()


class EagerReader:
    """A reader whose socket is always writable, so it pulls all data immediately."""

    def __init__(self, bench: Bench, cursor: str | None = None) -> None:
        self.sent: list[bytes] = []
        self.stream: EventStream | None = None
        self.stream = bench.engine.events(
            read(offset="-1", live="sse", cursor=cursor), self.pump
        ).result()
        self.pump()

    def pump(self) -> None:
        while self.stream is not None and isinstance(piece := self.stream.pull(), bytes):
            self.sent.append(piece)


async def test_readers_at_same_tail_share_bytes_of_event() -> None:
    bench = Bench()
    bench.do(create("/a", JSON))
    first, second = EagerReader(bench), EagerReader(bench)
    ahead = EagerReader(bench, cursor=bench.engine.next_cursor(None))
    behind = Reader(bench)
    bench.do(append("/a", b"1", JSON))
    await next_turn()
    bench.do(append("/a", b"[2,3]", JSON))
    await next_turn()
    assert first.sent[-2] is second.sent[-2]
    assert first.sent[-1] is second.sent[-1]
    assert parse(first.sent[-1])[0][:2] == ("data", "[2,3]")
    assert first.sent[0] is not second.sent[0]
    own = parse(ahead.sent[-1])  # its cursor must be greater than the one that the client sent
    assert own[0] == parse(first.sent[-1])[0]
    assert (
        control(own[1][1])["streamCursor"] != control(parse(first.sent[-1])[1][1])["streamCursor"]
    )
    assert behind.pull()[0] == ("data", "[1,2,3]")
    for reader in (first, second, ahead, behind):
        assert reader.stream is not None
        reader.stream.close()


class NativeReader(EagerReader):
    """A reader that calls `news` first, and pulls if `news` returns None, as the native HTTP adapter does."""

    def pump(self) -> None:
        if self.stream is not None and (data := self.stream.news()) is not None:
            self.sent.append(data)
        else:
            super().pump()


values = st.sampled_from([b"1", b'"a\\nb"', b"[1,2]", b'[ " " ,\r\n 3 ]', b'"%s"' % (b"x" * 5000)])
octets = st.sampled_from(
    [
        b"a",
        b" b",
        b"\n",
        b"\r",
        b"\nc",
        "é".encode(),
        "é".encode()[:1],
        "é".encode()[1:],
        b"x" * 5000,
    ]
)


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.tuples(st.just(JSON), st.lists(st.lists(values, max_size=3), max_size=8)),
        st.tuples(
            st.sampled_from([TEXT, "application/octet-stream"]),
            st.lists(st.lists(octets, max_size=3), max_size=8),
        ),
    ),
    st.sampled_from(["close", "delete", "stop"]),
    st.integers(1, 20),
)
def test_shared_events_have_same_bytes_as_individually_read_events(
    written: tuple[str, list[list[bytes]]], end: str, count: int
) -> None:
    async def follow() -> None:
        media, turns = written
        bench = Bench()
        bench.do(create("/a", media))
        readers = [NativeReader(bench) for _ in range(count)]
        pulls = EagerReader(bench)
        for turn in turns:
            bench.do(*(append("/a", body, media) for body in turn))
            await run_until_idle(bench.engine.turns)
        if end == "close":
            bench.do(append("/a", closes=True))
        elif end == "delete":
            bench.do(Delete("/a"))
        else:
            bench.engine.begin_shutdown()
        await run_until_idle(bench.engine.turns)
        for reader in (*readers, pulls):
            assert reader.stream is not None
            assert reader.stream.pull() is END
            reader.stream.close()
            assert b"".join(reader.sent) == b"".join(pulls.sent)

    asyncio.run(follow())


async def test_up_to_date_event_stream_gets_next_append_without_reading_store() -> None:
    bench = Bench()
    bench.do(create("/a", JSON))
    reader = NativeReader(bench)
    stream = reader.stream
    assert stream is not None
    bench.do(append("/a", b"7", JSON))
    taken: list[bytes | None] = []
    stream._on_ready = lambda: taken.append(stream.news())
    await next_turn()
    (data,) = taken
    assert data is not None
    assert parse(data)[0][:2] == ("data", "[7]")
    assert stream.pull() is WAIT
    stream.close()
    assert stream.news() is None

"""`app.streams`: what a program sees of the streams of an application that it runs."""

import asyncio
import contextlib
import gc
import inspect
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server import (
    BadRequest,
    Conflict,
    DurableStreamsApp,
    FileBackedStreamStore,
    Gone,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    ProducerFenced,
    SequenceGap,
    StreamClosed,
    StreamStore,
    Unavailable,
    create_app,
    create_registry_hooks,
)
from durable_streams_server.protocol.limits import FOLLOW_PAGE_SIZE
from durable_streams_server.protocol.units import MIB
from durable_streams_server.storage.ticket import Abandoned, Cancelled, Ticket
from durable_streams_server.streams.embedded import Streams
from tests.http.asgi_driver import request
from tests.streams.engines import ManualClock

JSON = "application/json"
TEXT = "text/plain"


@pytest.fixture(params=["memory", "files"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DurableStreamsApp]:
    """An application that nobody has sent a request to."""
    store: StreamStore | FileBackedStreamStore = StreamStore()
    if request.param == "files":
        store = FileBackedStreamStore(tmp_path, segment_size=4 * MIB)
    app = create_app(store=store)
    yield app
    await app.stop()
    store.close()


@pytest.fixture
def streams(app: DurableStreamsApp) -> Streams:
    return app.streams


async def collect(pages: Any, until: int) -> bytes:
    """Reads pages until they have so many bytes."""
    data = b""
    async for page in pages:
        data += page.data
        if len(data) >= until:
            break
    return data


def waiting(app: DurableStreamsApp) -> int:
    """Returns how many live readers wait."""
    return len(app.engine.tails)


async def until_waiting(app: DurableStreamsApp, count: int) -> None:
    async with asyncio.timeout(5):
        while waiting(app) != count:  # noqa: ASYNC110  (nobody tells how many wait)
            await asyncio.sleep(0)


# -- writes and reads ---------------------------------------------------------


async def test_create_append_read_and_close_before_any_request(streams: Streams) -> None:
    made = await streams.create("/a", TEXT)
    assert (made.created, made.closed, made.content_type) == (True, False, TEXT)
    first = await streams.append("/a", b"one ")
    assert (first.closed, first.duplicate) == (False, False)
    page = await streams.read("/a")
    assert (page.data, page.text(), page.up_to_date, page.closed) == (b"one ", "one ", True, False)
    assert page.next_offset == first.next_offset
    last = await streams.close("/a", b"two")
    assert last.closed
    page = await streams.read("/a", first.next_offset)
    assert (page.data, page.up_to_date, page.closed) == (b"two", True, True)
    with pytest.raises(StreamClosed):
        await streams.append("/a", b"more")
    assert (await streams.close("/a")).next_offset == last.next_offset


async def test_http_and_program_see_the_same_streams(app: DurableStreamsApp) -> None:
    await app.streams.create("/v1/stream/a b", JSON)
    written = await app.streams.append("/v1/stream/a b", b'{"n": 1.10}')
    seen = await request(app, "GET", "/v1/stream/a%20b")
    assert (seen.body, seen.headers["stream-next-offset"]) == (
        b'[{"n": 1.10}]',
        written.next_offset,
    )
    await request(app, "POST", "/v1/stream/a%20b", {"content-type": JSON}, b"2")
    page = await app.streams.read("/v1/stream/a b")
    assert page.data == b'[{"n": 1.10},2]'
    assert page.json() == [{"n": 1.1}, 2]


async def test_path_in_mounted_application_is_the_one_below_the_mount(
    app: DurableStreamsApp,
) -> None:
    await request(app, "PUT", "/streams/a", {"content-type": TEXT}, b"x", root_path="/streams")
    assert (await app.streams.read("/a")).data == b"x"
    with pytest.raises(NotFound):
        await app.streams.read("/streams/a")


async def test_json_values_keep_their_bytes_and_numbers(streams: Streams) -> None:
    await streams.create("/a", JSON, initial_data=b"[1,[2]]")
    await streams.append("/a", b'[123456789012345678901234567890, "\\ud83d"]')
    page = await streams.read("/a")
    assert page.data == b'[1,[2],123456789012345678901234567890,"\\ud83d"]'
    assert page.json() == [1, [2], 123456789012345678901234567890, "\ud83d"]
    assert (await streams.read("/a", "now")).json() == []
    await streams.create("/b", TEXT)
    with pytest.raises(ValueError, match="text/plain"):
        (await streams.read("/b")).json()


async def test_large_json_is_split_and_read_in_pages(app: DurableStreamsApp) -> None:
    streams = create_app(page_size=1024).streams
    values = [f"value {number}" for number in range(20_000)]
    await streams.create("/a", JSON)
    body = ("[" + ",".join(f'"{value}"' for value in values) + "]").encode()
    await streams.append("/a", body)
    await streams.create("/b", JSON, initial_data=body)
    for path in ("/a", "/b"):
        found, offset, pages = [], "-1", 0
        while True:
            page = await streams.read(path, offset)
            found += page.json()
            offset, pages = page.next_offset, pages + 1
            if page.up_to_date:
                break
        assert found == values
        assert pages > 100


async def test_read_gives_at_most_a_page(streams: Streams) -> None:
    await streams.create("/a")
    for _ in range(5):
        await streams.append("/a", bytes(MIB))
    page = await streams.read("/a")
    assert (len(page.data), page.up_to_date) == (4 * MIB, False)
    rest = await streams.read("/a", page.next_offset)
    assert (len(rest.data), rest.up_to_date) == (MIB, True)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_any_octets_are_taken(streams: Streams, kind: Any) -> None:
    await streams.create("/a", initial_data=kind(b"x"))
    await streams.append("/a", kind(b"y"))
    assert (await streams.read("/a")).data == b"xy"


async def test_head_says_what_a_stream_is(streams: Streams) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=1)
    await streams.create("/a", JSON, ttl_seconds=60)
    made = await streams.create("/b", expires_at=deadline, closed=True)
    head = await streams.head("/a")
    assert (head.content_type, head.closed, head.ttl_seconds, head.expires_at) == (
        JSON,
        False,
        60,
        None,
    )
    head = await streams.head("/b")
    assert (head.content_type, head.closed) == ("application/octet-stream", True)
    assert (head.next_offset, head.expires_at) == (made.next_offset, deadline.isoformat())


async def test_create_confirms_what_is_there_and_refuses_another_configuration(
    streams: Streams,
) -> None:
    assert (await streams.create("/a", TEXT)).created
    assert not (await streams.create("/a", TEXT)).created
    with pytest.raises(Conflict):
        await streams.create("/a", JSON)


async def test_fork_begins_with_its_source(streams: Streams) -> None:
    await streams.create("/a", TEXT)
    first = await streams.append("/a", b"one")
    await streams.append("/a", b"two")
    await streams.create("/b", forked_from="/a", fork_offset=first.next_offset, fork_sub_offset=1)
    await streams.create("/c", forked_from="/a", fork_offset="-1")
    await streams.create("/d", forked_from="/a", fork_offset="now")
    await streams.create("/e", forked_from="/a", initial_data=b"!")
    found = [(await streams.read(path)).data for path in ("/b", "/c", "/d", "/e")]
    assert found == [b"onet", b"", b"onetwo", b"onetwo!"]
    await streams.delete("/a")
    with pytest.raises(Gone):
        await streams.read("/a")
    with pytest.raises(BadRequest) as caught:
        await streams.create("/f", fork_offset=first.next_offset)
    assert caught.value.code == "INVALID_FORK"


async def test_delete_ends_a_stream(streams: Streams) -> None:
    made = await streams.create("/a")
    await streams.delete("/a")
    for call in (streams.delete("/a"), streams.read("/a"), streams.append("/a", b"x")):
        with pytest.raises(NotFound):
            await call
    await streams.create("/a")
    with pytest.raises(Gone):
        await streams.read("/a", made.next_offset)


async def test_producer_that_retries_writes_once(streams: Streams) -> None:
    await streams.create("/a")
    stamp: dict[str, Any] = {"producer_id": "p", "producer_epoch": 1, "producer_seq": 0}
    first = await streams.append("/a", b"x", **stamp)
    again = await streams.append("/a", b"x", **stamp)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (again.producer_epoch, again.producer_seq) == (1, 0)
    assert (await streams.read("/a")).data == b"x"
    with pytest.raises(SequenceGap):
        await streams.append("/a", b"x", **(stamp | {"producer_seq": 2}))
    with pytest.raises(ProducerFenced):
        await streams.append("/a", b"x", **(stamp | {"producer_epoch": 0}))


async def test_expected_offset_and_seq_are_held(streams: Streams) -> None:
    made = await streams.create("/a")
    await streams.append("/a", b"x", expected_offset=made.next_offset, seq="b")
    with pytest.raises(OffsetMismatch):
        await streams.append("/a", b"y", expected_offset=made.next_offset)
    with pytest.raises(Conflict):
        await streams.append("/a", b"y", seq="a")
    with pytest.raises(Conflict):
        await streams.append("/a", b"y", content_type=TEXT)
    assert (await streams.read("/a")).data == b"x"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda streams: streams.append("/a", b""), "EMPTY_BODY"),
        (lambda streams: streams.append("/a", b"{"), "INVALID_JSON"),
        (lambda streams: streams.append("/a", b"1", seq=""), "INVALID_SEQ"),
        (lambda streams: streams.append("/a", b"1", producer_id="p"), "INVALID_PRODUCER"),
        (lambda streams: streams.append("/a", b"1", expected_offset="7"), "INVALID_OFFSET"),
        (lambda streams: streams.append("/a", b"1", content_type="x"), "INVALID_CONTENT_TYPE"),
        (lambda streams: streams.read("/a", "7"), "INVALID_OFFSET"),
        (lambda streams: streams.read("a"), "INVALID_PATH"),
        (lambda streams: streams.create("/x/../y"), "INVALID_PATH"),
        (lambda streams: streams.create("/b", ttl_seconds=-1), "INVALID_TTL"),
        (lambda streams: streams.create("/b", forked_from="b"), "INVALID_PATH"),
        (lambda streams: streams.create("/v1/stream/__ds/a"), "RESERVED_PATH"),
        (lambda streams: streams.create("/healthz"), "RESERVED_PATH"),
        (lambda streams: streams.create("/b", forked_from="/v1/stream/__ds/a"), "RESERVED_PATH"),
        (lambda streams: streams.append("/nothing", b"1"), "STREAM_NOT_FOUND"),
    ],
)
async def test_bad_value_is_refused_with_the_code_of_http(
    streams: Streams, call: Any, code: str
) -> None:
    await streams.create("/a", JSON)
    with pytest.raises((BadRequest, NotFound)) as caught:
        await call(streams)
    assert caught.value.code == code
    assert (await streams.read("/a")).json() == []
    with pytest.raises(NotFound):
        await streams.head("/b")


async def test_registry_is_the_servers_own() -> None:
    streams = create_app(hooks=create_registry_hooks()).streams
    await streams.create("/v1/stream/a", JSON)
    assert len((await streams.read("/v1/stream/__registry__")).json()) == 1
    with pytest.raises(MethodNotAllowed):
        await streams.append("/v1/stream/__registry__", b"1")


async def test_appends_at_once_are_all_written(streams: Streams) -> None:
    await streams.create("/a")
    done = await asyncio.gather(*(streams.append("/a", b"x") for _ in range(1000)))
    assert len({each.next_offset for each in done}) == 1000
    assert (await streams.read("/a")).data == b"x" * 1000


async def test_program_that_only_appends_leaves_the_loop_its_turns(app: DurableStreamsApp) -> None:
    streams = app.streams
    await streams.create("/a", TEXT)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticker = asyncio.create_task(tick())
    for _ in range(2000):
        await streams.append("/a", b"x")
    appending, ticks = ticks, 0
    for _ in range(2000):
        await streams.read("/a", "now")
    reading, ticks = ticks, 0
    await streams.create("/b")
    for _ in range(8):
        await streams.append("/b", bytes(FOLLOW_PAGE_SIZE))
    ticks = 0
    await collect(streams.follow("/b"), 8 * FOLLOW_PAGE_SIZE)
    ticker.cancel()
    assert appending > 5
    assert reading > 5
    assert ticks > 5


# -- follow -------------------------------------------------------------------


async def test_follow_yields_what_is_there_and_what_comes_until_the_close(
    app: DurableStreamsApp,
) -> None:
    streams = app.streams
    await streams.create("/a", JSON, initial_data=b"[0]")
    found: list[Any] = []

    async def read() -> None:
        async for page in streams.follow("/a"):
            assert page.data != b"[]"
            found.extend(page.json())

    reader = asyncio.create_task(read())
    for number in range(1, 50):
        if number % 3 == 0:
            await until_waiting(app, 1)
        await streams.append("/a", b"%d" % number)
    await until_waiting(app, 1)
    await streams.close("/a")
    async with asyncio.timeout(5):
        await reader
    assert found == list(range(50))
    assert waiting(app) == 0


async def test_last_page_says_that_the_stream_is_closed(streams: Streams) -> None:
    await streams.create("/a", TEXT)
    pages = streams.follow("/a")
    await streams.append("/a", b"all", close=True)
    page = await anext(pages)
    assert (page.data, page.closed, page.up_to_date) == (b"all", True, True)
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(pages)
    assert [page async for page in streams.follow("/a", page.next_offset)] == []


async def test_follow_goes_on_from_any_offset(app: DurableStreamsApp) -> None:
    streams = app.streams
    await streams.create("/a", TEXT)
    first = await streams.append("/a", b"one")
    await streams.append("/a", b"two")
    assert await collect(streams.follow("/a", first.next_offset), 3) == b"two"
    late = asyncio.create_task(collect(streams.follow("/a", "now"), 5))
    await until_waiting(app, 1)
    await streams.append("/a", b"three")
    assert await late == b"three"


async def test_slow_loop_falls_back_to_pages_and_holds_nothing(app: DurableStreamsApp) -> None:
    streams = app.streams
    await streams.create("/a")
    pages = streams.follow("/a")
    await streams.append("/a", b"\0")
    data = (await anext(pages)).data
    for number in range(1, 40):
        await streams.append("/a", bytes([number]) * 30_000)
    assert waiting(app) == 0
    assert app.engine.sending.held == 0
    sizes = []
    async for page in pages:
        data += page.data
        sizes.append(len(page.data))
        if page.up_to_date:
            break
    assert data == b"\0" + b"".join(bytes([number]) * 30_000 for number in range(1, 40))
    assert max(sizes) <= FOLLOW_PAGE_SIZE
    assert len(sizes) >= 5


@pytest.mark.parametrize("how", ["cancel", "timeout", "break"])
async def test_loop_that_is_left_gives_everything_back(app: DurableStreamsApp, how: str) -> None:
    streams = app.streams
    await streams.create("/a", TEXT, ttl_seconds=60, initial_data=b"x")
    pages = streams.follow("/a")
    await anext(pages)
    if how == "cancel":
        task = asyncio.ensure_future(anext(pages))
        await until_waiting(app, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(pages)
    else:
        async for _ in streams.follow("/a"):
            break
    assert waiting(app) == 0
    state = app.engine.at_once("/a")
    assert state is not None
    assert state.readers == 0
    await streams.append("/a", b"y")
    assert (await anext(pages)).data == b"y"


async def test_cancelled_append_is_written_all_the_same(app: DurableStreamsApp) -> None:
    await app.streams.create("/a", TEXT)
    task = asyncio.create_task(app.streams.append("/a", b"x"))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        assert await collect(app.streams.follow("/a"), 1) == b"x"


async def test_cancelled_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app()
    slow: Ticket[Any] = Ticket()
    monkeypatch.setattr(app.engine.store, "find", lambda _: slow)
    task = asyncio.create_task(app.streams.read("/a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(Cancelled):
        slow.result()


async def test_two_tasks_cannot_wait_in_one_loop(app: DurableStreamsApp) -> None:
    await app.streams.create("/a", TEXT)
    pages = app.streams.follow("/a")
    task = asyncio.ensure_future(anext(pages))
    await until_waiting(app, 1)
    with pytest.raises(RuntimeError, match="another task"):
        await anext(pages)
    await app.streams.append("/a", b"x")
    assert (await task).data == b"x"


@pytest.mark.parametrize("forked", [False, True])
async def test_deletion_ends_a_follower(app: DurableStreamsApp, forked: bool) -> None:
    streams = app.streams
    await streams.create("/a", TEXT, initial_data=b"x")
    if forked:
        await streams.create("/b", forked_from="/a")
    waits, idles = streams.follow("/a", "now"), streams.follow("/a")
    await anext(idles)
    task = asyncio.ensure_future(anext(waits))
    await until_waiting(app, 1)
    await streams.delete("/a")
    if not forked:
        await streams.create("/a", TEXT, initial_data=b"other")  # whose bytes nobody must see
    expected = Gone if forked else NotFound
    with pytest.raises(expected):
        await task
    with pytest.raises(expected):
        await anext(idles)
    assert waiting(app) == 0


async def test_expiry_ends_a_follower_and_a_waiting_one_keeps_a_stream() -> None:
    clock = ManualClock()
    app = create_app(clock=clock)
    await app.streams.create("/a", TEXT, ttl_seconds=10)
    pages = app.streams.follow("/a")
    task = asyncio.ensure_future(anext(pages))
    await until_waiting(app, 1)
    clock.forward(60)
    await app.streams.append("/a", b"x")
    assert (await task).data == b"x"
    clock.forward(60)
    with pytest.raises(NotFound):
        await anext(pages)
    await app.stop()


async def test_missing_stream_is_told_by_the_first_step() -> None:
    pages = create_app().streams.follow("/nothing")
    with pytest.raises(NotFound):
        await anext(pages)


# -- a stop, and other loops --------------------------------------------------


async def test_stop_ends_followers_and_refuses_later_calls(app: DurableStreamsApp) -> None:
    streams = app.streams
    await streams.create("/a", TEXT, ttl_seconds=60, initial_data=b"x")
    waits, idles = streams.follow("/a", "now"), streams.follow("/a")
    await anext(idles)
    task = asyncio.ensure_future(anext(waits))
    await until_waiting(app, 1)
    app.begin_shutdown()
    with pytest.raises(Unavailable) as caught:
        await task
    assert caught.value.code == "SERVER_STOPPING"
    with pytest.raises(Unavailable):
        await anext(idles)
    await streams.close("/a", b"last words")  # the program may still finish what it writes
    assert (await streams.read("/a")).data == b"xlast words"
    await app.stop()
    for call in (streams.read("/a"), streams.append("/a", b"x"), streams.create("/b")):
        with pytest.raises(Unavailable) as caught:
            await call
        assert caught.value.code == "SERVER_STOPPING"


async def test_follower_that_a_stop_wakes_leaves_the_store_alone(app: DurableStreamsApp) -> None:
    await app.streams.create("/a", TEXT, ttl_seconds=60)
    task = asyncio.ensure_future(anext(app.streams.follow("/a")))
    await until_waiting(app, 1)
    touched: list[object] = []
    store: Any = app.engine.store
    before = store.touch
    await app.stop()
    store.touch = lambda *given: touched.append(given)
    try:
        with pytest.raises(Unavailable):
            await task
    finally:
        store.touch = before
    assert touched == []


async def test_use_on_another_loop_is_one_clear_error(app: DurableStreamsApp) -> None:
    await app.streams.create("/a", TEXT)

    async def elsewhere() -> None:
        for call in (app.streams.append("/a", b"x"), anext(app.streams.follow("/a"))):
            with pytest.raises(RuntimeError, match="event loop"):
                await call

    await asyncio.to_thread(asyncio.run, elsewhere())
    assert (await app.streams.read("/a")).data == b""


async def test_failed_disk_is_told_to_writers_and_followers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = create_app()
    await app.streams.create("/a", TEXT)
    task = asyncio.ensure_future(anext(app.streams.follow("/a")))
    await until_waiting(app, 1)
    broken = OSError("the disk is gone")
    later: Ticket[Any] = Ticket()
    monkeypatch.setattr(app.engine.store, "execute", lambda *_: later)
    write = asyncio.ensure_future(app.streams.append("/a", b"x"))
    await asyncio.sleep(0)
    app.engine._store_failed(broken)
    later.fail(Abandoned(broken))
    for each in (task, write):
        with pytest.raises(OSError, match="the disk is gone"):
            await each


async def test_nothing_is_left_of_many_followers(app: DurableStreamsApp) -> None:
    streams = app.streams
    await streams.create("/a", TEXT)

    async def one() -> bytes:
        return await collect(streams.follow("/a"), 3)

    tasks = [asyncio.create_task(one()) for _ in range(200)]
    await until_waiting(app, 200)
    await streams.append("/a", b"all")
    assert await asyncio.gather(*tasks) == [b"all"] * 200
    gc.collect()
    assert waiting(app) == 0


# -- types --------------------------------------------------------------------

WRONG = {
    "path": 5,
    "content_type": 5,
    "data": "text",
    "initial_data": 5,
    "offset": 5,
    "seq": b"a",
    "producer_id": b"p",
    "producer_epoch": "1",
    "producer_seq": 1.0,
    "expected_offset": 7,
    "close": 1,
    "closed": "yes",
    "ttl_seconds": True,
    "expires_at": "2030-01-01T00:00:00Z",
    "forked_from": 5,
    "fork_offset": 5,
    "fork_sub_offset": None,
}
METHODS = ["append", "close", "create", "delete", "follow", "head", "read"]


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        (method, argument)
        for method in METHODS
        for argument in inspect.signature(getattr(Streams, method)).parameters
        if argument != "self"
    ],
)
async def test_argument_of_wrong_type_is_refused_by_name(method: str, argument: str) -> None:
    app = create_app()
    given = {"path": "/new" if method == "create" else "/a", argument: WRONG[argument]}
    await app.streams.create("/a", TEXT)

    async def call() -> None:
        outcome = getattr(app.streams, method)(**given)
        await (anext(outcome) if method == "follow" else outcome)

    with pytest.raises(TypeError, match=argument):
        await call()
    head = await app.streams.head("/a")
    assert (head.next_offset[-3:], head.closed) == ("000", False)
    with pytest.raises(NotFound):
        await app.streams.head("/new")

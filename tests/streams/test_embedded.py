"""`Streams`: a program reads and writes the streams of an application that it runs itself."""

import asyncio
import contextlib
import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_streams_server import (
    BadRequest,
    Conflict,
    DurableStreamsApp,
    Gone,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    ProducerFenced,
    SequenceGap,
    StreamClosed,
    create_app,
    create_registry_hooks,
)
from durable_streams_server.protocol.limits import FOLLOW_PAGE_SIZE
from durable_streams_server.protocol.units import MIB
from durable_streams_server.storage.ticket import Cancelled, Ticket
from durable_streams_server.streams.embedded import Streams
from tests.http.asgi_driver import request
from tests.streams.followers import collect

JSON = "application/json"
TEXT = "text/plain"


async def test_streams_work_before_first_request(streams: Streams) -> None:
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


async def test_http_and_program_see_same_streams(app: DurableStreamsApp) -> None:
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


async def test_paths_in_mounted_application_are_relative_to_mount(
    app: DurableStreamsApp,
) -> None:
    await request(app, "PUT", "/streams/a", {"content-type": TEXT}, b"x", root_path="/streams")
    assert (await app.streams.read("/a")).data == b"x"
    with pytest.raises(NotFound):
        await app.streams.read("/streams/a")


async def test_json_values_keep_bytes_and_exact_numbers(streams: Streams) -> None:
    await streams.create("/a", JSON, initial_data=b"[1,[2]]")
    await streams.append("/a", b'[123456789012345678901234567890, "\\ud83d"]')
    page = await streams.read("/a")
    assert page.data == b'[1,[2],123456789012345678901234567890,"\\ud83d"]'
    assert page.json() == [1, [2], 123456789012345678901234567890, "\ud83d"]
    assert (await streams.read("/a", "now")).json() == []
    await streams.create("/b", TEXT)
    with pytest.raises(ValueError, match="text/plain"):
        (await streams.read("/b")).json()


async def test_large_json_body_is_split_and_read_in_pages(app: DurableStreamsApp) -> None:
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


async def test_read_returns_at_most_one_page(streams: Streams) -> None:
    await streams.create("/a")
    for _ in range(5):
        await streams.append("/a", bytes(MIB))
    page = await streams.read("/a")
    assert (len(page.data), page.up_to_date) == (4 * MIB, False)
    rest = await streams.read("/a", page.next_offset)
    assert (len(rest.data), rest.up_to_date) == (MIB, True)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_data_may_be_any_bytes_like_object(streams: Streams, kind: Any) -> None:
    await streams.create("/a", initial_data=kind(b"x"))
    await streams.append("/a", kind(b"y"))
    assert (await streams.read("/a")).data == b"xy"


async def test_head_returns_properties_of_stream(streams: Streams) -> None:
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
    assert (head.content_type, head.closed, head.public) == (
        "application/octet-stream",
        True,
        False,
    )
    assert (head.next_offset, head.expires_at) == (made.next_offset, deadline.isoformat())


async def test_public_stream_is_created(streams: Streams) -> None:
    await streams.create("/a", JSON, public=True)
    assert (await streams.head("/a")).public
    assert not (await streams.create("/a", JSON, public=True)).created
    with pytest.raises(Conflict):
        await streams.create("/a", JSON)
    await streams.create("/b", forked_from="/a")
    assert not (await streams.head("/b")).public


async def test_create_confirms_same_configuration_and_refuses_another(
    streams: Streams,
) -> None:
    assert (await streams.create("/a", TEXT)).created
    assert not (await streams.create("/a", TEXT)).created
    with pytest.raises(Conflict):
        await streams.create("/a", JSON)


async def test_fork_begins_with_bytes_of_source(streams: Streams) -> None:
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


async def test_deleted_stream_is_not_found(streams: Streams) -> None:
    made = await streams.create("/a")
    await streams.delete("/a")
    for call in (streams.delete("/a"), streams.read("/a"), streams.append("/a", b"x")):
        with pytest.raises(NotFound):
            await call
    await streams.create("/a")
    with pytest.raises(Gone):
        await streams.read("/a", made.next_offset)


async def test_repeated_producer_append_is_written_once(streams: Streams) -> None:
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


async def test_append_with_wrong_expected_offset_or_seq_is_refused(streams: Streams) -> None:
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
async def test_malformed_argument_is_refused_with_error_code_of_http(
    streams: Streams, call: Any, code: str
) -> None:
    await streams.create("/a", JSON)
    with pytest.raises((BadRequest, NotFound)) as caught:
        await call(streams)
    assert caught.value.code == code
    assert (await streams.read("/a")).json() == []
    with pytest.raises(NotFound):
        await streams.head("/b")


async def test_append_to_registry_is_refused() -> None:
    streams = create_app(hooks=create_registry_hooks()).streams
    await streams.create("/v1/stream/a", JSON)
    assert len((await streams.read("/v1/stream/__registry__")).json()) == 1
    with pytest.raises(MethodNotAllowed):
        await streams.append("/v1/stream/__registry__", b"1")


async def test_concurrent_appends_are_all_written(streams: Streams) -> None:
    await streams.create("/a")
    done = await asyncio.gather(*(streams.append("/a", b"x") for _ in range(1000)))
    assert len({each.next_offset for each in done}) == 1000
    assert (await streams.read("/a")).data == b"x" * 1000


async def test_busy_program_lets_other_tasks_run(app: DurableStreamsApp) -> None:
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


async def test_cancelled_append_is_still_written(app: DurableStreamsApp) -> None:
    await app.streams.create("/a", TEXT)
    task = asyncio.create_task(app.streams.append("/a", b"x"))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        assert await collect(app.streams.follow("/a"), 1) == b"x"


async def test_cancelled_read_cancels_its_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_use_on_another_loop_raises_runtime_error(app: DurableStreamsApp) -> None:
    await app.streams.create("/a", TEXT)

    async def elsewhere() -> None:
        for call in (app.streams.append("/a", b"x"), anext(app.streams.follow("/a"))):
            with pytest.raises(RuntimeError, match="event loop"):
                await call

    await asyncio.to_thread(asyncio.run, elsewhere())
    assert (await app.streams.read("/a")).data == b""


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
    "public": "yes",
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
async def test_streams_method_refuses_argument_of_wrong_type_by_name(
    method: str, argument: str
) -> None:
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

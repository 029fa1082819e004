"""`Follower`: an iterator over the pages of a stream that waits for more at the tail."""

import asyncio
import gc
from typing import Any

import pytest

from durable_streams_server import (
    DurableStreamsApp,
    Gone,
    NotFound,
    Streams,
    Unavailable,
    create_app,
)
from durable_streams_server.protocol.limits import FOLLOW_PAGE_SIZE
from durable_streams_server.storage.ticket import Abandoned, Ticket
from tests.streams.engines import ManualClock
from tests.streams.followers import collect, until_waiting, waiting

JSON = "application/json"
TEXT = "text/plain"


async def test_follow_yields_existing_and_new_data_until_close(
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


async def test_last_page_of_closed_stream_reports_closure(streams: Streams) -> None:
    await streams.create("/a", TEXT)
    pages = streams.follow("/a")
    await streams.append("/a", b"all", close=True)
    page = await anext(pages)
    assert (page.data, page.closed, page.up_to_date) == (b"all", True, True)
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(pages)
    assert [page async for page in streams.follow("/a", page.next_offset)] == []


async def test_follow_starts_at_any_offset(app: DurableStreamsApp) -> None:
    streams = app.streams
    await streams.create("/a", TEXT)
    first = await streams.append("/a", b"one")
    await streams.append("/a", b"two")
    assert await collect(streams.follow("/a", first.next_offset), 3) == b"two"
    late = asyncio.create_task(collect(streams.follow("/a", "now"), 5))
    await until_waiting(app, 1)
    await streams.append("/a", b"three")
    assert await late == b"three"


async def test_slow_follower_uses_no_send_buffer_budget(app: DurableStreamsApp) -> None:
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
async def test_abandoned_follower_is_removed_from_waiting_readers(
    app: DurableStreamsApp, how: str
) -> None:
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
    state = app.engine.find_loaded("/a")
    assert state is not None
    assert state.readers == 0
    await streams.append("/a", b"y")
    assert (await anext(pages)).data == b"y"


async def test_second_task_waiting_on_same_follower_is_refused(app: DurableStreamsApp) -> None:
    await app.streams.create("/a", TEXT)
    pages = app.streams.follow("/a")
    task = asyncio.ensure_future(anext(pages))
    await until_waiting(app, 1)
    with pytest.raises(RuntimeError, match="another task"):
        await anext(pages)
    await app.streams.append("/a", b"x")
    assert (await task).data == b"x"


@pytest.mark.parametrize("forked", [False, True])
async def test_deletion_ends_follower(app: DurableStreamsApp, forked: bool) -> None:
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
        await streams.create(
            "/a", TEXT, initial_data=b"other"
        )  # the follower must not see these bytes
    expected = Gone if forked else NotFound
    with pytest.raises(expected):
        await task
    with pytest.raises(expected):
        await anext(idles)
    assert waiting(app) == 0


async def test_stream_does_not_expire_while_follower_waits() -> None:
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


async def test_first_page_of_missing_stream_raises_not_found() -> None:
    pages = create_app().streams.follow("/nothing")
    with pytest.raises(NotFound):
        await anext(pages)


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
    await streams.close("/a", b"last words")  # the program may still finish its writes
    assert (await streams.read("/a")).data == b"xlast words"
    await app.stop()
    for call in (streams.read("/a"), streams.append("/a", b"x"), streams.create("/b")):
        with pytest.raises(Unavailable) as caught:
            await call
        assert caught.value.code == "SERVER_STOPPING"


async def test_follower_woken_by_stop_does_not_touch_store(app: DurableStreamsApp) -> None:
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


async def test_disk_failure_reaches_writers_and_followers(
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


async def test_ended_followers_are_removed_from_waiting_readers(app: DurableStreamsApp) -> None:
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

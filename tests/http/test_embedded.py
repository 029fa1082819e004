"""`DurableStreamTestServer`: a server on the caller's event loop or on a thread."""

import asyncio
import socket
import time
from pathlib import Path

import httpx
import pytest

from durable_streams_server import (
    CursorOptions,
    DurableStreamTestServer,
    FileBackedStreamStore,
    StreamLifecycleEvent,
    StreamStore,
)

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


async def test_server_runs_on_the_event_loop_of_the_caller() -> None:
    async with DurableStreamTestServer() as server:
        assert server.base_url == f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            assert (await http.put(A, headers=TEXT)).headers["location"] == server.base_url + A


async def test_program_and_clients_share_the_streams() -> None:
    async with DurableStreamTestServer() as server:
        await server.streams.create(A, "text/plain")
        await server.streams.append(A, b"hello")
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            assert (await http.get(A)).text == "hello"
            await http.post(A, content="!", headers=TEXT)
        assert (await server.streams.read(A)).text() == "hello!"


async def test_streams_of_a_threaded_server_raise_on_another_event_loop() -> None:
    with DurableStreamTestServer() as server, pytest.raises(RuntimeError, match="event loop"):
        await server.streams.create(A)


def test_server_runs_on_a_thread_for_synchronous_code() -> None:
    store = StreamStore()
    with DurableStreamTestServer(store=store) as server:
        assert httpx.put(server.base_url + A, headers=TEXT).status_code == 201
        store.append(A, b"hello")
        url = server.base_url + A
        assert httpx.get(url).text == "hello"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_server_serves_a_file_store(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path, segment_size=1 << 20) as store:
        with DurableStreamTestServer(store=store) as server:
            httpx.put(server.base_url + A, headers=TEXT)
            store.append(A, b"hello")
            assert httpx.get(server.base_url + A).text == "hello"
        store.append(A, b"!")
    with FileBackedStreamStore(tmp_path, segment_size=1 << 20) as store:
        assert store.read(A).data == b"hello!"


@pytest.mark.parametrize("cors", [None, True, False])
def test_any_origin_may_call_a_test_server_unless_cors_is_false(
    cors: bool | None,
) -> None:
    made = DurableStreamTestServer() if cors is None else DurableStreamTestServer(cors=cors)
    with made as server:
        answer = httpx.get(server.base_url + A)
    assert answer.headers.get("access-control-allow-origin") == (None if cors is False else "*")


def test_port_of_a_stopped_server_raises() -> None:
    server = DurableStreamTestServer()
    with pytest.raises(RuntimeError, match="not running"):
        server.port  # noqa: B018  # the property raises


async def test_second_start_raises_and_second_stop_does_nothing() -> None:
    server = DurableStreamTestServer()
    await server.start()
    with pytest.raises(RuntimeError, match="already running"):
        await server.start()
    await server.stop()
    await server.stop()


async def test_server_can_start_again_after_a_stop() -> None:
    server = DurableStreamTestServer()
    for status in (201, 200):
        async with server, httpx.AsyncClient(base_url=server.base_url) as http:
            assert (await http.put(A, headers=TEXT)).status_code == status


def test_server_serves_streams_created_on_another_loop() -> None:
    server = DurableStreamTestServer()
    asyncio.run(server.streams.create(A, "text/plain"))
    for text in ("x", "xx"):
        with server:
            assert httpx.post(server.base_url + A, content="x", headers=TEXT).status_code == 204
            assert httpx.get(server.base_url + A).text == text


async def test_start_raises_while_another_loop_uses_the_streams() -> None:
    server = DurableStreamTestServer()
    await server.streams.create(A)
    with pytest.raises(RuntimeError, match="another event loop"):
        await asyncio.to_thread(server.__enter__)
    async with server:  # on the loop that uses the streams
        assert await server.streams.head(A)


async def test_port_in_use_raises_oserror() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await DurableStreamTestServer(port).start()
        with pytest.raises(OSError, match="in use"), DurableStreamTestServer(port):
            pass


async def test_stop_ends_live_reads_within_a_second() -> None:  # TRAPS 36, 48
    server = DurableStreamTestServer()
    await server.start()
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        await http.put(A, headers=TEXT)
        async with http.stream("GET", f"{A}?offset=-1&live=sse") as events:
            pieces = events.aiter_bytes()
            await anext(pieces)
            began = time.monotonic()
            await server.stop()
            assert time.monotonic() - began < 1
            rest = b"".join([piece async for piece in pieces])
            assert b"event: control" in rest


async def test_options_take_effect() -> None:
    events: list[StreamLifecycleEvent] = []
    options = CursorOptions(interval_seconds=10**12)
    async with (
        DurableStreamTestServer(
            hooks=[events.append], cors=False, cursor_options=options, long_poll_timeout=0.01
        ) as server,
        httpx.AsyncClient(base_url=server.base_url) as http,
    ):
        made = await http.put(A, headers=TEXT)
        poll = await http.get(f"{A}?offset=now&live=long-poll")
    assert "access-control-allow-origin" not in made.headers
    assert poll.headers["stream-cursor"] == "0"
    assert [event.path for event in events] == [A]


async def test_two_servers_share_nothing() -> None:
    async with (
        DurableStreamTestServer() as first,
        DurableStreamTestServer() as second,
        httpx.AsyncClient() as http,
    ):
        await http.put(first.base_url + A, headers=TEXT)
        assert (await http.head(second.base_url + A)).status_code == 404

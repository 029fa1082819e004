"""Reads accept an offset one past the end of an append, which the official Yjs client sends, and no other offset inside an append."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from durable_streams_server import DurableStreamTestServer, FileBackedStreamStore, StreamStore
from tests.protocol.test_sse import parse

URL = "/v1/stream/doc"
OCTETS = {"content-type": "application/octet-stream"}
FIRST, SECOND = b"a" * 10, b"b" * 10


@pytest.fixture(params=["memory", "files"])
async def http(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Returns a client of a server whose binary stream holds two appends."""
    is_memory = request.param == "memory"
    store = StreamStore() if is_memory else FileBackedStreamStore(tmp_path)
    server = DurableStreamTestServer(store=store, long_poll_timeout=0.05)
    async with server, httpx.AsyncClient(base_url=server.base_url) as client:
        await client.put(URL, headers=OCTETS, content=FIRST)
        await client.post(URL, headers=OCTETS, content=SECOND)
        yield client
    store.close()


async def offset(http: httpx.AsyncClient, past: int, url: str = URL) -> str:
    """Returns the offset `past` bytes past the tail, computed from the offset that HEAD returns."""
    tail = (await http.head(url)).headers["stream-next-offset"]
    incarnation, _, position = tail.partition("_")
    return f"{incarnation}_{int(position) + past:016d}"


async def live(http: httpx.AsyncClient, where: str, url: str = URL) -> list[tuple[str, str, str]]:
    """Returns the events of an event stream up to the first control event that says up-to-date."""
    query = {"offset": where, "live": "sse"}
    received = b""
    async with http.stream("GET", url, params=query) as response:
        async for part in response.aiter_bytes():
            received += part
            if b"upToDate" in received:
                return parse(received)
    raise AssertionError(received)


async def test_read_one_byte_past_an_append_returns_the_next_append(
    http: httpx.AsyncClient,
) -> None:
    between = await offset(http, 1 - len(SECOND))
    for query in ({"offset": between}, {"offset": between, "live": "long-poll"}):
        response = await http.get(URL, params=query)
        assert (response.status_code, response.content) == (200, SECOND)
        assert response.headers["stream-next-offset"] == await offset(http, 0)
    (_, data, identity), _ = await live(http, between)
    assert (base64.b64decode(data), identity) == (SECOND, await offset(http, 0))


async def test_read_one_byte_past_the_tail_is_empty_and_up_to_date(http: httpx.AsyncClient) -> None:
    beyond, tail = await offset(http, 1), await offset(http, 0)
    response = await http.get(URL, params={"offset": beyond})
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["stream-up-to-date"] == "true"
    assert response.headers["stream-next-offset"] == tail
    response = await http.get(URL, params={"offset": beyond, "live": "long-poll"})
    assert (response.status_code, response.headers["stream-next-offset"]) == (204, tail)
    ((kind, _, identity),) = await live(http, beyond)
    assert (kind, identity) == ("control", tail)
    await http.post(URL, headers=OCTETS, content=b"next")
    assert (await http.get(URL, params={"offset": beyond})).content == b"next"


@pytest.mark.parametrize("past", [2, -5, 2 - len(SECOND)])
async def test_read_from_any_other_offset_inside_an_append_returns_400(
    http: httpx.AsyncClient, past: int
) -> None:
    where = await offset(http, past)
    for mode in ({}, {"live": "long-poll"}, {"live": "sse"}):
        response = await http.get(URL, params={"offset": where, **mode})
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "INVALID_OFFSET"


async def test_fork_accepts_an_offset_one_byte_past_an_append(http: httpx.AsyncClient) -> None:
    fork = URL + "-fork"
    headers = {"stream-forked-from": URL, "stream-fork-offset": await offset(http, 1 - len(SECOND))}
    assert (await http.put(fork, headers=headers)).status_code == 201
    beyond = await offset(http, 1, fork)
    assert (await http.get(fork, params={"offset": "-1"})).content == FIRST
    assert (await http.get(fork, params={"offset": beyond})).content == b""
    await http.post(fork, headers=OCTETS, content=b"own")
    assert (await http.get(fork, params={"offset": beyond})).content == b"own"
    assert (await http.get(fork, params={"offset": await offset(http, 1, fork)})).content == b""


async def test_event_stream_sends_text_that_is_not_utf8_in_base64(
    http: httpx.AsyncClient,
) -> None:
    url, sent = "/v1/stream/latin", "caf\xe9\r\n".encode("latin-1")
    media = {"content-type": "text/plain; charset=iso-8859-1"}
    await http.put(url, headers=media, content=sent)
    async with http.stream("GET", url, params={"offset": "-1", "live": "sse"}) as response:
        assert response.headers["stream-sse-data-encoding"] == "base64"
    (_, data, _), _ = await live(http, "-1", url)
    assert base64.b64decode(data) == sent

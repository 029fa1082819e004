"""The official Python client, synchronous and asynchronous, works with the server.

Release 0.1.0 has neither idempotent producers nor `close`. The tests use both through additional headers. The tests pass an offset to each
live read, because the protocol requires one and the client sends none by default (PROTOCOL 5.7).
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from durable_streams import (
    AsyncDurableStream,
    DurableStream,
    DurableStreamError,
    SeqConflictError,
    StreamExistsError,
    StreamNotFoundError,
    astream,
    stream,
)

from durable_streams_server import DurableStreamTestServer, StreamStore

JSON = "application/json"


@pytest.fixture
def server() -> Iterator[DurableStreamTestServer]:
    with DurableStreamTestServer(long_poll_timeout=0.5, sse_max_age=5) as running:
        yield running


@pytest.fixture
def url(server: DurableStreamTestServer) -> str:
    return server.base_url + "/v1/stream/a"


def close(url: str, last: object) -> None:
    """Closes a stream with a last JSON value."""
    headers: dict[str, str | Callable[[], str]] = {"Stream-Closed": "true"}
    with DurableStream(url, content_type=JSON, headers=headers, batching=False) as handle:
        handle.append(last)


def test_client_creates_appends_and_reads(url: str) -> None:
    with DurableStream.create(url, content_type="text/plain") as handle:
        first = handle.append("hello")
        handle.append(" world")
    with stream(url, live=False) as response:
        assert response.read_text() == "hello world"
    with stream(url, offset=first.next_offset, live=False) as response:
        assert response.read_bytes() == b" world"


def test_client_reads_json_values_one_by_one(url: str) -> None:
    with DurableStream.create(url, content_type=JSON) as handle:
        for number in range(5):
            handle.append({"n": number})
    with stream(url, live=False) as response:
        assert [item["n"] for item in response.iter_json()] == [0, 1, 2, 3, 4]


def test_client_reads_head_and_reports_conflict_and_missing_stream(url: str) -> None:
    with DurableStream.create(url, content_type=JSON, ttl_seconds=60) as handle:
        assert handle.head().content_type == JSON
        with pytest.raises(StreamExistsError):
            DurableStream.create(url, content_type="text/plain").close()
        handle.delete()
        with pytest.raises(StreamNotFoundError):
            handle.head()


@pytest.mark.parametrize("live", ["long-poll", "sse"])
def test_client_follows_a_stream_with_live_reads(url: str, live: Any) -> None:
    with DurableStream.create(url, content_type=JSON) as handle, ThreadPoolExecutor() as pool:
        handle.append({"n": 0})
        began = threading.Event()
        seen: list[int] = []

        def follow() -> None:
            with stream(url, offset="-1", live=live) as response:
                for item in response.iter_json():
                    seen.append(item["n"])
                    began.set()
                    if len(seen) == 4:
                        return

        following = pool.submit(follow)
        assert began.wait(5)
        for number in (1, 2, 3):
            handle.append({"n": number})
        following.result(5)
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("live", [False, "long-poll", "sse"])
def test_client_reads_closed_stream_to_its_end(url: str, live: Any) -> None:
    DurableStream.create(url, content_type=JSON).close()
    close(url, {"n": 1})
    with stream(url, offset="-1", live=live) as response:
        first = next(iter(response.iter_json()))
        assert first == {"n": 1}
    with (
        DurableStream(url, content_type=JSON, batching=False) as handle,
        pytest.raises((DurableStreamError, SeqConflictError)),
    ):
        handle.append({"n": 2})


def test_repeated_producer_append_is_written_once(url: str) -> None:
    DurableStream.create(url, content_type="text/plain").close()
    for seq, repeats in ((0, 3), (1, 2), (2, 1)):
        stamp: dict[str, str | Callable[[], str]] = {"Producer-Id": "p", "Producer-Epoch": "0"}
        stamp["Producer-Seq"] = str(seq)
        with DurableStream(url, content_type="text/plain", headers=stamp, batching=False) as handle:
            for _ in range(repeats):
                handle.append(str(seq))
    with stream(url, live=False) as response:
        assert response.read_text() == "012"


def test_append_conflicts_unless_its_stream_seq_increases(url: str) -> None:
    with DurableStream.create(url, content_type="text/plain", batching=False) as handle:
        handle.append("x", seq="2")
        with pytest.raises(SeqConflictError):
            handle.append("y", seq="1")


def test_concurrent_writers_lose_no_value(url: str) -> None:
    with DurableStream.create(url, content_type=JSON) as handle, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: handle.append({"n": number}), range(200)))
    with stream(url, live=False) as response:
        assert sorted(item["n"] for item in response.read_json()) == list(range(200))


async def test_asynchronous_client_appends_and_follows() -> None:
    store = StreamStore()
    async with DurableStreamTestServer(store=store, long_poll_timeout=0.5) as server:
        url = server.base_url + "/v1/stream/a"
        async with await AsyncDurableStream.create(url, content_type=JSON) as handle:
            await handle.append({"n": 0})
            assert (await handle.head()).content_type == JSON
            for live in ("long-poll", "sse"):
                seen = []
                async with astream(url, offset="-1", live=live) as response:
                    async for item in response.iter_json():
                        seen.append(item["n"])
                        if len(seen) == 1:
                            await handle.append({"n": 1})
                        if len(seen) == 2:
                            break
                assert seen == [0, 1]
            async with astream(url, live=False) as response:
                assert [item["n"] for item in await response.read_json()] == [0, 1, 1]
            await handle.delete()
            assert not store.has("/v1/stream/a")

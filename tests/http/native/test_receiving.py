"""Backpressure on the clients of a native connection."""

import tracemalloc

from durable_streams_server import StreamStore
from durable_streams_server.http.native.lane import Lane
from tests.http.native.connections import CHUNKED, GET, A
from tests.http.socket_driver import (
    KERNEL,
    Client,
    HeldStore,
    post,
    request,
    run_turns,
    run_until_idle,
)


async def test_server_pauses_reading_while_pipelined_requests_wait(
    held_lane: Lane, held_store: HeldStore
) -> None:
    client = Client(held_lane)
    for _ in range(10):
        client.send(post() * 2)
    assert client.wire.paused
    assert len(client.connection._queue) == 1
    for _ in range(20):
        held_store.release_append()
        await run_turns()
    assert len(client.answers(*["POST"] * 20)) == 20
    assert not client.wire.paused


async def test_server_pauses_reading_from_client_that_reads_no_responses(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"x" * KERNEL)
    client = Client(lane)
    client.stop_reading()
    for _ in range(50):
        client.send(GET * 2)
    assert len(client.wire._unsent) < 3 * KERNEL
    assert len(client.connection._queue) < 3
    assert client.wire.paused
    while len(client.wire.received) < 100 * KERNEL:
        client.stop_reading()
        client.resume_reading()
        await run_turns(1)
    assert len(client.answers(*["GET"] * 100)) == 100


async def test_body_in_small_chunks_needs_memory_proportional_to_its_size(lane: Lane) -> None:
    client = Client(lane).send(request("POST", A, *CHUNKED))
    piece = b"2\r\nab\r\n" * 8192
    tracemalloc.start()
    try:
        for _ in range(32):
            client.send(piece)
            await run_until_idle(lane)
        assert tracemalloc.get_traced_memory()[0] < 4 * 32 * 16384
    finally:
        tracemalloc.stop()
    client.send(b"0\r\n\r\n")
    assert [answer.status for answer in client.answers("POST")] == [204]

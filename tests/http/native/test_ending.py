"""The end of native connections, caused by the client or by the server."""

import gc

import pytest

from durable_streams_server import StreamStore
from durable_streams_server.http.native.connection import Connection
from durable_streams_server.http.native.lane import Lane
from tests.http.native.connections import GET, POLL, SSE, A, advance, data_of
from tests.http.socket_driver import (
    Client,
    HeldStore,
    post,
    request,
    run_turns,
    until,
)


async def test_connection_close_ends_connection_after_response(
    lane: Lane, store: StreamStore
) -> None:
    client = Client(lane).send(post(b"x", "Connection: close"))
    (answer,) = client.answers("POST")
    assert answer.headers["connection"] == "close"
    assert client.is_ended
    assert not client.wire.lost  # the client may still read
    client.half_close()
    assert client.wire.lost


async def test_requests_after_one_with_connection_close_are_ignored(
    lane: Lane, store: StreamStore
) -> None:
    for first in (
        post(b"1", "Connection: close"),
        post(b"1").replace(b"HTTP/1.1", b"HTTP/1.0\r\nConnection: keep-alive"),
    ):
        for second in (post(b"2"), b"garbage\r\n\r\n", GET, b"\x00"):
            client = Client(lane).send(first + second)
            assert [answer.status for answer in client.answers("POST", "GET")] == [204]
            assert client.is_ended
    assert data_of(store) == b"1" * 8


async def test_requests_after_a_slow_one_with_connection_close_are_ignored(
    held_lane: Lane, held_store: HeldStore
) -> None:
    client = Client(held_lane).send(post(b"1", "Connection: close")).send(post(b"2") + b"garbage")
    held_store.release_append()
    assert len(client.answers("POST", "POST")) == 1
    assert held_store.held == []


async def test_half_closed_client_gets_its_responses(
    held_lane: Lane, held_store: HeldStore
) -> None:
    client = Client(held_lane).send(post(b"1") + GET)
    client.half_close()
    assert not client.is_ended
    held_store.release_append()
    first, second = client.answers("POST", "GET")
    assert (first.status, second.body) == (204, b"1")
    await run_turns()
    assert client.wire.lost


async def test_connection_is_closed_when_client_half_closes_within_request(
    lane: Lane, store: StreamStore
) -> None:
    for cut in (1, 20, len(post()) - 1):
        client = Client(lane).send(post()[:cut])
        client.half_close()
        assert client.wire.lost
        assert client.read() == b""
    assert data_of(store) == b""


async def test_live_read_ends_when_client_half_closes(lane: Lane) -> None:
    poll, sse = Client(lane).send(POLL), Client(lane).send(SSE)
    assert len(lane.app.engine.tails) == 2
    poll.half_close()
    sse.half_close()
    await run_turns()
    assert len(lane.app.engine.tails) == 0
    assert poll.wire.lost
    assert poll.read() == b""
    (answer,) = sse.answers("GET")
    assert answer.body.count(b"event: control") == 2


async def test_live_read_ends_when_client_half_closed_before_it_began(
    held_lane: Lane, held_store: HeldStore
) -> None:
    for live in (POLL, SSE):
        client = Client(held_lane).send(post(b"1") + live)
        client.half_close()
        held_store.release_append()
        await run_turns()
        assert client.wire.lost
        assert client.read().startswith(b"HTTP/1.1 204")
        assert len(held_lane.app.engine.tails) == 0


@pytest.mark.parametrize("live", [POLL, SSE])
async def test_live_read_is_removed_from_the_engine_when_its_client_leaves(
    lane: Lane, live: bytes
) -> None:
    client = Client(lane).send(live)
    assert len(lane.app.engine.tails) == 1
    client.reset()
    await run_turns()
    assert len(lane.app.engine.tails) == 0


async def test_append_completes_after_client_leaves(held_lane: Lane, held_store: HeldStore) -> None:
    client = Client(held_lane).send(post(b"1") + post(b"2"))
    client.reset()
    await run_turns()
    assert held_lane.budget.held == 1  # the byte of the append that is being written
    held_store.release_append()
    assert held_store.held == []
    assert data_of(held_store) == b"1"


async def test_lost_connection_is_freed_without_garbage_collector(lane: Lane) -> None:
    gc.collect()
    gc.disable()
    try:
        for sent in (b"", GET, GET[:5], post()[:-1], SSE):
            client = Client(lane).send(sent)
            client.reset()
            await run_turns()
            client.wire.connection = None  # breaks a reference cycle of the test
        del client
        assert not [found for found in gc.get_objects() if isinstance(found, Connection)]
    finally:
        gc.enable()


async def test_stop_closes_idle_connections_and_completes_appends(
    held_lane: Lane, held_store: HeldStore
) -> None:  # TRAPS 48
    idle, busy = Client(held_lane), Client(held_lane).send(post(b"1") + post(b"2"))
    half = Client(held_lane).send(post()[:-1])
    for client in (idle, busy, half):
        client.connection.shutdown()
    assert idle.wire.lost
    assert half.wire.lost
    assert not busy.is_ended
    held_store.release_append()
    (answer,) = busy.answers("POST", "POST")
    assert answer.headers["connection"] == "close"
    assert busy.is_ended
    assert held_store.held == []


async def test_stop_ends_live_reads_cleanly(lane: Lane) -> None:  # TRAPS 36, 48
    poll, sse = Client(lane).send(POLL), Client(lane).send(SSE)
    for client in (poll, sse):
        client.connection.shutdown()
    lane.app.begin_shutdown()
    await run_turns()
    assert poll.answers("GET")[0].status == 204
    assert sse.answers("GET")[0].body.count(b"event: control") == 2
    assert poll.is_ended
    assert sse.is_ended


async def test_retired_connection_closes_after_its_next_response(
    lane: Lane, store: StreamStore
) -> None:
    client = Client(lane).send(post(b"1"))
    assert "connection" not in client.answers("POST")[0].headers
    client.connection.retire()
    await run_turns()
    assert not client.is_ended  # an idle client may already have sent its next request
    client.send(post(b"2"))
    (answer,) = client.answers("POST")
    assert (answer.status, answer.headers["connection"]) == (204, "close")
    assert client.is_ended
    assert data_of(store) == b"12"


async def test_long_poll_that_a_drain_ends_closes_its_connection(lane: Lane) -> None:
    client = Client(lane).send(POLL)
    lane.app.begin_drain(0.01)
    await until(lambda: bool(client.wire.received))
    (answer,) = client.answers("GET")
    assert (answer.status, answer.headers["connection"]) == (204, "close")
    assert client.is_ended


async def test_event_stream_that_a_drain_ends_closes_its_retired_connection(lane: Lane) -> None:
    client = Client(lane).send(SSE)
    assert client.connection.has_events
    client.connection.retire()
    lane.app.begin_drain(0.01)
    await until(lambda: client.is_ended)
    (answer,) = client.answers("GET")
    assert answer.body.count(b"event: control") == 2


async def test_only_a_connection_whose_write_is_not_durable_is_writing(
    held_lane: Lane, held_store: HeldStore
) -> None:
    polls, writes = Client(held_lane).send(POLL), Client(held_lane)
    assert not writes.connection.is_writing
    writes.send(post(b"1"))
    assert writes.connection.is_writing
    assert not polls.connection.is_writing
    held_store.release_append()
    assert not writes.connection.is_writing
    polls.reset()


async def test_connections_have_different_keys_that_stay_the_same(lane: Lane) -> None:
    first, second = Client(lane), Client(lane)
    key = first.connection.key
    assert key != second.connection.key
    first.send(GET)
    assert first.connection.key == key


async def test_tls_connection_cannot_be_half_closed(held_lane: Lane, held_store: HeldStore) -> None:
    client = Client(held_lane, tls=True).send(post(b"1"))
    client.half_close()
    assert client.wire.lost
    await run_turns()
    held_store.release_append()
    assert data_of(held_store) == b"1"


async def test_tls_connection_is_closed_after_last_response_is_read(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"x" * 10_000)
    client = Client(lane, tls=True)
    client.stop_reading()
    client.send(request("GET", A, "Connection: close"))
    advance(lane, 29)
    assert not client.wire.lost
    advance(lane, 1)
    assert client.wire.aborted

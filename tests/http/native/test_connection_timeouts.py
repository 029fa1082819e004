"""The time limits of each phase of a native connection."""

from durable_streams_server import StreamStore
from durable_streams_server.http.native.lane import Lane
from tests.http.native.connections import GET, POLL, SSE, A, advance, assert_timed_out, data_of
from tests.http.socket_driver import (
    Client,
    HeldStore,
    post,
    request,
    run_turns,
    run_until_idle,
)


async def test_idle_connection_is_closed_after_idle_timeout(lane: Lane) -> None:  # TRAPS 52
    client = Client(lane)
    advance(lane, 74)
    client.send(GET)
    advance(lane, 74)
    assert not client.wire.lost
    advance(lane, 1)
    assert client.wire.lost


async def test_head_timeout_starts_at_first_octet(lane: Lane) -> None:
    client = Client(lane).send(GET[:5])
    advance(lane, 9)
    client.send(GET[5:10])
    assert client.read() == b""
    advance(lane, 1)
    assert_timed_out(lane, client)


async def test_body_timeout_restarts_with_each_octet(lane: Lane, store: StreamStore) -> None:
    lane.least_rate = 0
    client = Client(lane).send(post(b"abc")[:-3])
    advance(lane, 19)
    client.send(b"a")
    advance(lane, 19)
    assert client.read() == b""
    assert lane.budget.held == 1
    advance(lane, 1)
    assert_timed_out(lane, client)
    assert data_of(store) == b""


async def test_body_slower_than_the_minimum_rate_is_refused(lane: Lane, store: StreamStore) -> None:
    """The client never pauses for too long, but sends the body more slowly than the least rate."""
    client = Client(lane).send(request("POST", A, "Content-Type: text/plain", "Content-Length: 99"))
    for _ in range(2):
        client.send(b"x")
        advance(lane, 10)
        assert client.read() == b""
    client.send(b"x")
    advance(lane, 1)
    assert_timed_out(lane, client)
    assert data_of(store) == b""


async def test_body_at_the_minimum_rate_never_times_out(lane: Lane, store: StreamStore) -> None:
    seconds = 60
    size = lane.least_rate * seconds
    client = Client(lane).send(
        request("POST", A, "Content-Type: text/plain", f"Content-Length: {size}")
    )
    for _ in range(seconds):
        client.send(b"x" * lane.least_rate)
        await run_until_idle(lane)
        await run_turns()
        advance(lane, 1)
    assert client.answers("POST")[0].status == 204


async def test_head_timeout_of_next_request_starts_after_response(
    held_lane: Lane, held_store: HeldStore
) -> None:
    client = Client(held_lane).send(post(b"1")).send(GET[:5])
    advance(held_lane, 60)
    held_store.release_append()
    advance(held_lane, 9)
    assert len(client.answers("POST")) == 1
    advance(held_lane, 1)
    assert_timed_out(held_lane, client)


async def test_request_pipelined_behind_event_stream_does_not_end_the_stream(
    lane: Lane, store: StreamStore
) -> None:
    for more in (GET, GET[:5], post()[:-1]):
        client = Client(lane).send(SSE).send(more)
        advance(lane, 60)
        assert not client.wire.lost


async def test_client_that_reads_nothing_is_cut(lane: Lane, store: StreamStore) -> None:
    store.append(A, b"x" * 200_000)
    client = Client(lane)
    client.stop_reading()
    client.send(GET)
    advance(lane, 29)
    client.send(b"\r\n")
    assert not client.wire.lost
    advance(lane, 1)
    assert client.wire.lost


async def test_client_that_reads_slowly_is_not_cut(lane: Lane, store: StreamStore) -> None:
    store.append(A, b"x" * 200_000)
    client = Client(lane)
    client.stop_reading()
    client.send(request("GET", A, "Connection: close"))
    for _ in range(5):
        advance(lane, 29)
        del client.wire._unsent[:30_000]
        advance(lane, 1)
    assert not client.wire.lost


async def test_connection_lingers_after_its_last_response_is_read(
    lane: Lane, store: StreamStore
) -> None:
    client = Client(lane)
    client.stop_reading()
    client.send(request("GET", A, "Connection: close"))
    advance(lane, 29)
    assert not client.wire.lost
    client.resume_reading()
    assert client.is_ended
    advance(lane, 1)
    assert not client.wire.lost
    advance(lane, 2)
    assert client.wire.lost


async def test_refused_client_that_keeps_sending_is_closed_after_linger_timeout(
    lane: Lane,
) -> None:
    client = Client(lane).send(b"nonsense\r\n\r\n")
    for _ in range(10):
        client.send(b"x" * 1000)
    assert client.is_ended
    assert not client.wire.lost
    advance(lane, 2)
    assert client.wire.lost


async def test_client_that_stops_reading_is_cut_after_send_timeout(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"x" * 200_000)
    client = Client(lane)
    client.stop_reading()
    client.send(GET)
    advance(lane, 1)
    del client.wire._unsent[:1]
    advance(lane, 1)
    advance(lane, 29)
    assert not client.wire.lost
    advance(lane, 1)
    assert client.wire.lost


async def test_half_closed_client_that_reads_nothing_is_cut(
    held_lane: Lane, held_store: HeldStore, store: StreamStore
) -> None:
    held_store.holds = False
    held_store.append(A, b"x" * 10_000)
    held_store.holds = True
    client = Client(held_lane)
    client.stop_reading()
    client.send(GET + POLL)
    client.half_close()  # ends the poll, while the page before it is unread
    assert not client.wire.lost
    advance(held_lane, 29)
    assert not client.wire.lost
    advance(held_lane, 1)
    assert client.wire.lost

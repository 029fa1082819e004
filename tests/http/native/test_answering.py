"""Responses of a native connection, and the event streams that it sends."""

import asyncio

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.native.lane import Lane
from tests.http.native.connections import (
    GET,
    SSE,
    TIMES,
    A,
    B,
    advance,
    data_of,
    disconnect_all,
    event_bytes,
)
from tests.http.socket_driver import (
    Client,
    HeldStore,
    post,
    request,
    run_turns,
    run_until_idle,
)


async def test_requests_on_one_connection_are_answered_in_order(lane: Lane) -> None:
    client = Client(lane)
    for body in (b"a", b"b"):
        (answer,) = client.send(post(body)).answers("POST")
        assert answer.status == 204
        assert "connection" not in answer.headers
    (answer,) = client.send(GET).answers("GET")
    assert answer.body == b"ab"
    assert not client.is_ended


async def test_pipelined_requests_wait_for_earlier_appends(
    held_lane: Lane, held_store: HeldStore
) -> None:
    client = Client(held_lane)
    client.send(post(b"1") + GET + post(b"2") + GET)
    assert client.read() == b""
    held_store.release_append()
    first, second = client.answers("POST", "GET")
    assert (first.status, second.body) == (204, b"1")
    held_store.release_append()
    third, fourth = client.answers("POST", "GET")
    assert (third.status, fourth.body) == (204, b"12")


async def test_response_to_head_has_no_body(lane: Lane, store: StreamStore) -> None:
    store.append(A, b"hello")
    client = Client(lane)
    head, missing, read = client.send(
        request("HEAD") + request("HEAD", "/v1/stream/none") + GET
    ).answers("HEAD", "HEAD", "GET")
    assert (head.status, missing.status, read.body) == (200, 404, b"hello")
    assert "content-length" not in head.headers


async def test_responses_204_and_304_have_no_content_length(lane: Lane) -> None:
    client = Client(lane)
    (made,) = client.send(post()).answers("POST")
    (read,) = client.send(GET).answers("GET")
    (same,) = client.send(request("GET", A, f"If-None-Match: {read.headers['etag']}")).answers(
        "GET"
    )
    assert (made.status, same.status) == (204, 304)
    assert "content-length" not in made.headers
    assert "content-length" not in same.headers


async def test_http_1_0_connection_is_closed_after_response(lane: Lane, store: StreamStore) -> None:
    for more in (b"", b"Connection: keep-alive\r\n"):
        client = Client(lane)
        client.send(b"GET " + A.encode() + b" HTTP/1.0\r\n" + more + b"\r\n")
        (answer,) = client.answers("GET")
        assert answer.headers["connection"] == "close"
        assert client.is_ended


async def test_http_1_0_client_gets_event_stream_without_chunks(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"hello", close=True)
    client = Client(lane).send(SSE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    (answer,) = client.answers("GET")
    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(b"\n\n")
    assert b"streamClosed" in answer.body
    assert client.is_ended


async def test_server_sends_100_continue_to_client_that_expects_it(
    lane: Lane, store: StreamStore
) -> None:
    head = post(b"hello", "Expect: 100-continue").removesuffix(b"hello")
    client = Client(lane).send(head)
    assert client.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    (answer,) = client.send(b"hello").answers("POST")
    assert answer.status == 204
    assert data_of(store) == b"hello"


async def test_server_sends_100_continue_after_earlier_responses(
    held_lane: Lane, held_store: HeldStore
) -> None:
    head = post(b"hello", "Expect: 100-continue").removesuffix(b"hello")
    client = Client(held_lane).send(post(b"1") + head)
    assert client.read() == b""
    held_store.release_append()
    data = client.read()
    assert data.startswith(b"HTTP/1.1 204 ")
    assert data.endswith(b"HTTP/1.1 100 Continue\r\n\r\n")


async def test_server_refuses_too_large_body_instead_of_100_continue(
    store: StreamStore,
) -> None:
    lane = Lane(create_app(store=store, max_body=10), TIMES)
    head = post(b"x" * 11, "Expect: 100-continue").removesuffix(b"x" * 11)
    (answer,) = Client(lane).send(head).answers("POST")
    assert answer.status == 413
    await disconnect_all(lane)


async def test_server_sends_no_100_continue_to_http_1_0_or_without_body(lane: Lane) -> None:
    old = post(b"", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    for sent in (
        old.replace(b"Content-Length: 0", b"Content-Length: 5"),
        request("GET", A, "Expect: 100-continue"),
    ):
        assert not Client(lane).send(sent).read().startswith(b"HTTP/1.1 100")


async def test_event_stream_buffers_little_for_slow_reader(lane: Lane, store: StreamStore) -> None:
    client = Client(lane)
    client.stop_reading()
    client.send(SSE)
    for _ in range(100):
        store.append(A, b"x" * 10_000)
    assert len(client.wire._unsent) < 64 * 1024
    while b"x" * 10_000 not in client.wire.received[-40_000:]:
        client.resume_reading()
        await run_turns(1)
    await run_until_idle(lane)
    seen = event_bytes(client.read())
    assert seen.count(b"xx") == 500_000
    advance(lane, 29)
    assert not client.wire.lost


async def test_event_stream_is_cut_when_reader_reads_nothing(
    lane: Lane, store: StreamStore
) -> None:  # TRAPS 49
    store.append(A, b"x" * 200_000)
    client = Client(lane)
    client.stop_reading()
    client.send(SSE)
    advance(lane, 29)
    assert not client.wire.lost
    advance(lane, 1)
    assert client.wire.lost
    await run_turns()
    assert len(lane.app.engine.tails) == 0


async def test_thousand_pipelined_event_streams_are_answered_in_order(
    held_lane: Lane, held_store: HeldStore
) -> None:
    held_store.create(B, "text/plain")
    held_store.holds = False
    held_store.append(B, b"all", close=True)
    held_store.holds = True
    sse = request("GET", f"{B}?offset=-1&live=sse")
    client = Client(held_lane).send(post(b"1") + sse * 1000)
    await run_until_idle(held_lane)
    held_store.release_append()
    await run_until_idle(held_lane)
    answers = client.answers("POST", *["GET"] * 1000)
    assert len(answers) == 1001
    assert all(b"streamClosed" in answer.body for answer in answers[1:])


async def test_append_creates_no_task_future_or_timer(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(lane).send(post())
    loop = asyncio.get_running_loop()
    for name in ("create_task", "create_future", "call_soon", "call_later", "call_at"):
        monkeypatch.setattr(loop, name, None)
    client.send(post())
    monkeypatch.undo()
    assert len(client.answers("POST", "POST")) == 2

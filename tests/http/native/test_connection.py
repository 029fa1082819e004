"""One connection of the native lane: what comes in, in whatever pieces, and what goes out."""

import asyncio
import gc
import math
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http import wire
from durable_streams_server.http.browser import Browser
from durable_streams_server.http.handler import Handler
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.budget import ReceiveBudget
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.connection import Connection
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.native.parser import Parser
from durable_streams_server.protocol.limits import MAX_HEADER_BYTES, MAX_URL_BYTES
from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.event_stream import EventStream
from tests.http.socket_driver import (
    KERNEL,
    Client,
    HeldStore,
    Wire,
    chunks,
    complaints,
    post,
    quiet,
    request,
    turn,
)

A = "/v1/stream/a"
B = "/v1/stream/b"
BIG = "/v1/stream/big"
GET = request("GET")
SSE = request("GET", f"{A}?offset=-1&live=sse")
POLL = request("GET", f"{A}?offset=now&live=long-poll")
CHUNKED = ("Content-Type: text/plain", "Transfer-Encoding: chunked")
TIMES = Timeouts(idle=75, head=10, body=20, send=30, linger=2)


def made(store: StreamStore) -> StreamStore:
    store.create(A, "text/plain")
    return store


@pytest.fixture
async def store() -> StreamStore:
    return made(StreamStore())


@pytest.fixture
async def lane(store: StreamStore) -> AsyncIterator[Lane]:
    lane = Lane(create_app(store=store, long_poll_timeout=5), TIMES)
    yield lane
    await over(lane)


@pytest.fixture
async def held() -> HeldStore:
    held = HeldStore()
    held.create(A, "text/plain")
    return held


@pytest.fixture
async def slow(held: HeldStore) -> AsyncIterator[Lane]:
    lane = Lane(create_app(store=held, long_poll_timeout=5), TIMES)
    yield lane
    await over(lane)


async def over(lane: Lane) -> None:
    """When every client has gone, nothing of theirs is left."""
    for connection in tuple(lane.connections):
        connection.transport.abort()
    await turn()
    assert not lane.connections
    assert len(lane.app.engine.tails) == 0
    assert lane.budget.held == 0


def forward(lane: Lane, seconds: float) -> None:
    """Lets time pass for every connection."""
    lane.now += seconds
    for connection in tuple(lane.connections):
        connection.check(lane.now)


def body_of(store: StreamStore) -> bytes:
    return store.read(A).data


def events(data: bytes) -> bytes:
    """Returns the whole chunks of an event stream that is still open."""
    _, _, rest = data.partition(b"\r\n\r\n")
    return b"".join(part for _, part in chunks(rest))


# -- requests and answers ----------------------------------------------------


async def test_requests_on_one_connection_are_answered_in_turn(lane: Lane) -> None:
    client = Client(lane)
    for body in (b"a", b"b"):
        (answer,) = client.send(post(body)).answers("POST")
        assert answer.status == 204
        assert "connection" not in answer.headers
    (answer,) = client.send(GET).answers("GET")
    assert answer.body == b"ab"
    assert not client.gone


@pytest.mark.parametrize("each", [0, 1, 7])
async def test_it_makes_no_difference_in_which_pieces_a_request_comes(
    lane: Lane, each: int
) -> None:
    client = Client(lane)
    chunked = request("POST", A, *CHUNKED) + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    client.send(post(b"1") + chunked + request("HEAD") + GET, each)
    answers = client.answers("POST", "POST", "HEAD", "GET")
    assert [answer.status for answer in answers] == [204, 204, 200, 200]
    assert answers[-1].body == b"1abcde"


async def test_pipelined_requests_are_answered_in_order(slow: Lane, held: HeldStore) -> None:
    client = Client(slow)
    client.send(post(b"1") + GET + post(b"2") + GET)
    assert client.take() == b""
    held.let_go()
    first, second = client.answers("POST", "GET")
    assert (first.status, second.body) == (204, b"1")
    held.let_go()
    third, fourth = client.answers("POST", "GET")
    assert (third.status, fourth.body) == (204, b"12")


async def test_a_head_has_no_body(lane: Lane, store: StreamStore) -> None:
    store.append(A, b"hello")
    client = Client(lane)
    head, missing, read = client.send(
        request("HEAD") + request("HEAD", "/v1/stream/none") + GET
    ).answers("HEAD", "HEAD", "GET")
    assert (head.status, missing.status, read.body) == (200, 404, b"hello")
    assert "content-length" not in head.headers


async def test_an_answer_without_a_body_says_nothing_of_its_length(lane: Lane) -> None:
    client = Client(lane)
    (made,) = client.send(post()).answers("POST")
    (read,) = client.send(GET).answers("GET")
    (same,) = client.send(request("GET", A, f"If-None-Match: {read.headers['etag']}")).answers(
        "GET"
    )
    assert (made.status, same.status) == (204, 304)
    assert "content-length" not in made.headers
    assert "content-length" not in same.headers


async def test_an_old_client_is_answered_and_its_connection_closed(
    lane: Lane, store: StreamStore
) -> None:
    for more in (b"", b"Connection: keep-alive\r\n"):
        client = Client(lane)
        client.send(b"GET " + A.encode() + b" HTTP/1.0\r\n" + more + b"\r\n")
        (answer,) = client.answers("GET")
        assert answer.headers["connection"] == "close"
        assert client.gone


async def test_an_old_client_gets_an_event_stream_without_chunks(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"hello", close=True)
    client = Client(lane).send(SSE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    (answer,) = client.answers("GET")
    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(b"\n\n")
    assert b"streamClosed" in answer.body
    assert client.gone


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/3.0"])
async def test_a_version_that_is_not_spoken_here_is_refused(lane: Lane, version: bytes) -> None:
    client = Client(lane).send(GET.replace(b"HTTP/1.1", version))
    (answer,) = client.answers("GET")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HTTP")
    assert client.gone


async def test_a_request_without_a_version_is_refused(lane: Lane) -> None:
    (answer,) = Client(lane).send(b"GET /v1/stream/a\r\n\r\n").answers("GET")
    assert answer.status == 400


async def test_space_around_a_value_is_not_part_of_it(lane: Lane, store: StreamStore) -> None:
    for close in ("Stream-Closed:\ttrue \t", "Stream-Closed:true"):
        client = Client(lane).send(request("POST", A, close, "Content-Length: 0 "))
        assert [answer.status for answer in client.answers("POST")] == [204]
        stream = store.get(A)
        assert stream is not None
        assert stream.closed


async def test_a_client_that_asks_for_the_end_gets_it(lane: Lane, store: StreamStore) -> None:
    client = Client(lane).send(post(b"x", "Connection: close"))
    (answer,) = client.answers("POST")
    assert answer.headers["connection"] == "close"
    assert client.gone
    assert not client.wire.lost  # it has time to read, and to end its own half
    client.finish()
    assert client.wire.lost


async def test_nothing_after_the_last_request_is_answered_or_done(
    lane: Lane, store: StreamStore
) -> None:
    for first in (
        post(b"1", "Connection: close"),
        post(b"1").replace(b"HTTP/1.1", b"HTTP/1.0\r\nConnection: keep-alive"),
    ):
        for second in (post(b"2"), b"garbage\r\n\r\n", GET, b"\x00"):
            client = Client(lane).send(first + second)
            assert [answer.status for answer in client.answers("POST", "GET")] == [204]
            assert client.gone
    assert body_of(store) == b"1" * 8


async def test_nothing_after_the_last_request_is_done_when_it_takes_time(
    slow: Lane, held: HeldStore
) -> None:
    client = Client(slow).send(post(b"1", "Connection: close")).send(post(b"2") + b"garbage")
    held.let_go()
    assert len(client.answers("POST", "POST")) == 1
    assert held.held == []


async def test_the_query_and_the_path_are_found_in_every_form_of_target(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"hello")
    client = Client(lane)
    for target in (A, f"{A}?offset=-1", f"http://h{A}", f"http://h:80{A}?offset=-1"):
        (answer,) = client.send(request("GET", target)).answers("GET")
        assert answer.body == b"hello"
    (preflight,) = client.send(request("OPTIONS", "*")).answers("OPTIONS")
    assert preflight.status == 204
    (root,) = client.send(request("GET", "http://h")).answers("GET")
    assert root.status == 400


async def test_a_request_for_an_upgrade_is_answered_as_if_it_had_none(
    lane: Lane, store: StreamStore
) -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    client = Client(lane)
    chunked = request("POST", A, *CHUNKED, *upgrade) + b"3\r\ndef\r\n0\r\n\r\n"
    for each in (0, 1):
        client.send(post(b"abc", *upgrade) + chunked + request("GET", A, *upgrade) + GET, each)
        answers = client.answers("POST", "POST", "GET", "GET")
        assert [answer.status for answer in answers] == [204, 204, 200, 200]
    assert body_of(store) == b"abcdef" * 2
    assert not client.gone


async def test_a_tunnel_is_refused_and_the_connection_closed(lane: Lane) -> None:
    client = Client(lane).send(request("CONNECT", "h:80") + GET)
    (answer,) = client.answers("CONNECT", "GET")
    assert answer.status == 400
    assert client.gone


async def test_what_is_not_http_is_refused_after_the_answers_before_it(
    slow: Lane, held: HeldStore
) -> None:
    client = Client(slow).send(post(b"1") + b"nonsense\r\n\r\n" + post(b"2"))
    assert client.take() == b""
    held.let_go()
    first, second = client.answers("POST", "GET")
    assert (first.status, second.status) == (204, 400)
    assert second.error["code"] == "INVALID_HTTP"
    assert second.headers["connection"] == "close"
    assert client.gone
    client.send(post(b"3"))  # which nobody reads
    assert held.held == []


# -- bodies ------------------------------------------------------------------


async def test_a_client_that_asks_first_is_told_to_send(lane: Lane, store: StreamStore) -> None:
    head = post(b"hello", "Expect: 100-continue").removesuffix(b"hello")
    client = Client(lane).send(head)
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    (answer,) = client.send(b"hello").answers("POST")
    assert answer.status == 204
    assert body_of(store) == b"hello"


async def test_a_client_that_asks_first_is_told_after_the_answers_before(
    slow: Lane, held: HeldStore
) -> None:
    head = post(b"hello", "Expect: 100-continue").removesuffix(b"hello")
    client = Client(slow).send(post(b"1") + head)
    assert client.take() == b""
    held.let_go()
    data = client.take()
    assert data.startswith(b"HTTP/1.1 204 ")
    assert data.endswith(b"HTTP/1.1 100 Continue\r\n\r\n")


async def test_a_client_that_asks_first_and_asks_too_much_is_refused_at_once(
    store: StreamStore,
) -> None:
    lane = Lane(create_app(store=store, max_body=10), TIMES)
    head = post(b"x" * 11, "Expect: 100-continue").removesuffix(b"x" * 11)
    (answer,) = Client(lane).send(head).answers("POST")
    assert answer.status == 413
    await over(lane)


async def test_an_old_client_or_one_without_a_body_is_told_nothing(lane: Lane) -> None:
    old = post(b"", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    for sent in (
        old.replace(b"Content-Length: 0", b"Content-Length: 5"),
        request("GET", A, "Expect: 100-continue"),
    ):
        assert not Client(lane).send(sent).take().startswith(b"HTTP/1.1 100")


async def test_trailers_are_not_headers_of_the_next_request(lane: Lane, store: StreamStore) -> None:
    client = Client(lane)
    trailed = request("POST", A, *CHUNKED) + b"1\r\nx\r\n0\r\nStream-Closed: true\r\nX: y\r\n\r\n"
    client.send(trailed + post(b"y") + post(b"z"), 5)
    assert [answer.status for answer in client.answers("POST", "POST", "POST")] == [204] * 3
    stream = store.get(A)
    assert stream is not None
    assert not stream.closed


@pytest.mark.parametrize(
    "more", [b"0\r\n" + b"x" * 400, b"0\r\nx: ", b"0\r\n" + b"x: y\r\n" * 99, b"1;", b"1;x="]
)
async def test_what_is_round_the_chunks_is_bounded(lane: Lane, more: bytes) -> None:
    client = Client(lane).send(request("POST", A, *CHUNKED) + more)
    for _ in range(100):
        client.send(b"x" * 4096 if b"y" not in more else b"x: y\r\n" * 700)
    (answer,) = client.answers("POST")
    assert answer.error["code"] in ("HEADERS_TOO_LARGE", "INVALID_HTTP")
    assert client.gone


async def test_a_body_in_many_small_pieces_costs_its_size(lane: Lane) -> None:
    client = Client(lane).send(request("POST", A, *CHUNKED))
    piece = b"2\r\nab\r\n" * 8192
    tracemalloc.start()
    try:
        for _ in range(32):
            client.send(piece)
            await quiet(lane)
        assert tracemalloc.get_traced_memory()[0] < 4 * 32 * 16384
    finally:
        tracemalloc.stop()
    client.send(b"0\r\n\r\n")
    assert [answer.status for answer in client.answers("POST")] == [204]


# -- limits, before the work -------------------------------------------------


async def test_a_url_past_the_limit_is_refused_before_it_is_whole(lane: Lane) -> None:
    client = Client(lane).send(b"GET /" + b"x" * MAX_URL_BYTES)
    (answer,) = client.answers("GET")
    assert (answer.status, answer.error["code"]) == (414, "URI_TOO_LONG")
    assert client.gone


async def test_headers_past_the_limit_are_refused(lane: Lane) -> None:
    for lines in (["X: " + "y" * MAX_HEADER_BYTES], [f"X-{n}: y" for n in range(130)]):
        client = Client(lane).send(request("GET", A, *lines))
        await quiet(lane)
        (answer,) = client.answers("GET")
        assert answer.error["code"] == "HEADERS_TOO_LARGE"


async def test_a_head_without_end_is_refused(lane: Lane) -> None:
    client = Client(lane).send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(100):
        client.send(b"y" * 4096)
    (answer,) = client.answers("GET")
    assert (answer.status, answer.error["code"]) == (431, "HEADERS_TOO_LARGE")
    assert client.gone


async def test_a_body_past_the_limit_is_refused_unread(store: StreamStore) -> None:
    lane = Lane(create_app(store=store, max_body=10), TIMES)
    declared = request("POST", A, "Content-Type: text/plain", "Content-Length: 11")
    chunked = request("POST", A, *CHUNKED) + b"6\r\n123456\r\n6\r\n"
    for sent, more in ((declared, b"x"), (chunked, b"123456\r\n")):
        client = Client(lane).send(sent).send(more)
        (answer,) = client.answers("POST")
        assert (answer.status, answer.error["code"]) == (413, "BODY_TOO_LARGE")
        assert client.gone
        assert lane.budget.held == 0
    assert body_of(store) == b""
    await over(lane)


async def test_bodies_in_flight_are_bounded_and_given_back(store: StreamStore) -> None:  # TRAPS 51
    lane = Lane(create_app(store=store, max_body=10, max_in_flight=25), TIMES)
    sent = post(b"x" * 10)
    clients = [Client(lane).send(sent[:-1]) for _ in range(2)]
    assert lane.budget.held == 18  # what has come, not what was announced
    (refused,) = Client(lane).send(sent).answers("POST")
    assert (refused.status, refused.error["code"]) == (503, "BODIES_IN_FLIGHT")
    assert refused.headers["retry-after"] == "1"
    clients[0].send(b"y")
    clients[1].reset()
    await turn()
    assert lane.budget.held == 0
    (chunked,) = (
        Client(lane).send(request("POST", A, *CHUNKED) + b"1\r\nz\r\n0\r\n\r\n").answers("POST")
    )
    assert chunked.status == 204
    await over(lane)


async def test_a_repeated_host_is_refused(lane: Lane) -> None:
    (answer,) = Client(lane).send(request("GET", A, "Host: other")).answers("GET")
    assert (answer.status, answer.error["code"]) == (400, "REPEATED_HEADER")


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "xchunked"])
async def test_a_body_in_a_coding_that_is_not_known_is_refused(lane: Lane, coding: str) -> None:
    sent = request("POST", A, "Content-Type: text/plain", f"Transfer-Encoding: {coding}")
    client = Client(lane).send(sent + b"1\r\nx\r\n0\r\n\r\n")
    (answer,) = client.answers("POST")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HTTP")
    assert client.gone


# -- time --------------------------------------------------------------------


async def test_an_idle_connection_is_kept_and_then_closed(lane: Lane) -> None:  # TRAPS 52
    client = Client(lane)
    forward(lane, 74)
    client.send(GET)
    forward(lane, 74)
    assert not client.wire.lost
    forward(lane, 1)
    assert client.wire.lost


async def test_a_head_has_its_time_from_its_first_octet(lane: Lane) -> None:
    client = Client(lane).send(GET[:5])
    forward(lane, 9)
    client.send(GET[5:10])
    assert client.take() == b""
    forward(lane, 1)
    assert_timed_out(lane, client)


async def test_a_body_has_its_time_from_its_last_octet(lane: Lane, store: StreamStore) -> None:
    lane.least_rate = 0
    client = Client(lane).send(post(b"abc")[:-3])
    forward(lane, 19)
    client.send(b"a")
    forward(lane, 19)
    assert client.take() == b""
    assert lane.budget.held == 1
    forward(lane, 1)
    assert_timed_out(lane, client)
    assert body_of(store) == b""


async def test_body_that_trickles_is_refused(lane: Lane, store: StreamStore) -> None:
    """It never pauses for as long as a client may, and comes at less than the least rate all the same."""
    client = Client(lane).send(request("POST", A, "Content-Type: text/plain", "Content-Length: 99"))
    for _ in range(2):
        client.send(b"x")
        forward(lane, 10)
        assert client.take() == b""
    client.send(b"x")
    forward(lane, 1)
    assert_timed_out(lane, client)
    assert body_of(store) == b""


async def test_body_at_the_least_rate_may_take_as_long_as_it_needs(
    lane: Lane, store: StreamStore
) -> None:
    seconds = 60
    size = lane.least_rate * seconds
    client = Client(lane).send(
        request("POST", A, "Content-Type: text/plain", f"Content-Length: {size}")
    )
    for _ in range(seconds):
        client.send(b"x" * lane.least_rate)
        await quiet(lane)
        await turn()
        forward(lane, 1)
    assert client.answers("POST")[0].status == 204


def assert_timed_out(lane: Lane, client: Client) -> None:
    """The client is told why, has the time to read that, and holds nothing any more."""
    (answer,) = client.answers("POST")
    assert (answer.status, answer.error["code"]) == (408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"
    assert lane.budget.held == 0
    client.send(b"more")
    assert client.gone
    assert not client.wire.lost
    forward(lane, 2)
    assert client.wire.lost


async def test_the_time_of_the_next_head_begins_after_the_answer(
    slow: Lane, held: HeldStore
) -> None:
    client = Client(slow).send(post(b"1")).send(GET[:5])
    forward(slow, 60)
    held.let_go()
    forward(slow, 9)
    assert len(client.answers("POST")) == 1
    forward(slow, 1)
    assert_timed_out(slow, client)


async def test_a_request_that_waits_behind_an_event_stream_does_not_end_it(
    lane: Lane, store: StreamStore
) -> None:
    for more in (GET, GET[:5], post()[:-1]):
        client = Client(lane).send(SSE).send(more)
        forward(lane, 60)
        assert not client.wire.lost


async def test_a_client_that_takes_nothing_is_cut(lane: Lane, store: StreamStore) -> None:
    store.append(A, b"x" * 200_000)
    client = Client(lane)
    client.stall()
    client.send(GET)
    forward(lane, 29)
    client.send(b"\r\n")
    assert not client.wire.lost
    forward(lane, 1)
    assert client.wire.lost


async def test_a_client_that_takes_a_little_at_a_time_is_not_cut(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"x" * 200_000)
    client = Client(lane)
    client.stall()
    client.send(request("GET", A, "Connection: close"))
    for _ in range(5):
        forward(lane, 29)
        del client.wire._unsent[:30_000]
        forward(lane, 1)
    assert not client.wire.lost


async def test_the_last_octets_of_a_last_answer_have_their_time(
    lane: Lane, store: StreamStore
) -> None:
    client = Client(lane)
    client.stall()
    client.send(request("GET", A, "Connection: close"))
    forward(lane, 29)
    assert not client.wire.lost
    client.go_on()
    assert client.gone
    forward(lane, 1)
    assert not client.wire.lost
    forward(lane, 2)
    assert client.wire.lost


async def test_a_client_that_goes_on_sending_after_its_refusal_has_time_to_read_it(
    lane: Lane,
) -> None:
    client = Client(lane).send(b"nonsense\r\n\r\n")
    for _ in range(10):
        client.send(b"x" * 1000)
    assert client.gone
    assert not client.wire.lost
    forward(lane, 2)
    assert client.wire.lost


# -- phases ------------------------------------------------------------------


def pieces(octets: bytes, pause: Callable[[], None]) -> Callable[[Client], None]:
    """Returns what sends a request in two pieces, with a pause between them."""
    cut = octets.index(b"\r\n") + 5

    def send(client: Client) -> None:
        client.send(octets[:cut])
        pause()
        client.send(octets[cut:])

    return send


async def test_long_poll_outlives_the_deadline_of_its_head(lane: Lane) -> None:
    client = Client(lane)
    pieces(POLL, lambda: forward(lane, 9))(client)
    forward(lane, 3600)
    assert not client.wire.lost
    assert len(lane.app.engine.tails) == 1


async def test_long_poll_outlives_the_deadline_of_the_idle_time_before_it(lane: Lane) -> None:
    client = Client(lane)
    forward(lane, 50)
    client.send(POLL)
    forward(lane, 3600)
    assert not client.wire.lost
    assert len(lane.app.engine.tails) == 1


async def test_append_that_waits_for_the_store_outlives_every_deadline(
    slow: Lane, held: HeldStore
) -> None:
    client = Client(slow)
    forward(slow, 74)
    pieces(post(b"1"), lambda: forward(slow, 9))(client)
    forward(slow, 3600)
    assert client.take() == b""
    held.let_go()
    assert [answer.status for answer in client.answers("POST")] == [204]
    forward(slow, 74)
    assert not client.wire.lost
    forward(slow, 1)
    assert client.wire.lost


async def test_requests_that_wait_for_their_turn_have_no_deadline(
    slow: Lane, held: HeldStore
) -> None:
    client = Client(slow).send(post(b"1") + post(b"2") + post(b"3")[:-1])
    for _ in range(2):
        forward(slow, 3600)
        held.let_go()
    forward(slow, 19)
    assert len(client.answers("POST", "POST")) == 2
    client.send(b"3")
    forward(slow, 3600)
    held.let_go()
    assert len(client.answers("POST")) == 1


async def test_next_head_in_the_last_octets_of_a_request_has_its_whole_time(lane: Lane) -> None:
    client = Client(lane).send(GET[:5])
    forward(lane, 9)
    client.send(GET[5:] + GET[:5])
    forward(lane, 9)
    assert len(client.answers("GET")) == 1
    forward(lane, 1)
    assert_timed_out(lane, client)


async def test_empty_lines_between_requests_do_not_begin_one(lane: Lane) -> None:
    client = Client(lane).send(post()).send(b"\r\n")
    forward(lane, 74)
    assert len(client.answers("POST")) == 1
    client.send(b"\r\n")
    forward(lane, 1)
    assert client.wire.lost
    assert client.take() == b""  # an idle connection is closed without a word


async def test_half_closed_client_that_takes_nothing_is_cut(
    slow: Lane, held: HeldStore, store: StreamStore
) -> None:
    held.holds = False
    held.append(A, b"x" * 10_000)
    held.holds = True
    client = Client(slow)
    client.stall()
    client.send(GET + POLL)
    client.finish()  # the poll is given up, and its client has not read the page before it
    assert not client.wire.lost
    forward(slow, 29)
    assert not client.wire.lost
    forward(slow, 1)
    assert client.wire.lost


async def test_client_that_takes_a_little_and_then_nothing_is_cut_in_time(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"x" * 200_000)
    client = Client(lane)
    client.stall()
    client.send(GET)
    forward(lane, 1)
    del client.wire._unsent[:1]
    forward(lane, 1)
    forward(lane, 29)
    assert not client.wire.lost
    forward(lane, 1)
    assert client.wire.lost


Enter = Callable[[Client, HeldStore], None]


def in_idle(client: Client, held: HeldStore) -> None:
    client.send(post(b"1"))
    held.let_go()


def in_head(client: Client, held: HeldStore) -> None:
    client.send(GET[:5])


def in_body(client: Client, held: HeldStore) -> None:
    client.send(post(b"abc")[:-3])


def in_append(client: Client, held: HeldStore) -> None:
    client.send(post(b"1"))


def in_poll(client: Client, held: HeldStore) -> None:
    client.send(POLL)


def in_events(client: Client, held: HeldStore) -> None:
    client.send(SSE)


def in_sending(client: Client, held: HeldStore) -> None:
    client.stall()
    client.send(request("GET", BIG))


def in_lingering(client: Client, held: HeldStore) -> None:
    client.send(request("GET", A, "Connection: close"))


#: How a connection gets into each phase, what its time there is, and how it may go on from there to be idle again.
STAYS: dict[str, tuple[Enter, float, Enter]] = {
    "idle": (in_idle, TIMES.idle, lambda client, held: None),
    "head": (in_head, TIMES.head, lambda client, held: void(client.send(GET[5:]))),
    "body": (in_body, TIMES.body, lambda client, held: finish_body(client, held)),
    "append": (in_append, math.inf, lambda client, held: held.let_go()),
    "long-poll": (in_poll, math.inf, lambda client, held: wake(held)),
    "event stream": (in_events, math.inf, lambda client, held: end_events(client, held)),
    "sending": (in_sending, TIMES.send, lambda client, held: client.go_on()),
    "lingering": (in_lingering, TIMES.linger, lambda client, held: None),
}


def void(_: object) -> None:
    """Takes what nobody needs."""


def finish_body(client: Client, held: HeldStore) -> None:
    client.send(b"abc")
    held.let_go()


def wake(held: HeldStore) -> None:
    held.holds = False
    held.append(A, b"news")
    held.holds = True


def end_events(client: Client, held: HeldStore) -> None:
    held.delete(A)
    held.create(A, "text/plain")


@pytest.mark.parametrize(
    ("after", "tls"),
    [(name, False) for name in STAYS]
    + [(name, True) for name in STAYS if name != "lingering"],  # TLS cannot be half closed
)
@pytest.mark.parametrize("before", STAYS)
async def test_every_phase_lasts_its_own_time_whatever_came_before(
    slow: Lane, held: HeldStore, before: str, after: str, tls: bool
) -> None:
    """Stays almost as long as it may in one phase, then in the next: to the second the connection ends there, or never."""
    made_big(held)
    client = Client(slow, tls=tls)
    if before != "lingering":  # from which nothing comes
        enter, seconds, leave = STAYS[before]
        enter(client, held)
        forward(slow, min(seconds, 3600) - 1)
        leave(client, held)
        await turn()
        client.take()
    enter, seconds, _ = STAYS[after]
    enter(client, held)
    client.take()
    for _ in range(int(min(seconds, 200)) - 1):
        forward(slow, 1)
    assert not client.wire.lost
    assert client.take() == b""
    forward(slow, 1)
    ends = seconds < math.inf
    refused = after in ("head", "body")
    assert client.wire.lost is (ends and (tls or not refused))
    assert client.take().startswith(b"HTTP/1.1 408 ") is refused
    forward(slow, TIMES.linger)
    assert client.wire.lost is ends
    while held.held:
        held.let_go()


def made_big(held: HeldStore) -> None:
    """Has a stream that no socket takes whole."""
    held.holds = False
    held.create(BIG, "text/plain")
    held.append(BIG, b"x" * 4 * KERNEL)
    held.holds = True


# -- back-pressure -----------------------------------------------------------


async def test_a_client_that_pipelines_is_not_read_ahead_of_its_answers(
    slow: Lane, held: HeldStore
) -> None:
    client = Client(slow)
    for _ in range(10):
        client.send(post() * 2)
    assert client.wire.paused
    assert len(client.connection._queue) == 1
    for _ in range(20):
        held.let_go()
        await turn()
    assert len(client.answers(*["POST"] * 20)) == 20
    assert not client.wire.paused


async def test_a_client_that_pipelines_and_does_not_read_is_not_read_either(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"x" * KERNEL)
    client = Client(lane)
    client.stall()
    for _ in range(50):
        client.send(GET * 2)
    assert len(client.wire._unsent) < 3 * KERNEL
    assert len(client.connection._queue) < 3
    assert client.wire.paused
    while len(client.wire.received) < 100 * KERNEL:
        client.stall()
        client.go_on()
        await turn(1)
    assert len(client.answers(*["GET"] * 100)) == 100


async def test_an_event_stream_waits_for_its_reader(lane: Lane, store: StreamStore) -> None:
    client = Client(lane)
    client.stall()
    client.send(SSE)
    for _ in range(100):
        store.append(A, b"x" * 10_000)
    assert len(client.wire._unsent) < 64 * 1024
    while b"x" * 10_000 not in client.wire.received[-40_000:]:
        client.go_on()
        await turn(1)
    await quiet(lane)
    seen = events(client.take())
    assert seen.count(b"xx") == 500_000
    forward(lane, 29)
    assert not client.wire.lost


async def test_an_event_stream_whose_reader_takes_nothing_is_cut(
    lane: Lane, store: StreamStore
) -> None:  # TRAPS 49
    store.append(A, b"x" * 200_000)
    client = Client(lane)
    client.stall()
    client.send(SSE)
    forward(lane, 29)
    assert not client.wire.lost
    forward(lane, 1)
    assert client.wire.lost
    await turn()
    assert len(lane.app.engine.tails) == 0


async def test_many_event_streams_that_end_at_once_are_answered_in_turn(
    slow: Lane, held: HeldStore
) -> None:
    held.create(B, "text/plain")
    held.holds = False
    held.append(B, b"all", close=True)
    held.holds = True
    sse = request("GET", f"{B}?offset=-1&live=sse")
    client = Client(slow).send(post(b"1") + sse * 1000)
    await quiet(slow)
    held.let_go()
    await quiet(slow)
    answers = client.answers("POST", *["GET"] * 1000)
    assert len(answers) == 1001
    assert all(b"streamClosed" in answer.body for answer in answers[1:])


# -- clients that leave ------------------------------------------------------


async def test_a_client_that_sends_no_more_still_gets_its_answers(
    slow: Lane, held: HeldStore
) -> None:
    client = Client(slow).send(post(b"1") + GET)
    client.finish()
    assert not client.gone
    held.let_go()
    first, second = client.answers("POST", "GET")
    assert (first.status, second.body) == (204, b"1")
    await turn()
    assert client.wire.lost


async def test_a_client_that_ends_in_mid_request_is_closed(lane: Lane, store: StreamStore) -> None:
    for cut in (1, 20, len(post()) - 1):
        client = Client(lane).send(post()[:cut])
        client.finish()
        assert client.wire.lost
        assert client.take() == b""
    assert body_of(store) == b""


async def test_a_live_read_whose_client_sends_no_more_ends(lane: Lane) -> None:
    poll, sse = Client(lane).send(POLL), Client(lane).send(SSE)
    assert len(lane.app.engine.tails) == 2
    poll.finish()
    sse.finish()
    await turn()
    assert len(lane.app.engine.tails) == 0
    assert poll.wire.lost
    assert poll.take() == b""
    (answer,) = sse.answers("GET")
    assert answer.body.count(b"event: control") == 2


async def test_a_live_read_that_begins_after_its_client_sends_no_more_ends_too(
    slow: Lane, held: HeldStore
) -> None:
    for live in (POLL, SSE):
        client = Client(slow).send(post(b"1") + live)
        client.finish()
        held.let_go()
        await turn()
        assert client.wire.lost
        assert client.take().startswith(b"HTTP/1.1 204")
        assert len(slow.app.engine.tails) == 0


@pytest.mark.parametrize("live", [POLL, SSE])
async def test_a_live_read_whose_client_is_gone_gives_its_place_up(lane: Lane, live: bytes) -> None:
    client = Client(lane).send(live)
    assert len(lane.app.engine.tails) == 1
    client.reset()
    await turn()
    assert len(lane.app.engine.tails) == 0


async def test_a_write_whose_client_is_gone_is_seen_through(slow: Lane, held: HeldStore) -> None:
    client = Client(slow).send(post(b"1") + post(b"2"))
    client.reset()
    await turn()
    assert slow.budget.held == 1  # of the one that is being written
    held.let_go()
    assert held.held == []
    assert body_of(held) == b"1"


async def test_a_connection_that_is_gone_is_freed_without_the_collector(lane: Lane) -> None:
    gc.collect()
    gc.disable()
    try:
        for sent in (b"", GET, GET[:5], post()[:-1], SSE):
            client = Client(lane).send(sent)
            client.reset()
            await turn()
            client.wire.connection = None  # or the wire and the connection would hold each other
        del client
        assert not [found for found in gc.get_objects() if isinstance(found, Connection)]
    finally:
        gc.enable()


# -- faults ------------------------------------------------------------------


async def test_a_fault_in_the_handler_is_a_500_that_tells_nothing(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(lane.app.engine, "append", fail)
    client = Client(lane).send(post() + GET)
    broken, read = client.answers("POST", "GET")
    assert (broken.status, read.status) == (500, 200)
    assert b"secret" not in broken.body
    assert complaints(caplog) == ["a request failed"]


@pytest.mark.parametrize(("part", "closes"), [("news", False), ("pull", True)])
async def test_an_event_stream_that_fails_is_cut(
    lane: Lane,
    store: StreamStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
    closes: bool,
) -> None:
    client = Client(lane).send(SSE)

    def fail(_: Any) -> None:
        raise RuntimeError("no page")

    monkeypatch.setattr(EventStream, part, fail)
    store.append(A, b"x", close=closes)
    await turn()
    assert client.wire.aborted
    assert complaints(caplog) == ["a connection failed"]


async def test_what_nobody_knows_the_outcome_of_is_not_answered(
    slow: Lane, held: HeldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(slow).send(post(b"1") + GET)
    monkeypatch.setattr(StreamStore, "execute", lambda *_: _failed())
    held.let_go()
    assert client.take() == b""
    assert client.wire.aborted


def _failed() -> Any:
    return Ticket.failed(Abandoned(OSError("no disk")))


class Fault(Exception):
    """What nobody has foreseen."""


UNDOING = (EventStream.close, Ticket.cancel)


def failing(times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `real`, but for its call number `times`, which fails; what gives something up does that first."""
    left = times

    def call(*given: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            if real in UNDOING:
                real(*given)
            raise Fault
        return real(*given, **named)

    return call


#: Everything that the events of a connection call, and that might fail.
FAULTS: dict[str, tuple[Any, str]] = {
    "handle": (Handler, "handle"),
    "refuse": (Handler, "refuse"),
    "finish": (Browser, "finish"),
    "budget": (ReceiveBudget, "take"),
    "feed": (Parser, "feed"),
    "head": (wire, "head"),
    "chunk": (Lane, "chunk"),
    "pull": (EventStream, "pull"),
    "close events": (EventStream, "close"),
    "farewell": (EventStream, "farewell"),
    "append": (Engine, "append"),
    "cancel": (Ticket, "cancel"),
    "write": (Wire, "write"),
    "write_eof": (Wire, "write_eof"),
    "pause_reading": (Wire, "pause_reading"),
    "resume_reading": (Wire, "resume_reading"),
    "buffer": (Wire, "get_write_buffer_size"),
    "limits": (Wire, "set_write_buffer_limits"),
    "peer": (Wire, "get_extra_info"),
    "admission": (Admission, "admit"),
}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", FAULTS)
async def test_fault_anywhere_ends_one_connection_and_leaves_nothing(
    slow: Lane,
    held: HeldStore,
    name: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever fails in the middle of a conversation, its client is answered or cut, and the next client is served."""
    held.holds = False
    where, method = FAULTS[name]
    conversations = [
        [post(b"1"), GET, request("HEAD"), post(b"2", "Connection: close")],
        [request("POST", A, *CHUNKED), b"3\r\nabc\r\n", b"0\r\n\r\n", b"nonsense\r\n\r\n"],
        [post(b"1") + POLL + GET * 3, GET, post()[:-1], b"x"],
        [SSE + GET, GET, b""],
        [POLL, b""],
        [post(b"abc", "Expect: 100-continue")[:-3], b"abc", GET[:9]],
    ]
    for pieces_of_it in conversations:
        with monkeypatch.context() as patch:
            patch.setattr(where, method, failing(number, getattr(where, method)))
            client = Client(slow)
            client.stall()
            for piece in pieces_of_it:
                if not client.wire.lost:
                    client.wire.give(piece)
                held.append(A, b"news")
            client.go_on()
            await turn()
            if not client.wire.lost and not slow.app.engine.tails:
                forward(slow, 75)  # it has nothing to wait for, and so ends
                forward(slow, 2)
            assert client.wire.lost or len(slow.app.engine.tails) == 1
            client.reset()
            await turn()
        assert not slow.connections
        assert slow.budget.held == 0
        assert len(slow.app.engine.tails) == 0
        assert len(complaints(caplog)) <= 1
        caplog.clear()
        (answer,) = Client(slow).send(request("HEAD", A, "Connection: close")).answers("HEAD")
        assert answer.status == 200
        await over(slow)


# -- the end of the server ---------------------------------------------------


async def test_a_stop_closes_idle_connections_and_lets_the_others_finish(
    slow: Lane, held: HeldStore
) -> None:  # TRAPS 48
    idle, busy = Client(slow), Client(slow).send(post(b"1") + post(b"2"))
    half = Client(slow).send(post()[:-1])
    for client in (idle, busy, half):
        client.connection.shutdown()
    assert idle.wire.lost
    assert half.wire.lost
    assert not busy.gone
    held.let_go()
    (answer,) = busy.answers("POST", "POST")
    assert answer.headers["connection"] == "close"
    assert busy.gone
    assert held.held == []


async def test_a_stop_ends_live_reads_cleanly(lane: Lane) -> None:  # TRAPS 36, 48
    poll, sse = Client(lane).send(POLL), Client(lane).send(SSE)
    for client in (poll, sse):
        client.connection.shutdown()
    lane.app.begin_shutdown()
    await turn()
    assert poll.answers("GET")[0].status == 204
    assert sse.answers("GET")[0].body.count(b"event: control") == 2
    assert poll.gone
    assert sse.gone


# -- the scheme --------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "tls", "said", "scheme"),
    [
        (("127.0.0.1", 1), False, None, "http"),
        (("127.0.0.1", 1), False, "https", "https"),
        (("127.0.0.1", 1), False, "HTTPS", "https"),
        (("::1", 1, 0, 0), False, "https", "https"),
        ("", False, "https", "https"),
        (None, False, "https", "https"),
        (("10.0.0.1", 1), False, "https", "http"),
        (("10.0.0.1", 1), True, "http", "https"),
        (("127.0.0.1", 1), True, None, "https"),
        (("127.0.0.1", 1), True, "http", "http"),
        (("127.0.0.1", 1), True, "gopher", "https"),
    ],
)
async def test_the_scheme_is_the_sockets_or_what_a_proxy_on_this_machine_says(
    lane: Lane, peer: Any, tls: bool, said: str | None, scheme: str
) -> None:
    headers = ["Content-Type: text/plain"] + ([f"X-Forwarded-Proto: {said}"] if said else [])
    (answer,) = Client(lane, peer, tls).send(request("PUT", B, *headers)).answers("PUT")
    assert answer.headers["location"] == f"{scheme}://h{B}"


@pytest.mark.parametrize(
    ("peer", "lines", "scheme"),
    [
        (("127.0.0.1", 1), ("X-Forwarded-Proto: https, http",), "https"),
        (("127.0.0.1", 1), ("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"), "https"),
        (("127.0.0.1", 1), ("Forwarded: for=a;proto=https;host=evil, for=b",), "https"),
        (("127.0.0.1", 1), ("Forwarded: for=a", "Forwarded: proto=https"), "https"),
        (("127.0.0.1", 1), ("Forwarded: proto=https", "X-Forwarded-Proto: http"), "http"),
        (("10.0.0.1", 1), ("X-Forwarded-Proto: https, http",), "http"),
        (("10.0.0.1", 1), ("Forwarded: proto=https",), "http"),
    ],
)
async def test_scheme_in_a_list_is_believed_of_a_proxy_on_this_machine_alone(
    lane: Lane, peer: Any, lines: tuple[str, ...], scheme: str
) -> None:
    sent = request("PUT", B, "Content-Type: text/plain", *lines)
    (answer,) = Client(lane, peer).send(sent).answers("PUT")
    assert answer.headers["location"] == f"{scheme}://h{B}"


async def test_a_connection_with_tls_cannot_be_half_closed(slow: Lane, held: HeldStore) -> None:
    client = Client(slow, tls=True).send(post(b"1"))
    client.finish()
    assert client.wire.lost
    await turn()
    held.let_go()
    assert body_of(held) == b"1"


async def test_the_last_answer_over_tls_is_sent_whole_before_the_end(
    lane: Lane, store: StreamStore
) -> None:
    store.append(A, b"x" * 10_000)
    client = Client(lane, tls=True)
    client.stall()
    client.send(request("GET", A, "Connection: close"))
    forward(lane, 29)
    assert not client.wire.lost
    forward(lane, 1)
    assert client.wire.aborted


async def test_an_append_needs_no_task_future_or_timer(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(lane).send(post())
    loop = asyncio.get_running_loop()
    for name in ("create_task", "create_future", "call_soon", "call_later", "call_at"):
        monkeypatch.setattr(loop, name, None)
    client.send(post())
    monkeypatch.undo()
    assert len(client.answers("POST", "POST")) == 2

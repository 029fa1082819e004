"""Requests that a native connection receives, valid and invalid."""

from typing import Any

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.protocol.limits import MAX_HEADER_BYTES, MAX_URL_BYTES
from tests.http.native.connections import CHUNKED, GET, TIMES, A, B, data_of, disconnect_all
from tests.http.socket_driver import (
    Client,
    HeldStore,
    post,
    request,
    run_turns,
    run_until_idle,
)


@pytest.mark.parametrize("each", [0, 1, 7])
async def test_responses_are_the_same_however_octets_are_split(lane: Lane, each: int) -> None:
    client = Client(lane)
    chunked = request("POST", A, *CHUNKED) + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    client.send(post(b"1") + chunked + request("HEAD") + GET, each)
    answers = client.answers("POST", "POST", "HEAD", "GET")
    assert [answer.status for answer in answers] == [204, 204, 200, 200]
    assert answers[-1].body == b"1abcde"


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/3.0"])
async def test_unsupported_http_version_returns_400(lane: Lane, version: bytes) -> None:
    client = Client(lane).send(GET.replace(b"HTTP/1.1", version))
    (answer,) = client.answers("GET")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HTTP")
    assert client.is_ended


async def test_request_without_version_returns_400(lane: Lane) -> None:
    (answer,) = Client(lane).send(b"GET /v1/stream/a\r\n\r\n").answers("GET")
    assert answer.status == 400


async def test_white_space_around_header_value_is_ignored(lane: Lane, store: StreamStore) -> None:
    for close in ("Stream-Closed:\ttrue \t", "Stream-Closed:true"):
        client = Client(lane).send(request("POST", A, close, "Content-Length: 0 "))
        assert [answer.status for answer in client.answers("POST")] == [204]
        stream = store.get(A)
        assert stream is not None
        assert stream.closed


async def test_path_and_query_are_parsed_from_every_form_of_request_target(
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


async def test_upgrade_header_is_ignored(lane: Lane, store: StreamStore) -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    client = Client(lane)
    chunked = request("POST", A, *CHUNKED, *upgrade) + b"3\r\ndef\r\n0\r\n\r\n"
    for each in (0, 1):
        client.send(post(b"abc", *upgrade) + chunked + request("GET", A, *upgrade) + GET, each)
        answers = client.answers("POST", "POST", "GET", "GET")
        assert [answer.status for answer in answers] == [204, 204, 200, 200]
    assert data_of(store) == b"abcdef" * 2
    assert not client.is_ended


async def test_connect_request_returns_400_and_closes_connection(lane: Lane) -> None:
    client = Client(lane).send(request("CONNECT", "h:80") + GET)
    (answer,) = client.answers("CONNECT", "GET")
    assert answer.status == 400
    assert client.is_ended


async def test_invalid_http_returns_400_after_earlier_responses(
    held_lane: Lane, held_store: HeldStore
) -> None:
    client = Client(held_lane).send(post(b"1") + b"nonsense\r\n\r\n" + post(b"2"))
    assert client.read() == b""
    held_store.release_append()
    first, second = client.answers("POST", "GET")
    assert (first.status, second.status) == (204, 400)
    assert second.error["code"] == "INVALID_HTTP"
    assert second.headers["connection"] == "close"
    assert client.is_ended
    client.send(post(b"3"))  # the server does not read this
    assert held_store.held == []


async def test_trailers_do_not_become_headers_of_next_request(
    lane: Lane, store: StreamStore
) -> None:
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
async def test_endless_chunk_extensions_and_trailers_are_refused(lane: Lane, more: bytes) -> None:
    client = Client(lane).send(request("POST", A, *CHUNKED) + more)
    for _ in range(100):
        client.send(b"x" * 4096 if b"y" not in more else b"x: y\r\n" * 700)
    (answer,) = client.answers("POST")
    assert answer.error["code"] in ("HEADERS_TOO_LARGE", "INVALID_HTTP")
    assert client.is_ended


async def test_too_long_url_returns_414_before_its_end(lane: Lane) -> None:
    client = Client(lane).send(b"GET /" + b"x" * MAX_URL_BYTES)
    (answer,) = client.answers("GET")
    assert (answer.status, answer.error["code"]) == (414, "URI_TOO_LONG")
    assert client.is_ended


async def test_too_many_or_too_large_headers_are_refused(lane: Lane) -> None:
    for lines in (["X: " + "y" * MAX_HEADER_BYTES], [f"X-{n}: y" for n in range(130)]):
        client = Client(lane).send(request("GET", A, *lines))
        await run_until_idle(lane)
        (answer,) = client.answers("GET")
        assert answer.error["code"] == "HEADERS_TOO_LARGE"


async def test_endless_head_returns_431(lane: Lane) -> None:
    client = Client(lane).send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(100):
        client.send(b"y" * 4096)
    (answer,) = client.answers("GET")
    assert (answer.status, answer.error["code"]) == (431, "HEADERS_TOO_LARGE")
    assert client.is_ended


async def test_too_large_body_returns_413_before_it_is_received(store: StreamStore) -> None:
    lane = Lane(create_app(store=store, max_body=10), TIMES)
    declared = request("POST", A, "Content-Type: text/plain", "Content-Length: 11")
    chunked = request("POST", A, *CHUNKED) + b"6\r\n123456\r\n6\r\n"
    for sent, more in ((declared, b"x"), (chunked, b"123456\r\n")):
        client = Client(lane).send(sent).send(more)
        (answer,) = client.answers("POST")
        assert (answer.status, answer.error["code"]) == (413, "BODY_TOO_LARGE")
        assert client.is_ended
        assert lane.budget.held == 0
    assert data_of(store) == b""
    await disconnect_all(lane)


async def test_bodies_beyond_budget_return_503_until_memory_is_free(
    store: StreamStore,
) -> None:  # TRAPS 51
    lane = Lane(create_app(store=store, max_body=10, max_in_flight=25), TIMES)
    sent = post(b"x" * 10)
    clients = [Client(lane).send(sent[:-1]) for _ in range(2)]
    assert lane.budget.held == 18  # only bytes that have arrived count
    (refused,) = Client(lane).send(sent).answers("POST")
    assert (refused.status, refused.error["code"]) == (503, "BODIES_IN_FLIGHT")
    assert refused.headers["retry-after"] == "1"
    clients[0].send(b"y")
    clients[1].reset()
    await run_turns()
    assert lane.budget.held == 0
    (chunked,) = (
        Client(lane).send(request("POST", A, *CHUNKED) + b"1\r\nz\r\n0\r\n\r\n").answers("POST")
    )
    assert chunked.status == 204
    await disconnect_all(lane)


async def test_repeated_host_header_returns_400(lane: Lane) -> None:
    (answer,) = Client(lane).send(request("GET", A, "Host: other")).answers("GET")
    assert (answer.status, answer.error["code"]) == (400, "REPEATED_HEADER")


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "xchunked"])
async def test_unknown_transfer_coding_returns_400(lane: Lane, coding: str) -> None:
    sent = request("POST", A, "Content-Type: text/plain", f"Transfer-Encoding: {coding}")
    client = Client(lane).send(sent + b"1\r\nx\r\n0\r\n\r\n")
    (answer,) = client.answers("POST")
    assert (answer.status, answer.error["code"]) == (400, "INVALID_HTTP")
    assert client.is_ended


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
async def test_scheme_comes_from_socket_or_local_proxy(
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
async def test_forwarded_scheme_is_trusted_from_local_proxy_only(
    lane: Lane, peer: Any, lines: tuple[str, ...], scheme: str
) -> None:
    sent = request("PUT", B, "Content-Type: text/plain", *lines)
    (answer,) = Client(lane, peer).send(sent).answers("PUT")
    assert answer.headers["location"] == f"{scheme}://h{B}"

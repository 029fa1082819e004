"""The parser of a native connection, tested without a connection."""

import pytest

from durable_streams_server import create_app
from durable_streams_server.errors import BadRequest, RequestTimeout, StreamError
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.native.parser import Parser
from durable_streams_server.http.native.pending import PendingRequest
from durable_streams_server.http.request import LISTS
from tests.http.socket_driver import post, request

CHUNKED = request("POST", "/a", "Transfer-Encoding: chunked")


@pytest.fixture
async def lane() -> Lane:
    return Lane(create_app(max_body=1000, max_in_flight=2000))


@pytest.fixture
def turns() -> list[PendingRequest]:
    return []


@pytest.fixture
def parser(lane: Lane, turns: list[PendingRequest]) -> Parser:
    return Parser(lane, "http", False, turns.append, lambda _: None)


@pytest.mark.parametrize("each", [1, 3, 1000])
def test_requests_are_found_in_order_however_octets_are_split(
    parser: Parser, turns: list[PendingRequest], lane: Lane, each: int
) -> None:
    octets = post(b"hello") + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + request("GET", "/b?c=d")
    for start in range(0, len(octets), each):
        parser.feed(octets[start : start + each])
    assert [turn.request.body for turn in turns] == [b"hello", b"abc", b""]
    assert [turn.request.raw_path for turn in turns] == [b"/v1/stream/a", b"/a", b"/b"]
    assert turns[2].request.query == b"c=d"
    assert lane.budget.held == 8
    for turn in turns:
        lane.budget.give_back(turn.taken)
        if turn.incoming is not None:
            turn.incoming.release()
    assert lane.budget.held == 0


def test_repeated_list_headers_are_joined(
    parser: Parser, turns: list[PendingRequest]
) -> None:  # RFC 9110, 5.3
    for name in sorted(LISTS):
        text = name.decode()
        parser.feed(request("GET", "/a", f"{text}: a", "X: y", f"{text.title()}: b", f"{text}: c"))
        joined = b"a; b; c" if name == b"cookie" else b"a, b, c"
        assert turns.pop().request.headers == {b"host": b"h", name: joined, b"x": b"y"}


def test_has_begun_is_true_from_first_to_last_octet_of_a_request(
    parser: Parser, turns: list[PendingRequest]
) -> None:
    parser.feed(b"\r\n\r\n")
    assert not parser.has_begun
    for octet in post(b"abc")[:-1]:
        parser.feed(bytes([octet]))
        assert parser.has_begun
    assert parser.request is not None
    parser.feed(b"cG")
    assert len(turns) == 1
    assert parser.request is None
    assert parser.has_begun
    parser.feed(request("GET")[1:])
    assert len(turns) == 2
    assert not parser.has_begun


def test_refusal_ends_parsing_and_releases_body(
    parser: Parser, turns: list[PendingRequest], lane: Lane
) -> None:
    parser.feed(post(b"x" * 100)[:-1])
    assert lane.budget.held == 99  # the octets that have arrived
    parser.refuse(RequestTimeout("too late"))
    parser.refuse(BadRequest("again"))
    parser.feed(b"nonsense")
    assert lane.budget.held == 0
    (turn,) = turns
    assert isinstance(turn.refusal, RequestTimeout)
    assert turn.request.raw_path == b"/v1/stream/a"
    assert parser.is_over


def test_parser_awaits_continue_only_until_the_body_arrives(
    parser: Parser, turns: list[PendingRequest]
) -> None:
    octets = post(b"hello", "Expect: 100-continue")
    parser.feed(octets[:-5])
    assert parser.awaits_continue
    parser.feed(octets[-5:])
    assert not parser.awaits_continue
    parser.feed(octets)
    assert not parser.awaits_continue
    assert len(turns) == 2


def test_any_error_in_callback_refuses_request(
    parser: Parser, turns: list[PendingRequest], lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(lane.budget, "take", fail)
    parser.feed(post(b"abc"))
    (turn,) = turns
    assert isinstance(turn.refusal, MemoryError)
    assert not isinstance(turn.refusal, StreamError)


def test_released_parser_calls_no_callback(parser: Parser, turns: list[PendingRequest]) -> None:
    parser.feed(post(b"abc")[:-1])
    parser.release()
    parser.refuse(BadRequest("late"))
    parser.feed(b"c")
    assert turns == []


def test_each_host_header_on_connection_is_checked(
    parser: Parser, turns: list[PendingRequest]
) -> None:
    for _ in range(2):
        parser.feed(request("GET"))
        parser.feed(request("GET").replace(b"Host: h", b"Host: other"))
    assert [turn.refusal for turn in turns] == [None] * 4
    parser.feed(request("GET").replace(b"Host: h\r\n", b""))
    refusal = turns[-1].refusal
    assert isinstance(refusal, BadRequest)
    assert refusal.code == "INVALID_HOST"
    assert parser.is_over

"""A parser that recognises requests by their heads must find the same requests as one that parses everything."""

import asyncio
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from durable_streams_server import create_app
from durable_streams_server.http.native import known as known_module
from durable_streams_server.http.native.known import LONGEST, KnownRequests
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.native.parser import Parser
from durable_streams_server.http.native.pending import PendingRequest
from durable_streams_server.http.observing.routes import APPEND
from durable_streams_server.http.request import UNROUTED, Request
from tests.http.socket_driver import Client, post, request

A = "/v1/stream/a"
GET = request("GET", "/a?offset=-1")
CLOSE = "Connection: close"


class Nothing(KnownRequests):
    """A cache that stores no request."""

    def keep(self, octets: bytes, request: Request) -> None:
        pass


@pytest.fixture
async def lane() -> Lane:
    return Lane(create_app(max_body=1000, max_in_flight=2000))


def parser_of(
    lane: Lane, turns: list[PendingRequest], scheme: str = "http", trusted: bool = True
) -> Parser:
    return Parser(lane, scheme, trusted, turns.append, lambda _: None)


def looked_up(lane: Lane, octets: bytes, **how: Any) -> bool:
    """Sends the same octets on three connections. Returns whether the third connection recognises them without parsing."""
    turns: list[PendingRequest] = []
    for _ in range(3):
        parser_of(lane, turns, **how).feed(octets)
    assert turns[0].request is not turns[1].request
    return len(turns) == 3 and turns[1].request is turns[2].request


def test_repeated_requests_without_body_are_parsed_at_most_twice(lane: Lane) -> None:
    assert looked_up(lane, GET)
    assert looked_up(lane, request("HEAD"))
    assert looked_up(lane, request("GET", "/b", "If-None-Match: *", "Origin: http://a"))


@pytest.mark.parametrize(
    "octets",
    [
        request("DELETE"),
        request("PUT", "/a"),
        request("PUT", "/a", body=b"x"),
        request("POST", "/a", "Producer-Seq: 1", body=b"x"),
        request("POST", "/a", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
        post(b"x" * 5000),
        post(b"x") + b"\r\n",
        b"\r\n" + post(b"x"),
        post(b"x") + post(b"x"),
        request("GET", "/a", CLOSE),
        request("GET").replace(b"1.1", b"1.0"),
        request("GET", "/a", "Content-Length: 0"),
        request("GET", "/a", body=b"abc"),
        request("GET", "/a", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        request("GET", "/a", "Upgrade: h2c", "Connection: upgrade"),
        request("GET", "/a", "Expect: 100-continue"),
        request("GET", "/a", "X-Forwarded-Proto: https"),
        request("GET", "/a", "X-Forwarded-For: 203.0.113.9"),
        request("GET", "/a", "Forwarded: proto=https"),
        request("GET", "/a", f"X: {'y' * LONGEST}"),
        request("GET", "/a", *(f"X{number}: y" for number in range(30))),
        GET + b"\r\n",
        GET + GET,
        GET + GET[:20],
    ],
)
def test_uncacheable_request_is_parsed_each_time(lane: Lane, octets: bytes) -> None:
    assert not looked_up(lane, octets)


def test_appends_with_the_same_cached_head_have_separate_bodies(lane: Lane) -> None:
    turns: list[PendingRequest] = []
    for body in (b"abc", b"def", b"ghi", b"jkl", post(b"x")[:3]):
        parser_of(lane, turns).feed(post(body))
    assert [turn.request.body for turn in turns] == [b"abc", b"def", b"ghi", b"jkl", b"POS"]
    assert [turn.taken for turn in turns] == [3] * 5
    assert turns[2].request.headers is turns[3].request.headers is turns[4].request.headers
    assert turns[2].request is not turns[3].request
    assert lane.budget.held == 15


async def test_requests_with_a_cached_head_share_one_append_command() -> None:
    app = create_app()
    lane = Lane(app)
    client = Client(lane)
    client.send(request("PUT", A, "Content-Type: application/json"))
    same = request("POST", A, "Content-Type: application/json", "Stream-Closed: no", body=b"[1]")
    other = request("POST", "/v1/stream/b", "Content-Type: application/json", body=b"[1]")
    for body in (b"[1]", b"[2]", b"[3]", b"[4]", b"[5,", b"[ ]", b"[6]"):
        client.send(same[:-3] + body)
        client.send(other[:-3] + body)
    statuses = [answer.status for answer in client.answers(*["PUT"] + ["POST"] * 14)]
    assert statuses == [201, *[204, 404] * 4, 400, 404, 400, 404, 204, 404]
    head = same[:-3]
    known = lane.known.find(head)
    assert known is not None
    assert known.known is not None
    assert known.known.append is not None
    assert known.known.append.body.wire == b""  # the shared command holds no body
    client.send(request("GET", A))
    assert client.read().endswith(b"[1,2,3,4,6]")


async def test_stopping_server_refuses_append_with_a_cached_head() -> None:
    app = create_app()
    lane = Lane(app)
    client = Client(lane)
    client.send(request("PUT", A, "Content-Type: text/plain"))
    for _ in range(4):
        client.send(post(b"x"))
    client.read()
    app.engine.stopping = True
    client.send(post(b"x"))
    assert client.read().startswith(b"HTTP/1.1 503 ")
    app.engine.stopping = False
    client.reset()
    await asyncio.sleep(0)


@pytest.mark.parametrize("body", [b"", b"ab", b"abcd", b"abc\r\n"])
def test_cached_head_with_a_body_of_another_length_is_parsed(lane: Lane, body: bytes) -> None:
    assert looked_up_head(lane, b"abc")
    octets = post(b"abc")[:-3] + body
    turns: list[PendingRequest] = []
    parser = parser_of(lane, turns)
    parser.feed(octets)
    if len(body) < 3:
        assert (turns, parser.body_left) == ([], 3 - len(body))
        parser.feed(b"abc"[len(body) :])
    assert turns[0].request.body == b"abc"


def looked_up_head(lane: Lane, body: bytes) -> bool:
    turns: list[PendingRequest] = []
    for _ in range(4):
        parser_of(lane, turns).feed(post(body))
    for turn in turns:
        lane.budget.give_back(turn.taken)
    return turns[2].request.headers is turns[3].request.headers


def test_append_with_a_cached_head_is_refused_beyond_the_memory_budget(lane: Lane) -> None:
    assert looked_up_head(lane, b"abc")
    lane.budget.take(1999)
    turns: list[PendingRequest] = []
    parser_of(lane, turns).feed(post(b"abc"))
    lane.budget.give_back(1999)
    (turn,) = turns
    assert turn.refusal is not None
    assert lane.budget.held == 0


def test_request_received_in_two_parts_is_never_cached(lane: Lane) -> None:
    """The first part contains a complete head, and its end may look like a whole body."""
    whole = post(b"x" * 300)
    first, rest = whole[:-200], whole[-200:]
    turns: list[PendingRequest] = []
    for _ in range(4):
        parser = parser_of(lane, turns)
        parser.feed(b"\r\n\r\n" + first)
        parser.feed(rest)
    assert len({id(turn.request.headers) for turn in turns}) == 4
    assert not lane.known._requests


def test_parser_keeps_no_found_request_after_feed_returns(lane: Lane) -> None:
    turns: list[PendingRequest] = []
    parser = parser_of(lane, turns)
    for octets in (post(b"x" * 900), post(b"x"), GET * 3, GET[:5]):
        parser.feed(octets)
        assert parser._found is None


@pytest.mark.parametrize("cut", [1, 3, 4, 10, len(GET) - 4, len(GET) - 1])
def test_part_of_a_cached_request_is_not_mistaken_for_the_whole(lane: Lane, cut: int) -> None:
    for _ in range(3):
        turns: list[PendingRequest] = []
        parser = parser_of(lane, turns)
        parser.feed(GET[:cut])
        assert (turns, parser.has_begun) == ([], True)
        parser.feed(GET[cut:])
        assert len(turns) == 1


def test_cached_request_with_another_scheme_is_parsed_again(lane: Lane) -> None:
    turns: list[PendingRequest] = []
    for scheme in ("http", "http", "http", "https"):
        parser_of(lane, turns, scheme).feed(GET)
    assert turns[1].request is turns[2].request
    assert turns[3].request.scheme == "https"


def test_request_cache_evicts_the_oldest_request(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_module, "_KNOWN", 2)
    octets = [request("GET", f"/{number}") for number in range(3)]
    for each in octets:
        assert looked_up(lane, each)
    assert [lane.known.find(each) is not None for each in octets] == [False, True, True]


# -- with and without known heads -----------------------------------------------------

PIECES = [
    GET,
    GET,
    request("HEAD"),
    request("GET", "/b?offset=now", "If-None-Match: *"),
    request("GET", "/a", CLOSE),
    request("GET").replace(b"1.1", b"1.0"),
    request("GET", "/a", body=b"abc"),
    request("GET", "/a", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    request("GET", "/a", "Upgrade: h2c", "Connection: upgrade"),
    request("GET", "/a", "Content-Length: 3"),  # the following octets are its body
    request("GET", "/a", "Host: again"),
    request("GET", "/a", "X-Forwarded-Proto: https"),
    request("GET", "/a", "X-Forwarded-For: 203.0.113.9"),
    post(b"hello"),
    post(b"hello"),
    post(b"other"),
    post(b""),
    request("POST", "/a", "Producer-Seq: 1", body=b"x"),
    post(GET),  # a body that looks like a request
    b"\r\n",
    b"\r",
    b"GET",
    b"nonsense\r\n\r\n",
]


def _shown(turns: list[PendingRequest]) -> list[object]:
    shown: list[object] = []
    for turn in turns:
        request = replace(turn.request, known=None, route=UNROUTED)
        refusal = turn.refusal and (type(turn.refusal), str(turn.refusal))
        shown.append((request, turn.keep_alive, turn.chunked, turn.taken, refusal))
    return shown


@pytest.mark.parametrize("seed", range(20))
def test_parser_finds_the_same_requests_with_and_without_its_cache(lane: Lane, seed: int) -> None:
    chance = Random(seed)
    other = Lane(lane.app)
    other.known = Nothing()
    for _ in range(100):
        pieces = chance.choices(PIECES, k=6)
        if chance.random() < 0.5:
            octets = b"".join(pieces)
            cuts = sorted(chance.sample(range(len(octets)), 4))
            bounds = zip([0, *cuts], [*cuts, len(octets)], strict=True)
            pieces = [octets[start:end] for start, end in bounds]
        ours: list[PendingRequest] = []
        judge: list[PendingRequest] = []
        looking, parsing = parser_of(lane, ours), parser_of(other, judge)
        for piece in pieces:
            if piece:
                looking.feed(memoryview(piece))
                parsing.feed(piece)
            assert _shown(ours) == _shown(judge)
            assert (
                looking.has_begun,
                looking.is_over,
                looking.awaits_continue,
                looking.body_left,
            ) == (
                parsing.has_begun,
                parsing.is_over,
                parsing.awaits_continue,
                parsing.body_left,
            )
        for turn in ours + judge:
            lane.budget.give_back(turn.taken)
            if turn.incoming is not None:
                turn.incoming.release()
        looking.end()
        parsing.end()
    assert lane.budget.held == 0


def test_known_append_has_its_route(lane: Lane) -> None:
    turns: list[PendingRequest] = []
    for _ in range(3):
        parser_of(lane, turns).feed(post(b"abc"))
    assert turns[2].request.route == APPEND

"""Kept responses have the same octets as new ones, and are never out of date."""

import re
from collections.abc import AsyncIterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http import kept as kept_module
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.kept import Kept, KeptAnswers, KeptResponse
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.replies import Reply
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.names import X_REQUEST_ID
from durable_streams_server.protocol.render import Response
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.ticket import Ticket
from tests.http.asgi_driver import Answer, request
from tests.http.socket_driver import Client, parse, until
from tests.http.socket_driver import request as octets_of
from tests.streams.engines import ManualClock

ROOT = "/v1/stream/"
A = ROOT + "a"
TEXT = {"content-type": "text/plain"}
ZERO = f"{0:016d}_{0:016d}"
KINDS = {"json": "application/json", "text": "text/plain", "bytes": "application/octet-stream"}
DATA = {"json": b'["abc","d"]', "text": b"abcdefgh", "bytes": b"\0\1\2\3\4\5\6\7"}
ORIGIN = "https://a.example"

Store = StreamStore | FileBackedStreamStore


class Forgetful(KeptAnswers):
    """A cache that keeps no response, so that the server makes each response anew."""

    def find(self, _: Request) -> Kept | None:
        return None


class World:
    """A server that can answer with and without kept responses.

    Attributes:
        handed: the replies that the handler has returned to the lane.
    """

    def __init__(self, app: DurableStreamsApp, native: bool) -> None:
        self.app = app
        self.native = native
        self.handler = app.handler
        self.keeping = self.handler._kept
        self.handed: list[Reply | Ticket[Reply]] = []
        self._lane = Lane(app, Timeouts())
        self._client: Client | None = None
        handle = self.handler.handle

        def watched(*given: Any) -> Reply | Ticket[Reply]:
            self.handed.append(handle(*given))
            return self.handed[-1]

        self.handler.handle = watched  # type: ignore[method-assign,assignment]  # replaced to record its replies

    async def do(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Makes a request through ASGI, whichever lane is under test."""
        return await request(self.app, method, path, headers or {}, body)

    async def ask(self, method: str, target: str, headers: dict[str, str]) -> object:
        """Returns the response over the lane under test, without its date and the random id of an error."""
        if not self.native:
            answer = await request(self.app, method, target, headers)
            pairs = [pair for pair in answer.pairs if pair[0] != X_REQUEST_ID]
            return answer.status, pairs, answer.body
        if self._client is None or self._client.is_ended:
            self._client = Client(self._lane)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        return await self.exchange(self._client, octets_of(method, target, *lines), [method])

    async def exchange(self, client: Client, octets: bytes, methods: Sequence[str]) -> bytes:
        """Sends octets to the native lane, and returns the octets of one response per method, without their dates and random ids."""
        client.send(octets)
        received = client.wire.received
        await until(lambda: len(parse(bytes(received), methods)[0]) == len(methods))
        return re.sub(rb"\r\n(date|x-request-id): [^\r]*", rb"\r\n\1: -", client.read())

    async def compare(self, method: str, target: str, headers: dict[str, str]) -> bool:
        """Asserts that responses are the same with and without kept ones. Returns whether the last response was kept."""
        self.handler._kept = Forgetful()
        fresh = await self.ask(method, target, headers)
        self.handler._kept = self.keeping
        for _ in range(3):
            assert await self.ask(method, target, headers) == fresh
        return self.handed[-1] is self.handed[-2]

    async def compare_and_ask(self, method: str, target: str) -> object:
        """Calls `compare`, and returns the response."""
        await self.compare(method, target, {})
        return await self.ask(method, target, {})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return StreamStore()
    return FileBackedStreamStore(tmp_path / "data", segment_size=1 << 20)


@pytest.fixture(params=["native", "asgi"])
async def world(
    request: pytest.FixtureRequest, store: Store, clock: ManualClock
) -> AsyncIterator[World]:
    app = create_app(store=store, clock=clock)
    yield World(app, request.param == "native")
    await app.stop()
    store.close()


# -- the same octets ---------------------------------------------------------


async def streams(world: World, clock: ManualClock, kind: str) -> list[str]:
    """Creates streams in each state, and returns their paths."""
    types, data = {"content-type": KINDS[kind]}, DATA[kind]
    deadline = "2025-06-15T15:10:00Z"  # some minutes after the time of the clock
    states: dict[str, dict[str, str]] = {
        "open": {},
        "closed": {"stream-closed": "true"},
        "sliding": {"stream-ttl": "600"},
        "sliding-closed": {"stream-ttl": "600", "stream-closed": "true"},
        "dated": {"stream-expires-at": deadline},
        "dated-closed": {"stream-expires-at": deadline, "stream-closed": "true"},
        "expired": {"stream-ttl": "1"},
        "deleted": {},
        "forked": {},
    }
    found = []
    for name, headers in states.items():
        for body in (b"", data):
            path = f"{ROOT}{kind}-{name}-{len(body)}"
            assert (await world.do("PUT", path, {**types, **headers}, body)).status == 201
            found.append(path)
    for size in (0, len(data)):
        source, fork = f"{ROOT}{kind}-forked-{size}", f"{ROOT}{kind}-fork-{size}"
        await world.do("PUT", fork, {"stream-forked-from": source})
        await world.do("PUT", fork + "-on", {"stream-forked-from": source})
        await world.do("POST", fork + "-on", types, data)
        await world.do("DELETE", f"{ROOT}{kind}-deleted-{size}")
        await world.do("DELETE", source)
        found += [fork, fork + "-on"]
    clock.forward(2)
    return [*found, ROOT + "none"]


async def offsets(world: World, path: str) -> list[str]:
    """Returns query strings with every kind of offset of a stream."""
    tail = (await world.do("HEAD", path)).headers.get("stream-next-offset", ZERO)
    incarnation, position = tail.split("_")
    middle, past = f"{min(3, int(position)):016d}", f"{int(position) + 1:016d}"
    named = [
        "-1",
        ZERO,
        tail,
        f"{incarnation}_{middle}",
        f"{incarnation}_{past}",
        f"{int(incarnation) - 1:016d}_{position}",
        "now",
        "nonsense",
    ]
    return ["", *(f"?offset={each}" for each in named), f"?offset={tail}&offset=now&x"]


@pytest.mark.parametrize("kind", KINDS)
async def test_cached_response_has_the_same_octets_as_a_new_one(
    world: World, clock: ManualClock, kind: str
) -> None:
    from_cache = 0
    for path in await streams(world, clock, kind):
        queries = await offsets(world, path)
        tag = (await world.do("GET", path + queries[3])).headers.get("etag", '"none"')
        conditions: list[dict[str, str]] = [{}]
        conditions += [{"if-none-match": each} for each in (tag, "*", '"x"')]
        others = ({"origin": ORIGIN}, {"accept-encoding": "gzip"}, {"last-event-id": "now"})
        for query, headers in product(queries, conditions):
            from_cache += await world.compare("GET", path + query, headers)
        for headers in others:
            from_cache += await world.compare("GET", path + queries[3], headers)
        for headers in conditions[:2]:
            from_cache += await world.compare("HEAD", path, headers)
    assert from_cache > 200


@pytest.mark.parametrize("cors", [False, [ORIGIN]], ids=["none", "one"])
@pytest.mark.parametrize("native", [False, True], ids=["asgi", "native"])
async def test_cached_response_is_used_for_one_origin_only(cors: Any, native: bool) -> None:
    app = create_app(cors=cors)
    world = World(app, native)
    await world.do("PUT", A, TEXT)
    for origin in (ORIGIN, "https://b.example", None, ORIGIN):
        headers = {} if origin is None else {"origin": origin}
        for method, target in (("GET", A), ("HEAD", A), ("GET", A + "?offset=now")):
            assert await world.compare(method, target, headers)
    await app.stop()


@pytest.mark.parametrize(
    "octets",
    [
        b"GET /v1/stream/a HTTP/1.0\r\n\r\n",
        b"GET /v1/stream/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /v1/stream/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"HEAD /v1/stream/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET http://h/v1/stream/%61?offset=now HTTP/1.1\r\nHost: h\r\n\r\n" * 5,
        b"GET /v1/stream/a HTTP/1.1\r\nHost: h\r\n\r\n" * 20,
        b"GET /v1/stream/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" * 3,
        b"HEAD /v1/stream/a HTTP/1.1\r\nHost: h\r\n\r\n" * 5,
        b"\r\n\r\nGET /v1/stream/a HTTP/1.1\r\nHost: h\r\n\r\n\r",
    ],
)
@pytest.mark.parametrize("each", [0, 1, 7])
async def test_cached_response_is_framed_like_a_new_one(octets: bytes, each: int) -> None:
    app = create_app()
    world = World(app, native=True)
    await world.do("PUT", A, {"content-type": "application/json"})
    methods = re.findall(r"(GET|HEAD) ", octets.decode())
    seen = []
    for answers in (Forgetful(), *[world.keeping] * 3):
        world.handler._kept = answers
        client = Client(world._lane)
        client.send(octets[:-1], each)
        seen.append((await world.exchange(client, octets[-1:], methods), client.is_ended))
        client.reset()
    assert seen == seen[:1] * 4
    assert seen[0][1] is (b"1.0\r\n" in octets or b"close" in octets)
    await app.stop()


# -- a change shows at once --------------------------------------------------


async def test_every_change_of_a_stream_replaces_its_cached_response(
    world: World, clock: ManualClock
) -> None:
    json = {"content-type": "application/json"}
    await world.do("PUT", A, json)
    tail = (await world.do("HEAD", A)).headers["stream-next-offset"]
    targets = [f"{A}?offset={tail}", f"{A}?offset=now", A]
    changes: list[tuple[str, bytes, dict[str, str]]] = [
        ("POST", b"[1]", json),
        ("POST", b"", {"stream-closed": "true"}),
        ("DELETE", b"", {}),
        ("PUT", b"", json),
        ("POST", b"[1]", json),
        ("DELETE", b"", {}),
        ("PUT", b"", {**json, "stream-ttl": "5"}),
        ("PUT", b"", {"stream-forked-from": A}),
        ("DELETE", b"", {}),
    ]

    async def seen() -> list[object]:
        gets = [await world.compare_and_ask("GET", target) for target in targets]
        return [*gets, await world.compare_and_ask("HEAD", A)]

    before = await seen()
    for method, body, headers in changes:
        path = ROOT + "fork" if "stream-forked-from" in headers else A
        assert (await world.do(method, path, headers, body)).status < 300
        after = await seen()
        assert (after[3] == before[3]) is (path != A)
        before = after


async def test_cached_response_to_get_extends_the_ttl_but_head_does_not(
    world: World, clock: ManualClock
) -> None:
    await world.do("PUT", A, {**TEXT, "stream-ttl": "10"})
    for _ in range(2):
        await world.ask("GET", A, {})
    for _ in range(4):
        clock.forward(8)
        await world.ask("GET", A, {})
        assert isinstance(world.handed[-1], KeptResponse)
    for _ in range(2):
        await world.ask("HEAD", A, {})
    clock.forward(8)
    await world.ask("HEAD", A, {})
    assert world.handed[-1] is world.handed[-2]
    clock.forward(2)
    for method in ("GET", "HEAD"):
        assert (await world.do(method, A)).status == 404
        assert not isinstance(world.handed[-1], KeptResponse)


async def test_stopping_server_sends_no_cached_response(world: World) -> None:
    await world.do("PUT", A, TEXT)
    assert [(await world.do("GET", A)).status for _ in range(3)] == [200] * 3
    assert world.handed[-1] is world.handed[-2]
    world.app.begin_shutdown()
    assert (await world.do("GET", A)).status == 503


async def test_max_age_of_a_closed_stream_shrinks_toward_its_deadline(
    world: World, clock: ManualClock
) -> None:
    deadline = "2025-06-15T15:07:40Z"
    made = await world.do(
        "PUT", A, {**TEXT, "stream-closed": "true", "stream-expires-at": deadline}
    )
    target = f"{A}?offset={made.headers['stream-next-offset']}"
    ages = []
    for _ in range(3):
        ages.append((await world.do("GET", target)).headers["cache-control"])
        clock.forward(10)
    assert len(set(ages)) == 3


# -- which responses are kept ------------------------------------------------


def _request(query: bytes, headers: dict[bytes, bytes] | None = None) -> Request:
    """Returns a GET request for the stream at `A`."""
    found = Request("GET", A.encode(), query, headers or {})
    found.header_bytes = sum(len(name) + len(value) for name, value in found.headers.items())
    return found


def _state() -> StreamState:
    """Returns the state of an empty stream at `A`."""
    media = parse_media_type("text/plain")
    assert media is not None
    return StreamState(A, 1, media, FOREVER, 0)


def test_response_is_cached_from_the_second_request_on() -> None:
    answers, state, response = KeptAnswers(), _state(), Response(200, [])
    assert answers.keep(_request(b""), state, response) is response
    assert answers.find(_request(b"")) is None
    again = answers.keep(_request(b""), state, response)
    kept = answers.find(_request(b""))
    assert kept is not None
    assert kept.response is again


def test_response_cache_evicts_the_oldest_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "_KEPT", 3)
    answers, state = KeptAnswers(), _state()
    for number in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4):
        answers.keep(_request(b"%d" % number), state, Response(200, []))
    assert len(answers) == 3
    assert [answers.find(_request(b"%d" % number)) is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_response_is_not_cached_if_it_or_its_request_is_long() -> None:
    answers, state = KeptAnswers(), _state()
    response = Response(200, [(b"content-type", b"text/plain; x=" + b"y" * 2000)])
    for _ in range(2):
        assert answers.keep(_request(b""), state, response) is response
    response = Response(200, [])
    for long in (_request(b"x" * 2000), _request(b"", {b"if-none-match": b"y" * 2000})):
        assert [answers.keep(long, state, response) is response for _ in range(2)] == [True, True]
    assert len(answers) == 0

"""`Observer`: both lanes report each response once, and it counts them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.observing.observer import BOUNDS, LIVE_BOUNDS, Observer, bounds_of
from durable_streams_server.http.observing.routes import APPEND, OTHER, READ, ROUTES, SSE
from durable_streams_server.http.request import Request
from tests.http import asgi_driver
from tests.http.asgi_driver import start_live_read
from tests.http.native.connections import SSE as SSE_REQUEST
from tests.http.native.connections import A, advance
from tests.http.observing.reports import PEER, Clock, Recorder
from tests.http.socket_driver import Client, HeldStore, parse, request, run_turns, until

TEXT = {"content-type": "text/plain"}
Ask = Callable[..., Awaitable[int]]


def a_request(method: str = "POST") -> Request:
    return Request(method, b"/a", b"", {})


# -- counting -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, 0),
        (BOUNDS[0], 0),
        (BOUNDS[0] + 1e-6, 1),
        (BOUNDS[-1], len(BOUNDS) - 1),
        (BOUNDS[-1] + 1, len(BOUNDS)),
    ],
)
def test_duration_is_counted_in_the_first_bucket_that_is_not_smaller(
    seconds: float, bucket: int
) -> None:
    clock = Clock()
    clock.now = 0.0
    observer = Observer(clock)
    clock.now = seconds
    observer.finished(a_request(), 204, 0.0, 0, None)
    assert observer.buckets[APPEND][bucket] == 1
    assert sum(observer.buckets[APPEND]) == 1
    assert observer.seconds[APPEND] == seconds


def test_responses_and_bytes_are_counted_by_route_and_status() -> None:
    observer = Observer(Clock())
    for status, size in ((200, 10), (200, 5), (404, 3)):
        observer.finished(a_request("GET"), status, 100.0, size, PEER)
    assert observer.counts[READ][200] == 2
    assert observer.counts[READ][404] == 1
    assert observer.sizes[READ] == 18
    assert sum(map(sum, observer.counts)) == 3


def test_event_stream_counts_at_its_beginning_and_once_at_its_end() -> None:
    clock = Clock()
    observer, recorder = Observer(clock), Recorder()
    observer.watcher = recorder
    live = observer.live_began(a_request("GET"), 200, clock.now, PEER)
    assert (observer.live, observer.counts[SSE][200]) == (1, 1)
    live.add(7)
    live.add(8)
    assert observer.sizes[SSE] == 15
    clock.now += 20
    live.end()
    live.end()
    assert observer.live == 0
    assert observer.buckets[SSE][LIVE_BOUNDS.index(30.0)] == 1
    assert recorder.began == [("/a", 200, PEER)]
    assert recorder.ended == [("/a", 15)]
    assert recorder.seconds == [20]


def test_event_stream_ends_with_the_watcher_that_saw_its_beginning() -> None:
    observer, first, second = Observer(), Recorder(), Recorder()
    unseen = observer.live_began(a_request("GET"), 200, 0.0, None)
    observer.watcher = first
    seen = observer.live_began(a_request("GET"), 200, 0.0, None)
    observer.watcher = second
    seen.end()
    unseen.end()
    assert first.ended == [("/a", 0)]
    assert second.ended == []


def test_every_route_has_ascending_bounds() -> None:
    for route in range(1, len(ROUTES)):
        bounds = bounds_of(route)
        assert list(bounds) == sorted(set(bounds))


# -- both lanes -----------------------------------------------------------------


@pytest.fixture
async def app() -> AsyncIterator[DurableStreamsApp]:
    app = create_app(store=StreamStore(), long_poll_timeout=5, max_body=64 * 1024)
    app.observer.watcher = Recorder()
    yield app
    await app.stop()


def reports(app: DurableStreamsApp) -> Recorder:
    recorder = app.observer.watcher
    assert isinstance(recorder, Recorder)
    return recorder


@pytest.fixture(params=["native", "asgi"])
def ask(request: pytest.FixtureRequest, app: DurableStreamsApp) -> Ask:
    """Makes one request over a lane, and returns the size of the response's body."""
    lane = Lane(app) if request.param == "native" else None

    async def ask(
        method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> int:
        if lane is None:
            answer = await asgi_driver.request(
                app, method, target, headers or {}, body, client=(PEER, 1)
            )
            return len(answer.body)
        client = Client(lane, (PEER, 1))
        client.send(octets(method, target, headers or {}, body))
        received = client.wire.received
        await until(lambda: len(parse(bytes(received), [method])[0]) == 1)
        (answer,) = client.answers(method)
        client.reset()
        await run_turns()
        return len(answer.body)

    return ask


def octets(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return request(method, target, *lines, body=body or None)


async def test_each_response_is_reported_once(app: DurableStreamsApp, ask: Ask) -> None:
    calls: list[tuple[str, str, dict[str, str], bytes, str, int]] = [
        ("PUT", A, TEXT, b"", "create", 201),
        ("PUT", A, TEXT, b"", "create", 200),
        *[("POST", A, TEXT, b"ab", "append", 204)] * 4,  # the later ones have known heads
        ("POST", A + "/none", TEXT, b"ab", "append", 404),
        *[("GET", A + "?offset=-1", {}, b"", "read", 200)] * 4,
        *[("GET", A + "?offset=now", {}, b"", "read", 200)] * 4,
        *[("HEAD", A, {}, b"", "head", 200)] * 4,
        ("GET", A + "?offset=-1&live=long-poll", {}, b"", "long_poll", 200),
        ("GET", A + "?offset=bad&live=sse", {}, b"", "sse", 400),
        ("OPTIONS", A, {}, b"", "options", 204),
        ("PATCH", A, {}, b"", "other", 405),
        ("GET", "/v1/stream/__ds/jwks.json", {}, b"", "control", 200),
        ("GET", "/v1/stream/__ds/nothing", {}, b"", "control", 404),
        ("DELETE", A, {}, b"", "delete", 204),
    ]
    expected = []
    for method, target, headers, body, route, status in calls:
        size = await ask(method, target, headers, body)
        expected.append((route, status, size, PEER))
    assert reports(app).finished_ == expected
    observer = app.observer
    assert sum(map(sum, observer.counts)) == len(calls)
    assert sum(map(sum, observer.buckets)) == len(calls)
    assert sum(observer.sizes) == sum(size for _, _, size, _ in expected)
    assert observer.received == 5 * len(b"ab")


async def test_body_above_the_limit_is_reported_by_its_route(
    app: DurableStreamsApp, ask: Ask
) -> None:
    size = await ask("POST", A, {**TEXT, "content-length": "70000"})
    assert reports(app).finished_ == [("append", 413, size, PEER)]
    assert app.observer.received == 0


# -- native lane ----------------------------------------------------------------


async def test_octets_that_are_not_http_are_reported_as_other(app: DurableStreamsApp) -> None:
    client = Client(Lane(app), (PEER, 1)).send(b"nonsense\r\n\r\n")
    (answer,) = client.answers("GET")
    assert reports(app).finished_ == [("other", 400, len(answer.body), PEER)]


async def test_refused_connection_is_reported_as_other(app: DurableStreamsApp) -> None:
    lane = Lane(app, Timeouts(), Admission(True, 1, limit=1024))
    Client(lane, (PEER, 1))
    (answer,) = Client(lane, (PEER, 2)).answers("GET")
    assert reports(app).finished_ == [("other", 503, len(answer.body), PEER)]
    assert app.observer.counts[OTHER][503] == 1


async def test_late_head_is_reported_with_408(app: DurableStreamsApp) -> None:
    lane = Lane(app, Timeouts(head=10))
    client = Client(lane, (PEER, 1)).send(b"GET /a HTTP/1.1\r\n")
    advance(lane, 11)
    (answer,) = client.answers("GET")
    assert reports(app).finished_ == [("other", 408, len(answer.body), PEER)]


async def test_duration_includes_the_wait_for_an_earlier_request() -> None:
    store, clock, recorder = HeldStore(), Clock(), Recorder()
    store.create(A, "text/plain")
    app = create_app(store=store)
    app.observer = Observer(clock)
    app.observer.watcher = recorder
    append = request("POST", A, "Content-Type: text/plain", body=b"x")
    Client(Lane(app), (PEER, 1)).send(append + request("HEAD", A))
    clock.now += 3
    store.release_append()
    assert recorder.finished_ == [("append", 204, 0, PEER), ("head", 200, 0, PEER)]
    assert recorder.seconds == [3, 3]


async def test_response_that_nobody_reads_is_reported_without_bytes() -> None:
    store, recorder = HeldStore(), Recorder()
    store.create(A, "text/plain")
    app = create_app(store=store)
    app.observer.watcher = recorder
    client = Client(Lane(app), (PEER, 1))
    client.send(request("POST", A, "Content-Type: text/plain", body=b"x"))
    client.wire.close()
    store.release_append()
    assert recorder.finished_ == [("append", 204, 0, PEER)]


@pytest.mark.parametrize("ending", ["closed stream", "client leaves", "half-close", "abort"])
async def test_native_event_stream_is_reported_at_both_ends(
    app: DurableStreamsApp, ending: str
) -> None:
    app._start()
    store: Any = app.engine.store
    store.create(A, "text/plain")
    store.append(A, b"abc", content_type="text/plain")
    client = Client(Lane(app), (PEER, 1)).send(SSE_REQUEST)
    await until(lambda: b"data:abc" in client.wire.received)
    assert reports(app).began == [(A, 200, PEER)]
    assert reports(app).ended == []
    store.append(A, b"def", content_type="text/plain")
    await until(lambda: b"data:def" in client.wire.received)
    if ending == "closed stream":
        store.append(A, b"", content_type="text/plain", close=True)
    elif ending == "client leaves":
        client.reset()
    elif ending == "half-close":
        client.half_close()
    else:
        client.connection.transport.abort()
    await until(lambda: bool(reports(app).ended))
    sent = app.observer.sizes[SSE]
    assert reports(app).ended == [(A, sent)]
    assert sent >= len(b"data:abc\n\ndata:def\n\n")
    assert app.observer.live == 0
    assert reports(app).finished_ == []


# -- ASGI -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["client leaves", "cancelled"])
async def test_asgi_event_stream_is_reported_at_both_ends(
    app: DurableStreamsApp, ending: str
) -> None:
    app._start()
    store: Any = app.engine.store
    store.create(A, "text/plain")
    store.append(A, b"abc", content_type="text/plain")
    exchange = start_live_read(app, A, "sse")
    await exchange.until(b"data:abc")
    assert reports(app).began == [(A, 200, None)]
    assert app.observer.live == 1
    if ending == "cancelled":
        exchange.task.cancel()
    else:
        exchange.disconnect()
    await exchange.finish()
    (ended,) = reports(app).ended
    assert ended[0] == A
    assert ended[1] > 0
    assert app.observer.live == 0


async def test_asgi_read_whose_client_left_is_not_reported(app: DurableStreamsApp) -> None:
    app._start()
    store: Any = app.engine.store
    store.create(A, "text/plain")
    exchange = start_live_read(app, A, "long-poll", "now")
    await run_turns()
    exchange.disconnect()
    await exchange.finish()
    assert reports(app).finished_ == []

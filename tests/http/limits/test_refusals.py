"""Which refusals are held, and what a client sees whose refusal is held."""

import pytest

from durable_streams_server import DurableStreamsApp, create_app
from durable_streams_server.errors import BadRequest, RequestTimeout, TooManyRequests, Unavailable
from durable_streams_server.http.limits.refusals import HOLD, REFUSED_AT_ONCE, RefusalRate
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.observing.observer import Observer
from tests.http.asgi.http1_client import AsgiClient
from tests.http.asgi_driver import Exchange
from tests.http.limits.test_log_rate import Clock
from tests.http.observing.reports import Clock as ObserverClock
from tests.http.observing.reports import Recorder
from tests.http.socket_driver import Client, request, run_turns, until
from tests.loop_clock import LoopClock

A = "/v1/stream/a"
OCTETS = [(b"content-type", b"application/octet-stream")]
#: A body that does not fit the budget of `full_app`. The rest of it never arrives.
PUT = request("PUT", A, "Content-Type: application/octet-stream", "Content-Length: 70000") + b"x"


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    return LoopClock(monkeypatch)


def full_app() -> DurableStreamsApp:
    """Returns an application that has no room for bodies, and that holds its next refusal for `HOLD` seconds."""
    app = create_app(max_body=100_000, max_in_flight=100_000)
    app.budget.take(100_000)
    for _ in range(REFUSED_AT_ONCE):
        assert not app.refusals.must_hold()
    return app


def test_refusals_are_held_once_there_are_too_many_in_one_second() -> None:
    clock = Clock()
    refusals = RefusalRate(clock)
    clock.now += 1
    for _ in range(2):
        assert not any(refusals.must_hold() for _ in range(REFUSED_AT_ONCE))
        assert refusals.must_hold()
        clock.now += 0.9
        assert refusals.must_hold()
        clock.now += 0.1


def test_only_refusals_by_a_limit_are_held_and_counted() -> None:
    refusals = RefusalRate(Clock())
    for _ in range(REFUSED_AT_ONCE):
        assert not refusals.must_hold_body(Unavailable("full"))
        assert not refusals.must_hold_body(BadRequest("wrong"))
    assert refusals.must_hold_body(Unavailable("full"))
    assert refusals.must_hold_body(TooManyRequests("too often"))
    assert not refusals.must_hold_body(BadRequest("wrong"))
    assert not refusals.must_hold_body(RequestTimeout("late"))
    assert not refusals.must_hold_body(RuntimeError())


@pytest.mark.parametrize("tls", [False, True])
async def test_refused_body_gets_503_later_and_is_not_received(tls: bool, clock: LoopClock) -> None:
    lane = Lane(full_app())
    client = Client(lane, tls=tls).send(PUT)
    await run_turns()
    assert client.wire.received == b""
    assert client.wire.paused
    await clock.forward(HOLD)
    (answer,) = client.answers("PUT")
    assert (answer.status, answer.error["code"]) == (503, "BODIES_IN_FLIGHT")
    assert answer.headers["connection"] == "close"
    assert client.is_ended
    client.reset()
    await until(lambda: not lane.connections)
    assert lane.budget.held == 100_000


async def test_refused_body_behind_other_requests_is_not_received_either(clock: LoopClock) -> None:
    lane = Lane(full_app())
    heads = 8 * request("HEAD", A)  # as many as a connection begins in one step
    client = Client(lane).send(heads + PUT)
    await run_turns()
    assert client.wire.received.count(b"HTTP/1.1 404") == 8
    assert client.wire.paused
    await clock.forward(HOLD)
    await until(lambda: b"HTTP/1.1 503" in client.wire.received)
    assert not client.wire.paused
    client.reset()
    await until(lambda: not lane.connections)


async def test_client_that_leaves_while_its_refusal_is_held_costs_nothing(
    clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    lane = Lane(full_app())
    first, second = Client(lane).send(PUT), Client(lane).send(PUT)
    first.reset()
    await until(lambda: len(lane.connections) == 1)
    await clock.forward(HOLD)
    await until(lambda: bool(second.wire.received))
    assert first.wire.received == b""
    second.reset()
    await until(lambda: not lane.connections)
    assert caplog.records == []


async def test_server_that_stops_still_sends_a_held_refusal(clock: LoopClock) -> None:
    lane = Lane(full_app())
    client = Client(lane).send(PUT)
    assert client.wire.connection is not None
    client.wire.connection.shutdown()
    await run_turns()
    assert client.wire.received == b""
    await clock.forward(HOLD)
    assert client.answers("PUT")[0].status == 503
    client.reset()
    await until(lambda: not lane.connections)


async def test_server_that_stops_still_sends_a_held_refusal_over_asgi(clock: LoopClock) -> None:
    client = AsgiClient(Timeouts(), app=full_app())
    client.wire.give(PUT)
    await run_turns()
    assert client.connection.is_writing  # so that the server waits for it
    client.connection.shutdown()
    await clock.forward(HOLD)
    (answer,) = await client.answers("PUT")
    assert answer.status == 503
    assert not client.connection.is_writing


async def test_other_refusals_are_sent_at_once() -> None:
    lane = Lane(full_app())
    large = request("POST", A, "Content-Type: text/plain", "Content-Length: 100001")
    client = Client(lane).send(large)
    assert client.answers("POST")[0].status == 413
    client.reset()
    await until(lambda: not lane.connections)


async def test_refused_body_gets_503_later_over_asgi_and_frees_its_bytes(clock: LoopClock) -> None:
    app = full_app()
    app.budget.give_back(10)
    exchange = Exchange(app, "PUT", A.encode(), OCTETS)
    exchange.feed(b"x" * 10, more=True)
    await run_turns()
    assert app.budget.held == 100_000
    exchange.feed(b"y", more=True)
    await run_turns()
    assert app.budget.held == 99_990
    assert exchange.sent == []
    await clock.forward(HOLD)
    answer = await exchange.answer()
    assert (answer.status, answer.error["code"]) == (503, "BODIES_IN_FLIGHT")


async def test_time_for_which_a_refusal_is_held_does_not_count_as_its_duration(
    clock: LoopClock,
) -> None:
    observed, recorder = ObserverClock(), Recorder()
    app = full_app()
    app.observer = Observer(observed)
    app.observer.watcher = recorder
    lane = Lane(app)
    client = Client(lane).send(PUT)
    observed.now += 1
    await clock.forward(HOLD)
    assert client.wire.received
    exchange = Exchange(app, "PUT", A.encode(), OCTETS)
    exchange.feed(b"x", more=True)
    await run_turns()
    observed.now += 1
    await clock.forward(HOLD)
    assert (await exchange.answer()).status == 503
    assert recorder.seconds == [0, 0]
    client.reset()
    await until(lambda: not lane.connections)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_held_body_over_http2_is_dropped_so_that_other_streams_are_received(
    version: str,
) -> None:
    app = full_app()
    headers = [(b"host", b"localhost"), *OCTETS, (b"content-length", b"70000")]
    exchange = Exchange(app, "PUT", A.encode(), headers, http_version=version)
    await run_turns()
    exchange.feed(b"x" * 10, more=True)
    exchange.feed(b"x" * 10)
    exchange.disconnect()
    await run_turns()
    assert exchange.disconnect_received is (version == "2")
    assert exchange.task.done() is (version == "2")
    exchange.task.cancel()

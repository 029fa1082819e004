"""`/metrics` over both lanes: who gets it, in which format, and what it costs."""

import asyncio
import threading
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.observing.exposition import Exposition
from durable_streams_server.http.observing.metrics import Metrics
from durable_streams_server.http.observing.snapshot import Snapshot
from durable_streams_server.storage.files.switching import switching
from durable_streams_server.storage.ticket import Ticket
from tests.http import asgi_driver
from tests.http.lanes import Caller
from tests.http.observing.scrapes import ACCEPT, OPEN_METRICS, parse, series, value
from tests.http.socket_driver import until

TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
A = "/v1/stream/a"


@pytest.fixture
async def app() -> AsyncIterator[DurableStreamsApp]:
    app = create_app(store=StreamStore(), max_body=1000, max_in_flight=1000)
    app.begin()
    yield app
    await app.stop()


@pytest.fixture(params=[True, False], ids=["native", "asgi"])
def call(request: pytest.FixtureRequest, app: DurableStreamsApp) -> Caller:
    return Caller(app, request.param)


# -- the response ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8"),
        (ACCEPT, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
async def test_format_follows_the_accept_header(
    call: Caller, accept: str, content_type: str
) -> None:
    answer = await call("GET", "/metrics", {"accept": accept} if accept else {})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.headers["cache-control"] == "no-store"
    names = {metric.name for metric in parse(answer.body.decode(), accept)}
    assert "durable_streams_request_seconds" in names


async def test_scrape_shows_the_requests_before_it(call: Caller) -> None:
    await call("PUT", A, TEXT)
    await call("POST", A, TEXT, b"abc")
    await call("GET", "/metrics")
    found = await series(call.app)
    assert value(found, "requests_total", route="create", status="201") == 1
    assert value(found, "requests_total", route="append", status="204") == 1
    assert value(found, "request_seconds_count", route="append") == 1
    assert value(found, "requests_total", route="operations", status="200") == 1


async def test_head_and_other_methods(call: Caller) -> None:
    answer = await call("HEAD", "/metrics")
    assert (answer.status, answer.body) == (200, b"")
    answer = await call("POST", "/metrics", TEXT, b"x")
    assert (answer.status, answer.error["code"]) == (405, "METHOD_NOT_ALLOWED")


async def test_metrics_of_a_mounted_application_are_below_the_mount() -> None:
    app = create_app()
    answer = await asgi_driver.request(app, "GET", "/streams/metrics", root_path="/streams")
    assert answer.status == 200
    answer = await asgi_driver.request(app, "GET", "/metrics", root_path="/streams")
    assert answer.status == 200  # some hosts remove the mount from the path
    await app.stop()


async def test_guard_is_asked_about_metrics() -> None:
    asked = []

    async def guard(verb: str, path: str, _: MutableMapping[str, Any]) -> bool:
        asked.append((verb, path))
        return False

    app = create_app(guard=guard)
    answer = await asgi_driver.request(app, "GET", "/metrics")
    assert answer.status == 403
    assert asked == [("admin", "/metrics")]
    await app.stop()


# -- while other requests are refused -----------------------------------------------


async def test_metrics_are_answered_while_bodies_are_refused(call: Caller) -> None:
    call.app.budget.take(1000)
    assert (await call("PUT", A, TEXT, b"x")).error["code"] == "BODIES_IN_FLIGHT"
    answer = await call("GET", "/metrics")
    assert answer.status == 200
    assert b'durable_streams_limit_used{name="in_flight_bytes"} 1000.0' in answer.body
    call.app.budget.give_back(1000)


async def test_metrics_are_answered_while_the_server_stops(call: Caller) -> None:
    call.app.begin_shutdown()
    assert (await call("GET", A)).error["code"] == "SERVER_STOPPING"
    assert (await call("GET", "/metrics")).status == 200


# -- cost -------------------------------------------------------------------------


class Held:
    """Counts the texts that are written, and holds their threads until `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[str] = []
        self.threads: set[int] = set()
        self._free = threading.Event()
        real = Exposition.render

        def render(this: Exposition, snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
            self.written.append(accept)
            self.threads.add(threading.get_ident())
            assert self._free.wait(5)
            return real(this, snapshot, accept)

        monkeypatch.setattr(Exposition, "render", render)

    def release(self) -> None:
        self._free.set()


async def finished(tickets: list[Ticket[Any]]) -> None:
    await until(lambda: all(ticket.done for ticket in tickets))


async def test_scrapes_at_the_same_time_share_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    taken = []

    def take() -> Snapshot:
        taken.append(threading.get_ident())
        return Snapshot()

    metrics = Metrics(take)
    tickets = [metrics.scrape(accept) for accept in (b"", ACCEPT.encode(), b"*/*", b"text/html")]
    await until(lambda: bool(held.written))
    tickets.append(metrics.scrape(b""))
    assert not any(ticket.done for ticket in tickets)
    held.release()
    await finished(tickets)
    assert held.written == ["text/plain", OPEN_METRICS]
    assert len({id(ticket.result()) for ticket in tickets}) == 5
    assert len({ticket.result().body for ticket in tickets}) == 2
    assert set(taken) == {threading.get_ident()}
    assert threading.get_ident() not in held.threads
    assert switching._running == 0
    later = metrics.scrape(b"")
    await finished([later])
    assert len(held.written) == 3


async def test_failure_to_write_is_reported_to_every_scraper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a bug")

    metrics = Metrics(Snapshot)
    with monkeypatch.context() as patched:
        patched.setattr(Exposition, "render", fail)
        tickets = [metrics.scrape(b""), metrics.scrape(b"")]
        await finished(tickets)
    for ticket in tickets:
        with pytest.raises(ValueError, match="a bug"):
            ticket.result()
    again = metrics.scrape(b"")
    await finished([again])
    assert again.result().status == 200


async def test_system_without_another_thread_fails_only_that_scrape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    metrics = Metrics(Snapshot)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.get_running_loop(), "run_in_executor", fail)
        refused = metrics.scrape(b"")
    with pytest.raises(RuntimeError, match="thread"):
        refused.result()
    assert switching._running == 0
    again = metrics.scrape(b"")
    await finished([again])
    assert again.result().status == 200


def test_application_that_moves_to_another_loop_is_scraped_there() -> None:
    metrics = Metrics(Snapshot)

    async def scrape() -> int:
        ticket = metrics.scrape(b"")
        await finished([ticket])
        return ticket.result().status

    async def leave_unfinished() -> None:
        metrics.scrape(b"")

    assert asyncio.run(scrape()) == 200
    asyncio.run(leave_unfinished())
    assert asyncio.run(scrape()) == 200


# -- growth -----------------------------------------------------------------------


@pytest.mark.slow("makes thousands of requests")
@pytest.mark.parametrize(("kind", "most"), [("memory", 1000), ("files", 50)])
async def test_number_of_series_does_not_grow_with_streams_subscriptions_or_addresses(
    tmp_path: Path, kind: str, most: int
) -> None:  # TRAPS 50
    store = StreamStore() if kind == "memory" else FileBackedStreamStore(tmp_path / "data")
    app = create_app(store=store)
    app.begin()

    async def use(number: int) -> None:
        client = (f"10.0.{number // 250}.{number % 250}", 1)
        path = f"/v1/stream/s{number}"

        async def ask(method: str, target: str, headers: Any = (), body: bytes = b"") -> int:
            answer = await asgi_driver.request(app, method, target, headers, body, client=client)
            return answer.status

        assert await ask("PUT", path, TEXT) == 201
        producer = {"producer-id": f"p{number}", "producer-epoch": "0", "producer-seq": "0"}
        assert await ask("POST", path, {**TEXT, **producer}, b"x") == 200
        assert await ask("GET", path + f"?offset=-1&cursor={number}") == 200
        assert await ask("GET", f"/v1/stream/none{number}") == 404
        body = b'{"type":"pull-wake","pattern":"x%d/*","wake_stream":"w%d"}' % (number, number)
        assert await ask("PUT", f"/v1/stream/__ds/subscriptions/n{number}", JSON, body) == 201

    await use(0)
    await series(app)
    before = await series(app)
    for first in range(1, most, 50):
        await asyncio.gather(*(use(number) for number in range(first, min(first + 50, most))))
    after = await series(app)
    assert after.keys() == before.keys()
    assert value(after, "requests_total", route="create", status="201") == most
    assert value(after, "subscriptions") == most
    await app.stop()
    store.close()

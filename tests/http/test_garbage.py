"""After a refusal, no exception, frame or body is left to Python's garbage collector, which runs rarely."""

import gc
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.native.lane import Lane
from tests.http.asgi_driver import Exchange
from tests.http.socket_driver import Client, parse, request, run_until_idle, until

A = "/v1/stream/a"
CLOSED = "/v1/stream/closed"
NONE = "/v1/stream/none"
CONTROL = "/v1/stream/__ds/subscriptions/s"
BODY = b"x" * 20_000
MAX_BODY = 100_000
TEXT = "Content-Type: text/plain"
JSON = "Content-Type: application/json"
STAMP = ("Producer-Id: p", "Producer-Epoch: 0")

#: Requests with bodies, and the statuses with which they are refused. The code that refuses them differs for each.
REFUSED = {
    "no stream": (404, ["POST", NONE, TEXT]),
    "no path": (400, ["POST", "/v1/stream/%ff", TEXT]),
    "reserved": (404, ["POST", "/v1/stream/__ds/nothing", TEXT]),
    "method": (405, ["PATCH", A, TEXT]),
    "no type": (400, ["POST", A]),
    "other type": (409, ["POST", A, JSON]),
    "closed": (409, ["POST", CLOSED, TEXT]),
    "created otherwise": (409, ["PUT", A, JSON]),
    "no json": (400, ["PUT", NONE, JSON]),
    "no ttl": (400, ["PUT", NONE, TEXT, "Stream-TTL: soon"]),
    "no source": (404, ["PUT", "/v1/stream/fork", TEXT, f"Stream-Forked-From: {NONE}"]),
    "sequence gap": (409, ["POST", A, TEXT, *STAMP, "Producer-Seq: 5"]),
    "no claim": (400, ["POST", CONTROL + "/claim", JSON]),
    "no document": (400, ["PUT", CONTROL, JSON]),
    "health check": (405, ["POST", "/healthz", TEXT]),
    "info": (405, ["PUT", "/v1/stream/__ds/info", JSON]),
    "listing": (400, ["GET", "/v1/stream/__ds/streams?limit=none"]),
}


@pytest.fixture(params=["memory", "files"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DurableStreamsApp]:
    store = StreamStore() if request.param == "memory" else FileBackedStreamStore(tmp_path / "data")
    store.create(A, "text/plain")
    store.create(CLOSED, "text/plain")
    store.append(CLOSED, b"all", close=True)
    app = create_app(store=store, max_body=MAX_BODY, max_in_flight=MAX_BODY)
    app._start()
    yield app
    await app.stop()
    store.close()


@contextmanager
def no_garbage() -> Iterator[None]:
    """Asserts that the block leaves no exception and no frame to the garbage collector, because those could hold a body."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        kinds = (types.FrameType, types.TracebackType, BaseException)
        found = [each for each in gc.garbage if isinstance(each, kinds)]
        assert found == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_native_request_leaves_no_cyclic_garbage(
    name: str, app: DurableStreamsApp
) -> None:
    status, (method, target, *headers) = REFUSED[name]
    lane = Lane(app)
    with no_garbage():
        client = Client(lane).send(request(method, target, *headers, body=BODY))
        received = client.wire.received
        await until(lambda: bool(received))
        (answer,), _ = parse(client.read(), [method])
        assert answer.status == status
        client.reset()
        await until(lambda: not lane.connections)
        client.wire.connection = None
        del client, answer


@pytest.mark.parametrize(
    ("status", "size", "code"),
    [(413, MAX_BODY + 1, "BODY_TOO_LARGE"), (503, MAX_BODY, "BODIES_IN_FLIGHT")],
)
async def test_request_refused_within_its_body_leaves_no_cyclic_garbage(
    status: int, size: int, code: str, app: DurableStreamsApp
) -> None:
    lane = Lane(app)
    app.budget.take(MAX_BODY // 2 if status == 503 else 0)
    with no_garbage():
        client = Client(lane)
        client.send(request("POST", A, TEXT, "Transfer-Encoding: chunked"))
        client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size), each=10_000)
        await run_until_idle(lane)
        (answer,), _ = parse(client.read(), ["POST"])
        assert (answer.status, answer.error["code"]) == (status, code)
        client.reset()
        await until(lambda: not lane.connections)
        client.wire.connection = None
        del client, answer


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_asgi_request_leaves_no_cyclic_garbage(
    name: str, app: DurableStreamsApp
) -> None:
    status, (method, target, *lines) = REFUSED[name]
    pairs = [line.lower().split(": ", 1) for line in lines]
    headers = [(name.encode(), value.encode()) for name, value in pairs]
    with no_garbage():
        length = (b"content-length", b"%d" % len(BODY))
        path, _, query = target.encode().partition(b"?")
        exchange = Exchange(app, method, path, [*headers, length], query)
        exchange.feed(BODY)
        answer = await exchange.answer()
        assert answer.status == status
        del exchange, answer

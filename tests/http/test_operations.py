"""Health checks over both lanes, as load balancers send them. `observing/test_metrics.py` has the tests of `/metrics`."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.errors import NotFound
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.operations import Operations
from durable_streams_server.http.request import Request
from tests.http import asgi_driver
from tests.http.lanes import Caller
from tests.http.socket_driver import Client, parse, until

PATHS = {"/healthz": "alive", "/readyz": "ready"}


@pytest.fixture(params=["memory", "files"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DurableStreamsApp]:
    store = StreamStore() if request.param == "memory" else FileBackedStreamStore(tmp_path / "data")
    app = create_app(store=store, max_body=1000, max_in_flight=1000)
    app.begin()
    yield app
    await app.stop()
    store.close()


@pytest.fixture(params=[True, False], ids=["native", "asgi"])
def call(request: pytest.FixtureRequest, app: DurableStreamsApp) -> Caller:
    return Caller(app, request.param)


@pytest.mark.parametrize("path", PATHS)
async def test_health_check_returns_200(call: Caller, path: str) -> None:
    for target in (path, f"{path}?", f"{path}?probe=1", path.replace("z", "%7a")):
        answer = await call("GET", target)
        assert answer.status == 200
        assert json.loads(answer.body) == {"status": PATHS[path]}
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        answer = await call("HEAD", target)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_return_405(call: Caller, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = await call(method, path, {"content-type": "text/plain"}, b"x")
        assert (answer.status, answer.error["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    preflight = await call("OPTIONS", path)
    assert (preflight.status, preflight.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("path", PATHS)
async def test_path_below_a_health_check_is_a_stream(call: Caller, path: str) -> None:
    assert (await call("PUT", f"{path}/a", {"content-type": "text/plain"})).status == 201
    assert (await call("GET", f"{path}/")).error["code"] == "STREAM_NOT_FOUND"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("head", ["", "User-Agent: lb\r\n", "Host:\r\n", "Host: 10.0.0.1\r\n"])
async def test_http_1_0_request_is_answered_without_a_host(
    app: DurableStreamsApp, path: str, method: str, head: str
) -> None:
    client = Client(Lane(app)).send(f"{method} {path} HTTP/1.0\r\n{head}\r\n".encode())
    received = client.wire.received
    await until(lambda: len(parse(bytes(received), [method])[0]) == 1)
    (answer,) = client.answers(method)
    assert answer.status == 200
    assert client.is_ended
    answer = await asgi_driver.request(app, method, path, http_version="1.0")
    assert answer.status == 200


@pytest.mark.parametrize("path", PATHS)
async def test_health_checks_of_a_mounted_application_are_below_the_mount(path: str) -> None:
    app = create_app()
    answer = await asgi_driver.request(app, "GET", f"/streams{path}", root_path="/streams")
    assert json.loads(answer.body) == {"status": PATHS[path]}
    await app.stop()


@pytest.mark.parametrize("path", PATHS)
async def test_health_checks_are_answered_while_bodies_are_refused(call: Caller, path: str) -> None:
    budget = call.app.budget
    budget.take(1000)
    stream = {"content-type": "text/plain"}
    assert (await call("PUT", "/v1/stream/a", stream, b"x")).error["code"] == "BODIES_IN_FLIGHT"
    assert (await call("GET", path)).status == 200
    budget.give_back(1000)


async def test_ready_turns_false_when_draining_starts(call: Caller) -> None:
    call.app.draining = True
    answer = await call("GET", "/readyz")
    assert (answer.status, answer.error["code"]) == (503, "NOT_READY")
    assert answer.error["reason"] == "draining"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["retry-after"] == "1"
    assert (await call("HEAD", "/readyz")).status == 503
    assert (await call("GET", "/healthz")).status == 200
    assert (await call("PUT", "/v1/stream/a", {"content-type": "text/plain"})).status == 201
    call.app.draining = False
    assert (await call("GET", "/readyz")).status == 200


async def test_stopping_server_is_alive_and_not_ready(call: Caller) -> None:
    call.app.begin_shutdown()
    assert (await call("GET", "/healthz")).status == 200
    assert (await call("GET", "/readyz")).error["reason"] == "draining"
    assert (await call("GET", "/v1/stream/a")).error["code"] == "SERVER_STOPPING"


async def test_metrics_path_is_reserved_where_nothing_answers_it() -> None:
    app = create_app()
    operations = Operations(app.engine, app.facts)
    with pytest.raises(NotFound, match="reserved"):
        operations.handle(Request("GET", b"/metrics", b"", {}), "/metrics")


@pytest.mark.parametrize("native", [True, False])
async def test_ready_turns_false_when_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:  # TRAPS 50
    store = FileBackedStreamStore(tmp_path / "data")
    app = create_app(store=store)
    app.begin()
    call = Caller(app, native)
    assert (await call("GET", "/readyz")).status == 200

    def fail(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", fail)
        app.handler._own.operations._readiness._valid_until = 0.0
        answer = await call("GET", "/readyz")
    assert (answer.status, answer.error["reason"]) == (503, "store_failed")
    assert (await call("GET", "/healthz")).status == 200
    await app.stop()
    store.close()

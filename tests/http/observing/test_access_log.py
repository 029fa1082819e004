"""Tests of the access log."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.observing.access_log import FIELDS, AccessLog
from durable_streams_server.http.observing.watchers import watch
from durable_streams_server.log import access
from tests.http.asgi_driver import start_live_read
from tests.http.lanes import Caller
from tests.http.socket_driver import Client, until
from tests.http.socket_driver import request as octets_of

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain", "user-agent": "curl", "authorization": "Bearer hush"}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """The fields of each record of the access log, in order."""
    level = access.level
    access.setLevel(logging.NOTSET)
    found: list[Any] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert (record.levelno, record.getMessage()) == (logging.INFO, "answered")
            found.append(record.__dict__["fields"])

    handler = Handler()
    access.addHandler(handler)
    yield found
    access.removeHandler(handler)
    access.setLevel(level)


@pytest.fixture
async def app(logged: list[Any]) -> AsyncIterator[DurableStreamsApp]:
    app = create_app(store=StreamStore(), long_poll_timeout=0.01)
    watch(app.observer, [AccessLog()], names_requests=True)
    yield app
    await app.stop()


@pytest.fixture(params=["native", "asgi"])
def call(request: pytest.FixtureRequest, app: DurableStreamsApp) -> Caller:
    return Caller(app, request.param == "native")


async def test_each_response_is_logged_once_with_its_request(
    call: Caller, logged: list[Any]
) -> None:
    calls = [
        ("PUT", A, 201, "create"),
        ("POST", A, 204, "append"),
        ("GET", A + "?offset=-1&token=hush", 200, "read"),
        ("GET", A + "?offset=now&live=long-poll", 204, "long_poll"),
        ("GET", "/v1/stream/none?signature=hush", 404, "read"),
        ("DELETE", A, 204, "delete"),
    ]
    for method, target, status, route in calls:
        answer = await call(method, target, TEXT, b"x" if method == "POST" else b"")
        fields = logged.pop()
        assert logged == []
        assert answer.status == status
        path, _, query = target.partition("?")
        assert (fields["method"], fields["path"]) == (method, path)
        assert fields.get("query", "") == query.replace("&token=hush", "").replace(
            "signature=hush", ""
        )
        assert (fields["route"], fields["status"]) == (route, status)
        assert fields["bytes"] == len(answer.body)
        assert fields["duration_ms"] >= 0
        assert fields["request_id"] == answer.headers["x-request-id"]
        assert fields["user_agent"] == "curl"
        assert "hush" not in str(fields)
        assert set(fields) <= set(FIELDS)
        assert list(fields) == [name for name in FIELDS if name in fields]


async def test_live_read_is_logged_at_its_end(app: DurableStreamsApp, logged: list[Any]) -> None:
    await Caller(app, native=False)("PUT", A, TEXT, b"ab")
    logged.clear()
    exchange = start_live_read(app, A, "sse", x_request_id="mine")
    await until(lambda: len(exchange.sent) > 1)
    assert logged == []
    exchange.disconnect()
    await until(lambda: len(logged) == 1)
    (fields,) = logged
    assert (fields["route"], fields["status"], fields["request_id"]) == ("sse", 200, "mine")
    sent = b"".join(message.get("body", b"") for message in exchange.sent)
    assert fields["bytes"] == len(sent)


async def test_live_read_of_the_native_lane_is_logged_with_its_id(
    app: DurableStreamsApp, logged: list[Any]
) -> None:
    client = Client(Lane(app), ("192.0.2.7", 1))
    client.send(octets_of("PUT", A, "Content-Type: text/plain"))
    client.read()
    logged.clear()
    client.send(octets_of("GET", A + "?offset=-1&live=sse"))
    head = client.read()
    client.reset()
    await until(lambda: len(logged) == 1)
    (fields,) = logged
    assert (fields["route"], fields["client"]) == ("sse", "192.0.2.7")
    assert f"\r\nx-request-id: {fields['request_id']}\r\n".encode() in head


async def test_fields_have_the_text_of_a_client_unescaped(call: Caller, logged: list[Any]) -> None:
    await call("GET", A, {"user-agent": "a\x9b31m"})
    # The formatters escape it. tests/cli/test_log_lines.py tests that.
    assert logged[0]["user_agent"] == "a\x9b31m"


def test_access_log_is_off_by_default() -> None:
    assert access.level == logging.NOTSET
    assert not logging.getLogger("durable_streams_server").isEnabledFor(logging.INFO)

"""Tests of request ids: which are accepted, when the server makes one, and that both lanes send them."""

import logging
from collections.abc import AsyncIterator

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.request import Request
from durable_streams_server.http.request_ids import (
    given_id,
    headers_to_send,
    id_of,
    id_to_send,
    line_to_send,
    may_need_id,
    named,
    new_id,
)
from durable_streams_server.protocol.names import X_REQUEST_ID
from durable_streams_server.protocol.render import Response
from tests.http.asgi_driver import start_live_read
from tests.http.lanes import Caller
from tests.http.observing.reports import Recorder
from tests.http.socket_driver import Client, until
from tests.http.socket_driver import request as octets_of

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
SAFE = "req-1._~:/+=@Z"


def asked(sent: bytes | None = None, repeated: bool = False, known_id: bytes = b"") -> Request:
    headers = {} if sent is None else {X_REQUEST_ID: sent}
    names = frozenset({X_REQUEST_ID}) if repeated else frozenset()
    return Request("GET", b"/a", b"", headers, names, id=known_id)


@pytest.mark.parametrize("sent", [b"a", SAFE.encode(), b"x" * 128])
def test_valid_id_of_the_client_is_accepted(sent: bytes) -> None:
    assert given_id(asked(sent)) == sent


@pytest.mark.parametrize(
    "sent",
    [b"", b"x" * 129, b"a b", b"a\tb", b"a\x80", b"a\n", b"<a>", b'a"', b"a;b", b"a,b", b"%"],
)
def test_invalid_id_is_ignored(sent: bytes) -> None:
    assert given_id(asked(sent)) == b""


def test_id_that_is_sent_twice_is_ignored() -> None:
    assert given_id(asked(b"a", repeated=True)) == b""


def test_named_request_is_a_copy_with_the_id_of_the_client_or_a_new_one() -> None:
    request = asked(b"a")
    assert (named(request).id, request.id) == (b"a", b"")
    assert named(asked(), lambda: b"new").id == b"new"
    assert named(asked(b"?"), lambda: b"new").id == b"new"
    assert named(asked(b"a", known_id=b"b")).id == b"b"


def test_new_ids_differ_and_are_valid() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(given_id(asked(each)) == each for each in ids)


def test_id_of_prefers_the_given_id() -> None:
    assert id_of(asked(b"a"), lambda: b"new") == b"a"
    assert id_of(asked(), lambda: b"new") == b"new"


@pytest.mark.parametrize(
    ("status", "request_", "sends"),
    [
        (200, asked(), False),
        (200, asked(b"a"), True),
        (200, asked(b"?"), False),
        (200, asked(known_id=b"a"), True),
        (399, asked(), False),
        (400, asked(), True),
        (503, asked(b"?"), True),
    ],
)
def test_id_is_sent_with_errors_and_named_requests(
    status: int, request_: Request, sends: bool
) -> None:
    response = Response(status, [])
    assert bool(id_to_send(request_, response)) is sends
    assert bool(line_to_send(request_, response)) is sends
    assert bool(headers_to_send(request_, response)) is sends
    assert may_need_id(request_, response) or not sends


def test_response_that_has_an_id_gets_no_second_one() -> None:
    response = Response(404, [(X_REQUEST_ID, b"b")])
    assert headers_to_send(asked(b"a"), response) == []
    assert line_to_send(asked(b"a"), response) == b""


# -- both lanes -----------------------------------------------------------------


@pytest.fixture
async def app() -> AsyncIterator[DurableStreamsApp]:
    app = create_app(store=StreamStore(), cors=True)
    yield app
    await app.stop()


@pytest.fixture(params=["native", "asgi"])
async def call(request: pytest.FixtureRequest, app: DurableStreamsApp) -> Caller:
    caller = Caller(app, request.param == "native")
    assert (await caller("PUT", A, TEXT)).status == 201
    return caller


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("GET", A, {}, 200),
        ("GET", A + "?offset=now", {}, 200),
        ("HEAD", A, {}, 200),
        ("POST", A, TEXT, 204),
        ("OPTIONS", A, {}, 204),
        ("GET", A + "/none", {}, 404),
        ("POST", A, {"content-type": "application/json"}, 409),
        ("GET", A + "?offset=bad", {}, 400),
        ("PATCH", A, {}, 405),
        ("GET", "/healthz", {}, 200),
    ],
)
async def test_id_of_the_client_comes_back_in_every_response(
    call: Caller, method: str, target: str, headers: dict[str, str], status: int
) -> None:
    for _ in range(4):  # the later requests may have known heads and kept responses
        answer = await call(method, target, {**headers, "x-request-id": SAFE}, b"x")
        assert (answer.status, answer.headers["x-request-id"]) == (status, SAFE)


async def test_known_heads_with_different_ids_get_their_own_ids(call: Caller) -> None:
    for _ in range(3):
        for own in ("one", "two"):
            answer = await call("GET", A + "?offset=now", {"x-request-id": own})
            assert answer.headers["x-request-id"] == own


async def test_successful_response_has_no_id_if_the_client_sends_none_or_an_invalid_one(
    call: Caller,
) -> None:
    for headers in ({}, {"x-request-id": "a b"}):
        for _ in range(4):
            assert "x-request-id" not in (await call("GET", A, headers)).headers
            assert "x-request-id" not in (await call("HEAD", A, headers)).headers


async def test_each_error_has_a_new_id_if_the_client_sends_no_valid_one(call: Caller) -> None:
    ids = [
        (await call("GET", A + "/none", headers)).headers["x-request-id"]
        for headers in ({}, {}, {"x-request-id": "forged\x80"}, {"x-request-id": "a" * 129})
    ]
    assert len(set(ids)) == 4
    assert all(len(each) == 24 for each in ids)


async def test_every_response_is_named_if_the_watcher_wants_that(
    app: DurableStreamsApp, call: Caller
) -> None:
    app.observer.watcher = recorder = Recorder()
    app.observer.names_requests = True
    sent = []
    for method, target in [("GET", A + "?offset=now"), ("HEAD", A), ("POST", A), ("GET", "/x")] * 4:
        answer = await call(method, target, TEXT, b"x" if method == "POST" else b"")
        sent.append(answer.headers["x-request-id"].encode())
    assert len(set(sent)) == len(sent)
    assert recorder.ids == sent


async def test_event_stream_has_the_id_of_the_client_and_a_new_one_if_named(
    app: DurableStreamsApp, call: Caller
) -> None:
    heads = []
    for names in (False, True):
        app.observer.names_requests = names
        exchange = start_live_read(app, A, "sse", x_request_id="mine")
        await until(lambda exchange=exchange: len(exchange.sent) > 0)  # type: ignore[misc]  # mypy infers no type of the default
        heads.append(dict(exchange.sent[0]["headers"])[X_REQUEST_ID])
        client = Client(Lane(app)).send(octets_of("GET", A + "?offset=-1&live=sse"))
        head = client.read()
        assert (b"\r\nx-request-id: " in head) is names
        client.reset()
        exchange.task.cancel()
    assert heads == [b"mine", b"mine"]


async def test_refused_connection_and_its_report_have_the_same_id(app: DurableStreamsApp) -> None:
    app.observer.watcher = recorder = Recorder()
    app.observer.names_requests = True
    (answer,) = Client(Lane(app)).send(b"nonsense\r\n\r\n").answers("GET")
    assert recorder.ids == [answer.headers["x-request-id"].encode()]


async def test_scripts_may_send_and_read_ids(call: Caller) -> None:
    origin = {"origin": "https://app.example"}
    preflight = await call("OPTIONS", A, origin)
    assert "X-Request-Id" in preflight.headers["access-control-allow-headers"].split(", ")
    answer = await call("GET", A, origin)
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"].split(", ")


async def test_unexpected_error_is_logged_with_the_id_of_the_response(
    app: DurableStreamsApp,
    call: Caller,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(app.handler, "_locate", broken)
    with caplog.at_level(logging.ERROR):
        answer = await call("GET", A)
    assert answer.status == 500
    assert b"secret" not in answer.body
    (record,) = [each for each in caplog.records if each.message == "a request failed"]
    assert record.__dict__["fields"] == {"request_id": answer.headers["x-request-id"]}

"""`create_app(guard=…)`: a function of the host allows or refuses each request before the server acts on it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from durable_streams_server import (
    DurableStreamsApp,
    DurableStreamTestServer,
    NotFound,
    StreamStore,
    Unauthorized,
    create_app,
)
from durable_streams_server.http.guard import check
from tests.http.asgi_driver import Exchange, request, start_live_read

TEXT = {"content-type": "text/plain"}
A = "/v1/stream/a"
CONTROL = "/v1/stream/__ds"
JSON = {"content-type": "application/json"}
Asked = list[tuple[str, str]]


def asking(
    asked: Asked, allows: Callable[[str, str], bool]
) -> Callable[[str, str, MutableMapping[str, Any]], Awaitable[bool]]:
    """Returns a guard that records its questions in `asked` and answers them with `allows`."""

    async def guard(verb: str, path: str, scope: MutableMapping[str, Any]) -> bool:
        asked.append((verb, path))
        await asyncio.sleep(0)
        return allows(verb, path)

    return guard


def make_app(
    allows: Callable[[str, str], bool], **settings: Any
) -> tuple[DurableStreamsApp, Asked]:
    """Returns an application with a stream and a guard, and the list of the guard's questions."""
    asked: Asked = []
    store = StreamStore()
    store.create(A, "text/plain")
    store.append(A, b"secret")
    return create_app(store=store, guard=asking(asked, allows), **settings), asked


ATTEMPTS = {
    "read": ("GET", A, {}, ("read", A)),
    "head": ("HEAD", A, {}, ("read", A)),
    "long-poll": ("GET", f"{A}?offset=-1&live=long-poll", {}, ("read", A)),
    "sse": ("GET", f"{A}?offset=-1&live=sse", {}, ("read", A)),
    "append": ("POST", A, TEXT, ("append", A)),
    "close": ("POST", A, {"stream-closed": "TRUE"}, ("close", A)),
    "create": ("PUT", "/v1/stream/b", TEXT, ("create", "/v1/stream/b")),
    "delete": ("DELETE", A, {}, ("delete", A)),
    "missing": ("GET", "/v1/stream/none", {}, ("read", "/v1/stream/none")),
    "escaped": ("GET", "/v1/%73tream/a", {}, ("read", A)),
    "subscribe": (
        "PUT",
        f"{CONTROL}/subscriptions/s",
        JSON,
        ("subscribe", f"{CONTROL}/subscriptions/s"),
    ),
    "claim": (
        "POST",
        f"{CONTROL}/subscriptions/s/claim",
        JSON,
        ("subscribe", f"{CONTROL}/subscriptions/s/claim"),
    ),
    "unknown": ("GET", f"{CONTROL}/unknown", {}, ("admin", f"{CONTROL}/unknown")),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_request_refused_by_the_guard_returns_403_and_changes_nothing(attempt: str) -> None:
    method, url, headers, expected = ATTEMPTS[attempt]
    app, asked = make_app(lambda *_: False)
    body = b"x" if method in ("POST", "PUT") and "stream-closed" not in headers else b""
    answer = await request(app, method, url, headers, body)
    assert asked == [expected]
    assert answer.status == 403
    if method != "HEAD":
        assert answer.error["code"] == "FORBIDDEN"
    assert answer.headers["cache-control"] == "no-store"
    assert b"secret" not in answer.body
    page = await app.streams.read(A)
    assert (page.data, page.closed) == (b"secret", False)
    with pytest.raises(NotFound):
        await app.streams.read("/v1/stream/b")


@pytest.mark.parametrize("attempt", [name for name in ATTEMPTS if name != "sse"])
async def test_request_allowed_by_the_guard_is_answered_as_without_a_guard(attempt: str) -> None:
    method, url, headers, expected = ATTEMPTS[attempt]
    app, asked = make_app(lambda *_: True)
    plain = create_app()
    await plain.streams.create(A, "text/plain", initial_data=b"secret")
    body = b"x" if method in ("POST", "PUT") and "stream-closed" not in headers else b""
    answer = await request(app, method, url, headers, body)
    assert answer.status == (await request(plain, method, url, headers, body)).status
    assert asked == [expected]


async def test_event_stream_starts_if_the_guard_allows_it() -> None:
    app, _ = make_app(lambda *_: True)
    exchange = Exchange(app, "GET", A.encode(), (), b"offset=-1&live=sse")
    exchange.feed()
    await exchange.until(b"secret")
    head = dict(exchange.sent[0]["headers"])
    assert head[b"cache-control"].startswith(b"private, no-cache")
    exchange.disconnect()
    await exchange.task


async def test_fork_needs_permission_to_read_its_source() -> None:
    headers = {"stream-forked-from": "/v1/%73tream/a"}
    app, asked = make_app(lambda verb, _: verb == "fork")
    answer = await request(app, "PUT", "/v1/stream/b", headers)
    assert (answer.status, answer.error["code"]) == (403, "FORBIDDEN")
    assert asked == [("fork", "/v1/stream/b"), ("read", A)]
    with pytest.raises(NotFound):
        await app.streams.head("/v1/stream/b")
    app, asked = make_app(lambda *_: True)
    assert (await request(app, "PUT", "/v1/stream/b", headers)).status == 201
    assert (await app.streams.read("/v1/stream/b")).data == b"secret"


async def test_guard_gets_paths_below_the_mount() -> None:
    app, asked = make_app(lambda *_: False)
    for headers in ({}, {"stream-forked-from": "/streams/a"}):
        await request(app, "PUT", "/streams/b", headers, root_path="/streams")
    assert asked == [("create", "/b"), ("fork", "/b")]
    app, asked = make_app(lambda *_: True)
    headers = {"stream-forked-from": f"/streams{A}"}
    assert (await request(app, "PUT", "/streams/b", headers, root_path="/streams")).status == 201
    assert asked == [("fork", "/b"), ("read", A)]


async def test_guard_is_asked_before_the_body_is_received() -> None:
    app, _ = make_app(lambda *_: False)
    exchange = Exchange(app, "POST", A.encode(), [(b"content-type", b"text/plain")])
    answer = await exchange.answer()  # although no body was fed
    assert answer.status == 403


async def test_preflight_is_answered_without_asking_the_guard() -> None:  # TRAPS 44
    app, asked = make_app(lambda *_: False)
    answer = await request(app, "OPTIONS", A, {"origin": "https://app.example"})
    assert (answer.status, asked) == (204, [])


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [("GET", "/v1/%ff", 400), ("GET", "/healthz", 200), ("PATCH", A, 405)],
)
async def test_invalid_request_or_health_check_is_answered_without_asking_the_guard(
    method: str, url: str, status: int
) -> None:
    app, asked = make_app(lambda *_: True)
    assert (await request(app, method, url)).status == status
    assert asked == []


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", f"{CONTROL}/jwks.json"),
        ("POST", f"{CONTROL}/subscriptions/s/ack"),
        ("POST", f"{CONTROL}/subscriptions/s/callback"),
        ("POST", f"{CONTROL}/subscriptions/s/release"),
    ],
)
async def test_public_keys_and_workers_pass_without_asking_the_guard(method: str, url: str) -> None:
    app, asked = make_app(lambda *_: False)
    answer = await request(app, method, url, JSON)
    assert answer.status == (200 if method == "GET" else 401)  # workers have tokens of their own
    assert asked == []


@pytest.mark.parametrize(
    ("body", "length", "asked"),
    [
        (b"x", True, [("append", A)]),
        (b"", True, [("close", A)]),
        (b"", False, [("close", A)]),
        (b"x", False, [("close", A), ("append", A)]),  # as over HTTP/2 without Content-Length
    ],
)
async def test_guard_is_asked_about_append_if_closing_request_has_a_body(
    body: bytes, length: bool, asked: Asked
) -> None:
    app, found = make_app(lambda verb, _: verb == "close")
    headers = [(b"content-type", b"text/plain"), (b"stream-closed", b"true")]
    if length:
        headers.append((b"content-length", b"%d" % len(body)))
    exchange = Exchange(app, "POST", A.encode(), headers, http_version="2")
    exchange.feed(body)
    answer = await exchange.answer()
    assert answer.status == (403 if body else 204)
    assert found == asked
    assert (await app.streams.head(A)).closed is (not body)


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
async def test_guard_may_say_when_a_live_read_ends(kind: str) -> None:  # TRAPS 43
    soon = datetime.now(UTC) + timedelta(milliseconds=30)

    async def guard(verb: str, path: str, scope: Any) -> datetime | bool:
        return soon

    app = create_app(guard=guard)
    await app.streams.create(A, "text/plain")
    exchange = start_live_read(app, A, kind, "now")
    answer = await exchange.answer()
    assert answer.status == (200 if kind == "sse" else 204)
    if kind == "sse":
        assert answer.body.rstrip().endswith(b"}")
        assert b"event: control" in answer.body


async def test_earliest_time_of_guard_counts() -> None:
    times: Iterator[datetime | bool] = iter(
        [True, datetime.fromtimestamp(9, UTC), datetime.fromtimestamp(7, UTC)]
    )

    async def guard(verb: str, path: str, scope: Any) -> datetime | bool:
        return next(times)

    assert await check(guard, (("read", "/a"), ("read", "/b"), ("read", "/c")), {}) == 7_000_000


async def test_guard_gets_the_scope_of_the_request() -> None:
    seen: list[Any] = []

    async def guard(verb: str, path: str, scope: MutableMapping[str, Any]) -> bool:
        seen.append(dict(scope["headers"]).get(b"authorization"))
        return bool(seen[-1] == b"Bearer good")

    app = create_app(guard=guard)
    await app.streams.create(A, "text/plain")
    assert (await request(app, "GET", A)).status == 403
    assert (await request(app, "GET", A, {"authorization": "Bearer good"})).status == 200
    assert seen == [None, b"Bearer good"]


async def test_failing_guard_causes_a_logged_500_and_no_write(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def guard(*_: object) -> bool:
        raise ValueError("the guard's own secret")

    app = create_app(guard=guard)
    with caplog.at_level(logging.ERROR):
        answer = await request(app, "PUT", A, TEXT)
    assert (answer.status, answer.error["code"]) == (500, "INTERNAL_ERROR")
    assert b"secret" not in answer.body
    assert "the guard's own secret" in caplog.text
    with pytest.raises(NotFound):
        await app.streams.head(A)


async def test_guard_may_refuse_by_raising_a_stream_error() -> None:
    async def guard(*_: object) -> bool:
        raise Unauthorized("log in first")

    answer = await request(create_app(guard=guard), "GET", A)
    assert (answer.status, answer.error["message"]) == (401, "log in first")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("allowed", [None, 1, "yes", asyncio.sleep, datetime(2030, 1, 1)])
async def test_request_returns_500_if_its_guard_returns_something_else(
    allowed: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def guard(*_: object) -> Any:
        return allowed

    with caplog.at_level(logging.ERROR):
        answer = await request(create_app(guard=guard), "PUT", A, TEXT)
    assert answer.status == 500
    assert "True, False or a datetime with a time zone" in caplog.text


async def test_request_returns_500_if_its_guard_is_not_asynchronous(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def guard(*_: object) -> Any:
        return True

    with caplog.at_level(logging.ERROR):
        answer = await request(create_app(guard=guard), "PUT", A, TEXT)
    assert answer.status == 500
    assert "TypeError" in caplog.text


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"{A}?offset=-1", {}),
        (f"{A}?offset=now", {}),
        ("/v1/stream/closed?offset=-1", {}),
        (f"{A}?offset=-1&live=long-poll", {}),
    ],
)
async def test_guarded_responses_are_private(url: str, headers: dict[str, str]) -> None:
    app, _ = make_app(lambda *_: True)  # TRAPS 42
    await app.streams.create("/v1/stream/closed", "text/plain", initial_data=b"x", closed=True)
    for _ in range(3):  # the last two may be answered from the cache of responses
        answer = await request(app, "GET", url, headers)
        assert answer.status == 200
        control = answer.headers["cache-control"]
        assert "public" not in control
        assert "max-age" not in control
        assert {"private", "no-store"} & set(control.split(", "))
    tag = answer.headers.get("etag")
    if tag is not None:
        answer = await request(app, "GET", url, {"if-none-match": tag})
        assert answer.status == 304
        assert answer.headers["cache-control"].startswith("private, no-cache")


async def test_guard_is_asked_about_requests_on_a_real_socket() -> None:
    asked: Asked = []
    guard = asking(asked, lambda verb, _: verb == "read")
    async with DurableStreamTestServer(guard=guard) as server:
        await server.streams.create(A, "text/plain", initial_data=b"x")
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            for _ in range(3):
                assert (await http.get(A)).text == "x"
                assert (await http.post(A, content="y", headers=TEXT)).status_code == 403
    assert asked == [("read", A), ("append", A)] * 3


async def test_guard_below_fastapi_sees_state_set_by_middleware() -> None:
    async def guard(verb: str, path: str, scope: MutableMapping[str, Any]) -> bool:
        return verb == "read" and path == "/chat" and scope.get("state", {}).get("user") == "ada"

    class LogIn:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and (b"x-user", b"ada") in scope["headers"]:
                scope.setdefault("state", {})["user"] = "ada"
            await self.app(scope, receive, send)

    streams = create_app(guard=guard)
    host = FastAPI()
    host.add_middleware(LogIn)
    host.mount("/streams", streams)
    await streams.streams.create("/chat", "text/plain", initial_data=b"hello")
    transport = httpx.ASGITransport(app=host)
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as http:
        assert (await http.get("/streams/chat")).status_code == 403
        answer = await http.get("/streams/chat", headers={"x-user": "ada"})
        assert answer.text == "hello"
        assert (await http.get("/streams/other", headers={"x-user": "ada"})).status_code == 403

"""ASGI scopes become requests, and bodies are received within the limits."""

import asyncio
from typing import Any

import pytest

from durable_streams_server import BadRequest, StreamError, StreamStore
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.asgi.receiving import (
    BodyReceiver,
    ClientGone,
    check_version,
    request_of,
)
from durable_streams_server.http.limits.budget import LARGE_BODY, Incoming, ReceiveBudget
from durable_streams_server.http.request import Request
from tests.http.asgi_driver import Exchange, request

A = "/v1/stream/a"
TEXT = (b"content-type", b"text/plain")


@pytest.mark.parametrize("framing", [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")])
async def test_request_whose_body_the_host_server_dropped_is_refused(
    app: DurableStreamsApp, store: StreamStore, framing: tuple[bytes, bytes]
) -> None:
    """uvicorn drops the body of a request for an upgrade."""
    headers = [TEXT, (b"upgrade", b"h2c"), framing]
    for method, path in (("PUT", "/v1/stream/new"), ("POST", A)):
        answer = await request(app, method, path, headers)
        assert (answer.status, answer.error["code"]) == (400, "INVALID_HTTP")
    assert not store.has("/v1/stream/new")
    closes = [(b"stream-closed", b"true"), (b"upgrade", b"h2c")]
    assert (await request(app, "POST", A, closes)).status == 204


async def test_decoded_path_is_used_if_the_scope_has_no_raw_path(app: DurableStreamsApp) -> None:
    exchange = Exchange(app, "HEAD", A.encode(), raw_path=None)
    exchange.feed()
    assert (await exchange.answer()).status == 200


def test_request_of_encodes_the_path_and_normalizes_the_mount() -> None:
    scope = {"method": "GET", "path": "/x/caf\xe9", "root_path": "/x/", "headers": [TEXT]}
    made = request_of(scope)
    assert (made.raw_path, made.root_path, made.scheme) == (b"/x/caf%C3%A9", "/x", "http")
    assert made.headers == dict([TEXT])


@pytest.mark.parametrize(
    ("version", "headers", "is_refused"),
    [
        ("0.9", {}, True),
        ("2.0", {}, True),
        ("1.0", {b"transfer-encoding": b"chunked"}, True),
        ("1.0", {}, False),
        ("2", {}, False),
    ],
)
def test_check_version_refuses_unknown_versions_and_chunked_http_1_0(
    version: str, headers: dict[bytes, bytes], is_refused: bool
) -> None:
    made = Request("GET", A.encode(), b"", headers)
    if is_refused:
        with pytest.raises(BadRequest):
            check_version(version, made)
    else:
        check_version(version, made)


class Upload:
    """A POST whose body comes in parts, and a receiver with a limit of `max_body` bytes."""

    def __init__(self, *parts: bytes | None, max_body: int = 1 << 20, length: int | None) -> None:
        self.checked = 0
        headers = {b"transfer-encoding": b"chunked"}
        if length is not None:
            headers = {b"content-length": b"%d" % length}
        self.request = Request("POST", A.encode(), b"", headers)
        self.request.check_limits(1 << 30)  # sets `declared`
        self.budget = ReceiveBudget(2 * max_body)
        self._parts = list(parts)
        self._receiver = BodyReceiver(max_body, 5.0, self.budget, self._check_head)

    def _check_head(self, _: Request, peer: str | None) -> None:
        assert peer == "192.0.2.1"
        self.checked += 1

    async def _next_message(self) -> dict[str, Any]:
        part = self._parts.pop(0)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(self._parts)}

    async def receive(self) -> bytes:
        """Returns the received body."""
        body = Incoming(self.budget, None)
        try:
            await self._receiver.receive(self.request, body, self._next_message, "192.0.2.1")
        finally:
            body.release()
        return bytes(self.request.body)


async def test_receiver_joins_the_parts_of_a_body() -> None:
    upload = Upload(b"one", b"two", length=6)
    assert await upload.receive() == b"onetwo"
    assert (upload.checked, upload.budget.held) == (0, 0)


@pytest.mark.parametrize("length", [3 * LARGE_BODY, None])
async def test_request_with_a_large_body_is_checked_once_before_it_ends(
    length: int | None,
) -> None:
    upload = Upload(*[bytes(LARGE_BODY)] * 3, length=length)
    assert len(await upload.receive()) == 3 * LARGE_BODY
    assert upload.checked == 1


@pytest.mark.parametrize(
    ("parts", "length", "code"),
    [
        ([bytes(11)], None, "BODY_TOO_LARGE"),
        ([b"x"], 2, "INVALID_HTTP"),
    ],
)
async def test_body_of_a_wrong_size_is_refused(
    parts: list[bytes], length: int | None, code: str
) -> None:
    upload = Upload(*parts, max_body=10, length=length)
    with pytest.raises(StreamError) as refused:
        await upload.receive()
    assert refused.value.code == code
    assert upload.budget.held == 0


async def test_receive_raises_client_gone_when_the_client_leaves() -> None:
    upload = Upload(b"one", None, length=6)
    with pytest.raises(ClientGone):
        await upload.receive()
    assert upload.budget.held == 0


async def test_get_request_has_an_empty_body_without_calling_receive() -> None:
    receiver = BodyReceiver(10, 5.0, ReceiveBudget(10), lambda *_: None)
    made = Request("GET", A.encode(), b"", {})
    body = Incoming(ReceiveBudget(10), None)
    await receiver.receive(made, body, asyncio.Event().wait, None)  # type: ignore[arg-type]  # never called
    assert made.body == b""

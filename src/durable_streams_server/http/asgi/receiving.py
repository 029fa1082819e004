"""Turns an ASGI scope into a `Request`, and receives the request's body within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from ...errors import BadRequest, RequestTimeout
from ...protocol.limits import LEAST_BODY_RATE
from ...protocol.names import TRANSFER_ENCODING
from ...protocol.paths import normalize_mount
from ..limits.body_timer import BodyTimer
from ..limits.budget import LARGE_BODY, Incoming, ReceiveBudget
from ..request import Request, index_headers, too_large
from .sending import Message

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class ClientGone(Exception):
    """The client left before its request, or its response, was complete."""


def request_of(scope: Scope) -> Request:
    """Returns the request that a scope describes, without its body."""
    headers, repeated, size = index_headers(scope["headers"])
    raw_path = scope.get("raw_path")
    if raw_path is None:  # optional in ASGI; without it only the decoded path is known
        raw_path = quote(scope["path"]).encode("ascii")
    root_path = scope.get("root_path", "")
    if root_path:
        root_path, raw_path = normalize_mount(root_path, raw_path)
    return Request(
        scope["method"],
        raw_path,
        scope.get("query_string", b""),
        headers,
        repeated,
        size,
        scope.get("scheme", "http"),
        root_path,
    )


def check_version(version: str, request: Request) -> None:
    """Refuses unknown HTTP versions, which some host servers accept, and HTTP/1.0 requests with a transfer coding.

    Raises:
        BadRequest: INVALID_HTTP.
    """
    if version in ("0.9", "2.0"):  # HTTP/2 itself is `2` in ASGI
        raise BadRequest("the request is not of HTTP/1.1 or 1.0", "INVALID_HTTP")
    if version == "1.0" and TRANSFER_ENCODING in request.headers:  # RFC 9112, 6.1
        raise BadRequest("HTTP/1.0 has no transfer codings", "INVALID_HTTP")


class BodyReceiver:
    """Receives the bodies of one application's requests.

    Args:
        max_body: Maximum bytes of one body.
        body_timeout: Seconds that a client may pause within a body.
        budget: Limits the bytes of all bodies.
        check_head: Called with a request and the address of its client before a large body is received. Raises a StreamError if the head
            alone is enough to refuse the request.
    """

    def __init__(
        self,
        max_body: int,
        body_timeout: float,
        budget: ReceiveBudget,
        check_head: Callable[[Request, str | None], None],
    ) -> None:
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._budget = budget
        self._check_head = check_head
        self._body_timer = BodyTimer(body_timeout)

    async def receive(
        self, request: Request, body: Incoming, receive: Receive, peer: str | None
    ) -> None:
        """Receives a whole body and stores it in `request.body`.

        Args:
            request: The request whose body is received.
            body: Counts the bytes against the budget. The caller must release it.
            receive: The `receive` callable of ASGI.
            peer: The address under which the client is counted, or None.

        Raises:
            ClientGone: The client left.
            RequestTimeout: The client paused for longer than `body_timeout`, or sends slower than the minimum rate.
            StreamError: The body is too large or incomplete, the head is refused, or the budget is spent.
        """
        declared = request.declared
        if declared is None and TRANSFER_ENCODING not in request.headers:
            if request.method not in ("PUT", "POST"):
                return
        elif declared is not None and declared > LARGE_BODY:
            self._check_head(request, peer)
            self._budget.check(declared)
        body_timer = self._body_timer
        task: Any = asyncio.current_task()
        in_time = 0.0
        try:
            while True:
                body_timer.start(task)
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                body.add(message.get("body", b""))
                if body.size > self._max_body:
                    raise too_large(self._max_body)
                if not message.get("more_body", False):
                    break
                now = asyncio.get_running_loop().time()
                in_time = in_time or now + self._body_timeout
                if body.size < (now - in_time) * LEAST_BODY_RATE:
                    raise _body_timeout()
                if body.size > LARGE_BODY and declared is None:
                    self._check_head(request, peer)
                    declared = self._max_body  # any number, so that the head is checked only once
            _check_complete(request, body.size)
        except asyncio.CancelledError:
            if body_timer.timed_out(task):
                raise _body_timeout() from None
            raise
        finally:
            body_timer.stop(task)
        request.body = body.whole()


def _body_timeout() -> RequestTimeout:
    return RequestTimeout("the rest of the request's body did not come")


def _check_complete(request: Request, size: int) -> None:
    """Refuses a body of which the host server has dropped a part, as uvicorn does with the body of an upgrade request.

    Raises:
        BadRequest: INVALID_HTTP.
    """
    headers = request.headers
    short = request.declared is not None and size != request.declared
    gone = size == 0 and TRANSFER_ENCODING in headers and b"upgrade" in headers
    if short or gone:
        raise BadRequest("the body has not come as the head says", "INVALID_HTTP")

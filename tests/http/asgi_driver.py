"""Drives an ASGI application message by message, for tests of behaviour that an HTTP client would hide or could not cause."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from durable_streams_server.http.asgi.application import DurableStreamsApp

HeaderList = Sequence[tuple[bytes, bytes]]


class Answer:
    """A complete response. Fails if a header is sent twice, because some caches use only the last of two `Vary` lines."""

    def __init__(self, status: int, headers: HeaderList, body: bytes) -> None:
        names = [name for name, _ in headers]
        assert len(names) == len(set(names)), f"{status} has a header twice: {names}"
        self.status = status
        self.headers = {name.decode(): value.decode("latin-1") for name, value in headers}
        self.pairs = headers
        self.body = body

    @property
    def error(self) -> dict[str, str]:
        """Returns the code and the message of an error response."""
        found: dict[str, str] = json.loads(self.body)["error"]
        return found


class Exchange:
    """One request in progress. `feed` gives the application a part of the body, and `sent` collects what the application sends.

    Attributes:
        sent: The messages that the application has sent.
        hold: If set, the host waits for this event before it sends, as for a client that reads nothing.
        send_error: If set, the host raises this error instead of sending.
        disconnect_received: Whether the application has received the disconnect.
        scope: The ASGI scope of the request.
        task: The task that runs the application.
    """

    def __init__(
        self,
        app: DurableStreamsApp,
        method: str,
        path: bytes,
        headers: HeaderList = (),
        query: bytes = b"",
        **scope: Any,
    ) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.hold: asyncio.Event | None = None
        self.send_error: Exception | None = None
        self.disconnect_received = False
        self._incoming: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        self._arrived = asyncio.Event()
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "method": method,
            "scheme": "http",
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": list(headers),
            "root_path": "",
            **scope,
        }
        self.task = asyncio.create_task(app(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        message = await self._incoming.get()
        is_disconnect = isinstance(message, dict) and message["type"] == "http.disconnect"
        self.disconnect_received = is_disconnect
        if isinstance(message, Exception):
            raise message
        return message

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.send_error is not None:
            raise self.send_error
        self.sent.append(message)
        self._arrived.set()

    def feed(self, body: bytes = b"", more: bool = False) -> None:
        """Gives the application a part of the body. It is the last part unless `more` is True."""
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def fail(self, error: Exception) -> None:
        """Makes the next `receive` of the application raise an error of the host."""
        self._incoming.put_nowait(error)

    def disconnect(self) -> None:
        """Sends the application `http.disconnect`, as a host does when the client has left."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def body(self) -> bytes:
        """Returns the body that the application has sent so far."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self) -> bool:
        """Returns whether the application has ended the body."""
        return bool(self.sent) and self.sent[-1].get("more_body") is None and len(self.sent) > 1

    async def until(self, text: bytes) -> None:
        """Waits until the body contains `text`."""
        async with asyncio.timeout(5):
            while text not in self.body:
                self._arrived.clear()
                await self._arrived.wait()

    async def finish(self) -> None:
        """Waits until the application returns, and raises what the application raises."""
        await asyncio.wait_for(asyncio.shield(self.task), 5)

    async def answer(self) -> Answer:
        """Waits until the application returns, and returns the response that it has sent."""
        async with asyncio.timeout(5):
            await self.task
        start = self.sent[0]
        return Answer(start["status"], start["headers"], self.body)


def start_live_read(
    app: DurableStreamsApp, path: str, kind: str, offset: str = "-1", **headers: str
) -> Exchange:
    """Starts a live read and returns it.

    Args:
        app: The application.
        path: The path of the stream.
        kind: `sse` or `long-poll`.
        offset: Where the read starts.
        headers: Request headers, with underscores for hyphens.
    """
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    query = f"offset={offset}&live={kind}".encode()
    exchange = Exchange(app, "GET", path.encode(), pairs, query)
    exchange.feed()
    return exchange


async def request(
    app: DurableStreamsApp,
    method: str,
    url: str | bytes,
    headers: Mapping[str, str] | HeaderList = (),
    body: bytes = b"",
    **scope: Any,
) -> Answer:
    """Makes one request and returns its complete response. `scope` replaces parts of the ASGI scope."""
    raw = url if isinstance(url, bytes) else url.encode("latin-1")
    path, _, query = raw.partition(b"?")
    if isinstance(headers, Mapping):
        pairs = [
            (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()
        ]
    else:
        pairs = list(headers)
    if body and not any(name in (b"content-length", b"transfer-encoding") for name, _ in pairs):
        pairs.append((b"content-length", b"%d" % len(body)))
    exchange = Exchange(app, method, path, pairs, query, **scope)
    exchange.feed(body)
    return await exchange.answer()

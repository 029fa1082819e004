"""Drives an ASGI application message by message, for what an HTTP client would tidy up or cannot do."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from durable_streams_server.http.asgi.application import DurableStreamsApp

HeaderList = Sequence[tuple[bytes, bytes]]


class Answer:
    """A whole response, which has no header twice: of two `Vary` lines some caches use only the last."""

    def __init__(self, status: int, headers: HeaderList, body: bytes) -> None:
        names = [name for name, _ in headers]
        assert len(names) == len(set(names)), f"{status} has a header twice: {names}"
        self.status = status
        self.headers = {name.decode(): value.decode("latin-1") for name, value in headers}
        self.pairs = headers
        self.body = body

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.body)["error"]
        return found


class Exchange:
    """One request in progress. Messages go in by `feed`, and come out in `sent`.

    Attributes:
        hold: what the host waits for before it sends, as for a client that takes nothing.
        broken: what the host raises instead of sending.
        told: whether the application knows that the client has left.
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
        self.broken: Exception | None = None
        self.told = False
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
        self.told = isinstance(message, dict) and message["type"] == "http.disconnect"
        if isinstance(message, Exception):
            raise message
        return message

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.broken is not None:
            raise self.broken
        self.sent.append(message)
        self._arrived.set()

    def feed(self, body: bytes = b"", more: bool = False) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def fail(self, error: Exception) -> None:
        """Has the host fail instead of giving another message."""
        self._incoming.put_nowait(error)

    def disconnect(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is None and len(self.sent) > 1

    async def until(self, text: bytes) -> None:
        """Waits until the body holds `text`."""
        async with asyncio.timeout(5):
            while text not in self.body:
                self._arrived.clear()
                await self._arrived.wait()

    async def answer(self) -> Answer:
        async with asyncio.timeout(5):
            await self.task
        start = self.sent[0]
        return Answer(start["status"], start["headers"], self.body)


async def request(
    app: DurableStreamsApp,
    method: str,
    url: str | bytes,
    headers: Mapping[str, str] | HeaderList = (),
    body: bytes = b"",
    **scope: Any,
) -> Answer:
    """Makes one request, and waits for its whole response."""
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

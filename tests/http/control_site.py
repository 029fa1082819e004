"""An application with subscriptions, and short ways to send control requests to it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.subscriptions.client import WebhookClient
from tests.http.asgi_driver import Answer, request
from tests.streams.engines import ManualClock

ROOT = "/v1/stream"
CONTROL = f"{ROOT}/__ds"
S = f"{CONTROL}/subscriptions/s"
PUBLIC = "https://streams.example"
HOOK = "https://hooks.example/h"
JSON = {"content-type": "application/json"}
PULL = {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake/pool"}
HOOKED = {"type": "webhook", "pattern": "events/*", "webhook": {"url": HOOK}}


class Receiver:
    """Replaces the webhook client of a service. It accepts any URL, keeps the bodies of deliveries, and never answers."""

    def __init__(self) -> None:
        self._bodies: asyncio.Queue[bytes] = asyncio.Queue()

    async def post(self, _: str, body: bytes, *__: object) -> None:
        self._bodies.put_nowait(body)
        await asyncio.Event().wait()

    async def resolve_and_check(self, url: str) -> None:
        """Accepts any URL."""

    async def aclose(self) -> None:
        """Does nothing."""

    async def delivery(self) -> bytes:
        """Waits for the next delivery and returns its body."""
        async with asyncio.timeout(5):
            return await self._bodies.get()


class Site:
    """An application, its clock, and the receiver of its webhooks."""

    def __init__(self, store: StreamStore | None = None, **options: Any) -> None:
        self.clock = ManualClock()
        self.app: DurableStreamsApp = create_app(store=store, clock=self.clock, **options)
        self.receiver = Receiver()
        self.app.service._client = cast(WebhookClient, self.receiver)

    async def ask(
        self,
        method: str,
        url: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        **scope: Any,
    ) -> Answer:
        """Sends a request and returns the response. A body is sent as JSON."""
        sent = {} if body is None else dict(JSON)
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        raw = b"" if body is None else json.dumps(body).encode()
        return await request(self.app, method, url, {**sent, **(headers or {})}, raw, **scope)

    async def value(self, method: str, url: str, body: object = None, **rest: Any) -> Any:
        """Sends a request that must succeed, and returns the JSON of its response."""
        answer = await self.ask(method, url, body, **rest)
        assert answer.status in (200, 201), answer.body
        return json.loads(answer.body)

    async def append_event(self) -> None:
        """Appends a value to a stream that the subscription follows."""
        await self.ask("PUT", f"{ROOT}/events/a", headers=JSON)
        assert (await self.ask("POST", f"{ROOT}/events/a", 1)).status == 204

    async def claim(self) -> Any:
        """Creates a pull-wake subscription with one event, and returns a claim of its wake."""
        await self.ask("PUT", S, PULL)
        await self.append_event()
        return await self.value("POST", f"{S}/claim", {"worker": "w"})

    async def link_types(self) -> dict[str, str]:
        """Returns the link type of each stream that the subscription is linked to."""
        shown = await self.value("GET", S)
        return {stream["path"]: stream["link_type"] for stream in shown["streams"]}


def ack(claim: Any, **more: Any) -> dict[str, Any]:
    """Returns the body of an ack for a claim, with more fields."""
    return {"wake_id": claim["wake_id"], "generation": claim["generation"], **more}


def acks(claim: Any) -> list[dict[str, str]]:
    """Returns the acks of all streams that a claim lists, up to their tails."""
    return [{"stream": s["path"], "offset": s["tail_offset"]} for s in claim["streams"]]

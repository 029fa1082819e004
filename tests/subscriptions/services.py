"""A service on an engine, with a client that answers as it is told and a clock that is moved by hand."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from durable_streams_server.errors import Header
from durable_streams_server.protocol.subscriptions.commands import Look
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Store
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.engine import Engine
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from durable_streams_server.subscriptions.patience import Patience
from durable_streams_server.subscriptions.service import Service
from tests.protocol.subscriptions.world import JSON, A, B, subscribe
from tests.requests import append, create
from tests.storage.contract import settled
from tests.streams.engines import ManualClock

PUBLIC = "https://streams.example"
DONE = Reply(200, b'{"done": true}')
TAKEN = Reply(200, b"{}")


class Post:
    """One delivery that the client was asked for; it goes on when it is answered."""

    def __init__(
        self, url: str, body: bytes, headers: Sequence[Header], patience: Patience
    ) -> None:
        self.url = url
        self.body = body
        self.headers = dict(headers)
        self.patience = patience
        self.cancelled = False
        self._answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def generation(self) -> int:
        return cast(int, self.document["generation"])

    def answer(self, with_: Reply | Exception) -> None:
        if isinstance(with_, Exception):
            self._answer.set_exception(with_)
        else:
            self._answer.set_result(with_)

    async def wait(self) -> Reply:
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class FakeClient:
    """Takes deliveries."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.checked: list[str] = []
        self.refusal: Exception | None = None
        self.closed = False

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Sequence[Header],
        patience: Patience,
    ) -> Reply:
        self.posts.append(Post(url, body, headers, patience))
        return await self.posts[-1].wait()

    async def resolve_and_check(self, url: str) -> None:
        self.checked.append(url)
        if self.refusal is not None:
            raise self.refusal

    async def aclose(self) -> None:
        self.closed = True


class Running:
    """A service that runs."""

    def __init__(
        self,
        store: Store | None = None,
        clock: ManualClock | None = None,
        public_url: str | None = PUBLIC,
    ) -> None:
        self.clock = clock or ManualClock()
        self.store = store or MemoryStore()
        self.engine = Engine(self.store, clock=self.clock)
        self.service = Service(self.engine, public_url)
        self.client = FakeClient()
        self.service._client = cast(WebhookClient, self.client)

    def start(self) -> "Running":
        self.engine.start()
        self.service.start()
        return self

    async def stop(self) -> None:
        self.engine.begin_shutdown()
        self.service.begin_shutdown()
        await self.service.stop()
        await self.engine.stop()

    async def run(self, command: Any) -> Any:
        return await settled(cast("Ticket[Any]", self.store.execute(command, self.engine.clock())))

    async def streams(self, *paths: str) -> None:
        for path in paths:
            await self.run(create(path, JSON))

    async def news(self, *paths: str) -> None:
        for path in paths:
            await self.run(append(path, b"1", JSON))

    async def subscribe(self, id_: str = "s", **fields: Any) -> View:
        fields.setdefault("type", "webhook")
        outcome = await settled(self.service.subscribe(subscribe(id_, **fields)))
        return outcome.view

    async def hooked(self) -> None:
        """Makes two streams, and a webhook for them."""
        await self.streams(A, B)
        await self.subscribe()

    async def view(self, id_: str = "s") -> View:
        return cast(View, await self.run(Look(id_)))

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Lets the loop run until something is so."""
        async with asyncio.timeout(5):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.0005)

    async def posted(self, count: int) -> Post:
        """Waits for so many deliveries, and returns the last."""
        await self.until(lambda: len(self.client.posts) >= count)
        await self.settle()
        assert len(self.client.posts) == count
        return self.client.posts[-1]

    async def silent(self) -> None:
        """Sees that nothing has been delivered."""
        await self.settle()
        assert self.client.posts == []

    async def settle(self) -> None:
        """Lets the loop run for a few turns."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        """Moves the clock, has what is due begin, and lets it run."""
        await self.settle()
        self.clock.forward(seconds)
        self.service.schedule.run()
        await self.settle()

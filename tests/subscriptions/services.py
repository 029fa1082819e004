"""Runs a subscription service on an engine with a fake webhook client and a manual clock."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from durable_streams_server.errors import Header, Unavailable
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.protocol.subscriptions.commands import Inspect
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Store
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.clock import Clock
from durable_streams_server.streams.engine import Engine
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from durable_streams_server.subscriptions.service import Service
from durable_streams_server.subscriptions.time_limit import TimeLimit
from tests.protocol.subscriptions.world import JSON, A, B, subscribe
from tests.requests import append, create
from tests.storage.contract_base import settled
from tests.streams.engines import ManualClock

PUBLIC = "https://streams.example"
DONE = Reply(200, b'{"done": true}')
TAKEN = Reply(200, b"{}")
#: Maximum turns of the event loop that `wait_until` waits. A turn takes a few microseconds, and no test needs a second.
MAX_TURNS = 500_000


async def run_turns(count: int = 10) -> None:
    """Lets the event loop run for `count` turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Lets the event loop run until `condition` returns True.

    Raises:
        AssertionError: the condition is still false after `MAX_TURNS` turns.
    """
    for _ in range(MAX_TURNS):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never became true")


class Post:
    """One delivery that the server has begun to send. The delivery ends when the test calls `answer`."""

    def __init__(
        self, url: str, body: bytes, headers: Sequence[Header], time_limit: TimeLimit
    ) -> None:
        self.url = url
        self.body = body
        self.headers = dict(headers)
        self.time_limit = time_limit
        self.cancelled = False
        self._answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def generation(self) -> int:
        return cast(int, self.document["generation"])

    def answer(self, with_: Reply | Exception) -> None:
        """Lets the delivery return a reply to the service, or raise an exception there."""
        if isinstance(with_, Exception):
            self._answer.set_exception(with_)
        else:
            self._answer.set_result(with_)

    async def wait(self) -> Reply:
        """Waits for `answer`."""
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class FakeClient:
    """Stands in for `WebhookClient`: records deliveries instead of sending them.

    Attributes:
        posts: the deliveries, in order.
        checked: the URLs that were checked for new subscriptions.
        refusal: the exception that a check raises, if any.
        check_hangs: True if checks never end by themselves.
        check_ended: set when a check that hangs is cancelled.
    """

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.checked: list[str] = []
        self.refusal: Exception | None = None
        self.check_hangs = False
        self.check_ended = asyncio.Event()
        self.closed = False

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Sequence[Header],
        time_limit: TimeLimit,
    ) -> Reply:
        self.posts.append(Post(url, body, headers, time_limit))
        return await self.posts[-1].wait()

    async def resolve_and_check(self, url: str) -> None:
        self.checked.append(url)
        if self.refusal is not None:
            raise self.refusal
        if self.check_hangs:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.check_ended.set()

    async def aclose(self) -> None:
        self.closed = True


class RefusingStore(MemoryStore):
    """A store that refuses some kinds of commands.

    Attributes:
        refuses: the types of the commands to refuse.
        error: the error that a refused command gets.
        refused: the commands that were refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses: tuple[type, ...] = ()
        self.error: Exception = Unavailable("there is no room")
        self.refused: list[Command] = []

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if isinstance(command, self.refuses):
            self.refused.append(command)
            return Ticket.failed(self.error)
        return super().execute(command, now)


class Running:
    """A service with its engine, store, clock and fake client.

    Args:
        store: an empty `MemoryStore` if not given.
        clock: a `ManualClock` if not given.
        public_url: the public URL of the server.
    """

    def __init__(
        self,
        store: Store | None = None,
        clock: Clock | None = None,
        public_url: str | None = PUBLIC,
    ) -> None:
        self._manual = ManualClock() if clock is None else clock
        self.store = store or MemoryStore()
        self.engine = Engine(self.store, clock=self._manual)
        self.service = Service(self.engine, public_url)
        self.client = FakeClient()
        self.service._client = cast(WebhookClient, self.client)

    @property
    def clock(self) -> ManualClock:
        """The manual clock. Fails if the test gave another kind of clock."""
        assert isinstance(self._manual, ManualClock)
        return self._manual

    def start(self) -> "Running":
        """Starts the engine and the service."""
        self.engine.start()
        self.service.start()
        return self

    async def stop(self) -> None:
        """Stops the service and the engine as the server does."""
        self.engine.begin_shutdown()
        self.service.begin_shutdown()
        await self.service.stop()
        await self.engine.stop()

    async def run(self, command: Any) -> Any:
        """Executes a command in the store, and returns its outcome."""
        return await settled(cast("Ticket[Any]", self.store.execute(command, self.engine.clock())))

    async def create_streams(self, *paths: str) -> None:
        """Creates empty JSON streams."""
        for path in paths:
            await self.run(create(path, JSON))

    async def append_news(self, *paths: str) -> None:
        """Appends one value to each stream."""
        for path in paths:
            await self.run(append(path, b"1", JSON))

    async def subscribe(self, id_: str = "s", **fields: Any) -> View:
        """Creates a subscription. It has a webhook unless `type` is given."""
        fields.setdefault("type", "webhook")
        outcome = await settled(self.service.subscribe(subscribe(id_, **fields)))
        return outcome.view

    async def subscribe_webhook(self) -> None:
        """Creates the streams A and B, and a webhook subscription to both."""
        await self.create_streams(A, B)
        await self.subscribe()

    async def view(self, id_: str = "s") -> View:
        """Returns a subscription."""
        return cast(View, await self.run(Inspect(id_)))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Lets the event loop run until `condition` returns True."""
        await wait_until(condition)

    async def wait_for_posts(self, count: int) -> Post:
        """Waits until the server has sent `count` deliveries in all, asserts that there are no more, and returns the last one."""
        await self.until(lambda: len(self.client.posts) >= count)
        await self.settle()
        assert len(self.client.posts) == count
        return self.client.posts[-1]

    async def expect_no_posts(self) -> None:
        """Asserts that the server has sent no delivery."""
        await self.settle()
        assert self.client.posts == []

    async def settle(self) -> None:
        """Lets the event loop run for a few turns."""
        await run_turns()

    async def pass_time(self, seconds: float) -> None:
        """Moves the clock forward, runs the steps that are due, and lets the event loop run."""
        await self.settle()
        self.clock.forward(seconds)
        self.service.schedule.run()
        await self.settle()

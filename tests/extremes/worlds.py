"""The servers of the sweep: on the native lane or ASGI, with a store in memory or on files, which can be restarted."""

import asyncio
import shutil
from pathlib import Path
from typing import Any, Literal, Self

from click.testing import CliRunner

from durable_streams_server import (
    FileBackedStreamStore,
    StreamStore,
    create_app,
    create_registry_hooks,
)
from durable_streams_server.cli.data import check, inspect
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.subscriptions.addresses import WebhookPolicy
from tests.extremes.cases import Step
from tests.http.asgi_driver import Answer, Exchange
from tests.http.socket_driver import Client, parse
from tests.requests import NOW

LaneName = Literal["native", "asgi"]
StoreName = Literal["memory", "files"]
SEGMENT = 1 << 20
SHOWN = 4  # number of streams of a batch that are also inspected one by one


class World:
    """One server on the running event loop.

    Args:
        lane: The adapter that carries the requests.
        directory: The data directory, or None for a store in memory.
        now: The time that the server's clock always shows, in microseconds since 1970.
    """

    def __init__(self, lane: LaneName, directory: Path | None, now: int = NOW) -> None:
        self.directory = directory
        self._now = now
        self.store = StreamStore() if directory is None else open_store(directory)
        self._lane = lane

    async def begin(self) -> Self:
        """Starts the server."""
        self.app: DurableStreamsApp = create_app(
            store=self.store,
            hooks=create_registry_hooks(),
            clock=lambda: self._now,
            public_url="http://127.0.0.1:9",
            webhook_policy=WebhookPolicy(allow_loopback=True),
            long_poll_timeout=0.01,
            sse_max_age=0.02,
        )
        self._life: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        started = asyncio.Event()

        async def send(_: Any) -> None:
            started.set()

        self._alive = asyncio.create_task(self.app({"type": "lifespan"}, self._life.get, send))
        self._life.put_nowait({"type": "lifespan.startup"})
        await started.wait()
        return self

    async def ask(self, step: Step) -> Answer:
        """Sends one request and returns the response."""
        headers = [*step.headers]
        if step.method in ("PUT", "POST"):
            headers.append((b"content-length", b"%d" % len(step.body)))
        if self._lane == "native":
            return await self._ask_natively(step, headers)
        exchange = Exchange(self.app, step.method, step.path, headers, step.query)
        exchange.feed(step.body)
        return await exchange.answer()

    async def _ask_natively(self, step: Step, headers: list[tuple[bytes, bytes]]) -> Answer:
        """Sends one request on the native lane and returns the response."""
        target = step.path + b"?" + step.query if step.query else step.path
        lines = [b"%b %b HTTP/1.1" % (step.method.encode(), target), b"host: localhost"]
        lines += (b"%b: %b" % header for header in headers)
        client, arrived = Client(Lane(self.app)), asyncio.Event()
        flush = client.wire.flush

        def flush_and_notify() -> None:
            flush()
            arrived.set()

        client.wire.flush = flush_and_notify  # type: ignore[method-assign]  # to see when octets arrive
        client.send(b"\r\n".join([*lines, b"", b""]) + step.body)
        while True:
            found, _ = parse(bytes(client.wire.received), [step.method])
            if found:
                client.reset()
                return found[0]
            await arrived.wait()
            arrived.clear()

    async def stop(self) -> None:
        """Stops the server if it runs, and closes its store with a last checkpoint. Fails if the store had stopped by itself."""
        if self._alive.done():
            return
        self._life.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait_for(self._alive, 10)
        failure = getattr(self.store, "failure", None)
        self.store.close()
        assert failure is None, f"the store has stopped: {failure!r}"

    async def restart(self) -> None:
        """Stops the server, runs the commands `check` and `inspect` on its directory, and starts it again."""
        assert self.directory is not None
        await self.stop()
        examine(self.directory)
        self.store = open_store(self.directory)
        await self.begin()

    async def start_copy(self) -> "World":
        """Starts a server on a copy of the directory. The copy is in the state that a kill would leave."""
        assert self.directory is not None
        copy = Path(f"{self.directory}-killed")
        shutil.copytree(self.directory, copy)
        return await World(self._lane, copy, self._now).begin()


def open_store(directory: Path) -> FileBackedStreamStore:
    """Opens a data directory with small segments, so that one sweep fills many."""
    return FileBackedStreamStore(directory, segment_size=SEGMENT)


def examine(directory: Path) -> None:
    """Runs `check` and `inspect` on a directory. Both must succeed, and `check` must find nothing."""
    checked = CliRunner().invoke(check, [str(directory)])
    assert (checked.exit_code, checked.exception) == (0, None), checked.output
    listed = CliRunner().invoke(inspect, [str(directory)])
    assert (listed.exit_code, listed.exception) == (0, None), listed.output
    for line in listed.output.splitlines()[:SHOWN]:
        path = line.split("\t")[0]
        shown = CliRunner().invoke(inspect, [str(directory), "--", path])
        assert (shown.exit_code, shown.exception) == (0, None), f"{path!r}: {shown.output}"

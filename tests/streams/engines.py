"""An engine on a memory store, clocks that the test controls, and helpers for the event loop."""

import asyncio

from durable_streams_server import FileBackedStreamStore, StreamStore
from durable_streams_server.protocol.commands import Command, Read
from durable_streams_server.protocol.offsets import parse_read
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.hooks import Hooks
from durable_streams_server.streams.options import EngineOptions
from durable_streams_server.streams.turns import Turns
from tests.requests import NOW, SECOND

PublicStore = StreamStore | FileBackedStreamStore


class ManualClock:
    """A wall clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        """Moves the clock forward."""
        self.now += round(seconds * SECOND)


class SettableClock(ManualClock):
    """A wall clock that the test can set, with a steady counter of the time since boot."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = 5 * SECOND  # since the boot
        self.boot = "one"

    def ticks(self) -> int:
        """Returns the nanoseconds since boot, which `set` does not change."""
        return self._passed * 1000

    def forward(self, seconds: float) -> None:
        super().forward(seconds)
        self._passed += round(seconds * SECOND)

    def reboot(self) -> None:
        """Reboots the machine. That takes no time and resets the counter."""
        self._passed = 0
        self.boot = "two"

    def set(self, seconds: float) -> None:
        """Sets the wall clock forward or back without changing the counter."""
        self.now += round(seconds * SECOND)


class Bench:
    """An engine on a memory store, with a manual clock."""

    def __init__(self, options: EngineOptions | None = None, hooks: Hooks | None = None) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.engine = Engine(self.store, options or EngineOptions(), hooks, self.clock)

    def do(self, *commands: Command) -> None:
        """Executes commands at the present time of the clock."""
        for command in commands:
            self.store.execute(command, self.clock.now).result()

    def state(self, path: str = "/a") -> StreamState:
        """Returns the state of a stream, which must exist."""
        state = self.store.find(path).result()
        assert state is not None
        return state

    def sweep(self) -> None:
        """Expires the streams that are due."""
        self.engine._sweep.expire_due()


async def next_turn() -> None:
    """Waits for the next turn of the event loop. Live readers of changed streams have been woken by then."""
    await asyncio.sleep(0)


async def run_until_idle(turns: Turns) -> None:
    """Runs the event loop until no step is left in any line."""
    for _ in range(100_000):
        if turns.is_idle:
            return
        await asyncio.sleep(0)
    raise AssertionError("the work does not end")


def read(
    path: str = "/a", offset: str = "-1", live: str | None = None, cursor: str | None = None
) -> Read:
    """Returns the command of a GET request."""
    return Read(path, parse_read(offset), live, cursor)


__all__ = ["Bench", "ManualClock", "SettableClock", "next_turn", "read", "run_until_idle"]

"""An engine on a memory store, with a clock that stands still until it is told to go."""

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
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


class SettableClock(ManualClock):
    """A wall clock that can be set, and counts how much time has really passed."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = 5 * SECOND  # since the boot
        self.boot = "one"

    def ticks(self) -> int:
        return self._passed * 1000

    def forward(self, seconds: float) -> None:
        super().forward(seconds)
        self._passed += round(seconds * SECOND)

    def reboot(self) -> None:
        """Boots the machine anew, which takes no time."""
        self._passed = 0
        self.boot = "two"

    def set(self, seconds: float) -> None:
        """Sets the wall clock forward, or back, while no time passes."""
        self.now += round(seconds * SECOND)


class Bench:
    """An engine to try things on."""

    def __init__(self, options: EngineOptions | None = None, hooks: Hooks | None = None) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.engine = Engine(self.store, options or EngineOptions(), hooks, self.clock)

    def do(self, *commands: Command) -> None:
        for command in commands:
            self.store.execute(command, self.clock.now).result()

    def state(self, path: str = "/a") -> StreamState:
        state = self.store.find(path).result()
        assert state is not None
        return state

    def sweep(self) -> None:
        self.engine._sweep.expire_due()


async def woken() -> None:
    """Lets the loop's turn end: then live readers hear of what has happened in it."""
    await asyncio.sleep(0)


async def settled(turns: Turns) -> None:
    """Waits until nothing stands in any line."""
    for _ in range(100_000):
        if turns.is_idle:
            return
        await asyncio.sleep(0)
    raise AssertionError("the work does not end")


def read(
    path: str = "/a", offset: str = "-1", live: str | None = None, cursor: str | None = None
) -> Read:
    """Returns a GET."""
    return Read(path, parse_read(offset), live, cursor)


__all__ = ["Bench", "ManualClock", "SettableClock", "read", "settled", "woken"]

"""Stores with a real `Runner`: one whose jobs run when the test says so, and one with real threads."""

import asyncio
import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.storage.files.catalog import LmdbCatalog
from durable_streams_server.storage.files.directory import CATALOG, prepare
from durable_streams_server.storage.files.disk import File
from durable_streams_server.storage.files.executor import Lane
from durable_streams_server.storage.files.limits import Limits
from durable_streams_server.storage.files.runner import Runner
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.storage.files.system_file import SystemFile
from durable_streams_server.storage.files.threads import Threads
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.testing.disk import SimulatedDisk
from tests.crash.executor import SimulatedExecutor
from tests.requests import NOW, append, create
from tests.storage.files.stores import new_disk, open_store, run

SEGMENT = 1 << 20
PATIENCE = 10  # seconds, far more than any job takes
T = TypeVar("T")


class RunnerBench:
    """A store on a simulated disk, with a runner whose jobs run when the test says so."""

    def __init__(self, disk: SimulatedDisk | None = None, **options: int) -> None:
        self.disk = disk or new_disk()
        self.executor = SimulatedExecutor(random.Random(0))
        self.failures: list[BaseException] = []
        self.store = open_store(self.disk, **options)
        run(self.store, create("/a"), append("/a", b"before "))
        self.store.run_checkpoint()
        self.store.shell = Runner(*self.store.parts, self.executor, self.failures.append)

    def append(self, data: bytes) -> None:
        """Appends, and lets the runner write and publish the record."""
        ticket = self.store.execute(append("/a", data), NOW)
        while not ticket.done:
            self.executor.turn()
            self.executor.run(Lane.COMMIT)
            self.executor.complete()
        ticket.result()

    def begin_checkpoint(self) -> None:
        """Runs a checkpoint up to its first job on the disk, which does not run yet."""
        self.store.shell.checkpoint_due()
        self.executor.turn()
        self.executor.turn()

    def run_all_jobs(self) -> None:
        while not self.executor.is_idle:
            self.executor.turn()
            for lane in Lane:
                self.executor.run(lane)
                self.executor.complete()


def failing(call: str, code: int = errno.EIO) -> Callable[[str], None]:
    """Returns a hook for a simulated disk that fails one kind of call."""

    def before(name: str) -> None:
        if name == call:
            raise OSError(code, os.strerror(code), name)

    return before


def working(_: str) -> None:
    """A hook for a simulated disk that lets every call succeed."""


def reopened(disk: SimulatedDisk) -> FileStore:
    """Cuts the power, and opens a store on what the disk has kept."""
    disk.before = working
    disk.lose_power()
    return open_store(disk)


class GatedFile(SystemFile):
    """A file whose calls wait and fail as its `GatedDisk` says."""

    disk: "GatedDisk"

    def write(self, data: bytes | memoryview, position: int) -> None:
        self.disk.fail_if_asked("write")
        super().write(data, position)

    def write_durably(self, data: bytes | tuple[bytes, ...], position: int) -> None:
        self.disk.reached.set()
        self.disk.gate.wait()
        self.disk.fail_if_asked("write_durably")
        super().write_durably(data, position)

    def allocate(self, size: int) -> None:
        self.disk.fail_if_asked("allocate")
        super().allocate(size)


class GatedDisk(SystemDisk):
    """A directory whose durable writes can be held at a gate, and whose calls can be made to fail.

    Attributes:
        gate: durable writes wait until this event is set.
        reached: set whenever a durable write arrives at the gate.
        errors: the error codes of calls that fail, by the name of the call.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.errors: dict[str, int] = {}

    def close_gate(self) -> None:
        self.reached.clear()
        self.gate.clear()

    async def held_write(self) -> None:
        """Waits until a durable write is blocked at the closed gate."""
        assert await asyncio.to_thread(self.reached.wait, PATIENCE)

    def fail_if_asked(self, call: str) -> None:
        if call in self.errors:
            code = self.errors[call]
            raise OSError(code, os.strerror(code), call)

    def open(self, path: str, *, create: bool = False) -> File:
        file = GatedFile(self.root / path, create)
        file.disk = self
        return file


class WatchedThreads(Threads):
    """Real threads that let a test wait for the end of the next job."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._ended_jobs = asyncio.Event()

    async def next_end(self) -> None:
        """Waits until the next job has ended."""
        self._ended_jobs.clear()
        async with asyncio.timeout(PATIENCE):
            await self._ended_jobs.wait()

    async def until(self, condition: Callable[[], object]) -> None:
        """Returns once a condition is true. Checks the condition whenever a job has ended."""
        while not condition():
            await self.next_end()

    def _call_ended(self) -> None:
        super()._call_ended()
        self._ended_jobs.set()


class ThreadsBench:
    """A store on real threads and a real directory."""

    def __init__(self, path: Path, **limits: int) -> None:
        self.disk = GatedDisk(path)
        prepare(self.disk, "data")
        catalog = LmdbCatalog(str(path / CATALOG))
        self.store = FileStore(self.disk, catalog, segment_size=SEGMENT, limits=Limits(**limits))
        self.failures: list[BaseException] = []
        self.threads = WatchedThreads(asyncio.get_running_loop())
        self.store.shell = Runner(*self.store.parts, self.threads, self.failures.append)

    async def run(self, command: Command) -> Outcome:
        return await settled(self.store.execute(command, NOW))

    async def until(self, condition: Callable[[], object]) -> None:
        """Returns once a condition is true. Checks the condition whenever a job has ended."""
        await self.threads.until(condition)

    async def checkpointed(self) -> None:
        """Runs checkpoints until the catalog has every record."""

        def is_done() -> bool:
            self.store.shell.checkpoint_due()
            return self.store.meta.lsn == self.store.wal.last_lsn

        await self.until(is_done)

    def close(self) -> None:
        self.store.detach()
        self.store.close()
        self.disk.release()


async def settled(ticket: Ticket[T]) -> T:
    """Waits for a ticket, and returns its value or raises its error."""
    done = asyncio.Event()
    ticket.add_callback(lambda _: done.set())
    await asyncio.wait_for(done.wait(), PATIENCE)
    return ticket.result()

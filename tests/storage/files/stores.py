"""Helpers that open file stores on simulated disks. The stores are small, so that tests reach every limit."""

import random
from collections.abc import Callable
from typing import Any, TypeVar

from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.storage.files.directory import prepare
from durable_streams_server.storage.files.limits import Limits
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.synchronous import Synchronous
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW

T = TypeVar("T")

SEGMENT = 256 * 1024


def new_disk(seed: int = 0) -> SimulatedDisk:
    """Returns a disk with an empty data directory."""
    disk = SimulatedDisk(random.Random(seed))
    prepare(disk, "data")
    return disk


def open_store(disk: SimulatedDisk, **options: Any) -> FileStore:
    """Opens the store on a disk. Options are arguments of `FileStore` and fields of `Limits`."""
    limits = {name: options.pop(name) for name in Limits.__struct_fields__ if name in options}
    options = {"segment_size": SEGMENT, **options}
    return FileStore(disk, SimulatedCatalog(disk), limits=Limits(**limits), **options)


def run(store: FileStore, *commands: Command, now: int = NOW) -> list[Outcome]:
    """Executes commands one after the other, commits each, and returns their outcomes."""
    outcomes = []
    for command in commands:
        ticket = store.execute(command, now)
        store.shell.wait_for(ticket)
        outcomes.append(ticket.result())
    return outcomes


def content(store: FileStore, path: str) -> bytes:
    """Returns all visible bytes of a stream, those of its ancestors included."""
    state = store.find(path).result()
    assert state is not None
    parts = [store.read_bytes(*part).result() for part in state.extents(0, state.visible_tail)]
    return b"".join(parts)


class HeldReads(Synchronous):
    """A shell whose reads of the disk wait until the test releases them."""

    has_readers = True

    def __init__(self, store: FileStore) -> None:
        super().__init__(*store.parts)
        self._held: list[Callable[[], None]] = []

    def read(self, function: Callable[[], T]) -> Ticket[T]:
        ticket: Ticket[T] = Ticket()

        def run() -> None:
            try:
                ticket.resolve(function())
            except Exception as error:
                ticket.fail(error)

        self._held.append(run)
        return ticket

    @property
    def waiting(self) -> int:
        """The number of reads that wait."""
        return len(self._held)

    def release(self) -> None:
        """Runs the reads that wait now, of which there must be at least one."""
        assert self._held, "no read waits for the disk"
        held, self._held = self._held, []
        for run in held:
            run()

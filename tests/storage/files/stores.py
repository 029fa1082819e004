"""File stores on simulated disks, small enough that every limit is met."""

import random
from typing import Any

from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decide import Outcome
from durable_streams_server.storage.files.directory import prepare
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW

SEGMENT = 256 * 1024


def new_disk(seed: int = 0) -> SimulatedDisk:
    """Returns an empty disk, laid out."""
    disk = SimulatedDisk(random.Random(seed))
    prepare(disk, "data")
    return disk


def open_store(disk: SimulatedDisk, **options: Any) -> FileStore:
    """Opens the store on a disk."""
    return FileStore(disk, SimulatedCatalog(disk), **{"segment_size": SEGMENT, **options})


def run(store: FileStore, *commands: Command, now: int = NOW) -> list[Outcome]:
    """Executes commands and commits each."""
    outcomes = []
    for command in commands:
        ticket = store.execute(command, now)
        store.shell.wait_for(ticket)
        outcomes.append(ticket.result())
    return outcomes


def content(store: FileStore, path: str) -> bytes:
    """Returns all that readers may see of a stream."""
    state = store.find(path).result()
    assert state is not None
    parts = [store.read_bytes(*part).result() for part in state.extents(0, state.visible_tail)]
    return b"".join(parts)

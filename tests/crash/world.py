"""Declares the part of a simulation that its commands, workers and oracles use."""

import random
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.state import Change
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.reader import Reader
from durable_streams_server.testing.disk import SimulatedDisk

T = TypeVar("T")

#: The paths of the streams in every run.
PATHS = [f"/{letter}" for letter in "abcdefgh"]


class World(Protocol):
    """A running simulation.

    Attributes:
        chance: the source of all random decisions.
        disk: the simulated disk.
        store: the store of the present life.
        reader: reads pages of that store.
        history: the changes of each record that the store decided, by LSN.
        now: steady time in microseconds.
        wall_offset: wall-clock time minus steady time, in microseconds.
        max_due: the maximum number of cursors that a subscription keeps.
    """

    chance: random.Random
    disk: SimulatedDisk
    store: FileStore
    reader: Reader
    history: dict[int, list[Change]]
    now: int
    wall_offset: int
    max_due: int

    def send(self, command: Command) -> Ticket[Any] | None:
        """Sends a command to the store. Returns None if it was refused before the store saw it."""
        ...

    def watch(self, ticket: Ticket[Any], check: Callable[[Ticket[Any]], None]) -> None:
        """Calls `check` once a ticket is done. A check that fails ends the simulation."""
        ...

    def settle(self) -> None:
        """Runs the store until nothing is in flight."""
        ...

    def wait(self, ticket: Ticket[T]) -> T:
        """Runs reads of the disk until a ticket is done, and returns its result."""
        ...

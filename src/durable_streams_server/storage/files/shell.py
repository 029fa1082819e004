"""The interface through which a store asks for work: commits, checkpoints, timers and reads of the disk.

`Synchronous` does the work when a caller waits for a ticket. `Runner` does it beside an event loop.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from ..ticket import Ticket

T = TypeVar("T")


class Shell(ABC):
    """Runs the work of one store.

    Attributes:
        has_readers: whether `read` can wait for the disk without blocking the event loop.
    """

    has_readers: bool

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether a thread other than the event loop's is committing or reading."""

    @abstractmethod
    def commit_due(self) -> None:
        """Asks for a commit, because a record or an answer was queued."""

    @abstractmethod
    def checkpoint_due(self) -> None:
        """Asks for a checkpoint. Does nothing while one is running."""

    @abstractmethod
    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Calls a function on the event loop after some seconds. Does nothing while an earlier function has not been called yet."""

    @abstractmethod
    def failed(self, error: BaseException) -> None:
        """Ends all work, because the store stopped with an error. The tickets of all queued answers fail with Abandoned."""

    @abstractmethod
    def stop(self) -> None:
        """Commits all queued records, cancels a running checkpoint, and ends all threads. Call it on the event loop's thread."""

    @abstractmethod
    def wait_for(self, ticket: Ticket[Any]) -> None:
        """Blocks the thread that owns the store until a ticket is done. If the store fails, all tickets fail, so the wait ends."""

    @abstractmethod
    def read(self, function: Callable[[], T]) -> Ticket[T]:
        """Runs a read that may wait for the disk, and returns a ticket for its result."""

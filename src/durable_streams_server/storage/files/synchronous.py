"""The shell of a store without an event loop: the thread that waits for a ticket does the work itself."""

from collections.abc import Callable
from typing import Any, TypeVar

from ..ticket import Ticket
from .checkpoint import Checkpoints
from .commits import Commits
from .ledger import Ledger
from .shell import Shell

T = TypeVar("T")


class Synchronous(Shell):
    """Runs no work until `wait_for` is called. The owner of the store may also commit and make checkpoints itself.

    Args:
        commits: the store's queue of records.
        ledger: the store's dirty states, which determine when a checkpoint is due.
        checkpoints: makes the store's checkpoints.
    """

    has_readers = False

    def __init__(self, commits: Commits, ledger: Ledger, checkpoints: Checkpoints) -> None:
        self._commits = commits
        self._ledger = ledger
        self._checkpoints = checkpoints

    @property
    def is_busy(self) -> bool:
        return False

    def commit_due(self) -> None:
        """Does nothing, because `wait_for` commits."""

    def checkpoint_due(self) -> None:
        """Does nothing, because `wait_for` makes the checkpoint that is due."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Does nothing, because there is no event loop to run a timer."""

    def failed(self, _: BaseException) -> None:
        self._commits.committed(self._commits.take_pending())

    def stop(self) -> None:
        """Does nothing, because no thread runs."""

    def wait_for(self, ticket: Ticket[Any]) -> None:
        commits = self._commits
        while not ticket.done and commits.failure is None:
            commits.commit_once()
            if self._ledger.checkpoint_is_due:
                self._checkpoints.run()
        if self._ledger.headroom.is_low and commits.failure is None:
            self._checkpoints.run()  # no other call would notice that the disk has room again

    def read(self, function: Callable[[], T]) -> Ticket[T]:
        return Ticket.of(function())

"""What the store asks of whoever runs it. This one does nothing by itself: its owner calls `commit_once` and checkpoints."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..ticket import Ticket

if TYPE_CHECKING:
    from .store import FileStore

T = TypeVar("T")


class Shell:
    """Runs nothing until somebody waits for a ticket. `Runner` is the shell of a store that a loop owns.

    Args:
        store: the store.

    Attributes:
        has_readers: whether `read` can wait for the disk without keeping the loop.
    """

    has_readers = False

    def __init__(self, store: "FileStore") -> None:
        self._store = store

    @property
    def is_busy(self) -> bool:
        """Whether a thread beside the loop commits or reads."""
        return False

    def commit_due(self) -> None:
        """Something waits to be committed."""

    def checkpoint_due(self) -> None:
        """A checkpoint should be made soon."""

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Calls a function on the loop after some seconds, unless one waits already. Who has no loop has no timer."""

    def failed(self, _: BaseException) -> None:
        """The store has stopped: nothing that waits will be written."""
        self._store.committed(self._store.take_pending())

    def stop(self) -> None:
        """Commits what waits, ends the checkpoint that runs, and gives the store back. On the loop."""

    def wait_for(self, ticket: Ticket[Any]) -> None:
        """Returns when a ticket is done; blocks the thread that owns the store. A store that fails ends every ticket."""
        while not ticket.done and self._store.failure is None:
            self._store.commit_once()
            if self._store.checkpoint_is_due:
                self._store.run_checkpoint()
        if self._store.headroom.is_low and self._store.failure is None:
            self._store.run_checkpoint()  # nobody else would notice that there is room again

    def read(self, function: Callable[[], T]) -> Ticket[T]:
        """Runs a read that may wait for the disk."""
        return Ticket.of(function())

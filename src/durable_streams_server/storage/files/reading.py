"""Reads a stream's own bytes and marks, from memory if they are recent and otherwise from the stream's log.

If a log is damaged or no file handle is free, the ticket fails with the error that the server sends to the client, whichever thread ran the read.
"""

from __future__ import annotations

from functools import partial
from typing import Final, TypeVar, cast

from ...errors import NotFound, StreamError, Unavailable
from ...protocol.limits import RETRY_SOON
from ...protocol.units import KIB
from ..damage import Damaged, refusal_of
from ..recent import Recent
from ..store import Marks
from ..ticket import Ticket
from .catalog.entries import Catalog
from .disk import NO_HANDLES
from .ledger import Ledger
from .logs import Logs
from .shell import Shell

T = TypeVar("T")

#: Maximum bytes that the event loop itself reads from a log, if the system has cached them. A larger read ends sooner on a thread, despite
#: the cost of the hand-over.
_READ_AT_ONCE: Final = 256 * KIB


class Reading:
    """Reads the bytes and marks of one store.

    Args:
        ledger: the store's newest states and their recent bytes.
        logs: the store's logs.
        catalog: the store's catalog, which lists the logs to delete.

    Attributes:
        shell: runs the reads that may wait for the disk.
    """

    shell: Shell

    def __init__(self, ledger: Ledger, logs: Logs, catalog: Catalog) -> None:
        self._ledger = ledger
        self._states = ledger.states
        self._logs = logs
        self._catalog = catalog

    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        """Reads an incarnation's own bytes between two positions. The ticket fails with a StreamError if they cannot be read."""
        try:
            found = self._read(incarnation, start, end)
        except (Damaged, OSError, StreamError) as error:
            return Ticket.failed(self._refusal_of(incarnation, error))
        return found if found.done else self._translated(incarnation, found)

    def marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        """Looks up the marks around a position. The ticket fails with a StreamError if they cannot be read."""
        try:
            found = self._marks(incarnation, position)
        except (Damaged, OSError, StreamError) as error:
            return Ticket.failed(self._refusal_of(incarnation, error))
        return found if found.done else self._translated(incarnation, found)

    def _read(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        if start == end:
            return Ticket.of(b"")
        recent = self._states.recent.get(incarnation)
        if recent is None:
            recent = self._recent_of_ancestor(incarnation)
        if recent is None or end <= recent.begin:
            entries = None if recent is None else recent.entries
            return self._read_log(incarnation, start, end, entries)
        if start >= recent.begin:
            return Ticket.of(recent.read(start, end))
        newer = recent.read(recent.begin, end)
        older = self._read_log(incarnation, start, recent.begin, recent.entries)
        return older.then(lambda data: Ticket.of(data + newer))

    def _recent_of_ancestor(self, incarnation: int) -> Recent | None:
        """Loads a fork's source to learn how much of the source's log is proven. Returns None if the source is gone or damaged."""
        try:
            return self._states.recent_of(incarnation)
        except (Damaged, NotFound):
            return None

    def _read_log(
        self, incarnation: int, start: int, end: int, entries: int | None
    ) -> Ticket[bytes]:
        read = partial(self._logs.read, incarnation, start, end, entries=entries)
        if end - start <= _READ_AT_ONCE or not self.shell.has_readers:
            data = read(ready_only=self.shell.has_readers)
            if data is not None:
                return Ticket.of(data)
        return self.shell.read(lambda: read() or b"")

    def _marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        recent = self._states.recent_of(incarnation)
        if position < recent.begin:
            read = partial(self._logs.marks, incarnation, recent.entries, recent.flushed, position)
            marks = read(ready_only=self.shell.has_readers)
            if marks is not None:
                return Ticket.of(marks)
            return self.shell.read(lambda: cast(Marks, read()))
        return Ticket.of(Marks(*recent.around(position)))

    def _translated(self, incarnation: int, found: Ticket[T]) -> Ticket[T]:
        """Returns a ticket for the same value. Its errors are those that the server sends to clients."""
        answer: Ticket[T] = Ticket()
        answer.on_cancel(found.cancel)

        def hand_over(done: Ticket[T]) -> None:
            try:
                answer.resolve(done.result())
            except Exception as error:
                answer.fail(self._refusal_of(incarnation, error))

        found.add_callback(hand_over)
        return answer

    def _refusal_of(self, incarnation: int, error: Exception) -> Exception:
        """Converts an error of a log to the error that the server sends to the reader."""
        if isinstance(error, Damaged):
            return self._refusal_of_damage(incarnation, error)
        if isinstance(error, OSError) and error.errno in NO_HANDLES:
            return Unavailable("no file handle is free", "NO_FILE_HANDLES", retry_after=RETRY_SOON)
        return error

    def _refusal_of_damage(self, incarnation: int, damage: Damaged) -> StreamError:
        """Returns NotFound if the stream was deleted during the read, otherwise the refusal for its damage."""
        ledger = self._ledger
        gone = incarnation in ledger.removed or incarnation in ledger.unlinked
        if gone or incarnation in self._catalog.garbage():
            return NotFound("there is no stream at this path")
        return refusal_of(damage)

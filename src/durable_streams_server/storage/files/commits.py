"""The queue of records and answers that are decided but not durable yet.

`record` gives a record its place in the write-ahead log and applies it to the newest states. A commit then writes all queued records with one
sync, and `committed` publishes them and resolves their tickets in order. Only `write` waits for the disk. The store's shell decides on which
thread it runs.
"""

from typing import Final

import msgspec

from ...errors import StreamError
from ...log import log as _log
from ...protocol.commands import Command
from ...protocol.decisions.outcomes import Outcome
from ...protocol.state import Appended, Change
from ...protocol.units import KIB
from ..answers import Answer
from ..store import Listeners, Published
from ..ticket import Abandoned, Ticket
from .admission import Admission
from .disk import Disk
from .ledger import Ledger
from .logs import Logs
from .records import encode_in_parts, has_large
from .shell import Shell
from .wal import Reservation, Wal, Write
from .wal_format import LARGE, Payload, size_of

#: While fewer records and bytes than these are queued, the next commit waits for one more turn of the event loop to gather more. The loop
#: decides more than these within about a millisecond.
_FEW: Final = 64
_FEW_BYTES: Final = 64 * KIB

_ENCODE: Final = msgspec.msgpack.Encoder().encode
#: The payload of a record without changes.
_NO_CHANGES: Final = _ENCODE(())
#: Bytes of records that such a record counts as, so that a checkpoint frees its segments after some 65,000 of them, and a start
#: never has many more of them to read.
_PROBE_BYTES: Final = KIB


class InFlight(Answer, frozen=True):
    """An answer in the queue of commits.

    Attributes:
        place: the place of the answer's record in the write-ahead log; None if the answer has no record.
        payload: the record's payload.
    """

    place: Reservation | None
    payload: Payload


class Commit(msgspec.Struct, frozen=True):
    """The records that become durable together, and the answers that wait for them.

    Attributes:
        items: the answers, in order.
        writes: the writes to the write-ahead log.
        records: the records, if the thread that writes must encode them.
    """

    items: list[InFlight]
    writes: list[Write]
    records: list[tuple[Reservation, Payload]] = []


class Commits:
    """Queues the records of one store, writes them, and publishes them.

    Args:
        disk: the data directory.
        wal: the store's write-ahead log.
        logs: the store's logs.
        ledger: the store's newest states.
        listeners: the listeners to call with published changes.

    Attributes:
        shell: runs the store's commits and checkpoints.
        failure: the error that stopped the store; None while it works.
    """

    shell: Shell

    def __init__(
        self, disk: Disk, wal: Wal, logs: Logs, ledger: Ledger, listeners: Listeners
    ) -> None:
        self._disk = disk
        self.wal = wal
        self._logs = logs
        self._ledger = ledger
        self._headroom = ledger.headroom
        self._admission = Admission(ledger, logs, wal)
        self._listeners = listeners
        self._pending: list[InFlight] = []
        self._pending_bytes = 0
        self._has_large = False  # whether the payload of a pending record is in parts
        self._flying = 0  # records and answers that are queued or being written
        self.failure: BaseException | None = None

    # -- queueing -----------------------------------------------------------

    def record(
        self,
        changes: tuple[Change, ...],
        outcome: Outcome | None,
        command: Command | None = None,
    ) -> Ticket[Outcome]:
        """Queues one record, and returns the ticket for its outcome.

        A record that has its place in the log cannot be refused any more. A later failure stops the store, because recovery could not read
        the records behind the gap.

        Args:
            changes: the changes of the record.
            outcome: the value of the ticket.
            command: the command that the changes came from, if there is one.

        Raises:
            StreamError: there is no room for the record; nothing has changed.
        """
        ledger = self._ledger
        if ledger.unflushed > ledger.max_unflushed or self._headroom.is_low or ledger.is_crowded:
            self.shell.checkpoint_due()
            self._admission.refuse_for_memory(changes)
        if self._logs.largest is not None:
            self._admission.refuse_for_logs(changes)
        payload: Payload
        first = changes[0]
        if (len(changes) > 1 or type(first) is not Appended or len(first.data) >= LARGE) and (
            has_large(changes)
        ):
            payload = encode_in_parts(changes)
            size = size_of(payload)
        else:
            payload = _ENCODE(changes)
            size = len(payload)
        try:
            place = self.wal.reserve(size)
        except StreamError:
            self.shell.checkpoint_due()
            place = self._admission.reserve_at_end(size, changes)
        try:
            published = [ledger.apply(change, command) for change in changes]
        except BaseException as error:
            self.fail(error)
            return Ticket.failed(Abandoned(error))
        ticket: Ticket[Outcome] = Ticket()
        self._flying += 1
        self._pending.append(InFlight(published, ticket, outcome, None, place, payload))
        self.shell.commit_due()
        ledger.new_bytes += size
        self._pending_bytes += size
        if isinstance(payload, tuple):
            self._has_large = True
        if ledger.unflushed > ledger.flush_bytes:
            self.shell.checkpoint_due()
        return ticket

    def probe(self) -> Ticket[Outcome]:
        """Queues a record without changes, and returns a ticket that resolves with None once the record is durable.

        Raises:
            StreamError: there is no room for an append; nothing has changed.
        """
        ledger = self._ledger
        try:
            self._admission.refuse_without_room()
            place = self.wal.reserve(len(_NO_CHANGES))
        except StreamError:
            self.shell.checkpoint_due()
            raise
        ticket: Ticket[Outcome] = Ticket()
        self._flying += 1
        self._pending.append(InFlight((), ticket, None, None, place, _NO_CHANGES))
        self.shell.commit_due()
        ledger.new_bytes += _PROBE_BYTES
        return ticket

    def answer(self, outcome: Outcome | None, refusal: StreamError | None) -> Ticket[Outcome]:
        """Queues an answer that has no record. It resolves after everything in flight, or at once if nothing is in flight."""
        ticket: Ticket[Outcome] = Ticket()
        item = InFlight((), ticket, outcome, refusal, None, b"")
        if self._flying:
            self._flying += 1
            self._pending.append(item)
            self.shell.commit_due()
        else:
            item.resolve()
        return ticket

    @property
    def has_few_pending(self) -> bool:
        """Whether so little is queued that the next commit may wait for more."""
        return 0 < len(self._pending) < _FEW and self._pending_bytes < _FEW_BYTES

    @property
    def newest_pending(self) -> InFlight:
        """The answer that was queued last. The queue must not be empty."""
        return self._pending[-1]

    @property
    def in_flight(self) -> int:
        """The number of records and answers that are not published yet."""
        return self._flying

    # -- committing ---------------------------------------------------------

    def take_pending(self) -> Commit:
        """Removes everything from the queue, and returns it as one commit.

        Call it only when the previous commit is on disk or the store has failed. Then call `write`, and after that `committed`, or `fail` if
        the write failed.
        """
        items, self._pending = self._pending, []
        self._pending_bytes = 0
        records = [(item.place, item.payload) for item in items if item.place is not None]
        if self._has_large:  # the thread that writes computes their checksums
            self._has_large = False
            return Commit(items, [], records)
        return Commit(items, self.wal.encode(records) if records else [])

    def write(self, commit: Commit) -> None:
        """Makes a commit's records durable, and checks that this process still owns the directory. May run on another thread.

        Raises:
            OSError: the disk failed. Call `fail`, and never write again.
        """
        writes = self.wal.encode(commit.records) if commit.records else commit.writes
        if writes:
            self.wal.write(writes)
            self._disk.check_lock()

    def committed(self, commit: Commit) -> None:
        """Publishes the changes of a durable commit, and resolves its tickets in order. Call it on the event loop's thread."""
        if self.failure is not None:
            self._abandon(commit)
            return
        ledger = self._ledger
        published: list[Published] = []
        try:
            for item in commit.items:
                if item.place is not None:
                    self.wal.durable_lsn = item.place.lsn
                    ledger.publish(item.published)
                    published += item.published
        except BaseException as error:  # readers may already see a part of the commit
            self.fail(error, commit)
            return
        self._flying -= len(commit.items)
        if published:
            self._listeners.tell(published)
        ledger.memory.trim()
        for item in commit.items:
            item.resolve()
        ledger.update_crowding()
        if ledger.checkpoint_is_due:  # checked once for each commit, not for each record
            self.shell.checkpoint_due()

    def commit_once(self) -> None:
        """Commits all queued records and answers on this thread.

        Raises:
            OSError: the disk failed, and the store has stopped.
        """
        commit = self.take_pending()
        try:
            self.write(commit)
        except OSError as error:
            self.fail(error, commit)
            raise
        self.committed(commit)

    def check_segment(self) -> None:
        """Stops the store if the segment that it wrote last is no longer at its path, because the next server would not find it."""
        try:
            self.wal.check_place()
        except OSError as error:
            self.fail(error)

    def fail(self, error: BaseException, commit: Commit | None = None) -> None:
        """Stops the store: it answers, writes and retries nothing from now on.

        Args:
            error: the reason. A later reason does not replace the first.
            commit: the commit that was being written, if there was one.
        """
        is_first = self.failure is None
        if is_first:
            self.failure = error
            _log.critical("the store has stopped: %s", error)
        if commit is not None:
            self._abandon(commit)
        if is_first:
            self.shell.failed(error)

    def _abandon(self, commit: Commit) -> None:
        """Fails the tickets of a commit with Abandoned, because nobody can know their outcomes."""
        assert self.failure is not None
        self._flying -= len(commit.items)
        for item in commit.items:
            item.abandon(self.failure)

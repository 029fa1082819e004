"""Refuses records for which a file store has no room, because too much data is dirty, the disk is full, or a log may not grow."""

from ...errors import StreamError
from ...protocol.state import Appended, Change
from ...protocol.subscriptions.changes import SubscriptionChange
from . import held
from .headroom import Claim, claim_of
from .ledger import Ledger
from .log_layout import Extent
from .logs import Logs
from .refusals import behind, disk_full
from .wal import Reservation, Wal


class Admission:
    """Refuses records for which one store has no room.

    Args:
        ledger: the store's dirty states.
        logs: the store's logs.
        wal: the store's write-ahead log.
    """

    def __init__(self, ledger: Ledger, logs: Logs, wal: Wal) -> None:
        self._ledger = ledger
        self._logs = logs
        self._wal = wal

    def refuse_for_memory(self, changes: tuple[Change, ...]) -> None:
        """Refuses an ordinary record while the disk is full, or while only a checkpoint can free the memory that the record needs.

        Raises:
            StorageFull: the disk is full.
            Unavailable: a checkpoint must end first.
        """
        if claim_of(changes) is not Claim.ORDINARY:
            return
        self.refuse_without_room()
        if self._ledger.is_crowded and self._adds_to_crowd(changes):
            raise self._no_room()

    def refuse_without_room(self) -> None:
        """Refuses any ordinary record while the disk is full, or while only a checkpoint can free memory for appends.

        Raises:
            StorageFull: the disk is full.
            Unavailable: a checkpoint must end first.
        """
        ledger = self._ledger
        if ledger.unflushed > ledger.max_unflushed or ledger.headroom.is_low:
            raise self._no_room()

    def _no_room(self) -> StreamError:
        """Returns the refusal of an ordinary record for which there is no room now."""
        return disk_full() if self._ledger.found_disk_full else behind()

    def _adds_to_crowd(self, changes: tuple[Change, ...]) -> bool:
        """Returns whether too many producers' states are unwritten, or too many streams are dirty and the record would add one."""
        ledger = self._ledger
        if ledger.states.tally.all > ledger.max_fresh_producers:
            return True
        return ledger.dirty_count > ledger.max_dirty and any(
            not isinstance(change, SubscriptionChange) and change.incarnation not in ledger.dirty
            for change in changes
        )

    def refuse_for_logs(self, changes: tuple[Change, ...]) -> None:
        """Refuses a record whose bytes would make a log larger than the system allows a file to be.

        Raises:
            StorageFull: a log would be too large.
        """
        states = self._ledger.states
        for change in changes:
            if not isinstance(change, Appended) or not change.data:
                continue
            state = states.loaded(change.path)  # None if the stream begins with this record
            recent = None if state is None else states.recent.get(change.incarnation)
            extent = (
                Extent(0, 0, 0)
                if recent is None
                else Extent(recent.base, change.start, recent.entries)
            )
            if not self._logs.may_grow(extent, recent.unflushed if recent else 0, len(change.data)):
                raise held.log_full()

    def reserve_at_end(self, size: int, changes: tuple[Change, ...]) -> Reservation:
        """Reserves room for a record in the reserve at the end of a segment, which ordinary records may not use.

        Raises:
            StreamError: the record is an ordinary one, or the segment is full.
        """
        claim = claim_of(changes)
        leaves = (
            self._wal.reserve_size
            if claim is Claim.ORDINARY
            else claim.leaves(self._wal.reserve_size)
        )
        return self._wal.reserve(size, leaves)

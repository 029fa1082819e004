"""Head-room: what is kept back so that a full disk can be emptied, and the rules of who may use it.

A delete on a full disk needs room three times: for its record in the write-ahead log, for the checkpoint that notes it, and
for the bytes of other streams that the same checkpoint brings to their logs. So two things are kept back:

- The end of each segment of the log takes only records that give space back (`Claim`).
- The ballast, a file without content, is given up when a checkpoint finds the disk full, and made again when there is room.
  While it is not there, ordinary records are refused with 507, so what it left is used for nothing but emptying the disk.

    a checkpoint has no room -> the logs of deleted streams go -> the ballast goes -> writes are refused
    -> deletes: record in the log's reserve -> checkpoint -> logs unlinked -> ballast again -> writes are accepted

A deleted stream's log may go before the catalog has heard of the delete: the record that says so is durable, and a start
replays it before it looks at the log.

Space comes back by checkpoints, so deletes make one due: at once when the disk is full, or when as many bytes are dead as make
a checkpoint due while they are new; within `SOON_SECONDS` when `SOON` bytes are dead.
"""

import enum
from collections.abc import Sequence
from typing import Final

from ...log import log as _log
from ...protocol.state import Appended, Change, Created, Removed, SoftDeleted, Touched
from ...protocol.subscriptions.changes import (
    CursorsMoved,
    Missed,
    NewsTaken,
    Relinked,
    Subscribed,
    Unsubscribed,
    WakeChanged,
)
from .disk import NO_SPACE, Disk
from .wal import Wal

BALLAST: Final = "ballast"
SOON: Final = 1024 * 1024  # dead bytes that are worth a checkpoint of their own
SOON_SECONDS: Final = 2.0
PER_LOG: Final = 8 * 1024  # bytes of disk that a log and its index take at least: a block each
#: Room that opening a directory needs at most: pages of the catalog, a file of its own, a new FORMAT.
_TO_OPEN: Final = 32 * 1024 * 1024


class Claim(enum.Enum):
    """How much of the log's reserve a record may use; the value is the part that it must leave, in halves."""

    ORDINARY = 2
    UPKEEP = 1  # it costs next to nothing, but may come without end: a stream's use, a wake's fate
    ENDING = 0  # it gives space back, or ends a stream or a subscription

    def leaves(self, reserve: int) -> int:
        """Returns how many bytes of a reserve are kept from a record with this claim."""
        return reserve * self.value // 2


_ENDING: Final = (Removed, SoftDeleted, Unsubscribed)
_UPKEEP: Final = (Touched, CursorsMoved, WakeChanged, NewsTaken, Missed)


def claim_of(changes: Sequence[Change]) -> Claim:
    """Returns the claim of a record: what it begins makes it ordinary, whatever else it ends."""
    if any(isinstance(change, Created | Subscribed) for change in changes):
        return Claim.ORDINARY
    if any(isinstance(change, _ENDING) for change in changes):
        return Claim.ENDING  # the registry's event and the wakes of a delete are part of it
    appends = [change for change in changes if isinstance(change, Appended)]
    if appends:
        closes_only = all(change.closes and not change.data for change in appends)
        return Claim.ENDING if closes_only else Claim.ORDINARY
    if all(isinstance(change, _UPKEEP) or _only_unlinks(change) for change in changes):
        return Claim.UPKEEP
    return Claim.ORDINARY


def _only_unlinks(change: Change) -> bool:
    return isinstance(change, Relinked) and not change.added


def ballast_size(max_unflushed: int, log_size: int) -> int:
    """Returns how large the ballast must be for a checkpoint to be finished on a full disk.

    That is half as much again as the bytes that may wait for their logs: those bytes, and their indexes and the pages of the
    catalog that a commit copies.
    """
    return min(max_unflushed, log_size) * 3 // 2


def give_way(disk: Disk) -> None:
    """Gives up the ballast if there is little room to open the directory with. `Headroom.make` makes it again."""
    room = disk.room()
    if room is not None and room < _TO_OPEN:
        disk.unlink(BALLAST)


class Headroom:
    """The ballast, and whether the disk counts as full. Belongs to the thread that makes checkpoints.

    Args:
        disk: where the ballast is.
        size: its bytes.

    Attributes:
        is_low: whether ordinary records are refused because the ballast is not there. The loop reads it.
    """

    def __init__(self, disk: Disk, size: int) -> None:
        self._disk = disk
        self._size = size
        self._is_whole = False
        self.is_low = False

    def prepare(self, wal: Wal, *, with_ballast: bool) -> None:
        """Prepares the ballast and the log's next segment, as far as the disk has room.

        Args:
            wal: the write-ahead log.
            with_ballast: whether to make the ballast. A checkpoint that could not finish needs its space.

        Raises:
            OSError: for any other failure than a lack of room.
        """
        if wal.is_starved:
            self.allocate_ahead(wal)
        if with_ballast and not wal.is_starved:
            self.make()
        self.allocate_ahead(wal)

    def allocate_ahead(self, wal: Wal) -> None:
        """Allocates the log's next segment. If the disk is full and the log needs the segment at once, gives up the ballast for it.

        Raises:
            OSError: for any other failure than a lack of room.
        """
        while wal.wants_file():
            wal.add_file()
            if wal.is_starved and not self.give_up():
                self.lacks_room()
                return
            if wal.full and not wal.is_starved:
                return

    def make(self) -> None:
        """Makes the ballast if it is not there and the disk has room; then ordinary records are accepted.

        Raises:
            OSError: for any other failure than a lack of room.
        """
        if self._is_whole:
            return
        try:
            file = self._disk.open(BALLAST, create=True)
            try:
                if file.size() > self._size:
                    file.truncate(self._size)
                file.allocate(self._size)
            finally:
                file.close()
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self._disk.unlink(BALLAST)
            self.lacks_room()
            return
        self._is_whole = True
        if self.is_low:
            self.is_low = False
            _log.warning("the disk has room again: writes are accepted")

    def give_up(self) -> bool:
        """Gives the ballast's space to whoever needs it; False if there was none to give."""
        if not self._disk.exists(BALLAST):
            return False
        self._is_whole = False
        self._disk.unlink(BALLAST)
        self.lacks_room()
        return True

    def lacks_room(self) -> None:
        """Notes that the disk is full: the ballast is not there, or has not sufficed."""
        if not self.is_low:
            self.is_low = True
            _log.warning(
                "the disk is full: until it has %d MiB of room, writes are refused; reads, deletes and closes go on",
                -(-self._size // (1024 * 1024)),
            )

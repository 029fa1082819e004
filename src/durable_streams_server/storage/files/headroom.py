"""Head-room: space that is reserved so that streams can be deleted on a full disk, and the rules for its use.

A delete on a full disk needs room three times: for its record in the write-ahead log, for the checkpoint that applies it to the catalog, and
for the bytes of other streams that the same checkpoint writes to their logs. So two reserves exist:

- The end of each segment of the write-ahead log takes only records that free space (`Claim`).
- The ballast is a file without content. A checkpoint that finds the disk full deletes it, and a later one makes it again when there is
  room. While the ballast is missing, the store refuses ordinary records with 507, so the freed space serves only for deletes and checkpoints.

    a checkpoint has no room -> it deletes the logs of removed streams -> it deletes the ballast -> the store refuses writes
    -> a delete is recorded in the log's reserve -> a checkpoint deletes logs -> it makes the ballast -> the store accepts writes

A removed stream's log may be deleted before the catalog records the removal. The record of the removal is durable, and a restarted server
replays it before it checks the log.

Checkpoints free space, so deletes make a checkpoint due. It is due at once if the disk is full or more than `Limits.flush_bytes` bytes are dead,
which means that they belong to removed streams. It is due within `SOON_SECONDS` if `SOON` bytes are dead.
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
SOON: Final = 1024 * 1024  # dead bytes that justify a checkpoint of their own
SOON_SECONDS: Final = 2.0  # seconds until that checkpoint
#: Minimum bytes on disk of a log and its index, which take at least one block each.
PER_LOG: Final = 8 * 1024
#: Maximum bytes that opening a directory needs: pages of the catalog, the catalog's second copy and a new FORMAT file.
_TO_OPEN: Final = 32 * 1024 * 1024


class Claim(enum.Enum):
    """A record's claim on the log's reserve. The value says how many halves of the reserve the record must leave free."""

    ORDINARY = 2
    UPKEEP = 1  # a small record that may be frequent: the use of a stream, a change of a wake
    ENDING = 0  # a record that frees space, or ends a stream or a subscription

    def leaves(self, reserve: int) -> int:
        """Returns the bytes of a reserve that a record with this claim must leave free."""
        return reserve * self.value // 2


_ENDING: Final = (Removed, SoftDeleted, Unsubscribed)
_UPKEEP: Final = (Touched, CursorsMoved, WakeChanged, NewsTaken, Missed)


def claim_of(changes: Sequence[Change]) -> Claim:
    """Returns the claim of a record. A record that creates a stream or a subscription is ordinary, even if it also ends others."""
    if any(isinstance(change, Created | Subscribed) for change in changes):
        return Claim.ORDINARY
    if any(isinstance(change, _ENDING) for change in changes):
        # This also holds if the record changes wakes or appends an event to the registry.
        return Claim.ENDING
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
    """Returns the size in bytes of a ballast whose space lets a checkpoint finish on a full disk.

    The size is 1.5 times the bytes that may be unflushed, which is enough for those bytes, their index entries, and the pages of the
    catalog that a commit copies.
    """
    return min(max_unflushed, log_size) * 3 // 2


def give_way(disk: Disk) -> None:
    """Deletes the ballast if there is too little room to open the directory. `Headroom.make_ballast` makes it again."""
    room = disk.room()
    if room is not None and room < _TO_OPEN:
        disk.unlink(BALLAST)


class Headroom:
    """Makes and deletes the ballast, and records whether the disk counts as full. Only the thread of checkpoints may call it.

    Args:
        disk: the data directory.
        size: the bytes of the ballast.

    Attributes:
        is_low: whether the store refuses ordinary records, because the ballast is missing. The event loop reads this attribute.
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
            with_ballast: whether to make the ballast. Pass False after a checkpoint that could not finish, because the next one needs the space.

        Raises:
            OSError: for any other failure than a lack of room.
        """
        if wal.is_starved:
            self.allocate_ahead(wal)
        if with_ballast and not wal.is_starved:
            self.make_ballast()
        self.allocate_ahead(wal)

    def allocate_ahead(self, wal: Wal) -> None:
        """Allocates the log's next segment. If the disk is full and the log needs the segment at once, deletes the ballast to make room.

        Raises:
            OSError: for any other failure than a lack of room.
        """
        while wal.wants_file():
            wal.add_file()
            if wal.is_starved and not self.give_up_ballast():
                self.set_low()
                return
            if wal.full and not wal.is_starved:
                return

    def make_ballast(self) -> None:
        """Makes the ballast if it is missing and the disk has room. The store then accepts ordinary records again.

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
            self.set_low()
            return
        self._is_whole = True
        if self.is_low:
            self.is_low = False
            _log.warning("the disk has room again: writes are accepted")

    def give_up_ballast(self) -> bool:
        """Deletes the ballast to free its space. Returns False if there was no ballast."""
        if not self._disk.exists(BALLAST):
            return False
        self._is_whole = False
        self._disk.unlink(BALLAST)
        self.set_low()
        return True

    def set_low(self) -> None:
        """Sets `is_low`, because the disk is full and the ballast is missing or was too small."""
        if not self.is_low:
            self.is_low = True
            _log.warning(
                "the disk is full: until it has %d MiB of room, writes are refused; reads, deletes and closes go on",
                -(-self._size // (1024 * 1024)),
            )

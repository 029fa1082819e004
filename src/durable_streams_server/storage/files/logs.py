"""The logs of a store: each stream has one file of wire bytes with an index beside it.

Only checkpoints write to a log. Readers never see bytes past the tail that the catalog vouches for.
"""

from collections.abc import Sequence
from typing import Final

from ...protocol.limits import MARK_SPACING
from ..damage import Damaged
from ..store import Marks
from .disk import Disk, File
from .flush import Flush
from .index import ROOM_FOR_HEADER, Index, least_size
from .log_directories import LogDirectories
from .log_layout import DIRECTORY, KEPT, Extent, directory_of, path_of
from .open_logs import OpenLog, OpenLogs, as_damage
from .verify import read_verified

#: Maximum number of logs kept open. Each takes two file handles.
MAX_OPEN: Final = 256
#: A file-size limit above this counts as no limit, so that appends need not be compared with it.
_NEVER_REACHED: Final = 1 << 40
#: A checkpoint that writes to more logs than this syncs all of them with one call.
_SYNCED_EACH: Final = 64


class Logs:
    """Reads, creates and removes the logs of one store. Several threads may read at once, but only one may flush or remove.

    Args:
        disk: the disk that holds the logs.
        max_open: the maximum number of logs to keep open.

    Attributes:
        largest: the maximum size of a log or an index in bytes, or None if no limit is known.
    """

    def __init__(self, disk: Disk, max_open: int = MAX_OPEN) -> None:
        self._disk = disk
        largest = disk.largest_file()
        self.largest = None if largest is None or largest > _NEVER_REACHED else largest
        self._directories = LogDirectories(disk)
        self._open = OpenLogs(disk, self._directories, max_open)
        self._acquire = self._open.acquire
        self._acquire_if_open = self._open.acquire_if_open
        self._release = self._open.release

    def read(
        self,
        incarnation: int,
        start: int,
        end: int,
        *,
        entries: int | None = None,
        ready_only: bool = False,
    ) -> bytes | None:
        """Reads the bytes between two positions of a log.

        The first read of any bytes since the log was opened compares them with their checksums.

        Args:
            incarnation: the stream of the log.
            start: the first position.
            end: the position after the last byte.
            entries: the number of index entries that the catalog vouches for, or None for all that the file has.
            ready_only: whether to return None if the read would wait for the device or must compare checksums first.

        Raises:
            Damaged: bytes are missing or differ from those that were written.
        """
        log = self._acquire_if_open(incarnation) if ready_only else self._acquire(incarnation)
        if log is None:
            return None
        try:
            size, at = end - start, start - log.index.base
            is_verified = log.verified.has(start, end)
            if ready_only:
                return log.data.read_ready(size, at) if is_verified else None
            if not is_verified:
                return self._read_first(log, start, end, entries)
            data = log.data.read(size, at)
            if len(data) < size:
                raise Damaged("it is shorter than the catalog says")
            return data
        except Damaged as damage:
            raise Damaged(f"{path_of(incarnation)}: {damage}") from None
        except OSError as error:
            raise as_damage(error, path_of(incarnation)) from None
        finally:
            self._release(log)

    def _read_first(self, log: OpenLog, start: int, end: int, entries: int | None) -> bytes:
        """Reads bytes of which some have not been compared with their checksums yet, and compares those."""
        if not log.index.base <= start <= end:
            raise Damaged("its index begins elsewhere")
        if entries is None:
            entries = log.index.count_of(log.index_file.size())
        known = log.verified.reach(start)
        head = log.data.read(known - start, start - log.index.base) if known > start else b""
        if len(head) < known - start:
            raise Damaged("it is shorter than the catalog says")
        data, low, high = read_verified(log.data, log.index, entries, known, end)
        self._open.add_verified(log, low, high)
        return head + data if head else data

    def marks(
        self,
        incarnation: int,
        entries: int,
        tail: int,
        position: int,
        *,
        ready_only: bool = False,
    ) -> Marks | None:
        """Returns the page cuts around a position.

        Args:
            incarnation: the stream of the log.
            entries: the number of index entries that the catalog vouches for.
            tail: the position at which the log ends.
            position: the position to look up.
            ready_only: whether to return None if the look-up would wait for the device.

        Raises:
            Damaged: the index is damaged.
        """
        log = self._acquire_if_open(incarnation) if ready_only else self._acquire(incarnation)
        if log is None:
            return None
        try:
            index = log.index
            if ready_only:
                index = index.through(_ReadyFile(log.index_file))
            return _marks(index, entries, tail, position)
        except _NotReady:
            return None
        except OSError as error:
            raise as_damage(error, path_of(incarnation) + ".idx") from None
        finally:
            self._release(log)

    def find_damage(self, incarnation: int, extent: Extent) -> str | None:
        """Returns what is wrong with the sizes of a log and its index, or None if both are at least as large as the catalog says."""
        if not extent.entries:
            return None if extent.tail == extent.base else "the catalog knows bytes and no log"
        path = path_of(incarnation)
        needed = {path: extent.tail - extent.base, path + ".idx": least_size(extent.entries)}
        for name, least in needed.items():
            size = self._disk.size(name)
            if size is None:
                return f"{name} is missing"
            if size < least:
                return f"{name} is shorter than the catalog says"
        return None

    def find_stray(self, known: set[int]) -> str | None:
        """Returns the path of a log that belongs to none of the known incarnations, or None if there is no such log."""
        for directory in self._disk.names(DIRECTORY):
            for name in self._disk.names(f"{DIRECTORY}/{directory}"):
                number = name.removesuffix(".idx")
                if number.isdecimal() and int(number) not in known:
                    return f"{DIRECTORY}/{directory}/{name}"
        return None

    def begin_flush(self, count: int) -> Flush:
        """Returns a flush that will write to `count` logs."""
        return Flush(
            self._disk,
            self._open,
            self._directories,
            self._learn_limit,
            syncs_all=count > _SYNCED_EACH,
        )

    def remove(self, incarnations: Sequence[int]) -> None:
        """Removes the logs of streams that the catalog no longer knows, and syncs the removal."""
        parents: dict[str, None] = {}
        for incarnation in incarnations:
            self._open.evict(incarnation)
            path = path_of(incarnation)
            if self._directories.knows(incarnation) or self._disk.exists(path):
                for suffix in ("", ".idx", KEPT, KEPT + ".idx"):
                    self._disk.unlink(path + suffix)
                parents[directory_of(incarnation)] = None
        for parent in parents:
            if self._disk.exists(parent):
                self._disk.sync_directory(parent)

    def close(self) -> None:
        """Closes every file, once its last user is done. Later calls open the files again."""
        self._open.evict_all()

    def may_grow(self, extent: Extent, unflushed: int, size: int) -> bool:
        """Returns whether a log and its index may grow without reaching the maximum size of a file.

        Args:
            extent: the log's extent; its tail is the tail of the stream.
            unflushed: the number of pieces in memory that the log does not have yet.
            size: the number of bytes to add.
        """
        if self.largest is None:
            return True
        pieces = extent.entries + unflushed + size // MARK_SPACING + 1
        log, entries = extent.tail - extent.base + size, least_size(pieces) + ROOM_FOR_HEADER
        return max(log, entries) <= self.largest

    def _learn_limit(self, incarnation: int) -> None:
        """Lowers `largest` to the size of a log that the system would not let grow."""
        path = path_of(incarnation)
        sizes = [self._disk.size(name) or 0 for name in (path, path + ".idx")]
        self.largest = min(max(sizes), self.largest or max(sizes))


class _NotReady(Exception):
    """Raised if a read would wait for the device."""


class _ReadyFile:
    """A file that reads only bytes that the device has ready, and otherwise raises `_NotReady`."""

    def __init__(self, file: File) -> None:
        self._file = file

    def read(self, size: int, position: int) -> bytes:
        data = self._file.read_ready(size, position)
        if data is None:
            raise _NotReady
        return data


def _marks(index: Index, entries: int, tail: int, position: int) -> Marks:
    number = index.find(entries, position)
    lower = index.start_of(number)
    if number == entries:
        return Marks(lower, tail, tail)
    upper = index.start_of(number + 1)
    append_end = index.append_end(entries, number)
    if not index.base <= lower <= position < upper <= tail:
        raise Damaged("an index is not its log's")
    return Marks(lower, upper, tail if append_end is None else append_end)

"""Logs: one file of wire bytes for each stream, an index beside it, and a cap on how many are open.

A log is written by checkpoints alone, at positions that follow from the stream's own, so writing the same again changes
nothing. What is past the tail that the catalog proves is not read, and cut off before the log is written to again.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..store import Marks
from . import index
from .disk import Disk, File
from .recent import INSIDE, Piece
from .verify import Verified, read_verified
from .wal import Damaged

DIRECTORY: Final = "logs"
MAX_OPEN: Final = 256  # pairs of files
_SYNCED_EACH: Final = 64  # logs written by one checkpoint; past it, one call syncs them all


class Extent(NamedTuple):
    """What the catalog proves of a log: where it begins and ends, in the stream's positions, and its index entries."""

    base: int
    tail: int
    entries: int


class FlushWork(NamedTuple):
    """Pieces to add to a log whose extent is known."""

    incarnation: int
    extent: Extent
    pieces: list[Piece]


class _Open:
    __slots__ = ("base", "data", "dropped", "index", "users", "verified")

    def __init__(self, data: File, index_file: File, base: int) -> None:
        self.data = data
        self.index = index_file
        self.base = base
        self.verified = Verified()
        self.users = 0
        self.dropped = False  # no longer to be found; closed by its last user

    def close(self) -> None:
        self.data.close()
        self.index.close()


class _NotReady(Exception):
    """A read would wait for the device."""


class _Ready:
    """A file of which only that is read which needs no waiting."""

    def __init__(self, file: File) -> None:
        self._file = file

    def read(self, size: int, position: int) -> bytes:
        data = self._file.read_ready(size, position)
        if data is None:
            raise _NotReady
        return data


def _marks(file: index.Readable, base: int, entries: int, tail: int, position: int) -> Marks:
    number = index.find(file, entries, position)
    lower = base if number == 0 else index.read(file, number - 1, 1)[0].end & ~INSIDE
    if number == entries:
        return Marks(lower, tail, tail)
    upper = index.read(file, number, 1)[0].end & ~INSIDE
    append_end = index.append_end(file, entries, number)
    if not base <= lower <= position < upper <= tail:
        raise Damaged("an index is not its log's")
    return Marks(lower, upper, tail if append_end is None else append_end)


def path_of(incarnation: int) -> str:
    """Returns the path of a stream's log; its index has `.idx` after it."""
    return f"{directory_of(incarnation)}/{incarnation:016d}"


def directory_of(incarnation: int) -> str:
    """Returns the directory of a stream's log: one of 256, by a mixing of the number, which grows with time."""
    return f"{DIRECTORY}/{(incarnation * 2654435761 >> 16) & 0xFF:02x}"


class Logs:
    """The logs of one store. Safe to read from several threads; `flush` and `remove` belong to one."""

    def __init__(self, disk: Disk, max_open: int = MAX_OPEN) -> None:
        self._disk = disk
        self._max_open = max_open
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._lock = threading.Lock()
        self._directories: set[str] = set()

    def read(
        self,
        incarnation: int,
        start: int,
        end: int,
        *,
        entries: int | None = None,
        ready_only: bool = False,
    ) -> bytes | None:
        """Reads the bytes between two positions, which were compared with their checksums since the log was opened.

        Args:
            incarnation: whose log.
            start: the first position.
            end: the position after the last.
            entries: how many index entries are proven; None for those that the file has.
            ready_only: whether to return None if the read would wait for the device, or must compare first.

        Raises:
            Damaged: the bytes are not those that were written, or they are missing.
        """
        files = self._acquire(incarnation, only_open=ready_only)
        if files is None:
            return None
        try:
            size, at = end - start, start - files.base
            is_verified = files.verified.has(start, end)
            if ready_only:
                return files.data.read_ready(size, at) if is_verified else None
            if not is_verified:
                return self._read_first(files, start, end, entries)
            data = files.data.read(size, at)
            if len(data) < size:
                raise Damaged("it is shorter than the catalog says")
            return data
        except Damaged as damage:
            raise Damaged(f"{path_of(incarnation)}: {damage}") from None
        finally:
            self._release(files)

    def _read_first(self, files: _Open, start: int, end: int, entries: int | None) -> bytes:
        if not files.base <= start <= end:
            raise Damaged("its index begins elsewhere")
        if entries is None:
            entries = index.count_of(files.index.size())
        data, low, high = read_verified(files.data, files.index, files.base, entries, start, end)
        with self._lock:
            files.verified.add(low, high)
        return data

    def marks(
        self,
        incarnation: int,
        entries: int,
        tail: int,
        position: int,
        *,
        ready_only: bool = False,
    ) -> Marks | None:
        """Looks up the marks around a position among the first `entries` of the index; None as `read` does.

        Raises:
            Damaged: the index is.
        """
        files = self._acquire(incarnation, only_open=ready_only)
        if files is None:
            return None
        try:
            file = _Ready(files.index) if ready_only else files.index
            return _marks(file, files.base, entries, tail, position)
        except _NotReady:
            return None
        finally:
            self._release(files)

    def check_size(self, incarnation: int, extent: Extent) -> None:
        """Raises Damaged if a log is shorter than the catalog proves."""
        size = self._disk.size(path_of(incarnation)) if extent.entries else 0
        if size is None or size < extent.tail - extent.base:
            raise Damaged(f"{path_of(incarnation)} is shorter than the catalog says")

    def flush(self, work: Sequence[FlushWork]) -> None:
        """Writes pieces to their logs and indexes, and returns when they are durable.

        Raises:
            OSError: nothing is known of what was written; without a new checkpoint nothing of it is read.
        """
        parents: set[str] = set()
        many = len(work) > _SYNCED_EACH
        for item in work:
            files = self._write(item, parents)
            try:
                if not many:
                    files.data.sync()
                    files.index.sync()
            finally:
                self._release(files)
        if many:
            self._disk.sync_all()
        else:
            for parent in parents:
                self._disk.sync_directory(parent)

    def remove(self, incarnations: Sequence[int]) -> None:
        """Removes logs that the catalog no longer knows."""
        parents = set()
        for incarnation in incarnations:
            with self._lock:
                self._drop(incarnation)
            path = path_of(incarnation)
            if directory_of(incarnation) in self._directories or self._disk.exists(path):
                self._disk.unlink(path)
                self._disk.unlink(path + ".idx")
                parents.add(directory_of(incarnation))
        for parent in parents:
            if self._disk.exists(parent):
                self._disk.sync_directory(parent)

    def close(self) -> None:
        """Closes every file."""
        with self._lock:
            for incarnation in list(self._open):
                self._drop(incarnation)

    def _write(self, item: FlushWork, parents: set[str]) -> _Open:
        incarnation, extent, pieces = item
        if extent.entries == 0:
            parents.add(directory_of(incarnation))  # its name is not known to be durable
        files = self._acquire(incarnation, create_with=extent if extent.entries == 0 else None)
        assert files is not None
        try:
            at = extent.tail - extent.base
            if files.data.size() > at:
                files.data.truncate(at)
                files.index.truncate(index.place_of(extent.entries))
            elif files.data.size() < at:
                raise Damaged(f"{path_of(incarnation)} is shorter than the catalog says")
            files.data.write(b"".join(piece.data for piece in pieces), at)
            files.index.write(index.encode(pieces), index.place_of(extent.entries))
            with self._lock:
                files.verified.add(extent.tail, pieces[-1].end & ~INSIDE)
        except BaseException:
            self._release(files)
            raise
        return files

    def _acquire(
        self, incarnation: int, create_with: Extent | None = None, *, only_open: bool = False
    ) -> _Open | None:
        files = self._use_open(incarnation)
        if files is not None or only_open:  # to look a name up may wait for the device too
            return files
        opened = self._open_files(incarnation, create_with)  # without the lock: the loop takes it
        files = self._use_open(incarnation, opened)
        if files is not opened:
            opened.close()
        return files

    def _use_open(self, incarnation: int, opened: _Open | None = None) -> _Open | None:
        """Returns the open files of a log for one more user: those that there are, else `opened`."""
        with self._lock:
            files = self._open.get(incarnation)
            if files is not None:
                self._open.move_to_end(incarnation)
            elif opened is not None:
                files = self._open[incarnation] = opened
            if files is not None:
                files.users += 1
                self._evict()
            return files

    def _release(self, files: _Open) -> None:
        with self._lock:
            files.users -= 1
            if files.dropped and not files.users:
                files.close()

    def _evict(self) -> None:
        while len(self._open) > self._max_open:
            self._drop(next(iter(self._open)))

    def _drop(self, incarnation: int) -> None:
        files = self._open.pop(incarnation, None)
        if files is not None:
            files.dropped = True
            if not files.users:
                files.close()

    def _open_files(self, incarnation: int, create_with: Extent | None) -> _Open:
        path = path_of(incarnation)
        if create_with is None:
            try:
                data = self._disk.open(path)
            except FileNotFoundError:
                raise Damaged(f"{path} is missing") from None
            try:
                index_file = self._disk.open(path + ".idx")
            except FileNotFoundError:
                data.close()
                raise Damaged(f"{path}.idx is missing") from None
            return _Open(data, index_file, index.read_base(index_file))
        parent = directory_of(incarnation)
        if parent not in self._directories:
            self._disk.make_directory(parent)
            self._disk.sync_directory(
                DIRECTORY
            )  # also if it was there: who made it may have died before
            self._directories.add(parent)
        data = self._disk.open(path, create=True)
        index_file = self._disk.open(path + ".idx", create=True)
        index_file.write(index.header(create_with.base), 0)
        return _Open(data, index_file, create_with.base)

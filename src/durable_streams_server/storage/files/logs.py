"""Logs: one file of wire bytes for each stream, an index beside it, and a cap on how many are open.

A log is written by checkpoints alone, at positions that follow from the stream's own, so writing the same again changes
nothing. What is past the tail that the catalog proves is not read, and cut off before the log is written to again.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ...protocol.limits import MARK_SPACING
from ...protocol.state import StreamState
from ..damage import Damaged
from ..recent import INSIDE, Octets, Pieces
from ..store import Marks
from .disk import DENIED, LOST, NO_HANDLES, TOO_LARGE, Disk, File
from .index import (
    ROOM_FOR_HEADER,
    Index,
    Words,
    encode,
    header,
    header_of,
    least_size,
)
from .place import DirectoryLost
from .verify import Verified, read_verified

DIRECTORY: Final = "logs"
KEPT: Final = ".kept"  # after the name of a damaged log: what checkpoints could not add to it
MAX_OPEN: Final = 256  # pairs of files
_NEVER_REACHED: Final = (
    1 << 40
)  # appends need not be checked against a larger limit; if one is met, it is learnt
_CHUNK: Final = 1024 * 1024  # bytes joined for one call: about 0.3 ms
#: Bytes after which a log is synced before more is written: a commit waits behind all that the disk was given at once.
_SPREAD: Final = 4 * 1024 * 1024
_JOINED: Final = 500  # pieces joined for one call: to join many holds all other threads up
_SYNCED_EACH: Final = 64  # logs written by one checkpoint; past it, one call syncs them all


class Extent(NamedTuple):
    """What the catalog proves of a log: where it begins and ends, in the stream's positions, and its index entries."""

    base: int
    tail: int
    entries: int


class FlushWork(NamedTuple):
    """Pieces to add to a log whose extent is known; one whose extent has no entries is to be made, and says whose it is.

    Attributes:
        incarnation: whose log.
        extent: the log's.
        pieces: what is added.
        words: what the log says of itself if it is to be made.
        entries: the index entries of the pieces in turn, as far as they are encoded: of how many, and their octets, or None for
            those that are yet to be encoded.
    """

    incarnation: int
    extent: Extent
    pieces: Pieces
    words: Words | None = None
    entries: Sequence[tuple[int, bytes | None]] = ()


class _Open:
    __slots__ = ("data", "dropped", "index", "index_file", "users", "verified")

    def __init__(self, data: File, index_file: File, index: Index) -> None:
        self.data = data
        self.index_file = index_file
        self.index = index
        self.verified = Verified()
        self.users = 0
        self.dropped = False  # no longer to be found; closed by its last user

    def close(self) -> None:
        self.data.close()
        self.index_file.close()


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


def words_of(state: StreamState) -> Words:
    """Returns what a stream's log says of itself."""
    return Words(
        state.incarnation,
        state.base,
        state.path,
        state.media,
        state.lifetime,
        state.created_at,
        state.origin,
        state.lineage,
    )


def _index_of(file: File, incarnation: int) -> Index:
    """Reads an index's header, which must be that of the stream.

    Raises:
        Damaged: it is not.
    """
    name = path_of(incarnation) + ".idx"
    try:
        index = Index.of(file)
    except Damaged as damage:
        raise Damaged(f"{name}: {damage}") from None
    except OSError as error:
        raise _damage_of(error, name) from None
    if index.words is not None and index.words.incarnation != incarnation:
        raise Damaged(f"{name}: it is the index of {index.words.path}")
    return index


def _damage_of(error: OSError, name: str) -> Exception:
    """Returns what an error means that came from opening or reading a stream's file: damage of that stream, unless it says
    nothing of the file."""
    return Damaged(f"{name}: {error.strerror}") if error.errno in LOST | DENIED else error


def path_of(incarnation: int) -> str:
    """Returns the path of a stream's log; its index has `.idx` after it."""
    return f"{directory_of(incarnation)}/{incarnation:016d}"


def directory_of(incarnation: int) -> str:
    """Returns the directory of a stream's log: one of 256, by a mixing of the number, which grows with time."""
    return f"{DIRECTORY}/{(incarnation * 2654435761 >> 16) & 0xFF:02x}"


class Logs:
    """The logs of one store. Safe to read from several threads; `flush` and `remove` belong to one.

    Attributes:
        largest: how many bytes a log or an index may have, or None if no limit is known.
    """

    def __init__(self, disk: Disk, max_open: int = MAX_OPEN) -> None:
        self._disk = disk
        largest = disk.largest_file()
        self.largest = None if largest is None or largest > _NEVER_REACHED else largest
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
            size, at = end - start, start - files.index.base
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
        except OSError as error:
            raise _damage_of(error, path_of(incarnation)) from None
        finally:
            self._release(files)

    def _read_first(self, files: _Open, start: int, end: int, entries: int | None) -> bytes:
        if not files.index.base <= start <= end:
            raise Damaged("its index begins elsewhere")
        if entries is None:
            entries = files.index.count_of(files.index_file.size())
        known = files.verified.reach(start)
        head = files.data.read(known - start, start - files.index.base) if known > start else b""
        if len(head) < known - start:
            raise Damaged("it is shorter than the catalog says")
        data, low, high = read_verified(files.data, files.index, entries, known, end)
        with self._lock:
            files.verified.add(low, high)
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
        """Looks up the marks around a position among the first `entries` of the index; None as `read` does.

        Raises:
            Damaged: the index is.
        """
        files = self._acquire(incarnation, only_open=ready_only)
        if files is None:
            return None
        try:
            index = files.index
            if ready_only:
                index = index.through(_Ready(files.index_file))
            return _marks(index, entries, tail, position)
        except _NotReady:
            return None
        except OSError as error:
            raise _damage_of(error, path_of(incarnation) + ".idx") from None
        finally:
            self._release(files)

    def find_damage(self, incarnation: int, extent: Extent) -> str | None:
        """Returns how a log or its index falls short of what the catalog proves, as far as their sizes tell, or None."""
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

    def others(self, known: set[int]) -> str | None:
        """Returns the path of a log of none of the streams; None if there is no such log."""
        for directory in self._disk.names(DIRECTORY):
            for name in self._disk.names(f"{DIRECTORY}/{directory}"):
                number = name.removesuffix(".idx")
                if number.isdecimal() and int(number) not in known:
                    return f"{DIRECTORY}/{directory}/{name}"
        return None

    def begin_flush(self, count: int) -> "Flush":
        """Returns what writes one checkpoint's pieces to `count` logs."""
        return Flush(self, self._disk, many=count > _SYNCED_EACH)

    def remove(self, incarnations: Sequence[int]) -> None:
        """Removes logs that the catalog no longer knows."""
        parents = set()
        for incarnation in incarnations:
            with self._lock:
                self._drop(incarnation)
            path = path_of(incarnation)
            if directory_of(incarnation) in self._directories or self._disk.exists(path):
                for suffix in ("", ".idx", KEPT, KEPT + ".idx"):
                    self._disk.unlink(path + suffix)
                parents.add(directory_of(incarnation))
        for parent in parents:
            if self._disk.exists(parent):
                self._disk.sync_directory(parent)

    def close(self) -> None:
        """Closes every file, once its last user is done. They are opened again when they are asked for."""
        with self._lock:
            for incarnation in list(self._open):
                self._drop(incarnation)

    def write(self, item: FlushWork, parents: set[str], *, sync: bool) -> None:
        """Adds pieces to a log and its index.

        Args:
            item: the pieces.
            parents: gains the directory of a log that is new, whose name must be synced.
            sync: whether to return only when the bytes are durable.

        Raises:
            Damaged: the log or its index is missing, or is not what the catalog proves.
        """
        files = self._write(item, parents)
        try:
            if sync:
                files.data.sync()
                files.index_file.sync()
        finally:
            self._release(files)

    def learn_limit(self, incarnation: int) -> None:
        """Learns from a log that could not be written whole how large a file may be."""
        path = path_of(incarnation)
        sizes = [self._disk.size(name) or 0 for name in (path, path + ".idx")]
        self.largest = min(max(sizes), self.largest or max(sizes))

    def takes(self, extent: Extent, unflushed: int, size: int) -> bool:
        """Whether a log and its index may grow.

        Args:
            extent: the log's; its tail is the stream's.
            unflushed: how many pieces it has not yet.
            size: how many bytes are to be added.
        """
        if self.largest is None:
            return True
        pieces = extent.entries + unflushed + size // MARK_SPACING + 1
        log, entries = extent.tail - extent.base + size, least_size(pieces) + ROOM_FOR_HEADER
        return max(log, entries) <= self.largest

    def keep(self, item: FlushWork, parents: set[str]) -> None:
        """Writes the pieces of a damaged log to files beside it, durably: `check --repair` takes them from there.

        The files have the form of a log and its index, and begin where the damaged log should have ended when the damage was
        found. What a checkpoint that failed has left there is cut off.
        """
        incarnation, extent = item.incarnation, item.extent
        path = path_of(incarnation) + KEPT
        self._directories.discard(directory_of(incarnation))  # it may be what is missing
        self._make_parent(incarnation)
        parents.add(directory_of(incarnation))
        data = self._disk.open(path, create=True)
        index_file = self._disk.open(path + ".idx", create=True)
        try:
            if index_file.size() < least_size(0):
                data.truncate(0)
                index_file.write(header(extent.tail), 0)
            kept = _Open(data, index_file, Index.of(index_file))
            entries = kept.index.count_up_to(extent.tail)
            extent = Extent(kept.index.base, extent.tail, entries)
            _add(kept, item._replace(extent=extent), path)
            data.sync()
            index_file.sync()
        finally:
            data.close()
            index_file.close()

    def _write(self, item: FlushWork, parents: set[str]) -> _Open:
        incarnation, extent, pieces = item.incarnation, item.extent, item.pieces
        if extent.entries == 0:
            parents.add(directory_of(incarnation))  # its name is not known to be durable
        files = self._acquire(incarnation, create_with=item if extent.entries == 0 else None)
        assert files is not None
        try:
            _add(files, item, path_of(incarnation))
            _check_places(files)
            with self._lock:
                files.verified.add(extent.tail, pieces.end)
        except BaseException:
            self._release(files)
            raise
        return files

    def _acquire(
        self, incarnation: int, create_with: FlushWork | None = None, *, only_open: bool = False
    ) -> _Open | None:
        files = self._use_open(incarnation)
        if files is not None or only_open:  # to look a name up may wait for the device too
            return files
        # Without the lock, because the loop takes it.
        opened = self._open_with_a_handle(incarnation, create_with)
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

    def _open_with_a_handle(self, incarnation: int, create_with: FlushWork | None) -> _Open:
        """Opens the files of a log; if no file handle is left, closes the other logs first."""
        try:
            return self._open_files(incarnation, create_with)
        except OSError as error:
            if error.errno not in NO_HANDLES:
                raise
        self.close()
        return self._open_files(incarnation, create_with)

    def _evict(self) -> None:
        while len(self._open) > self._max_open:
            self._drop(next(iter(self._open)))

    def _drop(self, incarnation: int) -> None:
        files = self._open.pop(incarnation, None)
        if files is not None:
            files.dropped = True
            if not files.users:
                files.close()

    def _open_files(self, incarnation: int, create_with: FlushWork | None) -> _Open:
        path = path_of(incarnation)
        if create_with is None:
            data = self._open_file(path)
            try:
                index_file = self._open_file(path + ".idx")
            except BaseException:
                data.close()
                raise
            try:
                return _Open(data, index_file, _index_of(index_file, incarnation))
            except BaseException:
                data.close()
                index_file.close()
                raise
        self._make_parent(incarnation)
        data = self._disk.open(path, create=True)
        index_file = self._disk.open(path + ".idx", create=True)
        words, base = create_with.words, create_with.extent.base
        head = header(base) if words is None else header_of(words)
        index_file.write(head, 0)
        return _Open(data, index_file, Index(index_file, len(head), base, words))

    def _open_file(self, path: str) -> File:
        """Opens a file that must be there.

        Raises:
            Damaged: it is missing, or nothing can be read in its place.
        """
        try:
            return self._disk.open(path)
        except FileNotFoundError:
            raise Damaged(f"{path} is missing") from None
        except OSError as error:
            raise _damage_of(error, path) from None

    def _make_parent(self, incarnation: int) -> None:
        parent = directory_of(incarnation)
        if parent not in self._directories:
            self._disk.make_directory(parent)
            # Also if the directory was there: who made it may have died before its name was durable.
            self._disk.sync_directory(DIRECTORY)
            self._directories.add(parent)


class Flush:
    """One checkpoint's writes to logs. A damaged log stops no other: its pieces are kept beside it.

    Args:
        logs: the logs.
        disk: where they are.
        many: whether one call at the end syncs all of them, or each is synced by itself.

    Attributes:
        damaged: what is wrong with which log.
        too_large: logs that the system allows to grow no further; what was to be added is as good as not written.
    """

    def __init__(self, logs: Logs, disk: Disk, *, many: bool) -> None:
        self._logs = logs
        self._disk = disk
        self._many = many
        self._parents: set[str] = set()
        self.damaged: dict[int, str] = {}
        self.too_large: set[int] = set()

    def write(self, work: Sequence[FlushWork]) -> None:
        """Writes pieces to their logs and indexes.

        Raises:
            OSError: nothing is known of what was written; without a catalog that says so nothing of it is read.
        """
        for item in work:
            try:
                self._logs.write(item, self._parents, sync=not self._many)
            except Damaged as damage:
                self.damaged[item.incarnation] = str(damage)
                self._logs.keep(item, self._parents)
            except OSError as error:
                if error.errno != TOO_LARGE:
                    raise
                self.too_large.add(item.incarnation)
                self._logs.learn_limit(item.incarnation)

    def sync(self) -> None:
        """Returns when everything written is durable."""
        if self._many:
            self._disk.sync_all()
        else:
            for parent in self._parents:
                self._disk.sync_directory(parent)


def _check_places(files: _Open) -> None:
    """Returns if a log and its index are still found at their paths; what goes into a file that is not is lost.

    Raises:
        Damaged: one of them was moved, removed or replaced while it was open.
    """
    try:
        files.data.check_place()
        files.index_file.check_place()
    except DirectoryLost as lost:
        raise Damaged(str(lost)) from None


def _add(files: _Open, item: FlushWork, name: str) -> None:
    """Adds pieces to files where they end by the extent; what is past that was never proven, and is cut off."""
    extent = item.extent
    if files.index.base != extent.base:
        raise Damaged(f"{name}.idx begins elsewhere")
    at, place = extent.tail - extent.base, files.index.place_of(extent.entries)
    for file, end, what in ((files.data, at, name), (files.index_file, place, name + ".idx")):
        size = file.size()
        if size > end:
            file.truncate(end)
        elif size < end:
            raise Damaged(f"{what} is shorter than the catalog says")
    unsynced = 0
    for data in _chunks(item.pieces, extent.tail):
        files.data.write(data, at)
        at += len(data)
        unsynced += len(data)
        if unsynced >= _SPREAD:
            files.data.sync()
            unsynced = 0
    for entries in _runs(list(_entries(item))):
        files.index_file.write(entries, place)
        place += len(entries)


def _entries(item: FlushWork) -> Iterator[bytes]:
    """Yields the index entries of pieces; those that nobody has encoded yet are encoded here."""
    pieces, begin = item.pieces, 0
    for count, encoded in item.entries or [(len(pieces), None)]:
        end = begin + count
        yield encoded or encode(Pieces(pieces.ends[begin:end], pieces.data[begin:end]))
        begin = end


def _chunks(pieces: Pieces, begin: int) -> Iterator[Octets]:
    """Yields the bytes of pieces, the first of which begins at `begin`, in runs worth a call. Many small ones are joined without a
    look at each."""
    for first in range(0, len(pieces), _JOINED):
        parts = pieces.data[first : first + _JOINED]
        end = pieces.ends[first + len(parts) - 1] & ~INSIDE
        if end - begin > _CHUNK or len(parts) == 1:
            yield from _runs(parts)
        else:
            yield b"".join(parts)
        begin = end


def _runs(parts: Sequence[Octets]) -> Iterator[Octets]:
    """Yields bytes in runs of at most `_CHUNK`, because to join much holds all other threads up; what is larger is not copied."""
    first = size = 0
    for at, part in enumerate(parts):
        if size and size + len(part) > _CHUNK:
            yield parts[first] if at == first + 1 else b"".join(parts[first:at])
            first, size = at, 0
        size += len(part)
    yield parts[first] if len(parts) == first + 1 else b"".join(parts[first:])

"""Writes the bytes that a checkpoint moves from memory to the logs.

Writing the same pieces again changes nothing, because their places in a log follow from their positions in the stream. If a log
has bytes past the tail that the catalog vouches for, a failed checkpoint left them, and a flush truncates them before it writes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from ..damage import Damaged
from ..recent import INSIDE, Octets, Pieces
from .disk import TOO_LARGE, Disk
from .index import Index, Label, encode, least_size, unlabelled_header
from .log_directories import LogDirectories
from .log_layout import KEPT, Extent, directory_of, path_of
from .open_logs import OpenLog, OpenLogs
from .place import DirectoryLost

#: Maximum number of bytes joined for one write. Joining them takes about 0.3 ms.
_CHUNK: Final = 1024 * 1024
#: A flush syncs a log after every this many bytes, because a commit waits until the disk has written everything before it.
_SYNC_AFTER: Final = 4 * 1024 * 1024
#: Maximum number of pieces joined in one call, because all other threads wait during the call.
_JOINED: Final = 500


class FlushWork(NamedTuple):
    """The pieces that one flush adds to one log.

    Attributes:
        incarnation: the stream of the log.
        extent: the log's extent before the flush. A log without entries is created.
        pieces: the pieces to add.
        label: the label to write into the index if the log is created.
        entries: for each run of pieces, their number and their encoded index entries, or None for entries that are yet to be
            encoded. An empty sequence means that no entry is encoded yet.
    """

    incarnation: int
    extent: Extent
    pieces: Pieces
    label: Label | None = None
    entries: Sequence[tuple[int, bytes | None]] = ()


class Flush:
    """One checkpoint's writes to the logs.

    If a log is damaged, its pieces are written to a file beside it, and all other logs are written as usual.

    Args:
        disk: the disk that holds the logs.
        logs: the open logs.
        directories: makes the directories of new logs.
        learn_limit: called with the incarnation of each log that reached the maximum size of a file.
        syncs_all: whether one call at the end syncs the whole disk, instead of one call for each log.

    Attributes:
        damaged: for each damaged log, what is wrong with it.
        too_large: the logs that reached the maximum size of a file, so that none of their pieces count as written.
    """

    def __init__(
        self,
        disk: Disk,
        logs: OpenLogs,
        directories: LogDirectories,
        learn_limit: Callable[[int], None],
        *,
        syncs_all: bool,
    ) -> None:
        self._disk = disk
        self._logs = logs
        self._directories = directories
        self._learn_limit = learn_limit
        self._syncs_all = syncs_all
        # A dictionary keeps an order that does not depend on the hashes of strings, so that the simulator can repeat a seed.
        self._unsynced_directories: dict[str, None] = {}
        self.damaged: dict[int, str] = {}
        self.too_large: set[int] = set()

    def write(self, work: Sequence[FlushWork]) -> None:
        """Writes pieces to their logs and indexes.

        Raises:
            OSError: the disk failed. Any part of the pieces may be written, but nobody reads it until a catalog vouches for it.
        """
        for item in work:
            try:
                self._write(item)
            except Damaged as damage:
                self.damaged[item.incarnation] = str(damage)
                self._keep(item)
            except OSError as error:
                if error.errno != TOO_LARGE:
                    raise
                self.too_large.add(item.incarnation)
                self._learn_limit(item.incarnation)

    def sync(self) -> None:
        """Returns once everything that `write` wrote is durable."""
        if self._syncs_all:
            self._disk.sync_all()
        else:
            for directory in self._unsynced_directories:
                self._disk.sync_directory(directory)

    def _write(self, item: FlushWork) -> None:
        """Adds pieces to a log and its index.

        Raises:
            Damaged: the log or its index is missing, or differs from what the catalog vouches for.
        """
        incarnation, extent = item.incarnation, item.extent
        if extent.entries == 0:
            self._unsynced_directories[directory_of(incarnation)] = None
            log = self._logs.acquire_new(incarnation, extent.base, item.label)
        else:
            log = self._logs.acquire(incarnation)
        try:
            _add(log, item, path_of(incarnation))
            _check_places(log)
            self._logs.add_verified(log, extent.tail, item.pieces.end)
            if not self._syncs_all:
                log.data.sync()
                log.index_file.sync()
        finally:
            self._logs.release(log)

    def _keep(self, item: FlushWork) -> None:
        """Writes the pieces of a damaged log durably to files beside it, from which `check --repair` appends them to the log.

        The files have the form of a log and its index. They begin at the position where the damaged log should have ended when
        the damage was found. Pieces that a failed checkpoint left in them are truncated.
        """
        incarnation, extent = item.incarnation, item.extent
        path = path_of(incarnation) + KEPT
        self._directories.forget(incarnation)  # because the directory itself may be missing
        self._directories.make(incarnation)
        self._unsynced_directories[directory_of(incarnation)] = None
        data = self._disk.open(path, create=True)
        index_file = self._disk.open(path + ".idx", create=True)
        try:
            if index_file.size() < least_size(0):
                data.truncate(0)
                index_file.write(unlabelled_header(extent.tail), 0)
            kept = OpenLog(data, index_file, Index.of(index_file))
            entries = kept.index.count_up_to(extent.tail)
            extent = Extent(kept.index.base, extent.tail, entries)
            _add(kept, item._replace(extent=extent), path)
            data.sync()
            index_file.sync()
        finally:
            data.close()
            index_file.close()


def _check_places(log: OpenLog) -> None:
    """Checks that a log and its index are still at their paths, because nobody would find bytes in a file elsewhere.

    Raises:
        Damaged: one of the files was moved, removed or replaced while it was open.
    """
    try:
        log.data.check_place()
        log.index_file.check_place()
    except DirectoryLost as lost:
        raise Damaged(str(lost)) from None


def _add(log: OpenLog, item: FlushWork, name: str) -> None:
    """Writes pieces to a log behind its extent, and their entries to its index.

    Anything behind the extent is truncated first, because no catalog vouches for it.
    """
    extent = item.extent
    if log.index.base != extent.base:
        raise Damaged(f"{name}.idx begins elsewhere")
    at, place = extent.tail - extent.base, log.index.place_of(extent.entries)
    for file, end, what in ((log.data, at, name), (log.index_file, place, name + ".idx")):
        size = file.size()
        if size > end:
            file.truncate(end)
        elif size < end:
            raise Damaged(f"{what} is shorter than the catalog says")
    unsynced = 0
    for data in _chunks(item.pieces, extent.tail):
        log.data.write(data, at)
        at += len(data)
        unsynced += len(data)
        if unsynced >= _SYNC_AFTER:
            log.data.sync()
            unsynced = 0
    for entries in _joined_runs(list(_entries(item))):
        log.index_file.write(entries, place)
        place += len(entries)


def _entries(item: FlushWork) -> Iterator[bytes]:
    """Yields the encoded index entries of pieces, and encodes those that are not encoded yet."""
    pieces, begin = item.pieces, 0
    for count, encoded in item.entries or [(len(pieces), None)]:
        end = begin + count
        yield encoded or encode(Pieces(pieces.ends[begin:end], pieces.data[begin:end]))
        begin = end


def _chunks(pieces: Pieces, begin: int) -> Iterator[Octets]:
    """Yields the bytes of pieces, joined into runs that are large enough for a write of their own.

    The first piece begins at position `begin`. Up to `_JOINED` small pieces are joined in one call, without checking the size of each.
    """
    for first in range(0, len(pieces), _JOINED):
        parts = pieces.data[first : first + _JOINED]
        end = pieces.ends[first + len(parts) - 1] & ~INSIDE
        if end - begin > _CHUNK or len(parts) == 1:
            yield from _joined_runs(parts)
        else:
            yield b"".join(parts)
        begin = end


def _joined_runs(parts: Sequence[Octets]) -> Iterator[Octets]:
    """Yields byte strings joined into runs of at most `_CHUNK` bytes, because all other threads wait during the call that joins them.

    A part that is larger than `_CHUNK` is yielded by itself, without a copy.
    """
    first = size = 0
    for at, part in enumerate(parts):
        if size and size + len(part) > _CHUNK:
            yield parts[first] if at == first + 1 else b"".join(parts[first:at])
            first, size = at, 0
        size += len(part)
    yield parts[first] if len(parts) == first + 1 else b"".join(parts[first:])

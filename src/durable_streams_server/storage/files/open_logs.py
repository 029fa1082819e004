"""Keeps the files of a limited number of logs open, and closes those that were used least recently."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from ..damage import Damaged
from .disk import DENIED, LOST, NO_HANDLES, Disk, File
from .index import Index, Label, labelled_header, unlabelled_header
from .log_directories import LogDirectories
from .log_layout import path_of
from .verify import Verified


class OpenLog:
    """The open files of one log.

    Attributes:
        data: the log's bytes.
        index_file: the file of the index.
        index: the index, whose header has been read.
        verified: the ranges of positions whose checksums have been compared.
        users: the number of calls that use the files at this moment.
        is_evicted: whether `OpenLogs` no longer holds the log, so that its last user closes it.
    """

    __slots__ = ("data", "index", "index_file", "is_evicted", "users", "verified")

    def __init__(self, data: File, index_file: File, index: Index) -> None:
        self.data = data
        self.index_file = index_file
        self.index = index
        self.verified = Verified()
        self.users = 0
        self.is_evicted = False

    def close(self) -> None:
        """Closes both files."""
        self.data.close()
        self.index_file.close()


class OpenLogs:
    """An LRU cache of open logs that several threads may use.

    A caller acquires a log, uses its files, and releases it. A log that is evicted while it is in use stays open until its last
    user releases it.

    Args:
        disk: the disk that holds the logs.
        directories: makes the directories of new logs.
        max_open: the maximum number of logs to keep open; each takes two file handles.
    """

    def __init__(self, disk: Disk, directories: LogDirectories, max_open: int) -> None:
        self._disk = disk
        self._directories = directories
        self._max_open = max_open
        self._open: OrderedDict[int, OpenLog] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def acquire_if_open(self, incarnation: int) -> OpenLog | None:
        """Returns a log for one more user, or None if its files are not open. Never waits for the device."""
        with self._lock:
            log = self._open.get(incarnation)
            if log is not None:
                self._open.move_to_end(incarnation)
                log.users += 1
            return log

    def acquire(self, incarnation: int) -> OpenLog:
        """Returns a log for one more user, and opens its files if they are not open.

        Raises:
            Damaged: a file is missing or cannot be read, or the index names another stream.
        """
        log = self.acquire_if_open(incarnation)
        if log is None:
            log = self._acquire_opened(incarnation, lambda: self._open_files(incarnation))
        return log

    def acquire_new(self, incarnation: int, base: int, label: Label | None) -> OpenLog:
        """Returns a log for its first user, and creates its files unless they are open.

        Args:
            incarnation: the stream of the log.
            base: the position in the stream at which the log begins.
            label: the label to write into the header of the index, or None for a header without one.
        """
        log = self.acquire_if_open(incarnation)
        if log is None:
            log = self._acquire_opened(
                incarnation, lambda: self._create_files(incarnation, base, label)
            )
        return log

    def release(self, log: OpenLog) -> None:
        """Ends one use of a log. The last user of an evicted log closes its files."""
        with self._lock:
            log.users -= 1
            if log.is_evicted and not log.users:
                log.close()

    def add_verified(self, log: OpenLog, start: int, end: int) -> None:
        """Records that the bytes between two positions of a log match their checksums."""
        with self._lock:
            log.verified.add(start, end)

    def evict(self, incarnation: int) -> None:
        """Evicts one log, if it is open."""
        with self._lock:
            self._evict(incarnation)

    def evict_all(self) -> None:
        """Evicts every log. Later calls open the files again."""
        with self._lock:
            for incarnation in list(self._open):
                self._evict(incarnation)

    def _acquire_opened(self, incarnation: int, open_files: Callable[[], OpenLog]) -> OpenLog:
        # The files are opened without the lock, because the event loop takes the lock too.
        opened = self._open_with_retry(open_files)
        with self._lock:
            log = self._open.setdefault(incarnation, opened)
            self._open.move_to_end(incarnation)
            log.users += 1
            while len(self._open) > self._max_open:
                self._evict(next(iter(self._open)))
        if log is not opened:  # another thread has opened the log in the meantime
            opened.close()
        return log

    def _open_with_retry(self, open_files: Callable[[], OpenLog]) -> OpenLog:
        """Opens files. If no file handle is left, closes all other logs and tries once more."""
        try:
            return open_files()
        except OSError as error:
            if error.errno not in NO_HANDLES:
                raise
        self.evict_all()
        return open_files()

    def _evict(self, incarnation: int) -> None:
        log = self._open.pop(incarnation, None)
        if log is not None:
            log.is_evicted = True
            if not log.users:
                log.close()

    def _open_files(self, incarnation: int) -> OpenLog:
        path = path_of(incarnation)
        data = self._open_file(path)
        try:
            index_file = self._open_file(path + ".idx")
        except BaseException:
            data.close()
            raise
        try:
            return OpenLog(data, index_file, _read_index(index_file, incarnation))
        except BaseException:
            data.close()
            index_file.close()
            raise

    def _create_files(self, incarnation: int, base: int, label: Label | None) -> OpenLog:
        path = path_of(incarnation)
        self._directories.make(incarnation)
        data = self._disk.open(path, create=True)
        index_file = self._disk.open(path + ".idx", create=True)
        head = unlabelled_header(base) if label is None else labelled_header(label)
        index_file.write(head, 0)
        return OpenLog(data, index_file, Index(index_file, len(head), base, label))

    def _open_file(self, path: str) -> File:
        """Opens an existing file.

        Raises:
            Damaged: the file is missing or cannot be read.
        """
        try:
            return self._disk.open(path)
        except FileNotFoundError:
            raise Damaged(f"{path} is missing") from None
        except OSError as error:
            raise as_damage(error, path) from None


def as_damage(error: OSError, name: str) -> Exception:
    """Returns the error to raise when a stream's file could not be opened or read.

    The result is Damaged if the error concerns this file, and the error itself if it concerns the process or the machine.
    """
    return Damaged(f"{name}: {error.strerror}") if error.errno in LOST | DENIED else error


def _read_index(file: File, incarnation: int) -> Index:
    """Reads the header of an index.

    Raises:
        Damaged: the header is damaged, or it names another stream.
    """
    name = path_of(incarnation) + ".idx"
    try:
        index = Index.of(file)
    except Damaged as damage:
        raise Damaged(f"{name}: {damage}") from None
    except OSError as error:
        raise as_damage(error, name) from None
    if index.label is not None and index.label.incarnation != incarnation:
        raise Damaged(f"{name}: it is the index of {index.label.path}")
    return index

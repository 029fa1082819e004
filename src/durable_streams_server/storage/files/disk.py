"""The disk: the one module of the store that calls the operating system for files.

Everything above it speaks of a `Disk` and its `File`s by path relative to the data directory, so that tests can give it a
disk that tears writes, loses what was not synced, and fails at any call.
"""

import ctypes
import enum
import errno
import fcntl
import io
import os
import resource
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ...protocol.units import MIB
from . import forked
from .lock import DirectoryLock
from .opening import open_plain
from .place import Place

TOO_LARGE: Final = errno.EFBIG  # the file would be larger than the system allows
#: A file could not grow. What was there before is as it was, so it can be tried again.
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, TOO_LARGE})
#: A file could not be opened, for this process or the machine has too many open. Nothing was written, so it can be tried again.
NO_HANDLES: Final = frozenset({errno.EMFILE, errno.ENFILE})
#: What stands for damage of a file that was there: it is gone, something else is in its place, or the device cannot read it.
LOST: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EIO}
)
#: The file may be whole, but this process may not open it. A store refuses its stream; only a check must not take it for lost.
DENIED: Final = frozenset({errno.EACCES, errno.EPERM})
_DSYNC: Final = getattr(os, "RWF_DSYNC", 0)
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_ANYWHERE: Final = 1 << 62
_PIECE: Final = 4 * MIB  # bytes of one system call: 3 ms or less, and a page of the usual size


class Kind(enum.Enum):
    """What is at a path."""

    FILE = "file"
    DIRECTORY = "directory"  # or a link to one: a part of the store may be on another disk
    OTHER = "other"  # a link, a FIFO, a device


class File(ABC):
    """One open file. Positions and sizes are in bytes."""

    @abstractmethod
    def size(self) -> int:
        """Returns the file's size."""

    @abstractmethod
    def read(self, size: int, position: int) -> bytes:
        """Reads up to `size` bytes; fewer at the end of the file."""

    @abstractmethod
    def read_ready(self, size: int, position: int) -> bytes | None:
        """Reads as `read` does if that needs no waiting for the device, else returns None."""

    @abstractmethod
    def write(self, data: bytes | memoryview, position: int) -> None:
        """Writes all of `data`; it is durable only after `sync`."""

    @abstractmethod
    def write_durably(self, data: bytes | tuple[bytes, ...], position: int) -> None:
        """Writes all of `data`, whole or in parts (fewer than a system call takes, which is 1,024), inside what `allocate` has reserved, and returns when it is durable."""

    @abstractmethod
    def allocate(self, size: int) -> None:
        """Makes the file `size` bytes large and reserves the space for it."""

    @abstractmethod
    def truncate(self, size: int) -> None:
        """Makes the file `size` bytes large."""

    @abstractmethod
    def sync(self) -> None:
        """Returns when what was written is durable. A failure must never be retried: the kernel forgets what it lost."""

    @abstractmethod
    def check_place(self) -> None:
        """Returns if the file is still found at its path.

        Raises:
            DirectoryLost: it is not; what was written to it may be out of everybody's reach.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the file; closing twice is no error."""

    def identity(self) -> object:
        """Returns what two names of one file have in common."""
        return self


class Disk(ABC):
    """A directory tree. Paths are relative to it, with `/`."""

    @abstractmethod
    def open(self, path: str, *, create: bool = False) -> File:
        """Opens a file for reading and writing.

        Raises:
            FileNotFoundError: it is not there and `create` is False.
        """

    @abstractmethod
    def create(self, path: str) -> File:
        """Makes a file that is not there yet, and opens it.

        Raises:
            FileExistsError: something is there.
        """

    @abstractmethod
    def make_directory(self, path: str) -> None:
        """Makes a directory; one that is there is no error. Only the disk's own, at "", gets the directories above it too."""

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """Returns the sorted names in a directory; none if there is no such directory."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file or directory at the path."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Returns the size of a file, or None if it is not there."""

    def room(self) -> int | None:
        """Returns how many bytes may still be written, or None if that cannot be known."""
        return None

    def largest_file(self) -> int | None:
        """Returns how many bytes a file may have, by the limits of the process and of the file system; None if no limit is
        known."""
        return None

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Renames a file, replacing what is at `new`; durable after `sync_directory`."""

    @abstractmethod
    def link(self, old: str, new: str) -> None:
        """Gives a file a second name, replacing what is at `new`; durable after `sync_directory`.

        Raises:
            OSError: also where the file system has no links.
        """

    @abstractmethod
    def unlink(self, path: str) -> None:
        """Removes a file; one that is not there is no error. Durable after `sync_directory`."""

    @abstractmethod
    def sync_directory(self, path: str) -> None:
        """Returns when the names in a directory are durable."""

    @abstractmethod
    def sync_all(self) -> None:
        """Returns when everything written to the disk is durable, by one call for any number of files."""

    @abstractmethod
    def lock(self) -> bool:
        """Takes the directory for this process until it ends; False if another one has it."""

    @abstractmethod
    def release(self) -> None:
        """Gives the lock back."""

    @abstractmethod
    def watch(self, paths: Iterable[str]) -> None:
        """Has `check_place` look at these paths as well, at which there must be something. Ends with `release`."""

    @abstractmethod
    def check_lock(self) -> None:
        """Returns if this process has the directory's lock. For every commit, so it may look once a second only.

        Raises:
            DirectoryLost: it is not: the directory was moved, removed or replaced, or another process may have it by now.
            StoreForked: this process is a copy of the one that has taken it.
        """

    @abstractmethod
    def check_place(self) -> None:
        """Returns if the lock and all that is watched is still found where it was; raises as `check_lock` does."""

    def doubts(self) -> Sequence[str]:
        """Returns what is unsafe about who may write the directory, each in a few words."""
        return ()

    @abstractmethod
    def random_number(self) -> int:
        """Returns 64 random bits, of the quality of a secret."""


class SystemFile(File):
    """A file of the operating system."""

    def __init__(self, path: Path, create: bool, mode: int = os.O_RDWR) -> None:
        self._path = path
        self._descriptor, self._found = open_plain(path, mode | (os.O_CREAT if create else 0))
        self._place: Place | None = None  # most files are never asked for it
        forked.guard(self)

    def forked(self) -> None:
        """Closes the child's copy of the descriptor, and refuses every call from now on."""
        self.close()
        forked.refuse_calls(self, File, ends="close")

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def identity(self) -> object:
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def read(self, size: int, position: int) -> bytes:
        if size <= _PIECE:
            found = os.pread(self._descriptor, size, position)
            if len(found) == size:
                return found
        return self._read_in_pieces(size, position)

    def _read_in_pieces(self, size: int, position: int) -> bytes:
        """Reads piece by piece, because one call for 60 MiB kept every other thread off its core for 40 ms."""
        read = io.BytesIO(bytes(size))  # zeros, which take no memory until they are written
        come = 0
        with read.getbuffer() as room:
            while come < size:
                piece = room[come : come + _PIECE]
                count = os.preadv(self._descriptor, [piece], position + come)
                piece.release()
                if not count:
                    break
                come += count
        return read.getvalue()[:come]  # no copy, unless the file was shorter

    def read_ready(self, size: int, position: int) -> bytes | None:
        if not _NOWAIT:
            return None
        buffer = bytearray(size)
        try:
            count = os.preadv(self._descriptor, [buffer], position, _NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise self._named(error) from None
        return bytes(buffer) if count == size else None

    def write(self, data: bytes | memoryview, position: int) -> None:
        self._write(data, position, 0)

    def write_durably(self, data: bytes | tuple[bytes, ...], position: int) -> None:
        self._write(data, position, _DSYNC)
        if not _DSYNC:
            self.sync()

    def allocate(self, size: int) -> None:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._descriptor, 0, size)
            else:
                os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise self._named(error) from None

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise self._named(error) from None

    def sync(self) -> None:
        try:
            if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone is no barrier there
                fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)
            else:
                os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._named(error) from None

    def check_place(self) -> None:
        if self._place is None:
            self._place = Place(self._path, self._found)
        self._place.check()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _write(
        self, data: bytes | memoryview | tuple[bytes, ...], position: int, flags: int
    ) -> None:
        parts = data if isinstance(data, tuple) else (data,)
        views = [memoryview(part) for part in parts if part]
        try:
            while views:
                written = os.pwritev(self._descriptor, views, position, flags)
                if written == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                position += written
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if written:
                    views[0] = views[0][written:]
        except OSError as error:
            raise self._named(error) from None

    def _named(self, error: OSError) -> OSError:
        """Returns the error with the file's name in it: whoever reads it must know which file."""
        return OSError(error.errno, error.strerror, str(self._path))


class ReadOnlyFile(SystemFile):
    """A file that is only looked at: each call that would change it raises."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, False, os.O_RDONLY)

    def allocate(self, _: int) -> None:
        raise _read_only(self._path)

    def truncate(self, _: int) -> None:
        raise _read_only(self._path)

    def sync(self) -> None:
        """Does nothing: nothing has been written through this file."""

    def _write(self, *_: object) -> None:
        raise _read_only(self._path)


class SystemDisk(Disk):
    """A directory of the operating system's.

    Args:
        root: the directory; it need not exist until `make_directory("")`.
        readonly: whether to look only. Files are opened for reading, nothing is made, and each call that would change
            something raises an OSError (EROFS). `sync_directory` and `sync_all` do nothing, since nothing was written.
    """

    def __init__(self, root: str | os.PathLike[str], *, readonly: bool = False) -> None:
        self.root = Path(root).absolute()  # the process may go to another directory
        self.readonly = readonly
        self._lock = DirectoryLock(self.root, shared=readonly)

    def forked(self) -> None:
        """Gives up the child's share of the lock, which would outlive its parent, and refuses every call from now on."""
        self._lock.release()
        forked.refuse_calls(self, Disk, ends="release")

    def open(self, path: str, *, create: bool = False) -> File:
        if self.readonly:
            if create:
                raise _read_only(self.root / path)
            return ReadOnlyFile(self.root / path)
        return SystemFile(self.root / path, create)

    def create(self, path: str) -> File:
        self._refuse_if_readonly(path)
        return SystemFile(self.root / path, True, os.O_RDWR | os.O_EXCL)

    def make_directory(self, path: str) -> None:
        self._refuse_if_readonly(path)
        target = self.root / path
        if path:  # what is above it must be there: its absence is news, and not to be covered up
            if not target.is_dir():
                target.mkdir(exist_ok=True, mode=0o700)
                _sync_directory(target.parent)
            return
        missing = [parent for parent in (target, *target.parents) if not parent.exists()]
        for directory in reversed(missing):
            directory.mkdir(exist_ok=True, mode=0o700)
            _sync_directory(directory.parent)
        if not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self.root / path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: str) -> bool:
        return self.size(path) is not None

    def size(self, path: str) -> int | None:
        try:
            return (self.root / path).lstat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def kind(self, path: str) -> Kind | None:
        """Returns what is at a path, None if nothing is."""
        target = self.root / path
        try:
            mode = target.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISREG(mode):
            return Kind.FILE
        return Kind.DIRECTORY if target.is_dir() else Kind.OTHER

    def room(self) -> int | None:
        try:
            status = os.statvfs(self.root)
        except OSError:
            return None
        return status.f_bavail * status.f_frsize

    def largest_file(self) -> int | None:
        limits = []
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
        try:
            file = next(self.root / name for name in self.names("") if (self.root / name).is_file())
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, StopIteration):
            return min(limits, default=None)
        try:
            if (offset := _largest_offset(descriptor)) is not None:
                limits.append(offset)
        finally:
            os.close(descriptor)
        return min(limits, default=None)

    def rename(self, old: str, new: str) -> None:
        self._refuse_if_readonly(new)
        os.replace(self.root / old, self.root / new)

    def link(self, old: str, new: str) -> None:
        self._refuse_if_readonly(new)
        (self.root / new).unlink(missing_ok=True)
        os.link(self.root / old, self.root / new, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        self._refuse_if_readonly(path)
        (self.root / path).unlink(missing_ok=True)

    def sync_directory(self, path: str) -> None:
        if not self.readonly:
            _sync_directory(self.root / path)

    def sync_all(self) -> None:
        if self.readonly:
            return
        descriptor = os.open(self.root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _sync_file_system(descriptor, str(self.root))
        finally:
            os.close(descriptor)

    def lock(self) -> bool:
        forked.guard(self)
        return self._lock.take()

    def release(self) -> None:
        self._lock.release()

    def watch(self, paths: Iterable[str]) -> None:
        self._lock.watch(paths)

    def check_lock(self) -> None:
        self._lock.check()

    def check_place(self) -> None:
        self._lock.check_all()

    def doubts(self) -> Sequence[str]:
        found = self.root.stat()
        mode = stat.S_IMODE(found.st_mode)
        doubts = []
        who = [
            name
            for name, bit in (("its group", stat.S_IWGRP), ("others", stat.S_IWOTH))
            if mode & bit
        ]
        if who:
            doubts.append(f"{' and '.join(who)} may write it (mode {mode:o})")
        if found.st_uid != os.geteuid():
            doubts.append(
                f"it belongs to user {found.st_uid}, and this process is user {os.geteuid()}"
            )
        return doubts

    def random_number(self) -> int:
        return int.from_bytes(os.urandom(8), "little")

    def _refuse_if_readonly(self, path: str) -> None:
        if self.readonly:
            raise _read_only(self.root / path)


def _read_only(path: Path) -> OSError:
    return OSError(errno.EROFS, "it was opened only to look at", str(path))


def _largest_offset(descriptor: int) -> int | None:
    """Returns the largest offset that a file system seeks to, which on Linux is the size of its largest file; None if it seeks
    anywhere."""
    low, high = 0, _ANYWHERE
    while low < high:
        middle = (low + high + 1) // 2
        try:
            os.lseek(descriptor, middle, os.SEEK_SET)
            low = middle
        except OSError:
            high = middle - 1
    return low if low < _ANYWHERE else None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(descriptor)


def _sync_file_system(descriptor: int, name: str) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "syncfs"):
        if library.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), name)
    else:
        os.sync()

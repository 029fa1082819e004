"""Implements `Disk` with a directory of the operating system."""

import ctypes
import errno
import os
import resource
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from . import forked
from .disk import Disk, EntryType, File
from .lock import DirectoryLock
from .system_file import ReadOnlyFile, SystemFile, read_only_error

#: An offset beyond the size limit of every file system.
_ANYWHERE: Final = 1 << 62


class SystemDisk(Disk):
    """A disk whose files are in a directory of the operating system.

    Args:
        root: the directory, which need not exist before `make_directory("")`.
        readonly: whether files are opened for reading only. Each call that would change something then raises an OSError with
            EROFS. `sync_directory` and `sync_all` do nothing, because nothing was written.
    """

    def __init__(self, root: str | os.PathLike[str], *, readonly: bool = False) -> None:
        self.root = Path(root).absolute()  # the process may change its working directory
        self.readonly = readonly
        self._lock = DirectoryLock(self.root, shared=readonly)

    def forked(self) -> None:
        """Makes every further call in the child of a fork raise StoreForked.

        Closes the child's copy of the lock file first, because the lock would otherwise outlive the parent.
        """
        self._lock.release()
        forked.refuse_calls(self, Disk, ends="release")

    def open(self, path: str, *, create: bool = False) -> File:
        if self.readonly:
            if create:
                raise read_only_error(self.root / path)
            return ReadOnlyFile(self.root / path)
        return SystemFile(self.root / path, create)

    def create(self, path: str) -> File:
        self._refuse_if_readonly(path)
        return SystemFile(self.root / path, True, os.O_RDWR | os.O_EXCL)

    def make_directory(self, path: str) -> None:
        self._refuse_if_readonly(path)
        target = self.root / path
        # The parent directory must exist, because creating a missing one would hide that its contents were lost.
        if path:
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

    def entry_type(self, path: str) -> EntryType | None:
        """Returns the type of the entry at a path, or None if the path does not exist."""
        target = self.root / path
        try:
            mode = target.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISREG(mode):
            return EntryType.FILE
        return EntryType.DIRECTORY if target.is_dir() else EntryType.OTHER

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
            raise read_only_error(self.root / path)


def _largest_offset(descriptor: int) -> int | None:
    """Returns the largest offset that a descriptor can seek to, or None if there is no limit.

    On Linux, that is the maximum size of a file on the file system.
    """
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

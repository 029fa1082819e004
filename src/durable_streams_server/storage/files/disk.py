"""The contract of a disk, and the errors that its callers distinguish.

The store uses files only through `Disk` and `File`, with paths relative to the data directory. So tests can run the store on a
simulated disk that tears writes, loses unsynced bytes and fails at any call. `system_disk.py` is the disk of the operating system.
"""

import enum
import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

#: The file would be larger than the system allows.
TOO_LARGE: Final = errno.EFBIG
#: A file could not grow. Its old content is unchanged, so the caller may retry.
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, TOO_LARGE})
#: A file could not be opened because this process or the machine has too many open files. Nothing was written, so the caller may retry.
NO_HANDLES: Final = frozenset({errno.EMFILE, errno.ENFILE})
#: A file of the store is lost: it is missing, something else is in its place, or the device cannot read it.
LOST: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EIO}
)
#: This process may not open the file. A store refuses its stream, but a check must not report the file as lost.
DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


class EntryType(enum.Enum):
    """The type of the entry at a path."""

    FILE = "file"
    DIRECTORY = "directory"  # or a link to one, because a part of the store may be on another disk
    OTHER = "other"  # a link, a FIFO, a device


class File(ABC):
    """One open file. Positions and sizes are in bytes."""

    @abstractmethod
    def size(self) -> int:
        """Returns the size of the file."""

    @abstractmethod
    def read(self, size: int, position: int) -> bytes:
        """Returns the `size` bytes at a position, or fewer at the end of the file."""

    @abstractmethod
    def read_ready(self, size: int, position: int) -> bytes | None:
        """Returns the same bytes as `read`, or None if reading them would wait for the device."""

    @abstractmethod
    def write(self, data: bytes | memoryview, position: int) -> None:
        """Writes all of `data`, which becomes durable with the next `sync`."""

    @abstractmethod
    def write_durably(self, data: bytes | tuple[bytes, ...], position: int) -> None:
        """Writes all of `data`, and returns when it is durable.

        Args:
            data: the bytes, whole or in fewer than 1,024 parts, the maximum of one system call.
            position: the position in the file. The bytes must lie within the space that `allocate` has reserved.
        """

    @abstractmethod
    def allocate(self, size: int) -> None:
        """Reserves space for `size` bytes, and makes the file that large unless it is larger."""

    @abstractmethod
    def truncate(self, size: int) -> None:
        """Truncates or extends the file to `size` bytes."""

    @abstractmethod
    def sync(self) -> None:
        """Makes everything written durable before it returns.

        The caller must never retry a failed sync, because the kernel forgets which bytes it lost.
        """

    @abstractmethod
    def check_place(self) -> None:
        """Checks that the path of the file still leads to it.

        Raises:
            DirectoryLost: the file was moved, removed or replaced, so nobody may find what was written to it.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the file. A second call does nothing."""

    def identity(self) -> object:
        """Returns a value that is equal for two names of the same file."""
        return self


class Disk(ABC):
    """A directory tree. Paths are relative to its root and use `/`."""

    @abstractmethod
    def open(self, path: str, *, create: bool = False) -> File:
        """Opens a file for reading and writing, and creates it if `create` is true and it is missing.

        Raises:
            FileNotFoundError: the file is missing and `create` is false.
        """

    @abstractmethod
    def create(self, path: str) -> File:
        """Creates and opens a new file.

        Raises:
            FileExistsError: the path exists.
        """

    @abstractmethod
    def make_directory(self, path: str) -> None:
        """Creates a directory unless it exists.

        For the root of the disk, at "", this creates missing parent directories too.

        Raises:
            FileNotFoundError: the parent directory is missing.
        """

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """Returns the sorted names in a directory, or an empty list if there is no such directory."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Returns whether a path exists."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Returns the size of a file in bytes, or None if it is missing."""

    def room(self) -> int | None:
        """Returns the number of free bytes on the disk, or None if it is unknown."""
        return None

    def largest_file(self) -> int | None:
        """Returns the maximum size of a file in bytes, or None if no limit of the process or the file system is known."""
        return None

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Renames a file and replaces anything at `new`. The new name is durable after `sync_directory`."""

    @abstractmethod
    def link(self, old: str, new: str) -> None:
        """Gives a file a second name and replaces anything at `new`. The name is durable after `sync_directory`.

        Raises:
            OSError: the call failed, or the file system has no hard links.
        """

    @abstractmethod
    def unlink(self, path: str) -> None:
        """Removes a file if it exists. The removal is durable after `sync_directory`."""

    @abstractmethod
    def sync_directory(self, path: str) -> None:
        """Makes all names in a directory durable before it returns."""

    @abstractmethod
    def sync_all(self) -> None:
        """Makes everything written to the disk durable before it returns. One call syncs any number of files."""

    @abstractmethod
    def lock(self) -> bool:
        """Locks the directory for this process. Returns False if another process holds the lock."""

    @abstractmethod
    def release(self) -> None:
        """Releases the lock."""

    @abstractmethod
    def watch(self, paths: Iterable[str]) -> None:
        """Makes `check_place` check these existing paths too, until `release` is called."""

    @abstractmethod
    def check_lock(self) -> None:
        """Checks that this process holds the lock. Every commit calls this, so it checks the lock file only once a second.

        Raises:
            DirectoryLost: the directory was moved, removed or replaced, so another process may have locked it by now.
            StoreForked: this process is a fork of the one that locked the directory.
        """

    @abstractmethod
    def check_place(self) -> None:
        """Checks that the lock file and all watched files are still at their paths. Raises the same errors as `check_lock`."""

    def doubts(self) -> Sequence[str]:
        """Returns a phrase for each reason why other users may be able to write to the directory."""
        return ()

    @abstractmethod
    def random_number(self) -> int:
        """Returns 64 random bits that are secure enough for a secret."""

"""The disk: the one module of the store that calls the operating system for files.

Everything above it speaks of a `Disk` and its `File`s by path relative to the data directory, so that tests can give it a
disk that tears writes, loses what was not synced, and fails at any call.
"""

import enum
import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

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


class EntryType(enum.Enum):
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

"""The lock on a data directory. One process holds it, as long as the directory stays where that process found it."""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from . import forked
from .opening import open_plain
from .place import DirectoryLost, Place

LOCK: Final = "LOCK"
#: Flags that open a path only to keep its inode in use.
_NAME_ONLY: Final = os.O_CLOEXEC | (os.O_PATH if sys.platform == "linux" else os.O_RDONLY)
#: Seconds between two checks of the lock file. One second is often enough, because commits check the files that they write.
_INTERVAL: Final = 1.0


class DirectoryLock:
    """The lock file of one directory, and the paths in it that are watched while the lock is held.

    The lock belongs to an open file, which the child of a fork shares. The child closes its copy, or it would hold the lock after
    its parent ends. It never unlocks the file, because that would release the lock of its parent.

    Args:
        root: the directory.
        shared: whether the caller only reads the directory. Several readers may hold the lock at once, and they create no lock file.
        steady: returns the time in seconds of a clock that never jumps.
    """

    def __init__(
        self, root: Path, *, shared: bool, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._shared = shared
        self._steady = steady
        self._descriptor = -1
        self._place: Place | None = None
        self._owner = 0  # the process that holds the lock
        self._next_check = 0.0
        self._watched: list[tuple[int, Place]] = []

    def take(self) -> bool:
        """Locks the directory. Returns False if another process holds the lock.

        Raises:
            OSError: the lock file cannot be opened or locked.
        """
        path = self._root / LOCK
        try:
            flags = os.O_RDONLY if self._shared else os.O_RDWR | os.O_CREAT
            self._descriptor, found = open_plain(path, flags)
            self._place = Place(path, found)
        except FileNotFoundError:
            if not self._shared:
                raise
            # The directory is a copy without a lock file, so no process can have locked it.
            return True
        self._owner = os.getpid()
        kind = fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError as error:
            self.release()
            if not self._shared:
                raise OSError(error.errno, error.strerror, str(path)) from None
        # On a file system without locks, a reader needs no lock, because no process can hold a lock there.
        return True

    def release(self) -> None:
        """Releases the lock and stops watching all paths. In the child of a fork, the parent keeps the lock."""
        descriptors = [self._descriptor, *(descriptor for descriptor, _ in self._watched)]
        self._descriptor, self._place = -1, None
        self._watched.clear()
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    def watch(self, paths: Iterable[str]) -> None:
        """Makes `check_all` check these paths too."""
        for path in paths:
            descriptor = os.open(self._root / path, _NAME_ONLY)
            self._watched.append((descriptor, Place(self._root / path, os.fstat(descriptor))))

    def check(self) -> None:
        """Checks that this process holds the lock. Checks the path of the lock file at most once a second.

        Raises:
            DirectoryLost: the directory or its lock file was moved, removed or replaced, so another process may have locked it.
            StoreForked: this process is a fork of the one that locked the directory.
        """
        if os.getpid() != self._owner:  # a fork that Python did not notice
            raise forked.refusal()
        now = self._steady()
        if now >= self._next_check:
            self._next_check = now + _INTERVAL
            self._check_lock_file()

    def check_all(self) -> None:
        """Checks the lock file and every watched path at once. Raises the same errors as `check`."""
        self._next_check = 0.0
        self.check()
        for _, place in self._watched:
            place.check()

    def _check_lock_file(self) -> None:
        if self._place is None:
            raise DirectoryLost(f"{self._root} is not locked by this process")
        self._place.check()

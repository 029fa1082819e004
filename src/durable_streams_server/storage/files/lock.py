"""The lock on a data directory: one process has it, and only while the directory is where that process found it."""

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
_NAME_ONLY: Final = os.O_CLOEXEC | (os.O_PATH if sys.platform == "linux" else os.O_RDONLY)
_EVERY: Final = (
    1.0  # seconds between two looks at the lock file: a commit looks at its own file each time
)


class DirectoryLock:
    """The lock file of one directory, and the parts of the directory that are watched while it is held.

    The lock belongs to an open file, which the child of a fork shares. A child closes its copy, or it would keep the lock after
    its parent's end; it never unlocks, which would take the lock from its parent.

    Args:
        root: the directory.
        shared: whether to look only. Others that look may hold the lock too, and where there is no lock file none is made.
        steady: the time in seconds, of a clock that never jumps.
    """

    def __init__(
        self, root: Path, *, shared: bool, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._shared = shared
        self._steady = steady
        self._descriptor = -1
        self._place: Place | None = None
        self._owner = 0  # the process that has it
        self._next_look = 0.0
        self._watched: list[tuple[int, Place]] = []

    def take(self) -> bool:
        """Takes the lock; False if another process has it.

        Raises:
            OSError: it cannot be known.
        """
        path = self._root / LOCK
        try:
            flags = os.O_RDONLY if self._shared else os.O_RDWR | os.O_CREAT
            self._descriptor, found = open_plain(path, flags)
            self._place = Place(path, found)
        except FileNotFoundError:
            if not self._shared:
                raise
            return True  # a copy without its lock: nobody can have it
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
        return True  # also if the file system has no locks: then nobody can have one

    def release(self) -> None:
        """Gives the lock back, and watches nothing any more. In a forked copy, the parent keeps it."""
        descriptors = [self._descriptor, *(descriptor for descriptor, _ in self._watched)]
        self._descriptor, self._place = -1, None
        self._watched.clear()
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    def watch(self, paths: Iterable[str]) -> None:
        """Has `check_all` look at these paths too."""
        for path in paths:
            descriptor = os.open(self._root / path, _NAME_ONLY)
            self._watched.append((descriptor, Place(self._root / path, os.fstat(descriptor))))

    def check(self) -> None:
        """Returns if this process has the lock. It looks at the path of the lock file once a second.

        Raises:
            DirectoryLost: the directory or its lock was moved, removed or replaced; another process may have it by now.
            StoreForked: this process is a copy of the one that has taken it.
        """
        if os.getpid() != self._owner:  # a fork that Python was not told of
            raise forked.refusal()
        now = self._steady()
        if now >= self._next_look:
            self._next_look = now + _EVERY
            self._look()

    def check_all(self) -> None:
        """Looks at everything, the lock and what is watched; raises as `check` does."""
        self._next_look = 0.0
        self.check()
        for _, place in self._watched:
            place.check()

    def _look(self) -> None:
        if self._place is None:
            raise DirectoryLost(f"{self._root} is not locked by this process")
        self._place.check()

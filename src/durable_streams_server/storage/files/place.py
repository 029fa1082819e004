"""Checks whether a path still leads to the file or directory that was opened there.

A commit checks the file that it has written. `os.stat` would read the times of the file too. Linux 6.13 and newer update the times of
a file at its next write if somebody has read them, and that update makes a durable write 50% slower. So the check reads only the
inode number, with `statx`. Systems without `statx` use `os.stat`.

The call does not release the interpreter lock (`PyDLL`). It takes two microseconds, because the inode of an open file is in memory. To
release the lock and acquire it again would take longer while an event loop is busy.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

Identity = tuple[int, ...]

_AT_FDCWD: Final = -100
_STATX_INO: Final = 0x100
_STATX_SIZE: Final = 256
#: The places in the result of `statx` of the inode number and of the device's major and minor number.
_NUMBERS: Final = struct.Struct("@32xQ96xII")


class DirectoryLost(OSError):
    """The data directory or a file in it was moved, removed or replaced, so data written to an open file would be lost."""


class Place:
    """Remembers which file or directory was at a path when it was opened.

    The file must stay open as long as the place is used, because some systems reuse or change the inode number of a closed file.

    Args:
        path: the path.
        found: the status of the open descriptor.
    """

    __slots__ = ("_identity", "_path", "_raw")

    def __init__(self, path: Path, found: os.stat_result) -> None:
        self._path = path
        self._raw = os.fsencode(path)
        self._identity = _identity_of(found)

    def check(self) -> None:
        """Checks that the path still leads to the same file or directory.

        Raises:
            DirectoryLost: the file or directory was moved, removed or replaced.
        """
        try:
            found = _identify(self._raw)
        except (FileNotFoundError, NotADirectoryError):
            raise DirectoryLost(f"{self._path} has been moved or removed") from None
        if found != self._identity:
            raise DirectoryLost(f"{self._path} has been replaced by another")


def _identity_of(found: os.stat_result) -> Identity:
    return found.st_ino, os.major(found.st_dev), os.minor(found.st_dev)


def _by_stat(path: bytes) -> Identity:
    return _identity_of(os.stat(path))


def _by_statx() -> Callable[[bytes], Identity] | None:
    """Returns a function that identifies a path with `statx`, or None if the system lacks or forbids that call."""
    function = getattr(ctypes.PyDLL(None, use_errno=True), "statx", None)
    if function is None:
        return None
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_char_p,
    )

    def identify(path: bytes) -> Identity:
        answer = ctypes.create_string_buffer(_STATX_SIZE)
        if function(_AT_FDCWD, path, 0, _STATX_INO, answer) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fsdecode(path))
        return _NUMBERS.unpack_from(answer)

    try:
        identify(b"/")
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return None
    return identify


_identify: Final = _by_statx() or _by_stat

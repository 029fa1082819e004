"""Whether a path still leads to what was opened there.

A commit asks this of the file that it has written. `os.stat` would ask for the file's times too, and Linux (6.13 and newer)
gives a file whose times somebody has seen a new one at its next write, which costs a durable write half as much again. So the
number of the file alone is asked for, with `statx`; systems without it have `os.stat`.

The interpreter's lock is kept meanwhile (`PyDLL`). What is asked about is open, so the answer is in memory and comes in two
microseconds; to give the lock away and wait for it again would take longer beside a busy loop.
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
_NUMBERS: Final = struct.Struct("@32xQ96xII")  # inode, and the device's two numbers


class DirectoryLost(OSError):
    """The data directory is not where it was: what is written goes where nobody will ever find it."""


class Place:
    """What was at a path when it was opened.

    It must stay open while this is used: a system may give the number of what is gone to what comes next, and some systems
    number a file anew once nobody has it open.

    Args:
        path: where it was opened.
        found: what its descriptor says of it.
    """

    __slots__ = ("_identity", "_path", "_raw")

    def __init__(self, path: Path, found: os.stat_result) -> None:
        self._path = path
        self._raw = os.fsencode(path)
        self._identity = _identity_of(found)

    def check(self) -> None:
        """Returns if the path still leads there.

        Raises:
            DirectoryLost: it does not.
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
    """Returns a function that asks with `statx`, or None where there is none or it is not allowed."""
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

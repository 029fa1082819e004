"""Runs the server's command on a disk of limited size: `python -m tests.crash.full_disk BYTES DIRECTORY ARGUMENTS…`.

The process limits itself: a call that would make the directory larger than the limit fails with ENOSPC. Writes by LMDB count
towards the limit but do not fail. A real file system of that size would be better, but mounting one needs privileges.
"""

import errno
import os
import sys
from typing import Any
from unittest.mock import patch

limit, directory = int(sys.argv[1]), sys.argv[2]
fallocate, pwritev = os.posix_fallocate, os.pwritev


def room() -> int:
    """Returns the number of bytes that the directory may still grow by."""
    used = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                used += os.stat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:  # the server has removed the file in the meantime
                continue
    return max(0, limit - used)


def require(descriptor: int, end: int) -> None:
    """Raises ENOSPC if a file cannot grow to `end` bytes."""
    growth = end - os.fstat(descriptor).st_size
    if growth > 0 and growth > room():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def limited_fallocate(descriptor: int, start: int, size: int) -> None:
    """Reserves space like `os.posix_fallocate`, within the limit."""
    require(descriptor, start + size)
    fallocate(descriptor, start, size)


def limited_pwritev(descriptor: int, buffers: Any, position: int, flags: int = 0) -> int:
    """Writes like `os.pwritev`, within the limit."""
    require(descriptor, position + sum(len(buffer) for buffer in buffers))
    return pwritev(descriptor, buffers, position, flags)


class LimitedStatus:
    """The result of `os.statvfs` for the limited disk."""

    def __init__(self) -> None:
        self.f_bavail, self.f_frsize = room(), 1


def main() -> None:
    """Runs the command with the limited calls in place of the system's."""
    from durable_streams_server.cli import main as command

    sys.argv[1:] = sys.argv[3:]
    with (
        patch.object(os, "posix_fallocate", limited_fallocate),
        patch.object(os, "pwritev", limited_pwritev),
        patch.object(os, "statvfs", lambda _: LimitedStatus()),
    ):
        command()


if __name__ == "__main__":
    main()

"""Runs the command on a disk of a limited size: `python -m tests.crash.full_disk BYTES DIRECTORY ARGUMENTS…`.

The limit is in the process: a call that makes a file larger fails with ENOSPC when the directory would pass it. LMDB's own
writes are counted, but do not fail. A file system of that size would be better, and needs privileges to be mounted.
"""

import errno
import os
import sys
from typing import Any

limit, directory = int(sys.argv[1]), sys.argv[2]
fallocate, pwritev, statvfs = os.posix_fallocate, os.pwritev, os.statvfs


def room() -> int:
    """Returns how many bytes the directory may still grow by."""
    used = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                used += os.stat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:  # it went meanwhile
                continue
    return max(0, limit - used)


def need(descriptor: int, end: int) -> None:
    """Fails if a file cannot grow to `end`."""
    growth = end - os.fstat(descriptor).st_size
    if growth > 0 and growth > room():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def limited_fallocate(descriptor: int, start: int, size: int) -> None:
    """As the system's."""
    need(descriptor, start + size)
    fallocate(descriptor, start, size)


def limited_pwritev(descriptor: int, buffers: Any, position: int, flags: int = 0) -> int:
    """As the system's."""
    need(descriptor, position + sum(len(buffer) for buffer in buffers))
    return pwritev(descriptor, buffers, position, flags)


class Limited:
    """What `statvfs` says of the limited disk."""

    def __init__(self) -> None:
        self.f_bavail, self.f_frsize = room(), 1


def main() -> None:
    """Runs the command."""
    os.posix_fallocate = limited_fallocate
    os.pwritev = limited_pwritev
    os.statvfs = lambda _: Limited()  # type: ignore[assignment,return-value]
    from durable_streams_server.cli import main as command

    sys.argv[1:] = sys.argv[3:]
    command()


if __name__ == "__main__":
    main()

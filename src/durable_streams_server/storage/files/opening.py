"""Opening a file of the data directory, and nothing that somebody has put in its place."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

#: No link is followed out of the directory, and what is no file, such as a FIFO, is not waited for.
_PLAIN: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def open_plain(path: Path, flags: int) -> tuple[int, os.stat_result]:
    """Opens a regular file, and returns its descriptor and what that says of it. A new file is its owner's alone.

    Raises:
        OSError: also for a link, a FIFO, or whatever else is there and is not a file.
    """
    try:
        descriptor = os.open(path, flags | _PLAIN, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a symbolic link", str(path)) from None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor, found

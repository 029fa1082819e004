"""Opens regular files of the data directory, and refuses links, FIFOs and anything else that is not a regular file."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

#: Flags that refuse symbolic links, which could lead out of the directory, and that do not block on a FIFO.
_PLAIN: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def open_plain(path: Path, flags: int) -> tuple[int, os.stat_result]:
    """Opens a regular file, and returns its descriptor and its status. Only the owner may read or write a new file.

    Raises:
        OSError: the file cannot be opened, or it is a link, a FIFO or anything else that is not a regular file.
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

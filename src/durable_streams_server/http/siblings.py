"""Warns if several workers of a host server keep streams in memory, because each worker would have streams of its own.

All workers of a server answer at the same address. The first worker binds an abstract Unix socket whose name contains a hash of that
address. The system releases the name when the process ends. Only Linux has such names.
"""

import errno
import hashlib
import os
import socket
import sys
from typing import Any, Final

from ..log import log as _log

#: The process id and the bound socket by server address. A forked copy of the process has another id.
_bound: Final[dict[str, tuple[int, socket.socket]]] = {}


def warn_of_siblings(server: Any) -> None:
    """Logs a warning, once in a process, if another process answers at the same address.

    Args:
        server: the value of `server` in an ASGI scope, which is a pair of host and port, or of path and None.
    """
    if sys.platform != "linux" or not server:
        return
    host, port = server
    address = str(host) if port is None else f"{host}:{port}"
    pid, _ = _bound.get(address, (0, None))
    if pid == os.getpid():
        return
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    _bound[address] = (os.getpid(), name)
    digest = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
    try:
        name.bind(
            f"\0durable-streams-server/{digest}"
        )  # a digest, because a name has 107 octets at most
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return  # in this case, other workers cannot be detected
        _log.warning(
            "streams are kept in memory, and another worker answers at %s too: each worker has its own streams, and a client reaches "
            "either; run one worker",
            address,
        )

"""Warns where several workers of one host server keep streams in memory: each has streams of its own.

Workers of one server answer at the same address. The first one takes a name that is made of that address, in the system's list of
abstract Unix sockets, which lets the name go when the process ends. Linux alone has such names.
"""

import errno
import hashlib
import os
import socket
import sys
from typing import Any, Final

from ..log import log as _log

_held: Final[dict[str, tuple[int, socket.socket]]] = {}  # by name: this process, and what holds it


def warn_of_siblings(server: Any) -> None:
    """Warns once in a process if another one answers at the same address.

    Args:
        server: the host and port, or the path, that ASGI names as the server's.
    """
    if sys.platform != "linux" or not server:
        return
    host, port = server
    address = str(host) if port is None else f"{host}:{port}"
    pid, _ = _held.get(address, (0, None))
    if pid == os.getpid():
        return
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    _held[address] = (os.getpid(), name)
    digest = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
    try:
        name.bind(f"\0durable-streams-server/{digest}")  # the system takes 107 octets at most
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return  # nobody knows then
        _log.warning(
            "streams are kept in memory, and another worker answers at %s too: each worker has its own streams, and a client reaches "
            "either; run one worker",
            address,
        )

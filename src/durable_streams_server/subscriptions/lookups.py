"""Resolves host names with the machine's resolver, on threads of its own.

If a name server does not answer, the resolver blocks its thread for up to a minute. The event loop has only a few threads for
lookups, so a few such names would delay all other names, and their threads would keep the process from ending. So this module
starts a daemon thread for each name, and concurrent lookups of the same name share a thread.
"""

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeAlias

#: Maximum lookups that run at once: one for each delivery. A thread that waits for a name server takes about 50 KiB.
_MAX_LOOKUPS: Final = 512

_Found: TypeAlias = "list[str] | Exception"


class SystemResolver:
    """Finds the addresses of host names. Belongs to one event loop.

    Args:
        most: the maximum number of names that are looked up at once. Further lookups fail.
    """

    def __init__(self, most: int = _MAX_LOOKUPS) -> None:
        self._most = most
        self._running: dict[tuple[str, int], asyncio.Future[_Found]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Returns the addresses of a host, each of them once.

        If the caller is cancelled, the lookup continues, because a call of the system's resolver cannot be interrupted.

        Raises:
            OSError: the name has no addresses, or too many lookups are running.
            UnicodeError: the name is invalid.
        """
        future = self._running.get((host, port))
        if future is None:
            future = self._start(host, port)
        found = await asyncio.shield(future)
        if isinstance(found, Exception):
            raise found
        return found

    def _start(self, host: str, port: int) -> "asyncio.Future[_Found]":
        if len(self._running) >= self._most:
            raise OSError("too many names are being looked up")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Found] = loop.create_future()

        def finish(found: _Found) -> None:
            del self._running[host, port]
            future.set_result(found)

        def run() -> None:
            found = _look_up(host, port)
            with suppress(RuntimeError):  # the event loop may have been closed by now
                loop.call_soon_threadsafe(finish, found)

        try:
            threading.Thread(target=run, name="webhook-lookup", daemon=True).start()
        except RuntimeError:
            raise OSError("no thread for a lookup") from None
        self._running[host, port] = future
        return future


def _look_up(host: str, port: int) -> _Found:
    """Returns the addresses of a host. Returns an exception instead of raising it, because the caller may have been cancelled meanwhile."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as error:
        return error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))

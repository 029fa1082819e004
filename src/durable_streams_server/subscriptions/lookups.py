"""Looks up names with the machine's resolver, on threads of its own.

The resolver blocks its thread for up to a minute if a name server does not answer. The event loop has a handful of threads for
lookups, so a few such names would make all other names wait, and the threads would keep the process from ending. Here each name
that is being looked up has a daemon thread, and lookups of the same name share it.
"""

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeAlias

_LOOKUPS: Final = (
    512  # as many as deliveries; a thread that waits for a name server takes about 50 KiB
)

_Found: TypeAlias = "list[str] | Exception"


class SystemResolver:
    """Finds the addresses of names. Belongs to one event loop.

    Args:
        most: how many names may be looked up at once. Further ones fail.
    """

    def __init__(self, most: int = _LOOKUPS) -> None:
        self._most = most
        self._running: dict[tuple[str, int], asyncio.Future[_Found]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Returns the addresses of a host, each of them once.

        A lookup goes on when its caller is cancelled, because a resolver's call cannot be broken off.

        Raises:
            OSError: the name has no addresses, or too many lookups are running.
            UnicodeError: the name is not a valid one.
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
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(finish, found)

        try:
            threading.Thread(target=run, name="webhook-lookup", daemon=True).start()
        except RuntimeError:
            raise OSError("no thread for a lookup") from None
        self._running[host, port] = future
        return future


def _look_up(host: str, port: int) -> _Found:
    """Returns an exception instead of raising it: nobody may be waiting for it any more."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as error:
        return error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))

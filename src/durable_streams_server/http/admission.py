"""How many connections are taken, so that the store always finds a file handle.

A checkpoint that finds none cannot finish, and a crowd of clients must not be able to bring that about. So the server counts its
connections, and refuses further ones with 503 while there still are handles for the store.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from ..errors import Unavailable
from ..log import log as _log
from ..protocol.decide import RETRY_SOON
from ..storage.files.logs import MAX_OPEN

#: Handles that no connection and no log takes: segments of the write-ahead log, the catalog, the lock, the listening socket,
#: the loop's own, the standard streams, and a few deliveries of webhooks.
OTHERS: Final = 64
#: Handles that a store on files may hold: a log and its index for each of the streams that it keeps open, and the others.
RESERVE: Final = 2 * MAX_OPEN + OTHERS
_LOG_EVERY: Final = 60.0  # seconds; refusals come in thousands
_NO_LIMIT: Final = sys.maxsize


def handle_limit() -> int:
    """Returns how many file handles this process may hold; where the system sets no limit, a number that none reaches."""
    if sys.platform == "win32":
        return _NO_LIMIT
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def most_connections(limit: int, on_files: bool) -> int:
    """Returns how many connections leave the handles that are kept back.

    Under a low limit, connections get half of the handles: a store finds fewer of its logs open then, and is slower, but a
    server that takes hardly any connection is of no use.

    Args:
        limit: how many handles the process may hold.
        on_files: whether the store keeps its streams in files.
    """
    return max(1, limit - min(RESERVE if on_files else OTHERS, limit // 2))


class Admission:
    """Decides on each new connection.

    Args:
        on_files: whether the store keeps its streams in files.
        max_connections: how many may be open at once; as many as leave handles for the store if not given.
        limit: how many file handles the process may hold; what the system says if not given.
        clock: seconds that only grow, for the log.

    Raises:
        ValueError: `max_connections` leaves no handles for the store.
    """

    def __init__(
        self,
        on_files: bool = True,
        max_connections: int | None = None,
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = handle_limit() if limit is None else limit
        most = most_connections(self._limit, on_files)
        if max_connections is not None and not 1 <= max_connections <= most:
            raise ValueError(
                f"max_connections is {max_connections}, but must be from 1 to {most}: this process may hold "
                f"{self._limit} file handles, and {self._limit - most} are kept back"
            )
        self.most = most if max_connections is None else max_connections
        self._clock = clock
        self._refused = 0  # since the last line in the log
        self._logged_at: float | None = None

    def admits(self, connections: int, handle: int) -> bool:
        """Returns whether one more connection is taken.

        Args:
            connections: how many there are.
            handle: the number of the new one's handle. The system gives out the lowest that is free, so all below are in use,
                also by what is not counted here, such as TLS handshakes and the host program's own files.
        """
        if connections < self.most and handle < self._limit - min(OTHERS, self._limit // 4):
            return True
        self._refused += 1
        now = self._clock()
        if self._logged_at is None or now - self._logged_at >= _LOG_EVERY:
            _log.warning(
                "connections are refused with 503: %d are open of %d at most, and the process may hold %d file handles; "
                "%d refused since this was last said",
                connections,
                self.most,
                self._limit,
                self._refused,
            )
            self._logged_at = now
            self._refused = 0
        return False

    def refusal(self) -> Unavailable:
        """Returns what a refused connection is told."""
        return Unavailable(
            "the server has as many connections as it takes", "TOO_MANY_CONNECTIONS", [RETRY_SOON]
        )


def handle_of(transport: Any) -> int:
    """Returns the number of a connection's file handle; 0 where it has none, or where numbers say nothing."""
    found = transport.get_extra_info("socket")
    return 0 if found is None or sys.platform == "win32" else int(found.fileno())


class AcceptErrors:
    """Says once a minute that the system has no handle for a new connection.

    asyncio's own loop reports that thousands of times a second (uvloop closes such connections without a word). Everything
    else that a loop reports is passed on.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: float | None = None

    def __call__(self, loop: Any, context: dict[str, Any]) -> None:
        """Takes what an event loop reports."""
        if "socket.accept() out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        else:
            self.say(context.get("exception"))

    def say(self, error: object) -> None:
        """Says, once a minute, why no connection is accepted."""
        now = self._clock()
        if self._logged_at is None or now - self._logged_at >= _LOG_EVERY:
            self._logged_at = now
            _log.warning("new connections wait: %s", error)

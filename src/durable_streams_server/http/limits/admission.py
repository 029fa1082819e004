"""How many connections are taken, so that the store always finds a file handle, and one client leaves room for the others.

A checkpoint that finds no handle cannot finish, and a crowd of clients must not be able to bring that about. So the server counts
its connections, and refuses further ones with 503 while there still are handles for the store. It counts them by address too, and
refuses those past an address's share.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from ...errors import Unavailable
from ...log import log as _log
from ...protocol.limits import RETRY_SOON
from ...storage.files.logs import MAX_OPEN
from .shares import Shares

#: Handles that no connection and no log takes: segments of the write-ahead log, the catalog, the lock, the listening socket,
#: the loop's own, the standard streams, and a few deliveries of webhooks.
OTHERS: Final = 64
#: Handles that a store on files may hold: a log and its index for each of the streams that it keeps open, and the others.
RESERVE: Final = 2 * MAX_OPEN + OTHERS
#: Connections that are taken unless a number is set. One with an event stream takes a handle and 4 KiB of the process's memory, so
#: these take 80 MiB. Whoever expects more clients than that says so.
DEFAULT_MAX_CONNECTIONS: Final = 20_000
#: Connections past the most, and past an address's share, for which TLS is begun all the same, since only over TLS can they be
#: told that they are refused.
TO_BE_REFUSED: Final = 16
_LOG_EVERY: Final = 60.0  # seconds
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
    """Decides on each new connection, and counts what each address has.

    Args:
        on_files: whether the store keeps its streams in files.
        max_connections: how many may be open at once; 20,000, or as many as leave handles for the store, if not given.
        limit: how many file handles the process may hold; what the system says if not given.
        clock: seconds that only grow, for the log.
        per_address: how many one address may have open at once; half of `max_connections` if not given.

    Attributes:
        most: how many connections may be open at once.

    Raises:
        ValueError: `max_connections` leaves no handles for the store, or `per_address` is below 1.
    """

    def __init__(
        self,
        on_files: bool = True,
        max_connections: int | None = None,
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        per_address: int | None = None,
    ) -> None:
        self._limit = handle_limit() if limit is None else limit
        most = most_connections(self._limit, on_files)
        if max_connections is not None and not 1 <= max_connections <= most:
            raise ValueError(
                f"max_connections is {max_connections}, but must be from 1 to {most}: this process may hold "
                f"{self._limit} file handles, and {self._limit - most} are kept back"
            )
        if per_address is not None and per_address < 1:
            raise ValueError(
                f"max_connections_per_address is {per_address}, but must be at least 1"
            )
        self.most = (
            min(most, DEFAULT_MAX_CONNECTIONS) if max_connections is None else max_connections
        )
        self._shares = Shares(max(1, self.most // 2) if per_address is None else per_address)
        self._handshakes = Shares(_NO_LIMIT)
        self._streams = 0  # of HTTP/2, besides the first of each connection
        self._full = Occasionally(clock)
        self._greedy = Occasionally(clock)

    @property
    def per_address(self) -> int:
        """How many connections one address may have open at once."""
        return self._shares.share

    def admit(self, connections: int, handle: int, address: str | None) -> Unavailable | None:
        """Takes one more connection, or returns what its client is told.

        One that is taken must be given back with `left`, once, when it is lost.

        Args:
            connections: how many there are.
            handle: the number of the new one's handle. The system gives out the lowest that is free, so all below are in use,
                also by what is not counted here, such as TLS handshakes and the host program's own files.
            address: what its client counts under, from `address_of`.
        """
        if not self._has_room(connections, handle):
            self._say_full(connections)
            return Unavailable(
                "the server has as many connections as it takes",
                "TOO_MANY_CONNECTIONS",
                retry_after=RETRY_SOON,
            )
        if not self._shares.take(address, 1):
            self._say_greedy(address)
            return Unavailable(
                "the server has as many connections from this address as it takes",
                "TOO_MANY_CONNECTIONS_FROM_ADDRESS",
                retry_after=RETRY_SOON,
            )
        return None

    def left(self, address: str | None) -> None:
        """Uncounts an admitted connection after it is closed."""
        self._shares.give_back(address, 1)

    def admit_stream(self, connections: int, address: str | None) -> Unavailable | None:
        """Takes one more HTTP/2 stream of a connection that has one, as if it were a connection, or returns what its client is told.

        One that is taken must be given back with `left_stream`, once, when it has ended.

        Args:
            connections: how many there are.
            address: what the client counts under.
        """
        refusal = self.admit(connections, 0, address)
        if refusal is None:
            self._streams += 1
        return refusal

    def left_stream(self, address: str | None) -> None:
        """Uncounts an admitted HTTP/2 stream after it has ended."""
        self._streams -= 1
        self.left(address)

    def admit_handshake(self, others: int, handle: int, address: str | None) -> bool:
        """Counts a client that is to begin TLS; returns whether it may. If so, `end_handshake` must follow, once.

        A client whose handshake is done is a connection, and `admit` decides on it.

        Args:
            others: how many connections and handshakes there are.
            handle: the number of its handle.
            address: what it counts under.
        """
        if not self._has_room(others - TO_BE_REFUSED, handle):
            self._say_full(others)
            return False
        held = self._shares.held(address) + self._handshakes.held(address)
        if held - TO_BE_REFUSED >= self._shares.share:
            self._say_greedy(address)
            return False
        return self._handshakes.take(address, 1)

    def end_handshake(self, address: str | None) -> None:
        """Gives back a handshake that was counted, however it ended."""
        self._handshakes.give_back(address, 1)

    def _has_room(self, connections: int, handle: int) -> bool:
        taken = connections + self._streams
        return taken < self.most and handle < self._limit - min(OTHERS, self._limit // 4)

    def _say_full(self, connections: int) -> None:
        if refused := self._full.due():
            _log.warning(
                "connections are refused with 503: %d are open of %d at most, and the process may hold %d file handles; "
                "%d refused since this was last said",
                connections,
                self.most,
                self._limit,
                refused,
            )

    def _say_greedy(self, address: str | None) -> None:
        if refused := self._greedy.due():
            _log.warning(
                "connections from %s are refused with 503: one address may have %d at most; "
                "%d refused since this was last said, of any address",
                address,
                self._shares.share,
                refused,
            )


class Occasionally:
    """Says once a minute that something has happened, and how often: refusals come in thousands.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times = 0  # since it was last said
        self._said_at: float | None = None

    def due(self) -> int:
        """Counts one event; returns how many there were since the last time that this was not 0, or 0 if a minute is not over."""
        self._times += 1
        now = self._clock()
        if self._said_at is not None and now - self._said_at < _LOG_EVERY:
            return 0
        times, self._times, self._said_at = self._times, 0, now
        return times


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
        self._waits = Occasionally(clock)

    def __call__(self, loop: Any, context: dict[str, Any]) -> None:
        """Takes what an event loop reports."""
        if "socket.accept() out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        else:
            self.say(context.get("exception"))

    def say(self, error: object) -> None:
        """Says, once a minute, why no connection is accepted."""
        if self._waits.due():
            _log.warning("new connections wait: %s", error)

"""Decides whether the server accepts a new connection.

A checkpoint cannot finish without file handles, and a crowd of clients must not be able to use them up. So the server counts its
connections, and refuses further ones with 503 while there are still handles left for the store. It also counts connections by client
address, so that one client leaves room for the others.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from ...errors import Unavailable
from ...log import log as _log
from ...protocol.limits import RETRY_SOON
from ...storage.files.logs import MAX_OPEN
from ..proxies import TrustedProxies
from .log_rate import LogRate
from .refusals import RefusalRate
from .shares import Shares

#: File handles reserved for everything but connections and stream logs: segments of the write-ahead log, the catalog, the lock, the
#: listening sockets, the event loop, the standard streams, and a few webhook deliveries.
OTHERS: Final = 64
#: File handles reserved for a store on files: a log and an index for each stream that the store keeps open, and `OTHERS`.
RESERVE: Final = 2 * MAX_OPEN + OTHERS
#: Default maximum number of connections. A connection with an event stream takes a file handle and 4 KiB of the
#: process's memory, so this many take 80 MiB.
DEFAULT_MAX_CONNECTIONS: Final = 20_000
#: Number of TLS handshakes that may begin beyond the maximum, or beyond an address's share, because a client can read a 503 only after
#: its handshake.
TO_BE_REFUSED: Final = 16
#: Maximum number of connections that are held. Each takes a file handle and some KiB.
MAX_HELD: Final = 1024
_NO_LIMIT: Final = sys.maxsize


def handle_limit() -> int:
    """Returns how many file handles this process may hold, or `sys.maxsize` if the system sets no limit."""
    if sys.platform == "win32":
        return _NO_LIMIT
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def most_connections(limit: int, on_files: bool) -> int:
    """Returns how many connections leave enough file handles for the store and the rest of the process.

    Under a low limit, connections get half of the handles. The store then keeps fewer logs open and is slower, but a server that accepts
    hardly any connections would be useless.

    Args:
        limit: maximum number of file handles of the process.
        on_files: whether the store keeps its streams in files.
    """
    return max(1, limit - min(RESERVE if on_files else OTHERS, limit // 2))


class Admission:
    """Decides on each new connection, HTTP/2 stream and TLS handshake, and counts them by client address.

    Args:
        on_files: whether the store keeps its streams in files.
        max_connections: maximum number of open connections. The default is 20,000, or fewer if that would leave too few file
            handles for the store.
        limit: maximum number of file handles of the process. The default is the system's limit.
        clock: returns monotonic time in seconds, which limits log messages.
        per_address: maximum number of open connections of one address. The default is half of `max_connections`.
        proxies: the trusted proxies.

    Attributes:
        max_connections: maximum number of open connections.
        proxies: the trusted proxies, whose connections are not counted by address.
        held: number of refused connections that have not got their 503 yet.

    Raises:
        ValueError: `max_connections` leaves too few file handles for the store, or `per_address` is below 1.
    """

    def __init__(
        self,
        on_files: bool = True,
        max_connections: int | None = None,
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        per_address: int | None = None,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self.proxies = proxies or TrustedProxies()
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
        self.max_connections = (
            min(most, DEFAULT_MAX_CONNECTIONS) if max_connections is None else max_connections
        )
        self._shares = Shares(
            max(1, self.max_connections // 2) if per_address is None else per_address
        )
        self._handshakes = Shares(_NO_LIMIT)
        self._most = most
        self._refusals = RefusalRate(clock)
        self.held = 0
        self._streams = 0  # HTTP/2 streams, besides the first one of each connection
        self._full_rate = LogRate(clock)
        self._greedy_rate = LogRate(clock)

    @property
    def per_address(self) -> int:
        """Maximum number of open connections of one address."""
        return self._shares.share

    @property
    def streams(self) -> int:
        """Number of HTTP/2 streams that count as connections: all but the first one of each connection."""
        return self._streams

    def admit(self, connections: int, handle: int, address: str | None) -> Unavailable | None:
        """Counts a new connection and returns None, or returns the error with which to refuse the connection.

        After a counted connection is lost, the caller must call `release` once.

        Args:
            connections: number of open connections.
            handle: number of the new connection's file handle. The system assigns the lowest free number, so every lower one is in
                use, perhaps by something that is not counted here, such as a TLS handshake or a file of the host program.
            address: the client's address from `TrustedProxies.counted_address`.
        """
        if not self._has_room(connections, handle):
            self._log_full(connections)
            return Unavailable(
                "the server has as many connections as it takes",
                "TOO_MANY_CONNECTIONS",
                retry_after=RETRY_SOON,
            )
        if not self._shares.take(address, 1):
            self._log_greedy(address)
            return Unavailable(
                "the server has as many connections from this address as it takes",
                "TOO_MANY_CONNECTIONS_FROM_ADDRESS",
                retry_after=RETRY_SOON,
            )
        return None

    def hold(self, handle: int) -> bool:
        """Returns whether a refused connection must be held for `HOLD` seconds before it is answered and closed.

        If so, the caller must then call `end_hold` once. Nothing may be read from the connection meanwhile.

        Args:
            handle: number of the connection's file handle. Nothing is held if the store may need it.
        """
        if not self._refusals.must_hold() or self.held >= MAX_HELD or handle >= self._most:
            return False
        self.held += 1
        return True

    def end_hold(self) -> None:
        """Stops counting a held connection, because it is being answered now, or is lost."""
        self.held -= 1

    def release(self, address: str | None) -> None:
        """Stops counting a connection that `admit` counted."""
        self._shares.give_back(address, 1)

    def admit_stream(self, connections: int, address: str | None) -> Unavailable | None:
        """Counts a further HTTP/2 stream of a connection and returns None, or returns the error with which to refuse the stream.

        A stream counts as one connection. After a counted stream has ended, the caller must call `release_stream` once.

        Args:
            connections: number of open connections.
            address: the client's address from `TrustedProxies.counted_address`.
        """
        refusal = self.admit(connections, 0, address)
        if refusal is None:
            self._streams += 1
        return refusal

    def release_stream(self, address: str | None) -> None:
        """Stops counting an HTTP/2 stream that `admit_stream` counted."""
        self._streams -= 1
        self.release(address)

    def admit_handshake(self, others: int, handle: int, address: str | None) -> bool:
        """Counts a TLS handshake and returns True, or returns False if the server should close the socket.

        After a counted handshake has ended, the caller must call `release_handshake` once. If the handshake succeeded, `admit` decides
        on the connection that follows.

        Args:
            others: number of open connections and handshakes.
            handle: number of the socket's file handle.
            address: the client's address from `TrustedProxies.counted_address`.
        """
        if not self._has_room(others - TO_BE_REFUSED, handle):
            self._log_full(others)
            return False
        held = self._shares.held(address) + self._handshakes.held(address)
        if held - TO_BE_REFUSED >= self._shares.share:
            self._log_greedy(address)
            return False
        return self._handshakes.take(address, 1)

    def release_handshake(self, address: str | None) -> None:
        """Stops counting a handshake that `admit_handshake` counted."""
        self._handshakes.give_back(address, 1)

    def _has_room(self, connections: int, handle: int) -> bool:
        """Returns whether one more connection fits both the maximum and the file handles."""
        taken = connections + self._streams
        return taken < self.max_connections and handle < self._limit - min(OTHERS, self._limit // 4)

    def _log_full(self, connections: int) -> None:
        """Logs, at most once a minute, that the server has its maximum number of connections."""
        if refused := self._full_rate.count():
            _log.warning(
                "connections are refused with 503: %d are open of %d at most, and the process may hold %d file handles; "
                "%d refused since this was last said",
                connections,
                self.max_connections,
                self._limit,
                refused,
            )

    def _log_greedy(self, address: str | None) -> None:
        """Logs, at most once a minute, that an address has its maximum number of connections."""
        if refused := self._greedy_rate.count():
            _log.warning(
                "connections from %s are refused with 503: one address may have %d at most; "
                "%d refused since this was last said, of any address",
                address,
                self._shares.share,
                refused,
            )


def handle_of(transport: Any) -> int:
    """Returns the number of a connection's file handle.

    Returns 0 if the connection has no socket, and on Windows, where the numbers do not say how many handles are in use.
    """
    found = transport.get_extra_info("socket")
    return 0 if found is None or sys.platform == "win32" else int(found.fileno())

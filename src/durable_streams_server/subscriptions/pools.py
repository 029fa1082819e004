"""Keeps a small connection pool for each receiver, so that an exchange costs the same however many other receivers there are.

Whenever an exchange begins or ends, httpcore checks every connection of the pool and polls the sockets of the idle ones. With one
pool for all receivers, each exchange would check hundreds of connections. Concurrent exchanges with one receiver share its pool. A
pool is closed when no exchange has used it for a while.

    with pools.use(receiver) as pool:
        async with pool.stream("POST", url) as reply: ...
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import httpcore2

from .slots import MAX_PER_HOST

#: Maximum connections to one receiver. It equals the maximum deliveries to one host, so no delivery waits for a connection.
MAX_CONNECTIONS: Final = MAX_PER_HOST
#: Maximum idle connections that one pool keeps, because httpcore polls all of them at each exchange. A series of deliveries needs
#: one. A burst of deliveries needs several, and opening them again would cost TLS handshakes.
MAX_IDLE_CONNECTIONS: Final = 8
#: Seconds that a connection or a pool stays open after its last exchange. Most receivers keep idle connections open for longer, so
#: they rarely close a connection just as the next exchange begins.
IDLE_SECONDS: Final = 15.0
#: Maximum idle pools. Together they have at most 256 open sockets.
MAX_IDLE_POOLS: Final = 32


class Receiver(NamedTuple):
    """The scheme, host and port of a receiver."""

    scheme: str
    host: str
    port: int


class _Pool:
    """A connection pool and the number of exchanges that use it."""

    __slots__ = ("expires", "pool", "users")

    def __init__(self, pool: httpcore2.AsyncConnectionPool) -> None:
        self.pool = pool
        self.users = 0
        #: The time of the event loop's clock at which the pool is closed, valid while the pool is idle.
        self.expires = 0.0


class Pools:
    """Lends connection pools to exchanges. Belongs to one event loop. Call `aclose` at the end.

    Args:
        ssl_context: verifies the certificates of receivers.
        network: opens connections.
    """

    def __init__(self, ssl_context: ssl.SSLContext, network: httpcore2.AsyncNetworkBackend) -> None:
        self._ssl_context = ssl_context
        self._network = network
        self._used: dict[Receiver, _Pool] = {}
        self._idle: OrderedDict[Receiver, _Pool] = OrderedDict()  # in order of expiry
        self._timer: asyncio.TimerHandle | None = None  # one timer for all idle pools
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @contextmanager
    def use(self, receiver: Receiver) -> Iterator[httpcore2.AsyncConnectionPool]:
        """Lends the pool of a receiver to one exchange. Opens a pool if the receiver has none."""
        one = self._used.get(receiver)
        if one is None:
            one = self._idle.pop(receiver, None) or _Pool(self._open())
            self._used[receiver] = one
        one.users += 1
        try:
            yield one.pool
        finally:
            one.users -= 1
            if not one.users:
                del self._used[receiver]
                self._keep(receiver, one)

    async def aclose(self) -> None:
        """Closes all connections. Exchanges that are running fail, or close their pool when they end."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._close_first()
        for one in tuple(self._used.values()):
            # Closing the pool now would leak connections that are being opened. The last exchange closes the pool.
            for connection in one.pool.connections:
                await connection.aclose()
        while self._closing:
            await asyncio.wait(self._closing)

    def _open(self) -> httpcore2.AsyncConnectionPool:
        return httpcore2.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=self._network,
        )

    def _keep(self, receiver: Receiver, one: _Pool) -> None:
        """Keeps an idle pool for later exchanges, unless the pool has no connection."""
        if not one.pool.connections:
            return
        one.expires = asyncio.get_running_loop().time() + IDLE_SECONDS
        self._idle[receiver] = one
        if self._is_closed or len(self._idle) > MAX_IDLE_POOLS:
            self._close_first()
        self._set_timer()

    def _set_timer(self) -> None:
        """Sets the timer for the idle pool that expires first, unless the timer is set.

        If that pool is used again, the timer still fires, but closes only pools that have expired by then.
        """
        if self._timer is None and self._idle:
            first = next(iter(self._idle.values()))
            self._timer = asyncio.get_running_loop().call_at(first.expires, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._idle and next(iter(self._idle.values())).expires <= now:
            self._close_first()
        self._set_timer()

    def _close_first(self) -> None:
        """Begins to close the idle pool that expires first. An exchange that begins meanwhile opens a new pool."""
        _, one = self._idle.popitem(last=False)
        task = asyncio.get_running_loop().create_task(one.pool.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

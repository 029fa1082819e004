"""One small connection pool for each receiver, so that an exchange costs the same however many other receivers there are.

A pool of httpcore looks at each of its connections, and polls the sockets of the idle ones, whenever an exchange begins or ends. One
pool for all receivers would look at hundreds. Two exchanges with one receiver share its pool. A pool nobody has used for a while
is closed, but never while an exchange uses it.

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

#: Connections to one receiver. A host has this many deliveries at once, so none of them waits for a connection.
MAX_CONNECTIONS: Final = MAX_PER_HOST
#: Idle connections that one pool keeps. A pool polls each of them when an exchange begins and when it ends. One delivery after
#: another needs one; a burst of deliveries is answered by several at once, and opening connections again costs TLS handshakes.
MAX_IDLE_CONNECTIONS: Final = 8
#: Seconds that a connection, and a pool, stays open after its last exchange. Most receivers keep idle connections longer, so a
#: connection is rarely cut just as the next exchange begins.
IDLE_SECONDS: Final = 15.0
#: Pools that are kept without an exchange. Together they hold 128 file handles at most.
MAX_IDLE_POOLS: Final = 32


class Receiver(NamedTuple):
    """Where a pool's connections lead."""

    scheme: str
    host: str
    port: int


class _Pool:
    __slots__ = ("expires", "pool", "users")

    def __init__(self, pool: httpcore2.AsyncConnectionPool) -> None:
        self.pool = pool
        self.users = 0  # exchanges that use the pool now
        self.expires = (
            0.0  # while the pool is idle: the time of the loop's clock at which it is closed
        )


class Pools:
    """Lends connection pools to exchanges. Belongs to one event loop; close it with `aclose`.

    Args:
        ssl_context: verifies receivers.
        network: opens connections.
    """

    def __init__(self, ssl_context: ssl.SSLContext, network: httpcore2.AsyncNetworkBackend) -> None:
        self._ssl_context = ssl_context
        self._network = network
        self._used: dict[Receiver, _Pool] = {}
        self._idle: OrderedDict[Receiver, _Pool] = (
            OrderedDict()
        )  # the one that expires first is first
        self._timer: asyncio.TimerHandle | None = None  # one for all idle pools
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @contextmanager
    def use(self, receiver: Receiver) -> Iterator[httpcore2.AsyncConnectionPool]:
        """Lends a receiver's pool to one exchange, and opens a pool if the receiver has none."""
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
        """Closes every connection. Exchanges that still run fail, or close their pool when they end."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._close_first()
        for one in tuple(self._used.values()):
            # The pool must not forget connections that are still being opened, so the pool itself is closed by its last user.
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
        """Keeps a pool that no exchange uses any more, if it has a connection to keep."""
        if not one.pool.connections:
            return
        one.expires = asyncio.get_running_loop().time() + IDLE_SECONDS
        self._idle[receiver] = one
        if self._is_closed or len(self._idle) > MAX_IDLE_POOLS:
            self._close_first()
        self._set_timer()

    def _set_timer(self) -> None:
        """Has the first idle pool closed in time. A pool that is used again leaves the timer as it is, which then closes nothing."""
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
        """Begins to close the first idle pool. An exchange that comes meanwhile opens another one."""
        _, one = self._idle.popitem(last=False)
        task = asyncio.get_running_loop().create_task(one.pool.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

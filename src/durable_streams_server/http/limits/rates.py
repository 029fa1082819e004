"""Limits the appends, and the bytes of appends, that one client may send in a second.

Each client has a token bucket for appends and one for bytes. A client whose buckets are full takes no memory. The number of buckets is
bounded. Once it is reached, further clients share buckets, chosen by a hash of their keys. So a flood of addresses neither uses up the memory
nor makes the server forget a client that is at its limit.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ...errors import TooManyRequests
from ...protocol.token_bucket import BURST, time_of, wait_for, whole_seconds
from ...protocol.units import NANOSECONDS

#: Maximum number of clients with buckets of their own. Each takes about 300 bytes.
MAX_RATED_CLIENTS: Final = 50_000
#: Number of buckets that further clients share.
_SHARED: Final = 4096
#: Seconds between two sweeps, and the clients that a sweep examines. A sweep takes less than a millisecond.
_SWEEP: Final = 1.0
_SWEPT: Final = 1000
#: Clients that are examined to make room for another one.
_EXAMINED: Final = 4

#: The times at which the bucket for appends and the bucket for bytes are full again.
_Buckets = list[int]


class Rates:
    """Counts the appends of each client, and refuses those above its rates.

    Args:
        appends: maximum number of appends of one client in a second, or None for no limit.
        octets: maximum bytes of appends of one client in a second, or None for no limit.
        clock: returns monotonic time in nanoseconds.

    Attributes:
        limits_all: whether there is a limit for clients that have none of their own.
        appends_refused: number of requests refused because of the number of appends.
        octets_refused: number of requests refused because of the bytes of appends.
    """

    def __init__(
        self,
        appends: int | None,
        octets: int | None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.limits_all = appends is not None or octets is not None
        self._appends = appends
        self._octets = octets
        self._of_append = 0 if appends is None else time_of(1, appends)
        self._clock = clock
        self._clients: OrderedDict[str, _Buckets] = OrderedDict()
        self._shared: list[_Buckets] = []
        self._timer: asyncio.TimerHandle | None = None
        self.appends_refused = self.octets_refused = 0

    def __len__(self) -> int:
        """Returns the number of clients with buckets of their own."""
        return len(self._clients)

    def take(
        self, client: str, size: int, appends: int | None = None, octets: int | None = None
    ) -> None:
        """Counts an append.

        Args:
            client: the key of the client.
            size: bytes of the body.
            appends: a limit on appends in place of the default, or None.
            octets: a limit on bytes in place of the default, or None.

        Raises:
            TooManyRequests: TOO_MANY_APPENDS or TOO_MANY_BYTES. Nothing is counted then.
        """
        of_append = self._of_append if appends is None else time_of(1, appends)
        octets = octets or self._octets
        if not of_append and octets is None:
            return
        now = self._clock()
        buckets = self._clients.get(client)
        if buckets is None:
            buckets = self._enter(client, now)
        of_octets = 0 if octets is None else size * NANOSECONDS // octets  # inlines `time_of`
        for_appends, for_octets = buckets
        if for_appends + of_append > now + BURST or for_octets + of_octets > now + BURST:
            self._refuse(
                wait_for(for_appends, now, of_append), wait_for(for_octets, now, of_octets)
            )
        # This inlines `pay`, because an append takes only a few microseconds.
        buckets[0] = (for_appends if for_appends > now else now) + of_append
        buckets[1] = (for_octets if for_octets > now else now) + of_octets

    def check(
        self, client: str, size: int, appends: int | None = None, octets: int | None = None
    ) -> None:
        """Checks that an append would be counted now. Counts nothing. The arguments are those of `take`.

        Raises:
            TooManyRequests: TOO_MANY_APPENDS or TOO_MANY_BYTES.
        """
        buckets = self._clients.get(client)
        if buckets is None:
            if len(self._clients) < MAX_RATED_CLIENTS or not self._shared:
                return
            buckets = self._shared_by(client)
        now = self._clock()
        appends, octets = appends or self._appends, octets or self._octets
        for_appends, for_octets = buckets
        self._refuse(
            0 if appends is None else wait_for(for_appends, now, time_of(1, appends)),
            0 if octets is None else wait_for(for_octets, now, time_of(size, octets)),
        )

    def sweep(self) -> None:
        """Forgets some of the clients whose buckets are full again."""
        now = self._clock()
        for _ in range(min(_SWEPT, len(self._clients))):
            self._forget_oldest(now)
        if not self._clients and all(max(buckets) <= now for buckets in self._shared):
            self._shared = []

    def _refuse(self, for_appends: int, for_octets: int) -> None:
        """Refuses an append that would have to wait.

        Args:
            for_appends: nanoseconds until the number of appends allows it.
            for_octets: nanoseconds until the bytes of appends allow it.
        """
        if for_appends:
            self.appends_refused += 1
            raise TooManyRequests(
                "this client appends too often",
                "TOO_MANY_APPENDS",
                retry_after=whole_seconds(max(for_appends, for_octets)),
            )
        if for_octets:
            self.octets_refused += 1
            raise TooManyRequests(
                "this client appends too many bytes",
                "TOO_MANY_BYTES",
                retry_after=whole_seconds(for_octets),
            )

    def _enter(self, client: str, now: int) -> _Buckets:
        """Returns full buckets for a client that has none, or shared buckets if there are too many clients."""
        clients = self._clients
        if len(clients) >= MAX_RATED_CLIENTS:
            for _ in range(_EXAMINED):
                self._forget_oldest(now)
            if len(clients) >= MAX_RATED_CLIENTS:
                if not self._shared:
                    self._shared = [[0, 0] for _ in range(_SHARED)]
                return self._shared_by(client)
        buckets = clients[client] = [0, 0]
        if self._timer is None:
            self._schedule()
        return buckets

    def _shared_by(self, client: str) -> _Buckets:
        """Returns the buckets that a client shares. Python hashes texts with a random key, so clients cannot choose them."""
        return self._shared[hash(client) % _SHARED]

    def _forget_oldest(self, now: int) -> None:
        """Forgets the client that was examined longest ago if its buckets are full. Otherwise moves the client to the end of the line."""
        client, buckets = self._clients.popitem(last=False)
        if max(buckets) > now:
            self._clients[client] = buckets

    def _schedule(self) -> None:
        """Schedules the next sweep."""
        self._timer = asyncio.get_running_loop().call_later(_SWEEP, self._on_timer)

    def _on_timer(self) -> None:
        """Sweeps, and schedules the next sweep while clients are left."""
        self._timer = None
        self.sweep()
        if self._clients or self._shared:
            self._schedule()

"""How many deliveries run at once: in all, and to one host, so that a host that does not answer delays no other."""

import asyncio
from collections import deque
from typing import Final

MAX_DELIVERIES: Final = 512  # in all; each is a task, a socket and its body
MAX_PER_HOST: Final = 8  # to one host; so 60 hosts that never answer leave no other waiting


class Slots:
    """Grants places to those who wait, in order for each host.

    Args:
        most: places in all.
        per_host: places for one host.
    """

    def __init__(self, most: int = MAX_DELIVERIES, per_host: int = MAX_PER_HOST) -> None:
        self._free = most
        self._per_host = per_host
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return sum(self._taken.values())

    async def take(self, host: str) -> None:
        """Returns when there is a place for a delivery to `host`; `give_back` must follow."""
        if self._free and self._taken.get(host, 0) < self._per_host:
            self._grant(host)
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(host, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give_back(host)
            raise

    def give_back(self, host: str) -> None:
        """Ends what `take` began."""
        self._free += 1
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]
        for other in (host, *self._waiting):
            if not self._free:
                return
            self._let_in(other)

    def _let_in(self, host: str) -> None:
        queue = self._waiting.get(host)
        while queue and self._free and self._taken.get(host, 0) < self._per_host:
            future = queue.popleft()
            if not future.done():
                self._grant(host)
                future.set_result(None)
        if queue is not None and not queue:
            self._waiting.pop(host, None)

    def _grant(self, host: str) -> None:
        self._free -= 1
        self._taken[host] = self._taken.get(host, 0) + 1

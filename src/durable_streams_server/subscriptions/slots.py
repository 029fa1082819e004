"""How many deliveries run at once: in all, and to one host, so that a host that does not answer delays no other."""

import asyncio
from collections import deque
from typing import Final

MAX_DELIVERIES: Final = 512  # in all; each is a task, a socket and its body
MAX_PER_HOST: Final = 8  # to one host; so 60 hosts that never answer leave no other waiting


class Slots:
    """Grants places to those who wait: to the hosts in turn, and in order for each host.

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
            else:
                self._forget(host, future)
            raise

    def give_back(self, host: str) -> None:
        """Ends what `take` began. The place that it makes is for one at most: before it, none who waits could have had one."""
        self._free += 1
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]
        for other in tuple(self._waiting):
            if self._taken.get(other, 0) < self._per_host and self._let_in(other):
                return

    def _let_in(self, host: str) -> bool:
        """Gives a place to the first who waits for a host, which is then the last to have a turn; False if nobody waits any more."""
        queue = self._waiting.pop(host)
        while queue:
            future = queue.popleft()
            if future.done():
                continue  # cancelled, and about to leave
            if queue:
                self._waiting[host] = queue
            self._grant(host)
            future.set_result(None)
            return True
        return False

    def _forget(self, host: str, future: "asyncio.Future[None]") -> None:
        queue = self._waiting.get(host, deque())
        if future in queue:
            queue.remove(future)
            if not queue:
                del self._waiting[host]

    def _grant(self, host: str) -> None:
        self._free -= 1
        self._taken[host] = self._taken.get(host, 0) + 1

"""Large reads: each run of bytes is read once, shared by all its readers, and counted against one budget while anyone holds it.

A page stays in memory until a slow client has received it. So a large run is one `Run` object for all readers. The page, the response and
the connection hold this object until the client has received the last byte. The object returns its bytes to the budget when the last
reference is dropped. While the budget is spent, further large reads wait, and the server may close the slowest connections.

A large read waits in line with other long work, because joining, framing and writing megabytes takes milliseconds. Only a run that is
already in memory is returned immediately, if the turn of the event loop has time for it.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from ..protocol.units import KIB, MIB
from ..storage.slow_work import SEND_MEMORY, SlowWork
from ..storage.ticket import Cancelled, Ticket

#: Minimum bytes of a run that counts against the budget. The number of connections bounds the memory of smaller runs.
LARGE: Final = 64 * KIB
#: Maximum bytes of runs that stay cached after their last reader, because many readers usually ask for the same few pages.
KEPT: Final = 40 * MIB

Key = tuple[int, int, int]


def _never(_: int) -> bool:
    return False


class SendBudget:
    """Limits the bytes of large runs that all readers together may hold.

    Args:
        limit: maximum bytes. A single run that is larger is admitted while no other run is held.
        slow_work: remembers reads that waited long.

    Attributes:
        held: bytes that are held now.
        on_wait: called when a read has to wait.
        on_pressure: called with the wanted size before a read has to wait, so that cached runs can be evicted.
    """

    def __init__(self, limit: int, slow_work: SlowWork | None = None) -> None:
        self.limit = limit
        self._slow_work = slow_work or SlowWork()
        self.held = 0
        self.on_wait: Callable[[], None] = _nothing
        self.on_pressure: Callable[[int], None] = _ignore
        self._waiting: deque[tuple[int, Ticket[bool], float]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop on which reads wait
        self._is_planned = False

    @property
    def wanted(self) -> int:
        """The bytes that the first waiting read needs, or 0 if no read waits."""
        self._drop_cancelled()
        return self._waiting[0][0] if self._waiting else 0

    @property
    def wanted_in_all(self) -> int:
        """The bytes that all waiting reads need together."""
        return sum(size for size, ticket, _ in self._waiting if not ticket.done)

    def take(self, size: int) -> Ticket[bool]:
        """Reserves bytes. The ticket resolves when the budget has room for them. Cancelling it gives up the place in the queue."""
        self._drop_cancelled()
        if not self._waiting and self._has_room(size):
            self.held += size
            return Ticket.of(True)
        ticket: Ticket[bool] = Ticket()
        self._loop = asyncio.get_running_loop()
        self._waiting.append((size, ticket, self._slow_work.clock()))
        self.on_wait()
        return ticket

    def add(self, size: int) -> None:
        """Counts bytes that are already in memory, even if the budget has no room for them."""
        self.held += size

    def take_now(self, size: int) -> bool:
        """Reserves bytes if the budget has room and no read waits. Returns whether the bytes were reserved."""
        if self.wanted or not self._has_room(size):
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """Returns bytes to the budget. Waiting reads continue in the next turn of the event loop."""
        self.held -= size
        loop = self._loop
        if self._waiting and not self._is_planned and loop is not None and not loop.is_closed():
            self._is_planned = True
            loop.call_soon(self._admit_waiting)

    def _admit_waiting(self) -> None:
        self._is_planned = False
        while size := self.wanted:
            if not self._has_room(size):
                return
            _, ticket, since = self._waiting.popleft()
            self._slow_work.add(SEND_MEMORY, since, self._slow_work.clock())
            self.held += size
            ticket.resolve(True)

    def _has_room(self, size: int) -> bool:
        if self.held + size > self.limit:
            self.on_pressure(size)
        return self.held + size <= self.limit or self.held == 0

    def _drop_cancelled(self) -> None:
        while self._waiting and self._waiting[0][1].done:
            self._waiting.popleft()


class Run:
    """A run of bytes that counts against the send budget while anyone holds a reference to this object.

    Callers must keep this object and not only its bytes.

    Args:
        budget: the send budget.
        data: the bytes.
        taken: the number of bytes that were reserved; the length of the data by default.

    Attributes:
        data: the bytes.
    """

    __slots__ = ("__weakref__", "_budget", "_encoded", "_size", "data")

    def __init__(self, budget: SendBudget, data: bytes, taken: int | None = None) -> None:
        self._budget = budget
        self._size = len(data) if taken is None else taken
        self._encoded: bytes | None = None
        self.data = data

    def encoded(self, size: int, make: Callable[[], bytes]) -> bytes | None:
        """Returns the encoded bytes, which are encoded once for all readers. Returns None if the budget has no room for them.

        Args:
            size: number of encoded bytes.
            make: encodes the data. Every caller must encode in the same way.
        """
        if self._encoded is None and self._budget.take_now(size):
            self._size += size
            self._encoded = make()
        return self._encoded

    def __del__(self) -> None:
        self._budget.give_back(self._size)


class LargeReads:
    """Reads large runs. Concurrent and repeated readers of the same run share one object.

    Args:
        budget: the send budget.
        line: queues a function until it is its turn.
        has_time: returns whether this turn of the event loop has time to send a number of bytes.

    Attributes:
        kept_bytes: bytes of the runs in the cache.
    """

    def __init__(
        self,
        budget: SendBudget,
        line: Callable[[Callable[[], None]], None],
        has_time: Callable[[int], bool] = _never,
    ) -> None:
        self.budget = budget
        self._line = line
        self._has_time = has_time
        self._held: WeakValueDictionary[Key, Run] = WeakValueDictionary()
        self._kept: OrderedDict[Key, Run] = OrderedDict()
        self._loading: dict[Key, list[Ticket[Run]]] = {}
        self.kept_bytes = 0
        budget.on_pressure = self._evict

    def read(self, key: Key, read: Callable[[], Ticket[bytes]]) -> Ticket[Run]:
        """Returns a ticket for a run. It resolves when it is the reader's turn and the budget has room.

        Args:
            key: incarnation, start and end of the run.
            read: reads the bytes from the store.
        """
        ticket: Ticket[Run] = Ticket()
        readers = self._loading.get(key)
        if readers is not None:
            readers.append(ticket)
            return ticket
        found = self._kept.get(key) or self._held.get(key)
        if found is not None:
            if self._has_time(len(found.data)):
                return Ticket.of(found)
            self._line(lambda: ticket.resolve(found))
            return ticket
        readers = self._loading[key] = [ticket]
        taken = self.budget.take(key[2] - key[1])
        ticket.on_cancel(lambda: self._drop_if_unwanted(key, taken))
        taken.add_callback(lambda done: self._queue_load(key, done, read))
        return ticket

    def _drop_if_unwanted(self, key: Key, taken: Ticket[bool]) -> None:
        """Gives up the place in the budget's queue if all readers of a run have cancelled."""
        readers = self._loading.get(key, ())
        if not taken.done and all(reader.done for reader in readers):
            del self._loading[key]
            taken.cancel()

    def _queue_load(self, key: Key, taken: Ticket[bool], read: Callable[[], Ticket[bytes]]) -> None:
        try:
            taken.result()
        except Cancelled:
            return
        self._line(lambda: self._load(key, read))

    def _load(self, key: Key, read: Callable[[], Ticket[bytes]]) -> None:
        size = key[2] - key[1]
        if all(reader.done for reader in self._loading[key]):
            del self._loading[key]
            self.budget.give_back(size)
            return
        try:
            found = read()
        except Exception as error:
            found = Ticket.failed(error)
        found.add_callback(lambda done: self._loaded(key, done))

    def _loaded(self, key: Key, done: Ticket[bytes]) -> None:
        readers = self._loading.pop(key)
        size = key[2] - key[1]
        try:
            run = Run(self.budget, done.result(), size)
        except Exception as error:
            self.budget.give_back(size)
            for reader in readers:
                reader.fail(error)
            return
        self._cache(key, run)
        for reader in readers:
            self._resolve_in_turn(reader, run)

    def _resolve_in_turn(self, reader: Ticket[Run], run: Run) -> None:
        """Queues the ticket of one reader. Each is resolved in its own step, because its reader then writes the run to a socket."""
        self._line(lambda: reader.resolve(run))

    def _cache(self, key: Key, run: Run) -> None:
        self._held[key] = run
        if self.budget.wanted:
            return  # other reads wait until the budget gets these bytes back
        self._kept[key] = run
        self.kept_bytes += len(run.data)
        while self.kept_bytes > KEPT:
            self._evict_oldest()

    def _evict(self, size: int) -> None:
        """Evicts cached runs until the budget has room for `size` bytes."""
        while self._kept and self.budget.held + size > self.budget.limit:
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        _, run = self._kept.popitem(last=False)
        self.kept_bytes -= len(run.data)


def _nothing() -> None:
    return


def _ignore(_: int) -> None:
    return

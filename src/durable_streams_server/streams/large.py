"""Large runs of bytes on their way to readers: shared by all who read the same, and together within one budget.

A reader that stalls holds what it is being sent. So a large run is one `Run` object for everybody: the page, the response and the
connection hold that object until the client has taken the last byte, and the object gives its bytes back to the budget when the
last of them lets go. While the budget is spent, further large reads wait, and whoever sends may cut the slowest.

A large read stands in the line of long work: to join, frame and write megabytes takes milliseconds. Only one that somebody has read
already goes ahead at once, if the loop's turn has time for it.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from ..protocol.units import KIB, MIB
from ..storage.ticket import Cancelled, Ticket

LARGE: Final = (
    64 * KIB
)  #: bytes from which on a run counts; smaller ones are bounded by the number of connections
#: Bytes of runs that are kept for the next reader after the last has let go: what crowds of readers ask for is the same few pages.
KEPT: Final = 40 * MIB

Key = tuple[int, int, int]


def _never(_: int) -> bool:
    return False


class SendBudget:
    """How many bytes of large runs may be held at once, over all readers.

    Args:
        limit: the most bytes. A run that is larger by itself is let in when nothing else is held.

    Attributes:
        held: bytes that are held now.
        on_wait: called when a read must wait.
        on_pressure: called before a read must wait: what is held for nobody may be let go.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.on_wait: Callable[[], None] = _nothing
        self.on_pressure: Callable[[int], None] = _ignore
        self._waiting: deque[tuple[int, Ticket[bool]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None  # on which reads wait
        self._is_planned = False

    @property
    def wanted(self) -> int:
        """The bytes that the first read in line waits for; 0 if none waits."""
        self._drop_cancelled()
        return self._waiting[0][0] if self._waiting else 0

    @property
    def wanted_in_all(self) -> int:
        """The bytes that all reads in line wait for."""
        return sum(size for size, ticket in self._waiting if not ticket.done)

    def take(self, size: int) -> Ticket[bool]:
        """Takes bytes, now or when there is room. Whoever no longer wants them cancels the ticket."""
        self._drop_cancelled()
        if not self._waiting and self._has_room(size):
            self.held += size
            return Ticket.of(True)
        ticket: Ticket[bool] = Ticket()
        self._loop = asyncio.get_running_loop()
        self._waiting.append((size, ticket))
        self.on_wait()
        return ticket

    def add(self, size: int) -> None:
        """Takes bytes that are in memory already, whether or not there is room."""
        self.held += size

    def take_now(self, size: int) -> bool:
        """Takes bytes if there is room and no read waits for it; returns whether."""
        if self.wanted or not self._has_room(size):
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """Gives bytes back; reads that wait for them go on in the loop's next turn."""
        self.held -= size
        loop = self._loop
        if self._waiting and not self._is_planned and loop is not None and not loop.is_closed():
            self._is_planned = True
            loop.call_soon(self._let_in)

    def _let_in(self) -> None:
        self._is_planned = False
        while size := self.wanted:
            if not self._has_room(size):
                return
            _, ticket = self._waiting.popleft()
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
    """A run of bytes that counts against the budget for as long as anybody holds this object. Nothing may hold the bytes alone."""

    __slots__ = ("__weakref__", "_budget", "_encoded", "_size", "data")

    def __init__(self, budget: SendBudget, data: bytes, taken: int | None = None) -> None:
        self._budget = budget
        self._size = len(data) if taken is None else taken
        self._encoded: bytes | None = None
        self.data = data

    def encoded(self, size: int, make: Callable[[], bytes]) -> bytes | None:
        """Returns the bytes in the form that goes out, made once for all readers; None if the budget has no room for it.

        Args:
            size: of that form.
            make: makes it, the same each time.
        """
        if self._encoded is None and self._budget.take_now(size):
            self._size += size
            self._encoded = make()
        return self._encoded

    def __del__(self) -> None:
        self._budget.give_back(self._size)


class LargeReads:
    """Reads large runs, each once for all who ask for it.

    Args:
        budget: bounds what is held.
        line: has a function called when it is its turn.
        has_time: returns whether so many bytes may be sent at once instead.
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
        budget.on_pressure = self._let_go

    def read(self, key: Key, read: Callable[[], Ticket[bytes]]) -> Ticket[Run]:
        """Returns a run, when it is its turn and there is room.

        Args:
            key: which bytes: incarnation, start, end.
            read: reads them from the store.
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
        ticket.on_cancel(lambda: self._left(key, taken))
        taken.add_callback(lambda done: self._let_in(key, done, read))
        return ticket

    def _left(self, key: Key, taken: Ticket[bool]) -> None:
        """Gives up a place in line if nobody waits for it any more."""
        readers = self._loading.get(key, ())
        if not taken.done and all(reader.done for reader in readers):
            del self._loading[key]
            taken.cancel()

    def _let_in(self, key: Key, taken: Ticket[bool], read: Callable[[], Ticket[bytes]]) -> None:
        try:
            taken.result()
        except Cancelled:
            return
        self._line(lambda: self._begin(key, read))

    def _begin(self, key: Key, read: Callable[[], Ticket[bytes]]) -> None:
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
        self._keep(key, run)
        for reader in readers:
            self._hand_over(reader, run)

    def _hand_over(self, reader: Ticket[Run], run: Run) -> None:
        """Resolves the ticket of one reader, each in a turn of its own: what follows is to write the run to a socket."""
        self._line(lambda: reader.resolve(run))

    def _keep(self, key: Key, run: Run) -> None:
        self._held[key] = run
        if self.budget.wanted:
            return  # others wait for the room
        self._kept[key] = run
        self.kept_bytes += len(run.data)
        while self.kept_bytes > KEPT:
            self._drop_oldest()

    def _let_go(self, size: int) -> None:
        """Lets go of runs that are kept, while there is no room for `size` bytes."""
        while self._kept and self.budget.held + size > self.budget.limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, run = self._kept.popitem(last=False)
        self.kept_bytes -= len(run.data)


def _nothing() -> None:
    return


def _ignore(_: int) -> None:
    return

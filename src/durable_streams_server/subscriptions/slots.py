"""Limits how many deliveries run at once, and chooses which delivery gets the next free slot.

A receiver that accepts a connection and never answers keeps its slot until the delivery times out. So each host has a limit,
silent hosts have a smaller limit, and all silent hosts together may use at most half of the slots. A host is silent until it
answers for the first time, and again after an exchange that ended without an answer.

    slots = DeliverySlots()
    slots.request(host, begin)      # calls begin() now or later
    slots.release(host, answered)   # once the exchange has ended
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from ..log import log as _log

#: Maximum deliveries that run at once, because each needs a task, a socket and a body in memory.
MAX_DELIVERIES: Final = 512
#: Maximum deliveries that run at once to one host that answers.
MAX_PER_HOST: Final = 8
#: Maximum deliveries that run at once to one silent host. It is more than one, so that a dead receiver does not block the other
#: receivers of its host.
MAX_PER_SILENT_HOST: Final = 4
#: Maximum answering hosts that are remembered while they have no deliveries. Each takes about 150 bytes of memory.
_REMEMBERED: Final = 10_000


class _Host:
    """A host with deliveries that run or wait."""

    __slots__ = ("answers", "name", "taken", "turn", "waiting")

    def __init__(self, name: str, answers: bool) -> None:
        self.name = name
        self.answers = answers  # False while the host is silent
        self.taken = 0  # slots that its deliveries use
        self.waiting: deque[Callable[[], None]] = deque()
        self.turn = 0  # the sequence number of this host in its queue


class DeliverySlots:
    """Gives slots to hosts in turn, and to the deliveries of each host in order. Belongs to one event loop.

    A host is ready if a delivery waits for it and its own limit is not reached. Each ready host waits in one of two queues: one for hosts
    that answer, and one for silent hosts. Other hosts are in neither queue, so every call takes the same time, however many hosts wait.

    Args:
        most: the total number of slots. Silent hosts together may use half of them.
        per_host: the maximum number of slots of one host that answers.
        per_silent_host: the maximum number of slots of one silent host.
        remembered: the maximum number of answering hosts that are kept in memory while they have no delivery.
    """

    def __init__(
        self,
        most: int = MAX_DELIVERIES,
        per_host: int = MAX_PER_HOST,
        per_silent_host: int = MAX_PER_SILENT_HOST,
        remembered: int = _REMEMBERED,
    ) -> None:
        self._most = most
        self._most_silent = max(1, most // 2)
        self._per_host = per_host
        self._per_silent_host = per_silent_host
        self._most_remembered = remembered
        self._taken = 0
        self._taken_silent = 0  # slots of hosts that are silent now
        self._waiting = 0
        self._last_turn = 0
        self._is_starting = False
        self._hosts: dict[str, _Host] = {}  # hosts with deliveries that run or wait
        self._remembered: OrderedDict[str, None] = OrderedDict()  # answering hosts without any
        # In a plain dict, finding the first entry would scan past the deleted ones.
        self._ready: OrderedDict[str, _Host] = OrderedDict()
        self._ready_silent: OrderedDict[str, _Host] = OrderedDict()

    @property
    def taken(self) -> int:
        """The number of slots in use."""
        return self._taken

    @property
    def waiting(self) -> int:
        """The number of deliveries that wait for a slot."""
        return self._waiting

    def request(self, host: str, begin: Callable[[], None]) -> None:
        """Calls `begin` once there is a slot for a delivery to `host`, which may be immediately. Call `release` after each `begin`.

        If `begin` raises an exception, the exception is logged and the slot goes to the next delivery. While one `begin` runs, no
        other is called.
        """
        one = self._hosts.get(host)
        if one is None:
            one = self._hosts[host] = _Host(host, host in self._remembered)
            self._remembered.pop(host, None)
        one.waiting.append(begin)
        self._waiting += 1
        if len(one.waiting) == 1:
            self._enqueue(one)
        self._start_ready()

    def release(self, host: str, answered: bool | None) -> None:
        """Frees the slot of a delivery that has ended, and begins the deliveries that can run now.

        Args:
            host: the host of the delivery, as given to `request`.
            answered: whether the receiver answered, with any status. None if nothing was sent to it.

        Raises:
            ValueError: no delivery to this host has a slot.
        """
        one = self._hosts.get(host)
        if one is None or not one.taken:
            raise ValueError("no delivery to this host has a place")
        self._free(one)
        if answered is not None and one.answers is not answered:
            self._dequeue(one)
            one.answers = answered
            self._taken_silent += -one.taken if answered else one.taken
        self._requeue_or_drop(one)
        self._start_ready()

    def clear(self) -> None:
        """Drops all deliveries that wait. Deliveries that run keep their slots until `release`."""
        self._ready.clear()
        self._ready_silent.clear()
        self._waiting = 0
        for one in tuple(self._hosts.values()):
            one.waiting.clear()
            self._requeue_or_drop(one)

    def _start_ready(self) -> None:
        """Begins deliveries while slots are free.

        A `begin` callback may release its slot or request another before it returns. These calls return at once, and the loop here
        handles their effect, so the calls do not nest.
        """
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while (one := self._next_host()) is not None:
                self._begin(one)
        finally:
            self._is_starting = False

    def _next_host(self) -> _Host | None:
        """Returns the ready host that gets the next slot, or None if no slot is free for any host."""
        if self._taken >= self._most:
            return None
        first = next(iter(self._ready.values()), None)
        if self._taken_silent < self._most_silent:
            silent = next(iter(self._ready_silent.values()), None)
            if silent is not None and (first is None or silent.turn < first.turn):
                return silent
        return first

    def _begin(self, one: _Host) -> None:
        """Gives a slot to the first waiting delivery of a host, and moves the host to the end of its queue."""
        begin = one.waiting.popleft()
        self._waiting -= 1
        self._taken += 1
        self._taken_silent += not one.answers
        one.taken += 1
        self._dequeue(one)
        self._enqueue(one)
        try:
            begin()
        except BaseException as error:
            self._free(one)
            self._requeue_or_drop(one)
            if not isinstance(error, Exception):
                raise
            _log.exception("a delivery could not begin")

    def _free(self, one: _Host) -> None:
        """Counts one slot of a host as free."""
        one.taken -= 1
        self._taken -= 1
        self._taken_silent -= not one.answers

    def _requeue_or_drop(self, one: _Host) -> None:
        """Queues a host if it is ready, or drops a host without deliveries. A dropped host is remembered if it answers."""
        if one.waiting:
            self._enqueue(one)
        elif not one.taken:
            del self._hosts[one.name]
            if one.answers:
                self._remembered[one.name] = None
                if len(self._remembered) > self._most_remembered:
                    self._remembered.popitem(last=False)

    def _enqueue(self, one: _Host) -> None:
        """Puts a host at the end of its queue, if the host is ready and not queued already."""
        limit = self._per_host if one.answers else self._per_silent_host
        queue = self._ready if one.answers else self._ready_silent
        if one.waiting and one.taken < limit and one.name not in queue:
            self._last_turn += 1
            one.turn = self._last_turn
            queue[one.name] = one

    def _dequeue(self, one: _Host) -> None:
        """Removes a host from its queue, if it is queued."""
        (self._ready if one.answers else self._ready_silent).pop(one.name, None)

"""Places for deliveries: how many run at once, and which delivery gets the next place.

A receiver that accepts connections and never answers holds its place until the delivery times out. So there is a share for each
host, a smaller one for hosts that are silent, and a limit for all silent hosts together. A host is silent until it first answers,
and again after an exchange that ended without an answer. However many hosts are silent, those that answer have the other half
of the places.

    slots = DeliverySlots()
    slots.ask(host, begin)            # calls begin() now or later
    slots.give_back(host, answered)   # once the exchange has ended
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from ..log import log as _log

MAX_DELIVERIES: Final = 512  # in all; each is a task, a socket and its body
MAX_PER_HOST: Final = 8  # to one host that answers
MAX_PER_SILENT_HOST: Final = 4  # so that one dead receiver holds up no other at its host
_REMEMBERED: Final = 10_000  # hosts that answered and have no delivery now, about 150 bytes each


class _Host:
    """A host with deliveries that run or wait."""

    __slots__ = ("answers", "name", "taken", "turn", "waiting")

    def __init__(self, name: str, answers: bool) -> None:
        self.name = name
        self.answers = answers  # otherwise the host is silent
        self.taken = 0
        self.waiting: deque[Callable[[], None]] = deque()
        self.turn = 0  # its place in line, while it is ready


class DeliverySlots:
    """Gives places to hosts in turn, and in order to the deliveries of each host. Belongs to one event loop.

    A host that could have a place, were there one, is ready and stands in one of two lines: hosts that answer, and silent hosts.
    A host whose share is used up stands in neither, so no call looks at hosts that cannot go on.

    Args:
        most: places in all. Silent hosts together have half of them.
        per_host: places for one host that answers.
        per_silent_host: places for one silent host.
        remembered: how many hosts that answered are kept in memory while they have no delivery.
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
        self._taken_silent = 0  # those of hosts that are silent now
        self._waiting = 0
        self._turn = 0  # the last one that was drawn
        self._letting_in = False
        self._hosts: dict[str, _Host] = {}  # with deliveries that run or wait
        self._remembered: OrderedDict[str, None] = OrderedDict()  # answered, without deliveries
        # A plain dict would scan past its deleted entries to find its first one.
        self._ready: OrderedDict[str, _Host] = OrderedDict()
        self._ready_silent: OrderedDict[str, _Host] = OrderedDict()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many deliveries wait for a place."""
        return self._waiting

    def ask(self, host: str, begin: Callable[[], None]) -> None:
        """Calls `begin` with a place for a delivery to `host`, at once if there is one. `give_back` must follow each `begin`.

        If `begin` raises an exception, its place goes to the next delivery, and the exception is logged. A `begin` that is called
        while another one runs waits until that one has returned.
        """
        one = self._hosts.get(host)
        if one is None:
            one = self._hosts[host] = _Host(host, host in self._remembered)
            self._remembered.pop(host, None)
        one.waiting.append(begin)
        self._waiting += 1
        if len(one.waiting) == 1:
            self._line_up(one)
        self._let_in()

    def give_back(self, host: str, answered: bool | None) -> None:
        """Frees the place of a delivery that has ended, and begins those that can go on now.

        Args:
            host: as it was given to `ask`.
            answered: whether the receiver answered, with whatever status; None if nothing was sent to it.

        Raises:
            ValueError: no delivery to this host has a place.
        """
        one = self._hosts.get(host)
        if one is None or not one.taken:
            raise ValueError("no delivery to this host has a place")
        self._free(one)
        if answered is not None and one.answers is not answered:
            self._leave_line(one)
            one.answers = answered
            self._taken_silent += -one.taken if answered else one.taken
        self._settle(one)
        self._let_in()

    def clear(self) -> None:
        """Forgets all deliveries that wait. Those that have places give them back as before."""
        self._ready.clear()
        self._ready_silent.clear()
        self._waiting = 0
        for one in tuple(self._hosts.values()):
            one.waiting.clear()
            self._settle(one)

    def _let_in(self) -> None:
        """Begins deliveries while there are places for them.

        A `begin` may end its delivery, or ask for another, before it returns. The loop that runs sees to these too, so that
        calls do not nest.
        """
        if self._letting_in:
            return
        self._letting_in = True
        try:
            while (one := self._next()) is not None:
                self._begin(one)
        finally:
            self._letting_in = False

    def _next(self) -> _Host | None:
        """Returns the host whose turn it is, or None if no ready host may have a place."""
        if self._taken >= self._most:
            return None
        first = next(iter(self._ready.values()), None)
        if self._taken_silent < self._most_silent:
            silent = next(iter(self._ready_silent.values()), None)
            if silent is not None and (first is None or silent.turn < first.turn):
                return silent
        return first

    def _begin(self, one: _Host) -> None:
        """Gives a place to the first delivery of a host, which then stands at the end of its line."""
        begin = one.waiting.popleft()
        self._waiting -= 1
        self._taken += 1
        self._taken_silent += not one.answers
        one.taken += 1
        self._leave_line(one)
        self._line_up(one)
        try:
            begin()
        except BaseException as error:
            self._free(one)
            self._settle(one)
            if not isinstance(error, Exception):
                raise
            _log.exception("a delivery could not begin")

    def _free(self, one: _Host) -> None:
        one.taken -= 1
        self._taken -= 1
        self._taken_silent -= not one.answers

    def _settle(self, one: _Host) -> None:
        """Lines a host up if it is ready, and lets go of it if it has no deliveries left."""
        if one.waiting:
            self._line_up(one)
        elif not one.taken:
            del self._hosts[one.name]
            if one.answers:
                self._remembered[one.name] = None
                if len(self._remembered) > self._most_remembered:
                    self._remembered.popitem(last=False)

    def _line_up(self, one: _Host) -> None:
        """Puts a host at the end of its line, if it is ready and does not stand there already."""
        share = self._per_host if one.answers else self._per_silent_host
        line = self._ready if one.answers else self._ready_silent
        if one.waiting and one.taken < share and one.name not in line:
            self._turn += 1
            one.turn = self._turn
            line[one.name] = one

    def _leave_line(self, one: _Host) -> None:
        (self._ready if one.answers else self._ready_silent).pop(one.name, None)

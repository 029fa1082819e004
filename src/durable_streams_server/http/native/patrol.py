"""Checks all connections of the native lane, of HTTP/1.1 and HTTP/2, for clients that take too long or read too little.

Each connection has its own bound for small responses and events that its client has not read. All connections together share the
send budget with large pages. Beyond it, the server cuts the clients that have read nothing for longest.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final, Protocol

from ...streams.large import SendBudget

#: Connections checked in one step, which takes about half a millisecond.
_STEP: Final = 500


class Watched(Protocol):
    """A connection that is checked once a second."""

    @property
    def unsent(self) -> int:
        """Bytes that the client has not read."""
        ...

    @property
    def deadline(self) -> float:
        """The loop's time by which the client must act."""
        ...

    def check(self, now: float, /) -> None:
        """Ends what lasts too long. Must not raise."""
        ...

    def cut(self) -> None:
        """Aborts the connection."""
        ...


class Patrol:
    """One check of all connections, done in steps.

    Args:
        budget: the send budget, which large pages use too.
        connections: the connections to check.
        now: the loop's time.
    """

    def __init__(self, budget: SendBudget, connections: Iterable[Watched], now: float) -> None:
        self._budget = budget
        self._connections = iter(tuple(connections))
        self._now = now
        self._sending: list[Watched] = []

    def check_some(self) -> bool:
        """Checks the next connections. Returns whether there may be more."""
        some = list(islice(self._connections, _STEP))
        for connection in some:
            connection.check(self._now)
            if connection.unsent:
                self._sending.append(connection)
        if len(some) == _STEP:
            return True
        self._cut_slowest()
        return False

    def _cut_slowest(self) -> None:
        """Cuts the clients that have read nothing for longest, until the rest fit the budget."""
        budget = self._budget
        held = sum(connection.unsent for connection in self._sending)
        if budget.held + held <= budget.limit:
            return
        for connection in sorted(self._sending, key=_deadline_of):
            if budget.held + held <= budget.limit:
                return
            held -= connection.unsent
            connection.cut()


def _deadline_of(connection: Watched) -> float:
    """Returns a connection's deadline, which is earliest for the client that has read nothing for longest."""
    return connection.deadline

"""Checks all connections of a server for clients that take too long or read too little.

The small responses and events that clients have not read are limited for each connection. For all connections together they count
against the send budget, as large pages do. While they exceed it, the server cuts the clients that have read nothing for the longest time.
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
        """Time of the event loop's clock by which the client must act."""
        ...

    def check(self, now: float, /) -> None:
        """Ends the request or the connection if the client has taken too long. Must not raise.

        Args:
            now: current time of the event loop's clock.
        """
        ...

    def cut(self) -> None:
        """Aborts the connection."""
        ...


class Patrol:
    """One check of all connections, done in steps.

    Args:
        budget: the send budget, which large pages use too.
        connections: the connections to check.
        now: current time of the event loop's clock.
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
        """Cuts the clients that have read nothing for the longest time, until the bytes of the others fit the budget."""
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
    """Returns the deadline of a connection. The client that has read nothing for the longest time has the earliest deadline."""
    return connection.deadline

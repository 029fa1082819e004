"""One look at every connection of the native lane, of HTTP/1.1 and HTTP/2: who has taken too long, and who has taken too little.

Small responses and events that clients have not taken are bounded for each connection. All together they share the budget that
large pages have: past it, the clients that have taken nothing for longest are cut.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from .lane import Lane

_CHECKED: Final = 500  # connections looked at in one step: about half a millisecond


class Watched(Protocol):
    """A connection that is looked at."""

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken."""
        ...

    @property
    def deadline(self) -> float:
        """When the client must have done what it is its turn to do, in the loop's time."""
        ...

    def check(self, now: float, /) -> None:
        """Ends what lasts too long. Must not raise."""
        ...

    def cut(self) -> None:
        """Ends the connection at once."""
        ...


class Patrol:
    """Looks at connections, some in each step.

    Args:
        lane: has the budget.
        connections: who is looked at.
        now: the loop's time.
    """

    def __init__(self, lane: "Lane", connections: Iterable[Watched], now: float) -> None:
        self._lane = lane
        self._connections = iter(tuple(connections))
        self._now = now
        self._sending: list[Watched] = []

    def step(self) -> bool:
        """Looks at the next connections; returns whether there are more."""
        some = list(islice(self._connections, _CHECKED))
        for connection in some:
            connection.check(self._now)  # which raises nothing
            if connection.unsent:
                self._sending.append(connection)
        if len(some) == _CHECKED:
            return True
        self._cut_slowest()
        return False

    def _cut_slowest(self) -> None:
        """Cuts the clients that have taken nothing for longest, while all hold more than there is room for."""
        sending = self._lane.app.engine.sending
        held = sum(connection.unsent for connection in self._sending)
        if sending.held + held <= sending.limit:
            return
        for connection in sorted(self._sending, key=_deadline):
            if sending.held + held <= sending.limit:
                return
            held -= connection.unsent
            connection.cut()


def _deadline(connection: Watched) -> float:
    return connection.deadline

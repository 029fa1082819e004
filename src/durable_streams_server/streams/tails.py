"""Who waits at which tail. A wake-up costs what its own stream's waiters cost, and nothing else's.

A few waiters are woken at once. A crowd is woken at the end of the loop's turn, once for all that the turn has appended: each
of its readers then costs one event and one write to its socket, and not one for each append.
"""

import asyncio
from typing import Final, Protocol

import msgspec

from ..protocol.state import StreamState

_CROWD: Final = 16  # waiters of one stream


class Waiter(Protocol):
    """A live read that waits for its stream to change."""

    def wake(self) -> None:
        """The stream has more bytes, is closed, or is gone: look again. Must not raise."""
        ...


class SharedEvent(msgspec.Struct, frozen=True):
    """What one reader has made of the newest bytes, for the others that stand where it stood.

    Attributes:
        start: where the reader stood.
        end: where it stands after the event.
        closed: whether the stream ends there.
        data: the event's bytes; the same object is handed to every socket.
    """

    start: int
    end: int
    closed: bool
    data: bytes


class Group:
    """The waiters of one stream.

    Attributes:
        waiters: in the order in which they came.
        event: while they are being woken, what the first of them has encoded.
        is_waking: whether they are being woken.
        is_due: whether they will be, at the end of the loop's turn.
    """

    __slots__ = ("event", "is_due", "is_waking", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}
        self.event: SharedEvent | None = None
        self.is_waking = False
        self.is_due = False

    def wake(self) -> None:
        """Wakes them all."""
        self.is_due = False
        self.is_waking = True
        for waiter in tuple(self.waiters):
            waiter.wake()
        self.is_waking = False
        self.event = None


class Tails:
    """The waiters of every stream that has any, by incarnation."""

    def __init__(self) -> None:
        self._groups: dict[int, Group] = {}

    def __len__(self) -> int:
        return sum(len(group.waiters) for group in self._groups.values())

    def subscribe(self, state: StreamState, waiter: Waiter) -> Group:
        """Has `waiter` woken at every change of the stream. Subscribe first, then look, then wait."""
        group = self._groups.get(state.incarnation)
        if group is None:
            group = self._groups[state.incarnation] = Group()
        group.waiters[waiter] = None
        state.readers += 1
        return group

    def unsubscribe(self, state: StreamState, waiter: Waiter) -> None:
        """Forgets the waiter; one that is not there is no error."""
        group = self._groups.get(state.incarnation)
        if group is None or waiter not in group.waiters:
            return
        del group.waiters[waiter]
        state.readers -= 1
        if not group.waiters:
            del self._groups[state.incarnation]

    def wake(self, state: StreamState) -> None:
        """Wakes who waits at this stream."""
        group = self._groups.get(state.incarnation)
        if group is None or group.is_due:
            return
        if len(group.waiters) < _CROWD:
            group.wake()
        else:
            group.is_due = True
            asyncio.get_running_loop().call_soon(group.wake)

    def wake_all(self) -> None:
        """Wakes everybody: the server is stopping."""
        for group in tuple(self._groups.values()):
            for waiter in tuple(group.waiters):
                waiter.wake()

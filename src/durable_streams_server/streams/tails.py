"""Who waits at which tail. A wake-up costs what its own stream's waiters cost, and nothing else's.

A few waiters are woken at once. A crowd is woken in rounds: a few of its waiters in each step of the line of long work. Whatever
has been appended by the time that a waiter is woken is one event and one write to its socket, and not one for each append.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

import msgspec

from ..protocol.state import StreamState
from .turns import Line, Turns

_CROWD: Final = 16  # waiters of one stream
_SLICE: Final = 32  # waiters woken in one step: about a millisecond


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
    """The waiters of one stream, woken in rounds.

    Attributes:
        waiters: in the order in which they came.
        event: while a round goes on, what one of them has encoded last.
        is_waking: whether some of them are being woken right now.
    """

    __slots__ = ("_is_due", "_is_stale", "_round", "event", "is_waking", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}
        self.event: SharedEvent | None = None
        self.is_waking = False
        self._is_due = False  # whether a round goes on, or will soon
        self._round: Iterator[Waiter] | None = None  # who has yet to be woken in it
        self._is_stale = False  # whether there is news since it began

    def wake(self) -> None:
        """Wakes them all, at once."""
        self._wake(tuple(self.waiters))
        self.event = None

    def begin_round(self) -> bool:
        """Plans a round, or another after the one that goes on; returns whether `step` must be called from now on."""
        if self._is_due:
            self._is_stale = self._round is not None
            return False
        self._is_due = True
        return True

    def step(self) -> bool:
        """Wakes the next few waiters of the round; returns whether there are more."""
        if self._round is None:
            self._round = iter(tuple(self.waiters))
        some = tuple(islice(self._round, _SLICE))
        self._wake(some)
        if len(some) == _SLICE:
            return True
        self.event = self._round = None
        self._is_due, self._is_stale = self._is_stale, False
        return self._is_due

    def _wake(self, waiters: Iterable[Waiter]) -> None:
        self.is_waking = True
        for waiter in waiters:
            if waiter in self.waiters:  # or it has left since the round began
                waiter.wake()
        self.is_waking = False


class Tails:
    """The waiters of every stream that has any, by incarnation.

    Args:
        turns: the line in which crowds are woken.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
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
        if group is None:
            return
        if len(group.waiters) < _CROWD and self._turns.admits(is_read=False):
            group.wake()
        elif group.begin_round():
            self._turns.add(group.step, Line.URGENT)

    def wake_all(self) -> None:
        """Wakes everybody: the server is stopping."""
        for group in tuple(self._groups.values()):
            for waiter in tuple(group.waiters):
                waiter.wake()

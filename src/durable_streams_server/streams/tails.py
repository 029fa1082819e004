"""Who waits at which tail. A wake-up costs what its own stream's waiters cost, and nothing else's.

Waiters are woken at the end of the loop's turn, when the writers have their answers. Those of one stream are woken in rounds: a
slice of them in each turn, and the next appends are taken in between. Whatever has been appended by the time that a waiter is
woken is one event and one write to its socket. So a crowd costs a turn no more than its slice, and the readers of a busy stream
get batches instead of a queue.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from ..protocol.state import Appended, Change, StreamState
from .turns import Line, Turns

#: Waiters of one stream that are woken in one turn of the loop: some 0.2 ms.
_SLICE: Final = 32
#: The same while appends come faster than all can be woken. The next append waits for the turn, and what each waiter is sent is a batch
#: in any case.
_BUSY_SLICE: Final = 4
_TURNS: Final = 64  # all waiters of a busy stream are woken in so many, unless a slice would take more than about 2 ms
_LARGEST_SLICE: Final = 256
_SHARED: Final = 8  # events that are kept for the others: as many as a reader is sent in one turn


class Waiter(Protocol):
    """A live read that waits for its stream to change."""

    def wake(self) -> None:
        """The stream has more bytes, is closed, or is gone: look again. Must not raise."""
        ...


class SharedEvent(msgspec.Struct, frozen=True, gc=False):
    """What one reader was sent, for the others that stand where it stood.

    Attributes:
        end: where a reader stands after the event.
        at_tail: whether that was the tail.
        closed: whether the stream ends there.
        data: the event's bytes; the same object is handed to every socket.
    """

    end: int
    at_tail: bool
    closed: bool
    data: bytes


class Group:
    """The waiters of one stream, woken in rounds.

    Attributes:
        waiters: in the order in which they came.
        latest: the newest append, if it is all that has come since the last round ended.
    """

    __slots__ = ("_events", "_is_busy", "_is_due", "_is_stale", "_round", "latest", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}
        self.latest: Appended | None = None
        self._events: dict[int, SharedEvent] = {}  # by where they begin
        self._is_due = False  # whether a round goes on, or will soon
        self._round: Iterator[Waiter] | None = None  # who has yet to be woken in it
        self._is_stale = False  # whether there is news since it began
        self._is_busy = False  # or since the one before it began

    def begin_round(self, change: Change) -> bool:
        """Plans a round for a change, or another after the one that goes on; returns whether `step` must be called from now on."""
        if self._is_due:
            self.latest = None
            if self._round is not None:
                self._is_stale = self._is_busy = True
            return False
        self.latest = change if type(change) is Appended else None
        self._is_due = True
        return True

    def step(self) -> bool:
        """Wakes the next few waiters of the round; returns whether there are more."""
        if self._round is None:
            self._round = iter(tuple(self.waiters))
        waiters, left = self.waiters, _SLICE
        if self._is_busy:
            left = min(max(_BUSY_SLICE, len(waiters) // _TURNS), _LARGEST_SLICE)
        for waiter in self._round:
            if waiter in waiters:  # or it has left since the round began
                waiter.wake()
            left -= 1
            if not left:
                return True
        self.latest = self._round = None
        self._is_busy = self._is_due = self._is_stale
        self._is_stale = False
        if not self._is_due:
            self._events.clear()
        return self._is_due

    @property
    def shares(self) -> bool:
        """Whether others may be sent what one is sent: without a round, nobody waits for it."""
        return self._round is not None and len(self.waiters) > 1

    def share(self, start: int, event: SharedEvent) -> None:
        """Keeps an event for the others that stand at `start`, until the round has ended."""
        if len(self._events) == _SHARED:
            self._events.clear()
        self._events[start] = event

    def shared(self, start: int, tail: int) -> SharedEvent | None:
        """Returns the event that begins at `start`, if one is kept that is still what a reader is sent there."""
        event = self._events.get(start)
        return None if event is None or (event.at_tail and event.end != tail) else event


class Tails:
    """The waiters of every stream that has any, by incarnation.

    Args:
        turns: the loop's time, of which the wake-ups have a line.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._groups: dict[int, Group] = {}
        self._due: deque[Group] = deque()
        self._is_planned = False

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

    def wake(self, state: StreamState, change: Change) -> None:
        """Has those woken who wait at a stream that has changed."""
        group = self._groups.get(state.incarnation)
        if group is not None and group.begin_round(change):
            self._due.append(group)
            if not self._is_planned:
                self._is_planned = True
                self._turns.add(self._wake_some, Line.WAKES)

    def wake_all(self) -> None:
        """Wakes everybody: the server is stopping."""
        for group in tuple(self._groups.values()):
            for waiter in tuple(group.waiters):
                waiter.wake()

    def _wake_some(self) -> bool:
        """Wakes a slice of each stream's waiters, as far as the turn has time; returns whether there are more."""
        due, turns = self._due, self._turns
        for _ in range(len(due)):
            group = due.popleft()
            if group.step():
                due.append(group)
            if turns.is_over:
                break
        self._is_planned = bool(due)
        return self._is_planned

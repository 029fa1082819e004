"""Live reads that wait at the tails of streams. A change of a stream costs only the waiters of that stream.

Waiters are woken at the end of a turn of the event loop, after the writers have their responses. The waiters of one stream are woken in
rounds: one slice in each turn, with further appends accepted in between. All data that was appended before a waiter is woken becomes one
event and one write to its socket. So a turn spends time on at most one slice of a stream's waiters, however many there are, and the readers
of a busy stream receive batches.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from operator import length_hint
from typing import Final, Protocol

import msgspec

from ..protocol.state import Appended, Change, StreamState
from .draining import Drainable
from .turns import Line, Turns

#: Number of waiters of one stream that are woken in one turn of the loop. Waking them takes about 0.2 ms.
_SLICE: Final = 32
#: Minimum number of waiters in a slice if the stream's appends arrive faster than all its waiters can be woken. After a small slice, the
#: server soon accepts the next append.
_BUSY_SLICE: Final = 4
_TURNS: Final = 64  # number of turns in which all waiters of a busy stream are woken
_LARGEST_SLICE: Final = 256  # maximum slice of a busy stream; waking it takes about 2 ms
#: Waiters that `wake_all_in_turns` wakes immediately. Waking them takes about 10 ms.
_AT_ONCE: Final = 256
_SHARED: Final = 8  # encoded events that a group keeps: as many as one reader is sent in one turn


class Waiter(Drainable, Protocol):
    """A live read that waits for its stream to change."""

    def wake(self) -> None:
        """Handles a change: the stream has more bytes, is closed or is gone. It must not raise."""
        ...


class SharedEvent(msgspec.Struct, frozen=True, gc=False):
    """An encoded event that all readers at the same position are sent.

    Attributes:
        end: the position after the event.
        at_tail: whether that position was the tail when the event was encoded.
        closed: whether the stream is closed and ends there.
        data: the encoded bytes. Every socket is given this same object.
    """

    end: int
    at_tail: bool
    closed: bool
    data: bytes


class Group:
    """The waiters of one stream. They are woken in rounds.

    Attributes:
        waiters: the waiters, in the order in which they subscribed.
        latest: the newest append if it is the only change since the last round, or None.
    """

    __slots__ = ("_events", "_is_busy", "_is_due", "_is_stale", "_round", "latest", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}
        self.latest: Appended | None = None
        self._events: dict[
            int, SharedEvent
        ] = {}  # encoded events by the position at which they start
        self._is_due = False  # whether a round is running or planned
        self._round: Iterator[Waiter] | None = None  # the waiters that the round has not woken yet
        self._is_stale = False  # whether the stream has changed since the round started
        self._is_busy = False  # whether the stream changed during the previous round

    def begin_round(self, change: Change) -> bool:
        """Plans a round for a change, or another round if one is running. Returns True if the caller has to start calling `step`."""
        if self._is_due:
            self.latest = None
            if self._round is not None:
                self._is_stale = self._is_busy = True
            return False
        self.latest = change if type(change) is Appended else None
        self._is_due = True
        return True

    def step(self) -> bool:
        """Wakes the next slice of waiters. Returns whether `step` must be called again."""
        if self._round is None:
            self._round = iter(tuple(self.waiters))
        waiters, left = self.waiters, _SLICE
        if self._is_busy:
            left = min(max(_BUSY_SLICE, len(waiters) // _TURNS), _LARGEST_SLICE)
        for waiter in self._round:
            if waiter in waiters:  # the waiter has not left since the round started
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
        """Whether an encoded event may be useful to other waiters. That is the case during a round with more than one waiter."""
        return self._round is not None and len(self.waiters) > 1

    def share(self, start: int, event: SharedEvent) -> None:
        """Keeps an encoded event until the round ends, for other waiters at position `start`."""
        if len(self._events) == _SHARED:
            self._events.clear()
        self._events[start] = event

    def shared(self, start: int, tail: int) -> SharedEvent | None:
        """Returns the encoded event that starts at `start`, or None. An event that ended at an earlier tail is no longer valid."""
        event = self._events.get(start)
        return None if event is None or (event.at_tail and event.end != tail) else event


class Tails:
    """Keeps the waiters of all streams, and wakes them when their stream changes.

    Args:
        turns: runs the wake-ups in slices.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._groups: dict[int, Group] = {}
        self._due: deque[Group] = deque()
        self._is_planned = False

    def __len__(self) -> int:
        """Returns the number of waiters."""
        return sum(len(group.waiters) for group in self._groups.values())

    def waiters(self) -> list[Waiter]:
        """Returns the waiters of all streams."""
        return [waiter for group in self._groups.values() for waiter in group.waiters]

    def subscribe(self, state: StreamState, waiter: Waiter) -> Group:
        """Wakes `waiter` at every change of a stream. To miss no change, subscribe first, then check the tail, then wait."""
        group = self._groups.get(state.incarnation)
        if group is None:
            group = self._groups[state.incarnation] = Group()
        group.waiters[waiter] = None
        state.readers += 1
        return group

    def unsubscribe(self, state: StreamState, waiter: Waiter) -> None:
        """Stops waking a waiter. Does nothing if the waiter is not subscribed."""
        group = self._groups.get(state.incarnation)
        if group is None or waiter not in group.waiters:
            return
        del group.waiters[waiter]
        state.readers -= 1
        if not group.waiters:
            del self._groups[state.incarnation]

    def wake(self, state: StreamState, change: Change) -> None:
        """Plans to wake the waiters of a stream that has changed."""
        group = self._groups.get(state.incarnation)
        if group is not None and group.begin_round(change):
            self._due.append(group)
            if not self._is_planned:
                self._is_planned = True
                self._turns.add(self._wake_some, Line.WAKES)

    def wake_all(self) -> None:
        """Wakes all waiters of all streams immediately, because the server is stopping."""
        for waiter in self.waiters():
            waiter.wake()

    def wake_all_in_turns(self) -> None:
        """Wakes all waiters of all streams in slices, the first of them immediately, because the server is stopping."""
        waiters = iter(self.waiters())
        for waiter in islice(waiters, _AT_ONCE):
            waiter.wake()

        def wake_some() -> bool:
            for waiter in waiters:
                waiter.wake()
                if self._turns.is_over:
                    return True
            return False

        if length_hint(waiters):
            self._turns.add(wake_some, Line.WAKES)

    def _wake_some(self) -> bool:
        """Wakes a slice of the waiters of each changed stream while the turn has time. Returns whether waiters are left."""
        due, turns = self._due, self._turns
        for _ in range(len(due)):
            group = due.popleft()
            if group.step():
                due.append(group)
            if turns.is_over:
                break
        self._is_planned = bool(due)
        return self._is_planned

"""When to look at which stream: loaded ones by heaps, the others by the catalog's order of deadlines.

Idle streams are ordered by steady time, deadlines that are dates by date: setting the wall clock moves all dates at once, and
their order stays.

A read begins a sliding lifetime anew. It is written down if the last use written down is a tenth of the lifetime ago, and what
was not is once the tenth has passed. A restart adds the tenth again, so a stream never lives shorter than its reads allow, and
at most a tenth longer.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ...log import log as _log
from ...protocol.state import StreamState
from ...protocol.timeline import Timeline
from ...protocol.units import SECOND
from ..damage import Damaged
from .catalog import DATES, DATES_BEGIN, Catalog, place_of
from .states import States

_BATCH: Final = 1000  # a sweep gives the loop back after so many ends
_LOOKED: Final = (
    5 * _BATCH
)  # or after so many entries, most of them of streams that were used again
_NOTE_EVERY: Final = 10  # reads are made durable once in this part of a lifetime
_FEW: Final = 1000  # entries that are not worth tidying up
_RETRY: Final = SECOND  # how soon an end that had no room in the log is tried again
_DEADLINE, _NOTE = 0, 1
_Place = tuple[int, int]  # in the catalog's order of deadlines


class _Entry(NamedTuple):
    """When to look at a stream, and what for; `order` keeps entries of one time apart, so that states are never compared."""

    at: int
    order: int
    kind: int
    state: StreamState


class Lifetimes:
    """The deadlines of one store.

    Args:
        catalog: the deadlines of streams that are not loaded.
        states: the streams that are.
        note_use: makes a stream's last use durable.
        timeline: the store's.
    """

    def __init__(
        self,
        catalog: Catalog,
        states: States,
        note_use: Callable[[StreamState], None],
        timeline: Timeline,
    ) -> None:
        self._catalog = catalog
        self._states = states
        self._note_use = note_use
        self._timeline = timeline
        self._idle: list[_Entry] = []  # by steady time
        self._dates: list[_Entry] = []  # by Unix time
        self._order = 0
        self._tidy_at = _FEW
        self._listed: set[int] = set()  # a state that was let go and came back has its entry still
        self._noting: set[int] = set()
        self._scanned: _Place = (0, 0)
        self._scanned_dates: _Place = (DATES_BEGIN, 0)
        self._next_stored: int | None = None  # steady time
        self._next_stored_date: int | None = None  # Unix time
        self.refresh()

    def add(self, state: StreamState) -> None:
        """Adds a stream that came into memory."""
        deadline = state.lifetime.deadline(state.touched_at)
        if deadline is not None and state.incarnation not in self._listed:
            self._list(deadline, state)

    def used(self, state: StreamState, now: int) -> None:
        """Notes that a stream was read at `now`."""
        if state.lifetime.ttl is None:
            return
        tenth = state.lifetime.ttl * SECOND // _NOTE_EVERY
        if now - state.noted_at >= tenth:
            self._note_use(state)
        if state.incarnation not in self._noting:
            self._noting.add(state.incarnation)
            at = state.noted_at + tenth
            if at <= now:  # there was no room to note it
                at = now + tenth
            self._push(self._idle, at, _NOTE, state)

    def retry(self, path: str, now: int) -> None:
        """Has a stream come up again whose end was refused."""
        state = self._states.loaded(path)
        if state is not None:
            self._push(self._idle, now + _RETRY, _DEADLINE, state)

    def keeps(self, state: StreamState) -> bool:
        """Whether a stream must stay in memory for its lifetime's sake."""
        if state.incarnation in self._noting:
            return True
        # Places of the catalog that were passed are not looked at again.
        place = place_of(state.lifetime, state.touched_at)
        if place is None:
            return False
        scanned = self._scanned if place < DATES_BEGIN else self._scanned_dates
        return (place, state.incarnation) <= scanned

    def due(self, now: int) -> Sequence[tuple[str, int]]:
        """Takes the streams whose time has run out, at most a batch of them."""
        today = now + self._timeline.offset
        self._scanned = self._load(self._scanned, min(now, DATES_BEGIN - 1))
        self._scanned_dates = self._load(self._scanned_dates, DATES + today)
        self.refresh()
        found: list[tuple[str, int]] = []
        self._take(self._dates, today, now, found)
        self._take(self._idle, now, now, found)
        return found

    def next(self) -> int | None:
        """Returns when `due` may next have something."""
        times = [self._idle[0].at] if self._idle else []
        if self._next_stored is not None:
            times.append(self._next_stored)
        offset = self._timeline.offset
        if self._dates:
            times.append(self._dates[0].at - offset)
        if self._next_stored_date is not None:
            times.append(self._next_stored_date - offset)
        return min(times, default=None)

    def refresh(self) -> None:
        """Looks at the catalog again, after a checkpoint."""
        stored = self._catalog.next_deadline(self._scanned)
        self._next_stored = None if stored is None or stored >= DATES_BEGIN else stored
        date = self._catalog.next_deadline(self._scanned_dates)
        self._next_stored_date = None if date is None else date - DATES

    def _load(self, scanned: _Place, until: int) -> _Place:
        """Loads a batch of the streams whose places follow, up to one; so they come into the heaps. Returns the last place."""
        for at, incarnation, path in self._catalog.deadlines(scanned, until, _BATCH):
            scanned = (at, incarnation)
            try:
                self._states.get(path)
            except Damaged as damage:
                _log.error("a stream whose time has run out is damaged: %s", damage)
        return scanned

    def _take(self, heap: list[_Entry], until: int, now: int, found: list[tuple[str, int]]) -> None:
        """Takes the entries of a heap up to a time, and adds the streams that are over."""
        for _ in range(_LOOKED):
            if not heap or heap[0].at > until or len(found) == _BATCH:
                return
            _, _, kind, state = heapq.heappop(heap)
            incarnation = state.incarnation
            (self._noting if kind == _NOTE else self._listed).discard(incarnation)
            if self._has_left(state):
                continue
            if kind == _NOTE:
                self._note(state, now)
            elif self._is_over(state, now):
                found.append((state.path, incarnation))

    def _note(self, state: StreamState, now: int) -> None:
        if state.readers:
            state.touch(now)
            self.used(state, now)
        elif state.touched_at > state.noted_at:
            self._note_use(state)

    def _is_over(self, state: StreamState, now: int) -> bool:
        deadline = state.deadline()
        if deadline is not None and deadline <= now:
            return True
        if deadline is None:  # live readers keep it; their use is noted, and moves the deadline
            deadline = now + (state.lifetime.ttl or 1) * SECOND
        self._list(deadline, state)
        return False

    def _list(self, deadline: int, state: StreamState) -> None:
        """Has a stream looked at again at its date, or at a steady time."""
        date = state.lifetime.deadline(0) if state.lifetime.expires_at is not None else None
        if date is not None:
            self._push(self._dates, date, _DEADLINE, state)
        else:
            self._push(self._idle, deadline, _DEADLINE, state)

    def _push(self, heap: list[_Entry], at: int, kind: int, state: StreamState) -> None:
        if kind == _DEADLINE:
            self._listed.add(state.incarnation)
        self._order += 1
        heapq.heappush(heap, _Entry(at, self._order, kind, state))
        if len(self._idle) + len(self._dates) > self._tidy_at:
            self._tidy()

    def _tidy(self) -> None:
        """Forgets the streams that ended before their time or were let go: there may be many, and their time far off."""
        for heap in (self._idle, self._dates):
            kept = []
            for entry in heap:
                if not self._has_left(entry.state):
                    kept.append(entry)
                else:
                    listed = self._noting if entry.kind == _NOTE else self._listed
                    listed.discard(entry.state.incarnation)
            heapq.heapify(kept)
            heap[:] = kept
        self._tidy_at = max(_FEW, 2 * (len(self._idle) + len(self._dates)))

    def _has_left(self, state: StreamState) -> bool:
        ended = state.removed or state.soft_deleted
        return ended or self._states.loaded(state.path) is not state

"""The deadlines of the file store's streams. Those of loaded streams are in heaps, and all others are in the catalog, sorted by deadline.

Sliding lifetimes are ordered by steady time and fixed dates by date. If the wall clock is set, all dates move alike and keep their order.

A read restarts a sliding lifetime. The store makes a read durable at once if a tenth of the lifetime has passed since the last durable use, and
otherwise once that tenth has passed. A restarted server does not know the reads of the last tenth, so it adds a tenth to every sliding
lifetime. Therefore no stream ends earlier than its reads allow, and none lives more than a tenth longer.
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

_BATCH: Final = 1000  # maximum expired streams that one call of `due` returns, so that it does not block the loop
_EXAMINED: Final = (
    5 * _BATCH
)  # maximum entries that one call of `due` examines, even if it finds no expired stream
_NOTE_EVERY: Final = 10  # a read is made durable at most once in this part of a lifetime
_FEW: Final = 1000  # number of entries below which removing stale ones is not worth the work
_RETRY: Final = SECOND  # microseconds until an expiry that had no room in the log is tried again
_DEADLINE, _NOTE = 0, 1
_Place = tuple[int, int]  # a place in the catalog's order of deadlines


class _Entry(NamedTuple):
    """An entry of a heap.

    Attributes:
        at: the time at which to examine the stream.
        order: a number that no other entry has, so that the heap never compares states.
        kind: whether the entry is for the stream's deadline or for making its last use durable.
        state: the stream's state.
    """

    at: int
    order: int
    kind: int
    state: StreamState


class Lifetimes:
    """Keeps the deadlines of one store's streams.

    Args:
        catalog: the catalog, with the deadlines of streams that are not loaded.
        states: the states of loaded streams.
        note_use: makes a stream's last use durable.
        timeline: the store's steady time.
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
        self._listed: set[int] = (
            set()
        )  # streams with a deadline entry, which stays while a stream is evicted
        self._noting: set[int] = set()
        self._scanned: _Place = (0, 0)
        self._scanned_dates: _Place = (DATES_BEGIN, 0)
        self._next_stored: int | None = None  # steady time
        self._next_stored_date: int | None = None  # Unix time
        self.refresh()

    def add(self, state: StreamState) -> None:
        """Adds a stream that was created or loaded, unless it never expires."""
        deadline = state.lifetime.deadline(state.touched_at)
        if deadline is not None and state.incarnation not in self._listed:
            self._add_deadline(deadline, state)

    def note_read(self, state: StreamState, now: int) -> None:
        """Notes that a stream was read at `now`, which restarts its sliding lifetime."""
        if state.lifetime.ttl is None:
            return
        tenth = state.lifetime.ttl * SECOND // _NOTE_EVERY
        if now - state.noted_at >= tenth:
            self._note_use(state)
        if state.incarnation not in self._noting:
            self._noting.add(state.incarnation)
            at = state.noted_at + tenth
            if at <= now:  # there was no room for the record
                at = now + tenth
            self._push(self._idle, at, _NOTE, state)

    def retry_later(self, path: str, now: int) -> None:
        """Adds an entry that examines a stream again in a second, because the stream's expiry was refused."""
        state = self._states.loaded(path)
        if state is not None:
            self._push(self._idle, now + _RETRY, _DEADLINE, state)

    def needs_in_memory(self, state: StreamState) -> bool:
        """Returns whether a stream must stay in memory because only the heaps have its next deadline."""
        if state.incarnation in self._noting:
            return True
        # The scan of the catalog does not return to places that it has passed.
        place = place_of(state.lifetime, state.touched_at)
        if place is None:
            return False
        scanned = self._scanned if place < DATES_BEGIN else self._scanned_dates
        return (place, state.incarnation) <= scanned

    def due(self, now: int) -> Sequence[tuple[str, int]]:
        """Returns the paths and incarnations of streams that have expired at `now`, at most `_BATCH` of them."""
        today = now + self._timeline.offset
        self._scanned = self._load_batch(self._scanned, min(now, DATES_BEGIN - 1))
        self._scanned_dates = self._load_batch(self._scanned_dates, DATES + today)
        self.refresh()
        found: list[tuple[str, int]] = []
        self._collect_expired(self._dates, today, now, found)
        self._collect_expired(self._idle, now, now, found)
        return found

    def next(self) -> int | None:
        """Returns the steady time at which `due` may next return a stream; None if no stream has a deadline."""
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
        """Reads the next deadlines from the catalog again, because a checkpoint may have changed them."""
        stored = self._catalog.next_deadline(self._scanned)
        self._next_stored = None if stored is None or stored >= DATES_BEGIN else stored
        date = self._catalog.next_deadline(self._scanned_dates)
        self._next_stored_date = None if date is None else date - DATES

    def _load_batch(self, scanned: _Place, until: int) -> _Place:
        """Loads the next batch of streams from the catalog's order of deadlines, which adds them to the heaps.

        Args:
            scanned: the place after which to begin.
            until: the last time to load.

        Returns:
            the place of the last stream loaded.
        """
        for at, incarnation, path in self._catalog.deadlines(scanned, until, _BATCH):
            scanned = (at, incarnation)
            try:
                self._states.get(path)
            except Damaged as damage:
                _log.error("a stream whose time has run out is damaged: %s", damage)
        return scanned

    def _collect_expired(
        self, heap: list[_Entry], until: int, now: int, found: list[tuple[str, int]]
    ) -> None:
        """Removes the entries of a heap up to a time, and adds the expired streams to `found`."""
        for _ in range(_EXAMINED):
            if not heap or heap[0].at > until or len(found) == _BATCH:
                return
            _, _, kind, state = heapq.heappop(heap)
            incarnation = state.incarnation
            (self._noting if kind == _NOTE else self._listed).discard(incarnation)
            if self._is_stale(state):
                continue
            if kind == _NOTE:
                self._note_last_use(state, now)
            elif self._check_deadline(state, now):
                found.append((state.path, incarnation))

    def _note_last_use(self, state: StreamState, now: int) -> None:
        """Makes the last use of a stream durable. A stream with live readers counts as used at `now`."""
        if state.readers:
            state.touch(now)
            self.note_read(state, now)
        elif state.touched_at > state.noted_at:
            self._note_use(state)

    def _check_deadline(self, state: StreamState, now: int) -> bool:
        """Returns whether a stream has expired at `now`. If not, adds an entry for its new deadline."""
        deadline = state.deadline()
        if deadline is not None and deadline <= now:
            return True
        if deadline is None:  # live readers keep the stream; their use extends the deadline
            deadline = now + (state.lifetime.ttl or 1) * SECOND
        self._add_deadline(deadline, state)
        return False

    def _add_deadline(self, deadline: int, state: StreamState) -> None:
        """Adds an entry for a stream at its fixed date or, for a sliding lifetime, at a steady time."""
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
        """Removes the entries of streams that ended early or were evicted. There may be many, with deadlines far in the future."""
        for heap in (self._idle, self._dates):
            kept = []
            for entry in heap:
                if not self._is_stale(entry.state):
                    kept.append(entry)
                else:
                    listed = self._noting if entry.kind == _NOTE else self._listed
                    listed.discard(entry.state.incarnation)
            heapq.heapify(kept)
            heap[:] = kept
        self._tidy_at = max(_FEW, 2 * (len(self._idle) + len(self._dates)))

    def _is_stale(self, state: StreamState) -> bool:
        ended = state.removed or state.soft_deleted
        return ended or self._states.loaded(state.path) is not state

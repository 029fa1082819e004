"""When to look at which stream: loaded ones by a heap, the others by the catalog's order of deadlines.

A read begins a sliding lifetime anew. It is written down if the last use written down is a tenth of the lifetime ago, and what
was not is once the tenth has passed. A restart adds the tenth again, so a stream never lives shorter than its reads allow, and
at most a tenth longer.
"""

import heapq
import logging
from collections.abc import Callable, Sequence
from typing import Final

from ...protocol.lifetime import MICROSECONDS
from ...protocol.state import StreamState
from .catalog import Catalog
from .states import States
from .wal import Damaged

_BATCH: Final = 1000  # a sweep gives the loop back after so many
_NOTE_EVERY: Final = 10  # reads are made durable once in this part of a lifetime
_FEW: Final = 1000  # entries that are not worth tidying up
_RETRY: Final = MICROSECONDS  # how soon an end that had no room in the log is tried again
_DEADLINE, _NOTE = 0, 1

_log = logging.getLogger("durable_streams_server")


class Lifetimes:
    """The deadlines of one store.

    Args:
        catalog: the deadlines of streams that are not loaded.
        states: the streams that are.
        note_use: makes a stream's last use durable.
    """

    def __init__(
        self, catalog: Catalog, states: States, note_use: Callable[[StreamState], None]
    ) -> None:
        self._catalog = catalog
        self._states = states
        self._note_use = note_use
        self._heap: list[tuple[int, int, int, StreamState]] = []
        self._order = 0  # keeps entries of one time apart, so that states are never compared
        self._tidy_at = _FEW
        self._listed: set[int] = set()  # a state that was let go and came back has its entry still
        self._noting: set[int] = set()
        self._scanned = (0, 0)
        self._next_stored: int | None = None
        self.refresh()

    def add(self, state: StreamState) -> None:
        """Adds a stream that came into memory."""
        deadline = state.lifetime.deadline(state.touched_at)
        if deadline is not None and state.incarnation not in self._listed:
            self._push(deadline, _DEADLINE, state)

    def used(self, state: StreamState, now: int) -> None:
        """Notes that a stream was read at `now`."""
        if state.lifetime.ttl is None:
            return
        tenth = state.lifetime.ttl * MICROSECONDS // _NOTE_EVERY
        if now - state.noted_at >= tenth:
            self._note_use(state)
        if state.incarnation not in self._noting:
            self._noting.add(state.incarnation)
            at = state.noted_at + tenth
            self._push(
                at if at > now else now + tenth, _NOTE, state
            )  # there was no room to note it

    def retry(self, path: str, now: int) -> None:
        """Has a stream come up again whose end was refused."""
        state = self._states.loaded(path)
        if state is not None:
            self._push(now + _RETRY, _DEADLINE, state)

    def keeps(self, state: StreamState) -> bool:
        """Whether a stream must stay in memory for its lifetime's sake."""
        if state.incarnation in self._noting:
            return True
        stored = state.lifetime.deadline(
            state.touched_at
        )  # the catalog's, which is not looked at again
        return stored is not None and (stored, state.incarnation) <= self._scanned

    def due(self, now: int) -> Sequence[tuple[str, int]]:
        """Takes the streams whose time has run out, at most a batch of them."""
        for deadline, incarnation, path in self._catalog.deadlines(self._scanned, now, _BATCH):
            self._scanned = (deadline, incarnation)
            try:
                self._states.get(path)  # comes into memory, and so into the heap
            except Damaged as damage:
                _log.error("a stream whose time has run out is damaged: %s", damage)
        self.refresh()
        found: list[tuple[str, int]] = []
        heap = self._heap
        while heap and heap[0][0] <= now and len(found) < _BATCH:
            _, _, kind, state = heapq.heappop(heap)
            incarnation = state.incarnation
            (self._noting if kind == _NOTE else self._listed).discard(incarnation)
            if self._has_left(state):
                continue
            if kind == _NOTE:
                self._note(state, now)
            elif self._is_over(state, now):
                found.append((state.path, incarnation))
        return found

    def next(self) -> int | None:
        """Returns when `due` may next have something."""
        times = [self._heap[0][0]] if self._heap else []
        if self._next_stored is not None:
            times.append(self._next_stored)
        return min(times, default=None)

    def refresh(self) -> None:
        """Looks at the catalog again, after a checkpoint."""
        self._next_stored = self._catalog.next_deadline(self._scanned)

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
            deadline = now + (state.lifetime.ttl or 1) * MICROSECONDS
        self._push(deadline, _DEADLINE, state)
        return False

    def _push(self, at: int, kind: int, state: StreamState) -> None:
        if kind == _DEADLINE:
            self._listed.add(state.incarnation)
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, kind, state))
        if len(self._heap) > self._tidy_at:
            self._tidy()

    def _tidy(self) -> None:
        """Forgets the streams that ended before their time or were let go: there may be many, and their time far off."""
        kept = []
        for entry in self._heap:
            if not self._has_left(entry[3]):
                kept.append(entry)
            else:
                listed = self._noting if entry[2] == _NOTE else self._listed
                listed.discard(entry[3].incarnation)
        heapq.heapify(kept)
        self._heap = kept
        self._tidy_at = max(_FEW, 2 * len(kept))

    def _has_left(self, state: StreamState) -> bool:
        ended = state.removed or state.soft_deleted
        return ended or self._states.loaded(state.path) is not state

"""The deadlines of the memory store's streams, in heaps with one entry for each stream that can expire.

Using a stream moves its deadline later but does not change the heap. If the deadline of an entry has passed but
that of its stream has not, the entry is pushed back with the new deadline. Sliding lifetimes are in one heap, ordered by steady time, and
fixed dates are in another, ordered by Unix time. Setting the wall clock moves all dates by the same amount, so they keep their order.
"""

import heapq
from typing import Final

from ..protocol.state import StreamState
from ..protocol.timeline import Timeline
from ..protocol.units import SECOND

_BATCH: Final = 1000  # maximum expired streams that one call of `due` returns, so that it does not block the loop
_EXAMINED: Final = (
    5 * _BATCH
)  # maximum entries that one call of `due` examines, even if it finds no expired stream
_FEW: Final = 1000  # number of entries below which removing stale ones is not worth the work
_RECHECK: Final = SECOND  # microseconds until a stream with live readers is examined again

_Heap = list[tuple[int, int, StreamState]]


class Deadlines:
    """Keeps the deadlines of one store's streams.

    Args:
        timeline: the store's steady time.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._idle: _Heap = []  # by steady time
        self._dates: _Heap = []  # by Unix time
        self._tidy_at = _FEW

    def __len__(self) -> int:
        return len(self._idle) + len(self._dates)

    def add(self, state: StreamState) -> None:
        """Adds a stream, unless it never expires."""
        deadline = state.lifetime.deadline(state.touched_at)
        if deadline is not None:
            is_date = state.lifetime.expires_at is not None
            heap = self._dates if is_date else self._idle
            heapq.heappush(heap, (deadline, state.incarnation, state))
        if len(self) > self._tidy_at:
            self._tidy()

    def next(self) -> int | None:
        """Returns the steady time of the earliest entry; None if there is no entry."""
        times = [self._idle[0][0]] if self._idle else []
        if self._dates:
            times.append(self._dates[0][0] - self._timeline.offset)
        return min(times, default=None)

    def due(self, now: int) -> list[tuple[str, int]]:
        """Removes the streams that have expired at `now`, at most `_BATCH` of them, and returns their paths and incarnations."""
        found: list[tuple[str, int]] = []
        today = now + self._timeline.offset
        for heap, until in ((self._dates, today), (self._idle, now)):
            for _ in range(_EXAMINED):
                if not heap or heap[0][0] > until or len(found) == _BATCH:
                    break
                _, incarnation, state = heapq.heappop(heap)
                if _has_ended(state):
                    continue
                deadline = state.deadline()
                if deadline is not None and deadline <= now:
                    found.append((state.path, incarnation))
                else:  # a sliding lifetime, because a fixed date cannot be extended
                    again = now + _RECHECK if deadline is None else deadline
                    heapq.heappush(heap, (again, incarnation, state))
        return found

    def _tidy(self) -> None:
        """Removes the entries of streams that ended before their deadline. There may be many, with deadlines far in the future."""
        for heap in (self._idle, self._dates):
            heap[:] = [entry for entry in heap if not _has_ended(entry[2])]
            heapq.heapify(heap)
        self._tidy_at = max(_FEW, 2 * len(self))


def _has_ended(state: StreamState) -> bool:
    return state.removed or state.soft_deleted

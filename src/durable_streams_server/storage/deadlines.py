"""Which streams to look at when: heaps of deadlines, one entry for each stream that can expire.

A use of the stream only moves its real deadline later, so the heap is not touched: an entry that comes up early is put back.
Idle streams are in a heap of steady times, deadlines that are dates in one of dates: setting the wall clock moves all of
these, and their order stays.
"""

import heapq
from typing import Final

from ..protocol.state import StreamState
from ..protocol.timeline import Timeline
from ..protocol.units import SECOND

_BATCH: Final = 1000  # a sweep gives the loop back after so many ends
_LOOKED: Final = (
    5 * _BATCH
)  # or after so many entries, most of them of streams that were used again
_FEW: Final = 1000  # entries that are not worth tidying up
_RECHECK: Final = SECOND  # how soon a stream held alive by live readers is looked at again

_Heap = list[tuple[int, int, StreamState]]


class Deadlines:
    """The streams of one store that can expire.

    Args:
        timeline: the store's.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._idle: _Heap = []  # by steady time
        self._dates: _Heap = []  # by Unix time
        self._tidy_at = _FEW

    def __len__(self) -> int:
        return len(self._idle) + len(self._dates)

    def add(self, state: StreamState) -> None:
        """Adds a stream; one that lives for ever is not kept."""
        deadline = state.lifetime.deadline(state.touched_at)
        if deadline is not None:
            is_date = state.lifetime.expires_at is not None
            heap = self._dates if is_date else self._idle
            heapq.heappush(heap, (deadline, state.incarnation, state))
        if len(self) > self._tidy_at:
            self._tidy()

    def next(self) -> int | None:
        """Returns the earliest entry's steady time."""
        times = [self._idle[0][0]] if self._idle else []
        if self._dates:
            times.append(self._dates[0][0] - self._timeline.offset)
        return min(times, default=None)

    def due(self, now: int) -> list[tuple[str, int]]:
        """Takes the streams whose time has run out at `now`, at most a batch of them."""
        found: list[tuple[str, int]] = []
        today = now + self._timeline.offset
        for heap, until in ((self._dates, today), (self._idle, now)):
            for _ in range(_LOOKED):
                if not heap or heap[0][0] > until or len(found) == _BATCH:
                    break
                _, incarnation, state = heapq.heappop(heap)
                if _has_ended(state):
                    continue
                deadline = state.deadline()
                if deadline is not None and deadline <= now:
                    found.append((state.path, incarnation))
                else:  # no date, for a date that has come is over
                    again = now + _RECHECK if deadline is None else deadline
                    heapq.heappush(heap, (again, incarnation, state))
        return found

    def _tidy(self) -> None:
        """Forgets the streams that ended before their time: there may be many, and their time far off."""
        for heap in (self._idle, self._dates):
            heap[:] = [entry for entry in heap if not _has_ended(entry[2])]
            heapq.heapify(heap)
        self._tidy_at = max(_FEW, 2 * len(self))


def _has_ended(state: StreamState) -> bool:
    return state.removed or state.soft_deleted

"""Which streams to look at when: a heap of deadlines, one entry for each stream that can expire.

A use of the stream only moves its real deadline later, so the heap is not touched: an entry that comes up early is put back.
"""

import heapq
from typing import Final

from ..protocol.lifetime import MICROSECONDS
from ..protocol.state import StreamState

_BATCH: Final = 1000  # a sweep gives the loop back after so many
_FEW: Final = 1000  # entries that are not worth tidying up
_RECHECK: Final = MICROSECONDS  # how soon a stream held alive by live readers is looked at again


class Deadlines:
    """The streams of one store that can expire."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, StreamState]] = []
        self._tidy_at = _FEW

    def add(self, state: StreamState) -> None:
        """Adds a stream; one that lives for ever is not kept."""
        deadline = state.lifetime.deadline(state.touched_at)
        if deadline is not None:
            heapq.heappush(self._heap, (deadline, state.incarnation, state))
            if len(self._heap) > self._tidy_at:
                self._tidy()

    def next(self) -> int | None:
        """Returns the earliest entry's time."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: int) -> list[tuple[str, int]]:
        """Takes the streams whose time has run out at `now`, at most a batch of them."""
        found: list[tuple[str, int]] = []
        heap = self._heap
        while heap and heap[0][0] <= now and len(found) < _BATCH:
            _, incarnation, state = heapq.heappop(heap)
            if _has_ended(state):
                continue
            deadline = state.deadline()
            if deadline is not None and deadline <= now:
                found.append((state.path, incarnation))
            else:
                again = now + _RECHECK if deadline is None else deadline
                heapq.heappush(heap, (again, incarnation, state))
        return found

    def _tidy(self) -> None:
        """Forgets the streams that ended before their time: there may be many, and their time far off."""
        self._heap = [entry for entry in self._heap if not _has_ended(entry[2])]
        heapq.heapify(self._heap)
        self._tidy_at = max(_FEW, 2 * len(self._heap))


def _has_ended(state: StreamState) -> bool:
    return state.removed or state.soft_deleted

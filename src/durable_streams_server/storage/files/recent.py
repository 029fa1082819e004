"""The newest bytes of streams, in memory: those that are not in a log yet, and as many others as a budget allows."""

from array import array
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from ...protocol import json_mode

#: The top bit of an end that lies inside an append: a page may be cut there, a sub-offset not counted past it.
INSIDE: Final = 1 << 63
_COST: Final = 120  # bytes of memory that one piece takes besides its own
_STALE: Final = 1000  # forgotten pieces that are not worth tidying up after


class Piece(NamedTuple):
    """A run of bytes and its end, with `INSIDE` set if the append goes on after it."""

    end: int
    data: bytes


def cut(begin: int, data: bytes, marks: Iterable[int] | None = None) -> list[Piece]:
    """Cuts a large JSON append into pieces at its marks, which are found if they are not given."""
    end = begin + len(data)
    pieces = []
    last = 0
    for stop in json_mode.marks(data) if marks is None else marks:
        pieces.append(Piece((begin + stop) | INSIDE, data[last:stop]))
        last = stop
    pieces.append(Piece(end, data[last:]))
    return pieces


class Recent:
    """The newest pieces of one stream, without a gap, up to its tail.

    Args:
        base: the position from which the stream's own bytes begin.
        tail: the position up to which the log has them.
        entries: how many pieces the log's index has.

    Attributes:
        base: as given.
        begin: the position of the first byte held.
        flushed: the position up to which the log has the bytes.
        entries: how many pieces the log's index has.
        gone: whether the stream is removed, so that its bytes need no log.
    """

    __slots__ = ("_data", "_ends", "_first", "base", "begin", "entries", "flushed", "gone")

    def __init__(self, base: int, tail: int, entries: int) -> None:
        self.base = base
        self.begin = self.flushed = tail
        self.entries = entries
        self.gone = False
        self._data: list[bytes] = []
        self._ends = array("Q")
        self._first = 0  # pieces before it were dropped

    def add(self, end: int, data: bytes) -> None:
        """Adds the next piece."""
        self._data.append(data)
        self._ends.append(end)

    def read(self, start: int, end: int) -> bytes:
        """Returns the bytes between two positions, `start` not before `begin`."""
        at = self._index(start)
        position = self._start_of(at)
        parts = []
        while position < end:
            data = self._data[at]
            parts.append(data[max(0, start - position) : end - position])
            position += len(data)
            at += 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def ends_from(self, position: int) -> list[int]:
        """Returns the ends of the pieces that end after `position`, with their `INSIDE` bits."""
        return list(self._ends[self._index(position) :])

    def start_of_piece(self, position: int) -> int:
        """Returns where the piece that holds the byte at `position` begins, or the tail."""
        return self._start_of(self._index(position))

    def pieces(self, start: int, end: int) -> list[Piece]:
        """Returns the whole pieces between two piece ends."""
        at = self._index(start)
        found = []
        while at < len(self._ends) and self._ends[at] & ~INSIDE <= end:
            found.append(Piece(self._ends[at], self._data[at]))
            at += 1
        return found

    @property
    def unflushed(self) -> int:
        """How many pieces the log has not."""
        return len(self._ends) - self._index(self.flushed)

    def drop_first(self) -> int:
        """Forgets the oldest piece if the log has it; returns the memory given back, 0 if it must be kept."""
        if self._first == len(self._data) or self._ends[self._first] & ~INSIDE > self.flushed:
            return 0
        self.begin = self._ends[self._first] & ~INSIDE
        freed = len(self._data[self._first])
        self._data[self._first] = b""
        self._first += 1
        if self._first > 32 and self._first * 2 > len(self._data):
            del self._data[: self._first]
            del self._ends[: self._first]
            self._first = 0
        return freed + _COST

    def __len__(self) -> int:
        return len(self._data) - self._first

    def _index(self, position: int) -> int:
        low, high = self._first, len(self._ends)
        while low < high:
            middle = (low + high) // 2
            if self._ends[middle] & ~INSIDE > position:
                high = middle
            else:
                low = middle + 1
        return low

    def _start_of(self, index: int) -> int:
        return self._ends[index - 1] & ~INSIDE if index > self._first else self.begin


class Memory:
    """What all streams' recent bytes cost together, and which of them go first when it is too much.

    Args:
        limit: bytes to keep at most, besides those that no log has yet.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._order: deque[Recent] = deque()
        self._stale = 0  # entries of it whose piece is forgotten
        self.held = 0

    def add(self, recent: Recent, end: int, data: bytes) -> None:
        """Adds a piece to a stream's."""
        recent.add(end, data)
        self.held += len(data) + _COST
        self._order.append(recent)

    def trim(self) -> None:
        """Drops the oldest pieces while there are too many; those that no log has yet stay."""
        order = self._order
        while self.held > self._limit and order:
            recent = order[0]
            freed = recent.drop_first()
            if not freed and len(recent):
                return
            order.popleft()
            self.held -= freed
            self._stale -= not freed

    def forget(self, recent: Recent) -> None:
        """Drops everything of a stream that is gone."""
        recent.flushed = INSIDE - 1
        while freed := recent.drop_first():
            self.held -= freed
            self._stale += 1
        if self._stale > max(_STALE, len(self._order) // 2):
            self._order = deque(each for each in self._order if len(each))
            self._stale = 0


__all__ = ["INSIDE", "Memory", "Piece", "Recent", "cut"]

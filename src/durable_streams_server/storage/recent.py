"""Keeps the newest bytes of streams in memory: all bytes that no log has yet, and as many others as a limit allows."""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ..protocol.json import mode as json_mode

#: The bit that marks the end of a piece as inside an append. A page may end there, but a sub-offset may not count past it.
INSIDE: Final = 1 << 63
#: Bytes of memory that a piece takes besides its own bytes: the header of the bytes object, its places in two columns and in the order
#: of all pieces, and the queued append until it is committed.
COST: Final = 120
#: The order of pieces is tidied only if it has more stale entries than this.
_STALE: Final = 1000
#: Number of entries in one block of the order of pieces. A scan of one block takes about 0.4 ms.
_BLOCK: Final = 4096
#: Maximum number of pieces that are dropped or freed in one step.
_DROPPED: Final = 4096


Octets = bytes | memoryview


class Piece(NamedTuple):
    """A run of bytes within one append.

    Attributes:
        end: the position after the piece, with the bit `INSIDE` if the append continues after it.
        data: the bytes.
    """

    end: int
    data: Octets


class Pieces:
    """Consecutive pieces, stored as columns so that a hundred thousand pieces need no objects of their own.

    Args:
        ends: the end of each piece, with the bit `INSIDE` if its append continues after it.
        data: the bytes of each piece.
    """

    __slots__ = ("data", "ends")

    def __init__(self, ends: "array[int]", data: list[Octets]) -> None:
        self.ends = ends
        self.data = data

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> "Pieces":
        """Returns pieces as columns."""
        listed = list(pieces)
        return cls(array("Q", [piece.end for piece in listed]), [piece.data for piece in listed])

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Piece]:
        return map(Piece, self.ends, self.data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pieces):
            return NotImplemented
        return self.ends == other.ends and self.data == other.data

    def extend(self, others: "Pieces") -> None:
        """Adds other pieces behind these. They must begin where these end."""
        self.ends.extend(others.ends)
        self.data += others.data

    @property
    def end(self) -> int:
        """The position after the last piece."""
        return self.ends[-1] & ~INSIDE


def cut(begin: int, data: bytes, marks: Iterable[int] | None = None) -> list[Piece]:
    """Returns the pieces of a large JSON append, cut at its marks.

    The pieces are views of `data`, because a copy of the largest append would take 40 ms.

    Args:
        begin: the position in the stream at which the append begins.
        data: the bytes of the append.
        marks: the places in `data` at which to cut, or None to find them here.
    """
    end = begin + len(data)
    pieces = []
    last = 0
    view = memoryview(data)
    for stop in json_mode.marks(data) if marks is None else marks:
        pieces.append(Piece((begin + stop) | INSIDE, view[last:stop]))
        last = stop
    pieces.append(Piece(end, view[last:]))
    return pieces


def _as_bytes(part: Octets) -> bytes:
    """Returns a part as bytes. Copies it only if it is a view of part of a larger bytes object."""
    if isinstance(part, bytes):
        return part
    whole = part.obj
    return whole if isinstance(whole, bytes) and len(whole) == len(part) else bytes(part)


class Recent:
    """The newest pieces of one stream, without gaps, up to its tail.

    Args:
        base: the position at which the stream's own bytes begin, after those of its ancestors.
        tail: the position up to which the log has the bytes.
        entries: the number of pieces in the index of the log.

    Attributes:
        base: the position at which the stream's own bytes begin.
        begin: the position of the first byte in memory.
        flushed: the position up to which the log has the bytes.
        entries: the number of pieces in the index of the log.
        gone: whether the stream is removed, so that its bytes need not be written to a log.
    """

    __slots__ = ("_data", "_ends", "_first", "base", "begin", "entries", "flushed", "gone")

    def __init__(self, base: int, tail: int, entries: int) -> None:
        self.base = base
        self.begin = self.flushed = tail
        self.entries = entries
        self.gone = False
        self._data: list[Octets] = []
        self._ends = array("Q")
        self._first = 0  # the number of dropped pieces at the beginning of the columns

    def add(self, end: int, data: Octets) -> None:
        """Adds a piece behind the newest one."""
        self._data.append(data)
        self._ends.append(end)

    def read(self, start: int, end: int) -> bytes:
        """Returns the bytes between two positions. `start` must not lie before `begin`."""
        first, last = self._index(start), self._index(end - 1)
        begin = self._start_of(first)
        if first == last:
            return _as_bytes(self._data[first][start - begin : end - begin])
        parts = self._data[first : last + 1]
        parts[0] = parts[0][start - begin :]
        parts[-1] = parts[-1][: end - self._start_of(last)]
        return b"".join(parts)

    def around(self, position: int) -> tuple[int, int, int]:
        """Returns the begin and end of the piece that holds the byte at `position`, and the end of its append.

        At the tail, where there is no such piece, all three are the tail.
        """
        ends, at = self._ends, self._index(position)
        lower = self._start_of(at)
        if at == len(ends):
            return lower, lower, lower
        last = at
        while ends[last] & INSIDE and last + 1 < len(ends):
            last += 1
        return lower, ends[at] & ~INSIDE, ends[last] & ~INSIDE

    def count(self, start: int, end: int) -> int:
        """Returns the number of pieces between two positions, both of which must be ends of pieces."""
        return 0 if end <= start else self._index(end) - self._index(start)

    def pieces(self, start: int, end: int, most: int | None = None) -> Pieces:
        """Returns the pieces between two positions, at most the first `most` of them. Both positions must be ends of pieces."""
        first = self._index(start)
        last = first if end <= start else self._index(end)
        if most is not None:
            last = min(last, first + most)
        return Pieces(self._ends[first:last], self._data[first:last])

    @property
    def unflushed(self) -> int:
        """The number of pieces that the log does not have yet."""
        return len(self._ends) - self._index(self.flushed)

    def drop_first(self) -> int:
        """Drops the oldest piece if the log has it. Returns the freed bytes of memory, or 0 if the piece must stay."""
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
        return freed + COST

    def __len__(self) -> int:
        return len(self._data) - self._first

    @property
    def cost(self) -> int:
        """The bytes of memory that all pieces take."""
        if not len(self):
            return 0
        return (self._ends[-1] & ~INSIDE) - self.begin + COST * len(self)

    def cost_after(self, position: int) -> int:
        """Returns the bytes of memory that the pieces after `position` take. The position must be the end of a piece."""
        at = self._index(position)
        if at == len(self._ends):
            return 0
        return (self._ends[-1] & ~INSIDE) - position + COST * (len(self._ends) - at)

    def clear(self) -> list[Octets]:
        """Drops every piece and returns their bytes, so that the caller can free them in steps."""
        data, self._data = self._data, []
        if self._ends:
            self.begin = self._ends[-1] & ~INSIDE
        self._ends, self._first = array("Q"), 0
        return data

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


class RecentCache:
    """Counts the memory of the recent bytes of all streams, and drops the oldest pieces when this memory exceeds a limit.

    The order of all pieces is kept in blocks, so that the event loop can work on it in short steps. Each `trim` drops, tidies or frees
    a bounded number of pieces.

    Args:
        limit: the maximum bytes of memory, not counting pieces that no log has yet.

    Attributes:
        held: the bytes of memory that all pieces take.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._newest: deque[Recent] = deque()
        self._blocks: deque[deque[Recent]] = deque([self._newest])
        self._stale = 0  # the number of entries whose piece was dropped
        self._next = 0  # the index of the block that was tidied last
        self._dying: list[list[Octets]] = []  # dropped pieces that are not freed yet
        self.held = 0

    def add(self, recent: Recent, end: int, data: Octets) -> None:
        """Adds a piece to a stream."""
        recent.add(end, data)
        self.held += len(data) + COST
        self._newest.append(recent)
        if len(self._newest) == _BLOCK:
            self._newest = deque()
            self._blocks.append(self._newest)

    def added(self, order: Sequence[Recent], size: int) -> int:
        """Counts pieces that have already been added to their streams, and returns the bytes of memory that they take.

        Args:
            order: the stream of each piece, from the oldest piece to the newest.
            size: the number of bytes in all of the pieces.
        """
        at = 0
        while at < len(order):
            part = order[at : at + _BLOCK - len(self._newest)]
            self._newest.extend(part)
            at += len(part)
            if len(self._newest) == _BLOCK:
                self._newest = deque()
                self._blocks.append(self._newest)
        cost = size + COST * len(order)
        self.held += cost
        return cost

    def trim(self) -> None:
        """Drops the oldest pieces while their memory exceeds the limit, but only a bounded number per call. Keeps pieces that no log has yet."""
        if self.held > self._limit:
            self._drop_some()
        if self._stale > _STALE and self._is_mostly_stale:
            self._tidy_some()
        if self._dying:
            self._free_some()

    def forget(self, recent: Recent) -> None:
        """Drops every piece of a removed stream."""
        count = len(recent)
        if count:
            self.held -= recent.cost
            self._stale += count
            self._dying.append(recent.clear())
            self._free_some()
            if self._stale > _STALE and self._is_mostly_stale:
                self._tidy_some()

    @property
    def _is_mostly_stale(self) -> bool:
        """Whether more than half of the entries in the order of pieces are stale, estimated from the number of blocks."""
        return self._stale > len(self._blocks) * _BLOCK // 2

    def _drop_some(self) -> None:
        block = self._blocks[0]
        for _ in range(_DROPPED):
            if not block:
                if len(self._blocks) == 1:
                    return
                self._blocks.popleft()
                block = self._blocks[0]
                continue
            recent = block[0]
            freed = recent.drop_first()
            if not freed and len(recent):
                return
            block.popleft()
            self.held -= freed
            self._stale -= not freed
            if self.held <= self._limit:
                return

    def _tidy_some(self) -> None:
        """Removes the stale entries from the next block, and merges the rest into the block before it if there is room."""
        blocks = self._blocks
        self._next = (self._next + 1) % len(blocks)
        block = blocks[self._next]
        kept = [recent for recent in block if len(recent)]
        self._stale -= len(block) - len(kept)
        block.clear()
        before = blocks[self._next - 1]
        if self._next and block is not self._newest and len(before) + len(kept) < _BLOCK:
            before.extend(kept)
            del blocks[self._next]
        else:
            block.extend(kept)

    def _free_some(self) -> None:
        pieces = self._dying[-1]
        del pieces[-_DROPPED:]
        if not pieces:
            self._dying.pop()

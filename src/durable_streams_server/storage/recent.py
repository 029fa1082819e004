"""The newest bytes of streams, in memory: those that are not in a log yet, and as many others as a budget allows."""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ..protocol.json import mode as json_mode

#: The top bit of an end that lies inside an append: a page may be cut there, a sub-offset not counted past it.
INSIDE: Final = 1 << 63
#: Bytes of memory that one piece takes besides its own: the head of its bytes object, its places in two columns and in the order
#: of all pieces, and its append until the commit.
COST: Final = 120
_STALE: Final = 1000  # forgotten pieces that are not worth tidying up after
_BLOCK: Final = 4096  # entries in one block of the order: looking at all of them takes about 0.4 ms
_DROPPED: Final = 4096  # pieces dropped or freed in one step


Octets = bytes | memoryview


class Piece(NamedTuple):
    """A run of bytes and its end, with `INSIDE` set if the append goes on after it."""

    end: int
    data: Octets


class Pieces:
    """Pieces that follow each other, kept as columns: to take a run of a hundred thousand makes no object for each.

    Args:
        ends: where each ends, with `INSIDE` set if its append goes on.
        data: the bytes of each.
    """

    __slots__ = ("data", "ends")

    def __init__(self, ends: "array[int]", data: list[Octets]) -> None:
        self.ends = ends
        self.data = data

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> "Pieces":
        """Returns some pieces as columns."""
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

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def extend(self, others: "Pieces") -> None:
        """Adds the pieces that follow."""
        self.ends.extend(others.ends)
        self.data += others.data

    @property
    def end(self) -> int:
        """The position after the last byte."""
        return self.ends[-1] & ~INSIDE


def cut(begin: int, data: bytes, marks: Iterable[int] | None = None) -> list[Piece]:
    """Cuts a large JSON append into pieces at its marks, which are found if they are not given.

    The pieces are views: a copy of the largest append takes 40 ms.
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
    """Returns a part as bytes, without a copy if it is the whole of what it is a view of."""
    if isinstance(part, bytes):
        return part
    whole = part.obj
    return whole if isinstance(whole, bytes) and len(whole) == len(part) else bytes(part)


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
        self._data: list[Octets] = []
        self._ends = array("Q")
        self._first = 0  # pieces before it were dropped

    def add(self, end: int, data: Octets) -> None:
        """Adds the next piece."""
        self._data.append(data)
        self._ends.append(end)

    def read(self, start: int, end: int) -> bytes:
        """Returns the bytes between two positions, `start` not before `begin`."""
        first, last = self._index(start), self._index(end - 1)
        begin = self._start_of(first)
        if first == last:
            return _as_bytes(self._data[first][start - begin : end - begin])
        parts = self._data[first : last + 1]
        parts[0] = parts[0][start - begin :]
        parts[-1] = parts[-1][: end - self._start_of(last)]
        return b"".join(parts)

    def around(self, position: int) -> tuple[int, int, int]:
        """Returns where the piece that holds the byte at `position` begins and ends, and where its append ends; the tail
        three times if there is no such piece."""
        ends, at = self._ends, self._index(position)
        lower = self._start_of(at)
        if at == len(ends):
            return lower, lower, lower
        last = at
        while ends[last] & INSIDE and last + 1 < len(ends):
            last += 1
        return lower, ends[at] & ~INSIDE, ends[last] & ~INSIDE

    def count(self, start: int, end: int) -> int:
        """Returns how many pieces there are between two piece ends."""
        return 0 if end <= start else self._index(end) - self._index(start)

    def pieces(self, start: int, end: int, most: int | None = None) -> Pieces:
        """Returns the whole pieces between two piece ends, the first `most` of them if that is given."""
        first = self._index(start)
        last = first if end <= start else self._index(end)
        if most is not None:
            last = min(last, first + most)
        return Pieces(self._ends[first:last], self._data[first:last])

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
        return freed + COST

    def __len__(self) -> int:
        return len(self._data) - self._first

    @property
    def cost(self) -> int:
        """The memory that all pieces take."""
        if not len(self):
            return 0
        return (self._ends[-1] & ~INSIDE) - self.begin + COST * len(self)

    def cost_after(self, position: int) -> int:
        """The memory that the pieces take which end after `position`, a piece's end."""
        at = self._index(position)
        if at == len(self._ends):
            return 0
        return (self._ends[-1] & ~INSIDE) - position + COST * (len(self._ends) - at)

    def clear(self) -> list[Octets]:
        """Forgets every piece, and returns their bytes, which the caller frees."""
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
    """What all streams' recent bytes cost together, and which of them go first when it is too much.

    The order of all pieces is kept in blocks, so that the work on it, which grows with what clients have written, is done in
    short steps: each `trim` drops a bounded number of pieces, and tidies up or frees a bounded part of what is forgotten.

    Args:
        limit: bytes to keep at most, besides those that no log has yet.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._newest: deque[Recent] = deque()
        self._blocks: deque[deque[Recent]] = deque([self._newest])
        self._stale = 0  # those whose piece is forgotten
        self._next = 0  # the block that was tidied last
        self._dying: list[list[Octets]] = []  # forgotten pieces that are not freed yet
        self.held = 0

    def add(self, recent: Recent, end: int, data: Octets) -> None:
        """Adds a piece to a stream's."""
        recent.add(end, data)
        self.held += len(data) + COST
        self._newest.append(recent)
        if len(self._newest) == _BLOCK:
            self._newest = deque()
            self._blocks.append(self._newest)

    def added(self, order: Sequence[Recent], size: int) -> int:
        """As `add`, for pieces that their streams have already.

        Args:
            order: the stream of each piece, in the order in which they came.
            size: the bytes of all of them.

        Returns:
            the memory that they take.
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
        """Drops the oldest pieces while there are too many, up to a bounded number; those that no log has yet stay."""
        if self.held > self._limit:
            self._drop_some()
        if self._stale > _STALE and self._is_mostly_stale:
            self._tidy_some()
        if self._dying:
            self._free_some()

    def forget(self, recent: Recent) -> None:
        """Drops everything of a stream that is gone."""
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
        """Whether half of the entries are stale, as far as the number of blocks tells."""
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
        """Takes the stale entries out of one block, the blocks in turn; what is left joins the block before it."""
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


__all__ = ["COST", "INSIDE", "Piece", "Pieces", "Recent", "RecentCache", "cut"]

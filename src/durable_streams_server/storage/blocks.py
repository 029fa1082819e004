"""The bytes of one incarnation in the memory store, with the marks at which pages may be cut."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from ..protocol.json import mode as json_mode
from ..protocol.limits import MARK_SPACING
from ..protocol.media import Kind
from ..protocol.units import KIB
from .store import Marks

#: Minimum bytes of an append that is kept as its own object, without a copy. Smaller appends are gathered in runs, because most of them have
#: fewer bytes than an object of their own would add.
_WHOLE: Final = 8 * KIB
#: Maximum bytes of gathered appends in one run, because Python copies a run as it grows.
_RUN: Final = 64 * KIB


class Blocks:
    """Keeps the wire bytes of one incarnation, from position `base` on.

    Args:
        base: the position of the first byte.
        kind: the stream's kind of content. Large appends of JSON have marks inside.
    """

    __slots__ = ("_base", "_begins", "_ends", "_gathering", "_json", "_marks", "_runs", "_tail")

    def __init__(self, base: int, kind: Kind) -> None:
        self._base = self._tail = base
        self._gathering: bytearray | None = bytearray()  # the last run, while it may grow
        self._runs: list[bytes | bytearray] = [self._gathering]
        self._begins = array("Q", [base])  # the position of each run's first byte
        self._json = kind is Kind.JSON
        self._ends = array("Q")  # the position after each append
        self._marks = array("Q")  # `_ends`, and ends of values inside large JSON appends

    def __len__(self) -> int:
        return self._tail - self._base

    def append(self, data: bytes, inside: Iterable[int] | None = None) -> None:
        """Adds the wire bytes of one append.

        Args:
            data: the wire bytes.
            inside: the marks inside a large JSON append, relative to its start; None if the caller does not know them.
        """
        if not data:
            return
        begin, size = self._tail, len(data)
        gathering = self._gathering
        if gathering is not None and size < _WHOLE and len(gathering) + size <= _RUN:
            gathering += data
        else:
            self._add_run(data)
        end = self._tail = begin + size
        if size > MARK_SPACING and self._json:
            inside = json_mode.marks(data) if inside is None else inside
            self._marks.extend(begin + mark for mark in inside)
        self._ends.append(end)
        self._marks.append(end)

    def read(self, start: int, end: int) -> bytes:
        """Returns the bytes between two positions."""
        if start == end:
            return b""
        runs, begins = self._runs, self._begins
        first = bisect_right(begins, start) - 1
        last = bisect_right(begins, end - 1) - 1
        parts: list[bytes | bytearray | memoryview] = [*runs[first : last + 1]]
        if len(parts) == 1 and start == begins[first] and end - start == len(runs[first]):
            return bytes(runs[first])  # the same object as the append, if the append is kept whole
        parts[-1] = memoryview(parts[-1])[: end - begins[last]]
        parts[0] = memoryview(parts[0])[start - begins[first] :]
        return b"".join(parts)

    def marks(self, position: int) -> Marks:
        """Returns the marks around a position of the incarnation, and the end of the append there."""
        above = bisect_right(self._marks, position)
        following = bisect_right(self._ends, position)
        return Marks(
            self._marks[above - 1] if above else self._base,
            self._marks[above] if above < len(self._marks) else self._tail,
            self._ends[following] if following < len(self._ends) else self._tail,
        )

    def _add_run(self, data: bytes) -> None:
        self._gathering = None if len(data) >= _WHOLE else bytearray(data)
        self._runs.append(data if self._gathering is None else self._gathering)
        self._begins.append(self._tail)

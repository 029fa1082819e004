"""The bytes of one incarnation in memory, with the marks at which pages may be cut."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable

from ..protocol import json_mode
from ..protocol.media import Kind
from ..protocol.names import MARK_SPACING
from .store import Marks


class Blocks:
    """An append-only run of wire bytes that begins at `base`."""

    __slots__ = ("_base", "_bytes", "_ends", "_json", "_marks")

    def __init__(self, base: int, kind: Kind) -> None:
        self._base = base
        self._bytes = bytearray()
        self._json = kind is Kind.JSON
        self._ends = array("Q")  # where each append ends
        self._marks = array("Q")  # these, and value ends inside large JSON appends

    def __len__(self) -> int:
        return len(self._bytes)

    def append(self, data: bytes, inside: Iterable[int] | None = None) -> None:
        """Adds one append's wire bytes. `inside` are the marks in large JSON, if they are known."""
        if not data:
            return
        begin = self._base + len(self._bytes)
        self._bytes += data
        if self._json and len(data) > MARK_SPACING:
            inside = json_mode.marks(data) if inside is None else inside
            self._marks.extend(begin + mark for mark in inside)
        self._ends.append(begin + len(data))
        self._marks.append(begin + len(data))

    def read(self, start: int, end: int) -> bytes:
        """Returns the bytes between two positions."""
        with memoryview(self._bytes) as view:
            return bytes(view[start - self._base : end - self._base])

    def marks(self, position: int) -> Marks:
        """Returns the marks around a position."""
        tail = self._base + len(self._bytes)
        above = bisect_right(self._marks, position)
        following = bisect_right(self._ends, position)
        return Marks(
            self._marks[above - 1] if above else self._base,
            self._marks[above] if above < len(self._marks) else tail,
            self._ends[following] if following < len(self._ends) else tail,
        )

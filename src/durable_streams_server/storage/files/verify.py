"""Verifies the bytes of a log with the CRCs in its index, and remembers which bytes of an open log are verified.

A log is read many times, but its bytes never change. So each byte is verified only once after the log was opened, and a repeated read
costs one look-up. Bytes that this process has written itself count as verified.
"""

import io
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from ..damage import Damaged
from ..recent import INSIDE
from .checksum import crc32
from .disk import File
from .index import Index, is_whole

AT_ONCE: Final = 4 * 1024 * 1024  # maximum bytes in memory at a time
_ENTRIES: Final = 4096  # maximum index entries in memory at a time


class Verified:
    """Keeps the ranges of positions that are verified in one log.

    One thread may change an instance while other threads read it. Two threads must not change it at the same time.
    """

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: tuple[tuple[int, int], ...] = ()

    def has(self, start: int, end: int) -> bool:
        """Returns whether all bytes between two positions are verified."""
        return end <= self.reach(start)

    def reach(self, start: int) -> int:
        """Returns the end of the verified range that contains `start`, or `start` if no range does."""
        runs = self._runs
        at = bisect_right(runs, (start, INSIDE)) - 1
        return max(start, runs[at][1]) if at >= 0 else start

    def add(self, start: int, end: int) -> None:
        """Adds the bytes between two positions to the verified ranges."""
        runs = self._runs
        if (
            runs and runs[-1][0] <= start <= runs[-1][1]
        ):  # true for nearly every append and catch-up read
            self._runs = (*runs[:-1], (runs[-1][0], max(end, runs[-1][1])))
            return
        joined = [run for run in runs if run[1] >= start and run[0] <= end]
        apart = [run for run in runs if run[1] < start or run[0] > end]
        low = min([start, *(run[0] for run in joined)])
        high = max([end, *(run[1] for run in joined)])
        self._runs = tuple(sorted([*apart, (low, high)]))


def read_verified(
    data: File, index: Index, entries: int, start: int, end: int
) -> tuple[bytes, int, int]:
    """Reads the bytes between two positions of a log, and verifies every piece that contains one of them.

    Args:
        data: the log.
        index: the log's index.
        entries: number of proven entries in the index.
        start: the first position, which is not before the index's base.
        end: the position after the last byte.

    Returns:
        The bytes, and the two positions between which all bytes are verified now.

    Raises:
        Damaged: a piece does not match its CRC, or the index ends before `end`.
    """
    base = index.base
    number = index.find(entries, start)
    low = index.start_of(number)
    if not base <= low <= start:
        raise Damaged("its index is not in order")
    position = low
    parts: list[bytes] = []
    while position < end:
        if number >= entries:
            raise Damaged(f"its index ends at position {position}")
        ends, crcs = index.columns(number, min(_ENTRIES, entries - number))
        count = _count(ends, position, end)
        stop = ends[count - 1]
        if stop - position > AT_ONCE:  # the next piece alone is too large
            parts.append(_compare_large(data, base, position, stop, crcs[0], start, end))
        else:
            chunk = _read(data, stop - position, position - base)
            _compare(chunk, position, ends[:count], crcs)
            is_wanted = start <= position and stop <= end
            parts.append(chunk if is_wanted else chunk[max(0, start - position) : end - position])
        number, position = number + count, stop
    return _joined(parts), low, position


def _count(ends: list[int], position: int, end: int) -> int:
    """Returns the number of pieces to read next: those up to `end` that fit in `AT_ONCE` bytes, but at least one.

    Args:
        ends: the end of each piece.
        position: the beginning of the first piece.
        end: the position that the read must reach.
    """
    reached = bisect_left(ends, end) + 1
    fitting = bisect_right(ends, position + AT_ONCE)
    return max(1, min(reached, fitting, len(ends)))


def _read(data: File, size: int, at: int) -> bytes:
    """Reads `size` bytes at a position of the file.

    Raises:
        Damaged: the file ends too early.
    """
    chunk = data.read(size, at) if size > 0 else b""
    if len(chunk) != size:
        raise Damaged("it is shorter than its index says")
    return chunk


def _compare(chunk: bytes, position: int, ends: list[int], crcs: Sequence[int]) -> None:
    """Compares consecutive pieces with their CRCs.

    Args:
        chunk: the bytes of all pieces.
        position: the beginning of the first piece.
        ends: the end of each piece.
        crcs: the CRC of each piece.

    Raises:
        Damaged: a CRC does not match, or the ends are not in order.
    """
    view = memoryview(chunk)
    at = 0
    for end, crc in zip(ends, crcs, strict=False):
        stop = end - position
        if crc32(view[at:stop]) != crc or stop <= at:
            raise Damaged(f"the bytes from {position + at} to {end} are damaged")
        at = stop


def _compare_large(
    data: File, base: int, position: int, stop: int, stored: int, start: int, end: int
) -> bytes:
    """Verifies one piece that is too large for memory. Returns the part of the piece between `start` and `end`.

    Args:
        data: the log.
        base: the position of the log's first byte.
        position: the beginning of the piece.
        stop: the end of the piece.
        stored: the CRC of the piece in the index.
        start: the first position to return.
        end: the position after the last byte to return.

    Raises:
        Damaged: the CRC does not match.
    """
    begin, crc = position, 0
    parts = []
    while position < stop:
        chunk = _read(data, min(AT_ONCE, stop - position), position - base)
        crc = crc32(chunk, crc)
        parts.append(chunk[max(0, start - position) : max(0, end - position)])
        position += len(chunk)
    if crc != stored:
        raise Damaged(f"the bytes from {begin} to {stop} are damaged")
    return _joined(parts)


def _joined(parts: list[bytes]) -> bytes:
    """Returns the concatenated parts. Joining 60 MiB in one call would block all other threads for 40 ms, so this adds one at a time."""
    if len(parts) == 1:
        return parts[0]
    whole = io.BytesIO()
    for part in parts:
        whole.write(part)
    return whole.getvalue()


def verified_prefix(
    data: File, index: Index, size: int, extent: tuple[int, int, int]
) -> tuple[int, int, str | None]:
    """Verifies all bytes of a log up to the first damage.

    Args:
        data: the log.
        index: the log's index.
        size: the size of the index file in bytes.
        extent: the position of the log's first byte, the position after its last byte, and the number of its index entries, as the
            catalog has them.

    Returns:
        The end of the last intact append before the damage, the number of index entries up to there, and a description of the damage, or None
        if the whole log is intact.
    """
    base, tail, entries = extent
    position = whole = base
    number = whole_entries = 0
    pieces = _Pieces(data, base, tail)
    there = min(entries, index.count_of(size))
    try:
        while number < there:
            for entry in index.raw(number, min(_ENTRIES, there - number)):
                end = entry[0] & ~INSIDE
                if not is_whole(entry):
                    raise Damaged(f"index entry {number} is damaged")
                if not position < end <= tail:
                    raise Damaged("its index is not in order")
                if pieces.crc(position, end) != entry[1]:
                    raise Damaged(f"the bytes from {position} to {end} are damaged")
                position, number = end, number + 1
                if not entry[0] & INSIDE:
                    whole, whole_entries = position, number
    except Damaged as damage:
        return whole, whole_entries, str(damage)
    if there < entries:
        return whole, whole_entries, "its index is cut short"
    if position != tail:
        return whole, whole_entries, f"its index ends at {position}, the catalog says {tail}"
    return position, number, None


class _Pieces:
    """Reads the pieces of a log in order, at most `AT_ONCE` bytes at a time.

    Args:
        data: the log.
        base: the position of the log's first byte.
        tail: the position after the log's last byte.
    """

    def __init__(self, data: File, base: int, tail: int) -> None:
        self._data = data
        self._base = base
        self._tail = tail
        self._chunk = memoryview(b"")
        self._begin = base

    def crc(self, start: int, end: int) -> int:
        """Returns the CRC of the piece between two positions.

        Raises:
            Damaged: the log ends too early.
        """
        if end - start > AT_ONCE:
            found = 0
            for at in range(start, end, AT_ONCE):
                found = crc32(_read(self._data, min(AT_ONCE, end - at), at - self._base), found)
            return found
        if end > self._begin + len(self._chunk):
            size = min(AT_ONCE, self._tail - start)
            self._chunk = memoryview(self._data.read(size, start - self._base))
            self._begin = start
        piece = self._chunk[start - self._begin : end - self._begin]
        if len(piece) != end - start:
            raise Damaged("it is shorter than its index says")
        return crc32(piece)

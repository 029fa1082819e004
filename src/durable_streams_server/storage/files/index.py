"""The index beside each log: one entry for each piece, where it ends and the CRC of its bytes.

    header: magic 8 · base u64 · CRC u32 · zero u32          entry: end u64 · CRC of the bytes u32 · CRC of the entry u32

The end's top bit says that the append goes on after it. Entries have one size and stand in order, so a place is found by
halving; a damaged entry is told by its own CRC.
"""

import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from .recent import INSIDE, Piece
from .wal import Damaged

_HEADER: Final = struct.Struct("<8sQII")
_MAGIC: Final = b"DSIDX\x00\x00\x01"
_ENTRY: Final = struct.Struct("<QII")
_BODY: Final = struct.Struct("<QI")
_AHEAD: Final = 256  # entries read at once


class Readable(Protocol):
    """A file, as far as an index is read."""

    def read(self, size: int, position: int, /) -> bytes:
        """Reads up to `size` bytes; fewer at the end of the file."""
        ...


class Entry(NamedTuple):
    """One piece: its end (with `INSIDE`) and the CRC of its bytes."""

    end: int
    crc: int


def header(base: int) -> bytes:
    """Returns the beginning of an index whose log begins at position `base`."""
    head = struct.pack("<8sQ", _MAGIC, base)
    return _HEADER.pack(_MAGIC, base, zlib.crc32(head), 0)


def read_base(file: Readable) -> int:
    """Returns the position at which the log begins.

    Raises:
        Damaged: this is no index.
    """
    raw = file.read(_HEADER.size, 0)
    if len(raw) < _HEADER.size:
        raise Damaged("an index is cut short")
    magic, base, crc, _ = _HEADER.unpack(raw)
    if magic != _MAGIC or zlib.crc32(raw[:16]) != crc:
        raise Damaged("an index's header is damaged")
    return int(base)


def encode(pieces: list[Piece]) -> bytes:
    """Returns the entries of some pieces."""
    parts = []
    for end, data in pieces:
        body = _BODY.pack(end, zlib.crc32(data))
        parts.append(body + zlib.crc32(body).to_bytes(4, "little"))
    return b"".join(parts)


def place_of(count: int) -> int:
    """Returns where in the file the entry of that number stands; the first has number 0."""
    return _HEADER.size + count * _ENTRY.size


def read(file: Readable, first: int, count: int) -> list[Entry]:
    """Reads entries.

    Raises:
        Damaged: one of them is missing or damaged.
    """
    raw = file.read(count * _ENTRY.size, place_of(first))
    if len(raw) < count * _ENTRY.size:
        raise Damaged("an index is cut short")
    entries = []
    for end, crc, check in _ENTRY.iter_unpack(raw):
        if not is_whole((end, crc, check)):
            raise Damaged("an index entry is damaged")
        entries.append(Entry(end, crc))
    return entries


def raw_entries(file: Readable, first: int, count: int) -> list[tuple[int, int, int]]:
    """Reads entries without a look at their own CRCs, for a caller that compares the bytes: end, CRC of the bytes, own CRC.

    Raises:
        Damaged: one of them is missing.
    """
    raw = file.read(count * _ENTRY.size, place_of(first))
    if len(raw) < count * _ENTRY.size:
        raise Damaged("an index is cut short")
    return list(_ENTRY.iter_unpack(raw))


def columns(file: Readable, first: int, count: int) -> tuple[list[int], Sequence[int]]:
    """Reads entries as two columns, for a caller that compares the bytes: their ends (without `INSIDE`), and the CRCs.

    Raises:
        Damaged: one of them is missing.
    """
    raw = file.read(count * _ENTRY.size, place_of(first))
    if len(raw) < count * _ENTRY.size:
        raise Damaged("an index is cut short")
    words, halves = array("Q", raw), array("I", raw)
    if sys.byteorder == "big":
        words.byteswap()
        halves.byteswap()
    ends = words[::2].tolist()
    if max(ends) >= INSIDE:
        ends = [end & ~INSIDE for end in ends]
    return ends, halves[2::4]


def is_whole(entry: tuple[int, int, int]) -> bool:
    """Whether an entry of `raw_entries` is what its own CRC says."""
    end, crc, check = entry
    return zlib.crc32(_BODY.pack(end, crc)) == check


def count_of(size: int) -> int:
    """Returns how many whole entries an index file of `size` bytes has."""
    return max(0, size - _HEADER.size) // _ENTRY.size


def find(file: Readable, count: int, position: int) -> int:
    """Returns the number of the first entry that ends after `position`; `count` if there is none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if read(file, middle, 1)[0].end & ~INSIDE > position:
            high = middle
        else:
            low = middle + 1
    return low


def append_end(file: Readable, count: int, number: int) -> int | None:
    """Returns where the append that entry `number` belongs to ends, or None if it goes on past the index."""
    while number < count:
        for entry in read(file, number, min(_AHEAD, count - number)):
            if not entry.end & INSIDE:
                return entry.end
            number += 1
    return None

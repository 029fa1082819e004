"""The index beside each log: what the log is, and for each piece where it ends and the CRC of its bytes.

    header of version 2: magic 8 · length of the words u32 · CRC of magic, length and words u32 · words · zeros up to 16n
    header of version 1: magic 8 · base u64 · CRC u32 · zero u32
    entry:               end u64 · CRC of the bytes u32 · CRC of the entry u32

The words say whose log it is, so that a swapped file is found, and a repair can make a lost catalog again. Version 1 has none
and stays readable. The end's top bit says that the append goes on after it. Entries have one size and stand in order, so a
place is found by halving; a damaged entry is told by its own CRC.
"""

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from ...protocol.lifetime import Lifetime
from ...protocol.media import MediaType
from ...protocol.offsets import Lineage
from ...protocol.state import Origin, StreamState
from ..damage import Damaged
from ..recent import INSIDE, Pieces
from .checksum import crc32

_HEADER: Final = struct.Struct("<8sQII")
_HEADER_2: Final = struct.Struct("<8sII")
_MAGIC: Final = b"DSIDX\x00\x00\x01"
_MAGIC_2: Final = b"DSIDX\x00\x00\x02"
_ENTRY: Final = struct.Struct("<QII")
ENTRY_SIZE: Final = _ENTRY.size
_BODY: Final = struct.Struct("<QI")
_AHEAD: Final = 256  # entries read at once
_CHUNK: Final = (
    1000  # entries encoded at once, without letting another thread in between: about 0.3 ms
)
_HEAD: Final = 1024  # bytes of a file read for its header; most headers are smaller
_SEARCHED: Final = 64 * 1024  # bytes in which the entries behind a damaged header are looked for
#: Bytes that the header of a new index takes at most: a path, a content type, a lifetime's text and a span are below 2 KiB.
ROOM_FOR_HEADER: Final = 4096
_LONGEST: Final = 1 << 20  # bytes of a header: more is damage


class Label(msgspec.Struct, frozen=True, array_like=True):
    """What a log says of itself: what its stream was created with, and that never changes.

    Attributes:
        incarnation: the stream's.
        base: the position at which the log begins.
        path: the stream's.
        media: its content type.
        lifetime: when it ends by itself.
        created_at: microseconds of Unix time.
        origin: where it was forked, if it is a fork.
        lineage: what is kept with a fork of its ancestors.
    """

    incarnation: int
    base: int
    path: str
    media: MediaType
    lifetime: Lifetime
    created_at: int
    origin: Origin | None
    lineage: Lineage


_LABEL: Final = msgspec.msgpack.Decoder(Label)


def label_of(state: StreamState) -> Label:
    """Returns the label of a stream's log."""
    return Label(
        state.incarnation,
        state.base,
        state.path,
        state.media,
        state.lifetime,
        state.created_at,
        state.origin,
        state.lineage,
    )


class Readable(Protocol):
    """A file, as far as an index is read."""

    def read(self, size: int, position: int, /) -> bytes:
        """Reads up to `size` bytes; fewer at the end of the file."""
        ...


class Entry(NamedTuple):
    """One piece: its end (with `INSIDE`) and the CRC of its bytes."""

    end: int
    crc: int


def unlabelled_header(base: int) -> bytes:
    """Returns a header of version 1."""
    head = struct.pack("<8sQ", _MAGIC, base)
    return _HEADER.pack(_MAGIC, base, crc32(head), 0)


def labelled_header(label: Label) -> bytes:
    """Returns a header of version 2."""
    text = msgspec.msgpack.encode(label)
    crc = crc32(text, crc32(struct.pack("<8sI", _MAGIC_2, len(text))))
    head = _HEADER_2.pack(_MAGIC_2, len(text), crc) + text
    return head.ljust(-(-len(head) // _ENTRY.size) * _ENTRY.size, b"\0")


def least_size(entries: int) -> int:
    """Returns how many bytes an index with so many entries has at least, whatever its header."""
    return _HEADER.size + entries * _ENTRY.size


def encode(pieces: Pieces) -> bytes:
    """Returns the entries of some pieces.

    Column by column, a chunk at a time: a call for each piece would take four times as long.
    """
    parts: list[bytes] = []
    for begin in range(0, len(pieces), _CHUNK):
        ends = pieces.ends[begin : begin + _CHUNK]
        crcs = list(map(crc32, pieces.data[begin : begin + _CHUNK]))
        checks = map(crc32, map(_BODY.pack, ends, crcs))
        parts += map(_ENTRY.pack, ends, crcs, checks)
    return b"".join(parts)


def is_whole(entry: tuple[int, int, int]) -> bool:
    """Whether an entry of `Index.raw` is what its own CRC says."""
    end, crc, check = entry
    return crc32(_BODY.pack(end, crc)) == check


class Index:
    """An index whose header has been read.

    Args:
        file: the index.
        begin: where in the file the first entry stands.
        base: the position at which the log begins.
        label: what the log says of itself; None in version 1.
    """

    __slots__ = ("base", "begin", "file", "label")

    def __init__(self, file: Readable, begin: int, base: int, label: Label | None = None) -> None:
        self.file = file
        self.begin = begin
        self.base = base
        self.label = label

    @classmethod
    def of(cls, file: Readable) -> "Index":
        """Reads the header of an index.

        Raises:
            Damaged: it is damaged, or this is no index.
        """
        raw = file.read(_HEAD, 0)
        if len(raw) < _HEADER.size:
            raise Damaged("an index is cut short")
        if raw.startswith(_MAGIC):
            _, base, crc, _ = _HEADER.unpack_from(raw)
            if crc32(raw[:16]) != crc:
                raise Damaged("an index's header is damaged")
            return cls(file, _HEADER.size, base)
        magic, length, crc = _HEADER_2.unpack_from(raw)
        if magic != _MAGIC_2 or length > _LONGEST:
            raise Damaged("an index's header is damaged")
        end = _HEADER_2.size + length
        begin = -(-end // _ENTRY.size) * _ENTRY.size
        if len(raw) < begin:
            raw = file.read(begin, 0)
        text = raw[_HEADER_2.size : end]
        if raw[end:begin].strip(b"\0"):
            raise Damaged("an index's header is damaged")
        if len(text) < length or crc32(text, crc32(raw[:12])) != crc:
            raise Damaged("an index's header is damaged")
        try:
            label = _LABEL.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"an index's header cannot be understood: {error}") from None
        return cls(file, begin, label.base, label)

    @classmethod
    def without_header(cls, file: Readable, base: int) -> "Index":
        """Finds the entries of an index whose header is damaged: they begin where the first whole one stands.

        Raises:
            Damaged: there is none.
        """
        raw = file.read(_SEARCHED + _ENTRY.size, 0)
        for begin in (_HEADER.size, *range(2 * _ENTRY.size, _SEARCHED, _ENTRY.size)):
            part = raw[begin : begin + _ENTRY.size]
            if len(part) == _ENTRY.size and is_whole(_ENTRY.unpack(part)):
                return cls(file, begin, base)
        raise Damaged("an index's header is damaged")

    def through(self, file: Readable) -> "Index":
        """Returns the same index, read through another file object."""
        return Index(file, self.begin, self.base, self.label)

    def place_of(self, count: int) -> int:
        """Returns where in the file the entry of that number stands; the first has number 0."""
        return self.begin + count * _ENTRY.size

    def count_of(self, size: int) -> int:
        """Returns how many whole entries an index file of `size` bytes has."""
        return max(0, size - self.begin) // _ENTRY.size

    def read(self, first: int, count: int) -> list[Entry]:
        """Reads entries.

        Raises:
            Damaged: one of them is missing or damaged.
        """
        entries = self.raw(first, count)
        if not all(map(is_whole, entries)):
            raise Damaged("an index entry is damaged")
        return [Entry(end, crc) for end, crc, _ in entries]

    def raw(self, first: int, count: int) -> list[tuple[int, int, int]]:
        """Reads entries without a look at their own CRCs: end, CRC of the bytes, own CRC.

        Raises:
            Damaged: one of them is missing.
        """
        return list(_ENTRY.iter_unpack(self._read(first, count)))

    def columns(self, first: int, count: int) -> tuple[list[int], Sequence[int]]:
        """Reads entries as two columns, for a caller that compares the bytes: their ends (without `INSIDE`), and the CRCs.

        Raises:
            Damaged: one of them is missing.
        """
        raw = self._read(first, count)
        words, halves = array("Q", raw), array("I", raw)
        if sys.byteorder == "big":
            words.byteswap()
            halves.byteswap()
        ends = words[::2].tolist()
        if max(ends) >= INSIDE:
            ends = [end & ~INSIDE for end in ends]
        return ends, halves[2::4]

    def find(self, count: int, position: int) -> int:
        """Returns the number of the first entry that ends after `position`; `count` if there is none."""
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if self.read(middle, 1)[0].end & ~INSIDE > position:
                high = middle
            else:
                low = middle + 1
        return low

    def start_of(self, number: int) -> int:
        """Returns the position at which the piece of an entry begins."""
        return self.base if number == 0 else self.read(number - 1, 1)[0].end & ~INSIDE

    def count_up_to(self, position: int) -> int:
        """Returns how many whole entries at the beginning end at or before a position."""
        count = 0
        while True:
            try:
                entry = self.read(count, 1)[0]
            except Damaged:  # cut short, or never finished
                return count
            if entry.end & ~INSIDE > position:
                return count
            count += 1

    def append_end(self, count: int, number: int) -> int | None:
        """Returns where the append that entry `number` belongs to ends, or None if it goes on past the index."""
        while number < count:
            for entry in self.read(number, min(_AHEAD, count - number)):
                if not entry.end & INSIDE:
                    return entry.end
                number += 1
        return None

    def _read(self, first: int, count: int) -> bytes:
        raw = self.file.read(count * _ENTRY.size, self.place_of(first))
        if len(raw) < count * _ENTRY.size:
            raise Damaged("an index is cut short")
        return raw

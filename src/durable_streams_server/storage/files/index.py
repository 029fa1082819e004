"""The index beside each log, which has the end position and the CRC of each piece of the log.

    header of version 2: magic 8 · length of the label u32 · CRC of magic, length and label u32 · label · zeros up to a multiple of 16
    header of version 1: magic 8 · base u64 · CRC u32 · zero u32
    entry:               end u64 · CRC of the piece u32 · CRC of the entry u32

The label names the stream of the log, so that a check notices a swapped file and a repair can rebuild a lost catalog. A header of
version 1 has no label and can still be read. The top bit of an end says that the append continues after the piece. All entries have the
same size and are sorted by position, so a binary search finds them. The CRC of an entry shows whether the entry is damaged.
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
#: Number of entries read at once.
_AHEAD: Final = 256
#: Number of entries encoded in one call. That takes about 0.3 ms, during which no other thread runs.
_CHUNK: Final = 1000
#: Number of bytes read first for a header. Most headers are smaller.
_HEAD: Final = 1024
#: Number of bytes in which to search for the entries behind a damaged header.
_SEARCHED: Final = 64 * 1024
#: Maximum size of the header of a new index in bytes. A path, a content type, a lifetime and a span take less than 2 KiB each.
ROOM_FOR_HEADER: Final = 4096
#: Maximum size of a label in bytes. A larger size is a sign of damage.
_LONGEST: Final = 1 << 20


class Label(msgspec.Struct, frozen=True, array_like=True):
    """The description of a stream in the index of its log. It has only properties that never change after the stream is created.

    Attributes:
        incarnation: the incarnation of the stream.
        base: the position at which the log begins.
        path: the path of the stream.
        media: the content type of the stream.
        lifetime: the lifetime of the stream.
        created_at: the time of creation in microseconds of Unix time.
        origin: the fork point, if the stream is a fork.
        lineage: the ancestors of a fork.
        public: whether anyone may read the stream without a token.
    """

    incarnation: int
    base: int
    path: str
    media: MediaType
    lifetime: Lifetime
    created_at: int
    origin: Origin | None
    lineage: Lineage
    public: bool = False


_LABEL: Final = msgspec.msgpack.Decoder(Label)


def label_of(state: StreamState) -> Label:
    """Returns the label for the log of a stream."""
    return Label(
        state.incarnation,
        state.base,
        state.path,
        state.media,
        state.lifetime,
        state.created_at,
        state.origin,
        state.lineage,
        state.public,
    )


class Readable(Protocol):
    """A file that an index can be read from."""

    def read(self, size: int, position: int, /) -> bytes:
        """Returns the `size` bytes at a position, or fewer at the end of the file."""
        ...


class Entry(NamedTuple):
    """One entry of an index.

    Attributes:
        end: the position after the piece, with the bit `INSIDE` if the append continues after it.
        crc: the CRC of the piece.
    """

    end: int
    crc: int


def unlabelled_header(base: int) -> bytes:
    """Returns a header without a label, which is version 1 of the format."""
    head = struct.pack("<8sQ", _MAGIC, base)
    return _HEADER.pack(_MAGIC, base, crc32(head), 0)


def labelled_header(label: Label) -> bytes:
    """Returns a header with a label, which is version 2 of the format."""
    text = msgspec.msgpack.encode(label)
    crc = crc32(text, crc32(struct.pack("<8sI", _MAGIC_2, len(text))))
    head = _HEADER_2.pack(_MAGIC_2, len(text), crc) + text
    return head.ljust(-(-len(head) // _ENTRY.size) * _ENTRY.size, b"\0")


def least_size(entries: int) -> int:
    """Returns the minimum size in bytes of an index with a given number of entries."""
    return _HEADER.size + entries * _ENTRY.size


def encode(pieces: Pieces) -> bytes:
    """Returns the encoded entries of pieces.

    Each column is encoded by itself, because a call for each piece would take four times as long.
    """
    parts: list[bytes] = []
    for begin in range(0, len(pieces), _CHUNK):
        ends = pieces.ends[begin : begin + _CHUNK]
        crcs = list(map(crc32, pieces.data[begin : begin + _CHUNK]))
        checks = map(crc32, map(_BODY.pack, ends, crcs))
        parts += map(_ENTRY.pack, ends, crcs, checks)
    return b"".join(parts)


def is_whole(entry: tuple[int, int, int]) -> bool:
    """Returns whether an entry of `Index.raw` matches its own CRC."""
    end, crc, check = entry
    return crc32(_BODY.pack(end, crc)) == check


class Index:
    """An index whose header has been read.

    Args:
        file: the file of the index.
        begin: the position of the first entry in the file.
        base: the position in the stream at which the log begins.
        label: the label of the log, or None in version 1.
    """

    __slots__ = ("base", "begin", "file", "label")

    def __init__(self, file: Readable, begin: int, base: int, label: Label | None = None) -> None:
        self.file = file
        self.begin = begin
        self.base = base
        self.label = label

    @classmethod
    def of(cls, file: Readable) -> "Index":
        """Returns an index after reading its header.

        Raises:
            Damaged: the header is damaged, or the file is no index.
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
        """Returns an index for a file with a damaged header. The first intact entry found in the file becomes its first entry.

        Args:
            file: the file of the index.
            base: the position in the stream at which the log begins.

        Raises:
            Damaged: there is no whole entry.
        """
        raw = file.read(_SEARCHED + _ENTRY.size, 0)
        for begin in (_HEADER.size, *range(2 * _ENTRY.size, _SEARCHED, _ENTRY.size)):
            part = raw[begin : begin + _ENTRY.size]
            if len(part) == _ENTRY.size and is_whole(_ENTRY.unpack(part)):
                return cls(file, begin, base)
        raise Damaged("an index's header is damaged")

    def through(self, file: Readable) -> "Index":
        """Returns the same index, to be read through another file object."""
        return Index(file, self.begin, self.base, self.label)

    def place_of(self, count: int) -> int:
        """Returns the position in the file of entry number `count`, counted from 0."""
        return self.begin + count * _ENTRY.size

    def count_of(self, size: int) -> int:
        """Returns the number of entries in an index file of `size` bytes."""
        return max(0, size - self.begin) // _ENTRY.size

    def read(self, first: int, count: int) -> list[Entry]:
        """Returns `count` entries from entry `first` on.

        Raises:
            Damaged: an entry is missing or damaged.
        """
        entries = self.raw(first, count)
        if not all(map(is_whole, entries)):
            raise Damaged("an index entry is damaged")
        return [Entry(end, crc) for end, crc, _ in entries]

    def raw(self, first: int, count: int) -> list[tuple[int, int, int]]:
        """Returns entries without checking their CRCs, each as its end, the CRC of the piece and the CRC of the entry.

        Raises:
            Damaged: an entry is missing.
        """
        return list(_ENTRY.iter_unpack(self._read(first, count)))

    def columns(self, first: int, count: int) -> tuple[list[int], Sequence[int]]:
        """Returns the ends of entries, without the bit `INSIDE`, and the CRCs of their pieces.

        The CRCs of the entries are not checked, because the caller compares the CRCs with the pieces.

        Raises:
            Damaged: an entry is missing.
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
        """Returns the number of the first of `count` entries that ends after `position`, or `count` if there is none."""
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if self.read(middle, 1)[0].end & ~INSIDE > position:
                high = middle
            else:
                low = middle + 1
        return low

    def start_of(self, number: int) -> int:
        """Returns the position in the stream at which the piece of an entry begins."""
        return self.base if number == 0 else self.read(number - 1, 1)[0].end & ~INSIDE

    def count_up_to(self, position: int) -> int:
        """Returns the number of whole entries that end at or before a position."""
        count = 0
        while True:
            try:
                entry = self.read(count, 1)[0]
            except Damaged:  # the entry is missing or was not written completely
                return count
            if entry.end & ~INSIDE > position:
                return count
            count += 1

    def append_end(self, count: int, number: int) -> int | None:
        """Returns the end of the append that contains entry `number`, or None if the append continues past `count` entries."""
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

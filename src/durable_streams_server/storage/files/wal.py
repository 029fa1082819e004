"""The write-ahead log: numbered segments in a few files that are allocated ahead and used again.

A segment file begins with a header of one page; records follow:

    mark u32 · payload length u32 · LSN u64 · durable LSN u64 · CRC of the previous record u32 · CRC u32 · payload

Mark and CRC are seeded with the segment's salt, a number drawn anew whenever a segment is begun: what a client sends may look
like a record, but cannot be taken for one.

The chain of CRCs leaves no place for a stale record of an earlier lap, or for one orphaned behind a torn one: such a record
is whole, but does not follow. The durable LSN is what was known to be on disk when the record was written; it tells damage
from a torn end. A bad record that a later one calls durable was acknowledged once, and the store must not start without it;
a bad record that nobody vouches for was never acknowledged, and the log ends before it.

A segment's header is written together with its first record. A file whose header is all zeros has never been used; one whose
number is out of sequence is free.
"""

import struct
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from ...errors import StorageFull, TooLarge, Unavailable
from ...protocol.decide import RETRY_SOON
from .disk import NO_SPACE, Disk, File

DIRECTORY: Final = "wal"
DEFAULT_SEGMENT_SIZE: Final = 80 * 1024 * 1024  # a record of the largest body by default, and more
MAX_FILES: Final = 6  # past this, writers wait for a checkpoint
_PAGE: Final = 4096
_HEADER: Final = struct.Struct("<8sQQQII")  # magic, number, first LSN, salt, seed, CRC
_MAGIC: Final = b"DSWAL\x00\x00\x01"
_RECORD: Final = struct.Struct("<IIQQI")
_CRC: Final = struct.Struct("<I")
OVERHEAD: Final = _RECORD.size + _CRC.size
_SCAN: Final = 4 * 1024 * 1024


class Damaged(Exception):
    """What was acknowledged cannot be read back. Nothing is done to it; `check` says what and where."""


class Salt(NamedTuple):
    """What tells a segment's records from any other octets: how each begins, and what its CRC begins with."""

    mark: int
    seed: int

    @classmethod
    def of(cls, number: int) -> "Salt":
        """Returns the salt that a segment's header has as a number. A mark is never blank."""
        return cls((number & 0xFFFFFFFF) | 1, number >> 32)


_NO_SALT: Final = Salt.of(0)


class Slot:
    """One segment file. `number` and `first` are 0 while it is free."""

    __slots__ = ("capacity", "file", "first", "last", "name", "number", "salt")

    def __init__(self, name: str, file: File) -> None:
        self.name = name
        self.file = file
        self.capacity = file.size()
        self.number = 0
        self.first = 0
        self.last = 0
        self.salt = _NO_SALT


class Header(NamedTuple):
    """How a segment begins: its number, its first record's, and its salt as a number."""

    number: int
    first: int
    salt: int


class Place(msgspec.Struct, frozen=True):
    """Where a record goes: decided before it is written."""

    slot: Slot
    position: int
    lsn: int
    begins: "Header | None"  # of the segment, if this record begins it


class Write(NamedTuple):
    """Octets of one segment, and where they go."""

    file: File
    data: bytes
    position: int


class Wal:
    """The log. `reserve`, `encode` and `recycle` belong to the loop, `write` to the commit thread.

    Args:
        disk: where its files are.
        segment_size: bytes of a new segment file.
    """

    def __init__(self, disk: Disk, segment_size: int) -> None:
        self._disk = disk
        self._segment_size = segment_size
        self._used: deque[Slot] = deque()  # the newest last
        self._free: deque[Slot] = deque()
        self._files = 0
        self._position = 0  # where the next record goes in the newest slot
        self._number = 0
        self.last_lsn = 0  # given to a record
        self.durable_lsn = 0  # known to the loop to be on disk
        self._encoded_lsn = (
            0  # the last record of the batch before, which is on disk when the next is encoded
        )
        self._crc = 0  # of the last record encoded
        self.full = False  # the disk had no room for another file

    # -- on the loop --------------------------------------------------------

    @property
    def largest(self) -> int:
        """The largest payload that a segment takes."""
        return self._segment_size - _PAGE - OVERHEAD

    def reserve(self, size: int) -> Place:
        """Gives a record of `size` payload bytes its place and number.

        Raises:
            TooLarge: it fits no segment.
            StorageFull: the disk has no room for another segment.
            Unavailable: all segments wait for a checkpoint.
        """
        if size > self.largest:
            raise TooLarge("the request is larger than one record of the log")
        need = size + OVERHEAD
        begins = None
        if not self._used or self._position + need > self._used[-1].capacity:
            begins = self._begin_segment()
        slot = self._used[-1]
        self.last_lsn += 1
        place = Place(slot, self._position, self.last_lsn, begins)
        slot.last = self.last_lsn
        self._position += need
        return place

    def recycle(self, lsn: int) -> None:
        """Frees the segments all of whose records are numbered up to `lsn`, except the newest."""
        while len(self._used) > 1 and self._used[0].last <= lsn:
            slot = self._used.popleft()
            slot.number = 0
            self._free.append(slot)

    def wants_file(self) -> bool:
        """Whether another segment should be allocated ahead."""
        return not self._free and self._files < MAX_FILES

    def _begin_segment(self) -> Header:
        if not self._free:
            raise disk_full() if self.full else behind()
        slot = self._free.popleft()
        self._used.append(slot)
        self._number += 1
        self._position = _PAGE
        header = Header(self._number, self.last_lsn + 1, self._disk.random_number())
        slot.number, slot.first, slot.salt = header.number, header.first, Salt.of(header.salt)
        return header

    # -- on the disk thread -------------------------------------------------

    def add_file(self) -> None:
        """Allocates another segment file; if the disk has no room, notes that in `full`.

        Raises:
            OSError: for any other failure.
        """
        name = f"{DIRECTORY}/{self._files:03d}"
        try:
            file = self._disk.open(name, create=True)
            try:
                file.allocate(self._segment_size)
                file.sync()
                self._disk.sync_directory(DIRECTORY)
            except OSError:
                file.close()
                raise
        except OSError as error:
            if error.errno in NO_SPACE:
                self.full = True
                return
            raise
        self.full = False
        self._files += 1
        self._free.append(Slot(name, file))

    def encode(self, batch: list[tuple[Place, bytes]]) -> list[Write]:
        """Turns records, in their order, into writes: one for each segment touched. Those of the batch before are on disk."""
        writes: list[Write] = []
        parts: list[bytes] = []
        begin = 0
        slot: Slot | None = None
        durable = self._encoded_lsn
        crc = self._crc
        for place, payload in batch:
            if place.begins is not None:
                if slot is not None:
                    writes.append(Write(slot.file, b"".join(parts), begin))
                    durable = place.lsn - 1
                    parts = []
                slot, begin = place.slot, 0
                parts.append(_segment_header(place.begins, crc))
            elif slot is None:
                slot, begin = place.slot, place.position
            mark, seed = slot.salt
            head = _RECORD.pack(mark, len(payload), place.lsn, durable, crc)
            crc = crc32(payload, crc32(head, seed))
            parts += (head, _CRC.pack(crc), payload)
        if slot is not None:
            writes.append(Write(slot.file, b"".join(parts), begin))
        self._crc = crc
        self._encoded_lsn = batch[-1][0].lsn
        return writes

    # -- on the commit thread -----------------------------------------------

    def write(self, writes: list[Write]) -> None:
        """Makes writes durable, one after the other.

        Raises:
            OSError: the records may or may not be on disk; nothing more may be written.
        """
        for file, data, position in writes:
            file.write_durably(data, position)
            file.check_place()  # durable in a file that nobody finds again is not durable

    # -- at the start -------------------------------------------------------

    def recover(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Opens the log and yields number and payload of each record after LSN `after`, the catalog's own.

        When it is exhausted the log is ready to be written, and what was yielded is on disk.

        Raises:
            Damaged: acknowledged records are missing.
        """
        slots = self._open_files()
        self.last_lsn = self.durable_lsn = after
        started = False
        for index, slot in enumerate(slots):
            if started and slot.first != self.last_lsn + 1:
                raise self._damaged(
                    slot.name, "its first record does not follow the segment before"
                )
            if not started:
                following = slots[index + 1].first if index + 1 < len(slots) else None
                if following is not None and following <= after + 1:
                    self._free.append(slot)
                    continue
                if slot.first > after + 1:
                    raise self._damaged(slot.name, "the records before it are missing")
                started = True
                self.last_lsn = slot.first - 1
                self._crc = slot_seed(slot.file)
            elif self._crc != slot_seed(slot.file):
                raise self._damaged(slot.name, "it does not continue the segment before")
            yield from self._replay(slot, after)
        if after and not started:
            raise self._damaged(DIRECTORY, f"its segments are missing, the catalog is at {after}")
        if self.last_lsn < after:
            raise self._damaged(
                DIRECTORY, f"it ends at record {self.last_lsn}, the catalog at {after}"
            )
        self.durable_lsn = self._encoded_lsn = self.last_lsn

    def close(self) -> None:
        """Closes the files."""
        for slot in (*self._used, *self._free):
            slot.file.close()

    def _open_files(self) -> list[Slot]:
        """Opens every segment file, and returns those in use in the order of their numbers."""
        used = []
        names = self._disk.names(DIRECTORY)
        for name in names:
            path = f"{DIRECTORY}/{name}"
            slot = Slot(path, self._disk.open(path))
            if slot.capacity < self._segment_size and not self._complete(slot, name == names[-1]):
                break
            self._files += 1
            slot.file.sync()  # a crash may have come before whoever made or wrote it did so
            try:
                header = read_header(slot.file)
            except Damaged as damage:
                raise self._damaged(path, str(damage)) from None
            if header is None:
                self._free.append(slot)
                continue
            slot.number, slot.first, slot.salt = header.number, header.first, Salt.of(header.salt)
            used.append(slot)
        self._disk.sync_directory(DIRECTORY)
        used.sort(key=lambda slot: slot.number)
        return used

    def _complete(self, slot: Slot, is_last: bool) -> bool:
        """Allocates what a segment file lacks; False for a last one without use that the disk has no room for, as before."""
        try:
            slot.file.allocate(self._segment_size)
        except OSError as error:
            is_unused = is_last and read_header(slot.file) is None
            slot.file.close()
            if error.errno not in NO_SPACE or not is_unused:
                raise
            self.full = True  # `add_file` tries again
            return False
        slot.capacity = slot.file.size()
        return True

    def _replay(self, slot: Slot, after: int) -> Iterator[tuple[int, bytes]]:
        position = _PAGE
        self._used.append(slot)
        self._number = slot.number
        for lsn, crc, payload, end in records(slot, self.last_lsn, self._crc):
            self.last_lsn = self.durable_lsn = lsn
            self._crc, position = crc, end
            slot.last = lsn
            if lsn > after:
                yield lsn, payload
        self._position = position
        if vouched(slot, position) > self.last_lsn:
            raise self._damaged(
                slot.name, f"record {self.last_lsn + 1} at byte {position} is damaged"
            )

    def _damaged(self, name: str, what: str) -> Damaged:
        return Damaged(f"{name}: {what}")


def _segment_header(header: Header, seed: int) -> bytes:
    head = _HEADER.pack(_MAGIC, *header, seed, 0)[:-4]
    return (head + _CRC.pack(crc32(head))).ljust(_PAGE, b"\0")


def behind() -> Unavailable:
    """Returns the refusal of a write that would have to wait for the disk to catch up."""
    return Unavailable("writes are ahead of the disk", "WRITES_BEHIND", [RETRY_SOON])


def disk_full() -> StorageFull:
    """Returns the refusal of a write that the disk has no room for."""
    return StorageFull("the disk is full", headers=[(b"retry-after", b"5")])


def read_header(file: File) -> Header | None:
    """Returns how a segment begins; None if the file has never been used.

    Raises:
        Damaged: the header is neither whole nor blank.
    """
    raw = file.read(_HEADER.size, 0)
    if not raw.strip(b"\0"):
        return None
    if len(raw) < _HEADER.size:
        raise Damaged("its header is cut short")
    magic, number, first, salt, _, crc = _HEADER.unpack(raw)
    if magic != _MAGIC or crc32(raw[:-4]) != crc:
        raise Damaged("its header is damaged")
    return Header(number, first, salt)


def slot_seed(file: File) -> int:
    """Returns the CRC that a segment's first record follows."""
    seed: int = _HEADER.unpack(file.read(_HEADER.size, 0))[4]
    return seed


def records(slot: Slot, lsn: int, crc: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Yields the records of a segment that follow `lsn` and `crc`: LSN, CRC, payload, and where each ends."""
    file, (mark, seed) = slot.file, slot.salt
    position = _PAGE
    data, base = b"", position
    while True:
        at = position - base
        if at + OVERHEAD > len(data):
            data, base, at = file.read(_SCAN, position), position, 0
            if len(data) < OVERHEAD:
                return
        begin, length, number, _, previous = _RECORD.unpack_from(data, at)
        if begin != mark or number != lsn + 1 or previous != crc:
            return
        if at + OVERHEAD + length > len(data):
            data, base, at = file.read(max(_SCAN, OVERHEAD + length), position), position, 0
            if len(data) < OVERHEAD + length:
                return
        (stored,) = _CRC.unpack_from(data, at + _RECORD.size)
        payload = data[at + OVERHEAD : at + OVERHEAD + length]
        if crc32(payload, crc32(data[at : at + _RECORD.size], seed)) != stored:
            return
        position += OVERHEAD + length
        lsn, crc = number, stored
        yield lsn, crc, payload, position


def vouched(slot: Slot, position: int) -> int:
    """Returns the highest durable LSN that any whole record past `position` gives, whether or not it follows the chain."""
    file, seed = slot.file, slot.salt.seed
    mark = slot.salt.mark.to_bytes(4, "little")
    highest = 0
    data = file.read(max(0, file.size() - position), position)
    at = data.find(mark)
    while at >= 0:
        if at + OVERHEAD <= len(data):
            _, length, _, durable, _ = _RECORD.unpack_from(data, at)
            if durable > highest and at + OVERHEAD + length <= len(data):
                (stored,) = _CRC.unpack_from(data, at + _RECORD.size)
                payload = data[at + OVERHEAD : at + OVERHEAD + length]
                if crc32(payload, crc32(data[at : at + _RECORD.size], seed)) == stored:
                    highest = durable
        at = data.find(mark, at + 1)
    return highest

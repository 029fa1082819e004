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
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from ...errors import StorageFull, TooLarge, Unavailable
from ...protocol.limits import RETRY_SOON
from ..damage import Damaged
from .checksum import crc32
from .disk import Disk, File
from .segments import DIRECTORY as DIRECTORY
from .segments import MAX_FILES as MAX_FILES
from .segments import PAGE, Segments, segment_header
from .segments import Header as Header
from .segments import Salt as Salt
from .segments import SegmentFile as SegmentFile
from .segments import read_header as read_header
from .segments import slot_seed as slot_seed

#: Size of the log, all segments together: one takes a record of the largest body by default, and more.
DEFAULT_SIZE: Final = 480 * 1024 * 1024
#: Least size of the log: each segment takes records of about 1 MiB.
MIN_SIZE: Final = MAX_FILES * 1024 * 1024
#: Largest size of the log: a start after a crash reads all of it.
MAX_SIZE: Final = MAX_FILES * 1024 * 1024 * 1024
DEFAULT_SEGMENT_SIZE: Final = DEFAULT_SIZE // MAX_FILES
#: Seconds between two looks whether a written segment is still at its path. A look at each commit made a lone durable append 5%
#: slower; whoever moves or removes the directory of a running server loses the acknowledgements of so long at most.
LOOK_EVERY: Final = 0.05
#: Bytes from which on a payload's data is neither copied nor checksummed on the loop: to do so takes about 0.5 ms for each MiB. One write
#: has two buffers for each, and what the store lets wait is 64 MiB, so that they stay below the 1,024 that the system takes.
LARGE: Final = 256 * 1024
#: The file system must mark a reserved block as used when it is first written, which makes a small commit on ext4 half as slow again. So a small
#: write to new space also writes zeros, up to the next multiple of so many bytes. That happens once in the life of a segment file.
_BLANKS: Final = 256 * 1024
_RESERVE: Final = 1024 * 1024  # of each segment: some 6,000 deletes
_SHARE: Final = 16  # in a small segment, the reserve and the blanks are this part of it
_RETRY_FULL: Final = 5  # seconds after which a client may try again to write to a full disk
_RECORD: Final = struct.Struct("<IIQQI")
_CRC: Final = struct.Struct("<I")
OVERHEAD: Final = _RECORD.size + _CRC.size
_HEAD: Final = struct.Struct("<IIQQII")  # a record's head with its CRC
_SCAN: Final = 4 * 1024 * 1024
# A run's records are applied before the bounds of memory are looked at, so it is short beside those.
_RUN: Final = 256  # records
_RUN_BYTES: Final = 256 * 1024  # or so many bytes, with the record that passes them


def segment_size_of(size: int) -> int:
    """Returns the size of one segment of a log of `size` bytes."""
    return size // MAX_FILES // PAGE * PAGE


def reserve_of(segment_size: int) -> int:
    """Returns how many bytes of a segment only records may use that give space back."""
    return min(_RESERVE, segment_size // _SHARE)


def size_for(largest: int) -> int:
    """Returns the size of the smallest log that takes records of `largest` bytes."""
    segment = largest + PAGE + OVERHEAD
    while segment - PAGE - OVERHEAD - reserve_of(segment) < largest:
        segment += PAGE
    return MAX_FILES * (-(-segment // PAGE) * PAGE)


class Place(msgspec.Struct, frozen=True):
    """Where a record goes: decided before it is written."""

    slot: SegmentFile
    position: int
    lsn: int
    begins: "Header | None"  # of the segment, if this record begins it


#: A record's payload: whole, or in parts if it is large, so that nobody copies it.
Payload = bytes | tuple[bytes, ...]


class Write(NamedTuple):
    """Octets of one segment, and where they go. Large ones are in parts."""

    slot: SegmentFile
    data: Payload
    position: int


class Run(NamedTuple):
    """Records that follow each other, read together: a call for each takes as long as its record.

    Attributes:
        payloads: what they hold.
        last: the LSN of the last of them.
        crc: its CRC.
        end: where in the segment it ends.
    """

    payloads: list[bytes]
    last: int
    crc: int
    end: int

    @property
    def first(self) -> int:
        """The LSN of the first of them."""
        return self.last - len(self.payloads) + 1


class Wal:
    """The log. `reserve` and `recycle` belong to the loop, `write` to the commit thread. `encode` belongs to either, since one
    batch is written before the next is encoded.

    Args:
        disk: where its files are.
        segment_size: bytes of a new segment file.

    Attributes:
        largest: bytes of the largest payload that a segment takes.
        reserve_size: bytes at the end of a segment that only some records may use.
        wants_file: tells whether another segment should be made ready.
    """

    def __init__(self, disk: Disk, segment_size: int) -> None:
        self._disk = disk
        self._segment_size = segment_size
        self._segments = Segments(disk, segment_size)
        self._used: deque[SegmentFile] = deque()  # the newest last
        self._blanks = min(_BLANKS, max(1, segment_size // _SHARE))
        self._position = 0  # where the next record goes in the newest slot
        self._number = 0
        self._look_at = 0.0
        self.owes_look = False  # nobody has looked yet whether what was written last is at its path
        self.reserve_size = reserve_of(segment_size)
        self.largest = segment_size - PAGE - OVERHEAD - self.reserve_size
        self.wants_file = self._segments.wants_file
        self.last_lsn = 0  # given to a record
        self.durable_lsn = 0  # known to the loop to be on disk
        self._encoded_lsn = (
            0  # the last record of the batch before, which is on disk when the next is encoded
        )
        self._crc = 0  # of the last record encoded

    # -- on the loop --------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the disk had no room for another file."""
        return self._segments.full

    def reserve(self, size: int, leave: int | None = None) -> Place:
        """Gives a record of `size` payload bytes its place and number.

        Args:
            size: of the record.
            leave: how many bytes at the end of its segment it must leave free; by default all that are reserved.

        Raises:
            TooLarge: it fits no segment.
            StorageFull: the disk has no room for a segment that takes it, and no checkpoint will free one.
            Unavailable: all segments wait for a checkpoint.
        """
        if size > self.largest:
            raise TooLarge("the request is larger than one record of the log")
        need = size + OVERHEAD + (self.reserve_size if leave is None else leave)
        begins = None
        if not self._used or self._position + need > self._used[-1].capacity:
            begins = self._begin_segment(need)
        slot = self._used[-1]
        self.last_lsn += 1
        place = Place(slot, self._position, self.last_lsn, begins)
        slot.last = self.last_lsn
        self._position += size + OVERHEAD
        return place

    def recycle(self, lsn: int) -> None:
        """Frees the segments all of whose records are numbered up to `lsn`, except the newest."""
        while len(self._used) > 1 and self._used[0].last <= lsn:
            slot = self._used.popleft()
            self._segments.give_back(slot)

    @property
    def is_starved(self) -> bool:
        """Whether the disk has no room for the second segment, without which none is ever free."""
        return self._segments.full and self._segments.too_few

    def _begin_segment(self, need: int) -> Header:
        slot = self._segments.take(PAGE + need)
        if slot is None:
            for_ever = self.is_starved or not self._segments.can_hold(PAGE + need)
            raise disk_full() if self.full and for_ever else behind()
        self._used.append(slot)
        self._number += 1
        self._position = PAGE
        header = Header(self._number, self.last_lsn + 1, self._disk.random_number())
        slot.number, slot.first, slot.salt = header.number, header.first, Salt.of(header.salt)
        return header

    def look(self) -> None:
        """Looks whether the newest segment is still at its path.

        Raises:
            DirectoryLost: it is not.
        """
        self.owes_look = False
        if self._used:
            self._used[-1].file.check_place()

    # -- on the disk thread -------------------------------------------------

    def add_file(self) -> None:
        """Makes another segment ready; if the disk has no room, notes that in `full`.

        Raises:
            OSError: for any other failure.
        """
        self._segments.add_file()

    def encode(self, batch: Sequence[tuple[Place, Payload]]) -> list[Write]:
        """Turns records, in their order, into writes: one for each segment touched. Those of the batch before are on disk."""
        has_large = False
        writes: list[Write] = []
        parts: list[bytes] = []
        begin = 0
        slot: SegmentFile | None = None
        durable = self._encoded_lsn
        crc = self._crc
        for place, payload in batch:
            if place.begins is not None:
                if slot is not None:
                    writes.append(
                        Write(slot, _joined(parts) if has_large else b"".join(parts), begin)
                    )
                    durable = place.lsn - 1
                    parts = []
                slot, begin = place.slot, 0
                parts.append(segment_header(place.begins, crc))
            elif slot is None:
                slot, begin = place.slot, place.position
            mark, seed = slot.salt
            if isinstance(payload, tuple):
                has_large = True
                head = _RECORD.pack(mark, size_of(payload), place.lsn, durable, crc)
                crc = crc32(head, seed)
                for part in payload:
                    crc = crc32(part, crc)
                parts += (head, _CRC.pack(crc), *payload)
                continue
            head = _RECORD.pack(mark, len(payload), place.lsn, durable, crc)
            crc = crc32(payload, crc32(head, seed))
            parts += (head, _CRC.pack(crc), payload)
        if slot is not None:
            writes.append(Write(slot, _joined(parts) if has_large else b"".join(parts), begin))
        self._crc = crc
        self._encoded_lsn = batch[-1][0].lsn
        return writes

    # -- on the commit thread -----------------------------------------------

    def write(self, writes: list[Write]) -> None:
        """Makes writes durable, one after the other. Looks every `LOOK_EVERY` seconds whether they are where a restart will find them.

        Raises:
            OSError: the records may or may not be on disk; nothing more may be written.
        """
        for slot, data, position in writes:
            octets = self._with_blanks(slot, data, position)
            slot.file.write_durably(octets, position)
        now = time.monotonic()
        self.owes_look = now < self._look_at
        if not self.owes_look:
            self._look_at = now + LOOK_EVERY
            for slot, _, _ in writes:
                slot.file.check_place()

    def _with_blanks(self, slot: SegmentFile, data: Payload, position: int) -> Payload:
        """Returns what to write for `data`. In space that has never been written, zeros follow it up to the next bound."""
        end = position + size_of(data)
        if end <= slot.written:
            return data
        bound = min(-(-end // self._blanks) * self._blanks, slot.capacity)
        if isinstance(data, tuple) or len(data) >= self._blanks or bound <= end:
            slot.written = end
            return data
        slot.written = bound
        return data, bytes(bound - end)

    # -- at the start -------------------------------------------------------

    def recover(self, after: int) -> Iterator[tuple[int, bytes]]:
        """As `recover_runs`, but yields number and payload of each record by itself."""
        for run in self.recover_runs(after):
            yield from enumerate(run.payloads, run.first)

    def recover_runs(self, after: int) -> Iterator[Run]:
        """Opens the log and yields the records after LSN `after`, the catalog's own.

        When it is exhausted the log is ready to be written, and what was yielded is on disk. Until a run is taken from it, nothing
        is told of the records after the run before.

        Raises:
            Damaged: acknowledged records are missing.
        """
        slots = self._segments.open()
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
                    self._segments.give_back(slot)
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
        self._segments.close()

    def _replay(self, slot: SegmentFile, after: int) -> Iterator[Run]:
        position = PAGE
        self._used.append(slot)
        self._number = slot.number
        for run in runs(slot, self.last_lsn, self._crc):
            self.last_lsn = self.durable_lsn = slot.last = run.last
            self._crc, position = run.crc, run.end
            if run.first > after:
                yield run
            elif run.last > after:
                yield run._replace(payloads=run.payloads[after - run.last :])
        slot.written = position
        self._position = position
        if vouched(slot, position) > self.last_lsn:
            raise self._damaged(
                slot.name, f"record {self.last_lsn + 1} at byte {position} is damaged"
            )

    def _damaged(self, name: str, what: str) -> Damaged:
        return Damaged(f"{name}: {what}")


def size_of(payload: Payload) -> int:
    """Returns how many bytes a payload has."""
    return sum(map(len, payload)) if isinstance(payload, tuple) else len(payload)


def _joined(parts: list[bytes]) -> Payload:
    """Joins the small parts of one write; those that are large stay by themselves."""
    runs: list[bytes] = []
    waiting: list[bytes] = []
    for part in parts:
        if len(part) < LARGE:
            waiting.append(part)
        else:
            runs += (b"".join(waiting), part)
            waiting = []
    return (*runs, b"".join(waiting))


def behind() -> Unavailable:
    """Returns the refusal of a write that would have to wait for the disk to catch up."""
    return Unavailable("writes are ahead of the disk", "WRITES_BEHIND", retry_after=RETRY_SOON)


def disk_full() -> StorageFull:
    """Returns the refusal of a write that the disk has no room for."""
    return StorageFull("the disk is full", retry_after=_RETRY_FULL)


def runs(slot: SegmentFile, lsn: int, crc: int) -> Iterator[Run]:
    """Yields the records of a segment that follow `lsn` and `crc`, some at a time."""
    base = PAGE
    data, at, needed = b"", 0, OVERHEAD
    while True:
        if needed:
            base, at = base + at, 0
            data = slot.file.read(max(_SCAN, needed), base)
            if len(data) < needed:
                return
        run, at, needed = _run_in(data, at, slot.salt, lsn, crc)
        if run.payloads:
            lsn, crc = run.last, run.crc
            yield run._replace(end=base + at)
        elif not needed:
            return


def _run_in(data: bytes, at: int, salt: Salt, lsn: int, crc: int) -> tuple[Run, int, int]:
    """Takes records from the octets of a segment, in one loop without a call of our own.

    Returns:
        the records, where in `data` they end, and how many octets must be read from there to go on: 0 if the run is as long as a
        run may be, or if no record follows.
    """
    mark, seed = salt
    payloads: list[bytes] = []
    stop, last = at + _RUN_BYTES, lsn + _RUN
    needed = 0
    while lsn < last and at < stop:
        body = at + OVERHEAD
        if body > len(data):
            needed = OVERHEAD
            break
        begin, length, number, _, previous, stored = _HEAD.unpack_from(data, at)
        if begin != mark or number != lsn + 1 or previous != crc:
            break
        end = body + length
        if end > len(data):
            needed = OVERHEAD + length
            break
        payload = data[body:end]
        if crc32(payload, crc32(data[at : at + _RECORD.size], seed)) != stored:
            break
        payloads.append(payload)
        at, lsn, crc = end, number, stored
    return Run(payloads, lsn, crc, 0), at, needed


def vouched(slot: SegmentFile, position: int) -> int:
    """Returns the highest durable LSN that any whole record past `position` gives, whether or not it follows the chain."""
    file, seed = slot.file, slot.salt.seed
    mark = slot.salt.mark.to_bytes(4, "little")
    highest = 0
    while data := file.read(_SCAN, position):
        at = data.find(mark)
        while at >= 0:
            highest = max(
                highest,
                _vouched_by(file.read(OVERHEAD, position + at), file, position + at, seed, highest),
            )
            at = data.find(mark, at + 1)
        if len(data) <= len(mark):
            break
        position += len(data) - len(mark) + 1  # a mark may lie across two reads
    return highest


def _vouched_by(head: bytes, file: File, position: int, seed: int, least: int) -> int:
    """Returns the durable LSN of the record at a position; 0 if it is not whole, or not above `least`."""
    if len(head) < OVERHEAD:
        return 0
    _, length, _, durable, _ = _RECORD.unpack_from(head)
    if durable <= least:
        return 0
    payload = file.read(length, position + OVERHEAD)
    (stored,) = _CRC.unpack_from(head, _RECORD.size)
    if len(payload) < length or crc32(payload, crc32(head[: _RECORD.size], seed)) != stored:
        return 0
    return int(durable)

"""The write-ahead log: gives records their places in segments, writes them durably, and recovers them at a start."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from ...errors import TooLarge
from ..damage import Damaged
from .checksum import crc32
from .disk import Disk
from .refusals import behind, disk_full
from .segments import (
    DIRECTORY,
    PAGE,
    Header,
    Salt,
    SegmentFile,
    Segments,
    chain_seed,
    segment_header,
)
from .wal_format import CRC, LARGE, OVERHEAD, RECORD, Payload, size_of
from .wal_reader import RecordRun, record_runs, vouched
from .wal_sizes import SHARE, reserve_of

#: Seconds between two looks whether a written segment is still at its path. A look at each commit made a lone durable append 5%
#: slower; whoever moves or removes the directory of a running server loses the acknowledgements of so long at most.
CHECK_INTERVAL: Final = 0.05
#: The file system must mark a reserved block as used when it is first written, which makes a small commit on ext4 half as slow again. So a small
#: write to new space also writes zeros, up to the next multiple of so many bytes. That happens once in the life of a segment file.
_BLANKS: Final = 256 * 1024


class Reservation(msgspec.Struct, frozen=True):
    """Where a record goes: decided before it is written."""

    segment: SegmentFile
    position: int
    lsn: int
    begins: Header | None  # of the segment, if this record begins it


class Write(NamedTuple):
    """Octets of one segment, and where they go. Large ones are in parts."""

    segment: SegmentFile
    data: Payload
    position: int


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
        self._blanks = min(_BLANKS, max(1, segment_size // SHARE))
        self._position = 0  # where the next record goes in the newest segment
        self._number = 0
        self._check_at = 0.0
        self.owes_check = (
            False  # nobody has looked yet whether what was written last is at its path
        )
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

    def reserve(self, size: int, leave: int | None = None) -> Reservation:
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
        segment = self._used[-1]
        self.last_lsn += 1
        place = Reservation(segment, self._position, self.last_lsn, begins)
        segment.last = self.last_lsn
        self._position += size + OVERHEAD
        return place

    def recycle(self, lsn: int) -> None:
        """Frees the segments all of whose records are numbered up to `lsn`, except the newest."""
        while len(self._used) > 1 and self._used[0].last <= lsn:
            segment = self._used.popleft()
            self._segments.give_back(segment)

    @property
    def is_starved(self) -> bool:
        """Whether the disk has no room for the second segment, without which none is ever free."""
        return self._segments.full and self._segments.too_few

    def _begin_segment(self, need: int) -> Header:
        segment = self._segments.take(PAGE + need)
        if segment is None:
            for_ever = self.is_starved or not self._segments.can_hold(PAGE + need)
            raise disk_full() if self.full and for_ever else behind()
        self._used.append(segment)
        self._number += 1
        self._position = PAGE
        header = Header(self._number, self.last_lsn + 1, self._disk.random_number())
        segment.number, segment.first, segment.salt = (
            header.number,
            header.first,
            Salt.of(header.salt),
        )
        return header

    def check_place(self) -> None:
        """Looks whether the newest segment is still at its path.

        Raises:
            DirectoryLost: it is not.
        """
        self.owes_check = False
        if self._used:
            self._used[-1].file.check_place()

    # -- on the disk thread -------------------------------------------------

    def add_file(self) -> None:
        """Makes another segment ready; if the disk has no room, notes that in `full`.

        Raises:
            OSError: for any other failure.
        """
        self._segments.add_file()

    def encode(self, batch: Sequence[tuple[Reservation, Payload]]) -> list[Write]:
        """Turns records, in their order, into writes: one for each segment touched. Those of the batch before are on disk."""
        has_large = False
        writes: list[Write] = []
        parts: list[bytes] = []
        begin = 0
        segment: SegmentFile | None = None
        durable = self._encoded_lsn
        crc = self._crc
        for place, payload in batch:
            if place.begins is not None:
                if segment is not None:
                    writes.append(
                        Write(segment, _joined(parts) if has_large else b"".join(parts), begin)
                    )
                    durable = place.lsn - 1
                    parts = []
                segment, begin = place.segment, 0
                parts.append(segment_header(place.begins, crc))
            elif segment is None:
                segment, begin = place.segment, place.position
            mark, seed = segment.salt
            if isinstance(payload, tuple):
                has_large = True
                head = RECORD.pack(mark, size_of(payload), place.lsn, durable, crc)
                crc = crc32(head, seed)
                for part in payload:
                    crc = crc32(part, crc)
                parts += (head, CRC.pack(crc), *payload)
                continue
            head = RECORD.pack(mark, len(payload), place.lsn, durable, crc)
            crc = crc32(payload, crc32(head, seed))
            parts += (head, CRC.pack(crc), payload)
        if segment is not None:
            writes.append(Write(segment, _joined(parts) if has_large else b"".join(parts), begin))
        self._crc = crc
        self._encoded_lsn = batch[-1][0].lsn
        return writes

    # -- on the commit thread -----------------------------------------------

    def write(self, writes: list[Write]) -> None:
        """Makes writes durable, one after the other. Looks every `CHECK_INTERVAL` seconds whether they are where a restart will find them.

        Raises:
            OSError: the records may or may not be on disk; nothing more may be written.
        """
        for segment, data, position in writes:
            octets = self._with_blanks(segment, data, position)
            segment.file.write_durably(octets, position)
        now = time.monotonic()
        self.owes_check = now < self._check_at
        if not self.owes_check:
            self._check_at = now + CHECK_INTERVAL
            for segment, _, _ in writes:
                segment.file.check_place()

    def _with_blanks(self, segment: SegmentFile, data: Payload, position: int) -> Payload:
        """Returns what to write for `data`. In space that has never been written, zeros follow it up to the next bound."""
        end = position + size_of(data)
        if end <= segment.written:
            return data
        bound = min(-(-end // self._blanks) * self._blanks, segment.capacity)
        if isinstance(data, tuple) or len(data) >= self._blanks or bound <= end:
            segment.written = end
            return data
        segment.written = bound
        return data, bytes(bound - end)

    # -- at the start -------------------------------------------------------

    def recover(self, after: int) -> Iterator[tuple[int, bytes]]:
        """As `recover_runs`, but yields number and payload of each record by itself."""
        for run in self.recover_runs(after):
            yield from enumerate(run.payloads, run.first)

    def recover_runs(self, after: int) -> Iterator[RecordRun]:
        """Opens the log and yields the records after LSN `after`, the catalog's own.

        When it is exhausted the log is ready to be written, and what was yielded is on disk. Until a run is taken from it, nothing
        is told of the records after the run before.

        Raises:
            Damaged: acknowledged records are missing.
        """
        segments = self._segments.open()
        self.last_lsn = self.durable_lsn = after
        started = False
        for index, segment in enumerate(segments):
            if started and segment.first != self.last_lsn + 1:
                raise self._damaged(
                    segment.name, "its first record does not follow the segment before"
                )
            if not started:
                following = segments[index + 1].first if index + 1 < len(segments) else None
                if following is not None and following <= after + 1:
                    self._segments.give_back(segment)
                    continue
                if segment.first > after + 1:
                    raise self._damaged(segment.name, "the records before it are missing")
                started = True
                self.last_lsn = segment.first - 1
                self._crc = chain_seed(segment.file)
            elif self._crc != chain_seed(segment.file):
                raise self._damaged(segment.name, "it does not continue the segment before")
            yield from self._replay(segment, after)
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

    def _replay(self, segment: SegmentFile, after: int) -> Iterator[RecordRun]:
        position = PAGE
        self._used.append(segment)
        self._number = segment.number
        for run in record_runs(segment, self.last_lsn, self._crc):
            self.last_lsn = self.durable_lsn = segment.last = run.last
            self._crc, position = run.crc, run.end
            if run.first > after:
                yield run
            elif run.last > after:
                yield run._replace(payloads=run.payloads[after - run.last :])
        segment.written = position
        self._position = position
        if vouched(segment, position) > self.last_lsn:
            raise self._damaged(
                segment.name, f"record {self.last_lsn + 1} at byte {position} is damaged"
            )

    def _damaged(self, name: str, what: str) -> Damaged:
        return Damaged(f"{name}: {what}")


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

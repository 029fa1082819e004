"""The write-ahead log: reserves places for records in segments, writes the records durably, and recovers them at a start."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from ...errors import TooLarge
from ..damage import Damaged
from ..distribution import NUMBERS, SHORT_SECONDS, Distribution
from ..slow_work import COMMIT, SlowWork
from .checksum import crc32
from .disk import Disk
from .refusals import behind, disk_full
from .segments import (
    DIRECTORY,
    MAX_FILES,
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

#: Seconds between two checks that a written segment is still at its path. A check at every commit made a single durable append 5%
#: slower. If somebody moves or removes the directory of a running server, only the appends that were acknowledged in this interval can be lost.
CHECK_INTERVAL: Final = 0.05
#: A small write to space that was never written is padded with zeros up to the next multiple of this many bytes. The first write to a
#: reserved block makes the file system mark it as used, so on ext4 a small commit would take 50% longer without the padding.
_PADDING: Final = 256 * 1024


class Reservation(msgspec.Struct, frozen=True):
    """The place of a record in the log, decided before the record is written.

    Attributes:
        segment: the segment that will contain the record.
        position: the position of the record in the segment's file.
        lsn: the LSN of the record.
        header: the header of the segment if this record is its first, otherwise None.
    """

    segment: SegmentFile
    position: int
    lsn: int
    header: Header | None


class Write(NamedTuple):
    """One write to a segment.

    Attributes:
        segment: the segment to write to.
        data: the bytes to write, in parts if some of them are large.
        position: the position in the segment's file.
    """

    segment: SegmentFile
    data: Payload
    position: int


class Wal:
    """The write-ahead log of one store.

    The event loop calls `reserve` and `recycle`, and the commit thread calls `write`. Either may call `encode`, because a batch is
    written before the next one is encoded.

    Args:
        disk: the disk that holds the segments.
        segment_size: the size of a new segment file in bytes.

    Attributes:
        largest: the maximum size of a payload in bytes.
        reserve_size: the number of bytes at the end of a segment that are reserved for records that free space.
        wants_file: returns whether `add_file` should prepare another segment.
        needs_check: whether nobody has checked since the last write that its segment is still at its path.
        last_lsn: the LSN of the newest record that has a place.
        durable_lsn: the LSN of the newest record that the event loop knows to be durable.
        batches: the numbers of records that became durable together.
        sync_seconds: how long the writes of a batch took, including the sync.
        bytes_written: bytes of all records and their padding since the start.
        slow_work: the pieces of work of the store that took long.
    """

    def __init__(self, disk: Disk, segment_size: int) -> None:
        self._disk = disk
        self._segment_size = segment_size
        self._segments = Segments(disk, segment_size)
        self._used: deque[SegmentFile] = deque()  # the newest is last
        self._padding = min(_PADDING, max(1, segment_size // SHARE))
        self._position = 0  # the position of the next record in the newest segment
        self._number = 0
        self._check_at = 0.0
        self.needs_check = False
        self.reserve_size = reserve_of(segment_size)
        self.largest = segment_size - PAGE - OVERHEAD - self.reserve_size
        self.wants_file = self._segments.wants_file
        self.last_lsn = 0
        self.durable_lsn = 0
        # The last record of the newest encoded batch. That batch is durable when the next one is encoded.
        self._encoded_lsn = 0
        self._crc = 0  # the CRC of the newest encoded record
        self.batches = Distribution(NUMBERS)
        self.sync_seconds = Distribution(SHORT_SECONDS)
        self.bytes_written = 0
        self.slow_work = SlowWork()

    # -- on the event loop --------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the disk had no room for another segment file."""
        return self._segments.full

    def reserve(self, size: int, leave: int | None = None) -> Reservation:
        """Reserves a place for a record, and gives it the next LSN.

        Args:
            size: the size of the record's payload in bytes.
            leave: the number of bytes that must stay free at the end of the segment, by default `reserve_size`.

        Raises:
            TooLarge: the record fits no segment.
            StorageFull: the disk has no room for a segment that can hold the record, and no checkpoint can free one.
            Unavailable: every segment waits for a checkpoint.
        """
        if size > self.largest:
            raise TooLarge("the request is larger than one record of the log")
        need = size + OVERHEAD + (self.reserve_size if leave is None else leave)
        header = None
        if not self._used or self._position + need > self._used[-1].capacity:
            header = self._begin_segment(need)
        segment = self._used[-1]
        self.last_lsn += 1
        place = Reservation(segment, self._position, self.last_lsn, header)
        segment.last = self.last_lsn
        self._position += size + OVERHEAD
        return place

    def recycle(self, lsn: int) -> None:
        """Frees every segment whose last record is `lsn` or older, except the newest segment."""
        while len(self._used) > 1 and self._used[0].last <= lsn:
            segment = self._used.popleft()
            self._segments.give_back(segment)

    @property
    def size(self) -> int:
        """The bytes of all segment files."""
        return self._segments.capacity

    @property
    def used(self) -> int:
        """The bytes that no other record can use before a checkpoint frees them."""
        full = sum(segment.capacity for segment in self._used)
        return full - self._used[-1].capacity + self._position if self._used else 0

    @property
    def limit(self) -> int:
        """The bytes that all segment files may have together."""
        return self._segment_size * MAX_FILES

    @property
    def is_starved(self) -> bool:
        """Whether the disk has no room for a second segment, without which no segment can be freed."""
        return self._segments.full and self._segments.has_too_few

    def _begin_segment(self, need: int) -> Header:
        segment = self._segments.take(PAGE + need)
        if segment is None:
            forever = self.is_starved or not self._segments.can_hold(PAGE + need)
            raise disk_full() if self.full and forever else behind()
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
        """Checks that the newest segment is still at its path.

        Raises:
            DirectoryLost: the segment was moved, removed or replaced.
        """
        self.needs_check = False
        if self._used:
            self._used[-1].file.check_place()

    # -- on the disk thread -------------------------------------------------

    def add_file(self) -> None:
        """Prepares another segment. If the disk has no room for it, `full` becomes true.

        Raises:
            OSError: the disk failed in another way.
        """
        self._segments.add_file()

    def encode(self, batch: Sequence[tuple[Reservation, Payload]]) -> list[Write]:
        """Returns the writes of a batch of records, one for each segment.

        The previous batch must be durable, because the records state that it is.
        """
        has_large = False
        writes: list[Write] = []
        parts: list[bytes] = []
        begin = 0
        segment: SegmentFile | None = None
        durable = self._encoded_lsn
        crc = self._crc
        for place, payload in batch:
            if place.header is not None:
                if segment is not None:
                    writes.append(
                        Write(segment, _joined(parts) if has_large else b"".join(parts), begin)
                    )
                    durable = place.lsn - 1
                    parts = []
                segment, begin = place.segment, 0
                parts.append(segment_header(place.header, crc))
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
        self.batches.add(len(batch))
        return writes

    # -- on the commit thread -----------------------------------------------

    def write(self, writes: list[Write]) -> None:
        """Makes writes durable, one after the other.

        At most once in `CHECK_INTERVAL` seconds, also checks that the segments are still at their paths.

        Raises:
            OSError: the records may or may not be durable, so nothing more may be written.
            DirectoryLost: a segment was moved, removed or replaced.
        """
        begun = time.monotonic()
        for segment, data, position in writes:
            octets = self._padded(segment, data, position)
            segment.file.write_durably(octets, position)
            self.bytes_written += size_of(octets)
        now = time.monotonic()
        self.sync_seconds.add(now - begun)
        self.slow_work.add(COMMIT, begun, now)
        self.needs_check = now < self._check_at
        if not self.needs_check:
            self._check_at = now + CHECK_INTERVAL
            for segment, _, _ in writes:
                segment.file.check_place()

    def _padded(self, segment: SegmentFile, data: Payload, position: int) -> Payload:
        """Returns the bytes to write for `data`, padded with zeros if they are small and go to space that was never written."""
        end = position + size_of(data)
        if end <= segment.written:
            return data
        bound = min(-(-end // self._padding) * self._padding, segment.capacity)
        if isinstance(data, tuple) or len(data) >= self._padding or bound <= end:
            segment.written = end
            return data
        segment.written = bound
        return data, bytes(bound - end)

    # -- at the start -------------------------------------------------------

    def recover(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Opens the log like `recover_runs`, and yields the LSN and payload of each record."""
        for run in self.recover_runs(after):
            yield from enumerate(run.payloads, run.first)

    def recover_runs(self, after: int) -> Iterator[RecordRun]:
        """Opens the log and yields the records that the catalog does not have yet.

        The log is ready for writing once the iterator is exhausted, and every record that was yielded is durable. While the caller
        handles a run, `last_lsn` is the last record of that run.

        Args:
            after: the LSN of the newest record that is in the catalog.

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
        """Closes the segment files."""
        self._segments.close()

    def _replay(self, segment: SegmentFile, after: int) -> Iterator[RecordRun]:
        """Yields the records of a segment after LSN `after`, and leaves the log at the end of the segment.

        Raises:
            Damaged: a record after the last whole one was acknowledged.
        """
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
    """Returns the parts of one write with the small parts joined and the large ones left as they are."""
    runs: list[bytes] = []
    waiting: list[bytes] = []
    for part in parts:
        if len(part) < LARGE:
            waiting.append(part)
        else:
            runs += (b"".join(waiting), part)
            waiting = []
    return (*runs, b"".join(waiting))

"""Reads records from the segments of the write-ahead log: the chain that is whole, and what vouches for records that are not."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from .checksum import crc32
from .disk import File
from .segments import PAGE, Salt, SegmentFile
from .wal_format import CRC, HEAD, OVERHEAD, RECORD

_SCAN: Final = 4 * 1024 * 1024
# A run's records are applied before the bounds of memory are looked at, so it is short beside those.
_RUN: Final = 256  # records
_RUN_BYTES: Final = 256 * 1024  # or so many bytes, with the record that passes them


class RecordRun(NamedTuple):
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


def record_runs(segment: SegmentFile, lsn: int, crc: int) -> Iterator[RecordRun]:
    """Yields the records of a segment that follow `lsn` and `crc`, some at a time."""
    base = PAGE
    data, at, needed = b"", 0, OVERHEAD
    while True:
        if needed:
            base, at = base + at, 0
            data = segment.file.read(max(_SCAN, needed), base)
            if len(data) < needed:
                return
        run, at, needed = _run_in(data, at, segment.salt, lsn, crc)
        if run.payloads:
            lsn, crc = run.last, run.crc
            yield run._replace(end=base + at)
        elif not needed:
            return


def _run_in(data: bytes, at: int, salt: Salt, lsn: int, crc: int) -> tuple[RecordRun, int, int]:
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
        begin, length, number, _, previous, stored = HEAD.unpack_from(data, at)
        if begin != mark or number != lsn + 1 or previous != crc:
            break
        end = body + length
        if end > len(data):
            needed = OVERHEAD + length
            break
        payload = data[body:end]
        if crc32(payload, crc32(data[at : at + RECORD.size], seed)) != stored:
            break
        payloads.append(payload)
        at, lsn, crc = end, number, stored
    return RecordRun(payloads, lsn, crc, 0), at, needed


def vouched(segment: SegmentFile, position: int) -> int:
    """Returns the highest durable LSN that any whole record past `position` gives, whether or not it follows the chain."""
    file, seed = segment.file, segment.salt.seed
    mark = segment.salt.mark.to_bytes(4, "little")
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
    _, length, _, durable, _ = RECORD.unpack_from(head)
    if durable <= least:
        return 0
    payload = file.read(length, position + OVERHEAD)
    (stored,) = CRC.unpack_from(head, RECORD.size)
    if len(payload) < length or crc32(payload, crc32(head[: RECORD.size], seed)) != stored:
        return 0
    return int(durable)

"""Reads records from one segment of the write-ahead log.

`record_runs` reads the records up to the first that is torn or damaged. `vouched` then shows whether that record was acknowledged.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from .checksum import crc32
from .disk import File
from .segments import PAGE, Salt, SegmentFile
from .wal_format import CRC, HEAD, OVERHEAD, RECORD

#: Number of bytes read at once.
_SCAN: Final = 4 * 1024 * 1024
#: Maximum number of records in a run. Runs are short, because the store checks its memory limits only after each run.
_RUN: Final = 256
#: Number of bytes in a run, after which the run ends.
_RUN_BYTES: Final = 256 * 1024


class RecordRun(NamedTuple):
    """Consecutive records, read together because a call for each would take as long as reading it.

    Attributes:
        payloads: the payload of each record.
        last: the LSN of the last record.
        crc: the CRC of the last record.
        end: the position in the segment's file after the last record.
    """

    payloads: list[bytes]
    last: int
    crc: int
    end: int

    @property
    def first(self) -> int:
        """The LSN of the first record."""
        return self.last - len(self.payloads) + 1


def record_runs(segment: SegmentFile, lsn: int, crc: int) -> Iterator[RecordRun]:
    """Yields the consecutive records of a segment, up to the first that is torn or damaged.

    Args:
        segment: the segment.
        lsn: the LSN of the record before the segment.
        crc: the CRC of the record before the segment.
    """
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
    """Parses a run of records from bytes of a segment, in one loop without further Python calls.

    Args:
        data: bytes of the segment.
        at: the index in `data` at which the first record begins.
        salt: the salt of the segment.
        lsn: the LSN of the record before the run.
        crc: the CRC of the record before the run.

    Returns:
        The run, the index in `data` at which it ends, and the number of bytes from there that the next record needs. That number
        is 0 if the run has its maximum length or no record follows.
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
    """Returns the highest durable LSN in any whole record after a position, or 0 if no whole record follows.

    The record need not continue the chain of CRCs, because the search begins behind a record that breaks it.
    """
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
        position += len(data) - len(mark) + 1  # a mark may span two reads
    return highest


def _vouched_by(head: bytes, file: File, position: int, seed: int, least: int) -> int:
    """Returns the durable LSN of the record at a position, or 0 if the record is not whole or its durable LSN is not above `least`."""
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

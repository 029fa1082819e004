"""Reads the write-ahead log for a check or a repair: every intact record after the catalog's LSN, even behind damage, and the gaps.

`Wal.recover` stops at the first record that does not follow its predecessor. `LogReader` continues behind it. It recognizes a
record anywhere in a segment by the segment's salt and the record's CRC, and it computes a lost segment header from the records.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ...damage import Damaged
from ..disk import LOST, Disk, File
from ..segments import DIRECTORY, PAGE, Salt, chain_seed, read_header
from ..wal_format import OVERHEAD
from .wal_scan import Found, genuine_records, intact_records, record_at, salt_at

_LSN: Final = struct.Struct("<Q")
_LSN_AT: Final = 8  # position of the LSN in a record
_SALT_AT: Final = 24  # position of the salt in a segment's header
_SEARCHED: Final = 1 << 20  # maximum bytes after a blank header that are searched for records
_GUESSES: Final = 64  # LSNs to search for in a segment that lost its header and its first record


class Record(NamedTuple):
    """One intact record of the write-ahead log."""

    lsn: int
    payload: bytes


class Gap(NamedTuple):
    """A place in the write-ahead log where records are missing.

    Attributes:
        after: the LSN before the first missing record.
        before: the LSN after the last missing record; None if nothing shows how far the log continued.
        room: bytes of the segment that the missing records took; None if they were not all in one segment.
    """

    after: int
    before: int | None
    room: int | None

    @property
    def missing(self) -> int | None:
        """Number of missing records; None if nothing shows the number."""
        return None if self.before is None else self.before - self.after - 1

    def in_words(self) -> str:
        """Returns a sentence that names the missing records."""
        if self.before is None:
            return f"nothing shows which records followed record {self.after}"
        first, last = self.after + 1, self.before - 1
        if first == last:
            return f"record {first} is damaged or missing"
        return f"records {first} to {last} are damaged or missing"


class _Segment(NamedTuple):
    """One readable segment.

    Attributes:
        file: its open file.
        number: its place in the order of segments.
        first: the LSN of its first record.
        salt: the salt of its records.
        seed: the CRC of the record before the first one.
        begin: the position of its first record.
    """

    file: File
    number: int
    first: int
    salt: Salt
    seed: int
    begin: int = PAGE


class LogReader:
    """Reads the write-ahead log of a directory that no process has open. It changes nothing.

    Args:
        disk: the directory.
        after: the LSN up to which the catalog is current. The reader skips records up to there.

    Attributes:
        last: the highest LSN in a record or a segment header, and at least `after`. Complete once `items` has ended.
        number: the highest segment number.
        unreadable: segment files with a damaged header, in which no record can be recognized.
        headless: segment files whose header was lost and computed from their records.
        missing: segment files that do not exist, although files with higher numbers do. Complete once `items` has ended.
    """

    def __init__(self, disk: Disk, after: int) -> None:
        self._after = after
        self.last = after
        self.number = 0
        self.unreadable: list[str] = []
        self.headless: list[str] = []
        self._segments: list[_Segment] = []
        self._computed: dict[str, _Segment] = {}
        names = disk.names(DIRECTORY)
        numbers = {int(name) for name in names if name.isdecimal()}
        self.missing = [
            f"{DIRECTORY}/{number:03d}"
            for number in range(max(numbers, default=0))
            if number not in numbers
        ]
        without_header: list[tuple[str, File, bool]] = []
        for name in names:
            if name.isdecimal():
                self._open(disk, f"{DIRECTORY}/{name}", without_header)
        for path, file, is_blank in without_header:
            self._compute_header(path, file, is_blank)
        self._segments.sort(key=lambda segment: (segment.first, segment.number))

    def close(self) -> None:
        """Closes the segment files."""
        for segment in self._segments:
            segment.file.close()

    def items(self) -> Iterator[Record | Gap]:
        """Yields the records after the catalog's LSN in order, and a gap wherever records are missing."""
        after = self._after
        reached = 0  # the highest LSN so far
        for segment, limit in self._relevant_segments():
            before = segment.first - 1
            if before > max(reached, after):
                yield Gap(max(reached, after), segment.first, None)
            reached = max(reached, before)
            data = segment.file.read(segment.file.size(), 0)
            last = Found(before, 0, 0, segment.seed, PAGE, segment.begin)
            for found in genuine_records(data, segment.salt, last, limit):
                if found.lsn > max(last.lsn, after) + 1:
                    yield Gap(max(last.lsn, after), found.lsn, found.begin - last.end)
                if found.lsn > after:
                    yield Record(found.lsn, data[found.begin + OVERHEAD : found.end])
                last = found
            reached = max(reached, last.lsn)
        self.last = max(after, reached)
        is_newest_empty = bool(self._segments) and self._segments[-1].first > reached
        if is_newest_empty:
            self.missing.clear()  # the newest segment has room for any record, so none followed it
        if reached < after or self.unreadable or self.missing:
            yield Gap(self.last, None, None)

    def was_acknowledged(self, path: str) -> bool:
        """Returns whether any record of a segment shows that the segment's first record was acknowledged.

        Args:
            path: the segment file. The result is False unless its header was computed.
        """
        if path not in self.headless:
            return False
        segment = self._computed[path]
        data = segment.file.read(segment.file.size(), 0)
        return any(found.durable >= segment.first for found in intact_records(data, segment.salt))

    def _relevant_segments(self) -> Iterator[tuple[_Segment, int | None]]:
        """Yields the segments with records after the catalog's LSN, each with its last LSN or None for the newest segment."""
        for index, segment in enumerate(self._segments):
            following = self._segments[index + 1 : index + 2]
            limit = following[0].first - 1 if following else None
            if limit is None or limit > self._after:
                yield segment, limit

    def _open(self, disk: Disk, path: str, without_header: list[tuple[str, File, bool]]) -> None:
        """Opens a segment file and reads its header.

        Args:
            disk: the directory.
            path: the segment file.
            without_header: receives each file without a valid header, and whether the header is blank.
        """
        try:
            file = disk.open(path)
        except OSError as error:
            if error.errno not in LOST:
                raise
            self.unreadable.append(path)
            return
        try:
            header = read_header(file)
        except Damaged:
            without_header.append((path, file, False))
            return
        if header is None:
            without_header.append((path, file, True))
            return
        self.number = max(self.number, header.number)
        salt = Salt.of(header.salt)
        self._segments.append(_Segment(file, header.number, header.first, salt, chain_seed(file)))

    def _compute_header(self, path: str, file: File, is_blank: bool) -> None:
        """Computes the header of a segment from its records, or closes the file if that fails."""
        data = file.read(file.size(), 0)
        found = None if is_blank and not data.strip(b"\0") else self._find_salt(data)
        if found is None:
            file.close()
            # A file with a blank header was never used, or a crash cut off its first write.
            if not is_blank:
                self.unreadable.append(path)
            return
        salt, first = found
        self.headless.append(path)
        self.number += 1
        segment = _Segment(file, self.number, first.lsn, salt, first.previous, first.begin)
        self._segments.append(segment)
        self._computed[path] = segment

    def _find_salt(self, data: bytes) -> tuple[Salt, Found] | None:
        """Finds the salt of a segment with a damaged header.

        The salt in the header is used if it fits the segment's first record. Otherwise the salt is computed from two neighbouring records.

        Returns:
            The salt and the first record, or None if no salt fits.
        """
        written = Salt.of(_LSN.unpack_from(data.ljust(PAGE, b"\0"), _SALT_AT)[0])
        first = record_at(data, PAGE, written)
        if first is not None:
            return written, first
        found = salt_at(data, PAGE)
        if found is not None:
            return found
        newest = self._after
        for segment in self._segments:
            whole = segment.file.read(segment.file.size(), 0)
            newest = max(newest, *(each.lsn for each in intact_records(whole, segment.salt)), 0)
        for base in dict.fromkeys((newest, self._after)):
            for lsn in range(base + 1, base + _GUESSES):
                at = data.find(_LSN.pack(lsn), PAGE)
                found = salt_at(data, at - _LSN_AT) if at >= 0 else None
                if found is not None:
                    return found
        return None


def lost_header(disk: Disk, after: int) -> str | None:
    """Returns the path of a segment that has acknowledged records but a blank header, or None if there is no such segment.

    A crash during the first write to a segment may also leave records without a header. Those were never acknowledged, and no
    record states that any of them was durable.

    Args:
        disk: the directory.
        after: the LSN up to which the catalog is current.
    """
    suspects = [
        path
        for name in disk.names(DIRECTORY)
        if name.isdecimal() and _may_have_lost_header(disk, path := f"{DIRECTORY}/{name}")
    ]
    if not suspects:
        return None
    reader = LogReader(disk, after)
    try:
        return next((path for path in suspects if reader.was_acknowledged(path)), None)
    finally:
        reader.close()


def _may_have_lost_header(disk: Disk, path: str) -> bool:
    """Returns whether a segment file has a blank header, but bytes other than zero after it."""
    file = disk.open(path)
    try:
        is_blank = not file.read(PAGE, 0).strip(b"\0")
        return is_blank and bool(file.read(_SEARCHED, PAGE).strip(b"\0"))
    finally:
        file.close()

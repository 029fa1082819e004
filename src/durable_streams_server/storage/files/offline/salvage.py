"""Reads the write-ahead log for a repair: every whole record after the catalog's LSN, also behind damage, and the gaps.

`Wal.recover` stops at the first record that does not follow its predecessor. This reader goes on behind it. It finds a record
anywhere in its segment by the segment's salt and the record's CRC, and computes a lost segment header from the records.

Records behind a gap may also be leftovers of a write that a crash cut off, which nobody was told of. Such leftovers lie behind
the end of the log, and no record calls durable what the gap has lost. So the reader takes a group of records behind a gap only
if that group, a later one, or a later segment proves that the log once went on past the gap.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ...damage import Damaged
from ..checksum import crc32
from ..disk import LOST, Disk, File
from ..segments import DIRECTORY, Salt, chain_seed, read_header
from ..wal_format import OVERHEAD

_PAGE: Final = 4096
_RECORD: Final = struct.Struct("<IIQQI")  # mark, payload length, LSN, durable LSN, previous CRC
_CRC: Final = struct.Struct("<I")
_LSN: Final = struct.Struct("<Q")
_SALT_AT: Final = 24  # in a segment's header
_BITS: Final = 32
_LOOK: Final = 1 << 20  # bytes behind a blank header that are looked at, at each start
_GUESSES: Final = 64  # LSNs that are looked for in a segment whose header and first record are lost


class Record(NamedTuple):
    """One whole record."""

    lsn: int
    payload: bytes


class Gap(NamedTuple):
    """Records that are missing.

    Attributes:
        after: the LSN before the first missing one.
        before: the LSN after the last missing one; None if nothing shows how far the log went on.
        room: bytes of the segment that the missing records took; None if they were not all in one segment.
    """

    after: int
    before: int | None
    room: int | None

    @property
    def missing(self) -> int | None:
        """How many records are missing; None if nothing shows that."""
        return None if self.before is None else self.before - self.after - 1

    def in_words(self) -> str:
        """Returns which records are missing."""
        if self.before is None:
            return f"nothing shows which records followed record {self.after}"
        first, last = self.after + 1, self.before - 1
        if first == last:
            return f"record {first} is damaged or missing"
        return f"records {first} to {last} are damaged or missing"


class _Found(NamedTuple):
    """Where a whole record lies in its segment, and what its header says."""

    lsn: int
    durable: int
    previous: int
    crc: int
    begin: int
    end: int

    def follows(self, other: "_Found") -> bool:
        return self.lsn == other.lsn + 1 and self.previous == other.crc


class _Segment(NamedTuple):
    file: File
    number: int
    first: int
    salt: Salt
    seed: int  # the CRC of the record before the first
    begin: int = _PAGE  # of the first


class LogReader:
    """Reads the log of a directory that no process has open. It changes nothing.

    Args:
        disk: the directory.
        after: the LSN up to which the catalog is true; earlier records are of no interest.

    Attributes:
        last: the highest LSN that a record or a segment header has shown, and at least `after`. Complete after `items`.
        number: the highest segment number.
        unreadable: segment files whose header is damaged and whose records cannot be told from other bytes.
        headless: segment files whose header was computed again.
        missing: segment files that must have been there, since files with higher numbers are.
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
        lost: list[tuple[str, File, bool]] = []
        for name in names:
            if name.isdecimal():
                self._open(disk, f"{DIRECTORY}/{name}", lost)
        for path, file, is_blank in lost:
            self._compute_header(path, file, is_blank)
        self._segments.sort(key=lambda segment: (segment.first, segment.number))

    def close(self) -> None:
        """Closes the segment files."""
        for segment in self._segments:
            segment.file.close()

    def items(self) -> Iterator[Record | Gap]:
        """Yields the records after the catalog's LSN in order, and a gap wherever some are missing."""
        after = self._after
        reached = 0  # the last LSN that the log has shown
        for segment, limit in self._relevant():
            before = segment.first - 1
            if before > max(reached, after):
                yield Gap(max(reached, after), segment.first, None)
            reached = max(reached, before)
            data = segment.file.read(segment.file.size(), 0)
            last = _Found(before, 0, 0, segment.seed, _PAGE, segment.begin)
            for found in _genuine(data, segment.salt, last, limit):
                if found.lsn > max(last.lsn, after) + 1:
                    yield Gap(max(last.lsn, after), found.lsn, found.begin - last.end)
                if found.lsn > after:
                    yield Record(found.lsn, data[found.begin + OVERHEAD : found.end])
                last = found
            reached = max(reached, last.lsn)
        self.last = max(after, reached)
        is_begun = bool(self._segments) and self._segments[-1].first > reached
        if is_begun:
            self.missing.clear()  # the newest segment has room for any record, so no later one has begun
        if reached < after or self.unreadable or self.missing:
            yield Gap(self.last, None, None)

    def was_acknowledged(self, path: str) -> bool:
        """Whether a segment whose header was computed again has a record that a later one calls durable."""
        if path not in self.headless:
            return False
        segment = self._computed[path]
        data = segment.file.read(segment.file.size(), 0)
        return any(found.durable >= segment.first for found in _whole(data, segment.salt))

    def _relevant(self) -> Iterator[tuple[_Segment, int | None]]:
        """Yields the segments that hold more than the catalog has, each with its last LSN if the next one's header gives it."""
        for index, segment in enumerate(self._segments):
            following = self._segments[index + 1 : index + 2]
            limit = following[0].first - 1 if following else None
            if limit is None or limit > self._after:
                yield segment, limit

    def _open(self, disk: Disk, path: str, lost: list[tuple[str, File, bool]]) -> None:
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
            lost.append((path, file, False))
            return
        if header is None:
            lost.append((path, file, True))
            return
        self.number = max(self.number, header.number)
        salt = Salt.of(header.salt)
        self._segments.append(_Segment(file, header.number, header.first, salt, chain_seed(file)))

    def _compute_header(self, path: str, file: File, is_blank: bool) -> None:
        data = file.read(file.size(), 0)
        found = None if is_blank and not data.strip(b"\0") else self._find_salt(data)
        if found is None:
            file.close()
            if (
                not is_blank
            ):  # a blank one is a file that was never used, or a first write that was cut off
                self.unreadable.append(path)
            return
        salt, first = found
        self.headless.append(path)
        self.number += 1
        segment = _Segment(file, self.number, first.lsn, salt, first.previous, first.begin)
        self._segments.append(segment)
        self._computed[path] = segment

    def _find_salt(self, data: bytes) -> tuple[Salt, _Found] | None:
        """Finds the salt of a segment whose header is damaged: in the header, else the one that makes two neighbouring records
        whole. Returns it with the first record."""
        written = Salt.of(_LSN.unpack_from(data.ljust(_PAGE, b"\0"), _SALT_AT)[0])
        first = _record_at(data, _PAGE, written)
        if first is not None:
            return written, first
        found = _salt_at(data, _PAGE)
        if found is not None:
            return found
        newest = self._after
        for segment in self._segments:
            whole = segment.file.read(segment.file.size(), 0)
            newest = max(newest, *(each.lsn for each in _whole(whole, segment.salt)), 0)
        for base in dict.fromkeys((newest, self._after)):
            for lsn in range(base + 1, base + _GUESSES):
                at = data.find(_LSN.pack(lsn), _PAGE)
                found = _salt_at(data, at - 8) if at >= 0 else None
                if found is not None:
                    return found
        return None


def lost_header(disk: Disk, after: int) -> str | None:
    """Returns the path of a segment that has acknowledged records but a blank header; None if there is none.

    A first write that a crash cut off may leave records without a header too. None of those was acknowledged, and no record
    calls any of them durable.

    Args:
        disk: the directory.
        after: the LSN up to which the catalog is true.
    """
    suspects = [
        path
        for name in disk.names(DIRECTORY)
        if name.isdecimal() and _is_suspect(disk, path := f"{DIRECTORY}/{name}")
    ]
    if not suspects:
        return None
    reader = LogReader(disk, after)
    try:
        return next((path for path in suspects if reader.was_acknowledged(path)), None)
    finally:
        reader.close()


def _is_suspect(disk: Disk, path: str) -> bool:
    """Whether a segment has a blank header and anything behind it."""
    file = disk.open(path)
    try:
        return not file.read(_PAGE, 0).strip(b"\0") and bool(file.read(_LOOK, _PAGE).strip(b"\0"))
    finally:
        file.close()


def _whole(data: bytes, salt: Salt) -> Iterator[_Found]:
    """Yields every whole record of a segment's bytes, in order of position."""
    mark = salt.mark.to_bytes(4, "little")
    at = data.find(mark, _PAGE)
    while at >= 0:
        found = _record_at(data, at, salt)
        if found is not None:
            yield found
        at = data.find(mark, at + 1 if found is None else found.end)


def _record_at(data: bytes, at: int, salt: Salt) -> _Found | None:
    """Returns the record that begins at a position; None if no whole one does."""
    if at + OVERHEAD > len(data):
        return None
    mark, length, lsn, durable, previous = _RECORD.unpack_from(data, at)
    end = at + OVERHEAD + length
    if mark != salt.mark or end > len(data):
        return None
    (stored,) = _CRC.unpack_from(data, at + _RECORD.size)
    head = data[at : at + _RECORD.size]
    if crc32(memoryview(data)[at + OVERHEAD : end], crc32(head, salt.seed)) != stored:
        return None
    return _Found(lsn, durable, previous, stored, at, end)


def _genuine(data: bytes, salt: Salt, last: _Found, limit: int | None) -> Iterator[_Found]:
    """Yields the records of a segment that belong to the log, in order; see the top of this file for those behind a gap.

    Args:
        data: the segment's bytes.
        salt: its salt.
        last: stands for the record before its first.
        limit: the last LSN of the segment; None if it is the newest.
    """
    whole = [each for each in _whole(data, salt) if limit is None or each.lsn <= limit]
    proven = 0  # by a record at this place or behind it: the log went on past this LSN
    proofs = []
    for each in reversed(whole):
        proven = max(proven, each.durable)
        proofs.append(proven)
    for each, proof in zip(whole, reversed(proofs), strict=True):
        is_next = each.follows(last) and each.begin == last.end
        is_behind_gap = each.lsn > last.lsn + 1 and (limit is not None or proof > last.lsn)
        if is_next or is_behind_gap:
            yield each
            last = each


def _salt_at(data: bytes, at: int) -> tuple[Salt, _Found] | None:
    """Computes a segment's salt from the record that begins at a position, and returns it with the record.

    Any bytes, damaged ones too, are whole by some salt. So it is None unless the neighbour is whole by that salt too.
    """
    if at < 0 or at + OVERHEAD > len(data):
        return None
    mark, length, *_ = _RECORD.unpack_from(data, at)
    end = at + OVERHEAD + length
    if not mark & 1 or end > len(data):
        return None
    (stored,) = _CRC.unpack_from(data, at + _RECORD.size)
    seed = _seed_of(data[at : at + _RECORD.size], data[at + OVERHEAD : end], stored)
    salt = Salt(mark, seed)
    found, neighbour = _record_at(data, at, salt), _record_at(data, end, salt)
    if found is None or neighbour is None or not neighbour.follows(found):
        return None
    return salt, found


def _seed_of(head: bytes, payload: bytes, stored: int) -> int:
    """Returns the number that a CRC over two runs of bytes began with.

    A CRC is linear: it is that of a zero seed, XORed with one fixed number for each bit of the seed. So the bits are found by
    elimination.
    """
    zero = crc32(payload, crc32(head, 0))
    pivots: dict[int, tuple[int, int]] = {}  # by highest bit: a sum of columns, and which ones
    for bit in range(_BITS):
        column, used = crc32(payload, crc32(head, 1 << bit)) ^ zero, 1 << bit
        while column and (pivot := pivots.get(column.bit_length())) is not None:
            column, used = column ^ pivot[0], used ^ pivot[1]
        pivots[column.bit_length()] = column, used
    rest, seed = stored ^ zero, 0
    while rest:
        column, used = pivots[rest.bit_length()]
        rest, seed = rest ^ column, seed ^ used
    return seed

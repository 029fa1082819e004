"""Finds intact records in the bytes of one segment of the write-ahead log, wherever in the segment they begin.

The functions here do no I/O. `wal_reader.py` uses them to read segments behind damage.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..checksum import crc32
from ..segments import PAGE, Salt
from ..wal_format import OVERHEAD

_RECORD: Final = struct.Struct("<IIQQI")  # mark, payload length, LSN, durable LSN, previous CRC
_CRC: Final = struct.Struct("<I")
_BITS: Final = 32


class Found(NamedTuple):
    """An intact record in a segment.

    Attributes:
        lsn: its LSN.
        durable: the LSN that was known to be durable when the record was written.
        previous: the CRC of the record before it.
        crc: its CRC.
        begin: its position in the segment.
        end: the position after its last byte.
    """

    lsn: int
    durable: int
    previous: int
    crc: int
    begin: int
    end: int

    def follows(self, other: "Found") -> bool:
        """Returns whether this record was written directly after another one."""
        return self.lsn == other.lsn + 1 and self.previous == other.crc


def intact_records(data: bytes, salt: Salt) -> Iterator[Found]:
    """Yields every intact record in the bytes of a segment, in order of position."""
    mark = salt.mark.to_bytes(4, "little")
    at = data.find(mark, PAGE)
    while at >= 0:
        found = record_at(data, at, salt)
        if found is not None:
            yield found
        at = data.find(mark, at + 1 if found is None else found.end)


def record_at(data: bytes, at: int, salt: Salt) -> Found | None:
    """Returns the record that begins at a position of a segment, or None if no intact record begins there."""
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
    return Found(lsn, durable, previous, stored, at, end)


def genuine_records(data: bytes, salt: Salt, last: Found, limit: int | None) -> Iterator[Found]:
    """Yields the records of a segment that belong to the log, in order.

    Records behind a gap may also be the remains of a write that a crash interrupted. Such a write was never acknowledged. Its remains lie
    behind the end of the log, and no record states that a lost record was durable. So this function yields records behind a gap only
    if one of them, a later record, or a later segment proves that the log once continued past the gap.

    Args:
        data: the segment's bytes.
        salt: the segment's salt.
        last: a stand-in for the record before the segment's first one.
        limit: the last LSN of the segment; None if the segment is the newest.
    """
    whole = [each for each in intact_records(data, salt) if limit is None or each.lsn <= limit]
    durable = 0  # the highest durable LSN in this record and all later ones
    proofs = []
    for each in reversed(whole):
        durable = max(durable, each.durable)
        proofs.append(durable)
    for each, proof in zip(whole, reversed(proofs), strict=True):
        is_next = each.follows(last) and each.begin == last.end
        is_behind_gap = each.lsn > last.lsn + 1 and (limit is not None or proof > last.lsn)
        if is_next or is_behind_gap:
            yield each
            last = each


def salt_at(data: bytes, at: int) -> tuple[Salt, Found] | None:
    """Computes a segment's salt from the record that begins at a position.

    For any bytes, some salt exists with which they look like an intact record. So a computed salt counts only if the next record looks intact
    with the same salt.

    Returns:
        The salt and the record, or None if no salt fits both records.
    """
    if at < 0 or at + OVERHEAD > len(data):
        return None
    mark, length, *_ = _RECORD.unpack_from(data, at)
    end = at + OVERHEAD + length
    if not mark & 1 or end > len(data):
        return None
    (stored,) = _CRC.unpack_from(data, at + _RECORD.size)
    seed = seed_of(data[at : at + _RECORD.size], data[at + OVERHEAD : end], stored)
    salt = Salt(mark, seed)
    found, neighbour = record_at(data, at, salt), record_at(data, end, salt)
    if found is None or neighbour is None or not neighbour.follows(found):
        return None
    return salt, found


def seed_of(head: bytes, payload: bytes, stored: int) -> int:
    """Returns the seed with which the CRC of a record was computed.

    A CRC is linear. It is the CRC with a seed of zero, XORed with one fixed number for each bit that is set in the seed. Gaussian
    elimination over these numbers finds the bits.

    Args:
        head: the record's header, without the CRC.
        payload: the record's payload.
        stored: the record's CRC.
    """
    zero = crc32(payload, crc32(head, 0))
    pivots: dict[int, tuple[int, int]] = {}  # highest bit -> XOR of columns, and the bits of those
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

"""Applies the records of a write-ahead log, which may have gaps, to a reconstruction."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from ....protocol.state import Change
from ...damage import Damaged
from .reconstruction import Reconstruction
from .wal_reader import Gap, LogReader, Record

_DECODE: Final = msgspec.msgpack.Decoder(tuple[Change, ...]).decode


class Withheld(NamedTuple):
    """A change of an intact record that could not be applied, and the reason in words."""

    lsn: int
    change: Change
    why: str


def apply_records(reader: LogReader, found: Reconstruction) -> Iterator[Withheld]:
    """Applies the records of a write-ahead log to a reconstruction, and yields each change that cannot be applied.

    Raises:
        Damaged: the payload of an intact record cannot be decoded.
    """
    for item in reader.items():
        if isinstance(item, Gap):
            found.add_gap(item)
        else:
            for change in _changes_of(item):
                why = found.apply(change)
                if why is not None:
                    yield Withheld(item.lsn, change, why)


def _changes_of(record: Record) -> tuple[Change, ...]:
    """Returns the changes in a record of the write-ahead log."""
    try:
        return _DECODE(record.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"record {record.lsn} cannot be understood: {error}") from None

"""The results of a check: findings, and totals of what was checked."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One fault in a data directory.

    Attributes:
        where: a file, or a part of the catalog.
        what: what is wrong, in words.
        path: the stream that the fault harms, if it harms one.
        harmless: whether nothing acknowledged is lost.
    """

    where: str
    what: str
    path: str | None = None
    harmless: bool = False


class Totals(NamedTuple):
    """The amounts that a check has read.

    Attributes:
        streams: number of streams in the catalog.
        records: number of records in the write-ahead log after the catalog's LSN.
        bytes: size of all checked logs and records.
        new_streams: number of streams that only the write-ahead log has.
        new_bytes: number of stream bytes that only the write-ahead log has.
    """

    streams: int
    records: int
    bytes: int
    new_streams: int
    new_bytes: int

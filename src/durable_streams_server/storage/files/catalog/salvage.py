"""Reads the intact entries of a catalog whose database and second copy are both damaged. An entry is intact if its CRC matches."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...damage import Damaged
from ..disk import LOST
from ..opening import open_plain
from ..system_disk import SystemDisk
from . import copy as copies
from . import sums
from .copy import Record
from .database import DATA
from .entries import UNCOUNTED, Entry, Meta
from .pages import Pages
from .tables import (
    DEADLINES,
    ENTRY,
    GARBAGE,
    META,
    META_KEY,
    NAMES,
    PRODUCERS,
    STREAMS,
    U64,
    U64_PAIR,
    is_sealed,
    operations,
    parse_meta,
    seal,
)

_Tables = list[dict[bytes, bytes]]


class Salvage(NamedTuple):
    """The intact entries of a damaged catalog.

    Attributes:
        tables: for each table in `tables.NAMES`, in the same order, its values by key. Each value has its CRC in front.
        meta: the newest readable metadata, made consistent with the entries. Its LSN is 0 if no metadata was readable.
        doubtful: paths of streams whose entries may be outdated, or may have been deleted by the last commit.
        notes: sentences that say what could not be read.
    """

    tables: _Tables
    meta: Meta
    doubtful: frozenset[str]
    notes: list[str]

    @property
    def paths(self) -> list[str]:
        """The paths of all salvaged streams."""
        return [key.decode() for key in self.tables[STREAMS]]


class _CopiedEntry(NamedTuple):
    """The last known version of one entry in a damaged second copy.

    Attributes:
        sealed: the value with its CRC in front; None if the entry was deleted.
        commits: the number of the commit that wrote or deleted it.
        is_doubtful: whether a later version may have been lost.
    """

    sealed: bytes | None
    commits: int
    is_doubtful: bool


class _CopyContents(NamedTuple):
    """The readable part of a damaged second copy.

    Attributes:
        known: last versions of entries by key, for each table.
        newest: the highest commit number.
        is_damaged: whether any part could not be read.
    """

    known: list[dict[bytes, _CopiedEntry]]
    newest: int
    is_damaged: bool


def salvage_entries(path: str) -> Salvage:
    """Returns every catalog entry that is intact in the database or in its second copy. Nothing is changed.

    If both have an entry, the database's version wins unless the copy's is from a later commit. If the database's trees are damaged, the
    result also has entries on pages that no tree leads to any more. Those are doubtful.

    Args:
        path: the catalog's directory, which no process has open.

    Raises:
        OSError: a file cannot be read.
    """
    notes: list[str] = []
    copied = _read_copy(path, notes)
    tables: _Tables = [{} for _ in NAMES]
    pages = _read_database(path, tables, notes)
    commits = _database_commits(tables, copied.known)
    may_be_old = copied.is_damaged and (
        copied.newest > commits or pages is None or pages.lost_summary
    )
    doubtful = set(tables[STREAMS]) if may_be_old else set()
    is_torn = pages is None or pages.unread > 0
    for table, entries in enumerate(copied.known):
        for key, item in entries.items():
            is_newer = item.commits > commits
            if is_newer and item.sealed is None:
                tables[table].pop(key, None)
            elif item.sealed is not None and (is_newer or (is_torn and key not in tables[table])):
                tables[table][key] = item.sealed
                if table == STREAMS:
                    (doubtful.add if item.is_doubtful else doubtful.discard)(key)
    if pages is not None and is_torn:
        doubtful |= _add_stray_entries(pages, tables, copied.known)
    meta = _make_consistent(tables, notes)
    names = frozenset(key.decode() for key in doubtful if key in tables[STREAMS])
    return Salvage(tables, meta, names, notes)


def read_meta(path: str) -> tuple[Meta | None, bool]:
    """Returns the catalog metadata in a damaged database, and whether the last commit wrote it. The metadata is None if it cannot be read.

    Args:
        path: the catalog's directory.
    """
    data = _database_bytes(path)
    if not data:
        return None, False
    pages = Pages(data)
    for table, key, sealed in pages.entries():
        if table == META and key == META_KEY and is_sealed(key, sealed):
            return parse_meta(sealed), not pages.lost_summary
    return None, False


def _read_copy(path: str, notes: list[str]) -> _CopyContents:
    """Returns the last version of each entry in the intact records of the second copy.

    Args:
        path: the catalog's directory.
        notes: receives sentences that say what could not be read.
    """
    nothing = _CopyContents([{} for _ in NAMES], 0, True)
    disk = SystemDisk(path, readonly=True)
    try:
        file = disk.open(copies.NAME)
    except FileNotFoundError:
        notes.append("the catalog's second copy is missing")
        return nothing
    try:
        identity = copies.read_head(file)
        if identity is None:
            notes.append("the head of the catalog's second copy cannot be read, so none of it can")
            return nothing
        if (said := sums.read(disk)) is not None and said.copy.identity != identity:
            notes.append("the catalog's second copy is another directory's")
            return nothing
        records = list(copies.all_intact_records(file, identity))
        gaps = _gaps(records, file.size())
    finally:
        file.close()
    if gaps:
        notes.append(
            f"the catalog's second copy cannot be read from {', '.join(map(str, gaps))} on"
        )
    known: list[dict[bytes, _CopiedEntry]] = [{} for _ in NAMES]
    for record in records:
        try:
            for table, key, sealed in operations(record.payload):
                if sealed is None or (is_sealed(key, sealed) and _belongs_to(table, key, sealed)):
                    is_doubtful = record.start < max(gaps, default=-1)
                    known[table][key] = _CopiedEntry(sealed, record.commits, is_doubtful)
        except Damaged:
            notes.append(f"a record of the catalog's second copy at {record.start} is torn")
    return _CopyContents(known, max((record.commits for record in records), default=0), bool(gaps))


def _gaps(records: list[Record], size: int) -> list[int]:
    """Returns the positions in the second copy at which damaged bytes begin.

    Args:
        records: the intact records of the copy, in order.
        size: the size of the copy in bytes.
    """
    ends = (copies.HEAD_SIZE, *(record.end for record in records))
    starts = (*(record.start for record in records), size)
    return [end for end, start in zip(ends, starts, strict=True) if start != end]


def _database_bytes(path: str) -> bytes:
    """Returns all bytes of the database's file, or no bytes if there is no such file."""
    try:
        descriptor, _ = open_plain(Path(path) / DATA, os.O_RDONLY)
    except OSError as error:
        if error.errno not in LOST:
            raise
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _read_database(path: str, tables: _Tables, notes: list[str]) -> Pages | None:
    """Adds the intact entries of the database's trees to the tables. Returns the database's pages, or None if there is no database.

    Args:
        path: the catalog's directory.
        tables: receives the entries.
        notes: receives sentences that say what could not be read.
    """
    data = _database_bytes(path)
    if not data:
        notes.append("the catalog's database is missing or empty")
        return None
    pages = Pages(data)
    for table, key, sealed in pages.entries():
        if is_sealed(key, sealed) and _belongs_to(table, key, sealed):
            tables[table][key] = sealed
        else:
            pages.unread += 1
    if pages.unread:
        notes.append(f"{pages.unread} pages or entries of the catalog's database cannot be read")
    return pages


def _database_commits(tables: _Tables, known: list[dict[bytes, _CopiedEntry]]) -> int:
    """Returns the number of the database's last commit, or the highest number in the copy if the metadata cannot be read.

    Args:
        tables: the entries of the database.
        known: the entries of the copy.
    """
    sealed = tables[META].get(META_KEY)
    if sealed is not None:
        return parse_meta(sealed).commits
    return max((item.commits for entries in known for item in entries.values()), default=0)


def _add_stray_entries(
    pages: Pages, tables: _Tables, known: list[dict[bytes, _CopiedEntry]]
) -> set[bytes]:
    """Adds entries that are only on pages outside the trees. Returns the keys of the streams among them.

    Args:
        pages: the pages of the database.
        tables: receives the entries.
        known: the entries of the copy.
    """
    newest: dict[bytes, tuple[tuple[int, int], bytes]] = {}
    for key, sealed in pages.stray_entries():
        if not is_sealed(key, sealed):
            continue
        entry = _parse_stream(key, sealed)
        if entry is not None:
            rank = entry.incarnation, entry.tail
            newest[key] = max(newest.get(key, ((0, -1), b"")), (rank, sealed))
        elif len(key) >= U64.size and len(sealed) == 4 + U64_PAIR.size:
            tables[PRODUCERS].setdefault(key, sealed)
    found = set()
    for key, (_, sealed) in newest.items():
        if key not in tables[STREAMS] and key not in known[STREAMS]:
            tables[STREAMS][key] = sealed
            found.add(key)
    return found


def _belongs_to(table: int, key: bytes, sealed: bytes) -> bool:
    """Returns whether an intact entry has the form that entries of a table have.

    The entry may belong to another table, because a damaged root page can lead there.
    """
    size = len(sealed) - 4
    if table == STREAMS:
        return _parse_stream(key, sealed) is not None
    if table == PRODUCERS:
        return len(key) >= U64.size and size == U64_PAIR.size
    if table == DEADLINES:
        return len(key) == U64_PAIR.size
    if table == GARBAGE:
        return len(key) == U64.size and size == 0
    if table == META:
        return key == META_KEY
    return key == key.decode(errors="replace").encode() and not key.startswith(b"/")


def _parse_stream(key: bytes, sealed: bytes) -> Entry | None:
    """Returns the stream entry that a value encodes, or None if it encodes anything else.

    Args:
        key: the key of the value.
        sealed: the value with its CRC in front.
    """
    if not key.startswith(b"/"):
        return None
    try:
        key.decode()
        return ENTRY.decode(sealed[4:])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _make_consistent(tables: _Tables, notes: list[str]) -> Meta:
    """Makes the metadata, the deadlines and the producers fit the streams. Returns the metadata.

    Args:
        tables: the salvaged entries, which are changed.
        notes: receives a sentence if no metadata could be read.
    """
    sealed = tables[META].get(META_KEY)
    if sealed is None:
        notes.append("the catalog's summary cannot be read: up to which record it is true")
    meta = parse_meta(sealed)
    entries = {key: ENTRY.decode(sealed[4:]) for key, sealed in tables[STREAMS].items()}
    incarnations = {entry.incarnation for entry in entries.values()}
    meta = msgspec.structs.replace(
        meta,
        streams=len(entries),
        stored=sum(entry.size for entry in entries.values()),
        last_incarnation=max((meta.last_incarnation, *incarnations)),
    )
    tables[META] = {META_KEY: seal(META_KEY, msgspec.msgpack.encode(meta))}
    tables[DEADLINES] = dict(_deadlines(entries))
    tables[PRODUCERS] = {
        key: sealed
        for key, sealed in tables[PRODUCERS].items()
        if U64.unpack(key[: U64.size])[0] in incarnations
    }
    _uncount_producers(tables, entries)
    return meta


def _uncount_producers(tables: _Tables, entries: dict[bytes, Entry]) -> None:
    """Marks the producers of a stream as uncounted if some of them were lost."""
    counts = Counter(U64.unpack(key[: U64.size])[0] for key in tables[PRODUCERS])
    for key, entry in entries.items():
        if entry.producers not in (UNCOUNTED, counts[entry.incarnation]):
            uncounted = msgspec.structs.replace(entry, producers=UNCOUNTED)
            tables[STREAMS][key] = seal(key, msgspec.msgpack.encode(uncounted))


def _deadlines(entries: dict[bytes, Entry]) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys and values for the table of deadlines, computed from the entries of streams."""
    for key, entry in entries.items():
        if entry.deadline is not None:
            name = U64_PAIR.pack(entry.deadline, entry.incarnation)
            yield name, seal(name, key)


__all__ = ["Salvage", "salvage_entries"]

"""What is left of the catalog when both its database and its second copy are damaged: every entry whose seal holds in either."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..disk import SystemDisk
from ..wal import Damaged
from . import copy as copies
from .database import DATA
from .entries import Entry, Meta
from .pages import Pages
from .tables import (
    DEADLINES,
    ENTRY,
    META,
    META_KEY,
    NAMES,
    ONE,
    PRODUCERS,
    STREAMS,
    TWO,
    is_sealed,
    operations,
    parse_meta,
    seal,
)

_Tables = list[dict[bytes, bytes]]


class Salvage(NamedTuple):
    """What could be read.

    Attributes:
        tables: sealed values by key, for each table in the order of `tables.NAMES`.
        meta: the newest summary that could be read, brought in line with the entries; its LSN is 0 if there was none.
        doubtful: paths of streams whose entries may be older than the last commit, or may have been deleted by it.
        notes: what could not be read, in words.
    """

    tables: _Tables
    meta: Meta
    doubtful: frozenset[str]
    notes: list[str]

    @property
    def paths(self) -> list[str]:
        """The paths of all streams."""
        return [key.decode() for key in self.tables[STREAMS]]


class _Known(NamedTuple):
    """What the copy says last of an entry: its value, None if it was deleted; by which commit; and whether more may have come."""

    sealed: bytes | None
    commits: int
    is_doubtful: bool


def salvage_entries(path: str) -> Salvage:
    """Returns every entry that is whole in the database or its second copy.

    An entry of the database's tree counts for more than the copy's, unless the copy's is of a later commit. What is in neither,
    but on a page that no tree leads to any more, is taken if the trees are damaged; it is doubtful.

    Args:
        path: the catalog's directory, which no process has open. Nothing is changed.

    Raises:
        OSError: a file cannot be read.
    """
    notes: list[str] = []
    known = _read_copy(path, notes)
    tables: _Tables = [{} for _ in NAMES]
    pages = _read_database(path, tables, notes)
    commits = _commits(tables, known)
    doubtful: set[bytes] = set()
    is_torn = pages is None or pages.unread > 0
    for table, entries in enumerate(known):
        for key, item in entries.items():
            if item.commits > commits:
                if item.sealed is None:
                    tables[table].pop(key, None)
                else:
                    tables[table][key] = item.sealed
            elif item.sealed is not None and is_torn and key not in tables[table]:
                tables[table][key] = item.sealed
                if table == STREAMS and item.is_doubtful:
                    doubtful.add(key)
    if pages is not None and is_torn:
        doubtful |= _take_strays(pages, tables, known)
    meta = _settle(tables, notes)
    return Salvage(tables, meta, frozenset(key.decode() for key in doubtful), notes)


def _read_copy(path: str, notes: list[str]) -> list[dict[bytes, _Known]]:
    """Returns what the whole records of the copy say last of each entry."""
    known: list[dict[bytes, _Known]] = [{} for _ in NAMES]
    disk = SystemDisk(path, readonly=True)
    try:
        file = disk.open(copies.NAME)
    except FileNotFoundError:
        notes.append("the catalog's second copy is missing")
        return known
    try:
        identity = copies.read_head(file)
        if identity is None:
            notes.append("the head of the catalog's second copy cannot be read, so none of it can")
            return known
        records = list(copies.all_records(file, identity))
        gaps = [
            end
            for end, start in zip(
                (copies.HEAD_SIZE, *(record.end for record in records)),
                (*(record.start for record in records), file.size()),
                strict=True,
            )
            if start != end
        ]
        last_gap = max(gaps, default=-1)
        if gaps:
            notes.append(f"the catalog's second copy could not be read from {gaps} on")
        for record in records:
            try:
                for table, key, sealed in operations(record.payload):
                    if sealed is None or is_sealed(key, sealed):
                        is_doubtful = record.start < last_gap
                        known[table][key] = _Known(sealed, record.commits, is_doubtful)
            except Damaged:
                notes.append(f"a record of the catalog's second copy at {record.start} is torn")
    finally:
        file.close()
    return known


def _read_database(path: str, tables: _Tables, notes: list[str]) -> Pages | None:
    """Reads the sealed entries of the database's trees."""
    try:
        data = (Path(path) / DATA).read_bytes()
    except FileNotFoundError:
        data = b""
    if not data:
        notes.append("the catalog's database is missing or empty")
        return None
    pages = Pages(data)
    damaged = 0
    for table, key, sealed in pages.entries():
        if is_sealed(key, sealed):
            tables[table][key] = sealed
        else:
            damaged += 1
            pages.unread += 1
    if pages.unread:
        notes.append(f"{pages.unread} pages or entries of the catalog's database cannot be read")
    return pages


def _commits(tables: _Tables, known: list[dict[bytes, _Known]]) -> int:
    """Returns the number of the commit that the database's entries are of. If its summary cannot be read, the newest one's."""
    sealed = tables[META].get(META_KEY)
    if sealed is not None:
        return parse_meta(sealed).commits
    return max((item.commits for entries in known for item in entries.values()), default=0)


def _take_strays(pages: Pages, tables: _Tables, known: list[dict[bytes, _Known]]) -> set[bytes]:
    """Takes entries that only stray pages have, and returns the keys of the streams among them."""
    newest: dict[bytes, tuple[tuple[int, int], bytes]] = {}
    for key, sealed in pages.strays():
        if not is_sealed(key, sealed):
            continue
        entry = _as_stream(key, sealed)
        if entry is not None:
            rank = entry.incarnation, entry.tail
            newest[key] = max(newest.get(key, ((0, -1), b"")), (rank, sealed))
        elif len(key) >= ONE.size and len(sealed) == 4 + TWO.size:
            tables[PRODUCERS].setdefault(key, sealed)
    found = set()
    for key, (_, sealed) in newest.items():
        if key not in tables[STREAMS] and key not in known[STREAMS]:
            tables[STREAMS][key] = sealed
            found.add(key)
    return found


def _as_stream(key: bytes, sealed: bytes) -> Entry | None:
    """Returns the stream that an entry of an unknown table is of, if it is one."""
    if not key.startswith(b"/"):
        return None
    try:
        key.decode()
        return ENTRY.decode(sealed[4:])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _settle(tables: _Tables, notes: list[str]) -> Meta:
    """Brings summary, deadlines and producers in line with the streams."""
    sealed = tables[META].get(META_KEY)
    if sealed is None:
        notes.append("the catalog's summary cannot be read: up to which record it is true")
    meta = parse_meta(sealed)
    entries = {key: ENTRY.decode(sealed[4:]) for key, sealed in tables[STREAMS].items()}
    incarnations = {entry.incarnation for entry in entries.values()}
    meta = msgspec.structs.replace(
        meta,
        streams=len(entries),
        last_incarnation=max((meta.last_incarnation, *incarnations)),
    )
    tables[META] = {META_KEY: seal(META_KEY, msgspec.msgpack.encode(meta))}
    tables[DEADLINES] = dict(_deadlines(entries))
    tables[PRODUCERS] = {
        key: sealed
        for key, sealed in tables[PRODUCERS].items()
        if ONE.unpack(key[: ONE.size])[0] in incarnations
    }
    return meta


def _deadlines(entries: dict[bytes, Entry]) -> Iterator[tuple[bytes, bytes]]:
    for key, entry in entries.items():
        if entry.deadline is not None:
            name = TWO.pack(entry.deadline, entry.incarnation)
            yield name, seal(name, key)


__all__ = ["Salvage", "salvage_entries"]

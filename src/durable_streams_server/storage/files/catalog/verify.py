"""Looks at all files of the catalog and says what is wrong with them. Nothing is changed, and no damage ends the process.

The database's pages are verified before LMDB opens the file. Then each entry is: it must be sealed, and a look-up must find it,
since a damaged page between root and leaf would have look-ups miss what a walk still meets.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ...damage import Damaged
from ..system_disk import SystemDisk
from . import copy as copies
from . import sums
from .copy import Copy
from .database import DATA, Database, NoTablesYet, structure_faults
from .entries import Meta
from .reconcile import relate
from .tables import (
    DOCUMENTS,
    META,
    META_KEY,
    NAMES,
    PRODUCERS,
    STREAMS,
    U64,
    is_sealed,
    operations,
    parse_meta,
)

_SHOWN: Final = 20  # findings of one kind that are named one by one
_BATCH: Final = 1000


class CatalogFinding(NamedTuple):
    """One thing that is wrong with the catalog.

    Attributes:
        file: the file, in the catalog's directory.
        what: what is wrong with it.
        harmless: whether the next server puts it right by itself.
    """

    file: str
    what: str
    harmless: bool = False


def verify_catalog(path: str) -> list[CatalogFinding]:
    """Returns what is wrong with the catalog in a directory; nothing if all is well. No process may have it open.

    Raises:
        OSError: a file cannot be read.
    """
    disk = SystemDisk(path, readonly=True)
    copy = Copy(disk)
    copy.load()
    try:
        found = [*_check_sum(disk), *_check_copy(disk, copy)]
        meta, faults = inspect_database(path, copy)
        found += [CatalogFinding(DATA, what) for what in faults[:_SHOWN]]
        if len(faults) > _SHOWN:
            found.append(CatalogFinding(DATA, f"and {len(faults) - _SHOWN} more findings"))
        if not faults:
            found += _check_relation(meta, copy)
    finally:
        copy.close()
    return found


def entry_faults(database: Database) -> Iterator[str]:
    """Looks at every entry of a database whose structure has been verified, and says which are damaged."""
    for table, name in enumerate(NAMES):
        first = b""
        while batch := database.scan(table, first, _BATCH):
            for key, sealed in batch:
                if not is_sealed(key, sealed):
                    yield f"{_describe(table, key)} is damaged"
            if not database.can_find(table, batch):
                yield f"look-ups in its table of {name} miss entries from {batch[0][0]!r} on"
            first = batch[-1][0] + b"\0"


def all_faults(path: str, database: Database) -> Iterator[str]:
    """Looks at a database that is open, and says what is wrong with it. Nobody may write to it meanwhile.

    Args:
        path: its directory.
        database: it.
    """
    yield from structure_faults(path)
    yield from entry_faults(database)


def was_committed(path: str, copy: Copy) -> bool:
    """Returns whether the files beside a database show that it was committed to.

    Args:
        path: its directory.
        copy: its second copy, which has been looked at.
    """
    has_copy = copy.file is not None and copy.file.size() > 0
    return has_copy or (Path(path) / sums.NAME).exists()


def _describe(table: int, key: bytes) -> str:
    """Returns what an entry is, as people know it."""
    text = key.decode(errors="backslashreplace")
    if table == STREAMS:
        return f"the entry of the stream {text}"
    if table == DOCUMENTS:
        return f"the document {text}"
    if table == PRODUCERS and len(key) >= U64.size:
        return f"a producer of the incarnation {U64.unpack(key[: U64.size])[0]:016d}"
    return f"an entry in its table of {NAMES[table]}"


def inspect_database(path: str, copy: Copy) -> tuple[Meta | None, list[str]]:
    """Returns the database's summary, if it has one, and what is wrong with the database, in words.

    Args:
        path: its directory.
        copy: its second copy, which has been looked at.
    """
    data = Path(path) / DATA
    if not data.exists() or not data.stat().st_size:
        return None, ["it is missing or empty"] if was_committed(path, copy) else []
    faults = structure_faults(path)
    if faults:
        return None, faults
    try:
        database = Database(path, readonly=True)
    except NoTablesYet:
        return None, []
    except Damaged as damage:
        return None, [str(damage)]
    try:
        faults = list(entry_faults(database))
        sealed = database.get(META, META_KEY)
        meta = None if sealed is None or faults else parse_meta(sealed)
        if meta is not None:
            faults += _count_faults(database, meta)
    except Damaged as damage:
        return None, [str(damage)]
    finally:
        database.close()
    return meta, faults


def _count_faults(database: Database, meta: Meta) -> list[str]:
    first, count = b"", 0
    while batch := database.scan(STREAMS, first, _BATCH):
        count += len(batch)
        first = batch[-1][0] + b"\0"
    return [] if count == meta.streams else [f"it holds {count} streams and says {meta.streams}"]


def _check_sum(disk: SystemDisk) -> Iterator[CatalogFinding]:
    if disk.exists(sums.NAME) and sums.read(disk) is None:
        yield CatalogFinding(
            sums.NAME, "it is damaged; the next start verifies the catalog instead", harmless=True
        )


def _check_copy(disk: SystemDisk, copy: Copy) -> Iterator[CatalogFinding]:
    """Looks at the copy by itself. Only its end may be torn, by a crash."""
    if copy.file is None:
        return
    file = disk.open(copies.NAME)
    try:
        identity = copies.read_head(file)
        if identity is None:
            if file.size():
                what = (
                    "its head is torn or damaged; the next start writes it anew from the database"
                )
                yield CatalogFinding(copies.NAME, what, harmless=True)
            return
        end = copies.HEAD_SIZE
        for record in copies.all_whole_records(file, identity):
            if record.start != end:
                what = f"the bytes from {end} to {record.start} are damaged"
                yield CatalogFinding(copies.NAME, what)
            try:
                for _ in operations(record.payload):
                    pass
            except Damaged as damage:
                yield CatalogFinding(copies.NAME, f"the record at {record.start}: {damage}")
            end = record.end
        if end != file.size():
            what = f"the bytes from {end} on are no whole record; a crash may have cut it off"
            yield CatalogFinding(copies.NAME, what, harmless=True)
    finally:
        file.close()


def _check_relation(meta: Meta | None, copy: Copy) -> Iterator[CatalogFinding]:
    """Compares database and copy, each of which is whole by itself as far as it goes."""
    try:
        relate(meta, copy.state, copy.newest)
    except Damaged as damage:
        yield CatalogFinding(DATA, str(damage).removeprefix("catalog: "))
        return
    if meta is None or not meta.identity:
        return
    commits = copy.state.commits if copy.state is not None else 0
    if copy.file is None:
        yield CatalogFinding(copies.NAME, "it is missing; the next start writes it anew", True)
    elif commits < meta.commits:
        what = f"it has {commits} commits of {meta.commits}; the next start writes it anew"
        yield CatalogFinding(copies.NAME, what, True)

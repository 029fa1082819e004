"""Finds faults in the files of a catalog. It changes nothing, and no damage can crash the process.

The pages of the database are verified before LMDB opens the file. Then each entry is verified: its CRC must match, and a look-up of its
key must find it. A damaged page between root and leaf could make look-ups miss entries that a scan still finds.
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

_SHOWN: Final = 20  # maximum faults of the database that are reported one by one
_BATCH: Final = 1000  # maximum entries of one scan


class CatalogFinding(NamedTuple):
    """One fault in a file of the catalog.

    Attributes:
        file: the name of the file in the catalog's directory.
        what: what is wrong, in words.
        harmless: whether the next start of a server corrects the fault.
    """

    file: str
    what: str
    harmless: bool = False


def verify_catalog(path: str) -> list[CatalogFinding]:
    """Returns the faults of the catalog in a directory. No process may have the catalog open.

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
    """Verifies every entry of a database, and yields its faults in words. The database's pages must already be verified."""
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
    """Verifies the pages and the entries of an open database, and yields its faults in words. Nobody may write to it meanwhile.

    Args:
        path: the directory of the database.
        database: the database.
    """
    yield from structure_faults(path)
    yield from entry_faults(database)


def was_committed(path: str, copy: Copy) -> bool:
    """Returns whether the catalog's second copy or `SUM` shows that its database was committed to at least once.

    Args:
        path: the directory of the database.
        copy: the second copy, already loaded.
    """
    has_copy = copy.file is not None and copy.file.size() > 0
    return has_copy or (Path(path) / sums.NAME).exists()


def _describe(table: int, key: bytes) -> str:
    """Returns a phrase that names an entry in a message."""
    text = key.decode(errors="backslashreplace")
    if table == STREAMS:
        return f"the entry of the stream {text}"
    if table == DOCUMENTS:
        return f"the document {text}"
    if table == PRODUCERS and len(key) >= U64.size:
        return f"a producer of the incarnation {U64.unpack(key[: U64.size])[0]:016d}"
    return f"an entry in its table of {NAMES[table]}"


def inspect_database(path: str, copy: Copy) -> tuple[Meta | None, list[str]]:
    """Verifies a database. Returns its metadata and its faults in words. The metadata is None if the database has none or is damaged.

    Args:
        path: the directory of the database.
        copy: the second copy, already loaded.
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
    """Returns a fault, in words, if the metadata has a wrong number of streams."""
    first, count = b"", 0
    while batch := database.scan(STREAMS, first, _BATCH):
        count += len(batch)
        first = batch[-1][0] + b"\0"
    return [] if count == meta.streams else [f"it holds {count} streams and says {meta.streams}"]


def _check_sum(disk: SystemDisk) -> Iterator[CatalogFinding]:
    """Yields a finding if the checksum file `SUM` is damaged."""
    if disk.exists(sums.NAME) and sums.read(disk) is None:
        yield CatalogFinding(
            sums.NAME, "it is damaged; the next start verifies the catalog instead", harmless=True
        )


def _check_copy(disk: SystemDisk, copy: Copy) -> Iterator[CatalogFinding]:
    """Yields the faults in the catalog's second copy, without comparing it with the database.

    A torn end is harmless, because a crash can cause it.
    """
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
        for record in copies.all_intact_records(file, identity):
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
    """Yields a finding if the catalog's database and its second copy do not fit together."""
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

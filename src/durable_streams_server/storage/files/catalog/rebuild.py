"""Makes one copy of the catalog from the other, or both from what is left of them. No file is deleted: what is replaced goes to
the quarantine.

A repair first asks `verify_catalog`. If the database is damaged and the copy is whole, `rebuild_from_copy` makes the database
again and nothing is lost. If the copy is damaged, `rewrite_copy` does. If both are, `salvage_entries` reads what has a seal in
either, and `rebuild_from_entries` makes a database of that. Each can be run again after it was cut off.
"""

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from ...damage import Damaged
from ..system_disk import SystemDisk
from . import sums
from .copy import NAME as COPY
from .copy import Copy, committed_payloads
from .database import DATA, LOCKS, Database
from .lmdb_catalog import LmdbCatalog, open_tables
from .salvage import Salvage
from .tables import Operation, WriteTransaction, operations

_NEW: Final = "rebuilt"
_BATCH: Final = 10_000  # operations in a transaction


def rebuild_from_copy(path: str, quarantine: str) -> list[str]:
    """Makes the database again from its second copy, and returns what was done, in words.

    The copy has every commit that the database had. If the copy has lost its last ones without a trace, the write-ahead log
    does not follow from the new database, and the store refuses to open.

    Args:
        path: the catalog's directory, which no process has open.
        quarantine: the directory for what is replaced; made if it is not there.

    Raises:
        Damaged: the copy is damaged too, and nothing has changed.
        OSError: the disk failed.
    """
    copy = Copy(SystemDisk(path, readonly=True))
    try:
        copy.load()
        if copy.state is None or copy.newest != copy.state.commits:
            raise Damaged("catalog: its second copy is missing or damaged")
        commits = copy.state.commits
        _build(path, itertools.chain.from_iterable(map(operations, committed_payloads(copy))))
    finally:
        copy.close()
    done = _install(path, quarantine)
    return [*done, f"catalog/{DATA} is made again from its second copy, as of commit {commits}"]


def rebuild_from_entries(path: str, quarantine: str, salvage: Salvage) -> list[str]:
    """Makes the database again from entries, puts the copy aside, and returns what was done, in words.

    Args:
        path: the catalog's directory, which no process has open.
        quarantine: the directory for what is replaced; made if it is not there.
        salvage: the entries. The next server that opens the directory writes a new copy.

    Raises:
        OSError: the disk failed.
    """
    _build(
        path,
        (
            Operation(table, key, sealed)
            for table, entries in enumerate(salvage.tables)
            for key, sealed in entries.items()
        ),
    )
    done = _install(path, quarantine)
    done += _quarantine(path, quarantine, COPY)
    return [*done, f"catalog/{DATA} is made again from {len(salvage.paths)} streams' entries"]


def rewrite_copy(path: str, quarantine: str) -> list[str]:
    """Writes the second copy anew from the database, and returns what was done, in words.

    Args:
        path: the catalog's directory, which no process has open.
        quarantine: the directory for the old copy; made if it is not there.

    Raises:
        Damaged: the database is, and nothing has changed.
        OSError: the disk failed.
    """
    nothing = Copy(SystemDisk(path, readonly=True))
    open_tables(path, nothing, readonly=True).close()
    done = _quarantine(path, quarantine, COPY)
    LmdbCatalog(path).close()
    return [*done, f"catalog/{COPY} is written anew from catalog/{DATA}"]


def _build(path: str, entries: Iterable[Operation]) -> None:
    """Builds the new database in a directory beside the old one; `_install` swaps them."""
    new = Path(path) / _NEW
    if new.exists():
        shutil.rmtree(new)  # of a repair that was cut off
    new.mkdir(mode=0o700)
    database = Database(str(new))
    try:
        for batch in _batches(entries):
            database.write(partial(_apply, batch), _do_nothing)
    finally:
        database.close()


def _batches(entries: Iterable[Operation]) -> Iterator[list[Operation]]:
    rest = iter(entries)
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch


def _apply(batch: list[Operation], writing: WriteTransaction) -> None:
    for operation in batch:
        writing.apply(operation)


def _do_nothing(_: WriteTransaction) -> None:
    return


def _install(path: str, quarantine: str) -> list[str]:
    """Puts the old database aside and the new one in its place."""
    disk = SystemDisk(path)
    done = _quarantine(path, quarantine, DATA)
    disk.unlink(sums.NAME)
    disk.unlink(LOCKS)
    disk.rename(f"{_NEW}/{DATA}", DATA)
    disk.sync_directory("")
    shutil.rmtree(Path(path) / _NEW)
    return done


def _quarantine(path: str, quarantine: str, name: str) -> list[str]:
    """Moves a file of the catalog's to the quarantine, if it is there."""
    if not os.path.lexists(Path(path) / name):
        return []
    disk = SystemDisk(quarantine)
    disk.make_directory("")
    first = target = f"catalog-{name}"
    number = 1
    while disk.exists(target):  # an earlier repair's
        number += 1
        target = f"{first}.{number}"
    os.replace(Path(path) / name, Path(quarantine) / target)
    disk.sync_directory("")
    SystemDisk(path).sync_directory("")
    return [f"catalog/{name} is now quarantine/{target}"]

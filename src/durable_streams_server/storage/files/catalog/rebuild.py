"""Rebuilds one copy of the catalog from the other, or both from salvaged entries. Replaced files are moved to the quarantine.

If only the database is damaged, `rebuild_from_copy` rebuilds it without loss. If only the second copy is damaged, `rewrite_copy`
replaces it. If both are damaged, `rebuild_from_entries` makes a database from the entries that `salvage_entries` has found. Each of
these functions can be run again after the process was killed.
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

_NEW: Final = "rebuilt"  # the directory of the new database
_BATCH: Final = 10_000  # operations in one transaction


def rebuild_from_copy(path: str, quarantine: str) -> list[str]:
    """Rebuilds the database of a catalog from its second copy, and returns sentences that say what was done.

    The copy has every commit that the database had. If the copy lost its last commits without a trace, the write-ahead log does not
    continue from the new database, and a store refuses to open the directory.

    Args:
        path: the catalog's directory, which no process has open.
        quarantine: the directory for the old database, which is created if needed.

    Raises:
        Damaged: the copy is damaged too. Nothing has changed.
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
    """Rebuilds the database of a catalog from salvaged entries, and returns sentences that say what was done.

    The second copy goes to the quarantine too. The next server that opens the directory writes a new one.

    Args:
        path: the catalog's directory, which no process has open.
        quarantine: the directory for the old files, which is created if needed.
        salvage: the entries.

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
    """Replaces the second copy of a catalog with a new one made from the database, and returns sentences that say what was done.

    Args:
        path: the catalog's directory, which no process has open.
        quarantine: the directory for the old copy, which is created if needed.

    Raises:
        Damaged: the database is damaged. Nothing has changed.
        OSError: the disk failed.
    """
    nothing = Copy(SystemDisk(path, readonly=True))
    open_tables(path, nothing, readonly=True).close()
    done = _quarantine(path, quarantine, COPY)
    LmdbCatalog(path).close()
    return [*done, f"catalog/{COPY} is written anew from catalog/{DATA}"]


def _build(path: str, entries: Iterable[Operation]) -> None:
    """Builds a new database of the catalog in a directory beside the old one. `_install` moves it into place."""
    new = Path(path) / _NEW
    if new.exists():
        shutil.rmtree(new)  # left by a repair that was killed
    new.mkdir(mode=0o700)
    database = Database(str(new))
    try:
        for batch in _batches(entries):
            database.write(partial(_apply, batch), _do_nothing)
    finally:
        database.close()


def _batches(entries: Iterable[Operation]) -> Iterator[list[Operation]]:
    """Yields the operations in lists of at most `_BATCH`."""
    rest = iter(entries)
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch


def _apply(batch: list[Operation], transaction: WriteTransaction) -> None:
    for operation in batch:
        transaction.apply(operation)


def _do_nothing(_: WriteTransaction) -> None:
    return


def _install(path: str, quarantine: str) -> list[str]:
    """Moves the old database to the quarantine and the new one into its place. Returns sentences that say so."""
    disk = SystemDisk(path)
    done = _quarantine(path, quarantine, DATA)
    disk.unlink(sums.NAME)
    disk.unlink(LOCKS)
    disk.rename(f"{_NEW}/{DATA}", DATA)
    disk.sync_directory("")
    shutil.rmtree(Path(path) / _NEW)
    return done


def _quarantine(path: str, quarantine: str, name: str) -> list[str]:
    """Moves a file of the catalog to the quarantine, if the file exists. Returns sentences that say so."""
    if not os.path.lexists(Path(path) / name):
        return []
    disk = SystemDisk(quarantine)
    disk.make_directory("")
    first = target = f"catalog-{name}"
    number = 1
    while disk.exists(target):  # an earlier repair has used the name
        number += 1
        target = f"{first}.{number}"
    os.replace(Path(path) / name, Path(quarantine) / target)
    disk.sync_directory("")
    SystemDisk(path).sync_directory("")
    return [f"catalog/{name} is now quarantine/{target}"]

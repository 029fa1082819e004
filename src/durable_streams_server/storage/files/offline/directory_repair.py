"""The command `check --repair`: repairs FORMAT, the catalog's files, and then every part that the catalog refers to."""

from collections.abc import Iterator

from ..catalog import LmdbCatalog, repair_catalog, verify_catalog
from ..catalog.copy import NAME as COPY
from ..directory import CATALOG, QUARANTINE
from ..disk import EntryType
from ..lock import LOCK
from ..log_layout import DIRECTORY as LOGS
from ..log_layout import path_of
from ..segments import DIRECTORY as WAL
from ..system_disk import SystemDisk
from .adopt import adopt_logs
from .check import Check
from .format_file import (
    is_salvaged,
    is_unfinished,
    lock_directory,
    mark_as_salvaged,
    remove_format,
    restore_format,
)
from .quarantine import move_to_quarantine
from .repair import repair
from .strangers import stranger, strangers


def repair_directory(path: str, now: int) -> Iterator[str]:
    """Repairs a data directory, and yields sentences that say what was done and what is lost.

    A repair that was killed can be run again.

    Args:
        path: the directory.
        now: microseconds of Unix time.

    Raises:
        DirectoryRefused: the directory has no store, or another process has locked it.
        Damaged: too little of the directory is intact to rebuild a store.
        OSError: the disk failed.
    """
    disk = SystemDisk(path)
    try:
        if stranger(disk, LOCK, EntryType.FILE) is not None:
            yield move_to_quarantine(disk, LOCK)  # no server can run without the lock file
        is_format_whole = not list(lock_directory(disk, path))
        for name, _ in list(strangers(disk)):
            yield move_to_quarantine(disk, name)
        for part in (CATALOG, LOGS, WAL):
            disk.make_directory(part)
        yield from _repair_catalog(disk)
        yield from _repair_contents(disk, now)
        if not is_format_whole or is_unfinished(disk):
            yield from restore_format(disk)
    finally:
        disk.release()


def _repair_catalog(disk: SystemDisk) -> Iterator[str]:
    """Repairs the catalog's files, and marks the directory if the catalog had to be put together from single entries."""
    path, quarantine = str(disk.root / CATALOG), str(disk.root / QUARANTINE)
    if any(not each.harmless for each in verify_catalog(path)):
        remove_format(disk)
        yield from repair_catalog(path, quarantine, lambda number: disk.exists(path_of(number)))
    if is_unfinished(disk) and not disk.exists(f"{CATALOG}/{COPY}"):
        # Only a catalog that was put together from entries has no second copy at this point.
        mark_as_salvaged(disk)


def _repair_contents(disk: SystemDisk, now: int) -> Iterator[str]:
    """Repairs every part that the catalog refers to, and rebuilds the streams of a lost catalog from their logs."""
    catalog = LmdbCatalog(str(disk.root / CATALOG))
    try:
        check = _checked(disk, catalog)
        if check.is_catalog_lost:
            mark_as_salvaged(disk)
        is_from_entries = is_salvaged(disk)
        if is_from_entries:
            yield from adopt_logs(disk, catalog, now)
            check = _checked(disk, catalog)
        yield from repair(disk, catalog, check, now, is_salvaged=is_from_entries)
    finally:
        catalog.close()


def _checked(disk: SystemDisk, catalog: LmdbCatalog) -> Check:
    """Returns a check of a directory that has run to its end."""
    check = Check(disk, catalog)
    for _ in check.run():
        pass
    return check

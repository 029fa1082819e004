"""Finds entries of the wrong type in a data directory, such as a directory or a link where a file must be.

A store refuses such an entry when it opens it. A check reports all of them at once. A repair first moves them to the quarantine, so that
the rest of the repair treats their places as missing files.
"""

import re
from collections.abc import Iterator
from typing import Final

from ..catalog.copy import NAME as COPY
from ..catalog.copy import NEW as NEW_COPY
from ..catalog.database import DATA, LOCKS
from ..catalog.sums import NAME as SUM
from ..directory import CATALOG, FORMAT_FILES, QUARANTINE
from ..disk import EntryType
from ..headroom import BALLAST
from ..lock import LOCK
from ..log_layout import DIRECTORY as LOGS
from ..segments import DIRECTORY as WAL
from ..system_disk import SystemDisk

_IN_CATALOG: Final = (DATA, LOCKS, COPY, NEW_COPY, SUM)
_LOG_DIRECTORY: Final = re.compile(r"[0-9a-f]{2}")


def strangers(disk: SystemDisk) -> Iterator[tuple[str, str]]:
    """Yields each path whose entry has the wrong type, with a phrase that says so."""
    for path, kind in _places(disk):
        wrong = stranger(disk, path, kind)
        if wrong is not None:
            yield path, wrong


def stranger(disk: SystemDisk, path: str, kind: EntryType) -> str | None:
    """Returns what is wrong with the entry at a path, or None if it has the type `kind` or the path does not exist."""
    found = disk.entry_type(path)
    return None if found in (kind, None) else f"it is no {kind.value}"


def _places(disk: SystemDisk) -> Iterator[tuple[str, EntryType]]:
    """Yields each path that belongs to a store, with its type. A directory comes before the entries in it."""
    for name in (*FORMAT_FILES, LOCK, BALLAST):
        yield name, EntryType.FILE
    for name in (QUARANTINE, CATALOG, LOGS, WAL):
        yield name, EntryType.DIRECTORY
    for name in _IN_CATALOG:
        yield f"{CATALOG}/{name}", EntryType.FILE
    for name in filter(str.isdecimal, disk.names(WAL)):
        yield f"{WAL}/{name}", EntryType.FILE
    for directory in filter(_LOG_DIRECTORY.fullmatch, disk.names(LOGS)):
        yield f"{LOGS}/{directory}", EntryType.DIRECTORY
        for name in disk.names(f"{LOGS}/{directory}"):
            yield f"{LOGS}/{directory}/{name}", EntryType.FILE

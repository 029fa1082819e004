"""`check` and `check --repair` of a whole data directory: its FORMAT, its catalog, and then everything that the catalog names.

A repair of the catalog may be cut off before it is known which streams lost bytes by it. So it takes FORMAT away first, which no
server starts without, and puts it back last.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from ..catalog import LmdbCatalog, mend_catalog, verify_catalog
from ..catalog.copy import NAME as COPY
from ..directory import (
    CATALOG,
    QUARANTINE,
    UNFINISHED,
    DirectoryInUse,
    NoStore,
    UnknownFormat,
    write_format,
)
from ..disk import EntryType
from ..lock import LOCK
from ..log_layout import DIRECTORY as LOGS
from ..log_layout import path_of
from ..segments import DIRECTORY as WAL
from ..system_disk import SystemDisk
from .adopt import adopt
from .check import Check, Checked, Finding
from .repair import move_to_quarantine, repair
from .strangers import stranger, strangers

_FORMAT: Final = "FORMAT"
#: `FORMAT.repair` begins with this if the repair puts the catalog together from single entries.
_SALVAGED: Final = b"made from entries"
_OTHER: Final = re.compile(rb"durable-streams-server data, format ([0-9]+)\n")
_KNOWN: Final = (b"1", b"2")


class Checkup:
    """One check of a directory.

    Args:
        path: the directory.
        progress: called with the number of streams looked at and of all.

    Attributes:
        checked: how much was looked at. Complete after `run`.
    """

    def __init__(self, path: str, progress: Callable[[int, int], None] = lambda *_: None) -> None:
        self._path = path
        self._progress = progress
        self.checked = Checked(0, 0, 0, 0, 0)

    def run(self) -> Iterator[Finding]:
        """Looks at everything, changes nothing, and yields what is wrong.

        Raises:
            DirectoryRefused: there is no store, or another process has it.
            OSError: a file cannot be read.
        """
        disk = SystemDisk(self._path, readonly=True)
        try:
            if (wrong := stranger(disk, LOCK, EntryType.FILE)) is not None:
                yield Finding(LOCK, wrong)  # so nobody can say whether a server has the directory
                return
            yield from _take(disk, self._path)
            wrong_places = dict(strangers(disk))
            yield from (Finding(path, what) for path, what in wrong_places.items())
            for part in (CATALOG, LOGS, WAL):
                if not disk.exists(part):
                    yield Finding(part, "the directory is missing")
            is_catalog_whole = not any(path.startswith(CATALOG) for path in wrong_places)
            if is_catalog_whole and disk.exists(CATALOG):
                yield from self._check_parts(disk)
        finally:
            disk.release()

    def _check_parts(self, disk: SystemDisk) -> Iterator[Finding]:
        path = str(disk.root / CATALOG)
        is_whole = True
        for each in verify_catalog(path):
            is_whole &= each.harmless
            yield Finding(f"{CATALOG}/{each.file}", each.what, harmless=each.harmless)
        if not is_whole:
            return
        catalog = LmdbCatalog(path, readonly=True)
        try:
            check = Check(disk, catalog, self._progress)
            yield from check.run()
            self.checked = check.checked
        finally:
            catalog.close()


def repair_directory(path: str, now: int) -> Iterator[str]:
    """Repairs a directory, and yields what was done and what is lost, in words. It can be run again after it was cut off.

    Args:
        path: the directory.
        now: microseconds of Unix time.

    Raises:
        DirectoryRefused: there is no store, or another process has it.
        Damaged: there is nothing to make a store from.
        OSError: the disk failed.
    """
    disk = SystemDisk(path)
    try:
        if stranger(disk, LOCK, EntryType.FILE) is not None:
            yield move_to_quarantine(disk, LOCK)  # a server that has the directory stops at that
        is_format_whole = not list(_take(disk, path))
        for name, _ in list(strangers(disk)):
            yield move_to_quarantine(disk, name)
        for part in (CATALOG, LOGS, WAL):
            disk.make_directory(part)
        yield from _mend_catalog(disk)
        catalog = LmdbCatalog(str(disk.root / CATALOG))
        try:
            check = _checked(disk, catalog)
            if check.is_catalog_lost:
                _note_salvage(disk)
            is_salvaged = _is_salvaged(disk)
            if is_salvaged:
                yield from adopt(disk, catalog, now)
                check = _checked(disk, catalog)
            yield from repair(disk, catalog, check, now, is_salvaged=is_salvaged)
        finally:
            catalog.close()
        if not is_format_whole or disk.exists(UNFINISHED):
            yield from _put_format_back(disk)
    finally:
        disk.release()


def _take(disk: SystemDisk, name: str) -> Iterator[Finding]:
    """Takes a directory, and yields what is wrong with its FORMAT."""
    if not any(disk.names(part) for part in (CATALOG, LOGS, WAL)) and not disk.exists(_FORMAT):
        raise NoStore(f"{name} holds no store")
    if not disk.lock():
        raise DirectoryInUse(f"{name} is in use by another process")
    if disk.exists(UNFINISHED):
        yield Finding(_FORMAT, "a repair has not finished")
        return
    if not disk.exists(_FORMAT):
        yield Finding(_FORMAT, "it is missing")
        return
    try:
        file = disk.open(_FORMAT)
    except OSError as error:
        yield Finding(_FORMAT, str(error))
        return
    text = file.read(100, 0)
    file.close()
    found = _OTHER.fullmatch(text)
    if found is None:
        yield Finding(_FORMAT, "it is damaged")
    elif found[1] not in _KNOWN:
        raise UnknownFormat(f"{name} has a format that this version does not know")


def _checked(disk: SystemDisk, catalog: LmdbCatalog) -> Check:
    check = Check(disk, catalog)
    for _ in check.run():
        pass
    return check


def _take_format_away(disk: SystemDisk) -> None:
    """Has no server start until the repair has finished."""
    if disk.exists(_FORMAT):
        disk.rename(_FORMAT, UNFINISHED)
    elif not disk.exists(UNFINISHED):
        disk.open(UNFINISHED, create=True).close()
    disk.sync_directory("")


def _put_format_back(disk: SystemDisk) -> Iterator[str]:
    if disk.exists(_FORMAT):
        yield move_to_quarantine(disk, _FORMAT)
    write_format(disk)
    disk.unlink(UNFINISHED)
    disk.sync_directory("")
    yield f"{_FORMAT} is written anew"


def _mend_catalog(disk: SystemDisk) -> Iterator[str]:
    """Repairs the catalog. If it had to be made from entries, `UNFINISHED` says so afterwards."""
    path, quarantine = str(disk.root / CATALOG), str(disk.root / QUARANTINE)
    if any(not each.harmless for each in verify_catalog(path)):
        _take_format_away(disk)
        yield from mend_catalog(path, quarantine, lambda number: disk.exists(path_of(number)))
    if disk.exists(UNFINISHED) and not disk.exists(f"{CATALOG}/{COPY}"):
        _note_salvage(disk)  # only a catalog that was made from entries has no copy now


def _note_salvage(disk: SystemDisk) -> None:
    _take_format_away(disk)
    file = disk.open(UNFINISHED)
    file.write(_SALVAGED, 0)
    file.sync()
    file.close()


def _is_salvaged(disk: SystemDisk) -> bool:
    """Whether the catalog was made from entries, by this repair or by one that was cut off."""
    if not disk.exists(UNFINISHED):
        return False
    file = disk.open(UNFINISHED)
    try:
        return file.read(len(_SALVAGED), 0) == _SALVAGED
    finally:
        file.close()

"""The FORMAT file of a data directory, as a check and a repair use it.

A repair of the catalog may be killed before it is known which streams lost bytes. So the repair renames FORMAT to FORMAT.repair first,
because no server starts without FORMAT, and writes FORMAT again as its last step. FORMAT.repair also says whether the catalog was put
together from single entries, so that a later repair knows it too.
"""

import re
from collections.abc import Iterator
from typing import Final

from ..directory import (
    CATALOG,
    UNFINISHED,
    DirectoryInUse,
    NoStore,
    UnknownFormat,
    write_format,
)
from ..log_layout import DIRECTORY as LOGS
from ..segments import DIRECTORY as WAL
from ..system_disk import SystemDisk
from .findings import Finding
from .quarantine import move_to_quarantine

_FORMAT: Final = "FORMAT"
_TEXT: Final = re.compile(rb"durable-streams-server data, format ([0-9]+)\n")
_KNOWN: Final = (b"1", b"2")
#: FORMAT.repair begins with this text if the catalog was put together from single entries.
_SALVAGED: Final = b"made from entries"


def lock_directory(disk: SystemDisk, name: str) -> Iterator[Finding]:
    """Locks a directory for this process, and yields what is wrong with its FORMAT.

    Args:
        disk: the directory.
        name: the directory's name in error messages.

    Raises:
        NoStore: the directory has no part of a store.
        DirectoryInUse: another process has locked the directory.
        UnknownFormat: the directory has a format that a later version introduced.
    """
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
    found = _TEXT.fullmatch(text)
    if found is None:
        yield Finding(_FORMAT, "it is damaged")
    elif found[1] not in _KNOWN:
        raise UnknownFormat(f"{name} has a format that this version does not know")


def remove_format(disk: SystemDisk) -> None:
    """Prevents any server from starting until `restore_format` is called."""
    if disk.exists(_FORMAT):
        disk.rename(_FORMAT, UNFINISHED)
    elif not disk.exists(UNFINISHED):
        disk.open(UNFINISHED, create=True).close()
    disk.sync_directory("")


def restore_format(disk: SystemDisk) -> Iterator[str]:
    """Writes FORMAT, which marks a repair as finished. Yields sentences that say what was done."""
    if disk.exists(_FORMAT):
        yield move_to_quarantine(disk, _FORMAT)
    write_format(disk)
    disk.unlink(UNFINISHED)
    disk.sync_directory("")
    yield f"{_FORMAT} is written anew"


def is_unfinished(disk: SystemDisk) -> bool:
    """Returns whether a repair has removed FORMAT and not restored it yet."""
    return disk.exists(UNFINISHED)


def mark_as_salvaged(disk: SystemDisk) -> None:
    """Removes FORMAT, and writes to FORMAT.repair that the catalog was put together from single entries."""
    remove_format(disk)
    file = disk.open(UNFINISHED)
    file.write(_SALVAGED, 0)
    file.sync()
    file.close()


def is_salvaged(disk: SystemDisk) -> bool:
    """Returns whether this repair, or an earlier one that was killed, put the catalog together from single entries."""
    if not disk.exists(UNFINISHED):
        return False
    file = disk.open(UNFINISHED)
    try:
        return file.read(len(_SALVAGED), 0) == _SALVAGED
    finally:
        file.close()

"""A data directory: its format, its lock, and the store in it."""

from typing import Final

from .catalog import FORMAT
from .disk import Disk
from .logs import DIRECTORY as LOGS
from .wal import DIRECTORY as WAL

_FORMAT_FILE: Final = "FORMAT"
_FORMAT_TEXT: Final = b"durable-streams-server data, format %d\n"
CATALOG: Final = "catalog"


class DirectoryRefused(Exception):
    """The directory cannot be used; the message says why, in one line."""


class DirectoryInUse(DirectoryRefused):
    """Another process has it."""


def prepare(disk: Disk, name: str, *, create: bool = True, readonly: bool = False) -> None:
    """Takes a data directory for this process, and lays it out if it is new.

    Args:
        disk: the directory.
        name: what to call it in messages.
        create: whether a directory without a store becomes one. False is for a directory that must be there, such as a
            mount, which would look empty when it is not mounted.
        readonly: whether to look only, on a disk that is read-only too: nothing is made or changed, and there must be a store.

    Raises:
        DirectoryRefused: another process has it, it is of another format, or it holds something else.
        OSError: the disk failed.
    """
    if (readonly or not create) and not disk.exists(_FORMAT_FILE):
        raise DirectoryRefused(f"{name} holds no store")
    if not readonly:
        disk.make_directory("")
    if not disk.lock():
        raise DirectoryInUse(f"{name} is in use by another process")
    if disk.exists(_FORMAT_FILE):
        _check_format(disk, name)
        disk.sync_directory("")  # who laid it out may have died before
        return
    others = [
        entry
        for entry in disk.names("")
        if entry not in ("LOCK", "lost+found", _FORMAT_FILE + ".new")
    ]
    if set(others) - {WAL, LOGS, CATALOG}:
        raise DirectoryRefused(f"{name} is not empty and holds no store")
    if any(disk.names(entry) for entry in others):
        raise DirectoryRefused(f"{name} holds a store's files but no {_FORMAT_FILE}")
    for directory in (WAL, LOGS, CATALOG):
        disk.make_directory(directory)
    file = disk.open(_FORMAT_FILE + ".new", create=True)
    file.write(_FORMAT_TEXT % FORMAT, 0)
    file.sync()
    file.close()
    disk.rename(_FORMAT_FILE + ".new", _FORMAT_FILE)
    disk.sync_directory("")


def _check_format(disk: Disk, name: str) -> None:
    file = disk.open(_FORMAT_FILE)
    try:
        text = file.read(100, 0)
    finally:
        file.close()
    if text != _FORMAT_TEXT % FORMAT:
        raise DirectoryRefused(f"{name} has a format that this version does not know")

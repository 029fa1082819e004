"""A data directory: its format, its lock, and the store in it."""

from typing import Final

from ...log import log as _log
from .disk import NO_SPACE, Disk
from .headroom import BALLAST
from .lock import LOCK
from .log_layout import DIRECTORY as LOGS
from .segments import DIRECTORY as WAL

FORMAT: Final = 2
#: What is in a directory of format 1 has the same form in one of format 2, which adds to it.
_READABLE: Final = (1, FORMAT)
_FORMAT_FILE: Final = "FORMAT"
#: In the place of FORMAT while a repair makes the catalog again.
UNFINISHED: Final = "FORMAT.repair"
QUARANTINE: Final = "quarantine"
_NEW_FORMAT_FILE: Final = _FORMAT_FILE + ".new"
FORMAT_FILES: Final = (_FORMAT_FILE, UNFINISHED, _NEW_FORMAT_FILE)
_FORMAT_TEXT: Final = b"durable-streams-server data, format %d\n"
CATALOG: Final = "catalog"
_PARTS: Final = (WAL, LOGS, CATALOG)
_OF_LMDB: Final = (f"{CATALOG}/data.mdb", f"{CATALOG}/lock.mdb")


class DirectoryRefused(Exception):
    """The directory cannot be used; the message says why, in one line."""


class DirectoryInUse(DirectoryRefused):
    """Another process has it."""


class NoStore(DirectoryRefused):
    """There is none in it."""


class UnknownFormat(DirectoryRefused):
    """Its FORMAT is not one that this version knows, or cannot be made out."""


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
        raise NoStore(f"{name} holds no store")
    if not readonly:
        _refuse_others(disk, name)  # before anything is made there
        disk.make_directory("")
    if not disk.lock():
        raise DirectoryInUse(f"{name} is in use by another process")
    try:
        _settle(disk, name, readonly=readonly)
    except BaseException:
        disk.release()
        raise


def _settle(disk: Disk, name: str, *, readonly: bool) -> None:
    """Makes a directory that this process has locked one of the present format, and has its parts watched."""
    if readonly:
        _read_format(disk, name)
        return
    if not disk.exists(_FORMAT_FILE):
        _lay_out(disk, name)
    elif _read_format(disk, name) != FORMAT:
        write_format(disk)  # before anything that an older version would not understand
    for directory in _PARTS:
        if not disk.exists(directory):
            disk.make_directory(directory)  # a copy may have left out what was empty
    disk.sync_directory("")  # who laid it out may have died before
    for path in _OF_LMDB:
        if disk.exists(path):
            disk.open(path).close()  # LMDB would follow a link, and wait for what is no file
    disk.watch((_FORMAT_FILE, *_PARTS))
    for doubt in disk.doubts():
        _log.warning("the data directory %s is not this process's alone: %s", name, doubt)


def _lay_out(disk: Disk, name: str) -> None:
    """Makes a store's directories and its FORMAT, the last: a directory that has one is whole."""
    _refuse_others(disk, name)  # again: another process may have been quicker
    for directory in _PARTS:
        disk.make_directory(directory)
    write_format(disk)


def _refuse_others(disk: Disk, name: str) -> None:
    """Raises DirectoryRefused for a directory without FORMAT that has anything else in it."""
    if disk.exists(_FORMAT_FILE):
        return
    others = [
        entry
        for entry in disk.names("")
        if entry not in (LOCK, "lost+found", BALLAST, _NEW_FORMAT_FILE)
    ]
    if UNFINISHED in others:
        raise DirectoryRefused(f"{name} was left in a repair: run check --repair again")
    if set(others) - set(_PARTS) - {QUARANTINE}:
        raise DirectoryRefused(f"{name} is not empty and holds no store")
    if any(disk.names(entry) for entry in others):
        raise DirectoryRefused(f"{name} holds a store's files but no {_FORMAT_FILE}")


def write_format(disk: Disk) -> None:
    """Writes FORMAT, so that a crash leaves the old one or the new one whole."""
    text = _FORMAT_TEXT % FORMAT
    disk.unlink(_NEW_FORMAT_FILE)  # left by a crash, or put there by somebody
    try:
        file = disk.create(_NEW_FORMAT_FILE)
        try:
            file.write(text, 0)
            file.sync()
        finally:
            file.close()
    except OSError as error:
        if error.errno not in NO_SPACE or not disk.exists(_FORMAT_FILE):
            raise
        disk.unlink(_NEW_FORMAT_FILE)
        _overwrite_format(disk, text)
        return
    disk.rename(_NEW_FORMAT_FILE, _FORMAT_FILE)
    disk.sync_directory("")


def _overwrite_format(disk: Disk, text: bytes) -> None:
    """Changes FORMAT where it is, for a full disk. One digit differs, and a disk writes one octet or none."""
    file = disk.open(_FORMAT_FILE)
    try:
        file.write(text, 0)
        file.sync()
    finally:
        file.close()


def _read_format(disk: Disk, name: str) -> int:
    """Returns the format of a directory.

    Raises:
        UnknownFormat: this version cannot read it.
    """
    file = disk.open(_FORMAT_FILE)
    try:
        text = file.read(100, 0)
    finally:
        file.close()
    for version in _READABLE:
        if text == _FORMAT_TEXT % version:
            return version
    raise UnknownFormat(f"{name} has a format that this version does not know")

"""Prepares a data directory for this process: checks and writes its format, locks it, and creates its parts."""

from typing import Final

from ...log import log as _log
from .disk import NO_SPACE, Disk
from .headroom import BALLAST
from .lock import LOCK
from .log_layout import DIRECTORY as LOGS
from .segments import DIRECTORY as WAL

FORMAT: Final = 2
#: Formats that this version reads. Format 2 only adds to format 1.
_READABLE: Final = (1, FORMAT)
_FORMAT_FILE: Final = "FORMAT"
#: Takes the place of FORMAT while a repair rebuilds the catalog.
UNFINISHED: Final = "FORMAT.repair"
QUARANTINE: Final = "quarantine"
#: The Unix socket on which a running server obeys commands. It is no part of the store.
COMMANDS: Final = "commands.sock"
_NEW_FORMAT_FILE: Final = _FORMAT_FILE + ".new"
FORMAT_FILES: Final = (_FORMAT_FILE, UNFINISHED, _NEW_FORMAT_FILE)
_FORMAT_TEXT: Final = b"durable-streams-server data, format %d\n"
CATALOG: Final = "catalog"
_PARTS: Final = (WAL, LOGS, CATALOG)
_OF_LMDB: Final = (f"{CATALOG}/data.mdb", f"{CATALOG}/lock.mdb")


class DirectoryRefused(Exception):
    """The directory cannot be used. The message says why in one line."""


class DirectoryInUse(DirectoryRefused):
    """Another process has locked the directory."""


class NoStore(DirectoryRefused):
    """The directory holds no store."""


class UnknownFormat(DirectoryRefused):
    """This version does not know the format of the directory, or its FORMAT file is damaged."""


def prepare(disk: Disk, name: str, *, create: bool = True, readonly: bool = False) -> None:
    """Locks a data directory for this process, and lays out a store in it if it is new.

    Args:
        disk: the directory.
        name: the name of the directory in messages.
        create: whether to lay out a store in a directory without one. Pass False for a directory that must hold a store, such as a
            mount point, which looks empty while nothing is mounted.
        readonly: whether to change nothing, so that the directory must hold a store. The disk must be read-only too.

    Raises:
        DirectoryRefused: another process has locked the directory, its format is unknown, or it holds other files than those of a store.
        OSError: the disk failed.
    """
    if (readonly or not create) and not disk.exists(_FORMAT_FILE):
        raise NoStore(f"{name} holds no store")
    if not readonly:
        _refuse_others(disk, name)  # before this process creates anything
        disk.make_directory("")
    if not disk.lock():
        raise DirectoryInUse(f"{name} is in use by another process")
    try:
        _settle(disk, name, readonly=readonly)
    except BaseException:
        disk.release()
        raise


def _settle(disk: Disk, name: str, *, readonly: bool) -> None:
    """Updates a locked directory to the present format, creates missing parts, and starts to watch the parts."""
    if readonly:
        _read_format(disk, name)
        return
    if not disk.exists(_FORMAT_FILE):
        _lay_out(disk, name)
    elif _read_format(disk, name) != FORMAT:
        # Write the format first, because the store then writes data that an older version does not understand.
        write_format(disk)
    for directory in _PARTS:
        if not disk.exists(directory):
            disk.make_directory(directory)  # a copied data directory may lack empty directories
    # The process that laid out the directory may have died before its sync.
    disk.sync_directory("")
    for path in _OF_LMDB:
        if disk.exists(path):
            # `open` refuses a link or a FIFO. LMDB itself would follow the link or block on the FIFO.
            disk.open(path).close()
    disk.watch((_FORMAT_FILE, *_PARTS))
    for doubt in disk.doubts():
        _log.warning("the data directory %s is not this process's alone: %s", name, doubt)


def _lay_out(disk: Disk, name: str) -> None:
    """Creates the directories of a store and then its FORMAT file, so that a directory with a FORMAT file is complete."""
    # Check again, because another process may have written here before this one had the lock.
    _refuse_others(disk, name)
    for directory in _PARTS:
        disk.make_directory(directory)
    write_format(disk)


def _refuse_others(disk: Disk, name: str) -> None:
    """Raises DirectoryRefused if a directory has no FORMAT file but holds anything else."""
    if disk.exists(_FORMAT_FILE):
        return
    others = [
        entry
        for entry in disk.names("")
        if entry not in (LOCK, "lost+found", BALLAST, COMMANDS, _NEW_FORMAT_FILE)
    ]
    if UNFINISHED in others:
        raise DirectoryRefused(f"{name} was left in a repair: run check --repair again")
    if set(others) - set(_PARTS) - {QUARANTINE}:
        raise DirectoryRefused(f"{name} is not empty and holds no store")
    if any(disk.names(entry) for entry in others):
        raise DirectoryRefused(f"{name} holds a store's files but no {_FORMAT_FILE}")


def write_format(disk: Disk) -> None:
    """Writes the FORMAT file so that a crash leaves either the old or the new file whole."""
    text = _FORMAT_TEXT % FORMAT
    disk.unlink(_NEW_FORMAT_FILE)  # a crash or a user may have left it
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
    """Overwrites the FORMAT file on a full disk. This is safe, because only one digit changes, and a disk never writes a part of a byte."""
    file = disk.open(_FORMAT_FILE)
    try:
        file.write(text, 0)
        file.sync()
    finally:
        file.close()


def _read_format(disk: Disk, name: str) -> int:
    """Returns the number of a directory's format.

    Raises:
        UnknownFormat: this version does not know the format.
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

"""Writes the logs of a repair's outcome: adds bytes to them, gives them the names of new incarnations, and removes old names.

The new names are written before the catalog commits, and the old names are removed after it. So a kill at any point leaves every
log under a name that the catalog knows.
"""

from collections.abc import Iterator

from ...damage import Damaged
from ..disk import Disk
from ..log_layout import DIRECTORY as LOGS
from ..log_layout import directory_of, path_of
from ..logs import Logs
from .copying import copy_file, copy_index
from .outcome import Move, Outcome
from .quarantine import move_to_quarantine


def write_logs(disk: Disk, outcome: Outcome) -> None:
    """Adds the bytes of an outcome to the logs, and creates the new names of moved logs. Everything is synced.

    Raises:
        Damaged: a log that was intact during the check is damaged now.
    """
    logs = Logs(disk)
    try:
        flush = logs.begin_flush(len(outcome.flushes))
        flush.write(outcome.flushes)
        flush.sync()
        for what in flush.damaged.values():
            raise Damaged(what)
    finally:
        logs.close()
    parents = set()
    for move in outcome.moves:
        if move.extent.entries:
            _copy_log(disk, move)
            parents.add(directory_of(move.new))
    if parents:
        disk.sync_all()
        disk.sync_directory(LOGS)
        for parent in sorted(parents):
            disk.sync_directory(parent)


def remove_old_names(disk: Disk, moves: list[Move]) -> Iterator[str]:
    """Removes the old names of moved logs. A log that was shortened goes to the quarantine instead, as its only complete copy.

    Yields:
        A sentence for each file that is in the quarantine now.
    """
    parents = set()
    for move in moves:
        for name in (path_of(move.old), path_of(move.old) + ".idx"):
            if not disk.exists(name):
                continue
            if move.is_shortened:
                yield move_to_quarantine(disk, name)
            else:
                disk.unlink(name)
                parents.add(directory_of(move.old))
    for parent in sorted(parents):
        disk.sync_directory(parent)


def _copy_log(disk: Disk, move: Move) -> None:
    """Makes a log available under its new name, by a hard link if it keeps all its bytes, and copies its index."""
    old, new = path_of(move.old), path_of(move.new)
    base, tail, entries = move.extent
    disk.make_directory(directory_of(move.new))
    if move.is_shortened:
        # The old file must not change, because it alone has the bytes past the new end.
        copy_file(disk, old, new, tail - base)
    else:
        try:
            disk.link(old, new)
        except OSError:  # the file system has no hard links
            copy_file(disk, old, new, tail - base)
    copy_index(disk, old + ".idx", new + ".idx", move.words, entries)

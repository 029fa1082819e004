"""Compares one stream's log with its index and its catalog entry."""

from typing import NamedTuple

from ...damage import Damaged
from ..catalog import Entry
from ..disk import LOST, Disk, File
from ..index import Index
from ..log_layout import KEPT, path_of
from ..verify import verified_prefix


class Harm(NamedTuple):
    """The damage to one stream's log.

    Attributes:
        path: the stream.
        entry: its catalog entry.
        end: the position up to which the log is intact.
        entries: number of index entries that cover the intact part.
        what: what is wrong, in words.
        is_header: whether only the header of the index is damaged.
    """

    path: str
    entry: Entry
    end: int
    entries: int
    what: str
    is_header: bool = False


def harm_of_log(disk: Disk, path: str, entry: Entry) -> Harm | None:
    """Compares every byte of a stream's log with its index. Returns the damage, or None if there is none."""
    extent = entry.extent
    if not extent.entries:
        is_empty = extent.tail == extent.base
        return None if is_empty else Harm(path, entry, extent.base, 0, "it has bytes but no log")
    name = path_of(entry.incarnation)
    files: list[File] = []
    try:
        files.append(disk.open(name))
        files.append(disk.open(name + ".idx"))
        index, wrong = _index_of(files[1], path, entry)
        found = verified_prefix(files[0], index, files[1].size(), extent)
    except Damaged as damage:
        return Harm(path, entry, extent.base, 0, str(damage))
    except OSError as error:
        if error.errno not in LOST:
            raise
        is_missing = isinstance(error, FileNotFoundError)
        what = f"{error.filename} is missing" if is_missing else str(error)
        return Harm(path, entry, extent.base, 0, what)
    finally:
        for file in files:
            file.close()
    end, entries, what_is_wrong = found
    if what_is_wrong is not None:
        return Harm(path, entry, end, entries, what_is_wrong)
    return None if wrong is None else Harm(path, entry, end, entries, wrong, is_header=True)


def is_rest_kept(disk: Disk, harm: Harm) -> bool:
    """Returns whether separate files hold all bytes that a damaged log lacks at its end.

    Checkpoints write such files while the index of the log is damaged.
    """
    entry, name = harm.entry, path_of(harm.entry.incarnation)
    data_name, index_name = name + KEPT, name + KEPT + ".idx"
    if not disk.exists(data_name) or not disk.exists(index_name):
        return False
    data, file = disk.open(data_name), disk.open(index_name)
    try:
        index = Index.of(file)
        extent = harm.end, entry.tail, entry.index_entries - harm.entries
        is_whole = verified_prefix(data, index, file.size(), extent)[2] is None
        return index.base == harm.end and is_whole
    except Damaged:
        return False
    finally:
        data.close()
        file.close()


def _index_of(file: File, path: str, entry: Entry) -> tuple[Index, str | None]:
    """Returns the index of a stream, and what is wrong with its header, in words.

    Raises:
        Damaged: the entries of the index cannot be found either.
    """
    base = entry.extent.base
    try:
        index = Index.of(file)
    except Damaged as damage:
        return Index.without_header(file, base), str(damage)
    words = index.label
    if index.base != base:
        return index, "its index begins elsewhere"
    if words is not None and (words.incarnation, words.path) != (entry.incarnation, path):
        return index, f"it is the index of {words.path}"
    return index, None

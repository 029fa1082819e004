"""Repairs logs that have lost no bytes: writes a new index header, or appends bytes that checkpoints wrote to separate files."""

from collections.abc import Iterator

from ..disk import Disk
from ..index import ENTRY_SIZE, Index, Label
from ..log_layout import KEPT, directory_of, path_of
from .copying import copy_bytes, copy_index
from .quarantine import move_to_quarantine


def rewrite_index_header(disk: Disk, words: Label, entries: int) -> str:
    """Replaces an index with a copy that has a new header. Returns a sentence that says so.

    Args:
        disk: the directory.
        words: the new header.
        entries: number of intact entries, all of which are kept.
    """
    name = path_of(words.incarnation) + ".idx"
    copy_index(disk, name, name + ".new", words, entries, sync=True)
    disk.rename(name + ".new", name)
    disk.sync_directory(directory_of(words.incarnation))
    return f"{name}: its header is written anew"


def append_kept_bytes(disk: Disk, words: Label, entries: int, kept: int) -> Iterator[str]:
    """Appends to a log the bytes that checkpoints wrote to separate files while the log's index was damaged.

    Args:
        disk: the directory.
        words: the header of the log's index.
        entries: number of intact entries in the log's index.
        kept: number of entries in the index of the separate files.

    Yields:
        A sentence for each file that was written or moved.
    """
    yield rewrite_index_header(disk, words, entries)
    name = path_of(words.incarnation)
    beside = name + KEPT
    data, more = disk.open(name), disk.open(beside)
    file, more_file = disk.open(name + ".idx"), disk.open(beside + ".idx")
    index, more_index = Index.of(file), Index.of(more_file)
    copy_bytes(more, 0, data, more_index.base - words.base, more.size())
    at = index.place_of(entries)
    copy_bytes(more_file, more_index.begin, file, at, kept * ENTRY_SIZE)
    for each in (data, file):
        each.sync()
    for each in (data, more, file, more_file):
        each.close()
    for suffix in ("", ".idx"):
        yield move_to_quarantine(disk, beside + suffix)

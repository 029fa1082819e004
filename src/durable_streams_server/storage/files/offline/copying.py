"""Copies logs and their indexes, in pieces of a few MiB so that a large log needs little memory."""

from typing import Final

from ...damage import Damaged
from ..disk import Disk, File
from ..index import ENTRY_SIZE, Index, Label, labelled_header

_AT_ONCE: Final = 4 * 1024 * 1024  # bytes in memory at a time


def copy_bytes(source: File, at: int, target: File, to: int, size: int) -> None:
    """Copies a run of bytes from one file to another.

    Args:
        source: the file to read.
        at: the position of the first byte in `source`.
        target: the file to write.
        to: the position of the first byte in `target`.
        size: number of bytes.

    Raises:
        Damaged: `source` ends too early.
    """
    while size:
        data = source.read(min(size, _AT_ONCE), at)
        if not data:
            raise Damaged("a log is shorter than it was")
        target.write(data, to)
        at, to, size = at + len(data), to + len(data), size - len(data)


def copy_file(disk: Disk, old: str, new: str, size: int) -> None:
    """Copies the first `size` bytes of the file `old` to the file `new`, which is replaced."""
    source = disk.open(old)
    disk.unlink(new)
    target = disk.open(new, create=True)
    copy_bytes(source, 0, target, 0, size)
    source.close()
    target.close()


def copy_index(
    disk: Disk, old: str, new: str, words: Label, entries: int, *, sync: bool = False
) -> None:
    """Copies the entries of an index behind a new header.

    Args:
        disk: the directory.
        old: the index to copy. Its header may be damaged.
        new: the file to make, which is replaced.
        words: the new header.
        entries: number of entries to copy.
        sync: whether to sync the new file.
    """
    source = disk.open(old)
    try:
        index = Index.of(source)
    except Damaged:
        index = Index.without_header(source, words.base)
    disk.unlink(new)
    target = disk.open(new, create=True)
    head = labelled_header(words)
    target.write(head, 0)
    copy_bytes(source, index.begin, target, len(head), entries * ENTRY_SIZE)
    if sync:
        target.sync()
    source.close()
    target.close()

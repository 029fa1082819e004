"""Replaces a damaged write-ahead log with a new, empty one.

The new segment is written before the catalog commits, and the old segments go to the quarantine after it.
"""

from collections.abc import Iterator

from ..disk import NO_SPACE, Disk
from ..segments import DIRECTORY as WAL
from ..segments import Header, segment_header
from .quarantine import move_to_quarantine


def begin_wal(disk: Disk, number: int, lsn: int) -> None:
    """Writes a new segment of the write-ahead log. Records in older segments are obsolete once the catalog is current up to `lsn`.

    Args:
        disk: the directory.
        number: the number of the new segment, higher than any other.
        lsn: the LSN before that of the segment's first record.
    """
    sizes = [disk.size(f"{WAL}/{name}") or 0 for name in disk.names(WAL)]
    file = disk.open(_new_segment_path(disk), create=True)
    header = Header(number, lsn + 1, disk.random_number())
    file.write(segment_header(header, 0), 0)
    try:
        file.allocate(max([file.size(), *sizes]))
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise  # on a full disk, a smaller segment serves too
    file.sync()
    file.close()
    disk.sync_directory(WAL)


def quarantine_old_segments(disk: Disk) -> Iterator[str]:
    """Moves all segments except the newest to the quarantine, and renames the newest to the name of the first segment.

    Yields:
        A sentence for each moved segment.
    """
    *old, new = (name for name in disk.names(WAL) if name.isdecimal())
    for name in old:
        yield move_to_quarantine(disk, f"{WAL}/{name}")
    if new != "000":
        disk.rename(f"{WAL}/{new}", f"{WAL}/000")
        disk.sync_directory(WAL)


def _new_segment_path(disk: Disk) -> str:
    """Returns the path of a segment file that does not exist yet and sorts after all others."""
    numbers = [int(name) for name in disk.names(WAL) if name.isdecimal()]
    return f"{WAL}/{max(numbers, default=-1) + 1:03d}"

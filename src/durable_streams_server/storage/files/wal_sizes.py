"""How large the write-ahead log and its segments are, and how much of a segment is kept back for records that free space."""

from typing import Final

from .segments import MAX_FILES, PAGE
from .wal_format import OVERHEAD

#: Size of the log, all segments together: one takes a record of the largest body by default, and more.
DEFAULT_SIZE: Final = 480 * 1024 * 1024
#: Least size of the log: each segment takes records of about 1 MiB.
MIN_SIZE: Final = MAX_FILES * 1024 * 1024
#: Largest size of the log: a start after a crash reads all of it.
MAX_SIZE: Final = MAX_FILES * 1024 * 1024 * 1024
DEFAULT_SEGMENT_SIZE: Final = DEFAULT_SIZE // MAX_FILES
_RESERVE: Final = 1024 * 1024  # of each segment: some 6,000 deletes
SHARE: Final = 16  # in a small segment, the reserve and the blanks are this part of it


def segment_size_of(size: int) -> int:
    """Returns the size of one segment of a log of `size` bytes."""
    return size // MAX_FILES // PAGE * PAGE


def reserve_of(segment_size: int) -> int:
    """Returns how many bytes of a segment only records may use that give space back."""
    return min(_RESERVE, segment_size // SHARE)


def size_for(largest: int) -> int:
    """Returns the size of the smallest log that takes records of `largest` bytes."""
    segment = largest + PAGE + OVERHEAD
    while segment - PAGE - OVERHEAD - reserve_of(segment) < largest:
        segment += PAGE
    return MAX_FILES * (-(-segment // PAGE) * PAGE)

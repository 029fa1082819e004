"""The sizes of the write-ahead log and its segments, and of the reserve in each segment for records that free space."""

from typing import Final

from .segments import MAX_FILES, PAGE
from .wal_format import OVERHEAD

#: Default size of the log in bytes. One segment of such a log can hold a record with the largest body that is allowed by default.
DEFAULT_SIZE: Final = 480 * 1024 * 1024
#: Minimum size of the log in bytes. Each segment of such a log can hold a record of about 1 MiB.
MIN_SIZE: Final = MAX_FILES * 1024 * 1024
#: Maximum size of the log in bytes. A start after a crash reads all of it.
MAX_SIZE: Final = MAX_FILES * 1024 * 1024 * 1024
DEFAULT_SEGMENT_SIZE: Final = DEFAULT_SIZE // MAX_FILES
#: Maximum size of the reserve of a segment in bytes. It has room for some 6,000 deletes.
_RESERVE: Final = 1024 * 1024
#: The reserve takes at most 1/16 of a segment, and so does the padding of a write.
SHARE: Final = 16


def segment_size_of(size: int) -> int:
    """Returns the size of each segment of a log of `size` bytes."""
    return size // MAX_FILES // PAGE * PAGE


def reserve_of(segment_size: int) -> int:
    """Returns the number of bytes at the end of a segment that are reserved for records that free space."""
    return min(_RESERVE, segment_size // SHARE)


def size_for(largest: int) -> int:
    """Returns the size of the smallest log that accepts payloads of `largest` bytes."""
    segment = largest + PAGE + OVERHEAD
    while segment - PAGE - OVERHEAD - reserve_of(segment) < largest:
        segment += PAGE
    return MAX_FILES * (-(-segment // PAGE) * PAGE)

"""The errors that refuse a write when the disk is full or too slow."""

from typing import Final

from ...errors import StorageFull, Unavailable
from ...protocol.limits import RETRY_SOON

#: Seconds after which a client may retry a write that a full disk refused.
_RETRY_FULL: Final = 5


def behind() -> Unavailable:
    """Returns the error for a write that would have to wait until the disk catches up."""
    return Unavailable("writes are ahead of the disk", "WRITES_BEHIND", retry_after=RETRY_SOON)


def disk_full() -> StorageFull:
    """Returns the error for a write that the disk has no room for."""
    return StorageFull("the disk is full", retry_after=_RETRY_FULL)

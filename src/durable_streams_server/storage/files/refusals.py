"""The refusals of a write that the disk has no room for, or is too slow for."""

from typing import Final

from ...errors import StorageFull, Unavailable
from ...protocol.limits import RETRY_SOON

_RETRY_FULL: Final = 5  # seconds after which a client may try again to write to a full disk


def behind() -> Unavailable:
    """Returns the refusal of a write that would have to wait for the disk to catch up."""
    return Unavailable("writes are ahead of the disk", "WRITES_BEHIND", retry_after=RETRY_SOON)


def disk_full() -> StorageFull:
    """Returns the refusal of a write that the disk has no room for."""
    return StorageFull("the disk is full", retry_after=_RETRY_FULL)

"""The file store's limits of memory, and the amounts of work that make a checkpoint due. docs/limits.md lists the limits that clients can reach."""

from typing import Final

import msgspec

#: Maximum bytes of memory for appends that are not in a log yet. Each piece counts with its bytes and `recent.COST`. Past the limit, appends
#: get 503.
MAX_UNFLUSHED: Final = 64 * 1024 * 1024
#: Maximum bytes kept in memory for readers at the tail.
RECENT_LIMIT: Final = 64 * 1024 * 1024
#: Bytes of records that make a checkpoint due, because a restarted server must read all records since the last checkpoint again.
CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
#: Bytes of memory for unflushed appends at which a checkpoint is due.
FLUSH_BYTES: Final = 24 * 1024 * 1024
#: Maximum dirty streams, because the store cannot evict a dirty stream. Past the limit, clean streams may not change until a checkpoint ends.
MAX_DIRTY: Final = 80_000
#: Maximum producer states, of about 250 bytes each, that no checkpoint has written. Past the limit, appends get 503.
MAX_FRESH_PRODUCERS: Final = 200_000
#: Maximum streams in memory, of about 3 KiB each, before the store evicts idle ones.
MAX_LOADED: Final = 80_000
#: A checkpoint is due when dirty streams or producers exceed 1/`DUE_SHARE` of their limit, so that it ends before the limit is reached.
DUE_SHARE: Final = 4


class Limits(msgspec.Struct, frozen=True):
    """Limits of one file store.

    Attributes:
        checkpoint_bytes: bytes of records that make a checkpoint due.
        max_unflushed: maximum memory of appends that are not in a log yet.
        recent_limit: maximum stream bytes kept in memory for readers.
        max_loaded: maximum streams in memory before idle ones are evicted.
        max_dirty: maximum streams that changed since the last checkpoint.
        max_fresh_producers: maximum producer states that no checkpoint has written.
    """

    checkpoint_bytes: int = CHECKPOINT_BYTES
    max_unflushed: int = MAX_UNFLUSHED
    recent_limit: int = RECENT_LIMIT
    max_loaded: int = MAX_LOADED
    max_dirty: int = MAX_DIRTY
    max_fresh_producers: int = MAX_FRESH_PRODUCERS

    @property
    def flush_bytes(self) -> int:
        """The unflushed memory at which a checkpoint is due."""
        return min(FLUSH_BYTES, self.max_unflushed * 3 // 8)


STANDARD: Final = Limits()

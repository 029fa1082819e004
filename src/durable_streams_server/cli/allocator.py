"""How the C library gives out memory to a server: large blocks are mappings of their own, which grow without a copy."""

import ctypes
import os
import sys
from typing import Final

from ..http.native.heap import Heap
from ..protocol.units import MIB

# mallopt(3)
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

#: Blocks from this many bytes on are mappings. Pages of the usual size are smaller, because mapping one for each read would take longer
#: than the read.
_MAPPED: Final = 8 * MIB
#: Free bytes at the heap's end that malloc keeps; it gives more back to the system. A store frees its oldest
#: appends first, so at times all free memory is at the heap's end: as much as a store keeps of appends (`MAX_UNFLUSHED`, `RECENT_LIMIT`).
#: If malloc gave it back, a server that takes bodies of 1 MB would spend a quarter of its time on asking for it anew.
_KEPT: Final = 128 * MIB
_CHOICES: Final = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def map_large_blocks() -> None:
    """Has malloc map large blocks whatever has happened before. Does nothing without glibc, or where the environment says otherwise.

    Left to itself, glibc takes blocks of up to 32 MiB from its heap once a block of their size has been freed. There, a body that is
    received and JSON that is split may be copied whole when they grow, which takes 20 ms and more.

    Since malloc keeps what is free, memory for large bodies can be made ready from now on.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _CHOICES):
        return
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MAPPED)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        Heap.use(libc)

"""Tunes malloc for a server. Each large block becomes a memory mapping of its own, which can grow without a copy."""

import ctypes
import os
import sys
from typing import Final

from ..http.native.heap import Heap
from ..protocol.units import MIB

# mallopt(3)
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

#: Size in bytes from which malloc maps a block. Pages of the usual size are smaller, because mapping memory for each read would take longer
#: than the read itself.
_MAPPED: Final = 8 * MIB
#: Maximum free bytes that malloc keeps at the end of the heap. A store frees its oldest appends first, so sometimes the end of the heap has
#: as much free memory as the store uses for recent appends (`MAX_UNFLUSHED` and `RECENT_LIMIT`). If malloc returned this memory to the
#: system, a server that receives bodies of 1 MB would spend a quarter of its time on requesting it again.
_KEPT: Final = 128 * MIB
#: Environment variables with which an operator tunes malloc. If one is set, the server changes nothing.
_CHOICES: Final = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def map_large_blocks() -> None:
    """Makes malloc map large blocks, and lets `Heap` prepare memory for large bodies.

    By default, once a mapped block of up to 32 MiB has been freed, glibc no longer maps blocks of that size. It allocates them on the heap,
    where a block for a received body or for split JSON may be copied as a whole when it grows, which takes 20 ms or more.

    Does nothing without glibc, or if the environment configures malloc.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _CHOICES):
        return
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)  # None in other C libraries
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MAPPED)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        Heap.use(libc)

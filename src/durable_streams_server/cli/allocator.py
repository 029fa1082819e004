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

#: Bytes from which a block is a mapping. Pages of the usual size are smaller, because to map memory for each read would take longer
#: than the read.
_MAPPED: Final = 8 * MIB
#: Maximum free bytes that malloc keeps at the end of the heap. A store frees its oldest appends first, so at times all free memory
#: is there: as much as a store keeps of recent appends (`MAX_UNFLUSHED` and `RECENT_LIMIT`). If malloc returned it to the system, a
#: server that receives bodies of 1 MB would spend a quarter of its time on getting it back.
_KEPT: Final = 128 * MIB
#: Environment variables with which an operator tunes malloc. If one is set, the server changes nothing.
_CHOICES: Final = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def map_large_blocks() -> None:
    """Makes malloc map large blocks, and lets `Heap` prepare memory for large bodies.

    By default, glibc stops mapping blocks of a size, up to 32 MiB, once a block of that size has been freed. It then takes them from
    its heap, where a body that is received, or JSON that is split, may be copied as a whole when it grows, which takes 20 ms or more.

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

"""How the C library gives out memory to a server: large blocks are mappings of their own, which grow without a copy."""

import ctypes
import os
import sys
from typing import Final

from ..protocol.names import MIB

# mallopt(3)
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

#: Bytes from which on a block is a mapping. Pages of the usual size are smaller: to map one anew for each read takes longer than
#: to read it.
_MAPPED: Final = 8 * MIB
_KEPT: Final = (
    16 * MIB
)  # free bytes at the heap's end that are kept, so that they need not be asked for again
_CHOICES: Final = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def map_large_blocks() -> None:
    """Has malloc map large blocks whatever has happened before. Does nothing without glibc, or where the environment says otherwise.

    By itself glibc does so only until the first such block is freed: then it raises the bound to that block's size, 32 MiB at
    most. From then on a body that is received, or JSON that is split, grows in the heap, where one step of its growth may copy
    all of it: 20 ms and more for each.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _CHOICES):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MAPPED)
        mallopt(_TRIM_THRESHOLD, _KEPT)

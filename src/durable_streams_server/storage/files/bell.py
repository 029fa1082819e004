"""How the loop's thread wakes the commit thread.

A queue wakes a thread through a lock, while the caller still holds the interpreter (the GIL). On one core, the woken thread takes the core,
finds the interpreter taken, and gives the core back; each commit cost ten system calls for locks. A write to a descriptor releases the
interpreter first. A thread that waits for a descriptor therefore gets the core and the interpreter at once.
"""

import os
import sys
from typing import Final

_RING: Final = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes and gives


class Bell:
    """Rung by one thread, heard by another. Each ring is heard once, also if nobody waits yet.

    It is an eventfd where the system has that, else a pipe, which wakes the other thread less promptly.
    """

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._descriptors = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE),)
        else:
            self._descriptors = os.pipe()

    def ring(self) -> None:
        """Wakes the thread that waits, or the next one that does."""
        os.write(self._descriptors[-1], _RING)

    def wait(self) -> None:
        """Returns after a ring."""
        os.read(self._descriptors[0], len(_RING))

    def close(self) -> None:
        """Gives the descriptors back. Nobody may ring or wait any more."""
        for descriptor in self._descriptors:
            os.close(descriptor)

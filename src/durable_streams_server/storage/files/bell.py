"""The bell with which the event loop's thread wakes the commit thread.

A queue wakes a thread through a lock, while the caller still holds the interpreter (the GIL). On one core, the woken thread gets the core,
finds that the GIL is not free, and yields the core again, so each commit cost ten system calls for locks. A write to a descriptor releases
the GIL first. A thread that waits for a descriptor therefore gets the core and the GIL at once.
"""

import os
import sys
from typing import Final

_RING: Final = (1).to_bytes(
    8, sys.byteorder
)  # the 8 bytes that one write or read of an eventfd transfers


class Bell:
    """Lets one thread wake another. Each ring ends one wait, even if the wait begins after the ring.

    On Linux the bell is an eventfd. Other systems get a pipe, which wakes the waiting thread less promptly.
    """

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._descriptors = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE),)
        else:
            self._descriptors = os.pipe()

    def ring(self) -> None:
        """Wakes the waiting thread, or lets the next `wait` return at once."""
        os.write(self._descriptors[-1], _RING)

    def wait(self) -> None:
        """Blocks until there is a ring that no earlier wait has used up."""
        os.read(self._descriptors[0], len(_RING))

    def close(self) -> None:
        """Closes the descriptors. No thread may ring or wait afterwards."""
        for descriptor in self._descriptors:
            os.close(descriptor)

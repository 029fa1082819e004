"""Memory that is ready for the next large bodies.

The system stops a program for about 2 µs when it first uses a page of fresh memory. To keep a body of 1 MB, that is half of all the
time that the server spends on it. The system gives many pages at once for less, and the server can ask for them after an answer
instead of before it.

    Heap.use(libc)      once in a process whose malloc keeps free memory; without it, the rest does nothing
    heap.used(size)     a large body is in memory; before long, as much memory is ready for others
"""

import ctypes
import resource
from collections.abc import Callable
from typing import ClassVar, Final

from ...protocol.units import KIB, MIB

#: Bytes of free memory that are made ready, after bodies of half as many bytes. A larger body is not counted, because malloc may map it
#: by itself.
READY: Final = 4 * MIB
#: Bytes that are made ready in one step, which takes some 0.3 ms.
_STEP: Final = MIB
_PAGE: Final = 4 * KIB
_POPULATE_WRITE: Final = 23  # madvise(2), from Linux 5.14 on


def _faults() -> int:
    """Returns how many pages this thread has been given so far."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


class Heap:
    """Makes memory ready when large bodies use it up.

    Args:
        later: adds a step to the line of long work, as `Turns.add` does.
        faults: counts the pages that this thread has been given. Where bodies are freed soon, they use the same pages again, and no
            memory is made ready.
    """

    _libc: ClassVar[ctypes.CDLL | None] = None  # a process has one heap

    def __init__(
        self, later: Callable[[Callable[[], bool]], None], faults: Callable[[], int] = _faults
    ) -> None:
        self._later = later
        self._faults = faults
        self._given = 0  # pages, when memory was last looked after
        self._used = 0  # bytes of bodies since then
        self._block: int | None = None  # address of the block whose pages are asked for
        self._at = 0  # address of the next page to ask for

    @classmethod
    def use(cls, libc: ctypes.CDLL) -> None:
        """Has every heap of this process make memory ready. Malloc must keep a freed block of `READY` bytes."""
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        cls._libc = libc

    def used(self, size: int) -> None:
        """Counts a large body, which the store may keep."""
        if self._libc is None or size > READY:
            return
        self._used += size
        if self._used * 2 < READY or self._block is not None:
            return
        given = self._faults()
        is_fresh = (given - self._given) * _PAGE * 2 > self._used
        self._given, self._used = given, 0
        if is_fresh:
            self._begin(self._libc)

    def _begin(self, libc: ctypes.CDLL) -> None:
        """Takes a block to populate."""
        block = self._block = libc.malloc(READY)
        if block is not None:
            self._at = -(-block // _PAGE) * _PAGE
            self._later(self._step)

    def _step(self) -> bool:
        """Asks for some pages of the block, and frees the block after the last. Returns whether there are more."""
        libc, block = self._libc, self._block
        if libc is None or block is None:
            return False
        end = (block + READY) // _PAGE * _PAGE  # a page that the block shares is not asked for
        size = min(_STEP, end - self._at)
        is_given = libc.madvise(self._at, size, _POPULATE_WRITE) == 0
        self._at += size
        if is_given and self._at < end:
            return True
        libc.free(block)
        self._block = None
        if not is_given:
            type(self)._libc = None  # an older system, or one without memory to spare
        return False

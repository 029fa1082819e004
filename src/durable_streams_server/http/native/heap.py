"""Prepares memory for the next large bodies.

When a program first uses a page of fresh memory, a page fault stops the program for about 2 µs. For a body of 1 MB, these faults are
half of the time that the server spends. The system can prepare many pages at once in less time, and the server asks for that after a
response instead of before it.

Call `Heap.use(libc)` once in a process whose malloc keeps freed memory. Without that call, the other methods do nothing.
"""

import ctypes
import resource
from collections.abc import Callable
from typing import ClassVar, Final

from ...protocol.units import KIB, MIB

#: Size in bytes of the block that is prepared once bodies have used half as many bytes in total. A body larger than the block is not
#: counted, because malloc may map memory for that body alone.
READY: Final = 4 * MIB
#: Bytes prepared in one step, which takes about 0.3 ms.
_STEP: Final = MIB
_PAGE: Final = 4 * KIB
_POPULATE_WRITE: Final = 23  # MADV_POPULATE_WRITE of madvise(2), since Linux 5.14


def _faults() -> int:
    """Returns how many page faults without I/O this thread has had."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


class Heap:
    """Prepares free memory after large bodies have used it up.

    Args:
        later: schedules a step of work, which is called again while it returns True, as `Turns.add` does.
        faults: returns how many page faults this thread has had. Bodies that are freed soon cause few page faults, and then no memory is
            prepared.
    """

    _libc: ClassVar[ctypes.CDLL | None] = None  # a process has one heap

    def __init__(
        self, later: Callable[[Callable[[], bool]], None], faults: Callable[[], int] = _faults
    ) -> None:
        self._later = later
        self._faults = faults
        self._faults_before = 0  # page faults at the last decision to prepare memory or not
        self._used = 0  # bytes of large bodies since that decision
        self._block: int | None = None  # address of the block that is being prepared
        self._at = 0  # address of the next page to prepare

    @classmethod
    def use(cls, libc: ctypes.CDLL) -> None:
        """Turns on every `Heap` of this process. The malloc of `libc` must keep freed blocks of `READY` bytes."""
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        cls._libc = libc

    def used(self, size: int) -> None:
        """Counts a large body of `size` bytes. Begins to prepare memory if bodies have used enough fresh memory."""
        if self._libc is None or size > READY:
            return
        self._used += size
        if self._used * 2 < READY or self._block is not None:
            return
        faults = self._faults()
        is_fresh = (faults - self._faults_before) * _PAGE * 2 > self._used
        self._faults_before, self._used = faults, 0
        if is_fresh:
            self._begin(self._libc)

    def _begin(self, libc: ctypes.CDLL) -> None:
        """Allocates a block and schedules the steps that prepare its pages."""
        block = self._block = libc.malloc(READY)
        if block is not None:
            self._at = -(-block // _PAGE) * _PAGE
            self._later(self._step)

    def _step(self) -> bool:
        """Prepares some pages of the block. Returns whether pages are left, and frees the block after the last."""
        libc, block = self._libc, self._block
        if libc is None or block is None:
            return False
        end = (block + READY) // _PAGE * _PAGE  # excludes a last page with other memory in it
        size = min(_STEP, end - self._at)
        is_given = libc.madvise(self._at, size, _POPULATE_WRITE) == 0
        self._at += size
        if is_given and self._at < end:
            return True
        libc.free(block)
        self._block = None
        if not is_given:
            type(self)._libc = None  # the system is too old or has no memory to spare
        return False

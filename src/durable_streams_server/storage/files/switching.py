"""How soon the interpreter takes itself from one thread and gives it to another that waits, while jobs compute beside the loop.

Python lets a thread compute for 5 ms before another gets its turn. A checkpoint that is encoded would hold up the loop that long in
each of its turns. Yet the commit thread, which wants the interpreter after every commit, is better off waiting until the loop
rests: then more appends are made durable together. So the time is short while such a job runs, and only then.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Final

_HALF: Final = 0.0000005  # seconds: the interpreter cuts what it is given to whole microseconds
SOON: Final = 0.0005  #: seconds: short beside what a cheap request may wait, long beside what a change of threads costs


class Switching:
    """Counts the jobs that run. The interpreter has one such setting, so there is one of these for all stores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._usual = 0.0

    @contextlib.contextmanager
    def soon(self) -> Iterator[None]:
        """Threads change sooner while the block runs; after the last block they change as they did before the first."""
        with self._lock:
            if self._running == 0:
                self._usual = sys.getswitchinterval() + _HALF
                sys.setswitchinterval(min(self._usual, SOON))
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    sys.setswitchinterval(self._usual)


switching: Final = Switching()

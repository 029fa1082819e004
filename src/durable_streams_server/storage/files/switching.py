"""Sets Python's switch interval, the time for which one thread may keep the interpreter (the GIL) while another thread waits for it.

The default is 5 ms. A thread that encodes a checkpoint would delay each turn of the event loop by that time. A busy loop releases the
interpreter every 4 ms and takes it back at once, so a thread that must wait 5 ms without interruption would never get the interpreter.
Therefore the interval is 0.5 ms from when the loop submits such a job until the job ends. The interval is not always short, because the
commit thread would then interrupt the loop in the middle of a turn, and fewer appends would share a commit.
"""

import sys
import threading
from typing import Final

#: Half a microsecond, in seconds. It is added to the saved interval, because Python rounds the interval down to microseconds, and each
#: restore would otherwise lose one.
_HALF: Final = 0.0000005
#: The short interval in seconds: much less than the 50 ms that a cheap request may wait, and much more than a switch costs.
SHORT: Final = 0.0005


class Switching:
    """Counts the running jobs of all stores in the process, because the process has one switch interval."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._usual = 0.0

    def begin(self) -> None:
        """Shortens the interval for one job. Each `begin` needs one `end`."""
        with self._lock:
            if self._running == 0:
                self._usual = sys.getswitchinterval() + _HALF
                sys.setswitchinterval(min(self._usual, SHORT))
            self._running += 1

    def end(self) -> None:
        """Counts one job as ended. When the last job ends, restores the interval from before the first one began."""
        with self._lock:
            self._running -= 1
            if self._running == 0:
                sys.setswitchinterval(self._usual)


switching: Final = Switching()

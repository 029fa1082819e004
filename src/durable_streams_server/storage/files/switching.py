"""Python's switch interval: how long one thread may compute while another waits for the interpreter (the GIL).

The default is 5 ms. A thread that encodes a checkpoint would hold up the loop that long in each of its turns. A loop that is busy lets
go of the interpreter every 4 ms and takes it back at once, so a thread that waits for 5 ms without a break would never have it. So the
interval is 0.5 ms from when the loop asks for such a job until the job ends. It is not always short: the commit thread would then
interrupt the loop in the middle of a turn, and fewer appends would become durable together.
"""

import sys
import threading
from typing import Final

_HALF: Final = 0.0000005  # seconds; without them Python, which rounds down to microseconds, would lose one at each restore
SOON: Final = 0.0005  #: seconds: short beside the 50 ms that a cheap request may wait, long beside the cost of a switch


class Switching:
    """Counts the running jobs of all stores in the process, because the process has one switch interval."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._usual = 0.0

    def begin(self) -> None:
        """Shortens the interval, because a job is wanted. Each `begin` needs an `end`."""
        with self._lock:
            if self._running == 0:
                self._usual = sys.getswitchinterval() + _HALF
                sys.setswitchinterval(min(self._usual, SOON))
            self._running += 1

    def end(self) -> None:
        """Ends what `begin` began. The last job to end restores the interval from before the first."""
        with self._lock:
            self._running -= 1
            if self._running == 0:
                sys.setswitchinterval(self._usual)


switching: Final = Switching()

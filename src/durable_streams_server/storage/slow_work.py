"""`SlowWork`: remembers the latest pieces of work that took long, such as commits, so that a slow request can be explained afterwards.

Nothing is recorded per request. `SlowLog` asks which slow work ran at the same time as a slow request. Slow commits and checkpoints
are also logged, at most once a minute for each kind.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from ..log import log as _log

COMMIT: Final = "commit"  # the write of records to the write-ahead log, with its sync
CHECKPOINT: Final = "checkpoint"  # a whole checkpoint, beside which commits go on
HELD_BACK: Final = "held_back"  # commits that waited for a checkpoint to free memory
DISK_READ: Final = "disk_read"  # a read from the logs, with the wait for a thread
SEND_MEMORY: Final = (
    "send_memory"  # a large read that waited until other readers had received theirs
)
ACCESS: Final = "access"  # a request whose token needed keys that had to be fetched
#: All kinds of work.
KINDS: Final = (COMMIT, CHECKPOINT, HELD_BACK, DISK_READ, SEND_MEMORY, ACCESS)

#: Seconds above which a piece of work is remembered.
_REMEMBERED: Final = 0.05
#: Number of pieces of work that are remembered.
_KEPT: Final = 256
#: Seconds between two messages about one kind of work.
_INTERVAL: Final = 60.0
#: The log messages. Only these kinds are logged, because the others wait for something else.
_SAID: Final = {
    COMMIT: "a commit took %.1f s, so the disk is slow or busy",
    CHECKPOINT: "a checkpoint took %.1f s, so the disk is slow or busy",
}


class SlowWork:
    """Remembers the latest pieces of work that took long. Any thread may add some, but those of one kind come from one thread.

    Args:
        clock: returns monotonic time in seconds.

    Attributes:
        clock: the same clock.
        logged: seconds above which work is logged, by kind. Empty until `log_above` is called.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.logged: Mapping[str, float] = {}
        self._latest: deque[tuple[str, float, float]] = deque(maxlen=_KEPT)
        self._logged_at: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def log_above(self, seconds: float) -> None:
        """Logs commits that take longer than `seconds`, and checkpoints that take a hundred times as long."""
        self.logged = {COMMIT: seconds, CHECKPOINT: 100 * seconds}

    def add(self, kind: str, begin: float, end: float) -> None:
        """Remembers a piece of work if it took long.

        Args:
            kind: one of `KINDS`.
            begin: time of the clock at its beginning.
            end: time of the clock at its end.
        """
        seconds = end - begin
        if seconds < _REMEMBERED:
            return
        self._latest.append((kind, begin, end))
        limit = self.logged.get(kind)
        if limit is not None and seconds > limit:
            self._log(kind, seconds, end)

    def between(self, begin: float, end: float) -> dict[str, float]:
        """Returns the seconds between two times in which slow work of each kind ran. Kinds without any are left out."""
        found: dict[str, list[tuple[float, float]]] = {}
        for kind, started, ended in tuple(self._latest):
            if started < end and ended > begin:
                found.setdefault(kind, []).append((max(started, begin), min(ended, end)))
        return {kind: _covered(spans) for kind, spans in found.items()}

    def _log(self, kind: str, seconds: float, now: float) -> None:
        """Logs slow work, unless a message about the same kind was logged less than a minute ago."""
        logged_at = self._logged_at.get(kind)
        if logged_at is not None and now - logged_at < _INTERVAL:
            self._unlogged[kind] = self._unlogged.get(kind, 0) + 1
            return
        self._logged_at[kind] = now
        fields = {"seconds": round(seconds, 3), "unlogged": self._unlogged.pop(kind, 0)}
        _log.warning(_SAID[kind], seconds, extra={"fields": fields})


def _covered(spans: list[tuple[float, float]]) -> float:
    """Returns how much time spans cover together. Time that several of them share counts once."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total

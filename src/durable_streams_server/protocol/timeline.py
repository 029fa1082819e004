"""Computes steady time, which measures durations correctly even if the wall clock is set forward or back.

Steady time starts at the wall clock when the store is first opened, and then advances with the time that really passes. Durations
(sliding lifetimes, leases, retries, the life of keys and tokens) are measured in steady time. Dates (`Stream-Expires-At`, and
every time shown to people) follow the wall clock, which is `offset` ahead of steady time. Every `now` and every stored time is
steady time in microseconds. The two times are equal in a store whose clock was never set.

Steady time continues after a restart. If the machine was not rebooted, its tick counter shows how long the process was away.
Otherwise the wall clock and the stored offset show it. Steady time never starts before a time that was stored, even if the wall
clock was set back meanwhile.
"""

from typing import Final

from .lifetime import bounded
from .limits import MAX_CLOCK_INCARNATION, MAX_TIME

TOLERANCE: Final = 10_000  #: microseconds of difference that are ignored, because two clocks are never read at the same instant


class Timeline:
    """The steady time of one store. Callers read the clocks and pass in the times.

    Args:
        offset: the last known offset, as stored.
        floor: the latest steady time known to have passed, as stored.
        boot: the boot id for which `base` is valid, as stored, or "" if the boot has no id.
        base: the base for that boot, as stored.

    Attributes:
        offset: microseconds by which the wall clock is ahead of steady time, negative if it is behind.
        floor: the latest steady time known to have passed.
        boot: the id of the machine's boot for which `base` is valid.
        base: the number to add to the ticks of that boot to get steady time.
    """

    __slots__ = ("_source", "base", "boot", "floor", "offset")

    def __init__(self, offset: int = 0, floor: int = 0, boot: str = "", base: int = 0) -> None:
        self.offset = offset
        self.floor = floor
        self.boot = boot
        self.base = base
        self._source: object = None

    def begin(self, source: object, wall: int, ticks: int, boot: str = "") -> int:
        """Returns the number to add to a clock's ticks to get steady time. The number stays the same as long as the source does.

        Args:
            source: the clock that the ticks come from, as an object.
            wall: the present time of the wall clock, in microseconds of Unix time.
            ticks: the present time of a clock that never goes back, in microseconds.
            boot: the id of the boot since which the ticks are counted, or "" if they are counted from the start of the process.
        """
        wall = bounded(wall)
        if self._source is not source:
            is_same_boot = boot != "" and boot == self.boot
            steady = ticks + self.base if is_same_boot else wall - self.offset
            self._source, self.boot = source, boot
            self.base = min(max(steady, self.floor), MAX_CLOCK_INCARNATION) - ticks
            self.see(ticks + self.base, wall)
        return self.base

    def see(self, steady: int, wall: int) -> int:
        """Compares the two clocks, and returns by how many microseconds the wall clock was set since the last call.

        The result is 0 if the wall clock was not set, and negative if it was set back.
        """
        self.floor = max(self.floor, steady)
        step = bounded(wall) - steady - self.offset
        if -TOLERANCE < step < TOLERANCE:
            return 0
        self.offset += step
        return step

    def reach(self, steady: int) -> None:
        """Raises `floor` to a steady time that is known to have passed."""
        if steady > self.floor:
            self.floor = steady if steady <= MAX_TIME else MAX_TIME


UNSET: Final = Timeline()  #: the timeline of states that belong to no store, which nothing changes

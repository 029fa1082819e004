"""Steady time: what idle times are counted in, whatever happens to the wall clock.

A wall clock can be set forward or back by hours. So whatever lasts from one event to the next (sliding lifetimes, leases,
retries, the life of keys and tokens) is decided on steady time: the wall clock when the store was first opened, and from then
on the time that has really passed. What is a date (`Stream-Expires-At`, everything shown to people) follows the wall clock,
which is `offset` ahead of steady time. Every `now`, and every time that is stored, is steady time in microseconds, so a store
whose clock was never set has one time only.

A restart carries steady time on. If the machine has not been booted since, its ticks have gone on too, and show how long the
process was away. Otherwise the wall clock shows it, by the offset that the store has kept. Steady time never begins before a
time that was stored, also if the wall clock went back meanwhile.
"""

from typing import Final

from .lifetime import bounded
from .limits import MAX_CLOCK_INCARNATION, MAX_TIME

TOLERANCE: Final = 10_000  # microseconds; two clocks are never read at quite the same moment


class Timeline:
    """The steady time of one store. It reads no clock: callers pass in what clocks show.

    Args:
        offset: microseconds by which the wall clock was ahead of steady time when last looked at; negative if behind.
        floor: a steady time that has been reached already.
        boot: names the machine's boot, since which `base` holds; "" if it has no name.
        base: what to add to the ticks of that boot for steady time.

    Attributes:
        offset: as given, and then as `see` has found it.
        floor: the latest steady time that is known to have been reached.
        boot: as given, and then as `begin` was told.
        base: as given, and then as `begin` has answered.
    """

    __slots__ = ("_source", "base", "boot", "floor", "offset")

    def __init__(self, offset: int = 0, floor: int = 0, boot: str = "", base: int = 0) -> None:
        self.offset = offset
        self.floor = floor
        self.boot = boot
        self.base = base
        self._source: object = None

    def begin(self, source: object, wall: int, ticks: int, boot: str = "") -> int:
        """Returns what to add to a clock's ticks for steady time. The same source is always given the same answer.

        Args:
            source: where the ticks come from.
            wall: microseconds of Unix time, now.
            ticks: microseconds of a clock that never goes back, now.
            boot: names the boot since which the ticks are counted; "" if they begin with the process.
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
        """Notes what both clocks show at one moment. Returns by how much the wall clock was set, in microseconds; 0 if it was not."""
        self.floor = max(self.floor, steady)
        step = bounded(wall) - steady - self.offset
        if -TOLERANCE < step < TOLERANCE:
            return 0
        self.offset += step
        return step

    def reach(self, steady: int) -> None:
        """Notes that a steady time has been reached."""
        if steady > self.floor:
            self.floor = steady if steady <= MAX_TIME else MAX_TIME


UNSET: Final = Timeline()  # of what belongs to no store; nobody notes anything in it

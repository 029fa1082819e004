"""The clocks of the running server: the time that it decides by, and the date. Both are replaceable in tests."""

import time
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..protocol.lifetime import bounded
from ..protocol.timeline import Timeline


class Clock(Protocol):
    """Tells what time it is."""

    def __call__(self) -> int:
        """Returns microseconds of Unix time."""
        ...


@runtime_checkable
class TickingClock(Clock, Protocol):
    """A clock that may be set, and that counts besides how much time has really passed.

    Attributes:
        boot: names the boot of the machine since which it counts; "" if nothing does.
    """

    @property
    def boot(self) -> str: ...

    def ticks(self) -> int:
        """Returns nanoseconds since some moment; they never go back and never jump."""
        ...


class SystemClock:
    """The machine's clock. While the machine is suspended its ticks stand still."""

    @cached_property
    def boot(self) -> str:
        """The kernel's name for the present boot, where there is one: Linux counts its ticks from the boot."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    ticks = staticmethod(time.monotonic_ns)

    def __call__(self) -> int:
        return time.time_ns() // 1000


#: The machine's time.
system_clock = SystemClock()


class StoreClock(Protocol):
    """What the parts of a running store tell the time by."""

    def __call__(self) -> int:
        """Returns steady time in microseconds: what `now` is everywhere."""
        ...

    def wall(self) -> int:
        """Returns microseconds of Unix time, for dates."""
        ...

    def detect_step(self) -> int:
        """Compares both. Returns by how many microseconds the wall clock was set since the last look, or 0."""
        ...


class SteadyClock:
    """A ticking clock on a store's timeline."""

    def __init__(self, timeline: Timeline, clock: TickingClock) -> None:
        self._timeline = timeline
        self._ticks = clock.ticks
        ticks = clock.ticks() // 1000
        self._base = timeline.begin(clock, clock(), ticks, clock.boot) * 1000
        self.wall = clock

    def __call__(self) -> int:
        return (self._ticks() + self._base) // 1000

    def detect_step(self) -> int:
        return self._timeline.see(self(), self.wall())


class PlainClock:
    """A clock that tells one time for both, as a test's often does: nobody sets it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.wall = clock

    def __call__(self) -> int:
        # Decisions bring the time into this range. If plans did not, one past it would be due for ever and never carried out.
        return bounded(self._clock())

    def detect_step(self) -> int:
        return 0


def clock_of(timeline: Timeline, clock: Clock) -> StoreClock:
    """Returns the clock that a store with this timeline goes by."""
    if isinstance(clock, TickingClock):
        return SteadyClock(timeline, clock)
    return PlainClock(clock)

"""Clocks of the running server: steady time for decisions, and the wall clock for dates. Tests can replace both."""

import time
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..protocol.lifetime import bounded
from ..protocol.timeline import Timeline


class Clock(Protocol):
    """A callable that returns the wall-clock time."""

    def __call__(self) -> int:
        """Returns the wall-clock time in microseconds of Unix time."""
        ...


@runtime_checkable
class TickingClock(Clock, Protocol):
    """A wall clock that may be set, with a steady counter that does not change when the wall clock is set.

    Attributes:
        boot: identifier of the present boot of the machine, at which the counter started; "" if it is unknown.
    """

    @property
    def boot(self) -> str: ...

    def ticks(self) -> int:
        """Returns a number of nanoseconds that grows steadily, whatever the wall clock is set to."""
        ...


class SystemClock:
    """The clock of the machine. Its counter stops while the machine is suspended."""

    @cached_property
    def boot(self) -> str:
        """The kernel's identifier of the present boot, or "" if the system has none. Linux counts the ticks from boot."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    ticks = staticmethod(time.monotonic_ns)

    def __call__(self) -> int:
        return time.time_ns() // 1000


#: The clock of this machine.
system_clock = SystemClock()


class StoreClock(Protocol):
    """The clock of a running store."""

    def __call__(self) -> int:
        """Returns steady time in microseconds. Every argument named `now` is such a time."""
        ...

    def wall(self) -> int:
        """Returns the wall-clock time in microseconds of Unix time, for dates."""
        ...

    def detect_step(self) -> int:
        """Returns by how many microseconds the wall clock was set since the last call, or 0."""
        ...


class SteadyClock:
    """Computes steady time from the counter of a clock. The store's timeline makes this time continue from one start of the server to the next."""

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
    """Uses one clock as both steady time and wall clock. It suits clocks that have no counter and are never set, as in tests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.wall = clock

    def __call__(self) -> int:
        # Decisions limit the time to this range. Without the same limit here, a deadline beyond it would stay due for ever.
        return bounded(self._clock())

    def detect_step(self) -> int:
        return 0


def clock_of(timeline: Timeline, clock: Clock) -> StoreClock:
    """Returns the clock for a store with this timeline."""
    if isinstance(clock, TickingClock):
        return SteadyClock(timeline, clock)
    return PlainClock(clock)

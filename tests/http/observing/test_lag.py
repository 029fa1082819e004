"""`LoopLag` measures how late the event loop is."""

import asyncio
from typing import Any

from durable_streams_server.http.observing.lag import INTERVAL, LoopLag
from tests.http.socket_driver import until


class Loop:
    """An event loop whose time the test sets, with one timer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timer: Any = None

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> "Loop":
        self.timer = (when, callback)
        return self

    def cancel(self) -> None:
        self.timer = None

    def run_at(self, now: float) -> None:
        self.now = now
        self.timer[1]()


def measured(*lates: float) -> tuple[LoopLag, Loop]:
    """Returns a measurement whose timers ran late by these seconds."""
    lag, loop = LoopLag(), Loop()
    lag.start(loop)  # type: ignore[arg-type]  # the test's loop has the two methods that are used
    for late in lates:
        loop.run_at(loop.timer[0] + late)
    return lag, loop


def test_late_timer_is_counted_with_its_delay() -> None:
    lag, loop = measured(0.0, 0.03, 0.2)
    counted = dict(zip(lag.seconds.bounds, lag.seconds.counts, strict=False))
    assert (counted[0.001], counted[0.05], counted[0.25]) == (1, 1, 1)
    assert loop.timer[0] == loop.now + INTERVAL


def test_early_timer_counts_as_on_time() -> None:
    lag, _ = measured(-0.001)
    assert (lag.seconds.counts[0], lag.seconds.total) == (1, 0)


def test_stop_ends_the_measurement() -> None:
    lag, loop = measured(0.0)
    lag.stop()
    lag.stop()
    assert loop.timer is None


async def test_blocked_event_loop_is_measured() -> None:
    lag = LoopLag()
    loop = asyncio.get_running_loop()
    lag.start(loop)
    end = loop.time() + INTERVAL + 0.05
    while loop.time() < end:
        pass
    await until(lambda: bool(sum(lag.seconds.counts)))
    lag.stop()
    assert lag.seconds.total >= 0.04

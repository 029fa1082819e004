"""What one row of the table is: how it is measured, on which servers, and the goals that it is held to."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from .servers import Running


class Sample(NamedTuple):
    """One measurement.

    Attributes:
        value: in the row's unit; None says that there is nothing to measure.
        bad: counts what failed or did not come.
        note: what else was noticed.
        cpu: microseconds of the server's core for each request or message, if they were measured. A noisy machine alters them less
            than a rate.
        beside: figures of other rows that the same measurement gives, by the row's name.
    """

    value: float | None
    bad: int = 0
    note: str = ""
    cpu: float = 0.0
    beside: Mapping[str, float] = MappingProxyType({})


class Goal(NamedTuple):
    """What a row's server is held to: a ratio to another figure of the same run, or a limit in the row's own unit.

    Without a `must` it is an aim only.
    """

    server: str
    must: float | None
    aim: float | None = None
    to_server: str = ""
    to_row: str = ""  # this row, if not given


Measure = Callable[[int], Sample]  # takes the seconds that the load lasts


class Row(NamedTuple):
    """One thing that is measured.

    `prepare` readies a server with an empty store, and returns what measures it, as often as it is called. What is measured
    `once` is the worst case of a run that is long: in the first round alone, and one time on a server. What is measured `beside`
    another row comes with that row's samples; it is only measured by itself where the other row is not.
    """

    name: str
    part: str
    title: str
    unit: str
    servers: tuple[str, ...]
    prepare: Callable[[Running], Measure]
    goals: tuple[Goal, ...] = ()
    less_is_better: bool = False
    once: bool = False
    beside: str = ""

    def measure(self, server: Running, seconds: int) -> Sample:
        """Readies a server and measures it one time."""
        return self.prepare(server)(seconds)

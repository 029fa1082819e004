"""Defines a row of the table: how to measure it, on which servers, and its goals."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from .servers import Running


class Sample(NamedTuple):
    """One measurement.

    Attributes:
        value: the figure in the row's unit, or None if the server cannot be measured.
        bad: the number of failed requests and missing messages.
        note: a remark.
        cpu: the server's CPU time per request or message in microseconds, or 0 if it was not measured. A noisy machine affects it
            less than a rate.
        beside: figures of other rows that the same measurement gives, by the name of the row.
    """

    value: float | None
    bad: int = 0
    note: str = ""
    cpu: float = 0.0
    beside: Mapping[str, float] = MappingProxyType({})


class Goal(NamedTuple):
    """A goal for one server: a ratio to another figure of the same run, or a limit in the row's unit.

    Attributes:
        server: the server that has the goal.
        must: the required limit, or None.
        aim: the desired limit, or None.
        to_server: the server to compare with, or "" if the goal is a limit in the row's unit.
        to_row: the name of the row to compare with, or "" for the same row.
    """

    server: str
    must: float | None
    aim: float | None = None
    to_server: str = ""
    to_row: str = ""


Measure = Callable[[int], Sample]  # a function that takes the seconds that the load lasts


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: the name of the row.
        part: the part of the table that the row belongs to.
        title: the title of the row, which continues that of an earlier row if it begins with `…`.
        unit: the unit of the figures.
        servers: the kinds of server that are measured.
        prepare: a function that prepares a server with an empty store, and returns a function that measures it repeatedly.
        goals: the goals of the row.
        less_is_better: whether a smaller figure is better.
        once: whether the row is measured in the first round only, because it takes long.
        beside: the name of the row whose measurement also gives this row's figure, or "".
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
        """Prepares a server and measures it once."""
        return self.prepare(server)(seconds)

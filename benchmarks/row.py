"""What one row of the table is: how it is measured, on which servers, and the goals that it is held to."""

from collections.abc import Callable
from typing import NamedTuple

from .servers import Running


class Sample(NamedTuple):
    """One measurement. `bad` counts what failed or did not come; a value of None says that there is nothing to measure."""

    value: float | None
    bad: int = 0
    note: str = ""


class Goal(NamedTuple):
    """What a row's server is held to: a ratio to another figure of the same run, or a limit in the row's own unit."""

    server: str
    must: float
    aim: float | None = None
    to_server: str = ""
    to_row: str = ""  # this row, if not given


class Row(NamedTuple):
    """One thing that is measured."""

    name: str
    part: str
    title: str
    unit: str
    servers: tuple[str, ...]
    measure: Callable[[Running, int], Sample]  # takes the seconds that the load lasts
    goals: tuple[Goal, ...] = ()
    less_is_better: bool = False
    once: bool = False  # measured in the first round alone: the worst case of a run that is long

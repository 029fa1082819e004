"""`python -m benchmarks.compare CHECKOUT [PART …]`: measures this source beside another checkout's, in one run, and prints ratios.

The two servers are measured one right after the other, each with an empty store, and every such pair gives one ratio: what
slows the machine for a while slows both. A row is measured until its pairs show whether their true median is above 0.95, or until
there are ROUNDS of them. A ratio below 1 is worse for this source, whichever way the row counts. ROUNDS and SECONDS are
read from the environment. The command ends with 1 if a row is more than 5% worse.
"""

import math
import os
import statistics
import sys
from pathlib import Path
from typing import Final, NamedTuple

from . import servers
from .row import Row
from .rows import ROWS
from .servers import HERE, KINDS, LOAD_CORE, Kind, running

_BASE: Final = "base-"
_OURS: Final = ("memory", "files", "asgi", "asgi-files")
_WORST: Final = 0.95
_DOUBT: Final = 1 / 32  # how often a range may miss the true median
_FEWEST: Final = 6  # pairs: all six lie on one side of the true median one time in 32


class Found(NamedTuple):
    """The ratios of a row's pairs.

    Attributes:
        median: of them.
        low: the lower end of the range that holds the true median, but for `_DOUBT`.
        high: its upper end.
    """

    median: float
    low: float
    high: float

    @property
    def is_decided(self) -> bool:
        """Whether the range is wholly above 0.95, or wholly below."""
        return self.low > _WORST or self.high < _WORST


def main() -> int:
    """Runs the parts that are named, or all that are measured more than once; returns how many rows are more than 5% worse."""
    base, *parts = sys.argv[1:]
    rounds = int(os.environ.get("ROUNDS") or 25)
    seconds = int(os.environ.get("SECONDS") or 2)
    os.sched_setaffinity(0, {LOAD_CORE})
    for kind in _OURS:
        KINDS[_BASE + kind] = _on_source(KINDS[kind], Path(base) / "src")
        KINDS[kind] = _on_source(KINDS[kind], HERE.parent / "src")
    worse = 0
    for row in ROWS:
        if row.part in parts or row.name in parts or not (parts or row.once):
            for kind in (each for each in row.servers if each in _OURS):
                worse += _compare(row, kind, rounds, seconds).median < _WORST
    return worse


def found(ratios: list[float]) -> Found:
    """Returns what ratios say: their median, and the range that an order statistic gives for the true one."""
    ordered = sorted(ratios)
    tail = 1.0  # of 2 ** len outcomes, in which so few ratios fall on one side
    count, cut = len(ordered), 0
    while 2 * (tail + math.comb(count, cut + 1)) <= _DOUBT * 2**count:
        cut += 1
        tail += math.comb(count, cut)
    return Found(statistics.median(ordered), ordered[cut], ordered[-1 - cut])


def _on_source(kind: Kind, source: Path) -> Kind:
    """Returns a kind of server that runs another source."""

    def command(port: int, directory: str) -> list[str]:
        return ["env", f"PYTHONPATH={source}", *kind.command(port, directory)]

    return kind._replace(command=command)


def _compare(row: Row, kind: str, rounds: int, seconds: int) -> Found:
    """Measures a row on both sources in turn, prints the medians, and returns how this one does beside the other."""
    figures: dict[str, list[float]] = {kind: [], _BASE + kind: []}
    ratios: list[float] = []
    while True:
        order = list(figures) if len(ratios) % 2 else list(figures)[::-1]
        for each in order:
            figures[each].append(_measure(row, each, seconds))
        ours, base = figures[kind][-1], figures[_BASE + kind][-1]
        ratios.append(base / ours if row.less_is_better else ours / base)
        result = found(ratios)
        if len(ratios) >= rounds or (len(ratios) >= _FEWEST and result.is_decided):
            break
    ours, base = (statistics.median(figures[each]) for each in (kind, _BASE + kind))
    print(
        f"{result.median:5.2f}  from {result.low:.2f} to {result.high:.2f} in {len(ratios):2} pairs  "
        f"{row.title} ({kind}): {ours:,.4g} {row.unit}, base {base:,.4g}",
        flush=True,
    )
    return result


def _measure(row: Row, kind: str, seconds: int) -> float:
    with running(kind) as process:
        sample = row.measure(process, seconds)
    if sample.value is None:
        raise RuntimeError(f"{row.title} ({kind}): {sample.note}")
    return sample.value


if __name__ == "__main__":
    assert servers.SERVER_CORE != LOAD_CORE
    sys.exit(min(main(), 1))

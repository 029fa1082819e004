"""`python -m benchmarks.compare CHECKOUT [PART …]`: measures this source beside another checkout's, in one run, and prints ratios.

In every round the two servers take turns at each row, each with an empty store. A ratio below 1 is worse for this source,
whichever way the row counts. ROUNDS and SECONDS are read from the environment. The command ends with 1 if a median is more than 5%
worse.
"""

import os
import statistics
import sys
from pathlib import Path
from typing import Final

from . import servers
from .rows import PARTS, ROWS, Row, Sample
from .servers import HERE, KINDS, LOAD_CORE, Kind, running

_BASE: Final = "base-"
_OURS: Final = ("memory", "files", "asgi", "asgi-files")
_WORST: Final = 0.95


def main() -> int:
    """Runs the parts that are named, or all; returns how many medians are more than 5% worse."""
    base, *parts = sys.argv[1:]
    rounds = int(os.environ.get("ROUNDS") or 3)
    seconds = int(os.environ.get("SECONDS") or 3)
    os.sched_setaffinity(0, {LOAD_CORE})
    for kind in _OURS:
        KINDS[_BASE + kind] = _on_source(KINDS[kind], Path(base) / "src")
        KINDS[kind] = _on_source(KINDS[kind], HERE.parent / "src")
    worse = 0
    for row in ROWS:
        if row.part in (parts or PARTS):
            for kind in (each for each in row.servers if each in _OURS):
                worse += _compare(row, kind, rounds, seconds) < _WORST
    return worse


def _on_source(kind: Kind, source: Path) -> Kind:
    """Returns a kind of server that runs another source."""

    def command(port: int, directory: str) -> list[str]:
        return ["env", f"PYTHONPATH={source}", *kind.command(port, directory)]

    return kind._replace(command=command)


def _compare(row: Row, kind: str, rounds: int, seconds: int) -> float:
    """Measures a row on both sources in turn, prints the medians, and returns how this one does beside the other."""
    figures: dict[str, list[float]] = {kind: [], _BASE + kind: []}
    for turn in range(rounds):
        order = list(figures) if turn % 2 else list(figures)[::-1]
        for each in order:
            sample = _measure(row, each, seconds)
            if sample.value is not None:
                figures[each].append(sample.value)
    ours, base = (statistics.median(figures[each]) for each in (kind, _BASE + kind))
    ratio = base / ours if row.less_is_better else ours / base
    spread = "  ".join(f"{value:,.4g}" for value in sorted(figures[kind]))
    print(
        f"{ratio:5.2f}  {row.title} ({kind}): {ours:,.4g} {row.unit}, base {base:,.4g}   [{spread}]",
        flush=True,
    )
    return ratio


def _measure(row: Row, kind: str, seconds: int) -> Sample:
    with running(kind) as process:
        return row.measure(process, seconds)


if __name__ == "__main__":
    assert servers.SERVER_CORE != LOAD_CORE
    sys.exit(min(main(), 1))

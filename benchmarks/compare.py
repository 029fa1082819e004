"""`python -m benchmarks.compare CHECKOUT [PART …]`: measures this source beside another checkout's, in one run, and prints ratios.

Two servers with empty stores are prepared side by side and measured in turn, in short windows, a few times each; then two
fresh ones take their place. Every two windows that follow one another give one ratio: what slows the machine for a while slows both,
and a server that happens to be slow for as long as it runs is not in every pair. A row is measured until its
pairs show whether their true median is above 0.95, or until there are ROUNDS of them. A ratio below 1 is worse for this source,
whichever way the row counts. Where a row measures the server's CPU for each request, its ratio follows: a noisy machine alters it less. ROUNDS and
SECONDS, the length of a window, are read from the environment. The command ends with 1 if a row is more than 5% worse.
"""

import math
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .client import raise_file_limit
from .row import Row, Sample
from .rows import ROWS
from .servers import HERE, KINDS, LOAD_CORE, Kind, running

_BASE: Final = "base-"
_OURS: Final = ("memory", "files", "asgi", "asgi-files")
_WORST: Final = 0.95
_DOUBT: Final = 1 / 32  # how often a range may miss the true median
_WINDOWS: Final = 4  # that a server is measured in before a fresh one takes its place
_FEWEST: Final = 3 * _WINDOWS  # pairs, so that no result comes from one server or two


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
    # Without this, a wrong path means that this source is measured beside itself.
    if not (Path(base) / "src" / "durable_streams_server").is_dir():
        sys.exit(f"{base} is not a checkout of this project")
    rounds = int(os.environ.get("ROUNDS") or 40)
    seconds = int(os.environ.get("SECONDS") or 1)
    os.sched_setaffinity(0, {LOAD_CORE})
    raise_file_limit()
    for kind in _OURS:
        KINDS[_BASE + kind] = _on_source(KINDS[kind], Path(base).absolute() / "src")
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

    return kind._replace(command=command, source=source)


def _compare(row: Row, kind: str, rounds: int, seconds: int) -> Found:
    """Measures a row on both sources in turn, prints the medians, and returns how this one does beside the other."""
    pairs: list[tuple[Sample, Sample]] = []
    result = Found(math.nan, -math.inf, math.inf)
    while len(pairs) < rounds and not (len(pairs) >= _FEWEST and result.is_decided):
        pairs += _windows(row, kind, seconds)
        figures = [(_figure(row, ours), _figure(row, base)) for ours, base in pairs]
        result = found([b / a if row.less_is_better else a / b for a, b in figures])
    ours, base = (statistics.median(each) for each in zip(*figures, strict=True))
    print(
        f"{result.median:5.2f}  from {result.low:.2f} to {result.high:.2f} in {len(pairs):2} pairs  {row.name} ({kind}), {row.title}: "
        f"{ours:,.4g} {row.unit}, base {base:,.4g}{cpu_ratio(pairs)}{_faults(pairs)}",
        flush=True,
    )
    return result


def cpu_ratio(pairs: list[tuple[Sample, Sample]]) -> str:
    """Returns what pairs say of the CPU for each request, the empty string if it was not measured."""
    known = [(ours.cpu, base.cpu) for ours, base in pairs if ours.cpu and base.cpu]
    if not known:
        return ""
    ratio = statistics.median(base / ours for ours, base in known)
    ours, base = (statistics.median(each) for each in zip(*known, strict=True))
    return f"; by CPU {ratio:.2f}: {ours:.3g} µs, base {base:.3g}"


def _faults(pairs: list[tuple[Sample, Sample]]) -> str:
    bad = [sum(sample.bad for sample in side) for side in zip(*pairs, strict=True)]
    return f"; failed or short: {bad[0]:,}, base {bad[1]:,}" if any(bad) else ""


def _windows(row: Row, kind: str, seconds: int) -> Iterator[tuple[Sample, Sample]]:
    """Measures two fresh servers in turn, and yields the samples of this source and of the other, window by window."""
    with running(kind) as our_server, running(_BASE + kind) as base_server:
        ours, base = row.prepare(our_server), row.prepare(base_server)
        for turn in range(1 if row.once else _WINDOWS):
            if turn % 2:
                of_base = base(seconds)
                yield ours(seconds), of_base
            else:
                yield ours(seconds), base(seconds)


def _figure(row: Row, sample: Sample) -> float:
    value = sample.beside.get(row.name, sample.value)
    if value is None:
        raise RuntimeError(f"{row.title}: {sample.note}")
    return value


if __name__ == "__main__":
    sys.exit(min(main(), 1))

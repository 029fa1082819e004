"""`python -m benchmarks.compare CHECKOUT [PART …]`: measures this source and another checkout in one run, and prints their ratios.

Two servers with empty stores run side by side and are measured alternately, in a few short windows each. Then two fresh servers
replace them. Each pair of consecutive windows gives one ratio. So a slow phase of the machine slows both sides, and a server that
happens to be slow for its whole life affects only some pairs. A row is measured until its pairs show whether their true median is
above 0.95, or until there are ROUNDS pairs.

A ratio below 1 means that this source is worse, for every kind of row. If a row measures the server's CPU time per request, the
ratio of CPU times is printed too, because a noisy machine affects it less. The environment variables ROUNDS and SECONDS set the
number of pairs and the length of a window. The exit code is 1 if a row is more than 5% worse.
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
_DOUBT: Final = 1 / 32  # probability that a range misses the true median
_WINDOWS: Final = 4  # windows per server, before a fresh server replaces it
#: Minimum number of pairs, so that a result comes from at least three servers.
_FEWEST: Final = 3 * _WINDOWS


class Found(NamedTuple):
    """The ratios of a row's pairs.

    Attributes:
        median: the median of the ratios.
        low: the lower end of the range that contains the true median with probability 1 - `_DOUBT`.
        high: the upper end of that range.
    """

    median: float
    low: float
    high: float

    @property
    def is_decided(self) -> bool:
        """Whether the whole range is above 0.95 or below it."""
        return self.low > _WORST or self.high < _WORST


def main() -> int:
    """Compares the named parts, or all rows that can be repeated, and returns the number of rows that are more than 5% worse."""
    base, *parts = sys.argv[1:]
    # Without this check, a wrong path would compare this source with itself.
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
    """Returns the median of ratios, and the range of the true median by order statistics."""
    ordered = sorted(ratios)
    tail = 1.0  # the number of the 2 ** len outcomes with at most `cut` ratios on one side
    count, cut = len(ordered), 0
    while 2 * (tail + math.comb(count, cut + 1)) <= _DOUBT * 2**count:
        cut += 1
        tail += math.comb(count, cut)
    return Found(statistics.median(ordered), ordered[cut], ordered[-1 - cut])


def _on_source(kind: Kind, source: Path) -> Kind:
    """Returns a kind of server that runs the given source."""

    def command(port: int, directory: str) -> list[str]:
        return ["env", f"PYTHONPATH={source}", *kind.command(port, directory)]

    return kind._replace(command=command, source=source)


def _compare(row: Row, kind: str, rounds: int, seconds: int) -> Found:
    """Measures a row on both sources alternately, prints the medians, and returns the ratios."""
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
    """Returns the ratio of CPU times per request as text, or the empty string if they were not measured."""
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
    """Measures two fresh servers alternately, and yields a pair of samples for each window."""
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

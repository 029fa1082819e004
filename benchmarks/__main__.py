"""`python -m benchmarks [PART …]`: measures this server and others, and updates `results.json` and `docs/performance.md`.

Servers run on one core and the load on another. In each round, every server is measured once, with an empty store. The environment
variables ROUNDS and SECONDS set the number of rounds and the length of a measurement.
"""

import os
import sys
from collections.abc import Iterator

from . import report
from .client import raise_file_limit
from .results import Results
from .row import Row, Sample
from .rows import PARTS, ROWS
from .servers import HERE, KINDS, LOAD_CORE, left_out, running


def main() -> None:
    """Measures the named parts, or all parts."""
    parts = sys.argv[1:] or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"unknown parts: {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    rounds = int(os.environ.get("ROUNDS") or 3)
    seconds = int(os.environ.get("SECONDS") or 4)
    os.sched_setaffinity(0, {LOAD_CORE})
    raise_file_limit()
    absent = left_out()
    for program in dict.fromkeys(absent.values()):
        titles = " and ".join(KINDS[kind].title for kind in absent if absent[kind] == program)
        print(
            f"{titles}: left out, since {program.relative_to(HERE.parent)} is not there",
            file=sys.stderr,
        )
    results = Results()
    for part in parts:
        rows = [row for row in ROWS if row.part == part]
        for row in rows:
            results.begin(row, seconds)
        for turn in range(rounds):
            for row in (each for each in rows if not each.beside and not (turn and each.once)):
                for server in (each for each in row.servers if each not in absent):
                    for known, sample in _measure(row, server, seconds, rows):
                        results.add(known, server, sample)
                        print(_line(turn, known, server, sample), file=sys.stderr, flush=True)
        results.write()
    print(report.text(results))
    report.renew_docs(results)


def _measure(row: Row, server: str, seconds: int, rows: list[Row]) -> Iterator[tuple[Row, Sample]]:
    """Measures a row on a server, and yields the row and its sample, then the rows whose figures come with it."""
    try:
        with running(server) as process:
            sample = row.measure(process, seconds)
    except (OSError, RuntimeError, ArithmeticError, ValueError) as error:
        sample = Sample(None, 1, f"failed: {error}")
    yield row, sample
    for other in rows:
        if other.beside == row.name:
            yield other, sample._replace(value=sample.beside.get(other.name))


def _line(turn: int, row: Row, server: str, sample: Sample) -> str:
    value = "no figure" if sample.value is None else f"{sample.value:,.4g} {row.unit}"
    bad = f", {sample.bad} bad" if sample.bad else ""
    note = f" ({sample.note})" if sample.note else ""
    return f"{turn + 1}  {row.title}: {KINDS[server].title}: {value}{bad}{note}"


if __name__ == "__main__":
    main()

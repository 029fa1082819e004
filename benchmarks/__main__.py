"""`python -m benchmarks [PART …]`: measures this server beside others, and renews `results.json` and `docs/performance.md`.

Each server is pinned to one core and the load to another. In every round the servers take turns, each with an empty store.
ROUNDS and SECONDS are read from the environment.
"""

import os
import sys

from . import report
from .results import Results
from .row import Row, Sample
from .rows import PARTS, ROWS
from .servers import KINDS, LOAD_CORE, running


def main() -> None:
    """Runs the parts that are named, or all."""
    parts = sys.argv[1:] or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"unknown parts: {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    rounds = int(os.environ.get("ROUNDS") or 3)
    seconds = int(os.environ.get("SECONDS") or 4)
    os.sched_setaffinity(0, {LOAD_CORE})
    results = Results()
    for part in parts:
        rows = [row for row in ROWS if row.part == part]
        for row in rows:
            results.begin(row, seconds)
        for turn in range(rounds):
            for row in rows if turn == 0 else (each for each in rows if not each.once):
                for server in row.servers:
                    sample = _measure(row, server, seconds)
                    results.add(row, server, sample)
                    print(_line(turn, row, server, sample), file=sys.stderr, flush=True)
        results.write()
    print(report.text(results))
    report.renew_docs(results)


def _measure(row: Row, server: str, seconds: int) -> Sample:
    try:
        with running(server) as process:
            return row.measure(process, seconds)
    except (OSError, RuntimeError, ArithmeticError, ValueError) as error:
        return Sample(None, 1, f"failed: {error}")


def _line(turn: int, row: Row, server: str, sample: Sample) -> str:
    value = "no figure" if sample.value is None else f"{sample.value:,.4g} {row.unit}"
    bad = f", {sample.bad} bad" if sample.bad else ""
    note = f" ({sample.note})" if sample.note else ""
    return f"{turn + 1}  {row.title}: {KINDS[server].title}: {value}{bad}{note}"


if __name__ == "__main__":
    main()

"""`python -m benchmarks.stall [TRIAL …]`: runs trials and prints a table. It does not update the results of `make bench`."""

import os
import sys

from ..servers import KINDS, LOAD_CORE, running
from .trial import LONGEST, Found, Trial, run
from .trials import TRIALS


def main() -> None:
    """Runs the named trials, or all trials."""
    names = sys.argv[1:]
    if unknown := set(names) - {trial.name for trial in TRIALS}:
        known = " ".join(trial.name for trial in TRIALS)
        sys.exit(f"unknown trials: {', '.join(sorted(unknown))}; known are {known}")
    os.sched_setaffinity(0, {LOAD_CORE})
    print(
        f"{'longest':>9} {'p99':>8} {'memory':>8} {'kept':>8} {'took':>6}   (ms, ms, MiB, MiB, s)"
    )
    for trial in TRIALS:
        if not names or trial.name in names:
            for kind in trial.servers:
                print(_line(trial, kind), flush=True)


def _line(trial: Trial, kind: str) -> str:
    title = f"{trial.name}: {trial.title} ({KINDS[kind].title})"
    try:
        with running(kind) as server:
            found = run(trial, server)
    except (OSError, RuntimeError, ArithmeticError, ValueError) as error:
        return f"{'failed':>9} {'':36} {title}: {error}"
    return f"{_figures(found)} {_mark(trial, found)} {title}{_remarks(found)}"


def _figures(found: Found) -> str:
    longest, p99 = found.delays.longest * 1000, found.delays.p99 * 1000
    return (
        f"{longest:9,.1f} {p99:8,.1f} {found.grown:+8,.0f} {found.kept:+8,.0f} {found.seconds:6.1f}"
    )


def _mark(trial: Trial, found: Found) -> str:
    is_over = found.delays.longest * 1000 > LONGEST
    is_over |= trial.memory is not None and found.grown > trial.memory
    return "*" if is_over else " "


def _remarks(found: Found) -> str:
    bad = found.outcome.bad
    said = [f"{bad:,} failed"] if bad else []
    said += [f"{found.delays.bad:,} reads of the probe refused"] if found.delays.bad else []
    said += [found.outcome.note] if found.outcome.note else []
    return ": " + ", ".join(said) if said else ""


if __name__ == "__main__":
    main()

"""Runs a soak: `python -m tests.soak MINUTES [SEED] [--keep DIR]`.

With `--keep`, the data directory and the log are kept in DIR, which must not exist or be empty. Without a seed, one is drawn and printed.
"""

import random
import sys
import tempfile
from pathlib import Path

from benchmarks.servers import SCRATCH

from .soak import Soak, repeat_command


def main() -> int:
    """Prints the figures of a soak and the faults of the server, and returns 1 if there are any."""
    arguments = sys.argv[1:]
    keep = None
    if "--keep" in arguments:
        place = arguments.index("--keep")
        keep = Path(arguments[place + 1])
        del arguments[place : place + 2]
    seconds = 60 * float(arguments[0])
    seed = int(arguments[1]) if arguments[1:] else random.randrange(1_000_000)
    print(f"a soak of {seconds:.0f} s with seed {seed}", flush=True)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        return soak(keep, seconds, seed)
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        return soak(Path(directory), seconds, seed)


def soak(place: Path, seconds: float, seed: int) -> int:
    """Runs a soak in a directory, and prints its results."""
    report = Soak(place, seconds, seed, lambda line: print(line, flush=True)).run()
    print(report.table())
    complaints = report.complaints()
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    if complaints:
        print(f"repeat with: {repeat_command(seconds, seed)}")
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())

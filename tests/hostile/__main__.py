"""Runs a siege: `python -m tests.hostile [SECONDS] [KIND …]`.

The siege lasts a minute unless SECONDS says otherwise, and uses every kind of hostile client unless some are named.
"""

import sys

from .kinds import KINDS
from .siege import MARGIN, MIB, besiege, documented_memory, repeat_command

LONGEST = 0.5  # maximum seconds of a cheap read while all kinds attack at once


def main() -> int:
    """Prints the rounds and responses of each kind, and returns the number of complaints."""
    numbers = [number for number, kind in enumerate(KINDS) if kind.__name__ in sys.argv[2:]]
    seconds = float(sys.argv[1]) if sys.argv[1:] else 60.0
    most = documented_memory() + MARGIN
    print(
        f"{len(numbers) or len(KINDS)} kinds for {seconds:.0f} s, "
        f"ulimit -v {most // 1024} (the {documented_memory() // MIB} MiB of docs/limits.md, and {MARGIN // MIB})"
    )
    report = besiege(seconds, numbers)
    print(report.table())
    complaints = report.complaints(LONGEST)
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    if complaints:
        print(f"repeat with: {repeat_command(seconds, numbers)}")
    return len(complaints)


if __name__ == "__main__":
    sys.exit(min(main(), 1))

"""`python -m tests.hostile [SECONDS] [KIND …]`: a siege of a minute, or of so many seconds, by all kinds or those that are named."""

import sys

from .kinds import KINDS
from .siege import MARGIN, MIB, besiege, documented

LONGEST = 0.5  # seconds that a cheap read may take while all kinds attack at once


def main() -> int:
    """Prints what each kind achieved; returns how many things did not hold."""
    numbers = [number for number, kind in enumerate(KINDS) if kind.__name__ in sys.argv[2:]]
    seconds = float(sys.argv[1]) if sys.argv[1:] else 60.0
    most = documented() + MARGIN
    print(
        f"{len(numbers) or len(KINDS)} kinds for {seconds:.0f} s, "
        f"ulimit -v {most // 1024} (the {documented() // MIB} MiB of docs/limits.md, and {MARGIN // MIB})"
    )
    report = besiege(seconds, numbers)
    print(report.table())
    complaints = report.complaints(LONGEST)
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    return len(complaints)


if __name__ == "__main__":
    sys.exit(min(main(), 1))

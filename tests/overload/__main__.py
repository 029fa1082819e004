"""Loads servers with five times what they can do: `python -m tests.overload`. Takes about three minutes.

Prints the figures, and exits with 1 if a server keeps less than 80% of its capacity, does not recover at once, or takes too much memory.
"""

import sys

from .loads import FACTOR, KINDS, overload
from .serving import MIB, allow_many_sockets, running
from .slow import READERS, read_slowly


def main() -> int:
    """Prints the figures of every overload, and returns the number of complaints."""
    allow_many_sockets()
    complaints: list[str] = []
    print(
        f"{'overload':<24} {'capacity/s':>11} {f'{FACTOR} x/s':>8} {'kept':>5} {'after':>6} {'refused':>9} {'MiB':>9}"
    )
    for kind in KINDS:
        with running(*kind.flags) as server:
            found = overload(server, kind)
        middle = len(found.capacity) // 2
        print(
            f"{kind.title:<24} {sorted(found.capacity)[middle]:>11,.0f} {sorted(found.overload)[middle]:>8,.0f} {found.share:>5.0%} "
            f"{found.recovered:>6.0%} {found.refused:>9,} {found.before // MIB:>4}-{found.peak // MIB}",
            flush=True,
        )
        complaints += found.complaints(kind)
    with running() as server:
        slow = read_slowly(server)
    grown = slow.peak - slow.before
    print(
        f"{slow.readers:,} slow readers of 64 MiB: {slow.before // MIB} MiB before, {slow.peak // MIB} at most "
        f"({grown / READERS / 1024:.1f} KiB each), {slow.taken // MIB} MiB read, {slow.lost:,} cut, "
        f"longest small read {slow.delay * 1000:.0f} ms"
    )
    complaints += slow.complaints()
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    return len(complaints)


if __name__ == "__main__":
    sys.exit(min(main(), 1))

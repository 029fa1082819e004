"""Runs many seeds of the crash simulator, and prints the command that repeats each seed that fails.

Usage: `python -m tests.crash.hunt FIRST COUNT [--first] [--single]`. With `--first`, the hunt ends at the first seed that fails. With
`--single`, each step of a checkpoint handles one piece of a stream.
"""

import logging
import sys
import time
import traceback

from tests.crash.simulator import simulate

SHOWN = 5  # the number of failures whose traceback is printed


def main(first: int, count: int, *, only_first: bool = False, single: bool = False) -> int:
    """Runs `count` seeds from `first` on, and returns how many failed."""
    logging.disable(logging.CRITICAL)  # stores that fail on purpose would fill the log
    began = time.monotonic()
    failed = 0
    for seed in range(first, first + count):
        try:
            simulate(seed, single=single)
        except AssertionError as error:
            failed += 1
            print(error, flush=True)
            if failed <= SHOWN:
                traceback.print_exception(error)
            if only_first:
                break
    print(f"{count} seeds in {time.monotonic() - began:.0f} s, {failed} failed")
    return failed


if __name__ == "__main__":
    failures = main(
        int(sys.argv[1]),
        int(sys.argv[2]),
        only_first="--first" in sys.argv,
        single="--single" in sys.argv,
    )
    sys.exit(min(failures, 1))

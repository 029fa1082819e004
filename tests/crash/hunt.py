"""Runs many seeds of the crash simulator: `python -m tests.crash.hunt FIRST COUNT [--first]`. Each seed that fails is named."""

import logging
import sys
import time
import traceback

from tests.crash.simulator import simulate

SHOWN = 5  # failures shown whole


def main(first: int, count: int, only_first: bool) -> int:
    """Runs `count` seeds from `first`, or up to the first that fails, and returns how many failed."""
    logging.disable(logging.CRITICAL)  # a store that stops says so; here that is the point
    began = time.monotonic()
    failed = 0
    for seed in range(first, first + count):
        try:
            simulate(seed)
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
    sys.exit(min(main(int(sys.argv[1]), int(sys.argv[2]), "--first" in sys.argv), 1))

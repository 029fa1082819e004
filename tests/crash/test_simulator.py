"""A few hundred seeds of the crash simulator; `make crash` hunts with more."""

import pytest

from tests.crash.simulator import simulate

BLOCKS = 20
SEEDS = 20  # in each block


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_crash_loses_doubles_or_resurrects(block: int) -> None:
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        simulate(seed)

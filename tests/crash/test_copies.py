"""A copy of a data directory is right or is refused, however it was taken."""

import pytest

from tests.crash.copies import Copies

BLOCKS = 5
SEEDS = 30  # in each block


@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_copy_opens_is_right(block: int) -> None:
    refused = 0
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        run = Copies(seed)
        try:
            run.run()
        except BaseException as error:
            raise AssertionError(f"seed {seed} fails") from error
        refused += run.refused
    assert 0 < refused < SEEDS, "only one of the two outcomes was met"

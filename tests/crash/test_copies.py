"""Tests that a copy of a data directory is correct or refused, however it was taken."""

import pytest

from tests.crash.copies import Copies, is_refused

BLOCKS = 5
SEEDS = 30  # in each block


@pytest.mark.parametrize("block", range(BLOCKS))
def test_copy_is_correct_or_refused(block: int) -> None:
    refused = sum(is_refused(seed) for seed in range(block * SEEDS, (block + 1) * SEEDS))
    assert 0 < refused < SEEDS, "only one of the two outcomes was met"


def test_failing_seed_names_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Copies) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr(Copies, "run", fail)
    with pytest.raises(AssertionError, match=r"^seed 7 fails: python -m tests\.crash\.copies 7$"):
        is_refused(7)

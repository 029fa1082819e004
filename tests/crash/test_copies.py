"""Tests that a copy of a data directory is correct or refused, however it was taken."""

import pytest

from tests.crash.copies import Copies, is_refused

BLOCKS = 5
SEEDS = 30  # in each block


@pytest.mark.parametrize("block", range(BLOCKS))
def test_copy_of_a_data_directory_opens_correctly_or_is_refused(block: int) -> None:
    refused = sum(is_refused(seed) for seed in range(block * SEEDS, (block + 1) * SEEDS))
    assert 0 < refused < SEEDS, "only one of the two outcomes was met"


def test_failure_message_has_the_command_that_repeats_its_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Copies) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr(Copies, "run", fail)
    with pytest.raises(AssertionError, match=r"^seed 7 fails: python -m tests\.crash\.copies 7$"):
        is_refused(7)

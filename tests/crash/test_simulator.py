"""Runs a few hundred seeds of the crash simulator. `make crash` runs more."""

import pytest

from tests.crash import simulator
from tests.crash.simulator import simulate

BLOCKS = 20
SEEDS = 20  # in each block


def seeds(block: int) -> range:
    return range(block * SEEDS, (block + 1) * SEEDS)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_crash_neither_loses_nor_duplicates_nor_resurrects_data(block: int) -> None:
    for seed in seeds(block):
        simulate(seed)


@pytest.mark.parametrize("block", range(BLOCKS, BLOCKS + 5))
def test_crash_between_steps_of_a_checkpoint_loses_nothing(block: int) -> None:
    for seed in seeds(block):
        simulate(seed, single=True)


@pytest.mark.parametrize(
    ("single", "command"),
    [(False, "make crash SEED0=7 SEEDS=1"), (True, "python -m tests.crash.hunt 7 1 --single")],
)
def test_failure_message_has_the_command_that_repeats_its_seed(
    single: bool, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr(simulator.Simulation, "run", fail)
    with pytest.raises(AssertionError, match=f"^seed 7 fails: {command}$"):
        simulate(7, single=single)

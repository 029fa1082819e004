"""A few hundred seeds of the crash simulator; `make crash` hunts with more."""

import pytest

from durable_streams_server.storage.files import capture, gather
from tests.crash.simulator import simulate

BLOCKS = 20
SEEDS = 20  # in each block


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_crash_loses_doubles_or_resurrects(block: int) -> None:
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        simulate(seed)


@pytest.mark.parametrize("block", range(BLOCKS, BLOCKS + 5))
def test_nor_does_one_while_a_stream_is_taken_in_steps(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_PIECES", 1)
    monkeypatch.setattr(gather, "_RUN", 1)
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        simulate(seed)

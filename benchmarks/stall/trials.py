"""All trials, in the order of the table."""

from typing import Final

from . import bodies, crowds, memory, stores

TRIALS: Final = (*stores.TRIALS, *crowds.TRIALS, *bodies.TRIALS, *memory.TRIALS)

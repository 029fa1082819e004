"""The list of all trials, in the order of the table."""

from typing import Final

from . import bodies, crowds, memory, stores, subscriptions

TRIALS: Final = (
    *stores.TRIALS,
    *subscriptions.TRIALS,
    *crowds.TRIALS,
    *bodies.TRIALS,
    *memory.TRIALS,
)

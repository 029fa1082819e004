"""`Distribution`: counts measured values by size, such as how long syncs took. It knows nothing of the metrics that are made from it."""

from bisect import bisect_left
from typing import Final

#: Upper bounds in seconds, for work that takes between a fraction of a millisecond and some seconds.
SHORT_SECONDS: Final[tuple[float, ...]] = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
#: Upper bounds in seconds, for work that takes between some milliseconds and a minute.
LONG_SECONDS: Final[tuple[float, ...]] = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
#: Upper bounds of numbers of things.
NUMBERS: Final[tuple[float, ...]] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Distribution:
    """Counts values in buckets. One thread at a time may add values, and any thread may read them.

    Args:
        bounds: the upper bounds of the buckets, in ascending order. A value that equals a bound belongs to the bucket of that bound.

    Attributes:
        bounds: the upper bounds of all buckets but the last, which has none.
        counts: the number of values in each bucket.
        total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

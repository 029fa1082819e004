"""`DeliveryCounts`: how the deliveries to webhooks ended. It is not in `delivery.py`, because a server without webhooks never imports that file."""

from typing import Final

from ..storage.distribution import LONG_SECONDS, Distribution

#: The receiver has acknowledged the wake in its answer.
ACKNOWLEDGED: Final = "acknowledged"
#: The receiver has accepted the wake, and will acknowledge it by callback.
ACCEPTED: Final = "accepted"
#: Every way in which a delivery can end. All but the first two are codes of failures, from `delivery.py` and `network.py`.
OUTCOMES: Final = (
    ACKNOWLEDGED,
    ACCEPTED,
    "refused",
    "no_answer",
    "unreachable",
    "forbidden",
    "redirect",
    "invalid_answer",
    "no_public_url",
    "internal_error",
)


class DeliveryCounts:
    """Counts deliveries by outcome.

    Attributes:
        outcomes: the number of deliveries with each outcome.
        seconds: how long the exchanges with receivers took.
    """

    __slots__ = ("outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.seconds = Distribution(LONG_SECONDS)

    def add(self, outcome: str) -> None:
        """Counts a delivery that has ended."""
        self.outcomes[outcome] += 1

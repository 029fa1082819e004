"""How many bytes of request bodies may be in memory at once, over all connections."""

from ..errors import Unavailable
from ..protocol.decide import RETRY_SOON


class BodyBudget:
    """A count of bytes held. Whoever takes gives back, in a `finally`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Takes `size` bytes before they are read.

        Raises:
            Unavailable: BODIES_IN_FLIGHT when they would pass the limit; nothing is taken then.
        """
        if self.held + size > self._limit:
            raise Unavailable(
                "too many request bodies are in flight", "BODIES_IN_FLIGHT", [RETRY_SOON]
            )
        self.held += size

    def give_back(self, size: int) -> None:
        """Gives back what was taken."""
        self.held -= size

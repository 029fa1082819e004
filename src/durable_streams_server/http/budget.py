"""How much of what clients have sent may be in memory at once, over all connections.

What counts is what has come, not what a client announces: bodies until they are answered, requests that wait behind others on
their connection, octets that nobody has parsed yet, heads that are not complete. Whoever takes gives back, once, however the use
ended.
"""

from ..errors import Unavailable
from ..protocol.decide import RETRY_SOON
from .shares import Shares

#: The part of the budget that one address may hold, so that one client cannot shut all others out.
_SHARE: int = 2


class ReceiveBudget:
    """Counts the bytes that are held.

    Args:
        limit: the most bytes over all connections.
        largest: bytes of the largest body, which one address may hold in any case.

    Attributes:
        held: the bytes that are held now.
    """

    def __init__(self, limit: int, largest: int = 0) -> None:
        self._limit = limit
        self._shares = Shares(max(limit // _SHARE, largest))
        self.held = 0

    def take(self, size: int) -> None:
        """Takes `size` bytes that have come.

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

    def check(self, size: int) -> None:
        """Refuses a body that there is no room for now, before any of it is read.

        Raises:
            Unavailable: BODIES_IN_FLIGHT.
        """
        self.take(size)
        self.held -= size

    def take_share(self, address: str | None, size: int) -> None:
        """Counts bytes that were taken as part of an address's share.

        Raises:
            Unavailable: BODIES_FROM_ADDRESS when they would pass the share; nothing is counted then.
        """
        if not self._shares.take(address, size):
            raise Unavailable(
                "too many request bodies from this address are in flight",
                "BODIES_FROM_ADDRESS",
                [RETRY_SOON],
            )

    def give_share_back(self, address: str | None, size: int) -> None:
        """Gives back a part of an address's share."""
        self._shares.give_back(address, size)

    @property
    def sharing(self) -> int:
        """How many addresses hold a part of their share."""
        return len(self._shares)

"""How much of what clients have sent may be in memory at once, over all connections.

What counts is what has come, not what a client announces: bodies until they are answered, requests that wait behind others on
their connection, octets that nobody has parsed yet, heads that are not complete. Whoever takes gives back, once, however the use
ended.
"""

import io
from typing import Final

from ...errors import Unavailable
from ...protocol.limits import RETRY_SOON
from ...protocol.units import KIB
from .shares import Shares, network_of

#: Bytes of a body from which on its request is refused by the head alone if that decides it, and the body counts as part of its
#: address's share. Most bodies are smaller and have come by the time their heads are parsed.
LARGE_BODY: Final = 64 * KIB


class ReceiveBudget:
    """Counts the bytes that are held.

    Args:
        limit: the most bytes over all connections.
        largest: bytes of the largest body. One address may hold as much as leaves room for one such body of another's; a budget
            that is no larger has no shares.

    Attributes:
        held: the bytes that are held now.
    """

    def __init__(self, limit: int, largest: int = 0) -> None:
        self._limit = limit
        self._shares = Shares(max(limit - largest, largest))
        self.held = 0

    def take(self, size: int) -> None:
        """Takes `size` bytes that have come.

        Raises:
            Unavailable: BODIES_IN_FLIGHT when they would pass the limit; nothing is taken then.
        """
        if self.held + size > self._limit:
            raise Unavailable(
                "too many request bodies are in flight", "BODIES_IN_FLIGHT", retry_after=RETRY_SOON
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
                retry_after=RETRY_SOON,
            )

    def give_share_back(self, address: str | None, size: int) -> None:
        """Gives back a part of an address's share."""
        self._shares.give_back(address, size)

    @property
    def sharing(self) -> int:
        """How many addresses hold a part of their share."""
        return len(self._shares)


class Incoming:
    """One body that comes in parts, and what it holds of the budget.

    Parts are gathered without a second copy, and many small ones cost what they hold.

    Args:
        budget: what is taken from.
        address: the client's, of whose share a large body is part; None for nobody's.

    Attributes:
        size: how many octets have come.
    """

    __slots__ = ("_address", "_budget", "_first", "_parts", "_shared", "size")

    def __init__(self, budget: ReceiveBudget, address: str | None) -> None:
        self._budget = budget
        self._address = address
        self._first = b""
        self._parts: io.BytesIO | None = None  # all of them, when there are several
        self._shared = 0
        self.size = 0

    def add(self, part: bytes) -> None:
        """Takes a part.

        Raises:
            Unavailable: BODIES_IN_FLIGHT or BODIES_FROM_ADDRESS; the part is not taken.
        """
        if not part:
            return
        self._budget.take(len(part))
        self.size += len(part)
        if self.size == len(part):
            self._first = part
            return
        if self.size > LARGE_BODY:
            self._take_share()
        if self._parts is None:
            self._parts = io.BytesIO()
            self._parts.write(self._first)
            self._first = b""
        self._parts.write(part)

    def whole(self) -> bytes:
        """Returns the body. What it holds of the budget is still held, and must be released."""
        whole = self._first if self._parts is None else self._parts.getvalue()
        self._first, self._parts = b"", None
        return whole

    def release(self) -> None:
        """Gives everything back. Safe to call more than once."""
        self._budget.give_back(self.size)
        if self._shared:
            self._budget.give_share_back(self._address, self._shared)
        self._first, self._parts = b"", None
        self.size = self._shared = 0

    def _take_share(self) -> None:
        if not self._shared and self._address is not None:
            self._address = network_of(self._address)
        self._budget.take_share(self._address, self.size - self._shared)
        self._shared = self.size

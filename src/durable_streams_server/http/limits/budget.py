"""Limits the memory that is used for bytes received from clients, over all connections.

The budget counts bytes that were received, not bytes that a client announces. It counts request bodies until they are answered, requests
that wait behind others on their connection, octets that have not been parsed, and incomplete heads. Every `take` must be followed by one
`give_back` of the same size.
"""

import io
from typing import Final

from ...errors import Unavailable
from ...protocol.limits import RETRY_SOON
from ...protocol.units import KIB
from .shares import Shares

#: Bytes above which a body is large. If the head of a request is reason enough to refuse it, a large body is not received. Otherwise the
#: large body counts against the share of the client's address. Smaller bodies usually arrive together with their heads.
LARGE_BODY: Final = 64 * KIB


class ReceiveBudget:
    """Counts the received bytes that are in memory.

    Args:
        limit: maximum number of bytes over all connections.
        largest: size of the largest allowed body in bytes. One address may hold the limit less this size, so that a body from another
            address has room, but always at least this size.

    Attributes:
        limit: maximum number of bytes over all connections.
        held: number of bytes in memory now.
    """

    def __init__(self, limit: int, largest: int = 0) -> None:
        self.limit = limit
        self._shares = Shares(max(limit - largest, largest))
        self.held = 0

    def take(self, size: int) -> None:
        """Counts `size` received bytes.

        Raises:
            Unavailable: BODIES_IN_FLIGHT if they would exceed the limit. Nothing is counted then.
        """
        if self.held + size > self.limit:
            raise Unavailable(
                "too many request bodies are in flight", "BODIES_IN_FLIGHT", retry_after=RETRY_SOON
            )
        self.held += size

    def give_back(self, size: int) -> None:
        """Stops counting `size` bytes."""
        self.held -= size

    def check(self, size: int) -> None:
        """Checks that a body of `size` bytes has room now. Counts nothing.

        Raises:
            Unavailable: BODIES_IN_FLIGHT if the body has no room.
        """
        self.take(size)
        self.held -= size

    def take_share(self, address: str | None, size: int) -> None:
        """Counts bytes against the share of an address. `take` must have counted them already.

        Raises:
            Unavailable: BODIES_FROM_ADDRESS if they would exceed the share. Nothing is counted then.
        """
        if not self._shares.take(address, size):
            raise Unavailable(
                "too many request bodies from this address are in flight",
                "BODIES_FROM_ADDRESS",
                retry_after=RETRY_SOON,
            )

    def give_share_back(self, address: str | None, size: int) -> None:
        """Stops counting `size` bytes against the share of an address."""
        self._shares.give_back(address, size)

    @property
    def sharing(self) -> int:
        """Number of addresses that hold a part of their share."""
        return len(self._shares)


class Incoming:
    """Collects a body that arrives in several parts, and counts it against the budget.

    Many small parts take no more memory than one large part, and joining them makes no second copy.

    Args:
        budget: the receive budget.
        address: the address whose share a large body counts against, from `network_of`, or None for a client without a share.

    Attributes:
        size: number of bytes received so far.
    """

    __slots__ = ("_address", "_budget", "_first", "_parts", "_shared", "size")

    def __init__(self, budget: ReceiveBudget, address: str | None) -> None:
        self._budget = budget
        self._address = address
        self._first = b""
        self._parts: io.BytesIO | None = None  # all parts, once there are two
        self._shared = 0
        self.size = 0

    def add(self, part: bytes) -> None:
        """Adds a part to the body.

        Raises:
            Unavailable: BODIES_IN_FLIGHT or BODIES_FROM_ADDRESS. The part is not added, and the caller must call `release`.
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
        """Returns the whole body. Its bytes count against the budget until `release` is called."""
        whole = self._first if self._parts is None else self._parts.getvalue()
        self._first, self._parts = b"", None
        return whole

    def release(self) -> None:
        """Drops the body, and no longer counts its bytes against the budget. A second call does nothing."""
        self._budget.give_back(self.size)
        if self._shared:
            self._budget.give_share_back(self._address, self._shared)
        self._first, self._parts = b"", None
        self.size = self._shared = 0

    def _take_share(self) -> None:
        """Counts a large body against the share of its client's address, except for the bytes that count already."""
        self._budget.take_share(self._address, self.size - self._shared)
        self._shared = self.size

"""`OwnerCounts`: how many subscriptions each client has created, for the limit of subscriptions per token."""


class OwnerCounts:
    """Counts the subscriptions of each owner. An owner without subscriptions takes no memory.

    Attributes:
        counts: the number of subscriptions by owner, never zero. Subscriptions without an owner are not counted.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    @property
    def most(self) -> int:
        """The number of subscriptions of the owner that has most."""
        return max(self.counts.values(), default=0)

    def of(self, owner: str) -> int:
        """Returns the number of subscriptions of an owner."""
        return self.counts.get(owner, 0)

    def add(self, owner: str | None) -> None:
        """Counts a subscription that has begun."""
        if owner is not None:
            self.counts[owner] = self.counts.get(owner, 0) + 1

    def remove(self, owner: str | None) -> None:
        """Counts a subscription that has ended. It must have been counted with `add` before."""
        if owner is not None:
            left = self.counts[owner] - 1
            if left:
                self.counts[owner] = left
            else:
                del self.counts[owner]

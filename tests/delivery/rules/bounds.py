"""The highest offset that each cursor can have. Only an acknowledgement that may have reached the server moves a cursor."""

from collections.abc import Callable

from tests.delivery.history import (
    Answering,
    Asked,
    Gone,
    Linked,
    Repaired,
    Replied,
    Subscribed,
    Tail,
    Unsubscribed,
)
from tests.delivery.rules.rule import Rule, is_accepted, life

Key = tuple[str, str]  # subscription and path


class Bounds(Rule):
    """A rule that finds nothing, and tells others the highest offset that each cursor can have.

    Attributes:
        tails: the last known tail of each stream.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tails: dict[str, str] = {}
        self._sure: dict[Key, str] = {}
        self._maybe: dict[Key, dict[int, str]] = {}
        self._unknown: set[str] = set()
        self._early: dict[Key, str] = {}  # acknowledged before the test knew of the link

    def of(self, sub: str, path: str) -> str | None:
        """Returns the bound of one cursor; None if the subscription has no such stream."""
        known = self._sure.get((sub, path))
        if known is None:
            return None
        return max([known, *self._maybe.get((sub, path), {}).values()])

    def paths(self, sub: str) -> list[str]:
        """Returns the streams of a subscription."""
        return [path for owner, path in self._sure if owner == sub]

    def on_linked(self, record: Linked) -> None:
        key = record.sub, record.path
        early = self._early.pop(key, "")
        # What was acknowledged early may have been for an earlier subscription of that name.
        is_of_this_stream = life(early) == life(record.cursor)
        self._sure[key] = max(early, record.cursor) if is_of_this_stream else record.cursor

    def on_tail(self, record: Tail) -> None:
        self.tails[record.path] = record.offset
        if record.path in self._unknown:
            self._unknown.discard(record.path)
            for key in self._sure:
                if key[1] == record.path:
                    self._sure[key] = max(self._sure[key], record.offset)

    def on_gone(self, record: Gone) -> None:
        self.tails.pop(record.path, None)
        self._forget(lambda key: key[1] == record.path)

    def on_repaired(self, record: Repaired) -> None:
        self._unknown.add(record.path)  # until its tail is known

    def on_subscribed(self, record: Subscribed) -> None:
        self._forget(lambda key: key[0] == record.sub)

    def on_unsubscribed(self, record: Unsubscribed) -> None:
        self._forget(lambda key: key[0] == record.sub)

    def on_answering(self, record: Answering) -> None:
        if record.how in ("done", "gzip", "bom"):
            delivery = self.deliveries[record.number]
            for path, _, tail in delivery.told:
                self._raise((delivery.sub, path), tail)

    def on_asked(self, record: Asked) -> None:
        for path, offset in record.acks:
            self._maybe.setdefault((record.sub, path), {})[record.number] = offset

    def on_replied(self, record: Replied) -> None:
        asked = self.requests[record.number]
        for path, offset in asked.acks:
            self._maybe.get((asked.sub, path), {}).pop(record.number, None)
            if record.status == 0 or is_accepted(record.status):
                self._raise((asked.sub, path), offset)

    def _raise(self, key: Key, offset: str) -> None:
        if key in self._sure:
            self._sure[key] = max(self._sure[key], offset)
        else:
            self._early[key] = max(self._early.get(key, ""), offset)

    def _forget(self, condition: Callable[[Key], bool]) -> None:
        for key in [key for key in self._sure if condition(key)]:
            del self._sure[key]
            self._maybe.pop(key, None)

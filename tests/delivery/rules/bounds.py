"""Computes the highest offset that each cursor can have, from the acknowledgements that may have reached the server."""

from collections.abc import Callable

from tests.delivery.history import (
    Answering,
    Linked,
    Repaired,
    Requested,
    Responded,
    StreamGone,
    Subscribed,
    Tail,
    Unsubscribed,
)
from tests.delivery.rules.rule import Rule, is_accepted, life

Key = tuple[str, str]  # subscription and path


class Bounds(Rule):
    """Reads a history like a rule, but only computes upper bounds of cursors for other rules, and finds no violations.

    Attributes:
        tails: the last known tail of each stream.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tails: dict[str, str] = {}
        self._sure: dict[Key, str] = {}
        self._maybe: dict[Key, dict[int, str]] = {}
        self._unknown: set[str] = set()
        self._early: dict[Key, str] = {}  # acknowledged before the record `Linked`

    def of(self, sub: str, path: str) -> str | None:
        """Returns the upper bound of a cursor, or None if the subscription is not linked to the stream."""
        known = self._sure.get((sub, path))
        if known is None:
            return None
        return max([known, *self._maybe.get((sub, path), {}).values()])

    def paths(self, sub: str) -> list[str]:
        """Returns the streams to which a subscription is linked."""
        return [path for owner, path in self._sure if owner == sub]

    def on_linked(self, record: Linked) -> None:
        key = record.sub, record.path
        early = self._early.pop(key, "")
        # The early acknowledgement may belong to an earlier subscription with the same id.
        has_same_incarnation = life(early) == life(record.cursor)
        self._sure[key] = max(early, record.cursor) if has_same_incarnation else record.cursor

    def on_tail(self, record: Tail) -> None:
        self.tails[record.path] = record.offset
        if record.path in self._unknown:
            self._unknown.discard(record.path)
            for key in self._sure:
                if key[1] == record.path:
                    self._sure[key] = max(self._sure[key], record.offset)

    def on_streamgone(self, record: StreamGone) -> None:
        self.tails.pop(record.path, None)
        self._forget(lambda key: key[1] == record.path)

    def on_repaired(self, record: Repaired) -> None:
        self._unknown.add(record.path)  # until the next record `Tail`

    def on_subscribed(self, record: Subscribed) -> None:
        self._forget(lambda key: key[0] == record.sub)

    def on_unsubscribed(self, record: Unsubscribed) -> None:
        self._forget(lambda key: key[0] == record.sub)

    def on_answering(self, record: Answering) -> None:
        if record.how in ("done", "gzip", "bom"):
            delivery = self.deliveries[record.number]
            for path, _, tail in delivery.snapshot:
                self._raise((delivery.sub, path), tail)

    def on_requested(self, record: Requested) -> None:
        for path, offset in record.acks:
            self._maybe.setdefault((record.sub, path), {})[record.number] = offset

    def on_responded(self, record: Responded) -> None:
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

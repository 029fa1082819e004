"""The base class of all rules. It dispatches records to methods, and restores the state of a rule together with a directory."""

import copy
from typing import Any, ClassVar, NamedTuple

from tests.delivery.history import (
    Delivered,
    Down,
    Record,
    Requested,
    Responded,
    Snapshot,
    Subscribed,
    Up,
)

#: Maximum seconds from a decision of the server until the test has recorded its message.
SLACK = 1.0


class Handover(NamedTuple):
    """The server has handed a wake over to a receiver or a worker, by a delivery or by the response to a claim.

    Attributes:
        at: the time at which the delivery or the response arrived.
        since: the time at which the claim was sent. None for a delivery, because the test cannot see when the server sent it.
        number: the number of the delivery or the claim.
        snapshot: the streams that the wake lists.
    """

    at: float
    since: float | None
    number: int
    sub: str
    wake_id: str
    generation: int
    snapshot: Snapshot


class Rule:
    """Reads the records of a history and collects violations.

    For each kind of record that it uses, a subclass has a method: `on_` and the class name of the record in lower case. `on_handover` is
    called for every `Handover`. `on_break` is called before the server stops and after it runs again, because the server may have missed
    messages in between.

    Attributes:
        found: a sentence for each violation.
        is_down: True from the record `Down` to the record `Up`.
        subs: the records of the subscriptions that exist now, by id.
        requests: all requests so far, by number.
        deliveries: all deliveries so far, by number.
        lasting: the names of attributes that keep their values when a directory is restored.
    """

    lasting: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.found: list[str] = []
        self.is_down = False
        self.subs: dict[str, Subscribed] = {}
        self.requests: dict[int, Requested] = {}
        self.deliveries: dict[int, Delivered] = {}

    def read(self, record: Record) -> None:
        """Reads the next record."""
        name = type(record).__name__.lower()
        if isinstance(record, Subscribed):
            self.subs[record.sub] = record
        elif isinstance(record, Requested):
            self.requests[record.number] = record
        elif isinstance(record, Delivered):
            self.deliveries[record.number] = record
        self._call(f"on_{name}", record)
        if isinstance(record, Down | Up):
            self.is_down = isinstance(record, Down)
            self._call("on_break", record)
        handover = self._handover(record)
        if handover is not None:
            self._call("on_handover", handover)
        if name == "unsubscribed":
            self.subs.pop(getattr(record, "sub", ""), None)

    def lease(self, sub: str) -> float:
        """Returns the seconds of a subscription's lease. For an unknown subscription, this is the longest possible lease."""
        known = self.subs.get(sub)
        return known.lease if known is not None else 600.0

    def save(self) -> dict[str, Any]:
        """Returns a copy of the state of the rule, for `restore`."""
        kept = self._shared_attributes()
        return copy.deepcopy({key: each for key, each in vars(self).items() if key not in kept})

    def __deepcopy__(self, memo: dict[int, Any]) -> "Rule":
        """Copies a rule that is an attribute of another rule. Both copies share the lasting attributes."""
        twin = object.__new__(type(self))
        kept = self._shared_attributes()
        for key, each in vars(self).items():
            setattr(twin, key, each if key in kept else copy.deepcopy(each, memo))
        return twin

    def restore(self, saved: dict[str, Any]) -> None:
        """Returns to a state that `save` has returned."""
        vars(self).update(copy.deepcopy(saved))

    def _shared_attributes(self) -> tuple[str, ...]:
        return ("found", "requests", "deliveries", *self.lasting)

    def _call(self, name: str, what: object) -> None:
        handler = getattr(self, name, None)
        if handler is not None:
            handler(what)

    def _handover(self, record: Record) -> Handover | None:
        if isinstance(record, Delivered):
            return Handover(
                record.at,
                None,
                record.number,
                record.sub,
                record.wake_id,
                record.generation,
                record.snapshot,
            )
        if isinstance(record, Responded) and record.status == 200 and record.wake_id:
            asked = self.requests[record.number]
            return Handover(
                record.at,
                asked.at,
                record.number,
                asked.sub,
                record.wake_id,
                record.generation,
                record.snapshot,
            )
        return None


def life(offset: str) -> str:
    """Returns the incarnation part of an offset."""
    return offset.partition("_")[0]


def is_accepted(status: int) -> bool:
    """Returns whether a status means success."""
    return 200 <= status < 300

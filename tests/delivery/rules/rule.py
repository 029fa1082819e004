"""What every rule is built on: it reads records one after the other, and goes back in time with the server's directory."""

import copy
from typing import Any, ClassVar, NamedTuple

from tests.delivery.history import (
    Asked,
    Delivered,
    Down,
    Record,
    Replied,
    Subscribed,
    Told,
    Up,
)

#: Seconds that a message may be under way, from the server's decision until the test has noted it.
SLACK = 1.0


class Telling(NamedTuple):
    """The server has told a worker of a wake, by a delivery or by the answer to a claim.

    Attributes:
        since: when the claim was asked for; None for a delivery, because nobody sees when the server made it.
        number: of the delivery or the claim.
    """

    at: float
    since: float | None
    number: int
    sub: str
    wake_id: str
    generation: int
    told: Told


class Rule:
    """One rule. A subclass has methods `on_...` for the kinds of records that it reads, and `on_telling` for every `Telling`.

    It may have `on_break` too, which is called before the server stands still and after it runs again. Nobody knows whether the server
    has heard what was sent between the two.

    Attributes:
        found: a sentence for each violation.
        is_down: whether the server stands still, or has begun to run a moment ago.
        subs: the record of each subscription that is there now.
        requests: by number.
        deliveries: by number.
        lasting: names of attributes that a restored directory does not set back.
    """

    lasting: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.found: list[str] = []
        self.is_down = False
        self.subs: dict[str, Subscribed] = {}
        self.requests: dict[int, Asked] = {}
        self.deliveries: dict[int, Delivered] = {}

    def see(self, record: Record) -> None:
        """Takes the next record."""
        name = type(record).__name__.lower()
        if isinstance(record, Subscribed):
            self.subs[record.sub] = record
        elif isinstance(record, Asked):
            self.requests[record.number] = record
        elif isinstance(record, Delivered):
            self.deliveries[record.number] = record
        self._call(f"on_{name}", record)
        if isinstance(record, Down | Up):
            self.is_down = isinstance(record, Down)
            self._call("on_break", record)
        telling = self._telling(record)
        if telling is not None:
            self._call("on_telling", telling)
        if name == "unsubscribed":
            self.subs.pop(getattr(record, "sub", ""), None)

    def lease(self, sub: str) -> float:
        """Returns the seconds of a subscription's lease; none is longer than an unknown one."""
        known = self.subs.get(sub)
        return known.lease if known is not None else 600.0

    def save(self) -> dict[str, Any]:
        """Returns what the rule knows now, for `restore`."""
        kept = self._kept()
        return copy.deepcopy({key: each for key, each in vars(self).items() if key not in kept})

    def __deepcopy__(self, memo: dict[int, Any]) -> "Rule":
        """Copies a rule that is part of another. Both share what lasts."""
        twin = object.__new__(type(self))
        kept = self._kept()
        for key, each in vars(self).items():
            setattr(twin, key, each if key in kept else copy.deepcopy(each, memo))
        return twin

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes back to what the rule knew then."""
        vars(self).update(copy.deepcopy(saved))

    def _kept(self) -> tuple[str, ...]:
        return ("found", "requests", "deliveries", *self.lasting)

    def _call(self, name: str, what: object) -> None:
        handler = getattr(self, name, None)
        if handler is not None:
            handler(what)

    def _telling(self, record: Record) -> Telling | None:
        if isinstance(record, Delivered):
            return Telling(
                record.at,
                None,
                record.number,
                record.sub,
                record.wake_id,
                record.generation,
                record.told,
            )
        if isinstance(record, Replied) and record.status == 200 and record.wake_id:
            asked = self.requests[record.number]
            return Telling(
                record.at,
                asked.at,
                record.number,
                asked.sub,
                record.wake_id,
                record.generation,
                record.told,
            )
        return None


def life(offset: str) -> str:
    """Returns the incarnation that an offset is named after."""
    return offset.partition("_")[0]


def is_accepted(status: int) -> bool:
    return 200 <= status < 300

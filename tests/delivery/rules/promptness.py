"""Rule 6: if a subscription has news and no wake is in flight, the server begins the next wake within a bounded time."""

from dataclasses import dataclass
from math import inf

from tests.delivery.history import (
    Answered,
    Answering,
    Damaged,
    Delivered,
    Down,
    Inspected,
    Record,
    Repaired,
    Requested,
    Responded,
    Stalled,
    Subscribed,
    Unsubscribed,
    Up,
)
from tests.delivery.rules.bounds import Bounds
from tests.delivery.rules.rule import Handover, Rule, is_accepted

BOUND = 3.0  # seconds, not counting stops, leases and backoff
JITTER = 1.2  # the largest factor by which jitter lengthens a backoff
LONGEST = 60.0  # seconds of the longest backoff without jitter
EARLY = 0.3  # seconds before the end of a lease in which the server may miss an answer
REMEMBERED = 15.0  # seconds for which a stall of the machine excuses a late wake
WITHOUT_NEWS = (Answered, Delivered, Inspected, Stalled)


@dataclass
class _Sub:
    """The state of one subscription, as far as the history shows it.

    Attributes:
        quiet: the time from which on no wake is in flight, unless a new one has begun.
        touched: the latest time at which a lease may have begun.
        fruitless: the maximum number of handovers since a cursor moved.
        wake_id: the id of the last wake.
        acked: the cursors in the snapshot of the last wake.
        claims: the number of claims without a response.
        since: the time from which on there must have been news, or infinity if there may be none.
    """

    quiet: float
    touched: float = 0.0
    fruitless: int = 0
    wake_id: str = ""
    acked: tuple[tuple[str, str], ...] = ()
    claims: int = 0
    since: float = inf


class Promptness(Rule):
    """Rule 6: if a subscription has news and no wake is in flight, the server begins the next wake within a bounded time."""

    def __init__(self) -> None:
        super().__init__()
        self._bounds = Bounds()
        self._known: dict[str, _Sub] = {}
        self._up = inf
        self._stalls: list[Stalled] = []
        self._damaged: set[str] = set()

    def read(self, record: Record) -> None:
        for sub in self._known:
            if self.subs[sub].kind == "webhook":
                self._check_deadline(sub, record.at, "no delivery came")
        self._bounds.read(record)
        super().read(record)
        if not isinstance(record, WITHOUT_NEWS):
            self._update_news(record.at)

    def _update_news(self, at: float) -> None:
        for sub, known in self._known.items():
            if not self._has_news(sub):
                known.since = inf
            elif known.since == inf:
                known.since = at

    def _has_news(self, sub: str) -> bool:
        for path in self._bounds.paths(sub):
            bound, tail = self._bounds.of(sub, path), self._bounds.tails.get(path, "")
            if bound is not None and tail > bound and path not in self._damaged:
                return True
        return False

    def _deadline(self, sub: str) -> float:
        known = self._known[sub]
        pause = JITTER * min(LONGEST, 2.0 ** (known.fruitless - 1)) if known.fruitless else 0.0
        stalls = sum(each.seconds for each in self._stalls)
        return max(known.since, known.quiet + pause, self._up) + BOUND + stalls

    def _check_deadline(self, sub: str, at: float, what: str) -> None:
        deadline = self._deadline(sub)
        if at > deadline:
            known = self._known[sub]
            self.found.append(
                f"{sub}: {what} {at - known.since:.1f} s after news, {at - known.quiet:.1f} s after "
                f"the last wake and {at - self._up:.1f} s after a start"
            )
            known.quiet = at + REMEMBERED  # reports each delay only once

    # -- wakes --------------------------------------------------------------

    def on_handover(self, handover: Handover) -> None:
        known = self._known.get(handover.sub)
        if known is None:
            return
        acked = tuple((path, offset) for path, offset, _ in handover.snapshot)
        before = dict(known.acked)
        has_moved = any(offset > before.get(path, offset) for path, offset in acked)
        known.fruitless = 1 if has_moved else known.fruitless + 1
        known.wake_id, known.acked = handover.wake_id, acked
        self._touch(known, handover.sub, handover.at)

    def on_answering(self, record: Answering) -> None:
        sub = self.deliveries[record.number].sub
        known = self._known.get(sub)
        if known is None or not record.is_open:
            return
        if record.how in ("done", "failed", "cut"):
            if record.at < known.touched + self.lease(sub) - EARLY:
                known.quiet = record.at
        else:
            self._touch(known, sub, record.at)

    def on_requested(self, record: Requested) -> None:
        known = self._known.get(record.sub)
        if known is None:
            return
        if record.what == "claim":
            known.claims += 1
        elif record.wake_id == known.wake_id:
            known.quiet = max(known.quiet, record.at + self.lease(record.sub))

    def on_responded(self, record: Responded) -> None:
        asked = self.requests[record.number]
        known = self._known.get(asked.sub)
        if known is None:
            return
        if asked.what == "claim":
            known.claims = max(0, known.claims - 1)
            if record.status == 409 and not known.claims:
                self._check_deadline(asked.sub, asked.at, f"a claim is still {record.code}")
            if record.status == 0:
                self._touch(known, asked.sub, record.at)
        elif is_accepted(record.status):
            self._on_accepted(known, asked, record)

    def _on_accepted(self, known: _Sub, asked: Requested, record: Responded) -> None:
        acked = dict(known.acked)
        if any(offset > acked.get(path, offset) for path, offset in asked.acks):
            known.fruitless = 0
        if asked.done or asked.what == "release":
            known.quiet = record.at
        else:
            self._touch(known, asked.sub, record.at)

    def _touch(self, known: _Sub, sub: str, at: float) -> None:
        known.touched = at
        known.quiet = at + self.lease(sub)

    # -- subscriptions, streams and the server ------------------------------

    def on_subscribed(self, record: Subscribed) -> None:
        self._known[record.sub] = _Sub(record.at)

    def on_unsubscribed(self, record: Unsubscribed) -> None:
        self._known.pop(record.sub, None)

    def on_damaged(self, record: Damaged) -> None:
        self._damaged.add(record.path)

    def on_repaired(self, record: Repaired) -> None:
        self._damaged.discard(record.path)

    def on_down(self, record: Down) -> None:
        self._up = inf

    def on_up(self, record: Up) -> None:
        self._up = record.at

    def on_stalled(self, record: Stalled) -> None:
        self._stalls = [each for each in self._stalls if each.at > record.at - REMEMBERED]
        self._stalls.append(record)

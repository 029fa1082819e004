"""Rule 6: when there is surely news and no wake can be in flight, the next wake comes within a bounded time."""

from dataclasses import dataclass
from math import inf

from tests.delivery.history import (
    Answered,
    Answering,
    Asked,
    Damaged,
    Delivered,
    Down,
    Record,
    Repaired,
    Replied,
    Seen,
    Stalled,
    Subscribed,
    Unsubscribed,
    Up,
)
from tests.delivery.rules.bounds import Bounds
from tests.delivery.rules.rule import Rule, Telling, is_accepted

BOUND = 3.0  # seconds, besides stops, leases and pauses
JITTER = 1.2
LONGEST = 60.0
EARLY = 0.3  # seconds before the end of a lease in which the server may miss an answer
REMEMBERED = 15.0  # seconds for which a busy machine is an excuse
TELLS_NO_NEWS = (Answered, Delivered, Seen, Stalled)


@dataclass
class _Sub:
    """What is known of one subscription.

    Attributes:
        quiet: from then on no wake is in flight, unless a new one has begun.
        touched: when a lease may have begun for the last time.
        fruitless: how many tellings there were, at most, since a cursor moved.
        wake_id: the last wake.
        acked: the cursors that it told of.
        claims: how many claims are under way.
        since: from then on there has surely been news; infinite while that is not sure.
    """

    quiet: float
    touched: float = 0.0
    fruitless: int = 0
    wake_id: str = ""
    acked: tuple[tuple[str, str], ...] = ()
    claims: int = 0
    since: float = inf


class Promptness(Rule):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._bounds = Bounds()
        self._known: dict[str, _Sub] = {}
        self._up = inf
        self._stalls: list[Stalled] = []
        self._damaged: set[str] = set()

    def see(self, record: Record) -> None:
        for sub in self._known:
            if self.subs[sub].kind == "webhook":
                self._late(sub, record.at, "no delivery came")
        self._bounds.see(record)
        super().see(record)
        if not isinstance(record, TELLS_NO_NEWS):
            self._note_news(record.at)

    def _note_news(self, at: float) -> None:
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

    def _late(self, sub: str, at: float, what: str) -> None:
        deadline = self._deadline(sub)
        if at > deadline:
            known = self._known[sub]
            self.found.append(
                f"{sub}: {what} {at - known.since:.1f} s after news, {at - known.quiet:.1f} s after "
                f"the last wake and {at - self._up:.1f} s after a start"
            )
            known.quiet = at + REMEMBERED  # said once

    # -- what makes a wake end ----------------------------------------------

    def on_telling(self, telling: Telling) -> None:
        known = self._known.get(telling.sub)
        if known is None:
            return
        acked = tuple((path, offset) for path, offset, _ in telling.told)
        before = dict(known.acked)
        has_moved = any(offset > before.get(path, offset) for path, offset in acked)
        known.fruitless = 1 if has_moved else known.fruitless + 1
        known.wake_id, known.acked = telling.wake_id, acked
        self._touch(known, telling.sub, telling.at)

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

    def on_asked(self, record: Asked) -> None:
        known = self._known.get(record.sub)
        if known is None:
            return
        if record.what == "claim":
            known.claims += 1
        elif record.wake_id == known.wake_id:
            known.quiet = max(known.quiet, record.at + self.lease(record.sub))

    def on_replied(self, record: Replied) -> None:
        asked = self.requests[record.number]
        known = self._known.get(asked.sub)
        if known is None:
            return
        if asked.what == "claim":
            known.claims = max(0, known.claims - 1)
            if record.status == 409 and not known.claims:
                self._late(asked.sub, asked.at, f"a claim is still {record.code}")
            if record.status == 0:
                self._touch(known, asked.sub, record.at)
        elif is_accepted(record.status):
            self._accepted(known, asked, record)

    def _accepted(self, known: _Sub, asked: Asked, record: Replied) -> None:
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

    # -- the world ----------------------------------------------------------

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

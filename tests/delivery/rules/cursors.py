"""Rule 2: no wake lists an offset below an acknowledged one, and only acknowledgements move cursors."""

from typing import ClassVar, NamedTuple

from tests.delivery.history import (
    Answered,
    Answering,
    Damaged,
    Inspected,
    Linked,
    Record,
    Repaired,
    Requested,
    Responded,
    Stalled,
    StreamGone,
    Subscribed,
    Unsubscribed,
    Up,
)
from tests.delivery.rules.bounds import Bounds, Key
from tests.delivery.rules.rule import SLACK, Handover, Rule, is_accepted, life

SETTLED = 1.5  # seconds after which a running server must have processed an answer


class _Known(NamedTuple):
    """A lower bound of a cursor.

    Attributes:
        offset: the bound.
        at: the time from which the bound holds.
        generation: the generation of the wake that moved the cursor, or -1 if it is unknown.
    """

    offset: str
    at: float
    generation: int


class _Settling(NamedTuple):
    """A `done` answer that the server must have processed at the time `at`."""

    at: float
    number: int


class Cursors(Rule):
    """Rule 2: no wake lists an offset below an acknowledged one, and only acknowledgements move cursors."""

    lasting: ClassVar[tuple[str, ...]] = ("_how",)

    def __init__(self) -> None:
        super().__init__()
        self._bounds = Bounds()
        self._known: dict[Key, _Known] = {}
        self._settling: list[_Settling] = []
        self._how: dict[int, Answering] = {}
        self._touched: dict[str, float] = {}  # the last sure renewal of the lease of each wake
        self._newest: dict[str, int] = {}
        self._odd: set[str] = set()  # streams that were deleted or damaged at any time
        self._cut: set[str] = set()  # subscriptions whose news a repair may have removed

    def read(self, record: Record) -> None:
        if isinstance(record, Up):
            self._settling.clear()  # the server may have missed these answers while it was down
        ripe = [each for each in self._settling if each.at <= record.at]
        for each in ripe:
            self._settling.remove(each)
            self._settle(each)
        self._bounds.read(record)
        super().read(record)

    def on_linked(self, record: Linked) -> None:
        self._known[record.sub, record.path] = _Known(record.cursor, record.at, -1)

    def on_streamgone(self, record: StreamGone) -> None:
        self._forget_path(record.path)

    def on_repaired(self, record: Repaired) -> None:
        self._forget_path(record.path)

    def on_damaged(self, record: Damaged) -> None:
        self._cut |= {sub for sub in self.subs if record.path in self._bounds.paths(sub)}
        self._forget_path(record.path)

    def on_subscribed(self, record: Subscribed) -> None:
        self._forget_sub(record.sub)

    def on_unsubscribed(self, record: Unsubscribed) -> None:
        self._forget_sub(record.sub)

    def on_break(self, record: Record) -> None:
        self._settling.clear()  # the server may have missed these answers

    def on_stalled(self, record: Stalled) -> None:
        self._settling.clear()  # the stall may have delayed the server as much as the test

    # -- acknowledgements ---------------------------------------------------

    def on_responded(self, record: Responded) -> None:
        asked = self.requests[record.number]
        if not is_accepted(record.status) or asked.what == "claim":
            return
        self._touched[asked.wake_id] = asked.at
        if asked.done:
            self._settling = [
                each
                for each in self._settling
                if self.deliveries[each.number].wake_id != asked.wake_id
            ]
        for path, offset in asked.acks:
            self._learn((asked.sub, path), _Known(offset, record.at, asked.generation))

    def on_answering(self, record: Answering) -> None:
        self._how[record.number] = record

    def on_answered(self, record: Answered) -> None:
        how, delivery = self._how[record.number], self.deliveries[record.number]
        since = self._touched.get(delivery.wake_id, delivery.at)
        is_in_time = record.at < since + self.lease(delivery.sub) - 0.3
        is_newest = self._newest.get(delivery.sub) == delivery.generation
        is_received = how.is_open and not self.is_down
        if how.how == "done" and is_received and is_in_time and is_newest:
            self._settling.append(_Settling(record.at + SETTLED, record.number))

    def on_requested(self, record: Requested) -> None:
        if (
            record.done or record.what == "release"
        ):  # the wake may end before the server gets the answer
            self._settling = [
                each
                for each in self._settling
                if self.deliveries[each.number].wake_id != record.wake_id
            ]

    def _settle(self, settling: _Settling) -> None:
        delivery = self.deliveries[settling.number]
        for path, _, tail in delivery.snapshot:
            self._learn((delivery.sub, path), _Known(tail, settling.at, delivery.generation))

    def _learn(self, key: Key, known: _Known) -> None:
        before = self._known.get(key)
        if before is not None and known.offset > before.offset:
            self._known[key] = known

    # -- what the server reports --------------------------------------------

    def on_handover(self, handover: Handover) -> None:
        self._newest[handover.sub] = max(handover.generation, self._newest.get(handover.sub, 0))
        is_news = False
        for path, acked, tail in handover.snapshot:
            is_news |= acked < tail or path in self._odd
            self._check_lower_bound(handover, path, acked, tail)
            self._check_upper_bound(handover.sub, path, acked, handover.wake_id)
        if not is_news and handover.sub not in self._cut:
            self.found.append(f"{handover.sub}: wake {handover.wake_id} has no news")

    def on_inspected(self, record: Inspected) -> None:
        for path, acked in record.cursors:
            known = self._known.get((record.sub, path))
            if known is None or life(known.offset) != life(acked):
                continue
            if acked < known.offset and known.at < record.since:
                self.found.append(
                    f"{record.sub}: the cursor of {path} is shown at {acked}, after {known.offset}"
                )
            self._check_upper_bound(record.sub, path, acked, "the subscription")
            self._learn((record.sub, path), _Known(acked, record.at, -1))

    def _check_lower_bound(self, handover: Handover, path: str, acked: str, tail: str) -> None:
        known = self._known.get((handover.sub, path))
        if known is None or life(tail) != life(known.offset) or acked >= known.offset:
            return
        if handover.since is not None:
            is_later = known.at < handover.since
        else:
            is_next = 0 <= known.generation < handover.generation
            is_later = is_next or known.at + SLACK < handover.at
        if is_later:
            self.found.append(
                f"{handover.sub}: wake {handover.wake_id} tells of {path} from {acked}, "
                f"which was acknowledged up to {known.offset}"
            )

    def _check_upper_bound(self, sub: str, path: str, acked: str, where: str) -> None:
        bound = self._bounds.of(sub, path)
        if bound is not None and acked > bound and path not in self._odd:
            self.found.append(
                f"{sub}: {where} shows {path} acknowledged up to {acked}, "
                f"but nobody acknowledged more than {bound}"
            )

    # -- forgetting ---------------------------------------------------------

    def _forget_path(self, path: str) -> None:
        self._odd.add(path)
        self._known = {key: each for key, each in self._known.items() if key[1] != path}

    def _forget_sub(self, sub: str) -> None:
        self._known = {key: each for key, each in self._known.items() if key[0] != sub}
        self._newest.pop(sub, None)
        self._settling = [
            each for each in self._settling if self.deliveries[each.number].sub != sub
        ]

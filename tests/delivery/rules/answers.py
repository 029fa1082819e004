"""Rules 8 and 9: the server understands an answer or takes it for a failure, and waits as long as heartbeats renew the lease."""

from typing import ClassVar

from tests.delivery.history import Answered, Answering, Delivered, Record, Replied, Stalled, Up
from tests.delivery.rules.rule import Rule, Telling, is_accepted, life

MARGIN = 0.35  # seconds before the end of a lease in which anything may happen


class Answers(Rule):
    """See the module."""

    lasting: ClassVar[tuple[str, ...]] = ("_answering",)

    def __init__(self) -> None:
        super().__init__()
        self._whole: dict[int, bool] = {}  # whether the server ran since the delivery
        self._renewed: dict[str, float] = {}  # wakes by when they were last renewed
        self._odd: dict[str, tuple[str, Delivered]] = {}  # gzip and BOM answers, by subscription
        self._answering: dict[int, Answering] = {}
        self._newest: dict[str, int] = {}
        self._up_at = -MARGIN

    def on_up(self, record: Up) -> None:
        self._up_at = record.at

    def on_telling(self, telling: Telling) -> None:
        self._newest[telling.sub] = telling.generation
        if telling.since is None:
            # One that is seen right after a pause may have been sent before it, and its time was running.
            is_after_a_pause = telling.at < self._up_at + MARGIN
            self._whole[telling.number] = not self.is_down and not is_after_a_pause
        how, delivery = self._odd.pop(telling.sub, ("", None))
        if delivery is None or telling.wake_id == delivery.wake_id:
            return  # delivered again, as after any failure
        told = {path: acked for path, acked, _ in telling.told}
        for path, _, tail in delivery.told:
            acked = told.get(path)
            if acked is not None and life(acked) == life(tail) and acked < tail:
                self.found.append(
                    f"{telling.sub}: the {how} answer to {delivery.wake_id} was neither done nor failed"
                )
                return

    def on_break(self, record: Record) -> None:
        self._whole.clear()
        self._odd.clear()

    def on_stalled(self, record: Stalled) -> None:
        self._whole.clear()  # nobody knows when the lease began
        self._odd.clear()

    def on_unsubscribed(self, record: object) -> None:
        self._whole.clear()
        self._odd.clear()

    def on_replied(self, record: Replied) -> None:
        asked = self.requests[record.number]
        if is_accepted(record.status) and asked.what == "callback":
            self._renewed[asked.wake_id] = asked.at
            if asked.done:
                self._renewed[asked.wake_id] = -1e9  # the wake is over

    def on_answering(self, record: Answering) -> None:
        self._answering[record.number] = record
        delivery = self.deliveries[record.number]
        if not record.is_open and self._is_in_time(delivery, record.at):
            self.found.append(
                f"{delivery.sub}: the server cut the delivery of {delivery.wake_id} within its lease"
            )

    def on_answered(self, record: Answered) -> None:
        how, delivery = self._answering[record.number], self.deliveries[record.number]
        is_odd = how.how in ("gzip", "bom") and how.is_open
        if is_odd and self._is_in_time(delivery, record.at):
            self._odd[delivery.sub] = how.how, delivery

    def _is_in_time(self, delivery: Delivered, at: float) -> bool:
        since = self._renewed.get(delivery.wake_id, delivery.at)
        is_newest = self._newest.get(delivery.sub) == delivery.generation
        is_undisturbed = self._whole.get(delivery.number, False) and is_newest
        return is_undisturbed and at < since + self.lease(delivery.sub) - MARGIN

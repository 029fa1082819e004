"""Rules 8 and 9: the server treats an unusual answer as done or as a failure, and waits for the answer while the lease is renewed."""

from typing import ClassVar

from tests.delivery.history import Answered, Answering, Delivered, Record, Responded, Stalled, Up
from tests.delivery.rules.rule import Handover, Rule, is_accepted, life

MARGIN = 0.35  # seconds before the end of a lease in which the server may act as if it had ended


class Answers(Rule):
    """Rules 8 and 9: the server treats unusual answers as done or as failures, and keeps a delivery open while its lease lasts."""

    lasting: ClassVar[tuple[str, ...]] = ("_answering",)

    def __init__(self) -> None:
        super().__init__()
        self._unbroken: dict[
            int, bool
        ] = {}  # True if the server has run without a break since the delivery
        self._renewed: dict[str, float] = {}  # when the lease of each wake was last renewed
        self._odd: dict[str, tuple[str, Delivered]] = {}  # gzip and BOM answers, by subscription
        self._answering: dict[int, Answering] = {}
        self._newest: dict[str, int] = {}
        self._up_at = -MARGIN

    def on_up(self, record: Up) -> None:
        self._up_at = record.at

    def on_handover(self, handover: Handover) -> None:
        self._newest[handover.sub] = handover.generation
        if handover.since is None:
            # A delivery that arrives right after a pause may have been sent before the pause, so its lease may have begun earlier.
            is_after_a_pause = handover.at < self._up_at + MARGIN
            self._unbroken[handover.number] = not self.is_down and not is_after_a_pause
        how, delivery = self._odd.pop(handover.sub, ("", None))
        if delivery is None or handover.wake_id == delivery.wake_id:
            return  # the same wake again: the server has treated the answer as a failure
        cursors = {path: acked for path, acked, _ in handover.snapshot}
        for path, _, tail in delivery.snapshot:
            acked = cursors.get(path)
            if acked is not None and life(acked) == life(tail) and acked < tail:
                self.found.append(
                    f"{handover.sub}: the {how} answer to {delivery.wake_id} was neither done nor failed"
                )
                return

    def on_break(self, record: Record) -> None:
        self._unbroken.clear()
        self._odd.clear()

    def on_stalled(self, record: Stalled) -> None:
        self._unbroken.clear()  # the time at which the lease began is unknown
        self._odd.clear()

    def on_unsubscribed(self, record: object) -> None:
        self._unbroken.clear()
        self._odd.clear()

    def on_responded(self, record: Responded) -> None:
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
        is_undisturbed = self._unbroken.get(delivery.number, False) and is_newest
        return is_undisturbed and at < since + self.lease(delivery.sub) - MARGIN

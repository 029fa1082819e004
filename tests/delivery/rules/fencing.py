"""Rule 4: the server refuses the token of a wake that is over."""

from dataclasses import dataclass
from typing import ClassVar

from tests.delivery.history import (
    Answering,
    Record,
    Requested,
    Responded,
    Restored,
    Snapshot,
    Tail,
    Unsubscribed,
    Up,
)
from tests.delivery.rules.rule import Handover, Rule, is_accepted

MARGIN = 0.5  # seconds within which a lease must expire after its end
REFUSALS = (401, 404, 409)


@dataclass
class _Wake:
    """The state of one wake, as far as the history shows it.

    Attributes:
        over: the reason why the wake is over, or empty while it may not be over.
        touched: the latest time at which its lease may have been renewed.
        is_leased: True if a lease began at that time.
        is_sure: True if the lease continues after a kill of the server.
        in_flight: the number of requests without a response.
    """

    sub: str
    generation: int
    touched: float
    is_leased: bool = True
    is_sure: bool = False
    over: str = ""
    in_flight: int = 0


class Fencing(Rule):
    """Rule 4: the server refuses the token of a wake that is over."""

    lasting: ClassVar[tuple[str, ...]] = ("_snapshots", "_never")

    def __init__(self) -> None:
        super().__init__()
        self._wakes: dict[str, _Wake] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._never: set[str] = set()  # wakes that a restored directory cannot have
        self._tails: dict[str, str] = {}
        self._stale: dict[int, str] = {}
        self._is_restored = False

    # -- wakes --------------------------------------------------------------

    def on_handover(self, handover: Handover) -> None:
        self._snapshots.setdefault(handover.wake_id, handover.snapshot)
        for wake in self._wakes.values():
            if wake.sub == handover.sub and wake.generation < handover.generation and not wake.over:
                wake.over = f"generation {handover.generation} has been seen"
        wake = self._wakes.setdefault(
            handover.wake_id, _Wake(handover.sub, handover.generation, handover.at)
        )
        wake.touched = max(wake.touched, handover.at)
        wake.is_leased, wake.is_sure = True, handover.since is not None

    def on_answering(self, record: Answering) -> None:
        wake = self._wakes.get(self.deliveries[record.number].wake_id)
        if wake is None:
            return
        if record.how == "taken" and record.is_open:
            wake.touched = record.at
        elif not wake.is_sure:
            wake.is_leased = False  # the server may deliver the same wake again

    def on_unsubscribed(self, record: Unsubscribed) -> None:
        for wake in self._wakes.values():
            if wake.sub == record.sub and not wake.over:
                wake.over = "the subscription was deleted"

    def on_break(self, record: Record) -> None:
        for wake in self._wakes.values():
            wake.is_leased &= wake.is_sure

    # -- restored directories -----------------------------------------------

    def on_tail(self, record: Tail) -> None:
        self._tails[record.path] = record.offset

    def on_restored(self, record: Restored) -> None:
        self._is_restored = True

    def on_up(self, record: Up) -> None:
        """Finds the wakes whose snapshots have offsets that the restored directory lacks."""
        if not self._is_restored:
            return
        self._is_restored = False
        # This copy may have wakes that the copy restored before it lacked.
        self._never -= self._wakes.keys()
        for wake_id, snapshot in self._snapshots.items():
            is_ahead = any(tail > self._tails.get(path, "") for path, _, tail in snapshot)
            if wake_id not in self._wakes and is_ahead:
                self._never.add(wake_id)

    # -- requests -----------------------------------------------------------

    def on_requested(self, record: Requested) -> None:
        if record.what == "claim":
            return
        wake = self._wakes.get(record.wake_id)
        reason = self._why_stale(record, wake)
        if reason:
            self._stale[record.number] = reason
        if wake is not None:
            wake.in_flight += 1

    def on_responded(self, record: Responded) -> None:
        asked = self.requests[record.number]
        reason = self._stale.pop(record.number, "")
        if reason and record.status not in (0, 503, *REFUSALS):
            self.found.append(
                f"{asked.sub}: {asked.what} for wake {asked.wake_id} is answered with "
                f"{record.status}, but {reason}"
            )
        wake = self._wakes.get(asked.wake_id)
        if wake is None:
            return
        wake.in_flight = max(0, wake.in_flight - 1)
        if is_accepted(record.status) and (asked.done or asked.what == "release"):
            wake.over = f"request {record.number} has ended the wake"
        elif is_accepted(record.status) or record.status == 0:
            wake.touched = max(wake.touched, record.at)
            wake.is_leased = wake.is_leased or is_accepted(record.status)
            wake.is_sure |= is_accepted(record.status)

    def _why_stale(self, asked: Requested, wake: _Wake | None) -> str:
        if asked.wake_id in self._never:
            return "the restored directory cannot know this wake"
        if wake is None:
            return ""
        if wake.over or wake.in_flight or not wake.is_leased:
            return wake.over
        age = asked.at - wake.touched
        if age > self.lease(wake.sub) + MARGIN:
            return f"the lease was last renewed {age:.2f} s before"
        return ""

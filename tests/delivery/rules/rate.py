"""Rule 7: wakes that move no cursor, and deliveries that fail, are repeated with exponential backoff."""

from dataclasses import dataclass, field

from tests.delivery.history import (
    Answering,
    Record,
    Repaired,
    Requested,
    Responded,
    Stalled,
    StreamGone,
    Subscribed,
)
from tests.delivery.rules.rule import Handover, Rule, is_accepted

MOST = 4  # maximum handovers without progress in one second
JITTER = 0.8  # the smallest factor by which jitter shortens a backoff
LONGEST = 60.0  # seconds of the longest backoff without jitter
#: Seconds by which the first of two deliveries may take longer to arrive than the second.
UNDER_WAY = 0.5


@dataclass
class _Streak:
    """The handovers of one subscription since the last time that a cursor may have moved.

    Attributes:
        begins: the times of the handovers.
        wakes: the ids of their wakes.
        failures: how many times in a row the same wake has failed.
        failed_at: the time of the last failure.
        is_mixed: True if the streak contains failures, so that the times between its wakes also include the backoff after failures.
    """

    begins: list[float] = field(default_factory=list)
    wakes: list[str] = field(default_factory=list)
    failures: int = 0
    failed_at: float = 0.0
    is_mixed: bool = False


class Rate(Rule):
    """Rule 7: wakes that move no cursor, and deliveries that fail, are repeated with exponential backoff."""

    def __init__(self) -> None:
        super().__init__()
        self._streaks: dict[str, _Streak] = {}
        self._acked: dict[str, dict[str, str]] = {}

    def on_handover(self, handover: Handover) -> None:
        self._acked[handover.wake_id] = {path: acked for path, acked, _ in handover.snapshot}
        streak = self._streaks.setdefault(handover.sub, _Streak())
        is_retry = bool(streak.wakes) and streak.wakes[-1] == handover.wake_id
        streak.begins.append(handover.at)
        streak.wakes.append(handover.wake_id)
        times = streak.begins
        if len(times) > MOST and times[-1] - times[-1 - MOST] < 1.0:
            self.found.append(f"{handover.sub}: {MOST + 1} wakes without progress in a second")
        if is_retry and streak.failures:
            self._check_backoff_after_failure(handover, streak)
        elif handover.since is None and len(times) > 2 and not streak.is_mixed:
            self._check_backoff_without_progress(handover, streak)
        if not is_retry:
            streak.failures = 0

    def on_answering(self, record: Answering) -> None:
        delivery = self.deliveries[record.number]
        streak = self._streaks.setdefault(delivery.sub, _Streak())
        if record.how in ("done", "gzip", "bom"):
            self._streaks[delivery.sub] = _Streak()
        elif self.is_down or not record.is_open:
            return
        elif record.how != "taken" and streak.wakes[-1:] == [delivery.wake_id]:
            streak.failures += 1
            streak.failed_at = record.at
            streak.is_mixed = True

    def on_requested(self, record: Requested) -> None:
        streak = self._streaks.get(record.sub)
        if streak is not None and record.what != "claim":
            streak.failures = 0
        acked = self._acked.get(record.wake_id, {})
        if any(offset > acked.get(path, "") for path, offset in record.acks):
            self._streaks.pop(record.sub, None)

    def on_responded(self, record: Responded) -> None:
        """Ends the streak after an accepted acknowledgement, because the wake may have been repeated before its response came."""
        asked = self.requests[record.number]
        acked = self._acked.get(asked.wake_id, {})
        if is_accepted(record.status) and any(
            offset > acked.get(path, "") for path, offset in asked.acks
        ):
            self._streaks.pop(asked.sub, None)

    def on_break(self, record: Record) -> None:
        self._streaks.clear()

    def on_subscribed(self, record: Subscribed) -> None:
        self._streaks.pop(record.sub, None)

    def on_streamgone(self, record: StreamGone) -> None:
        self._streaks.clear()  # a wake may end without progress if its stream is deleted

    def on_repaired(self, record: Repaired) -> None:
        self._streaks.clear()

    def on_stalled(self, record: Stalled) -> None:
        for streak in self._streaks.values():
            streak.is_mixed = True

    def _check_backoff_after_failure(self, handover: Handover, streak: _Streak) -> None:
        least = JITTER * min(LONGEST, 2.0 ** (streak.failures - 1)) - 0.05
        passed = handover.at - streak.failed_at
        if passed < least:
            self.found.append(
                f"{handover.sub}: {handover.wake_id} came again {passed:.2f} s after failure "
                f"{streak.failures}, not {least:.2f} s"
            )

    def _check_backoff_without_progress(self, handover: Handover, streak: _Streak) -> None:
        least = JITTER * min(LONGEST, 2.0 ** (len(streak.begins) - 3)) - UNDER_WAY
        passed = streak.begins[-1] - streak.begins[-2]
        if passed < least:
            self.found.append(
                f"{handover.sub}: {handover.wake_id}, number {len(streak.begins)} without progress, "
                f"came {passed:.2f} s after the one before, not {least:.2f} s"
            )

"""Rule 7: wakes that move no cursor, and deliveries that fail, come ever more slowly."""

from dataclasses import dataclass, field

from tests.delivery.history import (
    Answering,
    Asked,
    Gone,
    Record,
    Repaired,
    Replied,
    Stalled,
    Subscribed,
)
from tests.delivery.rules.rule import Rule, Telling, is_accepted

MOST = 4  # tellings without progress in one second
JITTER = 0.8
LONGEST = 60.0
UNDER_WAY = 0.5  # seconds by which one delivery may have been under way longer than the next


@dataclass
class _Streak:
    """The tellings of one subscription since a cursor can have moved.

    Attributes:
        begins: when each came.
        wakes: the wake of each.
        failures: how many answers in a row were failures of one wake.
        failed_at: when the last of them was given.
        is_mixed: whether there were failures besides fruitless wakes.
    """

    begins: list[float] = field(default_factory=list)
    wakes: list[str] = field(default_factory=list)
    failures: int = 0
    failed_at: float = 0.0
    is_mixed: bool = False


class Rate(Rule):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._streaks: dict[str, _Streak] = {}
        self._acked: dict[str, dict[str, str]] = {}

    def on_telling(self, telling: Telling) -> None:
        self._acked[telling.wake_id] = {path: acked for path, acked, _ in telling.told}
        streak = self._streaks.setdefault(telling.sub, _Streak())
        is_retry = bool(streak.wakes) and streak.wakes[-1] == telling.wake_id
        streak.begins.append(telling.at)
        streak.wakes.append(telling.wake_id)
        times = streak.begins
        if len(times) > MOST and times[-1] - times[-1 - MOST] < 1.0:
            self.found.append(f"{telling.sub}: {MOST + 1} wakes without progress in a second")
        if is_retry and streak.failures:
            self._after_failure(telling, streak)
        elif telling.since is None and len(times) > 2 and not streak.is_mixed:
            self._after_fruitless(telling, streak)
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

    def on_asked(self, record: Asked) -> None:
        streak = self._streaks.get(record.sub)
        if streak is not None and record.what != "claim":
            streak.failures = 0
        told = self._acked.get(record.wake_id, {})
        if any(offset > told.get(path, "") for path, offset in record.acks):
            self._streaks.pop(record.sub, None)

    def on_replied(self, record: Replied) -> None:
        """A wake may come again between an acknowledgement and its answer. What moved then is progress of that wake."""
        asked = self.requests[record.number]
        told = self._acked.get(asked.wake_id, {})
        if is_accepted(record.status) and any(
            offset > told.get(path, "") for path, offset in asked.acks
        ):
            self._streaks.pop(asked.sub, None)

    def on_break(self, record: Record) -> None:
        self._streaks.clear()

    def on_subscribed(self, record: Subscribed) -> None:
        self._streaks.pop(record.sub, None)

    def on_gone(self, record: Gone) -> None:
        self._streaks.clear()  # news that is gone with its stream is no lack of progress

    def on_repaired(self, record: Repaired) -> None:
        self._streaks.clear()

    def on_stalled(self, record: Stalled) -> None:
        for streak in self._streaks.values():
            streak.is_mixed = True

    def _after_failure(self, telling: Telling, streak: _Streak) -> None:
        least = JITTER * min(LONGEST, 2.0 ** (streak.failures - 1)) - 0.05
        passed = telling.at - streak.failed_at
        if passed < least:
            self.found.append(
                f"{telling.sub}: {telling.wake_id} came again {passed:.2f} s after failure "
                f"{streak.failures}, not {least:.2f} s"
            )

    def _after_fruitless(self, telling: Telling, streak: _Streak) -> None:
        least = JITTER * min(LONGEST, 2.0 ** (len(streak.begins) - 3)) - UNDER_WAY
        passed = streak.begins[-1] - streak.begins[-2]
        if passed < least:
            self.found.append(
                f"{telling.sub}: {telling.wake_id}, number {len(streak.begins)} without progress, "
                f"came {passed:.2f} s after the one before, not {least:.2f} s"
            )

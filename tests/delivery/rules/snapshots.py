"""Rule 3: a wake id always has the same generation and snapshot, and the generations of a subscription never decrease."""

from typing import ClassVar

from tests.delivery.history import Restored, Snapshot, Subscribed
from tests.delivery.rules.rule import SLACK, Handover, Rule


class Snapshots(Rule):
    """Rule 3: a wake id always has the same generation and snapshot, and the generations of a subscription never decrease."""

    lasting: ClassVar[tuple[str, ...]] = ("_wakes",)

    def __init__(self) -> None:
        super().__init__()
        self._wakes: dict[str, tuple[str, int, Snapshot]] = {}
        self._newest: dict[str, tuple[int, float]] = {}
        self._names: dict[tuple[str, int], str] = {}

    def on_subscribed(self, record: Subscribed) -> None:
        self._newest.pop(record.sub, None)
        self._names = {key: each for key, each in self._names.items() if key[0] != record.sub}

    def on_restored(self, record: Restored) -> None:
        self._names.clear()  # the server may give the wakes in flight new ids

    def on_handover(self, handover: Handover) -> None:
        shown = handover.sub, handover.generation, tuple(sorted(handover.snapshot))
        known = self._wakes.setdefault(handover.wake_id, shown)
        if known != shown:
            self.found.append(f"wake {handover.wake_id} was {known} and is {shown}")
        name = self._names.setdefault((handover.sub, handover.generation), handover.wake_id)
        if name != handover.wake_id:
            self.found.append(
                f"{handover.sub}: generation {handover.generation} is {name} and {handover.wake_id}"
            )
        self._check_generation(handover)

    def _check_generation(self, handover: Handover) -> None:
        newest, at = self._newest.get(handover.sub, (-1, 0.0))
        made = handover.at - SLACK if handover.since is None else handover.since
        if handover.generation < newest and at < made:
            self.found.append(
                f"{handover.sub}: generation {handover.generation} comes after {newest}"
            )
        if handover.generation > newest:
            self._newest[handover.sub] = handover.generation, handover.at

"""Rule 3: one wake id has one generation and one snapshot, for ever; generations only grow."""

from typing import ClassVar

from tests.delivery.history import Restored, Subscribed, Told
from tests.delivery.rules.rule import SLACK, Rule, Telling


class Snapshots(Rule):
    """See the module."""

    lasting: ClassVar[tuple[str, ...]] = ("_wakes",)

    def __init__(self) -> None:
        super().__init__()
        self._wakes: dict[str, tuple[str, int, Told]] = {}
        self._newest: dict[str, tuple[int, float]] = {}
        self._names: dict[tuple[str, int], str] = {}

    def on_subscribed(self, record: Subscribed) -> None:
        self._newest.pop(record.sub, None)
        self._names = {key: each for key, each in self._names.items() if key[0] != record.sub}

    def on_restored(self, record: Restored) -> None:
        self._names.clear()  # the server may name anew what was in flight

    def on_telling(self, telling: Telling) -> None:
        shown = telling.sub, telling.generation, tuple(sorted(telling.told))
        known = self._wakes.setdefault(telling.wake_id, shown)
        if known != shown:
            self.found.append(f"wake {telling.wake_id} was {known} and is {shown}")
        name = self._names.setdefault((telling.sub, telling.generation), telling.wake_id)
        if name != telling.wake_id:
            self.found.append(
                f"{telling.sub}: generation {telling.generation} is {name} and {telling.wake_id}"
            )
        self._only_grows(telling)

    def _only_grows(self, telling: Telling) -> None:
        newest, at = self._newest.get(telling.sub, (-1, 0.0))
        made = telling.at - SLACK if telling.since is None else telling.since
        if telling.generation < newest and at < made:
            self.found.append(
                f"{telling.sub}: generation {telling.generation} comes after {newest}"
            )
        if telling.generation > newest:
            self._newest[telling.sub] = telling.generation, telling.at

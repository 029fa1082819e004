"""The workers of a pull-wake subscription: one thread that plays two workers in turn."""

import random
import threading
from collections.abc import Callable

from tests.delivery.asking import Asker
from tests.delivery.world import Grant

POLL = 0.2  # seconds between two claims


class Workers(threading.Thread):
    """Claims and works until the trial is over.

    Args:
        sub: the subscription.
        seed: what decides how a claim is worked on.
    """

    def __init__(self, asker: Asker, sub: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._asker = asker
        self._sub = sub
        self._seed = seed
        self._chance = random.Random(f"{seed} {sub}")
        self._fruitless = 0

    def run(self) -> None:
        asker = self._asker
        claims = 0
        while not asker.over.is_set():
            asker.sleep(POLL)
            if not asker.server.is_up or self._sub not in asker.world.subs:
                continue
            grant = asker.claim(self._sub, f"worker-{claims % 2}")
            if grant is None:
                continue
            claims += 1
            if asker.calm.is_set():
                self._whole(grant)
            else:
                self._next(grant)

    def _next(self, grant: Grant) -> None:
        ways: dict[Callable[[Grant], None], float] = {
            self._whole: 4,
            self._part: 3,
            self._beats: 2,
            self._repeats: 2,
            self._rivals: 2,
        }
        fruitless: dict[Callable[[Grant], None], float] = {
            self._releases: 2,
            self._does_nothing: 2,
            self._vanishes: 1.5,
        }
        if self._fruitless < 3:
            ways |= fruitless
        way = self._chance.choices(list(ways), list(ways.values()))[0]
        self._fruitless = self._fruitless + 1 if way in fruitless else 0
        way(grant)

    def _whole(self, grant: Grant) -> None:
        self._asker.read(grant)
        self._asker.acknowledge(grant, self._asker.whole(grant), True)

    def _part(self, grant: Grant) -> None:
        self._asker.acknowledge(grant, self._asker.part(grant, self._chance), True)

    def _beats(self, grant: Grant) -> None:
        """Works for longer than the lease, with heartbeats."""
        asker = self._asker
        for _ in range(self._chance.randint(1, 3)):
            asker.sleep(0.5)
            acks = asker.part(grant, self._chance) if self._chance.random() < 0.5 else ()
            if asker.acknowledge(grant, acks, False).status != 200:
                return
        asker.claim(self._sub, "rival")
        self._whole(grant)

    def _repeats(self, grant: Grant) -> None:
        """Uses the token once more after the end."""
        self._whole(grant)
        if self._chance.random() < 0.5:
            self._asker.release(grant)
        else:
            self._asker.acknowledge(grant, self._asker.whole(grant), self._chance.random() < 0.5)

    def _rivals(self, grant: Grant) -> None:
        """Another worker claims while this one holds the lease."""
        self._asker.claim(self._sub, "rival")
        self._asker.sleep(0.3)
        self._whole(grant)

    def _releases(self, grant: Grant) -> None:
        self._asker.release(grant)

    def _does_nothing(self, grant: Grant) -> None:
        self._asker.acknowledge(grant, (), True)

    def _vanishes(self, grant: Grant) -> None:
        """Is not heard of until the lease is over, and then acknowledges in vain; a rival tries to claim meanwhile."""
        asker = self._asker
        asker.sleep(self._chance.uniform(0.2, 0.8))
        rival = asker.claim(self._sub, "rival")
        if self._chance.random() < 0.6:
            asker.sleep(1.4)
            asker.acknowledge(grant, asker.whole(grant), True)
        if rival is not None:
            self._whole(rival)

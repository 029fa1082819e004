"""The workers of a pull-wake subscription. One thread plays two workers in turn."""

import random
import threading
from collections.abc import Callable

from tests.delivery.requester import Requester
from tests.delivery.world import Grant

POLL = 0.2  # seconds between two claims


class Workers(threading.Thread):
    """Claims wakes and processes them until the trial is over.

    Args:
        requester: sends the requests.
        sub: the id of the subscription.
        seed: determines what the workers do with each claim.
    """

    def __init__(self, requester: Requester, sub: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._requester = requester
        self._sub = sub
        self._seed = seed
        self._chance = random.Random(f"{seed} {sub}")
        self._fruitless = 0

    def run(self) -> None:
        """Polls for wakes, because the claims must not depend on the wake stream."""
        requester = self._requester
        claims = 0
        while not requester.over.is_set():
            requester.sleep(POLL)
            if not requester.server.is_up or self._sub not in requester.world.subs:
                continue
            grant = requester.claim(self._sub, f"worker-{claims % 2}")
            if grant is None:
                continue
            claims += 1
            if requester.calm.is_set():
                self._acknowledge_all(grant)
            else:
                self._work(grant)

    def _work(self, grant: Grant) -> None:
        """Processes a claim in a random way."""
        ways: dict[Callable[[Grant], None], float] = {
            self._acknowledge_all: 4,
            self._acknowledge_some: 3,
            self._send_heartbeats: 2,
            self._reuse_token: 2,
            self._compete: 2,
        }
        fruitless: dict[Callable[[Grant], None], float] = {
            self._release: 2,
            self._end_without_progress: 2,
            self._disappear: 1.5,
        }
        if self._fruitless < 3:
            ways |= fruitless
        way = self._chance.choices(list(ways), list(ways.values()))[0]
        self._fruitless = self._fruitless + 1 if way in fruitless else 0
        way(grant)

    def _acknowledge_all(self, grant: Grant) -> None:
        self._requester.read(grant)
        self._requester.acknowledge(grant, self._requester.all_acks(grant), True)

    def _acknowledge_some(self, grant: Grant) -> None:
        self._requester.acknowledge(grant, self._requester.some_acks(grant, self._chance), True)

    def _send_heartbeats(self, grant: Grant) -> None:
        """Renews the lease up to three times, and then acknowledges everything."""
        requester = self._requester
        for _ in range(self._chance.randint(1, 3)):
            requester.sleep(0.5)
            acks = requester.some_acks(grant, self._chance) if self._chance.random() < 0.5 else ()
            if requester.acknowledge(grant, acks, False).status != 200:
                return
        requester.claim(self._sub, "rival")
        self._acknowledge_all(grant)

    def _reuse_token(self, grant: Grant) -> None:
        """Acknowledges everything, and then uses the token again."""
        self._acknowledge_all(grant)
        if self._chance.random() < 0.5:
            self._requester.release(grant)
        else:
            self._requester.acknowledge(
                grant, self._requester.all_acks(grant), self._chance.random() < 0.5
            )

    def _compete(self, grant: Grant) -> None:
        """Acknowledges everything, after another worker has tried to claim the wake."""
        self._requester.claim(self._sub, "rival")
        self._requester.sleep(0.3)
        self._acknowledge_all(grant)

    def _release(self, grant: Grant) -> None:
        self._requester.release(grant)

    def _end_without_progress(self, grant: Grant) -> None:
        self._requester.acknowledge(grant, (), True)

    def _disappear(self, grant: Grant) -> None:
        """Waits while another worker tries to claim the wake. Acknowledges after the lease has expired, or never."""
        requester = self._requester
        requester.sleep(self._chance.uniform(0.2, 0.8))
        rival = requester.claim(self._sub, "rival")
        if self._chance.random() < 0.6:
            requester.sleep(1.4)
            requester.acknowledge(grant, requester.all_acks(grant), True)
        if rival is not None:
            self._acknowledge_all(rival)

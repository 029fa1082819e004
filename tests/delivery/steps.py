"""The random steps of a trial that are not faults: clients change streams and subscriptions, and send old tokens."""

import random
from collections.abc import Iterator, Sequence

from tests.delivery.clients import Clients
from tests.delivery.requester import Requester
from tests.delivery.world import Sub

PATHS = ("s/a", "s/b", "s/c", "t/a", "t/b", "s/d")
PATTERNS = ("s/*", "s/*", "*/a", "**", "")


def draw_subs(chance: random.Random, patterns: Sequence[str] = PATTERNS) -> Iterator[Sub]:
    """Yields one to four random subscriptions, each with one of the patterns."""
    for number in range(chance.randint(1, 4)):
        kind = chance.choice(("webhook", "webhook", "pull-wake"))
        pattern = chance.choice(patterns)
        count = 0 if pattern == "**" or (pattern and chance.random() < 0.6) else 2
        streams = tuple(sorted(chance.sample(PATHS, count)))
        lease = chance.choice((1.0, 1.0, 1.0, 1.5))
        yield Sub(f"{kind[0]}{number}", kind, pattern, streams, lease)


class Steps:
    """Takes random steps.

    Args:
        requester: sends the requests of workers and receivers, and holds the world.
        clients: change streams and subscriptions.
        chance: makes all choices.

    Attributes:
        renewed: the subscriptions that were deleted and created again.
    """

    def __init__(self, requester: Requester, clients: Clients, chance: random.Random) -> None:
        self._requester = requester
        self._world = requester.world
        self._clients = clients
        self._chance = chance
        self.renewed: set[str] = set()

    def append(self) -> None:
        """Appends up to four times."""
        for _ in range(self._chance.choice((1, 1, 2, 4))):
            self._clients.append(self._chance.choice(sorted(self._world.streams)), self._chance)

    def create(self) -> None:
        """Creates a stream that does not exist, if there is one."""
        missing = [path for path in PATHS if path not in self._world.streams]
        if missing:
            body = self._chance.choice((b"", b"first"))
            self._clients.create(self._chance.choice(missing), body)

    def delete(self) -> None:
        """Deletes a stream that has nothing to do with a fork, but not the last one."""
        paths = [path for path, each in self._world.streams.items() if not each.is_fork]
        if len(paths) > 1:
            self._clients.delete(self._chance.choice(sorted(paths)))

    def fork(self) -> None:
        """Forks a stream, if one of the two forks does not exist."""
        sources = [path for path, each in self._world.streams.items() if not each.is_damaged]
        name = f"s/fork{self._chance.randint(0, 1)}"
        if sources and name not in self._world.streams:
            self._clients.create(name, source=self._chance.choice(sorted(sources)))

    def resubscribe(self) -> None:
        """Deletes a subscription, and creates it again."""
        if self._world.subs:
            sub = self._chance.choice(sorted(self._world.subs))
            self.renewed.add(sub)
            self._clients.resubscribe(self._world.subs[sub])

    def reuse_token(self) -> None:
        """Sends a request with a random token from the whole trial."""
        with self._world.lock:
            grants = list(self._world.grants)
        if grants:
            grant = self._chance.choice(grants[-self._chance.choice((5, 1000)) :])
            if grant.kind == "pull-wake" and self._chance.random() < 0.3:
                self._requester.release(grant)
            else:
                acks = self._requester.all_acks(grant)
                self._requester.acknowledge(grant, acks, self._chance.random() < 0.5)

    def inspect(self) -> None:
        """Requests the documents of all subscriptions."""
        for sub in list(self._world.subs.values()):
            self._clients.inspect(sub)

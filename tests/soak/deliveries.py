"""The part of a soak that uses subscriptions: the clients, workers and receivers of the delivery trials, judged by their rules.

The rules that a soak applies are those that do not depend on how fast the server is: nothing is lost, cursors never go back, one wake has
one snapshot, and tokens of wakes that are over are refused.
"""

import contextlib
import random
import threading

from tests.crash.clients import ask
from tests.delivery.clients import Clients
from tests.delivery.history import Down, Failure, History, Up
from tests.delivery.judge import judge
from tests.delivery.receiver import Receiver, receiving
from tests.delivery.requester import Requester, until
from tests.delivery.steps import PATHS, Steps, draw_subs
from tests.delivery.trial import recording_stalls
from tests.delivery.workers import Workers
from tests.delivery.world import World
from tests.soak.remote import Connection, Remote

#: No pattern matches the streams of the other clients, which delivery trials do not know.
PATTERNS = ("s/*", "s/*", "*/a", "")
RULES = ("trial", "cursors", "snapshots", "fencing")
#: Seconds within which everything must be acknowledged at the end, on a busy machine.
SETTLES = 60.0


class Deliveries:
    """Subscriptions, their workers and their receivers.

    Args:
        remote: the server.
        seed: determines all choices.
    """

    def __init__(self, remote: Remote, seed: int) -> None:
        self._remote = remote
        self._chance = random.Random(seed)
        self._history = History()
        self._world = World()
        self._requester = Requester(remote, self._world, self._history)
        self._stack = contextlib.ExitStack()
        hook = self._stack.enter_context(receiving(Receiver(self._requester, seed)))
        self._stack.enter_context(recording_stalls(self._history, self._requester.over))
        self._clients = Clients(self._requester, hook)
        self._steps = Steps(self._requester, self._clients, self._chance)
        #: Held during a step, because the rules need to know what happened before a restart.
        self._stepping = threading.Lock()
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        """Creates streams and subscriptions, and starts workers."""
        self._history.add(Up)
        for path in PATHS[:4]:
            self._clients.create(path)
        subs = list(draw_subs(self._chance, PATTERNS))
        for sub in subs:
            self._clients.subscribe(sub)
            if sub.kind == "pull-wake":
                Workers(self._requester, sub.id, seed).start()

    def go_down(self, why: str) -> None:
        """Waits for the end of the present step, and records that the server goes down."""
        self._stepping.acquire()
        self._history.add(Down, why=why)

    def come_up(self) -> None:
        """Asks for the tails of all streams, and goes on."""
        self._clients.refresh()
        self._history.add(Up)
        self._stepping.release()

    def run(self) -> None:
        """Takes steps until the clients must stop."""
        steps = self._steps
        ways = {
            steps.append: 20,
            steps.create: 1.0,
            steps.delete: 0.5,
            steps.fork: 0.5,
            steps.resubscribe: 0.3,
            steps.reuse_token: 1,
            steps.inspect: 1,
        }
        while self._remote.goes_on:
            with self._stepping:
                self._chance.choices(list(ways), list(ways.values()))[0]()
            self._remote.count("steps with subscriptions")
            self._remote.sleep(self._chance.choice((0, 0.02, 0.1, 0.3)))

    def finish(self, connection: Connection) -> None:
        """Waits until everything is acknowledged, applies the rules, and deletes everything."""
        self._requester.calm.set()
        if not until(lambda: not self._clients.unsettled(), SETTLES, 0.25):
            self._history.add(Failure, what=f"never acknowledged: {self._clients.unsettled()}")
        self._requester.over.set()
        self._stack.close()
        for violation in judge(list(self._history.records), RULES)[:5]:
            self._remote.faults.append(f"deliveries, {violation.rule}: {violation.text}")
        self._remote.count("records of deliveries", len(self._history.records))
        root = "/v1/stream"
        subscriptions = [f"{root}/__ds/subscriptions/{id_}" for id_ in self._world.subs]
        wakes = [f"{root}/w/{id_}" for id_ in self._world.subs]
        for path in (*subscriptions, *(f"{root}/{path}" for path in self._world.streams), *wakes):
            status, body = ask(connection, "DELETE", path)
            assert status in (200, 204, 404, 410), (path, body)

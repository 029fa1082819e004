"""Runs one trial: a server with clients, workers, a receiver and faults. A seed determines all choices."""

import contextlib
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.delivery.clients import Clients
from tests.delivery.faults import Faults
from tests.delivery.history import Failure, History, Record, Stalled, Up
from tests.delivery.receiver import Receiver, receiving
from tests.delivery.requester import Requester, until
from tests.delivery.server import Launcher, Server
from tests.delivery.steps import PATHS, Steps, draw_subs
from tests.delivery.workers import Workers
from tests.delivery.world import World

MEMORY = Path("/dev/shm")
#: Seconds within which everything must be acknowledged after the last fault.
SETTLES = 20.0
#: Seconds within which everything else must be acknowledged if a stream is damaged. The news of a damaged stream cannot be
#: acknowledged, so the backoff between wakes grows.
SETTLES_BESIDE_DAMAGE = 60.0
#: Seconds by which a thread must run late before the machine counts as busy.
STALL = 0.1


class Trial:
    """Runs one trial and records its history.

    Args:
        seed: determines every choice, but not the timing.
        launcher: starts the server.
        place: an empty directory.
    """

    def __init__(self, seed: int, launcher: Launcher, place: Path) -> None:
        self._seed = seed
        self._chance = random.Random(seed)
        self._history = History()
        self._world = World()
        self._server = Server(launcher, place, self._history)
        self._requester = Requester(self._server, self._world, self._history)

    def run(self) -> list[Record]:
        """Runs the trial, and returns its history."""
        with (
            receiving(Receiver(self._requester, self._seed)) as hook,
            recording_stalls(self._history, self._requester.over),
            contextlib.closing(self._server),
        ):
            try:
                self._run_steps(hook)
            except AssertionError as error:
                self._history.add(Failure, what=str(error))
            finally:
                self._requester.over.set()
        return list(self._history.records)

    def _run_steps(self, hook: str) -> None:
        """Creates streams and subscriptions, runs random steps, and waits until everything is acknowledged."""
        self._clients = clients = Clients(self._requester, hook)
        self._faults = Faults(self._server, self._requester, clients, self._chance)
        self._steps = Steps(self._requester, clients, self._chance)
        self._server.start()
        self._history.add(Up)
        for path in PATHS[: self._chance.randint(2, 4)]:
            clients.create(path)
        subs = list(draw_subs(self._chance))
        for sub in subs:
            clients.subscribe(sub)
        workers = [
            Workers(self._requester, s.id, self._seed) for s in subs if s.kind == "pull-wake"
        ]
        for worker in workers:
            worker.start()
        for number in range(self._chance.randint(12, 20)):
            # The number of choices in a step may depend on the timing, so each step has a seed of its own.
            self._chance.seed(f"{self._seed} {number}")
            self._step()
            time.sleep(self._chance.choice((0, 0.02, 0.1, 0.3, 0.6)))  # the server works meanwhile
        self._settle()

    # -- steps --------------------------------------------------------------

    def _step(self) -> None:
        """Runs one random step."""
        ways: dict[Callable[[], None], float] = {
            self._steps.append: 10,
            self._steps.create: 1.5,
            self._steps.delete: 0.7,
            self._steps.fork: 0.5,
            self._steps.resubscribe: 0.7,
            self._steps.reuse_token: 2.5,
            self._steps.inspect: 2,
            self._faults.cause_one: 6,
        }
        self._chance.choices(list(ways), list(ways.values()))[0]()
        if self._faults.is_restored:
            self._faults.is_restored = False
            # The server must refuse tokens from before the restore for any other wake.
            for _ in range(3):
                self._steps.reuse_token()
                self._steps.append()

    def _is_damaged(self) -> bool:
        return any(each.is_damaged for each in self._world.streams.values())

    # -- the end ------------------------------------------------------------

    def _settle(self) -> None:
        """Stops causing faults, and waits until everything is acknowledged."""
        if self._chance.random() < 0.5 and self._is_damaged():
            self._faults.repair()
        self._steps.append()
        self._requester.calm.set()
        seconds = SETTLES_BESIDE_DAMAGE if self._is_damaged() else SETTLES
        if not until(lambda: not self._clients.unsettled(), seconds, 0.25):
            self._history.add(Failure, what=f"1 never acknowledged: {self._clients.unsettled()}")
        elif self._chance.random() < 0.25:
            time.sleep(1.3)  # longer than a lease, in which no further delivery may come
        for sub in self._world.subs.values():
            if sub.kind == "pull-wake" and sub.id not in self._steps.renewed:
                self._clients.check_events(sub)
        if trace := self._server.last_traceback():
            self._history.add(Failure, what=f"the server has logged a traceback: {trace}")


@contextlib.contextmanager
def recording_stalls(history: History, over: threading.Event) -> Iterator[None]:
    """Records when the machine is so busy that threads run late."""

    def watch() -> None:
        while not over.is_set():
            began = time.monotonic()
            over.wait(0.05)
            late = time.monotonic() - began - 0.05
            if late > STALL:
                history.add(Stalled, seconds=late)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    thread.join()


def run(seed: int, launcher: Launcher) -> list[Record]:
    """Runs the trial of a seed in a temporary directory, and returns its history."""
    place = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    try:
        return Trial(seed, launcher, place).run()
    finally:
        shutil.rmtree(place, ignore_errors=True)

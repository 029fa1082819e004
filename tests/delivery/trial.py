"""One trial: a server, its clients, workers, a receiver and faults, all drawn from a seed; it returns the history."""

import contextlib
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.delivery.asking import Asker, until
from tests.delivery.clients import Clients
from tests.delivery.faults import Faults
from tests.delivery.history import History, Record, Stalled, Up, Wrong
from tests.delivery.receiver import Receiver, receiving
from tests.delivery.server import Launcher, Server
from tests.delivery.workers import Workers
from tests.delivery.world import Sub, World

MEMORY = Path("/dev/shm")
PATHS = ("s/a", "s/b", "s/c", "t/a", "t/b", "s/d")
SETTLES = 20.0  # seconds until everything is acknowledged once the faults are over
SETTLES_BESIDE_DAMAGE = 60.0  # as a damaged stream keeps its news, wakes come ever more slowly
STALL = 0.1  # seconds; less is no excuse for being late


class Trial:
    """See the module.

    Args:
        seed: decides every choice, but not the timing.
        launcher: starts the server.
        place: an empty directory.
    """

    def __init__(self, seed: int, launcher: Launcher, place: Path) -> None:
        self._seed = seed
        self._chance = random.Random(seed)
        self._history = History()
        self._world = World()
        self._server = Server(launcher, place, self._history)
        self._renewed: set[str] = set()  # subscriptions that were made again
        self._asker = Asker(self._server, self._world, self._history)

    def run(self) -> list[Record]:
        """Runs the trial."""
        with (
            receiving(Receiver(self._asker, self._seed)) as hook,
            watching(self._history, self._asker.over),
            contextlib.closing(self._server),
        ):
            try:
                self._go(hook)
            except AssertionError as error:
                self._history.add(Wrong, what=str(error))
            finally:
                self._asker.over.set()
        return list(self._history.records)

    def _go(self, hook: str) -> None:
        self._clients = clients = Clients(self._asker, hook)
        self._faults = Faults(self._asker, clients, self._chance)
        self._server.start()
        self._history.add(Up)
        for path in PATHS[: self._chance.randint(2, 4)]:
            clients.create(path)
        subs = list(self._draw_subs())
        for sub in subs:
            clients.subscribe(sub)
        workers = [Workers(self._asker, s.id, self._seed) for s in subs if s.kind == "pull-wake"]
        for worker in workers:
            worker.start()
        for number in range(self._chance.randint(12, 20)):
            # What a step draws may depend on the time; the next step must not.
            self._chance.seed(f"{self._seed} {number}")
            self._step()
            time.sleep(self._chance.choice((0, 0.02, 0.1, 0.3, 0.6)))
        self._settle()

    def _draw_subs(self) -> Iterator[Sub]:
        for number in range(self._chance.randint(1, 4)):
            kind = self._chance.choice(("webhook", "webhook", "pull-wake"))
            pattern = self._chance.choice(("s/*", "s/*", "*/a", "**", ""))
            count = 0 if pattern == "**" or (pattern and self._chance.random() < 0.6) else 2
            streams = tuple(sorted(self._chance.sample(PATHS, count)))
            lease = self._chance.choice((1.0, 1.0, 1.0, 1.5))
            yield Sub(f"{kind[0]}{number}", kind, pattern, streams, lease)

    # -- steps --------------------------------------------------------------

    def _step(self) -> None:
        ways: dict[Callable[[], None], float] = {
            self._append: 10,
            self._create: 1.5,
            self._delete: 0.7,
            self._fork: 0.5,
            self._resubscribe: 0.7,
            self._replay: 2.5,
            self._look: 2,
            self._faults.any: 6,
        }
        self._chance.choices(list(ways), list(ways.values()))[0]()
        if self._faults.is_restored:
            self._faults.is_restored = False
            for _ in range(3):  # what was given out before must mean nothing else now
                self._replay()
                self._append()

    def _append(self) -> None:
        for _ in range(self._chance.choice((1, 1, 2, 4))):
            self._clients.append(self._chance.choice(sorted(self._world.streams)), self._chance)

    def _create(self) -> None:
        missing = [path for path in PATHS if path not in self._world.streams]
        if missing:
            body = self._chance.choice((b"", b"first"))
            self._clients.create(self._chance.choice(missing), body)

    def _delete(self) -> None:
        paths = [path for path, each in self._world.streams.items() if not each.is_fork]
        if len(paths) > 1:
            self._clients.delete(self._chance.choice(sorted(paths)))

    def _fork(self) -> None:
        sources = [path for path, each in self._world.streams.items() if not each.is_damaged]
        name = f"s/fork{self._chance.randint(0, 1)}"
        if sources and name not in self._world.streams:
            self._clients.create(name, source=self._chance.choice(sorted(sources)))

    def _resubscribe(self) -> None:
        if self._world.subs:
            sub = self._chance.choice(sorted(self._world.subs))
            self._renewed.add(sub)
            self._clients.resubscribe(self._world.subs[sub])

    def _replay(self) -> None:
        """Uses a token that was given out at any time."""
        with self._world.lock:
            grants = list(self._world.grants)
        if grants:
            grant = self._chance.choice(grants[-self._chance.choice((5, 1000)) :])
            if grant.kind == "pull-wake" and self._chance.random() < 0.3:
                self._asker.release(grant)
            else:
                acks = self._asker.whole(grant)
                self._asker.acknowledge(grant, acks, self._chance.random() < 0.5)

    def _look(self) -> None:
        for sub in list(self._world.subs.values()):
            self._clients.look(sub)

    def _is_damaged(self) -> bool:
        return any(each.is_damaged for each in self._world.streams.values())

    # -- the end ------------------------------------------------------------

    def _settle(self) -> None:
        """Ends the faults, and waits until everything is acknowledged."""
        if self._chance.random() < 0.5 and self._is_damaged():
            self._faults.repair()
        self._append()
        self._asker.calm.set()
        seconds = SETTLES_BESIDE_DAMAGE if self._is_damaged() else SETTLES
        if not until(lambda: not self._clients.unsettled(), seconds, 0.25):
            self._history.add(Wrong, what=f"1 never acknowledged: {self._clients.unsettled()}")
        elif self._chance.random() < 0.25:
            time.sleep(1.3)  # longer than a lease: nothing more may come
        for sub in self._world.subs.values():
            if sub.kind == "pull-wake" and sub.id not in self._renewed:
                self._clients.check_events(sub)
        if trace := self._server.trace():
            self._history.add(Wrong, what=f"the server has logged a traceback: {trace}")


@contextlib.contextmanager
def watching(history: History, over: threading.Event) -> Iterator[None]:
    """Notes when the machine is too busy to keep to any time."""

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
    """Runs the trial of a seed in a directory of its own."""
    place = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    try:
        return Trial(seed, launcher, place).run()
    finally:
        shutil.rmtree(place, ignore_errors=True)

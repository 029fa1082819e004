"""Everything bad that happens to the server of a trial."""

import random
import threading
import time
from collections.abc import Callable

from tests.delivery.asking import Asker
from tests.delivery.clients import Clients
from tests.delivery.history import Damaged, Repaired, Up, Wrong
from tests.delivery.world import Stream, Sub

Held = tuple[dict[str, Stream], dict[str, Sub]]
STEPS = (2, 30, 700, 5 * 3600, 40 * 3600)  # seconds by which a wall clock is set


class Faults:
    """Chooses faults at random and causes them. The server runs again after each fault.

    Args:
        asker: has the server, the world and the history.
        clients: read the tails after a start.
        chance: decides everything.

    Attributes:
        is_restored: set when an earlier copy of the directory was restored.
    """

    def __init__(self, asker: Asker, clients: Clients, chance: random.Random) -> None:
        self._asker = asker
        self._server = asker.server
        self._clients = clients
        self._chance = chance
        self._copies: list[tuple[str, Held]] = []
        self.is_restored = False

    def any(self) -> None:
        """Commits one fault."""
        ways: dict[Callable[[], None], float] = {
            self.kill: 2,
            self.kill_amid_appends: 2,
            self.pause: 2,
            self.step: 2,
            self.copy: 2,
            self.repair if self._damaged() else self.damage: 1.5,
        }
        if self._copies:
            ways[self.restore] = 2
        self._chance.choices(list(ways), list(ways.values()))[0]()

    def start(self) -> None:
        """Starts the server; its clock may have been set meanwhile."""
        if self._chance.random() < 0.2:
            self.step()
        self._server.start()
        self._clients.refresh()
        self._asker.history.add(Up)

    def kill(self) -> None:
        """Kills the server."""
        self._server.kill()
        time.sleep(self._chance.choice((0, 0, 0.3, 1.2)))
        self.start()

    def kill_amid_appends(self) -> None:
        """Kills the server while a client appends."""
        paths = list(self._asker.world.streams)
        chance = random.Random(self._chance.random())

        def append() -> None:
            while self._clients.append(chance.choice(paths), chance):
                pass

        client = threading.Thread(target=append)
        client.start()
        time.sleep(self._chance.uniform(0, 0.03))
        self._server.kill()
        client.join()
        self.start()

    def pause(self) -> None:
        """Stops the process for a while."""
        self._server.pause(self._chance.uniform(0.2, 2))
        self._asker.history.add(Up)

    def step(self) -> None:
        """Sets the wall clock."""
        self._server.step(self._chance.choice(STEPS) * self._chance.choice((1, -1)))

    def copy(self) -> None:
        """Stops or kills the server, and copies its directory."""
        self._end()
        name = f"copy-{len(self._copies)}"
        self._server.copy(name)
        self._copies.append((name, self._asker.world.copied()))
        self.start()

    def restore(self) -> None:
        """Stops or kills the server, and goes on from an earlier copy of its directory."""
        self._end()
        name, held = self._chance.choice(self._copies)
        self._server.restore(name)
        self.is_restored = True
        self._asker.world.restore(held)
        self.start()

    def damage(self) -> None:
        """Damages the log of one stream; the server runs with the damage, or `check --repair` follows at once."""
        streams = [each for each in self._asker.world.streams.values() if not each.is_fork]
        if not streams:
            return
        stream = self._chance.choice(streams)
        self._server.stop()
        incarnation = int(stream.tails[-1].partition("_")[0])
        if self._server.damage(incarnation, self._chance):
            with self._asker.world.lock:
                stream.is_damaged = True
            self._asker.history.add(Damaged, path=stream.path)
            if self._chance.random() < 0.4:
                self._repair()
        self.start()

    def repair(self) -> None:
        """Stops the server and repairs its directory."""
        self._server.stop()
        self._repair()
        self.start()

    def _repair(self) -> None:
        self._server.repair()
        for stream in self._damaged():
            with self._asker.world.lock:
                stream.is_damaged = False
                stream.tails.clear()
            self._asker.history.add(Repaired, path=stream.path)

    def _damaged(self) -> list[Stream]:
        return [each for each in self._asker.world.streams.values() if each.is_damaged]

    def _end(self) -> None:
        if self._chance.random() < 0.5:
            self._server.kill()
            return
        try:
            self._server.stop()
        except AssertionError as error:
            self._asker.history.add(Wrong, what=str(error))

"""Causes the faults of a trial: kills, pauses, clock changes, restored copies, damage and repairs."""

import random
import threading
import time
from collections.abc import Callable

from tests.delivery.clients import Clients
from tests.delivery.history import Damaged, Failure, Repaired, Up
from tests.delivery.requester import Requester
from tests.delivery.server import Server
from tests.delivery.world import Stream, Sub

WorldState = tuple[dict[str, Stream], dict[str, Sub]]
#: Seconds by which the wall clock is set forward or back.
STEPS = (2, 30, 700, 5 * 3600, 40 * 3600)


class Faults:
    """Chooses faults at random and causes them. The server runs again after each fault.

    Args:
        server: the server.
        requester: holds the world and the history.
        clients: request the tails after each start of the server.
        chance: makes all choices.

    Attributes:
        is_restored: True after an earlier copy of the directory was restored. The trial resets it.
    """

    def __init__(
        self, server: Server, requester: Requester, clients: Clients, chance: random.Random
    ) -> None:
        self._requester = requester
        self._server = server
        self._clients = clients
        self._chance = chance
        self._copies: list[tuple[str, WorldState]] = []
        self.is_restored = False

    def cause_one(self) -> None:
        """Causes one fault that is drawn at random."""
        ways: dict[Callable[[], None], float] = {
            self.kill: 2,
            self.kill_amid_appends: 2,
            self.pause: 2,
            self.set_clock: 2,
            self.copy: 2,
            self.repair if self._damaged() else self.damage: 1.5,
        }
        if self._copies:
            ways[self.restore] = 2
        self._chance.choices(list(ways), list(ways.values()))[0]()

    def start(self) -> None:
        """Starts the server, sometimes after setting its clock."""
        if self._chance.random() < 0.2:
            self.set_clock()
        self._server.start()
        self._clients.refresh()
        self._requester.history.add(Up)

    def kill(self) -> None:
        """Kills the server and starts it again, sometimes after a pause that is longer than a lease."""
        self._server.kill()
        time.sleep(self._chance.choice((0, 0, 0.3, 1.2)))
        self.start()

    def kill_amid_appends(self) -> None:
        """Kills the server while a client appends."""
        paths = list(self._requester.world.streams)
        chance = random.Random(self._chance.random())

        def append() -> None:
            while self._clients.append(chance.choice(paths), chance):
                pass

        client = threading.Thread(target=append)
        client.start()
        time.sleep(self._chance.uniform(0, 0.03))  # kill at a random moment of an append
        self._server.kill()
        client.join()
        self.start()

    def pause(self) -> None:
        """Suspends the process for a while."""
        self._server.pause(self._chance.uniform(0.2, 2))
        self._requester.history.add(Up)

    def set_clock(self) -> None:
        """Sets the wall clock of the server forward or back."""
        self._server.set_clock(self._chance.choice(STEPS) * self._chance.choice((1, -1)))

    def copy(self) -> None:
        """Stops or kills the server, copies its directory, and starts it again."""
        self._stop_or_kill()
        name = f"copy-{len(self._copies)}"
        self._server.copy(name)
        self._copies.append((name, self._requester.world.copied()))
        self.start()

    def restore(self) -> None:
        """Stops or kills the server, replaces its directory by an earlier copy, and starts it again."""
        self._stop_or_kill()
        name, state = self._chance.choice(self._copies)
        self._server.restore(name)
        self.is_restored = True
        self._requester.world.restore(state)
        self.start()

    def damage(self) -> None:
        """Damages the log of one stream, and starts the server with the damage or after a repair."""
        streams = [each for each in self._requester.world.streams.values() if not each.is_fork]
        if not streams:
            return
        stream = self._chance.choice(streams)
        self._server.stop()
        incarnation = int(stream.tails[-1].partition("_")[0])
        if self._server.damage(incarnation, self._chance):
            with self._requester.world.lock:
                stream.is_damaged = True
            self._requester.history.add(Damaged, path=stream.path)
            if self._chance.random() < 0.4:
                self._repair()
        self.start()

    def repair(self) -> None:
        """Stops the server, repairs its directory, and starts it again."""
        self._server.stop()
        self._repair()
        self.start()

    def _repair(self) -> None:
        self._server.repair()
        for stream in self._damaged():
            with self._requester.world.lock:
                stream.is_damaged = False
                stream.tails.clear()
            self._requester.history.add(Repaired, path=stream.path)

    def _damaged(self) -> list[Stream]:
        return [each for each in self._requester.world.streams.values() if each.is_damaged]

    def _stop_or_kill(self) -> None:
        if self._chance.random() < 0.5:
            self._server.kill()
            return
        try:
            self._server.stop()
        except AssertionError as error:
            self._requester.history.add(Failure, what=str(error))

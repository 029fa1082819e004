"""Clients that come, stall and vanish, in every way in which a client can leave.

They read two streams that live as long as the soak: one of large pages, and one that is appended to all the time. Nothing that they receive
is checked: other clients do that. They must leave nothing behind in the server.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable

from tests.hostile.wire import MIB, Attacker, request
from tests.soak.remote import Remote
from tests.soak.writers import OCTETS, ROOT

PAGES = f"{ROOT}/visited/pages"
LIVE = f"{ROOT}/visited/live"
MEDIA = OCTETS["Content-Type"]
CROWD = 40  # clients at once
#: The stalls of clients in seconds. The longest exceeds the time after which the server cuts a client that reads nothing.
STALLS = (0.0, 0.05, 0.5, 2.0, 10.0, 35.0)
STALL_WEIGHTS = (6, 6, 6, 4, 1, 0.5)

REQUESTS = {
    "event stream": request("GET", f"{LIVE}?offset=-1&live=sse"),
    "long event stream": request("GET", f"{PAGES}?offset=-1&live=sse"),
    "long-poll": request("GET", f"{LIVE}?offset=now&live=long-poll"),
    "page": request("GET", f"{PAGES}?offset=-1"),
    "compressed page": request("GET", f"{PAGES}?offset=-1", Accept_Encoding="gzip"),
    "pipelined reads": request("GET", f"{PAGES}?offset=now") * 50,
    "half a head": request("GET", LIVE)[:-2],
    "half a body": request("POST", LIVE, b"x" * 1000, MEDIA, announced=100_000),
    "half a large body": request("POST", LIVE, b"x" * 1000, MEDIA, announced=8 * MIB),
}


def reset(opened: socket.socket) -> None:
    """Closes a connection with RST instead of FIN."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.close()


def half_close(opened: socket.socket) -> None:
    """Sends FIN for the client's own direction, and then closes the connection."""
    opened.shutdown(socket.SHUT_WR)
    opened.close()


LEAVINGS: tuple[Callable[[socket.socket], None], ...] = (socket.socket.close, reset, half_close)


class Visitors:
    """A crowd of clients that come and vanish.

    Args:
        remote: the server.
        seed: determines all choices.
    """

    def __init__(self, remote: Remote, seed: str) -> None:
        self._remote = remote
        self._seed = seed
        self._attacker = Attacker(remote.port, 0, float("inf"))

    def run(self) -> None:
        """Visits until the clients must stop."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        crowd = [self._repeat(self._visit, number) for number in range(CROWD)]
        tasks = [asyncio.create_task(each) for each in (*crowd, self._repeat(self._append, CROWD))]
        await asyncio.to_thread(self._remote.over.wait)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):  # unlike the error of a cancelled task
                raise ended

    async def _repeat(self, act: Callable[[random.Random], Awaitable[None]], number: int) -> None:
        chance = random.Random(f"{self._seed} visitor {number}")
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                await act(chance)
            await asyncio.sleep(chance.uniform(0.01, 0.2))

    async def _append(self, chance: random.Random) -> None:
        """Appends to the live stream, which wakes all clients that wait there."""
        octets = request("POST", LIVE, b"x" * chance.choice((10, 100, 5_000)), MEDIA)
        await self._attacker.ask(octets)

    async def _visit(self, chance: random.Random) -> None:
        """Sends a request, reads a part of the response or nothing, stalls, and vanishes."""
        loop = asyncio.get_running_loop()
        what = chance.choice(list(REQUESTS))
        opened = await self._attacker.connect(chance.choice((0, 4096)))
        try:
            await self._attacker.send(opened, REQUESTS[what])
            for _ in range(chance.choice((0, 0, 1, 20))):
                async with asyncio.timeout(0.5):
                    if not await loop.sock_recv(opened, 4096):
                        break
            await asyncio.sleep(chance.choices(STALLS, STALL_WEIGHTS)[0])
            self._remote.count(f"visits: {what}")
            chance.choice(LEAVINGS)(opened)
        finally:
            opened.close()

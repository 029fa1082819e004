"""What every hostile client needs: connections from an address of its own, prepared requests, and a count of what came back."""

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator

ROOT = "/v1/stream"
MIB = 1024 * 1024
PATIENCE = 5.0  # seconds that a client waits for one answer


def request(
    method: str,
    path: str,
    body: bytes = b"",
    media: str = "",
    announced: int | None = None,
    **headers: str,
) -> bytes:
    """Returns a request as it goes out; `announced` is the length that its head gives, if not that of its body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: hostile"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if media:
        lines.append(f"Content-Type: {media}")
    length = len(body) if announced is None else announced
    if length or method in ("PUT", "POST"):
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Attacker:
    """One kind of client: where it comes from, whom it attacks, until when, and what it has seen.

    Args:
        port: of the server, on the loopback address.
        number: of the kind; each has an address of its own.
        until: the time of the monotonic clock at which it stops.

    Attributes:
        seen: how often each status was answered; `closed` counts connections that ended without an answer, `silent` requests that
            no answer came to in time.
        rounds: how often the client did what it does.
    """

    def __init__(self, port: int, number: int, until: float) -> None:
        self.port = port
        self.address = f"127.0.2.{number + 1}"
        self.until = until
        self.seen: Counter[str] = Counter()
        self.rounds = 0
        self.random = random.Random(number)
        self._buffer = bytearray(MIB)

    @property
    def goes_on(self) -> bool:
        """Whether it has time left."""
        return time.monotonic() < self.until

    async def wait(self, seconds: float) -> None:
        """Waits, but not past the end."""
        await asyncio.sleep(max(0.0, min(seconds, self.until - time.monotonic())))

    async def connect(self, receive_buffer: int = 0) -> socket.socket:
        """Opens a connection; its owner closes it."""
        opened = socket.socket()
        opened.setblocking(False)
        if receive_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            opened.bind((self.address, 0))
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", self.port))
        except BaseException:
            opened.close()
            raise
        return opened

    @contextlib.asynccontextmanager
    async def connection(self, receive_buffer: int = 0) -> AsyncIterator[socket.socket]:
        """A connection for a block. A server that closes it or does not answer ends the block, and is counted."""
        try:
            opened = await self.connect(receive_buffer)
        except (OSError, TimeoutError):
            self.seen["no connection"] += 1
            await asyncio.sleep(0.05)
            yield socket.socket()  # on which every send fails
            return
        try:
            yield opened
        finally:
            opened.close()

    async def send(self, opened: socket.socket, octets: bytes) -> bool:
        """Sends; returns whether all of it has gone within a while."""
        try:
            async with asyncio.timeout(min(PATIENCE, max(0.0, self.until - time.monotonic()))):
                await asyncio.get_running_loop().sock_sendall(opened, octets)
        except (OSError, TimeoutError):
            return False
        return True

    async def status(self, opened: socket.socket) -> str:
        """Returns the status of the answer that comes next, and counts it; the rest of the answer stays unread."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(PATIENCE, max(0.01, self.until - time.monotonic()))):
                size = await loop.sock_recv_into(opened, memoryview(self._buffer)[:4096])
        except TimeoutError:
            found = "silent"
        except OSError:
            found = "closed"
        else:
            head = bytes(self._buffer[:12])
            found = (
                head[9:].decode("latin-1")
                if size >= 12 and head.startswith(b"HTTP/1.1 ")
                else "closed"
            )
        self.seen[found] += 1
        return found

    async def ask(self, octets: bytes) -> str:
        """Sends a request on a connection of its own, and returns the status of its answer."""
        async with self.connection() as opened:
            await self.send(opened, octets)  # the server may refuse it before all is sent
            return await self.status(opened)

    async def crowd(self, count: int, receive_buffer: int = 0) -> list[socket.socket]:
        """Opens many connections; those that could not be opened are counted."""
        opened = []
        for _ in range(count):
            if not self.goes_on:
                break
            try:
                opened.append(await self.connect(receive_buffer))
            except (OSError, TimeoutError):
                self.seen["no connection"] += 1
                break
        return opened

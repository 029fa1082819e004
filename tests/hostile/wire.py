"""Connections, requests and counters for the hostile clients. Each kind of client connects from an address of its own."""

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator

ROOT = "/v1/stream"
MIB = 1024 * 1024
PATIENCE = 5.0  # seconds that a client waits for one response


def request(
    method: str,
    path: str,
    body: bytes = b"",
    media: str = "",
    announced: int | None = None,
    **headers: str,
) -> bytes:
    """Returns the bytes of a request.

    Args:
        method: the method.
        path: the path and query.
        body: the body.
        media: the content type, or an empty string for a request without one.
        announced: the content length in the head, or None for the length of the body.
        **headers: further headers, with underscores for hyphens.
    """
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if media:
        lines.append(f"Content-Type: {media}")
    length = len(body) if announced is None else announced
    if length or method in ("PUT", "POST"):
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Attacker:
    """A hostile client of one kind.

    Args:
        port: the port of the server on the loopback address.
        number: the index of the kind, which determines the client's address.
        until: the monotonic time at which the client stops.

    Attributes:
        address: the address that the client connects from.
        seen: the number of responses with each status. `closed` counts connections that ended without a response, and `silent`
            requests without a response in time.
        rounds: the number of times that the client repeated its attack.
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
        """Returns whether the client has time left."""
        return time.monotonic() < self.until

    async def wait(self, seconds: float) -> None:
        """Waits for some seconds, or until the end of the attack if that is earlier."""
        await asyncio.sleep(max(0.0, min(seconds, self.until - time.monotonic())))

    async def connect(self, receive_buffer: int = 0) -> socket.socket:
        """Opens a connection, which the caller must close."""
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
        """Opens a connection for the length of the block. If the server refuses it, the block gets a socket on which every send fails."""
        try:
            opened = await self.connect(receive_buffer)
        except (OSError, TimeoutError):
            self.seen["no connection"] += 1
            await asyncio.sleep(0.05)
            yield socket.socket()
            return
        try:
            yield opened
        finally:
            opened.close()

    async def send(self, opened: socket.socket, octets: bytes) -> bool:
        """Sends bytes, and returns whether all of them were sent in time."""
        try:
            async with asyncio.timeout(min(PATIENCE, max(0.0, self.until - time.monotonic()))):
                await asyncio.get_running_loop().sock_sendall(opened, octets)
        except (OSError, TimeoutError):
            return False
        return True

    async def status(self, opened: socket.socket) -> str:
        """Returns and counts the status of the next response, and leaves the rest of the response unread."""
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
        """Sends a request on a new connection, and returns the status of its response."""
        async with self.connection() as opened:
            # The server may respond before it has all of the request.
            await self.send(opened, octets)
            return await self.status(opened)

    async def crowd(self, count: int, receive_buffer: int = 0) -> list[socket.socket]:
        """Opens up to `count` connections, and stops at the first that fails, which it counts."""
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

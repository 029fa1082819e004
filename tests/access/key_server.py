"""Serves key sets over HTTP on loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


def ok(body: bytes) -> bytes:
    """Returns a whole response with a body."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class KeyServer:
    """A server that sends the same response to every request.

    Attributes:
        response: the response. None leaves the request without one.
        requests: the heads of all requests.
        requested: is set at the first request.
        port: the port on which it listens.
    """

    def __init__(self, response: bytes | None) -> None:
        self.response = response
        self.requests: list[bytes] = []
        self.requested = asyncio.Event()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, and closes the connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            self.requested.set()
            if self.response is None:
                await asyncio.Event().wait()
            else:
                writer.write(self.response)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()

    async def close(self) -> None:
        """Ends all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def key_server(
    response: bytes | None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[KeyServer]:
    """Runs a server of key sets."""
    it = KeyServer(response)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        await it.close()
        await server.wait_closed()

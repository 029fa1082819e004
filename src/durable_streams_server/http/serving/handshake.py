"""Accepts connections that will speak TLS.

If the event loop accepted the connections, it would announce each only after its TLS handshake. The server could not count the
handshakes, and clients that never finish them could use up the file handles. So this module accepts the connections, counts each at
once, and then lets the event loop do the handshake.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from ...log import log as _log
from ..limits.admission import Admission
from .accept_errors import AcceptErrors

_HANDSHAKE: Final = (
    10.0  # seconds, enough for two round trips over a satellite with one lost packet each
)
#: Connections accepted in one turn of the event loop, so that a crowd of new clients does not delay other work.
_ACCEPTS_PER_TURN: Final = 64
_RETRY: Final = 1.0  # seconds until the server accepts again, after the system refused a connection


class TlsListener:
    """Accepts clients, and makes an HTTP connection for each client that finishes its TLS handshake in time.

    Args:
        listening: the listening socket.
        context: the certificate and the settings of TLS.
        connect: returns a protocol for one HTTP connection.
        admission: decides on new handshakes.
        connections: the server's set of open HTTP connections.

    Attributes:
        context: the certificate and the settings of TLS for new connections. They may be replaced at any time.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        connect: Callable[[], asyncio.BaseProtocol],
        admission: Admission,
        connections: set[Any],
    ) -> None:
        self._listening = listening
        self.context = context
        self._connect = connect
        self._admission = admission
        self._connections = connections
        self._handshakes: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._accept_errors = AcceptErrors()

    def __len__(self) -> int:
        """Returns how many handshakes are in progress."""
        return len(self._handshakes)

    def begin(self) -> None:
        """Begins to accept connections on the running event loop."""
        self._retry = None
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def stop(self) -> None:
        """Stops accepting, and ends the handshakes in progress, because their clients have sent no request yet."""
        asyncio.get_running_loop().remove_reader(self._listening)
        if self._retry is not None:
            self._retry.cancel()
        for task in self._handshakes:
            task.cancel()

    def _accept(self) -> None:
        """Accepts the clients that are waiting."""
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                client, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._begin_handshake(client, self._admission.proxies.counted_address(peer))

    def _begin_handshake(self, client: socket.socket, address: str | None) -> None:
        """Begins the handshake of a client, or closes its socket if admission refuses it."""
        client.setblocking(False)
        others = len(self._connections) + len(self._handshakes)
        if not self._admission.admit_handshake(others, client.fileno(), address):
            client.close()
            return
        task = asyncio.get_running_loop().create_task(self._shake_hands(client))
        self._handshakes.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._handshakes.discard(task)
            self._admission.release_handshake(address)

        task.add_done_callback(done)

    async def _shake_hands(self, client: socket.socket) -> None:
        """Performs one handshake. When it ends, the event loop begins the HTTP connection."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connect,
                client,
                ssl=self.context,
                ssl_handshake_timeout=_HANDSHAKE,
            )
        except OSError:
            client.close()  # the client did not speak TLS, took too long, or left
        except Exception as error:
            client.close()
            _log.error("a TLS handshake failed", exc_info=error)

    def _pause(self, error: OSError) -> None:
        """Stops accepting for a second after the system refused a connection.

        The socket stays readable while a client waits, so the event loop would call `_accept` again in each turn.
        """
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._retry = loop.call_later(_RETRY, self.begin)
        self._accept_errors.log(error)

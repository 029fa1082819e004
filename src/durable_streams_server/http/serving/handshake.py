"""Accepts connections that are to speak TLS.

An event loop that is given a certificate shows a connection only after its handshake. Until then nobody would count it, and
clients that never finish their handshakes could take every file handle. So connections are accepted here, counted at once, and
given to the loop one by one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from ...log import log as _log
from ..limits.admission import AcceptErrors, Admission
from ..limits.shares import address_of_peer

_HANDSHAKE: Final = (
    10.0  # seconds; two round trips, even by satellite and with a lost packet in each
)
_AT_ONCE: Final = (
    64  # connections accepted in one turn of the loop, so that a crowd does not hold up the rest
)
_RETRY: Final = 1.0  # seconds until accept is tried again after the system has refused it


class TlsListener:
    """Makes an HTTP connection of each client that finishes its handshake in time.

    Args:
        listening: the socket that listens.
        context: what encrypts connections.
        connect: makes the protocol of one HTTP connection.
        admission: decides on new connections.
        connections: the HTTP connections that there are.
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
        self._context = context
        self._connect = connect
        self._admission = admission
        self._connections = connections
        self._handshakes: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._complain = AcceptErrors()

    def __len__(self) -> int:
        """How many clients are in their handshakes."""
        return len(self._handshakes)

    def begin(self) -> None:
        """Begins to accept, on the running loop."""
        self._retry = None
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def stop(self) -> None:
        """Accepts no more, and cuts the clients that are in their handshakes: they have asked for nothing yet."""
        asyncio.get_running_loop().remove_reader(self._listening)
        if self._retry is not None:
            self._retry.cancel()
        for task in self._handshakes:
            task.cancel()

    def _accept(self) -> None:
        """Takes the connections that wait."""
        for _ in range(_AT_ONCE):
            try:
                client, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait_for_handles(error)
                return
            self._take(client, address_of_peer(peer))

    def _take(self, client: socket.socket, address: str | None) -> None:
        client.setblocking(False)
        others = len(self._connections) + len(self._handshakes)
        if not self._admission.admit_handshake(others, client.fileno(), address):
            client.close()
            return
        task = asyncio.get_running_loop().create_task(self._shake_hands(client))
        self._handshakes.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._handshakes.discard(task)
            self._admission.end_handshake(address)

        task.add_done_callback(done)

    async def _shake_hands(self, client: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connect,
                client,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE,
            )
        except OSError:
            client.close()  # it was no TLS, took too long, or the client has left
        except Exception as error:
            client.close()
            _log.error("a TLS handshake failed", exc_info=error)

    def _wait_for_handles(self, error: OSError) -> None:
        """Accepts again in a while: the loop would call at once, and again, for as long as a client waits."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._retry = loop.call_later(_RETRY, self.begin)
        self._complain.say(error)

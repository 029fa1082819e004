"""Many connections in one thread, which send prepared bytes and count the bytes that arrive.

The connections come from many loopback addresses, as those of real clients do, so that the server's limits per address do not apply.
"""

import contextlib
import select
import socket
import time
from collections.abc import Iterable
from itertools import islice
from types import TracebackType
from typing import Final

from ..client import octets

EACH: Final = 32  # connections per address
_TOGETHER: Final = 500  # connections opened before checking that the server has accepted them
_BUFFER: Final = 1024 * 1024
_HELLO: Final = octets("OPTIONS", "/v1/stream/quiet")


def connect_from(port: int, number: int, receive_buffer: int = 0) -> socket.socket:
    """Opens a connection from the address of the client with a number.

    Args:
        port: the port of the server.
        number: the number of the client.
        receive_buffer: the size of the socket's receive buffer, or 0 for the default.
    """
    opened = socket.socket()
    opened.settimeout(60)
    if receive_buffer:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    place = number // EACH
    opened.bind((f"127.1.{place // 250}.{place % 250 + 1}", 0))
    opened.connect(("127.0.0.1", port))
    return opened


class Crowd:
    """A set of connections, open until the `with` block ends.

    Args:
        port: the port of the server.
        count: the number of connections.
        receive_buffer: the size of each socket's receive buffer, or 0 for the default.

    Attributes:
        received: the number of received bytes.
        starts: the number of received pieces that begin a response.
        lost: the number of connections that the server has closed.
    """

    def __init__(self, port: int, count: int, receive_buffer: int = 0) -> None:
        self.sockets: list[socket.socket] = []
        self.received = self.starts = self.lost = 0
        self._poll = select.epoll()
        self._by_handle: dict[int, socket.socket] = {}
        self._buffer = bytearray(_BUFFER)
        for number in range(count):
            opened = connect_from(port, number, receive_buffer)
            self.sockets.append(opened)
            if len(self.sockets) % _TOGETHER == 0:
                opened.sendall(_HELLO)
                opened.recv(4096)
        for opened in self.sockets:
            opened.setblocking(False)
            self._by_handle[opened.fileno()] = opened
            self._poll.register(opened.fileno(), select.EPOLLIN)

    def send(self, requests: Iterable[bytes]) -> None:
        """Sends one request on each connection, as fast as possible. Each request must fit in the socket's buffer."""
        for opened, request in zip(self.sockets, requests, strict=False):
            with contextlib.suppress(ConnectionError):
                opened.send(request)

    def drain(
        self, seconds: float, *, starts: int | None = None, received: int | None = None
    ) -> None:
        """Receives for some seconds, or until the counters `starts` and `received` have reached the given values."""
        deadline = time.monotonic() + seconds
        while self._lacks(starts, received) and (left := deadline - time.monotonic()) > 0:
            for handle, _ in self._poll.poll(min(left, 0.1)):
                self._receive(handle)

    def stall(self, seconds: float) -> int:
        """Waits without reading until every response has begun, or for some seconds. Returns how many responses have begun."""
        deadline = time.monotonic() + seconds
        begun = 0
        while begun < len(self.sockets) and time.monotonic() < deadline:
            time.sleep(0.2)
            begun = len(self._poll.poll(0, len(self.sockets)))  # the bytes stay in the sockets
        return begun

    def _lacks(self, starts: int | None, received: int | None) -> bool:
        if starts is None and received is None:
            return True
        return self.starts < (starts or 0) or self.received < (received or 0)

    def _receive(self, handle: int) -> None:
        try:
            size = self._by_handle[handle].recv_into(self._buffer)
        except BlockingIOError:
            return
        except ConnectionError:
            size = 0
        if not size:
            self.lost += 1
            self._poll.unregister(handle)
            return
        self.received += size
        self.starts += self._buffer.startswith(b"HTTP/1.1 ")

    def close(self) -> None:
        """Closes all connections, as fast as possible."""
        for opened in self.sockets:
            opened.close()

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._poll.close()


def pipelined(port: int, requests: Iterable[bytes], connections: int = 16, depth: int = 50) -> int:
    """Pipelines many requests whose responses have no body, and returns the number of refusals. Used for preparation."""
    source = iter(requests)
    sockets = [connect_from(port, number) for number in range(connections)]
    bad = 0
    while True:
        batches = [list(islice(source, depth)) for _ in sockets]
        for opened, batch in zip(sockets, batches, strict=True):
            if batch:
                opened.sendall(b"".join(batch))
        for opened, batch in zip(sockets, batches, strict=True):
            bad += _await_answers(opened, len(batch))
        if not batches[-1]:
            break
    for opened in sockets:
        opened.close()
    return bad


def _await_answers(opened: socket.socket, count: int) -> int:
    """Waits for `count` responses, and returns the number of refusals."""
    answers = b""
    while count and (
        answers.count(b"HTTP/1.1 ") < count or not answers.endswith((b"\r\n\r\n", b"}"))
    ):
        answers += opened.recv(1 << 18) or _closed()
    return count - answers.count(b"HTTP/1.1 2")


def _closed() -> bytes:
    raise ConnectionError("the server has closed the connection")

"""A client with very little overhead. It uses plain sockets and one shared buffer, and only counts the bytes of responses.

Each message that a reader follows contains one `~`, which occurs nowhere else in a response. So counting that byte counts
messages, however a response is split.
"""

import re
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Final

MARK: Final = b"~"
MESSAGE: Final = "x" * 99 + "~"  # 100 bytes
_BUFFER: Final = 1024 * 1024
_CREATORS: Final = 16
_PIPELINED: Final = 20  # requests in flight on one connection
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def raise_file_limit() -> None:
    """Raises the limit of open files of this process and its children to the system's maximum."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def connect(port: int, address: str = "") -> socket.socket:
    """Opens a connection to a local port, from the given loopback address if there is one."""
    opened = socket.create_connection(("127.0.0.1", port), 60, (address, 0) if address else None)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def octets(method: str, path: str, media: str = "", body: bytes = b"") -> bytes:
    """Returns the bytes of a request."""
    lines = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if media:
        lines += f"Content-Type: {media}\r\n"
    if body or method in ("PUT", "POST"):
        lines += f"Content-Length: {len(body)}\r\n"
    return lines.encode() + b"\r\n" + body


def pop_message(buffer: bytearray) -> tuple[bytes, bytes] | None:
    """Removes a complete message from the front of a buffer, and returns its head and body.

    Returns None if the message is incomplete. The message must not be chunked.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    found = _LENGTH.search(buffer, 0, end)
    whole = end + 4 + (int(found[1]) if found else 0)
    if len(buffer) < whole:
        return None
    head, body = bytes(buffer[:end]), bytes(buffer[end + 4 : whole])
    del buffer[:whole]
    return head, body


class Answer:
    """A complete response: its status, its head, and the size of its body."""

    def __init__(self, status: int, head: bytes, size: int) -> None:
        self.status = status
        self.head = head
        self.size = size

    def header(self, name: bytes) -> str:
        """Returns the value of a header, or the empty string if the response has no such header."""
        found = re.search(rb"\r\n%b: *([^\r]*)" % re.escape(name), self.head, re.IGNORECASE)
        return found[1].decode() if found else ""


class Connection:
    """A connection that sends one request at a time."""

    def __init__(self, port: int, address: str = "") -> None:
        self._socket = connect(port, address)
        self._buffer = bytearray(_BUFFER)

    def ask(self, request: bytes) -> Answer:
        """Sends a request and waits for its response."""
        self.send(request)
        return self.receive()

    def send(self, request: bytes) -> None:
        """Sends a request."""
        self._socket.sendall(request)

    def receive(self) -> Answer:
        """Waits for a response and reads all of it. Only the head and the size of the body are kept."""
        buffer, received = self._buffer, self._socket.recv_into
        filled = 0
        while (end := buffer.find(b"\r\n\r\n", 0, filled)) < 0:
            filled += self._more(received(memoryview(buffer)[filled:]))
        head = bytes(buffer[:end])
        answer = Answer(int(head[9:12]), head, filled - end - 4)
        if answer.header(b"transfer-encoding"):
            last = bytes(buffer[max(end + 4, filled - 5) : filled])
            while last != b"0\r\n\r\n":
                size = self._more(received(buffer))
                answer.size += size
                last = (last + bytes(buffer[max(0, size - 5) : size]))[-5:]
        else:
            length = int(answer.header(b"content-length") or 0)
            while answer.size < length:
                answer.size += self._more(received(buffer))
        return answer

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _more(self, size: int) -> int:
        if size == 0:
            raise ConnectionError("the server has closed the connection")
        return size


def create(port: int, paths: Iterable[str], media: str) -> None:
    """Creates streams, with many requests in flight."""
    waiting = deque(octets("PUT", path, media) for path in paths)
    sockets = [connect(port) for _ in range(min(_CREATORS, len(waiting)))]
    while waiting:
        asked = [min(_PIPELINED, len(waiting) // len(sockets) + 1) for _ in sockets]
        for number, opened in enumerate(sockets):
            asked[number] = min(asked[number], len(waiting))
            opened.sendall(b"".join(waiting.popleft() for _ in range(asked[number])))
        for number, opened in enumerate(sockets):
            _expect_created(opened, asked[number])
    for opened in sockets:
        opened.close()


def fill(port: int, path: str, media: str, bodies: Iterable[bytes]) -> None:
    """Creates a stream and appends to it."""
    connection = Connection(port)
    create(port, [path], media)
    for body in bodies:
        answer = connection.ask(octets("POST", path, media, body))
        if answer.status >= 300:
            raise RuntimeError(f"an append was answered with {answer.status}")
    connection.close()


class Followers:
    """Event-stream readers in one thread, which count messages and bytes."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._buffer = bytearray(_BUFFER)
        self.received = 0  # the number of messages
        self.size = 0  # bytes, including heads and framing
        self.last = 0.0  # the time of the latest message, in seconds of the monotonic clock
        self.lost = 0  # the number of connections that the server has closed
        request = octets("GET", f"{path}?offset=now&live=sse")
        for _ in range(count):
            opened = connect(port)
            opened.sendall(request)
            self._sockets[opened.fileno()] = opened
            self._poll.register(opened.fileno(), select.EPOLLIN)
        for opened in self._sockets.values():
            if b" 200 " not in opened.recv(4096)[:16]:
                raise RuntimeError("a reader was refused")
        self.follow(0.5)

    def follow(self, seconds: float) -> None:
        """Counts messages for some seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._receive(left)

    def follow_until(self, messages: int, patience: float) -> None:
        """Counts messages until `messages` have arrived, or until none has arrived for `patience` seconds."""
        self.last = time.monotonic()
        while self.received < messages and (left := self.last + patience - time.monotonic()) > 0:
            self._receive(left)

    def _receive(self, seconds: float) -> None:
        buffer, sockets = self._buffer, self._sockets
        came = self._poll.poll(seconds)
        count = size = 0
        for descriptor, _ in came:
            taken = sockets[descriptor].recv_into(buffer)
            if not taken:
                self.lost += 1
                self._poll.unregister(descriptor)
            size += taken
            count += buffer.count(MARK, 0, taken)
        self.size += size
        if count:
            self.received += count
            self.last = time.monotonic()

    def __enter__(self) -> "Followers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for opened in self._sockets.values():
            opened.close()
        self._poll.close()


def _expect_created(opened: socket.socket, count: int) -> None:
    answers = b""
    while count and (answers.count(b"HTTP/1.1 ") < count or not answers.endswith(b"\r\n\r\n")):
        answers += opened.recv(65536) or _closed()
    if answers.count(b"HTTP/1.1 201") != count:
        raise RuntimeError(f"a stream could not be created: {answers[:200]!r}")


def _closed() -> bytes:
    raise ConnectionError("the server has closed the connection")

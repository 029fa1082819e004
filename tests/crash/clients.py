"""HTTP clients of the kill tests. Each client remembers what the server acknowledged, and checks it after a restart."""

import contextlib
import http.client
import json
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.process import ServerProcess

JSON = {"Content-Type": "application/json"}
#: The errors that a client meets when the server is killed.
GONE = (http.client.HTTPException, OSError)


@contextlib.contextmanager
def connect(server: ServerProcess) -> Iterator[http.client.HTTPConnection]:
    """Opens a connection to a server for the length of the block."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.closing(connection):
        yield connection


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """Sends a request, and returns the status and body of its response."""
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return response.status, response.read()


def read_all(connection: http.client.HTTPConnection, path: str) -> list[dict[str, int]]:
    """Returns all values of a JSON stream."""
    values: list[dict[str, int]] = []
    offset = "-1"
    while True:
        connection.request("GET", f"{path}?offset={offset}")
        response = connection.getresponse()
        values += json.loads(response.read())
        offset = str(response.getheader("stream-next-offset"))
        if response.getheader("stream-up-to-date"):
            return values


@dataclass
class Writer:
    """A producer on one stream that numbers its values, and sends a value again if it does not know whether it was written.

    Attributes:
        path: the stream.
        next: the number of the next value.
        acknowledged: the number of values that the server acknowledged.
        has_written: set at every acknowledgement.
    """

    path: str
    next: int = 0
    acknowledged: int = 0
    has_written: threading.Event = field(default_factory=threading.Event)

    def write_until_killed(self, server: ServerProcess) -> None:
        """Writes values until the connection breaks."""
        with contextlib.suppress(*GONE), connect(server) as connection:
            while True:
                self.write(connection)

    def write(self, connection: http.client.HTTPConnection) -> None:
        """Writes one value."""
        stamp = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": str(self.next)}
        value = json.dumps({"n": self.next, "pad": "x" * (self.next % 700)}).encode()
        status, body = ask(connection, "POST", self.path, value, {**JSON, **stamp})
        assert status in (200, 204), body
        self.next += 1
        self.acknowledged = self.next
        self.has_written.set()

    def check(self, connection: http.client.HTTPConnection) -> None:
        """Checks that the stream has every acknowledged value once and in order, and at most one more."""
        numbers = [value["n"] for value in read_all(connection, self.path)]
        assert numbers == list(range(len(numbers))), f"{self.path}: lost, doubled or out of order"
        assert self.acknowledged <= len(numbers) <= self.acknowledged + 1


@dataclass
class Churner:
    """A client that creates, forks, closes and deletes streams.

    Attributes:
        prefix: the path above its streams.
        number: the number of streams that it has created.
        expected: the state of each stream: present, closed, absent, or unknown after a request without a response.
        has_written: set at every acknowledgement.
    """

    prefix: str = "/churn"
    number: int = 0
    expected: dict[str, str] = field(default_factory=dict)
    has_written: threading.Event = field(default_factory=threading.Event)

    def churn_until_killed(self, server: ServerProcess, chance: random.Random) -> None:
        """Sends random requests until the connection breaks."""
        with contextlib.suppress(*GONE), connect(server) as connection:
            while True:
                self.churn(connection, chance)

    def churn(self, connection: http.client.HTTPConnection, chance: random.Random) -> None:
        """Sends one random request."""
        sure = [path for path, state in self.expected.items() if state in ("present", "closed")]
        if not sure or chance.random() < 0.5:
            self.number += 1
            path = f"{self.prefix}/{self.number}"
            source = chance.choice(sure) if sure and chance.random() < 0.3 else None
            headers = {"Stream-Forked-From": source} if source else JSON
            self._send(connection, path, "present", "PUT", None if source else b"[1,2]", headers)
        elif chance.random() < 0.3:
            path = chance.choice(sure)
            self._send(connection, path, "closed", "POST", None, {"Stream-Closed": "true"})
        else:
            self._send(connection, chance.choice(sure), "absent", "DELETE", None, {})

    def _send(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        state: str,
        method: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> None:
        self.expected[path] = "unknown"
        status, answer = ask(connection, method, path, body, headers)
        assert status in (200, 201, 204), answer
        self.expected[path] = state
        self.has_written.set()

    def check(self, connection: http.client.HTTPConnection) -> None:
        """Checks the state of every stream, and forgets those whose state is unknown."""
        for path, state in self.expected.items():
            status, body = ask(connection, "GET", path)
            if state == "absent":
                assert status in (404, 410), f"{path} is back"
            elif state != "unknown":
                assert (status, body) == (200, b"[1,2]"), f"{path} is lost"
            if state == "closed":
                connection.request("HEAD", path)
                response = connection.getresponse()
                response.read()
                assert response.getheader("stream-closed") == "true"
        self.expected = {path: state for path, state in self.expected.items() if state != "unknown"}


class Crowd:
    """Connects more live readers than the server has file handles, for the length of the block.

    Args:
        server: the server.
        path: the stream to read.
        size: the number of readers.
    """

    def __init__(self, server: ServerProcess, path: str, size: int) -> None:
        self._server = server
        self._request = (
            f"GET {path}?offset=-1&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        self._size = size
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> None:
        parts = urlsplit(self._server.url)
        for _ in range(self._size):
            with contextlib.suppress(OSError):  # the server may have been killed already
                reader = socket.create_connection((str(parts.hostname), parts.port), 10)
                self._stack.enter_context(reader)
                reader.sendall(self._request)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

"""The server of a soak as its clients see it: an address that stays, and notices of when the server goes down and comes up."""

import http.client
import json
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from tests.crash.clients import GONE

HOST = "127.0.0.1"
TIMEOUT = 60.0  # seconds without a response, after which a request has failed
#: Seconds for which the notice of a stop may be late.
NOTICE = 2.0
#: Seconds after a start in which a client may still notice that its old connection is gone.
AFTERMATH = 5.0


class Refused(http.client.HTTPException):
    """The server has answered with 429 or 503, so it has done nothing."""


class Listener(Protocol):
    """A client that must know about each restart."""

    def go_down(self, why: str) -> None:
        """Notes that the server goes down as soon as this function returns."""

    def come_up(self) -> None:
        """Notes that the server runs again."""


class Remote:
    """The server, as all clients of one process see it.

    Args:
        port: the port of the server in all its lives.

    Attributes:
        counts: how often something happened, by its name.
        faults: what the server did wrong, as sentences.
        listeners: are told when the server goes down and comes up.
        over: an event that is set when the clients must stop.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.listeners: list[Listener] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._is_up = threading.Event()
        self._is_up.set()
        self._changed = threading.Event()
        self._up_at = 0.0

    @property
    def is_up(self) -> bool:
        """Whether the server should run."""
        return self._is_up.is_set()

    @property
    def url(self) -> str:
        """The URL of the stream root."""
        return f"http://{HOST}:{self.port}/v1/stream" if self.is_up else ""

    @property
    def wall(self) -> float:
        """The Unix time in seconds that the server reads from its clock."""
        return time.time()

    @property
    def goes_on(self) -> bool:
        """Whether the clients must go on."""
        return not self.over.is_set()

    def go_down(self, why: str) -> None:
        """Notes that the server is about to go down. `why` is `stop` or `kill`."""
        for listener in self.listeners:
            listener.go_down(why)
        self._is_up.clear()
        self._changed.set()

    def come_up(self) -> None:
        """Notes that the server runs again."""
        self._up_at = time.monotonic()
        self._changed.clear()
        self._is_up.set()
        for listener in self.listeners:
            listener.come_up()

    def count(self, what: str, by: int = 1) -> None:
        """Counts something that happened."""
        with self._lock:
            self.counts[what] += by

    def blame(self, what: str) -> None:
        """Records a fault of the server, and stops all clients."""
        self.faults.append(what)
        self.over.set()

    def sleep(self, seconds: float) -> None:
        """Sleeps for some seconds, or until the clients must stop."""
        self.over.wait(seconds)

    def connect(self) -> "Connection":
        """Returns a connection, which connects with its first request."""
        return Connection(self)

    def may_break(self) -> bool:
        """Returns whether a restart explains that a connection has just broken. Waits for the notice of a stop, which may be late."""
        if time.monotonic() < self._up_at + AFTERMATH:
            return True
        return self._changed.wait(NOTICE)

    def persist(self, act: Callable[["Connection"], None], name: str) -> None:
        """Repeats `act` with a connection until the clients must stop. Connects again after the server has restarted.

        Args:
            act: one action, which must be repeatable if its connection breaks.
            name: the name of the client in the description of a fault.
        """
        while self.goes_on:
            connection = self.connect()
            try:
                while self.goes_on:
                    act(connection)
            except Refused as error:
                self.count(f"refused with {error}")
                self.sleep(0.1)
            except GONE as error:
                self.count("connections broken by restarts")
                if not self.may_break():
                    self.blame(f"{name}: the connection broke while the server ran: {error!r}")
                self._is_up.wait(1.0)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                self.blame(
                    f"{name}: {type(error).__name__} in {where.name}, line {where.lineno}: {error}"
                )
            finally:
                connection.close()


class Connection(http.client.HTTPConnection):
    """A connection whose responses with status 429 and 503 are exceptions."""

    def __init__(self, remote: Remote) -> None:
        super().__init__(HOST, remote.port, timeout=TIMEOUT)

    def connect(self) -> None:
        """Connects, and sends each request at once."""
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def getresponse(self) -> http.client.HTTPResponse:
        """Returns the next response.

        Raises:
            Refused: its status is 429 or 503.
        """
        response = super().getresponse()
        if response.status in (429, 503):
            code = json.loads(response.read() or b"{}").get("error", {}).get("code", "")
            raise Refused(f"{response.status} {code}")
        return response

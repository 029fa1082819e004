"""The real thing: a server under load is killed with SIGKILL at random moments, started again, and asked what it has."""

import contextlib
import http.client
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.process import ServerProcess, launch

ROUNDS = 50
WRITERS = 6
JSON = {"Content-Type": "application/json"}
GONE = (http.client.HTTPException, OSError)


@contextlib.contextmanager
def connect(server: ServerProcess) -> Iterator[http.client.HTTPConnection]:
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
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return response.status, response.read()


@dataclass
class Writer:
    """One producer on one stream: it numbers its values, and repeats the one whose fate it does not know."""

    path: str
    next: int = 0
    acknowledged: int = 0

    def write_until_it_dies(self, server: ServerProcess) -> None:
        with contextlib.suppress(*GONE), connect(server) as connection:
            while True:
                self.write(connection)

    def write(self, connection: http.client.HTTPConnection) -> None:
        stamp = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": str(self.next)}
        value = json.dumps({"n": self.next, "pad": "x" * (self.next % 700)}).encode()
        status, body = ask(connection, "POST", self.path, value, {**JSON, **stamp})
        assert status in (200, 204), body
        self.next += 1
        self.acknowledged = self.next

    def check(self, connection: http.client.HTTPConnection) -> None:
        numbers = [value["n"] for value in read_all(connection, self.path)]
        assert numbers == list(range(len(numbers))), f"{self.path}: lost, doubled or out of order"
        assert self.acknowledged <= len(numbers) <= self.acknowledged + 1


@dataclass
class Churner:
    """Creates, forks, closes and deletes streams, and knows what it was told of each."""

    number: int = 0
    told: dict[str, str] = field(default_factory=dict)  # path -> present, closed, absent, unknown

    def churn_until_it_dies(self, server: ServerProcess, chance: random.Random) -> None:
        with contextlib.suppress(*GONE), connect(server) as connection:
            while True:
                self.churn(connection, chance)

    def churn(self, connection: http.client.HTTPConnection, chance: random.Random) -> None:
        sure = [path for path, state in self.told.items() if state in ("present", "closed")]
        if not sure or chance.random() < 0.5:
            self.number += 1
            path = f"/churn/{self.number}"
            source = chance.choice(sure) if sure and chance.random() < 0.3 else None
            headers = {"Stream-Forked-From": source} if source else JSON
            self.tell(connection, path, "present", "PUT", None if source else b"[1,2]", headers)
        elif chance.random() < 0.3:
            self.tell(
                connection, chance.choice(sure), "closed", "POST", None, {"Stream-Closed": "true"}
            )
        else:
            self.tell(connection, chance.choice(sure), "absent", "DELETE", None, {})

    def tell(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        state: str,
        method: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> None:
        self.told[path] = "unknown"
        status, answer = ask(connection, method, path, body, headers)
        assert status in (200, 201, 204), answer
        self.told[path] = state

    def check(self, connection: http.client.HTTPConnection) -> None:
        for path, state in self.told.items():
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
        self.told = {path: state for path, state in self.told.items() if state != "unknown"}


def read_all(connection: http.client.HTTPConnection, path: str) -> list[dict[str, int]]:
    values: list[dict[str, int]] = []
    offset = "-1"
    while True:
        connection.request("GET", f"{path}?offset={offset}")
        response = connection.getresponse()
        values += json.loads(response.read())
        offset = str(response.getheader("stream-next-offset"))
        if response.getheader("stream-up-to-date"):
            return values


def test_nothing_is_lost_doubled_or_resurrected_by_a_kill(tmp_path: Path) -> None:
    chance = random.Random(7)
    writers = [Writer(f"/w/{number}") for number in range(WRITERS)]
    churner = Churner()
    flags = ("--data-dir", str(tmp_path), "--page-size", "64k")
    for _ in range(ROUNDS):
        with launch(*flags) as server, ThreadPoolExecutor(WRITERS + 1) as pool:
            with connect(server) as connection:
                for writer in writers:
                    status, _ = ask(connection, "PUT", writer.path, None, JSON)
                    assert status in (200, 201)
                    writer.check(connection)
                churner.check(connection)
            work = [pool.submit(writer.write_until_it_dies, server) for writer in writers]
            work.append(pool.submit(churner.churn_until_it_dies, server, chance))
            threading.Timer(chance.uniform(0.01, 0.25), server.process.kill).start()
            server.process.wait(10)
            for done in work:
                done.result()
    assert min(writer.acknowledged for writer in writers) > ROUNDS
    with launch(*flags) as server, connect(server) as connection:
        for writer in writers:
            writer.write(connection)
            writer.check(connection)
        churner.check(connection)

"""Kills on a full disk: what was acknowledged is there, what was deleted is not, and deletes make room for new bytes."""

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from durable_streams_server.storage.files.headroom import SOON
from tests.crash.test_kill import GONE, ask, connect
from tests.process import ServerProcess, address_of

ROUNDS = 8
MIB = 1024 * 1024
BLOCK = 200_000
TYPE = {"Content-Type": "application/octet-stream"}
#: 12 MiB of log and 18 MiB of ballast leave 20 MiB for streams.
FLAGS = ("--wal-size", "12m", "--max-body", "256k", "--page-size", "4m")
LIMIT = 50 * MIB


@contextlib.contextmanager
def limited(directory: Path) -> Iterator[ServerProcess]:
    """Runs the server on a disk of `LIMIT` bytes."""
    command = [sys.executable, "-m", "tests.crash.full_disk", str(LIMIT), str(directory)]
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", "--data-dir", str(directory), *FLAGS],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield ServerProcess(process, address_of(process))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@dataclass
class Client:
    """Creates, fills and deletes streams, and knows what it was told of each."""

    chance: random.Random
    number: int = 0
    told: dict[str, int] = field(default_factory=dict)  # blocks acknowledged
    gone: set[str] = field(default_factory=set)
    unsure: str | None = None  # the stream of the request that was in flight
    full: int = 0
    deletes: int = 0

    def work_until_it_dies(self, server: ServerProcess) -> None:
        with contextlib.suppress(*GONE), connect(server) as connection:
            while True:
                self.work(connection)

    def work(self, connection: HTTPConnection) -> None:
        """Fills streams; on a full disk it deletes one."""
        if not self.told or self.chance.random() < 0.05:
            self.number += 1
            path = f"/{self.number}"
            if self.send(connection, "PUT", path) == 201:
                self.told[path] = 0
            return
        path = self.chance.choice(sorted(self.told))
        status = self.send(connection, "POST", path, bytes([len(path)]) * BLOCK)
        if status == 204:
            self.told[path] += 1
        elif status == 507:
            self.full += 1
            if self.chance.random() < 0.3:
                self.delete(connection, path)

    def delete(self, connection: HTTPConnection, path: str) -> None:
        assert self.send(connection, "DELETE", path) == 204, "a delete was refused"
        del self.told[path]
        self.gone.add(path)
        self.deletes += 1

    def send(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None = None
    ) -> int:
        self.unsure = path
        status, answer = ask(connection, method, path, body, TYPE)
        assert status in (201, 204, 503, 507), answer
        self.unsure = None
        return status

    def check(self, connection: HTTPConnection) -> None:
        """Compares everything with what it was told."""
        for path in self.gone:
            assert ask(connection, "GET", path)[0] == 404, f"{path} is back"
        for path in sorted({*self.told, *([self.unsure] if self.unsure else [])}):
            data = self.read(connection, path)
            if data is None:
                assert path == self.unsure, f"{path} is lost"
                self.told.pop(path, None)
                self.gone.add(path)
                continue
            assert data == bytes([len(path)]) * len(data)
            known, found = self.told.get(path, 0), len(data) / BLOCK
            assert found == known or (path == self.unsure and found == known + 1)
            self.told[path] = int(found)
        self.unsure = None

    def read(self, connection: HTTPConnection, path: str) -> bytes | None:
        data, offset = b"", "-1"
        while True:
            connection.request("GET", f"{path}?offset={offset}")
            response = connection.getresponse()
            page = response.read()
            if response.status == 404:
                return None
            assert response.status == 200, page
            data += page
            offset = str(response.getheader("stream-next-offset"))
            if response.getheader("stream-up-to-date"):
                return data


def test_kills_on_a_full_disk_lose_nothing_and_deletes_make_room(tmp_path: Path) -> None:
    chance = random.Random(3)
    client = Client(chance)
    for _ in range(ROUNDS):
        with limited(tmp_path) as server:
            with connect(server) as connection:
                client.check(connection)
            threading.Timer(chance.uniform(0.3, 1.2), server.process.kill).start()
            client.work_until_it_dies(server)
            server.process.wait(10)
    assert client.full > ROUNDS
    assert client.deletes > ROUNDS
    with limited(tmp_path) as server, connect(server) as connection:
        client.check(connection)
        for path in sorted(client.told):
            client.delete(connection, path)
        until = time.monotonic() + 30
        while client.send(connection, "PUT", "/last") != 201:
            assert time.monotonic() < until, "writes never resumed"
            time.sleep(0.05)
        while sum(file.stat().st_size for file in tmp_path.glob("logs/*/*")) >= SOON:
            assert time.monotonic() < until, "space was not given back"
            time.sleep(0.05)

"""Kills a server on a full disk. Acknowledged bytes survive, deleted streams stay deleted, and deletes make room for new bytes."""

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
from tests.crash.clients import GONE, ask, connect
from tests.crash.repeat import repeated_by
from tests.process import ServerProcess, address_of

ROUNDS = 8
MIB = 1024 * 1024
BLOCK = 200_000
TYPE = {"Content-Type": "application/octet-stream"}
#: A write-ahead log of 12 MiB and a ballast of 18 MiB leave 20 MiB for streams.
FLAGS = ("--wal-size", "12m", "--max-body", "256k", "--page-size", "4m")
LIMIT = 50 * MIB


@contextlib.contextmanager
def limited(directory: Path) -> Iterator[ServerProcess]:
    """Runs a server on a disk of `LIMIT` bytes for the length of the block."""
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
    """A client that creates, fills and deletes streams.

    Attributes:
        chance: decides what the client does.
        number: the number of streams that it has created.
        blocks: the number of acknowledged blocks in each stream.
        gone: the streams that it has deleted.
        unsure: the stream of a request without a response, if there is one.
        full: the number of appends that the full disk refused.
        deletes: the number of acknowledged deletes.
    """

    chance: random.Random
    number: int = 0
    blocks: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    unsure: str | None = None
    full: int = 0
    deletes: int = 0

    def work_until_killed(self, server: ServerProcess) -> None:
        """Sends requests until the connection breaks."""
        with contextlib.suppress(*GONE), connect(server) as connection:
            while True:
                self.work(connection)

    def work(self, connection: HTTPConnection) -> None:
        """Appends a block to a stream. If the disk is full, deletes the stream in some cases."""
        if not self.blocks or self.chance.random() < 0.05:
            self.number += 1
            path = f"/{self.number}"
            if self.send(connection, "PUT", path) == 201:
                self.blocks[path] = 0
            return
        path = self.chance.choice(sorted(self.blocks))
        status = self.send(connection, "POST", path, bytes([len(path)]) * BLOCK)
        if status == 204:
            self.blocks[path] += 1
        elif status == 507:
            self.full += 1
            if self.chance.random() < 0.3:
                self.delete(connection, path)

    def delete(self, connection: HTTPConnection, path: str) -> None:
        """Deletes a stream. A full disk must not refuse that."""
        assert self.send(connection, "DELETE", path) == 204, "a delete was refused"
        del self.blocks[path]
        self.gone.add(path)
        self.deletes += 1

    def send(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None = None
    ) -> int:
        """Sends a request, and returns the status of its response."""
        self.unsure = path
        status, answer = ask(connection, method, path, body, TYPE)
        assert status in (201, 204, 503, 507), answer
        self.unsure = None
        return status

    def check(self, connection: HTTPConnection) -> None:
        """Compares every stream with what the server acknowledged."""
        for path in self.gone:
            assert ask(connection, "GET", path)[0] == 404, f"{path} is back"
        for path in sorted({*self.blocks, *([self.unsure] if self.unsure else [])}):
            data = self.read(connection, path)
            if data is None:
                assert path == self.unsure, f"{path} is lost"
                self.blocks.pop(path, None)
                self.gone.add(path)
                continue
            assert data == bytes([len(path)]) * len(data)
            known, found = self.blocks.get(path, 0), len(data) / BLOCK
            assert found == known or (path == self.unsure and found == known + 1)
            self.blocks[path] = int(found)
        self.unsure = None

    def read(self, connection: HTTPConnection, path: str) -> bytes | None:
        """Returns all bytes of a stream, or None if there is no such stream."""
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


@repeated_by("python -m pytest tests/crash/test_full_disk.py")
def test_kill_on_a_full_disk_loses_nothing_and_deletes_free_space(tmp_path: Path) -> None:
    chance = random.Random(3)
    client = Client(chance)
    for _ in range(ROUNDS):
        with limited(tmp_path) as server:
            with connect(server) as connection:
                client.check(connection)
            threading.Timer(chance.uniform(0.3, 1.2), server.process.kill).start()
            client.work_until_killed(server)
            server.process.wait(10)
    assert client.full > ROUNDS
    assert client.deletes > ROUNDS
    with limited(tmp_path) as server, connect(server) as connection:
        client.check(connection)
        for path in sorted(client.blocks):
            client.delete(connection, path)
        until = time.monotonic() + 30
        while client.send(connection, "PUT", "/last") != 201:
            assert time.monotonic() < until, "writes never resumed"
            time.sleep(0.05)  # the server is another process, which can only be polled
        while sum(file.stat().st_size for file in tmp_path.glob("logs/*/*")) >= SOON:
            assert time.monotonic() < until, "space was not given back"
            time.sleep(0.05)  # as above

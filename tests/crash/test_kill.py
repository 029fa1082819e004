"""The real thing: a server under load is killed with SIGKILL at random moments, started again, and asked what it has."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import eq
from pathlib import Path
from urllib.parse import urlsplit

from tests.process import ServerProcess, launch
from tests.webhook import BROKEN, DONE, TAKEN, Answer, Delivery, receiving

ROUNDS = 50
HANDLE_ROUNDS = 5
HANDLES = 96  # the server takes half of them for connections
WRITERS = 6
WAKE_ROUNDS = 8
PRELOAD_ROUNDS = 4
ANSWERS = [*[DONE] * 4, *[TAKEN] * 4, BROKEN]
SUBSCRIPTION = "/v1/stream/__ds/subscriptions/s"
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


class Crowd:
    """More live readers than a server has handles for, for as long as the block lasts."""

    def __init__(self, server: ServerProcess, path: str, size: int) -> None:
        self._server = server
        self._request = f"GET {path}?offset=-1&live=sse HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        self._size = size
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> None:
        parts = urlsplit(self._server.url)
        for _ in range(self._size):
            with contextlib.suppress(OSError):  # the server may be dead by now
                reader = socket.create_connection((str(parts.hostname), parts.port), 10)
                self._stack.enter_context(reader)
                reader.sendall(self._request)

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def test_kills_of_a_server_short_of_file_handles_lose_nothing(tmp_path: Path) -> None:
    """A crowd takes every handle that the server gives away, more streams are written than it can keep open, and it is killed."""
    chance = random.Random(11)
    writers = [Writer(f"/w/{number}") for number in range(WRITERS)]
    churner = Churner()
    flags = ("--data-dir", str(tmp_path), "--wal-size", "24m", "--max-body", "1m")
    for _ in range(HANDLE_ROUNDS):
        with launch(*flags, handles=HANDLES) as server, ThreadPoolExecutor(WRITERS + 1) as pool:
            with connect(server) as connection:
                for writer in writers:
                    assert ask(connection, "PUT", writer.path, None, JSON)[0] in (200, 201)
                    writer.check(connection)
                churner.check(connection)
            before = [*(writer.next for writer in writers), churner.number]
            work = [pool.submit(writer.write_until_it_dies, server) for writer in writers]
            work.append(pool.submit(churner.churn_until_it_dies, server, chance))
            while any(map(eq, before, [*(writer.next for writer in writers), churner.number])):
                time.sleep(0.001)  # until each of them has its connection
            with Crowd(server, writers[0].path, 2 * HANDLES):
                threading.Timer(chance.uniform(0.05, 0.5), server.process.kill).start()
                assert server.process.wait(20) == -signal.SIGKILL, "the store stopped by itself"
            for done in work:
                done.result()
    with launch(*flags, handles=HANDLES) as server, connect(server) as connection:
        for writer in writers:
            writer.write(connection)
            writer.check(connection)
        churner.check(connection)


@dataclass
class Told:
    """What a receiver knows, which outlives the servers: positions in each stream.

    Attributes:
        told: the furthest tail that came with a delivery.
        tried: the furthest that an answer or a callback has acknowledged, whether or not the server heard it.
        settled: the furthest whose acknowledgement was confirmed.
        faults: what the server did that it must not.
        is_patient: whether every delivery is answered with `{"done": true}` from now on.
    """

    told: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    is_patient: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(11))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, delivery: Delivery) -> Answer:
        with self.lock:
            answer = DONE if self.is_patient else self.chance.choice(ANSWERS)
            for stream in delivery.wake["streams"]:
                path, acked = stream["path"], position(stream["acked_offset"])
                if acked < self.settled.get(path, 0):
                    self.faults.append(f"the cursor of {path} went back")
                if acked > self.tried.get(path, 0):
                    self.faults.append(f"the cursor of {path} is where nobody has put it")
                tail = position(stream["tail_offset"])
                self.told[path] = max(tail, self.told.get(path, 0))
            if answer is not BROKEN:
                self.note(self.tried, delivery)
        return answer

    def after(self, delivery: Delivery, answer: Answer) -> None:
        """Calls back, if that is what the answer was a promise of."""
        if answer is not TAKEN:
            return
        wake = delivery.wake
        acks = [{"stream": each["path"], "offset": each["tail_offset"]} for each in wake["streams"]]
        body = {"wake_id": wake["wake_id"], "generation": wake["generation"], "acks": acks}
        sent = json.dumps({**body, "done": True}).encode()
        headers = {**JSON, "Authorization": f"Bearer {wake['callback_token']}"}
        url = urlsplit(wake["callback_url"])
        with contextlib.suppress(*GONE):
            connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=5)
            with contextlib.closing(connection):
                status, said = ask(connection, "POST", url.path, sent, headers)
            if status == 200:
                with self.lock:
                    self.note(self.settled, delivery)
            elif (status, json.loads(said)["error"]["code"]) != (409, "FENCED"):
                self.faults.append(f"a callback was answered with {status}: {said!r}")

    def note(self, positions: dict[str, int], delivery: Delivery) -> None:
        for stream in delivery.wake["streams"]:
            path, tail = stream["path"], position(stream["tail_offset"])
            positions[path] = max(tail, positions.get(path, 0))


def position(offset: str) -> int:
    return int(offset[-16:])


def tail_of(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("HEAD", path)
    response = connection.getresponse()
    response.read()
    return position(str(response.getheader("stream-next-offset")))


def test_kills_cost_no_wake_and_no_cursor(tmp_path: Path) -> None:
    chance = random.Random(9)
    writers = [Writer(f"/v1/stream/w/{number}") for number in range(3)]
    paths = [writer.path.removeprefix("/v1/stream/") for writer in writers]
    receiver = Told()
    flags = ("--data-dir", str(tmp_path))
    with receiving() as hook:
        hook.answer, hook.after = receiver.answer, receiver.after
        wanted = {"type": "webhook", "pattern": "w/*", "webhook": {"url": hook.url}}
        body = json.dumps({**wanted, "lease_ttl_ms": 1000}).encode()
        for _ in range(WAKE_ROUNDS):
            with launch(*flags) as server, ThreadPoolExecutor(len(writers)) as pool:
                with connect(server) as connection:
                    status, answer = ask(connection, "PUT", SUBSCRIPTION, body, JSON)
                    assert status in (200, 201), answer
                    for writer in writers:
                        ask(connection, "PUT", writer.path, None, JSON)
                work = [pool.submit(writer.write_until_it_dies, server) for writer in writers]
                threading.Timer(chance.uniform(0.02, 0.4), server.process.kill).start()
                server.process.wait(10)
                for done in work:
                    done.result()
            assert not receiver.faults
        receiver.is_patient = True
        with launch(*flags) as server, connect(server) as connection:
            tails = {
                path: tail_of(connection, writer.path)
                for path, writer in zip(paths, writers, strict=True)
            }
            until = time.monotonic() + 30
            while (found := acknowledged(connection)) != tails:
                assert time.monotonic() < until, (found, tails)
                time.sleep(0.05)
            for writer in writers:
                writer.check(connection)
        assert not receiver.faults
        assert receiver.told == tails, "an append was acknowledged and never told of"
        assert min(receiver.settled.values()) > 0


def acknowledged(connection: http.client.HTTPConnection) -> dict[str, int]:
    """Returns each stream's cursor."""
    _, answer = ask(connection, "GET", SUBSCRIPTION)
    streams = json.loads(answer)["streams"]
    return {stream["path"]: position(stream["acked_offset"]) for stream in streams}


@contextlib.contextmanager
def preloaded(directory: Path, when: str) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Runs a server that forks workers in a group of its own, and yields it and them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.preload", str(directory), when],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        owner, workers = (process.stdout.readline().strip() for _ in range(2))
        yield ServerProcess(process, owner), ServerProcess(process, workers)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def be_refused(workers: ServerProcess, paths: list[str]) -> int:
    """Asks the workers for everything until they are gone; returns how often they refused."""
    refused = 0
    with contextlib.suppress(*GONE), connect(workers) as connection:
        while True:
            for path in paths:
                for method, body in (
                    ("PUT", None),
                    ("POST", b"[0]"),
                    ("GET", None),
                    ("DELETE", None),
                ):
                    status, answer = ask(connection, method, path, body, JSON)
                    assert status == 503, answer
                    assert json.loads(answer)["error"]["code"] == "STORE_FORKED"
                    refused += 1
    return refused


def test_kills_of_a_server_with_forked_workers_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(13)
    writers = [Writer(f"/w/{number}") for number in range(3)]
    churner = Churner()
    paths = [*(writer.path for writer in writers), "/only/of/workers"]
    refused = 0
    for number in range(PRELOAD_ROUNDS):
        when = ("before", "after")[number % 2]
        with (
            preloaded(tmp_path, when) as (owner, workers),
            ThreadPoolExecutor(len(writers) + 3) as pool,
        ):
            with connect(owner) as connection:
                for writer in writers:
                    assert ask(connection, "PUT", writer.path, None, JSON)[0] in (200, 201)
                    writer.check(connection)
                churner.check(connection)
            work = [pool.submit(writer.write_until_it_dies, owner) for writer in writers]
            work.append(pool.submit(churner.churn_until_it_dies, owner, chance))
            refusals = [pool.submit(be_refused, workers, paths) for _ in range(2)]
            threading.Timer(chance.uniform(0.05, 0.3), owner.process.kill).start()
            owner.process.wait(10)
            for done in work:
                done.result()
            # The workers outlive their parent, and must not keep the directory from whoever opens it next.
            with launch("--data-dir", str(tmp_path)) as server, connect(server) as connection:
                for writer in writers:
                    writer.check(connection)
                churner.check(connection)
                assert ask(connection, "GET", "/only/of/workers")[0] == 404
            os.killpg(owner.process.pid, signal.SIGKILL)
            refused += sum(done.result() for done in refusals)
    assert refused > 10 * PRELOAD_ROUNDS
    assert min(writer.acknowledged for writer in writers) > PRELOAD_ROUNDS

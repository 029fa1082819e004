"""Kills a server that delivers webhooks, and checks that no wake and no acknowledged cursor is lost."""

import contextlib
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from tests.crash.clients import GONE, JSON, Writer, ask, connect
from tests.crash.repeat import repeated_by
from tests.process import launch
from tests.webhook import BROKEN, DONE, TAKEN, Answer, Delivery, receiving

WAKE_ROUNDS = 8
ANSWERS = [*[DONE] * 4, *[TAKEN] * 4, BROKEN]
SUBSCRIPTION = "/v1/stream/__ds/subscriptions/s"


@dataclass
class Receiver:
    """A webhook receiver that outlives the servers. Its dictionaries hold a position for each stream.

    Attributes:
        told: the largest tail that a delivery announced.
        tried: the largest position that a response or callback acknowledged, whether or not the server received it.
        settled: the largest position whose acknowledgement the server confirmed.
        faults: what the server did wrong.
        is_patient: whether the receiver answers every further delivery with `{"done": true}`.
    """

    told: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    is_patient: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(11))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, delivery: Delivery) -> Answer:
        """Returns the response to a delivery, and checks the cursors that the delivery reports."""
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
                self._record(self.tried, delivery)
        return answer

    def after(self, delivery: Delivery, answer: Answer) -> None:
        """Sends a callback after a delivery whose response promised one."""
        if answer is not TAKEN:
            return
        wake = delivery.wake
        acks = [{"stream": each["path"], "offset": each["tail_offset"]} for each in wake["streams"]]
        body = {"wake_id": wake["wake_id"], "generation": wake["generation"], "acks": acks}
        sent = json.dumps({**body, "done": True}).encode()
        headers = {**JSON, "Authorization": f"Bearer {wake['callback_token']}"}
        url = urlsplit(wake["callback_url"])
        with contextlib.suppress(*GONE):
            connection = HTTPConnection(str(url.hostname), url.port, timeout=5)
            with contextlib.closing(connection):
                status, said = ask(connection, "POST", url.path, sent, headers)
            if status == 200:
                with self.lock:
                    self._record(self.settled, delivery)
            elif (status, json.loads(said)["error"]["code"]) != (409, "FENCED"):
                self.faults.append(f"a callback was answered with {status}: {said!r}")

    def _record(self, positions: dict[str, int], delivery: Delivery) -> None:
        for stream in delivery.wake["streams"]:
            path, tail = stream["path"], position(stream["tail_offset"])
            positions[path] = max(tail, positions.get(path, 0))


def position(offset: str) -> int:
    """Returns the position in an offset."""
    return int(offset[-16:])


def tail_of(connection: HTTPConnection, path: str) -> int:
    """Returns the position of a stream's tail."""
    connection.request("HEAD", path)
    response = connection.getresponse()
    response.read()
    return position(str(response.getheader("stream-next-offset")))


@repeated_by("python -m pytest tests/crash/test_kill_wakes.py")
def test_kill_loses_no_wake_and_no_cursor(tmp_path: Path) -> None:
    chance = random.Random(9)
    writers = [Writer(f"/v1/stream/w/{number}") for number in range(3)]
    paths = [writer.path.removeprefix("/v1/stream/") for writer in writers]
    receiver = Receiver()
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
                work = [pool.submit(writer.write_until_killed, server) for writer in writers]
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
            while (found := cursors(connection)) != tails:
                assert time.monotonic() < until, (found, tails)
                time.sleep(0.05)  # the server is another process, which can only be polled
            for writer in writers:
                writer.check(connection)
        assert not receiver.faults
        assert receiver.told == tails, "an append was acknowledged and never told of"
        assert min(receiver.settled.values()) > 0


def cursors(connection: HTTPConnection) -> dict[str, int]:
    """Returns the cursor of each stream of the subscription."""
    _, answer = ask(connection, "GET", SUBSCRIPTION)
    streams = json.loads(answer)["streams"]
    return {stream["path"]: position(stream["acked_offset"]) for stream in streams}

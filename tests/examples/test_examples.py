"""The examples, run as their readers would run them."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.process import serve

ROOT = Path(__file__).parents[2]
BASE = "/v1/stream"
JSON = {"content-type": "application/json"}


@contextmanager
def running(*command: str) -> Iterator[Iterator[str]]:
    """Runs a program, and yields what it prints, line by line; it is ended if a line is long in coming."""
    process = subprocess.Popen(
        [sys.executable, "-u", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(20, process.kill)
    watchdog.start()
    assert process.stdout is not None
    try:
        yield iter(process.stdout.readline, "")
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def acknowledged(http: httpx.Client, id_: str, path: str) -> bool:
    """Whether a subscription has read a stream to its end."""
    tail = http.head(path).headers["stream-next-offset"]
    streams = http.get(f"__ds/subscriptions/{id_}").json()["streams"]
    return [each["acked_offset"] for each in streams if each["path"] == path] == [tail]


def wait_for_acknowledgement(http: httpx.Client, id_: str, path: str) -> None:
    for _ in range(500):
        if acknowledged(http, id_, path):
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{path} is not acknowledged")


@pytest.mark.parametrize("flags", [(), ("--at-once",)], ids=["callback", "at once"])
def test_the_webhook_receiver_reads_each_order_and_acknowledges(flags: tuple[str, ...]) -> None:
    with serve("--memory") as server:
        command = ("examples/webhook_receiver.py", server.url + BASE, "0", *flags)
        with running(*command) as said, httpx.Client(base_url=server.url + BASE) as http:
            url = next(said).split()[-1]
            assert url.startswith("http://127.0.0.1:")
            http.put("orders/a b", headers=JSON)
            http.post("orders/a b", json=[{"amount": 2}, {"amount": 3}])
            assert read(said) == "orders/a b 5"
            wait_for_acknowledgement(http, "totals", "orders/a b")
            http.post("orders/a b", json={"amount": 7})
            assert read(said) == "orders/a b 7"
            forged = httpx.post(url, json={"subscription_id": "totals", "streams": []})
            assert forged.status_code == 401


def test_pull_workers_share_the_work_and_each_job_is_done_once() -> None:
    with serve("--memory") as server, httpx.Client(base_url=server.url + BASE) as http:
        script = ("examples/pull_worker.py", server.url + BASE)
        with running(*script, "alice") as alice, running(*script, "bob") as bob:
            assert (next(alice), next(bob)) == ("waiting for wakes\n", "waiting for wakes\n")
            done: list[str] = []
            threads = [threading.Thread(target=collect, args=(said, done)) for said in (alice, bob)]
            for thread in threads:
                thread.start()
            for number in range(20):
                http.put(f"jobs/{number % 4}", headers=JSON)
                http.post(f"jobs/{number % 4}", json={"n": number})
            for number in range(4):
                wait_for_acknowledgement(http, "jobs", f"jobs/{number}")
        for thread in threads:
            thread.join()
    jobs = [int(match[1]) for line in done if (match := re.search(r"'n': (\d+)", line))]
    assert sorted(jobs) == list(range(20))


def test_tokens_can_be_followed_from_any_point_by_many() -> None:
    server = ("-m", "uvicorn", "--port", "0", "--app-dir", "examples", "llm_tokens:app")
    with running(*server) as said:
        url = next(found[0] for line in said if (found := re.search(r"http://[\d.:]+", line)))
        with httpx.Client(base_url=url, timeout=10) as http:
            assert "EventSource" in http.get("/").text
            stream = http.post("/ask", params={"prompt": "hello"}).json()["stream"]
            live = http.get(stream, params={"offset": "-1", "live": "sse"}).text
            again = http.get(stream, params={"offset": "-1"})
    tokens = [
        token
        for data in re.findall(r"event: data\ndata: ?(\[.*\])", live)
        for token in json.loads(data)
    ]
    assert "".join(tokens) == "You said hello. I have nothing to add to that. "
    assert again.json() == tokens
    assert again.headers["stream-closed"] == "true"
    assert '"streamClosed":true' in live


def read(said: Iterator[str]) -> str:
    """Returns the next line that is no line of a log."""
    return next(line.strip() for line in said if "HTTP/1.1" not in line)


def collect(said: Iterator[str], into: list[str]) -> None:
    """Keeps what a worker says, until it ends."""
    into.extend(line for line in said if "jobs/" in line)

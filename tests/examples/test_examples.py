"""Runs the examples as their readers would run them."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from durable_streams_server import FileBackedStreamStore
from tests.process import serve

ROOT = Path(__file__).parents[2]
BASE = "/v1/stream"
JSON = {"content-type": "application/json"}


class Lines(Iterator[str]):
    """Iterates over the lines that a program prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __next__(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise StopIteration
        return line


@contextmanager
def running(*command: str, **environment: str) -> Iterator[Lines]:
    """Runs a program until the end of the block, and yields the lines that it prints. Kills the program after 20 seconds."""
    process = subprocess.Popen(
        [sys.executable, "-u", *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(20, process.kill)
    watchdog.start()
    assert process.stdout is not None
    try:
        yield Lines(process)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def acknowledged(http: httpx.Client, id_: str, path: str) -> bool:
    """Returns whether a subscription has acknowledged a stream up to its tail."""
    tail = http.head(path).headers["stream-next-offset"]
    streams = http.get(f"__ds/subscriptions/{id_}").json()["streams"]
    return [each["acked_offset"] for each in streams if each["path"] == path] == [tail]


def wait_for_acknowledgement(http: httpx.Client, id_: str, path: str) -> None:
    """Waits until a subscription has acknowledged a stream up to its tail. It polls, because the server does not announce this."""
    for _ in range(500):
        if acknowledged(http, id_, path):
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{path} is not acknowledged")


@pytest.mark.parametrize("flags", [(), ("--at-once",)], ids=["callback", "at once"])
def test_webhook_receiver_reads_and_acknowledges_each_order(flags: tuple[str, ...]) -> None:
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


def test_two_pull_workers_do_each_job_once() -> None:
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


@contextmanager
def answers(
    directory: Path, application: str = "llm_tokens:app"
) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """Runs the example `llm_tokens` with a data directory, and yields an HTTP client and the process."""
    command = ("-m", "uvicorn", "--port", "0", application)
    folders = [ROOT / "examples", ROOT / "tests/examples", ROOT / "src"]
    environment = {"ANSWERS": str(directory), "PYTHONPATH": os.pathsep.join(map(str, folders))}
    with running(*command, **environment) as said:
        url = next(found[0] for line in said if (found := re.search(r"http://[\d.:]+", line)))
        with httpx.Client(base_url=url, timeout=10) as http:
            yield http, said.process


def ask(http: httpx.Client, prompt: str) -> str:
    """Asks the model a question, and returns the URL of the stream with the answer."""
    stream: str = http.post("/ask", params={"prompt": prompt}).json()["stream"]
    return stream


def wait_for(http: httpx.Client, stream: str, expected: list[dict[str, str]]) -> None:
    """Waits until a stream has exactly the expected messages."""
    found: list[dict[str, str]] = []
    offset = "-1"
    while found != expected:
        read = http.get(stream, params={"offset": offset, "live": "long-poll"})
        found += read.json()
        offset = read.headers["stream-next-offset"]


def messages(events: str) -> list[dict[str, str]]:
    """Returns the JSON messages in the body of an event stream."""
    found = re.findall(r"event: data\ndata: ?(\[.*\])", events)
    return [message for data in found for message in json.loads(data)]


def test_model_answer_can_be_followed_live_and_read_again(tmp_path: Path) -> None:
    with answers(tmp_path) as (http, _):
        assert "EventSource" in http.get("/").text
        stream = ask(http, "hello")
        live = http.get(stream, params={"offset": "-1", "live": "sse"}).text
        again = http.get(stream, params={"offset": "-1"})
        assert http.post(stream, json="forged").status_code == 403
        assert http.get("/streams/registry").status_code == 403
    *tokens, last = messages(live)
    text = "".join(message["token"] for message in tokens)
    assert text == "You said hello. I have nothing to add to that. "
    assert last == {"status": "complete"}
    assert again.json() == [*tokens, last]
    assert again.headers["stream-closed"] == "true"
    assert '"streamClosed":true' in live


HALF = [{"token": "half "}, {"token": "an answer"}]


def test_answer_of_a_failing_model_ends_with_failed_status(tmp_path: Path) -> None:
    with answers(tmp_path, "other_model:app") as (http, _):
        stream = ask(http, "fail")
        live = http.get(stream, params={"offset": "-1", "live": "sse"}).text
    assert messages(live) == [*HALF, {"status": "failed"}]
    assert '"streamClosed":true' in live


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_unfinished_model_answer_gets_interrupted_status_after_restart(
    tmp_path: Path, stop: signal.Signals
) -> None:
    with answers(tmp_path, "other_model:app") as (http, process):
        hung, failed = ask(http, "hang"), ask(http, "fail")
        wait_for(http, failed, [*HALF, {"status": "failed"}])
        wait_for(http, hung, HALF)
        before = http.get(hung)
        assert before.json() == HALF
        assert "stream-closed" not in before.headers
        process.send_signal(stop)
        assert process.wait(10) == -stop
    with FileBackedStreamStore(
        tmp_path
    ) as store:  # SIGTERM lets the process close the answer, but SIGKILL does not
        left = store.get(hung.removeprefix("/streams"))
        assert left is not None
        assert left.closed is (stop is signal.SIGTERM)
    for _ in range(2):  # the second start finds no open answer
        with answers(tmp_path) as (http, _):
            after = http.get(hung, params={"offset": "-1", "live": "sse"}).text
            assert messages(after) == [*HALF, {"status": "interrupted"}]
            assert '"streamClosed":true' in after
            rest = http.get(hung, params={"offset": before.headers["stream-next-offset"]})
            assert rest.json() == [{"status": "interrupted"}]
            assert http.get(failed).json()[-1] == {"status": "failed"}


def read(said: Iterator[str]) -> str:
    """Returns the next line that is not from an access log."""
    return next(line.strip() for line in said if "HTTP/1.1" not in line)


def collect(said: Iterator[str], into: list[str]) -> None:
    """Collects in `into` the lines that a worker prints about its jobs, until the worker ends."""
    into.extend(line for line in said if "jobs/" in line)

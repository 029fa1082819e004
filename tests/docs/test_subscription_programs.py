"""Tests that run the programs of docs/subscriptions.md, which must process each value once even if they are killed."""

import json
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.process import launch

PAGE = Path(__file__).parents[2] / "docs" / "subscriptions.md"
BASE = "/v1/stream"
JSON = {"content-type": "application/json"}


def program(name: str) -> str:
    """Returns the source of one of the page's programs."""
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", PAGE.read_text(), re.S)
    assert found is not None
    return found[1]


@contextmanager
def running(name: str, *given: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a program, and kills it at the end of the `with` block."""
    process = subprocess.Popen(
        [sys.executable, "-c", program(name), *given], stdout=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def append(http: httpx.Client, folder: str, numbers: range) -> None:
    """Appends numbered values to three streams."""
    for number in numbers:
        http.put(f"{folder}/{number % 3}", headers=JSON)
        http.post(f"{folder}/{number % 3}", json={"n": number}).raise_for_status()


def wait_until_read(http: httpx.Client, id_: str) -> None:
    """Waits until a subscription has read all its streams."""
    for _ in range(1500):
        streams = http.get(f"__ds/subscriptions/{id_}").json()["streams"]
        tails = [http.head(each["path"]).headers["stream-next-offset"] for each in streams]
        if [each["acked_offset"] for each in streams] == tails:
            return
        threading.Event().wait(0.01)  # the program runs in another process and gives no signal
    raise AssertionError("there is news left")


def numbers_in(database: Path, table: str) -> list[int]:
    """Returns the sorted numbers of the values in a table."""
    with closing(sqlite3.connect(database)) as db:
        return sorted(json.loads(row[0])["n"] for row in db.execute(f"SELECT * FROM {table}"))


@pytest.mark.parametrize(
    ("name", "folder", "table"), [("worker", "jobs", "done"), ("receiver", "orders", "orders")]
)
def test_program_processes_each_value_once_despite_kills(
    tmp_path: Path, name: str, folder: str, table: str
) -> None:
    database, data = tmp_path / "work.db", tmp_path / "data"
    port = ["0"] if name == "receiver" else []
    with launch("--data-dir", str(data)) as server:
        url = server.url + BASE
        with httpx.Client(base_url=url) as http:
            with running(name, url, str(database), *port):
                append(http, folder, range(10))
                wait_until_read(http, folder)
            append(http, folder, range(10, 20))  # while no program is running
            # The next run of the receiver has another port, so it needs another subscription.
            if name == "receiver":
                http.delete(f"__ds/subscriptions/{folder}")
            with running(name, url, str(database), *port):
                append(http, folder, range(20, 30))
                wait_until_read(http, folder)
    expected = range(30) if name == "worker" else [*range(10), *range(20, 30)]
    found = numbers_in(database, table)
    assert len(found) == len(set(found))
    assert set(expected) <= set(found)

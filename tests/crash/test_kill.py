"""Kills a server under load with SIGKILL at random moments, starts it again, and compares its data with what the clients expect."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from tests.crash.clients import GONE, JSON, Churner, Crowd, Writer, ask, connect
from tests.crash.repeat import repeated_by
from tests.process import ServerProcess, launch

ROUNDS = 50
HANDLE_ROUNDS = 5
HANDLES = 96  # the server uses half of them for connections
WRITERS = 6
PRELOAD_ROUNDS = 4


def check(connection: HTTPConnection, writers: list[Writer], churner: Churner) -> None:
    """Checks that the server has what every client expects."""
    for writer in writers:
        writer.check(connection)
    churner.check(connection)


def create_and_check(connection: HTTPConnection, writers: list[Writer], churner: Churner) -> None:
    """Creates the writers' streams if they are missing, and checks that the server has what every client expects."""
    for writer in writers:
        assert ask(connection, "PUT", writer.path, None, JSON)[0] in (200, 201)
    check(connection, writers, churner)


@repeated_by(
    "python -m pytest tests/crash/test_kill.py::test_kill_neither_loses_nor_duplicates_nor_resurrects_data"
)
def test_kill_neither_loses_nor_duplicates_nor_resurrects_data(tmp_path: Path) -> None:
    chance = random.Random(7)
    writers = [Writer(f"/w/{number}") for number in range(WRITERS)]
    churner = Churner()
    flags = ("--data-dir", str(tmp_path), "--page-size", "64k")
    for _ in range(ROUNDS):
        with launch(*flags) as server, ThreadPoolExecutor(WRITERS + 1) as pool:
            with connect(server) as connection:
                create_and_check(connection, writers, churner)
            work = [pool.submit(writer.write_until_killed, server) for writer in writers]
            work.append(pool.submit(churner.churn_until_killed, server, chance))
            threading.Timer(chance.uniform(0.01, 0.25), server.process.kill).start()
            server.process.wait(10)
            for done in work:
                done.result()
    assert min(writer.acknowledged for writer in writers) > ROUNDS
    with launch(*flags) as server, connect(server) as connection:
        for writer in writers:
            writer.write(connection)
        check(connection, writers, churner)


@repeated_by(
    "python -m pytest tests/crash/test_kill.py::test_kill_of_a_server_without_free_file_handles_loses_nothing"
)
def test_kill_of_a_server_without_free_file_handles_loses_nothing(tmp_path: Path) -> None:
    """Kills a server while readers use all file handles for connections and clients write more streams than it can keep open."""
    chance = random.Random(11)
    writers = [Writer(f"/w/{number}") for number in range(WRITERS)]
    churner = Churner()
    flags = ("--data-dir", str(tmp_path), "--wal-size", "24m", "--max-body", "1m")
    for _ in range(HANDLE_ROUNDS):
        with launch(*flags, handles=HANDLES) as server, ThreadPoolExecutor(WRITERS + 1) as pool:
            with connect(server) as connection:
                create_and_check(connection, writers, churner)
            written = [churner.has_written, *(writer.has_written for writer in writers)]
            for event in written:
                event.clear()
            work = [pool.submit(writer.write_until_killed, server) for writer in writers]
            work.append(pool.submit(churner.churn_until_killed, server, chance))
            for event in written:
                assert event.wait(10), "a client got no connection before the crowd came"
            with Crowd(server, writers[0].path, 2 * HANDLES):
                threading.Timer(chance.uniform(0.05, 0.5), server.process.kill).start()
                assert server.process.wait(20) == -signal.SIGKILL, "the store stopped by itself"
            for done in work:
                done.result()
    with launch(*flags, handles=HANDLES) as server, connect(server) as connection:
        for writer in writers:
            writer.write(connection)
        check(connection, writers, churner)


@contextlib.contextmanager
def preloaded(directory: Path, when: str) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Runs a server that forks workers, in a process group of its own, and yields the server and the workers."""
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


def count_refusals(workers: ServerProcess, paths: list[str]) -> int:
    """Sends requests to forked workers until they are killed, and returns how many they refused."""
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


@repeated_by(
    "python -m pytest tests/crash/test_kill.py::test_kill_of_a_server_with_forked_workers_loses_nothing"
)
def test_kill_of_a_server_with_forked_workers_loses_nothing(tmp_path: Path) -> None:
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
                create_and_check(connection, writers, churner)
            work = [pool.submit(writer.write_until_killed, owner) for writer in writers]
            work.append(pool.submit(churner.churn_until_killed, owner, chance))
            refusals = [pool.submit(count_refusals, workers, paths) for _ in range(2)]
            threading.Timer(chance.uniform(0.05, 0.3), owner.process.kill).start()
            owner.process.wait(10)
            for done in work:
                done.result()
            # The workers outlive their parent, but they must not hold the lock on the directory.
            with launch("--data-dir", str(tmp_path)) as server, connect(server) as connection:
                check(connection, writers, churner)
                assert ask(connection, "GET", "/only/of/workers")[0] == 404
            os.killpg(owner.process.pid, signal.SIGKILL)
            refused += sum(done.result() for done in refusals)
    assert refused > 10 * PRELOAD_ROUNDS
    assert min(writer.acknowledged for writer in writers) > PRELOAD_ROUNDS

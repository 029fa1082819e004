"""Two workers of one host server. With a data directory the second worker stops the server, and in memory it logs a warning."""

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from durable_streams_server import FileBackedStreamStore
from tests.hosts.servers import WITH_WORKERS, host, until_answered
from tests.process import STOP_TIMEOUT


@pytest.mark.parametrize("kind", ["top", "mounted"])
@pytest.mark.parametrize("server", WITH_WORKERS)
def test_second_worker_of_a_data_directory_exits_with_one_line(
    server: str, kind: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with host(server, kind, tmp_path, workers=2, data=data) as running:
        running.process.wait(STOP_TIMEOUT + 10)
        log = running.log()
    said = f"{data} is in use by another process, and one process owns a data directory: run one worker"
    assert log.count(said) == 1
    assert "Traceback" not in log


@pytest.mark.parametrize("server", WITH_WORKERS)
def test_single_worker_opens_and_unlocks_the_data_directory(server: str, tmp_path: Path) -> None:
    with host(server, "top", tmp_path, data=tmp_path / "data") as running:
        with httpx.Client(base_url=running.url) as http:
            until_answered(http)
            assert http.put("/a").status_code == 201
        assert running.stop() < 2
    with FileBackedStreamStore(
        tmp_path / "data"
    ) as store:  # raises if the directory is still locked
        assert store.has("/a")


@pytest.mark.parametrize("server", WITH_WORKERS)
def test_two_workers_with_memory_stores_log_a_warning(server: str, tmp_path: Path) -> None:
    with host(server, "mounted", tmp_path, workers=2) as running:
        with httpx.Client(base_url=running.url) as http:
            until_answered(http)
        deadline = time.monotonic() + 20
        while (warned := running.log().count("each worker has its own streams")) == 0:
            assert time.monotonic() < deadline
            httpx.get(running.url + "/a")  # uses a new connection, which either worker may accept
        assert warned == 1
        assert "run one worker" in running.log()


@pytest.mark.parametrize("server", WITH_WORKERS)
def test_single_worker_with_a_memory_store_logs_no_warning(server: str, tmp_path: Path) -> None:
    with host(server, "mounted", tmp_path) as running:
        with httpx.Client(base_url=running.url) as http:
            until_answered(http)
        for _ in range(10):
            httpx.get(running.url + "/a")
        assert "its own streams" not in running.log()


def test_worker_process_can_catch_the_directory_in_use_error(tmp_path: Path) -> None:
    program = """
import multiprocessing, sys
from durable_streams_server import FileBackedStreamStore

def work(path):
    try:
        FileBackedStreamStore(path)
    except Exception as error:
        print("caught", type(error).__name__, flush=True)

if __name__ == "__main__":
    with FileBackedStreamStore(sys.argv[1]):
        process = multiprocessing.get_context("spawn").Process(target=work, args=sys.argv[1:])
        process.start()
        process.join()
        sys.exit(process.exitcode)
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "data")], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (0, "caught WorkerRefused\n")

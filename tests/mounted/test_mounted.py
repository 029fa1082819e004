"""The application mounted in FastAPI or Starlette under uvicorn, where it gets no lifespan events."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import vitest
from tests.conformance.test_conformance import CORE_TESTS
from tests.process import START_TIMEOUT, STOP_TIMEOUT

ROOT = Path(__file__).parents[2]
TEXT = {"content-type": "text/plain"}


@contextlib.contextmanager
def uvicorn(host: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Runs the host application with the `uvicorn` command, and yields the process and its URL."""
    command = [sys.executable, "-m", "uvicorn", "tests.mounted.host:app", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--no-access-log"],
        cwd=ROOT,
        env={**os.environ, "HOST": host},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        deadline = time.monotonic() + START_TIMEOUT
        address = None
        while address is None and time.monotonic() < deadline:
            address = re.search(r"http://[\d.:]+", process.stderr.readline())
        assert address is not None
        yield process, address[0]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def test_official_suite_passes_against_a_mounted_application(tmp_path: Path) -> None:
    with uvicorn("fastapi") as (_, address):
        result = vitest.run("mounted/suite.test.ts", f"{address}/streams", tmp_path / "report.json")
    assert result.failed == []
    assert len(result.passed) == CORE_TESTS


@pytest.mark.parametrize("host", ["fastapi", "starlette"])
def test_stop_of_the_host_ends_event_streams_properly(host: str) -> None:
    with uvicorn(host) as (process, address), httpx.Client(base_url=f"{address}/streams") as http:
        made = http.put("/a", headers=TEXT)
        assert made.headers["location"] == f"{address}/streams/a"
        with http.stream("GET", "/a?offset=-1&live=sse") as events:
            pieces = events.iter_bytes()
            assert b"event: control" in next(pieces)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rest = b"".join(pieces)  # raises an error if the chunked body does not end properly
        assert time.monotonic() - began < 2
        assert rest.startswith(b"id:")
        assert b"event: control\ndata:{" in rest


def test_two_mounted_applications_share_nothing() -> None:
    with uvicorn("fastapi") as (_, address), httpx.Client(base_url=address) as http:
        http.put("/streams/a", headers=TEXT, content="hello")
        assert http.head("/other/a").status_code == 404
        http.put("/other/a", headers=TEXT, content="there")
        assert http.get("/streams/a").text == "hello"
        forked = http.put("/other/b", headers={"stream-forked-from": "/other/a"})
        assert forked.status_code == 201
        assert http.get("/other/b").text == "there"

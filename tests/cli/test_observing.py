"""Tests of the log, the access log and the traces of a real server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from durable_streams_server.cli.observing import observing, provider_of
from durable_streams_server.cli.settings.settings import Settings
from durable_streams_server.http.app import create_app
from durable_streams_server.http.observing.access_log import FIELDS as ACCESS_FIELDS
from durable_streams_server.log import access
from tests.http.observing.collector import collecting
from tests.process import COMMAND, STOP_TIMEOUT

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
SECRETS = {"authorization": "Bearer hush", "cookie": "key=hush"}


class Served:
    """A server whose standard error is a pipe, which the test may leave unread.

    Attributes:
        http: A client of the server.
    """

    def __init__(self, *flags: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        url = self.process.stdout.readline().split()[-1]
        self.http = httpx.Client(base_url=url, headers=TEXT, timeout=20)

    def stop(self) -> list[str]:
        """Stops the server, and returns the lines of its log."""
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=STOP_TIMEOUT)
        assert self.process.returncode == 0
        return said.splitlines()

    def kill(self) -> None:
        """Ends the server if it still runs, and closes what the test holds."""
        self.http.close()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Starts servers, and kills those that still run at the end of the test."""
    running: list[Served] = []

    def start(*flags: str, **environment: str) -> Served:
        running.append(Served(*flags, **environment))
        return running[-1]

    yield start
    for server in running:
        server.kill()


@pytest.fixture(autouse=True)
def access_level() -> Iterator[None]:
    level = access.level
    yield
    access.setLevel(level)


@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_access_log_as_json_names_each_request_and_no_secret(served: Any, lane: str) -> None:
    server = served("--memory", "--http", lane, "--access-log", "--log-format", "json")
    calls = [
        server.http.put(A + "?signature=hush", headers=SECRETS),
        server.http.post(A, content=b"x", headers={**SECRETS, "x-request-id": "mine"}),
        server.http.get(A + "?offset=-1&token=hush", headers={"user-agent": b"a\x9bb"}),
        server.http.get(A + "/none%0aforged"),
        server.http.get(A + "?offset=bad"),
    ]
    lines = server.stop()
    assert all(line.isprintable() for line in lines)
    records = [json.loads(line) for line in lines]
    assert len(records) == len(calls)
    for record, answer in zip(records, calls, strict=True):
        assert record["logger"] == "durable_streams_server.access"
        assert record["level"] == "info"
        assert record["request_id"] == answer.headers["x-request-id"]
        assert record["status"] == answer.status_code
        assert set(record) <= {"time", "level", "logger", "message", *ACCESS_FIELDS}
    assert records[1]["request_id"] == "mine"
    assert records[2]["query"] == "offset=-1"
    assert "hush" not in "".join(lines)


def test_log_is_quiet_by_default(served: Any) -> None:
    server = served("--memory")
    assert server.http.put(A).status_code == 201
    assert "x-request-id" not in server.http.get(A).headers
    assert server.http.get(A + "/none").headers["x-request-id"]
    assert server.stop() == []


@pytest.mark.slow("fills a pipe that nobody reads")
@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_log_that_nobody_reads_stops_neither_requests_nor_a_stop(served: Any, lane: str) -> None:
    server = served("--memory", "--http", lane, "--access-log")
    assert server.http.put(A).status_code == 201
    agent = {"user-agent": "x" * 200}
    for _ in range(600):  # a pipe has room for 64 KiB, which are about 200 lines
        assert server.http.head(A, headers=agent).status_code == 200
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(STOP_TIMEOUT) == 0
    assert time.monotonic() - begun < 6


def test_traces_reach_the_collector_that_the_environment_names(served: Any) -> None:
    with collecting() as collector:
        server = served("--memory", "--traces", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        assert server.http.put(A).status_code == 201
        assert server.http.post(A, content=b"x").status_code == 204
        assert server.stop() == []
    assert collector.names == ["PUT create", "POST append"]


def test_traces_without_the_package_are_refused_with_one_line(tmp_path: Path) -> None:
    hidden = tmp_path / "opentelemetry"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(name='opentelemetry')")
    ran = subprocess.run(
        [*COMMAND, "serve", "--traces", "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        timeout=30,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr == (
        "Error: traces need OpenTelemetry (opentelemetry is missing): "
        "pip install 'durable-streams-server[otel]'\n"
    )
    assert not (tmp_path / "data").exists()


def test_bad_variable_of_opentelemetry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-5")
    with pytest.raises(click.UsageError, match="OpenTelemetry cannot start"):
        provider_of(Settings(traces=True))


async def test_settings_decide_what_is_watched() -> None:
    quiet = Settings(slow_log=0)
    assert provider_of(quiet) is None
    app = create_app()
    with observing(app, quiet, None):
        assert app.observer.watcher is None
        assert not app.observer.names_requests
        assert app.engine.store.slow_work.logged == {}
    with observing(app, Settings(slow_log=2.5, access_log=True), None):
        assert app.observer.names_requests
        assert app.engine.store.slow_work.logged["commit"] == 2.5


def test_server_without_traces_does_not_import_opentelemetry() -> None:
    program = (
        "import sys\nfrom durable_streams_server.cli import main\n"
        "from durable_streams_server import create_app\ncreate_app()\n"
        "print('opentelemetry' in {name.partition('.')[0] for name in sys.modules})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert ran.stdout == "False\n"

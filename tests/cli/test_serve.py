"""The command `serve`: what it prints, how it stops, its exit codes, and the flags that reach the server."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from durable_streams_server import StreamStore
from durable_streams_server.cli.serve import _close
from tests.process import COMMAND, run, serve

STREAM = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


def test_serve_prints_its_address_and_that_streams_are_in_memory() -> None:
    with serve("--memory") as server:
        assert server.process.stdout is not None
        assert server.url.startswith("http://127.0.0.1:")
        assert "memory" in server.process.stdout.readline()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_server_within_a_second_despite_live_reads(stop: signal.Signals) -> None:
    with (
        serve("--memory") as server,
        ThreadPoolExecutor() as pool,
        httpx.Client(base_url=server.url) as http,
    ):
        http.put(STREAM, headers=TEXT)
        with http.stream("GET", f"{STREAM}?offset=-1&live=sse") as events:
            pieces = events.iter_bytes()
            assert next(pieces).startswith(b"retry:")
            poll = pool.submit(http.get, f"{STREAM}?offset=now&live=long-poll")
            time.sleep(0.1)  # the poll must reach the other process, which reports no live reads
            began = time.monotonic()
            server.process.send_signal(stop)
            assert server.process.wait(5) == 0
            assert time.monotonic() - began < 1
            assert b"event: control" in b"".join(pieces)
        assert poll.result().status_code == 204


SIGNAL_WHILE_IT_OPENS = """
import os, sys
from durable_streams_server.cli import main
serve = sys.modules["durable_streams_server.cli.serve"]
number, open_store = int(sys.argv.pop(1)), serve._open

def open_with_signal(settings):
    os.kill(os.getpid(), number)
    return open_store(settings)

serve._open = open_with_signal
main()
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_the_store_is_opened_prints_one_line_and_ends_the_start(
    stop: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SIGNAL_WHILE_IT_OPENS, str(int(stop)), "serve", "--port", "0"]
    ended = subprocess.run(
        [*command, "--data-dir", str(tmp_path)], capture_output=True, text=True, timeout=20
    )
    assert (ended.returncode, ended.stdout) == (128 + stop, "")
    assert ended.stderr == "durable-streams-server: a signal ends the start of the server\n"


def test_hangup_while_the_store_is_opened_is_obeyed_after_the_start(tmp_path: Path) -> None:
    hangup = str(int(signal.SIGHUP))
    command = [sys.executable, "-c", SIGNAL_WHILE_IT_OPENS, hangup, "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert any("SIGHUP: this server has nothing to reload" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_port_in_use_prints_one_line_and_exits_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        shown = run("serve", "--port", str(taken.getsockname()[1]))
    assert shown.returncode == 3
    assert shown.stdout == ""
    assert shown.stderr.count("\n") == 1
    assert "cannot listen on 127.0.0.1 port" in shown.stderr
    assert shown.stderr.endswith(": Address already in use\n")


def test_unknown_host_prints_one_line_and_exits_3() -> None:
    shown = run("serve", "--memory", "--no-auth", "--host", "300.1.1.1")
    assert shown.returncode == 3
    assert shown.stderr.endswith("port 4437: Name or service not known\n")


@pytest.mark.parametrize("flags", [(), ("--data-dir", "sub/x")], ids=["default", "named"])
def test_serve_logs_the_path_of_a_directory_it_created(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    where = tmp_path / (flags[1] if flags else "durable-streams-data")
    told = []
    for _ in range(2):  # the second time, the directory exists
        process = subprocess.Popen(
            [*COMMAND, *flags, "--port", "0", "--drain", "0", "--log-format", "json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().startswith("Listening on ")
            process.terminate()
            told.append(process.stderr.read())
        assert process.returncode == 0
        assert where.is_dir()
    assert json.loads(told[0])["message"] == f"made the directory {where}"
    assert told[1] == ""


def test_default_wal_size_fits_max_body(tmp_path: Path) -> None:
    flags = ["--data-dir", str(tmp_path), "--max-body", "100m"]
    with (
        serve(*flags) as server,
        httpx.Client(base_url=server.url, headers=TEXT) as http,
    ):
        http.put(STREAM)
        assert http.post(STREAM, content=b"x" * 100 * 1024 * 1024).status_code == 204


def test_flags_configure_the_server() -> None:
    flags = [
        "--memory",
        "--max-body",
        "10",
        "--cors-origin",
        "https://app.example",
        "--shared-cache-age",
        "5",
        "--page-size",
        "1k",
    ]
    flags += ["--long-poll-timeout", "0.05", "--sse-max-age", "0.05"]
    with serve(*flags) as server, httpx.Client(base_url=server.url, headers=TEXT) as http:
        http.put(STREAM)
        assert http.post(STREAM, content=b"x" * 11).status_code == 413
        for _ in range(200):
            http.post(STREAM, content=b"x" * 8)
        page = http.get(STREAM, headers={"origin": "https://app.example"})
        assert len(page.content) == 1024
        assert page.headers["access-control-allow-origin"] == "https://app.example"
        assert "s-maxage=5" in page.headers["cache-control"]
        assert http.get(f"{STREAM}?offset=now&live=long-poll").status_code == 204
        assert b"upToDate" in http.get(f"{STREAM}?offset=-1&live=sse").content


def test_server_accepts_bodies_when_max_body_equals_max_in_flight(tmp_path: Path) -> None:
    flags = ("--max-body", "256m", "--data-dir", str(tmp_path))
    with serve(*flags) as server, httpx.Client(base_url=server.url, headers=TEXT) as http:
        http.put(STREAM)
        assert http.post(STREAM, content=b"x" * 100).status_code == 204


def lose_directory(path: Path, appends: bool) -> subprocess.CompletedProcess[str]:
    """Removes the data directory of a running server, and then appends to a stream or stops the server. Returns how the server ended."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--drain", "0", "--data-dir", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    with httpx.Client(base_url=url, headers=TEXT, timeout=20) as http:
        assert http.put(STREAM).status_code == 201
        shutil.rmtree(path)
        if appends:
            with contextlib.suppress(httpx.HTTPError):  # the server may stop before it answers
                http.post(STREAM, content=b"x")
        else:
            process.terminate()
        out, err = process.communicate(timeout=20)
    return subprocess.CompletedProcess([], process.returncode, out, err)


@pytest.mark.parametrize("appends", [True, False])
def test_server_whose_directory_is_removed_prints_one_line_and_exits_5(
    tmp_path: Path, appends: bool
) -> None:
    shown = lose_directory(tmp_path / "data", appends)
    assert shown.returncode == 5
    assert "Traceback" not in shown.stderr
    last = shown.stderr.splitlines()[-1]
    assert last.startswith("durable-streams-server: the store ")
    assert str(tmp_path / "data") in last


def test_store_that_cannot_be_closed_prints_one_line_and_exits_5(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: StreamStore) -> None:
        raise OSError(5, "Input/output error", "/data/wal/000")

    monkeypatch.setattr(StreamStore, "close", broken)
    with pytest.raises(SystemExit) as ended:
        _close(StreamStore())
    assert ended.value.code == 5
    assert capsys.readouterr().err == (
        "durable-streams-server: the store could not be closed: /data/wal/000: Input/output error\n"
    )

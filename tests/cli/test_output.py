"""Printing never fails, and names are printed as their original bytes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from durable_streams_server import FileBackedStreamStore
from durable_streams_server.cli.data import _line
from durable_streams_server.cli.output import reason
from durable_streams_server.storage.files.offline.findings import Finding
from tests.process import COMMAND, START_TIMEOUT, STOP_TIMEOUT

STREAM = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
QUIET = ("--log-level", "info", "--drain", "0")


def shell(outputs: str, *arguments: str) -> list[str]:
    """Returns a shell command that runs `durable-streams-server` with the redirections in `outputs`."""
    words = " ".join(f"'{word}'" for word in [*COMMAND, *arguments])
    return ["/bin/sh", "-c", f"exec {words} {outputs}"]


@contextlib.contextmanager
def client(path: Path) -> Iterator[httpx.Client]:
    """Waits until a server has created its Unix socket, and yields a client of it."""
    until = time.monotonic() + START_TIMEOUT
    while not path.exists():
        assert time.monotonic() < until, "the server does not listen"
        time.sleep(0.01)  # another process creates it
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://test", headers=TEXT) as http:
        yield http


@pytest.mark.parametrize(
    "outputs", [">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full", ">/dev/full 2>/dev/full"]
)
def test_server_works_without_standard_streams(outputs: str, tmp_path: Path) -> None:
    flags = ("--data-dir", f"{tmp_path}/data", "--uds", f"{tmp_path}/s", *QUIET)
    process = subprocess.Popen(shell(outputs, "serve", *flags))
    try:
        with client(tmp_path / "s") as http:
            assert http.put(STREAM, content=b"x").status_code == 201
            process.send_signal(signal.SIGHUP)  # the server logs what it has reloaded
            assert http.get(STREAM).content == b"x"
        process.terminate()
        assert process.wait(STOP_TIMEOUT) == 0
    finally:
        process.kill()
        process.wait()
    with FileBackedStreamStore(tmp_path / "data") as store:
        assert store.read(STREAM).data == b"x"


@pytest.mark.parametrize("lines", [0, 1])
def test_server_keeps_running_after_its_output_pipe_is_closed(lines: int, tmp_path: Path) -> None:
    flags = ("--data-dir", f"{tmp_path}/data", "--uds", f"{tmp_path}/s", *QUIET)
    reading, writing = os.pipe()
    process = subprocess.Popen([*COMMAND, "serve", *flags], stdout=writing, stderr=writing)
    os.close(writing)
    with open(reading, "rb", buffering=0) as output:
        for _ in range(lines):
            assert output.readline()
    try:
        with client(tmp_path / "s") as http:
            assert http.put(STREAM, content=b"x").status_code == 201
            process.send_signal(signal.SIGHUP)  # the server logs what it has reloaded
            for _ in range(3):
                assert http.get(STREAM).content == b"x"
        process.terminate()
        assert process.wait(STOP_TIMEOUT) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("command", [["check"], ["inspect"], ["keys", "list"]])
@pytest.mark.parametrize(("outputs", "code"), [(">&-", 0), (">/dev/full", 1)])
def test_command_exits_1_if_stdout_is_full_and_0_if_stdout_is_closed(
    outputs: str, code: int, command: list[str], tmp_path: Path
) -> None:
    with FileBackedStreamStore(tmp_path) as store:
        store.create("/a")
    subprocess.run([*COMMAND, "keys", "rotate", str(tmp_path)], check=True, capture_output=True)
    shown = subprocess.run(
        shell(outputs, *command, str(tmp_path)), capture_output=True, text=True, timeout=20
    )
    assert shown.returncode == code
    said = "durable-streams-server: what was printed is lost: No space left on device\n"
    assert shown.stderr == (said if code else "")


def test_command_succeeds_if_its_output_pipe_is_closed_early(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path) as store:
        for number in range(300):
            store.create(f"/{'x' * 400}{number}")
    process = subprocess.Popen(
        [*COMMAND, "inspect", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(20) == 0
    process.stderr.close()


PROGRAM = """if True:
    import sys
    from durable_streams_server.cli.output import protect_outputs
    protect_outputs()
    protect_outputs()
    print(sys.argv[1], "\\u00e9", "\\ud800")
    print(sys.argv[1], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8:strict", b"\xff \xc3\xa9 \\ud800\n"), ("ascii:strict", b"\xff \\xe9 \\ud800\n")],
)
def test_any_character_can_be_printed_in_any_output_encoding(encoding: str, shown: bytes) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, b"\xff"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=20,
    )
    assert (ran.stdout, ran.stderr) == (shown, b"\xff\n")


def test_opened_file_never_gets_descriptor_0_to_2() -> None:
    program = """if True:
        from durable_streams_server.cli.output import protect_outputs
        protect_outputs()
        raise SystemExit(open("/dev/null").fileno())
    """
    words = f"exec '{sys.executable}' -c '{program}' >&- 2>&- <&-"
    assert subprocess.run(["/bin/sh", "-c", words], timeout=20).returncode >= 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/data/LOCK"), "/data/LOCK: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("it has been moved"), "it has been moved"),
        (ValueError("two\nlines"), "two lines"),
        (ValueError(), "ValueError"),
    ],
)
def test_reason_describes_an_error_in_one_line(error: Exception, said: str) -> None:
    assert reason(error) == said


NASTY = "/v1/stream/a\x9b31m\u202eb"


def test_stream_path_with_control_characters_is_escaped(tmp_path: Path) -> None:
    with FileBackedStreamStore(tmp_path) as store:
        store.create(NASTY, content_type="text/plain")
    listed = subprocess.run(
        [*COMMAND, "inspect", str(tmp_path)], capture_output=True, text=True, timeout=20
    )
    assert listed.stdout == "/v1/stream/a\\x9b31m\\u202eb\ttext/plain\t0\topen\n"
    told = subprocess.run(
        [*COMMAND, "inspect", str(tmp_path), NASTY], capture_output=True, text=True, timeout=20
    )
    assert told.stdout.startswith("path: /v1/stream/a\\x9b31m\\u202eb\n")
    absent = subprocess.run(
        [*COMMAND, "inspect", str(tmp_path), NASTY + "\n"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert absent.stderr.endswith("there is no stream /v1/stream/a\\x9b31m\\u202eb\\n\n")


def test_check_escapes_control_characters_in_its_findings() -> None:
    finding = Finding("logs/00/\x9b", "broken\nforged", path=NASTY)
    assert _line(finding) == (
        "logs/00/\\x9b (stream /v1/stream/a\\x9b31m\\u202eb): broken\\nforged"
    )


def test_reason_escapes_control_characters_but_keeps_undecodable_bytes() -> None:
    assert reason(ValueError("caf\udce9 \x9b \u202e")) == "caf\udce9 \\x9b \\u202e"


def test_log_messages_of_every_logger_are_escaped() -> None:
    program = """if True:
        import logging
        from durable_streams_server.cli.output import begin_log
        begin_log("info")
        logging.getLogger("uvicorn.error").error("a %s", "\\x9b31m\\nforged")
    """
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20
    )
    assert ran.stderr.endswith(" ERROR a \\x9b31m\\nforged\n")

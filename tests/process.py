"""Starts the real server as a process on a free port, and stops it."""

import contextlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import prefork
from tests.prefork import ForkedProcess

COMMAND = [sys.executable, "-c", "from durable_streams_server.cli import main; main()"]
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0


@dataclass
class ServerProcess:
    """A running server and the URL at which it listens."""

    process: subprocess.Popen[str] | ForkedProcess
    url: str


@contextlib.contextmanager
def launch(
    *flags: str, handles: int | None = None, largest_file: int | None = None
) -> Iterator[ServerProcess]:
    """Runs `serve` with `flags`, by default on a free port and without a drain. Kills it at the end of the block if it still runs.

    Args:
        flags: command-line flags.
        handles: maximum number of file descriptors. The server cannot raise this limit.
        largest_file: maximum bytes of one file. The server cannot raise this limit.
    """
    limits = {resource.RLIMIT_NOFILE: handles, resource.RLIMIT_FSIZE: largest_file}
    address = () if "--uds" in flags or "--port" in flags else ("--port", "0")
    drain = () if "--drain" in flags else ("--drain", "0")
    process = prefork.start(
        ["serve", *address, *drain, *flags],
        pipes_output=True,
        limits={kind: limit for kind, limit in limits.items() if limit is not None},
    )
    try:
        yield ServerProcess(process, address_of(process))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def serve(
    *flags: str, handles: int | None = None, largest_file: int | None = None
) -> Iterator[ServerProcess]:
    """Runs `serve` like `launch`. At the end of the block, the server must exit with code 0 after SIGTERM."""
    with launch(*flags, handles=handles, largest_file=largest_file) as server:
        yield server
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_TIMEOUT) == 0


@contextlib.contextmanager
def launch_with_log(*flags: str) -> Iterator[subprocess.Popen[str]]:
    """Runs `serve` with `flags` and no others, and kills it at the end of the block if it still runs. The block can read its log."""
    with subprocess.Popen(
        [*COMMAND, "serve", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def address_of(process: subprocess.Popen[str] | ForkedProcess) -> str:
    """Waits until a server listens, and returns the URL that it has printed."""
    watchdog = threading.Timer(START_TIMEOUT, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            match = re.search(r"(https?://|unix:)\S+", line)
            if match:
                return match[0]
    finally:
        watchdog.cancel()
    raise AssertionError("the server ended before it listened")


def memory_of(pid: int, field: str = "VmRSS") -> int:
    """Returns a memory figure of a process from `/proc`, in bytes. A process that has just ended has 0."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def run(*arguments: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    """Runs the command until it exits, and returns its exit code and its output."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = prefork.start(arguments, stdout=output.fileno(), stderr=errors.fileno())
        try:
            code = process.wait(timeout)
        finally:
            process.kill()  # only a command that has not ended in time still runs
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read(), errors.read())

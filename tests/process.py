"""Starts the real server as a process on a free port, and stops it."""

import contextlib
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

COMMAND = [sys.executable, "-c", "from durable_streams_server.cli import main; main()"]
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0


@dataclass
class ServerProcess:
    """A running server and the URL at which it listens."""

    process: subprocess.Popen[str]
    url: str


@contextlib.contextmanager
def launch(
    *flags: str, handles: int | None = None, largest_file: int | None = None
) -> Iterator[ServerProcess]:
    """Runs `serve` with `flags` on a free port, and kills it at the end of the block if it is still running.

    Args:
        flags: command-line flags.
        handles: maximum number of file descriptors. The server cannot raise this limit.
        largest_file: maximum bytes of one file. The server cannot raise this limit.
    """
    limits = {resource.RLIMIT_NOFILE: handles, resource.RLIMIT_FSIZE: largest_file}

    def limit() -> None:
        for kind, value in limits.items():
            if value is not None:
                resource.setrlimit(kind, (value, value))

    address = () if "--uds" in flags else ("--port", "0")
    process = subprocess.Popen(
        [*COMMAND, "serve", *address, *flags],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=limit if any(limits.values()) else None,
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


def address_of(process: subprocess.Popen[str]) -> str:
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

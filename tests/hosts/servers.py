"""Runs host servers as processes, started as their manuals describe."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import httpx

from tests.process import START_TIMEOUT, STOP_TIMEOUT

ROOT: Final = Path(__file__).parents[2]
PREFIX: Final = {"top": "", "mounted": "/streams"}
SERVERS: Final = (
    "uvicorn",
    "hypercorn",
    "granian",
    "daphne",
    "gunicorn-uvicorn",
    "gunicorn-asgi",
)
#: Host servers that can run several workers. Daphne cannot.
WITH_WORKERS: Final = ("uvicorn", "hypercorn", "granian", "gunicorn-uvicorn")
#: Exit codes of a clean stop. uvicorn raises the signal again after it has stopped.
CLEAN: Final = (0, -signal.SIGTERM, -signal.SIGINT)


def command(server: str, application: str, port: int, workers: int) -> list[str]:
    """Returns the command line that starts a host server."""
    at = f"127.0.0.1:{port}"
    many = str(workers)
    name, *rest = {
        "uvicorn": ["uvicorn", application, "--port", str(port)],
        "hypercorn": ["hypercorn", application, "--bind", at, "--workers", many],
        "granian": ["granian", "--interface", "asgi", application, "--port", str(port), "--workers", many],
        "daphne": ["daphne", "--port", str(port), application],
        "gunicorn-uvicorn": ["gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", at, "-w", many, application],
        "gunicorn-asgi": ["gunicorn", "-k", "asgi", "-b", at, "-w", many, application],
    }[server]  # fmt: skip  # one server per line
    if server == "uvicorn" and workers > 1:
        rest += ["--workers", many]
    return [str(Path(sys.executable).with_name(name)), *rest]


@dataclass
class Host:
    """A host server process."""

    process: subprocess.Popen[bytes]
    url: str
    _log: IO[bytes]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Sends a signal, asserts that the server stops cleanly, and returns the seconds until it has stopped."""
        began = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(STOP_TIMEOUT) in CLEAN, self.log()
        return time.monotonic() - began

    def log(self) -> str:
        """Returns the output of the server so far."""
        self._log.seek(0)
        return self._log.read().decode()


@contextlib.contextmanager
def host(
    server: str, kind: str, directory: Path, *, workers: int = 1, data: Path | None = None
) -> Iterator[Host]:
    """Runs a host server with the application of `top.py` or `mounted.py`, and kills the server after the block.

    The server may not answer yet when the block begins.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (directory / "log").open("w+b") as log:
        process = subprocess.Popen(
            command(server, f"tests.hosts.{kind}:app", port, workers),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "DATA": str(data or "")},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield Host(process, f"http://127.0.0.1:{port}{PREFIX[kind]}", log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # kills the workers too
            process.wait()


def until_answered(http: httpx.Client) -> None:
    """Waits until the server answers requests."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            http.get("/")
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # the server is another process, which gives no signal when it listens

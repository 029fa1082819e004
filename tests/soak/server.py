"""Runs the server of a soak on one directory and one port, and measures it from the outside."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.delivery.requester import until
from tests.process import address_of, memory_of

ROOT = Path(__file__).parents[2]
#: Seconds within which the server must do what it is asked for, on a busy machine.
PATIENCE = 60.0
#: What the server logs when it is slow. A busy machine is a reason too, so these lines say nothing about the server.
SLOW = re.compile(r"\S+ \S+ WARNING a (request|commit|checkpoint) took ")
#: What the server logs when it creates its data directory.
MADE = re.compile(r"\S+ \S+ WARNING made the directory ")
NEVER_STOPPED = 124  # stands for the exit code of a server that does not stop in time
#: Gauges that have the same value whenever the server is idle and has no streams.
IDLE = {
    f"durable_streams_{name}"
    for name in (
        *("live_readers", "queued_steps", "records_in_flight", "disk_full", "store_failed"),
        *("subscriptions", "scheduled_subscriptions", "webhook_deliveries_waiting"),
    )
}
LIMIT_USED = "durable_streams_limit_used"
#: Limits of caches, and of what the next checkpoint writes. An idle server may use some of them.
CACHES = {
    *("dirty_streams", "fresh_producers", "unflushed_bytes", "wal_bytes"),
    *("rated_clients", "unsent_bytes"),
}


class Handles(NamedTuple):
    """The open files of a process.

    Attributes:
        sockets: the sockets, with those that listen.
        files: the names of the files. The names of deleted files end with " (deleted)".
        others: pipes, epoll handles and the like.
    """

    sockets: int
    files: tuple[str, ...]
    others: int


class Figures(NamedTuple):
    """What the server takes at one moment.

    Attributes:
        at: seconds since the soak began.
        memory: resident memory in bytes.
        threads: the threads of the process.
        handles: the open files.
    """

    at: float
    memory: int
    threads: int
    handles: Handles


class SoakedServer:
    """The server and its directory. All files are below `place`.

    Args:
        place: an existing directory.
        port: the port, which is the same in all lives of the server.
        flags: further flags of `serve`.

    Attributes:
        url: the address of the server.
        directory: the data directory.
        log: the file to which all servers log.
        starts: the seconds from each start until the server listens.
        stops: the seconds from each SIGTERM to the exit.
        exits: the exit code after each SIGTERM.
    """

    def __init__(self, place: Path, port: int, flags: tuple[str, ...] = ()) -> None:
        self.directory = place / "data"
        self.url = f"http://127.0.0.1:{port}"
        self.log = place / "log"
        self._held = place / "held"
        where = ("--port", str(port), "--data-dir", str(self.directory))
        self._flags = (*where, "--drain", "1", *flags)
        self._process: subprocess.Popen[str] | None = None
        self.starts: list[float] = []
        self.stops: list[float] = []
        self.exits: list[int] = []

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the server, and returns when it listens."""
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.soak.observed", str(self._held)]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "serve", *self._flags],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        address_of(self._process)
        self.starts.append(time.monotonic() - began)

    def stop(self) -> None:
        """Stops the server with SIGTERM, and records its exit code. A server that does not stop in time is killed."""
        assert self._process is not None
        began = time.monotonic()
        self._process.terminate()
        try:
            self.exits.append(self._process.wait(PATIENCE))
        except subprocess.TimeoutExpired:
            self.exits.append(NEVER_STOPPED)
        self.stops.append(time.monotonic() - began)
        self.kill()

    def kill(self) -> None:
        """Kills the server with SIGKILL if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def figures(self, at: float) -> Figures:
        """Returns what the server takes now."""
        threads = len(os.listdir(f"/proc/{self.pid}/task"))
        return Figures(at, memory_of(self.pid), threads, handles_of(self.pid))

    def held(self) -> dict[str, Any]:
        """Returns the tasks, threads and objects that the server holds."""
        self._held.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        assert until(self._held.exists, PATIENCE, 0.05), "the server does not tell what it holds"
        found: dict[str, Any] = json.loads(self._held.read_text())
        return found

    def gauges(self) -> dict[str, float]:
        """Returns the gauges of `/metrics` whose values are the same whenever the server is idle, by name and labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=PATIENCE).text
        return {
            " ".join((family.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            if family.name in IDLE or family.name == LIMIT_USED
            for sample in family.samples
            if sample.labels.get("name") not in CACHES
        }

    def unexpected_lines(self) -> list[str]:
        """Returns the lines of the log that are above INFO, or that no logger has written, without those about slow work."""
        return [
            line
            for line in self.log.read_text(errors="replace").splitlines()
            if not re.match(r"\S+ \S+ INFO ", line)
            and not SLOW.match(line)
            and not MADE.match(line)
        ]


def handles_of(pid: int) -> Handles:
    """Returns the open files of a process."""
    sockets, files, others = 0, [], 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = os.readlink(entry)
        except OSError:
            continue  # closed meanwhile
        if name.startswith("/"):
            files.append(name)
        elif name.startswith("socket:"):
            sockets += 1
        else:
            others += 1
    return Handles(sockets, tuple(sorted(files)), others)

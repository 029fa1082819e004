"""Runs a durable server on the core of servers, and reads its memory and the bytes that it has stored."""

import contextlib
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.servers import SCRATCH, SERVER_CORE
from tests.process import COMMAND, address_of, memory_of

MIB = 1024 * 1024
STREAMS = 16  # streams that a load appends to in turn
PATH = "/v1/stream/s#"  # of a stream; `#` stands for its number
TEXT = {"content-type": "text/plain"}
_PATIENCE = 5.0  # seconds within which a server must accept connections again
FLAGS = ("--port", "0", "--drain", "0", "--data-dir")
_GRACE = 20.0  # seconds until a server that does not stop is killed


class Server(NamedTuple):
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    def stored(self) -> int:
        """Returns the bytes of all streams. Repeats its requests while the server refuses connections."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._stored()
            except (httpx.TransportError, httpx.HTTPStatusError):
                if time.monotonic() > deadline:
                    raise

    def _stored(self) -> int:
        with httpx.Client(base_url=self.url, timeout=60) as http:
            heads = [http.head(PATH.replace("#", str(number))) for number in range(STREAMS)]
        offsets = [head.raise_for_status().headers["stream-next-offset"] for head in heads]
        return sum(int(offset.partition("_")[2]) for offset in offsets)

    def memory(self, field: str = "VmRSS") -> int:
        """Returns a memory figure of the process from `/proc`, in bytes: `VmRSS` now, or `VmHWM` at most."""
        return memory_of(self.process.pid, field)

    def forget_peak(self) -> None:
        """Sets the maximum memory to the present memory."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def running(*flags: str) -> Iterator[Server]:
    """Runs `serve` with flags on an empty data directory and `STREAMS` streams, until the block ends."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        on_core = ("taskset", "-c", str(SERVER_CORE))
        process = subprocess.Popen(
            [*on_core, *COMMAND, "serve", *FLAGS, f"{directory}/data", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            server = Server(process, int(address_of(process).rpartition(":")[2]))
            with httpx.Client(base_url=server.url, timeout=60) as http:
                for number in range(STREAMS):
                    made = http.put(PATH.replace("#", str(number)), headers=TEXT)
                    made.raise_for_status()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def allow_many_sockets() -> None:
    """Raises the limit on file handles of this process as far as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

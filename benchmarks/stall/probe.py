"""A client in a separate process, which reads a small, quiet stream every millisecond and measures how long its reads take.

    python -m benchmarks.stall.probe PORT [ADDRESS]    prints `ready`, measures until its input ends, then prints JSON

`Probe` runs the process during a `with` block. If the system allows it, the process has real-time priority on its core, so that it
measures the delays of the server and not its own.
"""

import contextlib
import gc
import json
import os
import select
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Final, NamedTuple

from ..servers import HERE, LOAD_CORE

QUIET: Final = "/v1/stream/quiet"
PACE: Final = 0.001  # seconds between two requests
_PATIENCE: Final = 120.0  # seconds without a response, after which the probe fails
_REQUEST: Final = f"GET {QUIET}?offset=-1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


class Delays(NamedTuple):
    """The result of a probe.

    Attributes:
        longest: the seconds until the slowest response.
        p99: the 99th percentile of the seconds that requests at a constant pace would have waited.
        answers: the number of responses.
        bad: the number of responses other than 200 and of closed connections.
    """

    longest: float
    p99: float
    answers: int
    bad: int


class Probe:
    """Runs the process of a probe during a `with` block. The attribute `delays` has the result afterwards."""

    def __init__(self, port: int, address: str = "127.0.0.9") -> None:
        command = [sys.executable, "-m", __name__, str(port), address]
        self.delays = Delays(0.0, 0.0, 0, 0)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the probe has no answer from the server")

    def __enter__(self) -> "Probe":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shown, _ = self._process.communicate()  # this closes the input of the process
        if kind is None:
            if self._process.returncode:
                raise RuntimeError("the probe has failed")
            self.delays = Delays(*json.loads(shown))


def percentile(delays: list[float], share: float, pace: float) -> float:
    """Returns a percentile of the seconds that requests sent every `pace` seconds would have waited.

    A client that waits for each response sends nothing while the server stalls. So the requests that it would have sent meanwhile
    are added, each with the rest of the delay.
    """
    waited = list(delays)
    for delay in delays:
        waited += [delay - pace * late for late in range(1, int(delay / pace))]
    waited.sort()
    return waited[min(len(waited) - 1, int(share * len(waited)))] if waited else 0.0


def main() -> None:
    """Sends requests until the input ends, and prints the result."""
    port, address = int(sys.argv[1]), sys.argv[2]
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {LOAD_CORE})
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    gc.disable()
    delays: list[float] = []
    bad = 0
    asking = _connect(port, address)
    _ask(asking)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], PACE)[0]:
        begun = time.perf_counter()
        try:
            bad += _ask(asking)
        except ConnectionError:
            bad += 1
            asking.close()
            asking = _connect(port, address)
        delays.append(time.perf_counter() - begun)
    print(json.dumps([max(delays, default=0.0), percentile(delays, 0.99, PACE), len(delays), bad]))


def _connect(port: int, address: str) -> socket.socket:
    asking = socket.create_connection(("127.0.0.1", port), _PATIENCE, (address, 0))
    asking.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return asking


def _ask(asking: socket.socket) -> bool:
    """Sends one request, and returns whether it was refused."""
    asking.sendall(_REQUEST)
    answer = b""
    while not answer.endswith(b"quiet"):
        answer += asking.recv(4096) or _closed()
        if not answer.startswith(b"HTTP/1.1 200"):
            time.sleep(0.01)
            return True
    return False


def _closed() -> bytes:
    raise ConnectionError("the server has closed the connection")


if __name__ == "__main__":
    main()

"""A webhook receiver with very little overhead, in a separate process. It answers every delivery with `{"done":true}`.

    python -m benchmarks.receiver [PORT STREAMS]

The process prints the port that it listens on, then executes commands from its input, line by line, until the input ends. `count`
prints the number of deliveries so far. `cycle SECONDS` needs the port of a server and a number of streams. It appends to each
stream, and again after each delivery, so that every stream always has a delivery due. It then prints a `Cycled` as JSON. `Receiver`
runs the process.
"""

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Final, NamedTuple

from .client import connect, create, octets, pop_message
from .servers import HERE, LOAD_CORE
from .subscribing import ROOT, webhooks

HOSTS: Final = 64  # addresses that it listens on, each of which counts as a separate host
_OCTETS: Final = "application/octet-stream"
_WRITERS: Final = 4  # number of connections for appends
_PATIENCE: Final = 4.0  # seconds without a delivery, after which missing ones count as lost; longer than the first retry delay
_DONE: Final = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"done":true}'
)
_NUMBER: Final = re.compile(rb'"subscription_id":"(\d+)"')
_BODY: Final = b"x" * 100


class Cycled(NamedTuple):
    """The result of `cycle`.

    Attributes:
        delivered: the number of deliveries.
        seconds: the seconds from the first append to the last delivery.
        bad: the number of refused appends, duplicate deliveries and missing deliveries.
        cpu: the CPU seconds that the receiver used.
    """

    delivered: int
    seconds: float
    bad: int
    cpu: float


class Receiver:
    """Runs the process of the receiver, until `close`, the end of a `with` block, or the end of the server.

    Args:
        port: the port of the server to append to, or 0 if `cycle` is never called.
        streams: the number of streams to append to.
    """

    def __init__(self, port: int = 0, streams: int = 0) -> None:
        command = [sys.executable, "-m", __name__, str(port), str(streams)]
        self._server, self._streams = port, streams
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )
        self.port = int(self._read_line())

    def urls(self, hosts: int) -> list[str]:
        """Returns the receiver's URLs on the first `hosts` addresses."""
        return [f"http://127.0.0.{host + 1}:{self.port}/" for host in range(hosts)]

    def count(self) -> int:
        """Returns the number of deliveries so far."""
        self._send_line("count")
        return int(self._read_line())

    def prepare(self, hosts: int) -> None:
        """Creates the streams that `cycle` appends to, and a webhook for each, on the first `hosts` addresses in turn."""
        webhooks(self._server, self._streams, self.urls(hosts), stream="cycled/#")
        create(self._server, map(_cycled, range(self._streams)), _OCTETS)

    def cycle(self, seconds: float) -> Cycled:
        """Keeps deliveries due for some seconds, waits for the remaining ones, and returns the result."""
        self._send_line(f"cycle {seconds}")
        return Cycled(*json.loads(self._read_line()))

    def close(self) -> None:
        """Ends the process, if it has not ended already."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def wait(self, seconds: float) -> bool:
        """Waits for the process to end, and returns whether it ended within some seconds."""
        try:
            return self._process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send_line(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the webhook receiver has ended")
        return line


class _Process:
    """The event loop of the receiver's process."""

    def __init__(self, port: int, streams: int) -> None:
        self._poll = select.epoll()
        self._listening = {each.fileno(): each for each in _listen()}
        self._connections: dict[int, tuple[socket.socket, bytearray]] = {}
        self._writers = [connect(port) for _ in range(_WRITERS if port else 0)]
        self._answers = {each.fileno(): (each, bytearray()) for each in self._writers}
        self._appends = [octets("POST", _cycled(n), _OCTETS, _BODY) for n in range(streams)]
        self._due: set[int] = set()
        self._count = self._bad = 0
        self._until = 0.0  # the time at which the cycle stops appending
        self._latest = 0.0  # the time of the latest delivery of the cycle
        for handle in (sys.stdin.fileno(), *self._listening, *self._answers):
            self._poll.register(handle, select.EPOLLIN)

    def run(self) -> None:
        """Executes commands until the input ends."""
        with contextlib.suppress(ConnectionError):  # this process ends with the server
            print(next(iter(self._listening.values())).getsockname()[1], flush=True)
            while self._turn(None):
                pass

    def _turn(self, seconds: float | None) -> bool:
        """Waits for events for at most some seconds, and handles them. Returns False once the input has ended."""
        wanted: list[int] = []
        for handle, _ in self._poll.poll(seconds):
            if handle in self._connections:
                self._receive(handle, wanted)
            elif handle in self._answers:
                self._read_responses(handle)
            elif handle in self._listening:
                self._accept(handle)
            elif not self._execute(sys.stdin.readline()):
                return False
        self._append(wanted)
        return True

    def _execute(self, line: str) -> bool:
        """Executes a command, and returns False for the end of the input."""
        if line.startswith("cycle"):
            print(json.dumps(self._cycle(float(line.split()[1]))), flush=True)
        elif line:
            print(self._count, flush=True)
        return bool(line)

    def _cycle(self, seconds: float) -> Cycled:
        before, used = self._count, time.process_time()
        self._bad = 0
        begun = self._latest = time.monotonic()
        self._until = begun + seconds
        self._append(range(len(self._appends)))
        while self._due and time.monotonic() < self._latest + _PATIENCE:
            self._turn(_PATIENCE)
        self._bad += len(self._due)
        self._due.clear()
        used = time.process_time() - used
        return Cycled(self._count - before, self._latest - begun, self._bad, used)

    def _accept(self, handle: int) -> None:
        opened, _ = self._listening[handle].accept()
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[opened.fileno()] = (opened, bytearray())
        self._poll.register(opened.fileno(), select.EPOLLIN)

    def _receive(self, handle: int, wanted: list[int]) -> None:
        """Answers the deliveries on a connection, and adds to `wanted` the streams that need another append."""
        opened, buffer = self._connections[handle]
        try:
            come = opened.recv(65536)
            buffer += come
            while (message := pop_message(buffer)) is not None:
                self._count += 1
                if self._appends:
                    self._delivered(message[1], wanted)
                opened.sendall(_DONE)
        except ConnectionError:
            come = b""
        if not come:
            del self._connections[handle]
            opened.close()

    def _delivered(self, body: bytes, wanted: list[int]) -> None:
        found = _NUMBER.search(body)
        number = -1 if found is None else int(found[1])
        if number not in self._due:
            self._bad += 1
            return
        self._due.remove(number)
        self._latest = time.monotonic()
        if self._latest < self._until:
            wanted.append(number)

    def _append(self, numbers: "list[int] | range") -> None:
        """Appends to streams, with one write for all requests on a connection."""
        self._due.update(numbers)
        for place, writer in enumerate(self._writers):
            if mine := [self._appends[number] for number in numbers[place::_WRITERS]]:
                writer.sendall(b"".join(mine))

    def _read_responses(self, handle: int) -> None:
        """Counts refused appends among the responses on a connection."""
        opened, buffer = self._answers[handle]
        come = opened.recv(65536)
        if not come:
            raise ConnectionError("the server has closed the connection")
        buffer += come
        while (message := pop_message(buffer)) is not None:
            self._bad += not message[0].startswith(b"HTTP/1.1 2")


def _cycled(number: int) -> str:
    return f"{ROOT}/cycled/{number}"


def _listen() -> list[socket.socket]:
    """Returns sockets that listen on one port of many loopback addresses."""
    first = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = int(first.getsockname()[1])
    others = (f"127.0.0.{host + 1}" for host in range(1, HOSTS))
    return [first, *(socket.create_server((host, port), backlog=1024) for host in others)]


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {LOAD_CORE})
    _Process(*(int(given) for given in sys.argv[1:] or ("0", "0"))).run()

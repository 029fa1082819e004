"""A webhook receiver that costs next to nothing: it answers every delivery with `{"done":true}`, in a process of its own.

    python -m benchmarks.receiver [PORT STREAMS]

The process prints the port that it listens on, then obeys its input line by line, and ends with it. `count` prints how many deliveries
have come. `cycle SECONDS`, for which the server's port and a number of streams must be given, appends to each of them, and again as
soon as its news has been delivered, so that as many deliveries as there are streams are due at any time; it prints what came of that. `Receiver` runs the process for whoever measures.
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

from .client import connect, create, octets, take
from .servers import HERE, LOAD_CORE
from .subscribing import ROOT, webhooks

HOSTS: Final = 64  # addresses that it listens on; to the server each of them is a host of its own
_OCTETS: Final = "application/octet-stream"
_WRITERS: Final = 4  # connections for appends
_PATIENCE: Final = 4.0  # seconds without a delivery until the missing ones count as lost: more than a first retry takes
_DONE: Final = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"done":true}'
)
_NUMBER: Final = re.compile(rb'"subscription_id":"(\d+)"')
_BODY: Final = b"x" * 100


class Cycled(NamedTuple):
    """What `cycle` found.

    Attributes:
        delivered: deliveries.
        seconds: from the first append to the last delivery.
        bad: appends that were refused, deliveries that came twice, and those that never came.
        cpu: seconds of the receiver's core that were used.
    """

    delivered: int
    seconds: float
    bad: int
    cpu: float


class Receiver:
    """The process. End it with `close`, or with the block of a `with` statement; it ends by itself with the server it appends to.

    Args:
        port: of the server to append to, if `cycle` is to be called.
        streams: how many it appends to.
    """

    def __init__(self, port: int = 0, streams: int = 0) -> None:
        command = [sys.executable, "-m", __name__, str(port), str(streams)]
        self._server, self._streams = port, streams
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )
        self.port = int(self._answer())

    def urls(self, hosts: int) -> list[str]:
        """Returns its URLs on so many of its addresses."""
        return [f"http://127.0.0.{host + 1}:{self.port}/" for host in range(hosts)]

    def count(self) -> int:
        """Returns how many deliveries have come."""
        self._tell("count")
        return int(self._answer())

    def prepare(self, hosts: int) -> None:
        """Creates what `cycle` needs: the streams, and a webhook for each, which take turns with so many of its addresses."""
        webhooks(self._server, self._streams, self.urls(hosts), stream="cycled/#")
        create(self._server, map(_cycled, range(self._streams)), _OCTETS)

    def cycle(self, seconds: float) -> Cycled:
        """Has the server deliver for a while, and then what is still due."""
        self._tell(f"cycle {seconds}")
        return Cycled(*json.loads(self._answer()))

    def close(self) -> None:
        """Ends the process, unless it has ended by itself."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def wait(self, seconds: float) -> bool:
        """Returns whether the process ends by itself within so many seconds."""
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

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the webhook receiver has ended")
        return line


class _Process:
    """The loop of the process."""

    def __init__(self, port: int, streams: int) -> None:
        self._poll = select.epoll()
        self._listening = {each.fileno(): each for each in _listen()}
        self._connections: dict[int, tuple[socket.socket, bytearray]] = {}
        self._writers = [connect(port) for _ in range(_WRITERS if port else 0)]
        self._answers = {each.fileno(): (each, bytearray()) for each in self._writers}
        self._appends = [octets("POST", _cycled(n), _OCTETS, _BODY) for n in range(streams)]
        self._due: set[int] = set()
        self._count = self._bad = 0
        self._until = 0.0  # when the cycle appends no more
        self._latest = 0.0  # when the latest delivery of the cycle came
        for handle in (sys.stdin.fileno(), *self._listening, *self._answers):
            self._poll.register(handle, select.EPOLLIN)

    def run(self) -> None:
        """Obeys the input until it ends."""
        with contextlib.suppress(ConnectionError):  # the server has ended: so does this process
            print(next(iter(self._listening.values())).getsockname()[1], flush=True)
            while self._turn(None):
                pass

    def _turn(self, seconds: float | None) -> bool:
        """Waits for something to come, for so long at most, and does it; returns False once the input has ended."""
        wanted: list[int] = []
        for handle, _ in self._poll.poll(seconds):
            if handle in self._connections:
                self._receive(handle, wanted)
            elif handle in self._answers:
                self._hear(handle)
            elif handle in self._listening:
                self._accept(handle)
            elif not self._obey(sys.stdin.readline()):
                return False
        self._append(wanted)
        return True

    def _obey(self, line: str) -> bool:
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
        """Answers the deliveries that have come on a connection, and adds the streams that are to be appended to again to `wanted`."""
        opened, buffer = self._connections[handle]
        try:
            come = opened.recv(65536)
            buffer += come
            while (message := take(buffer)) is not None:
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
        """Appends to streams, with all requests for one connection in one piece."""
        self._due.update(numbers)
        for place, writer in enumerate(self._writers):
            if mine := [self._appends[number] for number in numbers[place::_WRITERS]]:
                writer.sendall(b"".join(mine))

    def _hear(self, handle: int) -> None:
        opened, buffer = self._answers[handle]
        come = opened.recv(65536)
        if not come:
            raise ConnectionError("the server has closed the connection")
        buffer += come
        while (message := take(buffer)) is not None:
            self._bad += not message[0].startswith(b"HTTP/1.1 2")


def _cycled(number: int) -> str:
    return f"{ROOT}/cycled/{number}"


def _listen() -> list[socket.socket]:
    """Listens on one port of many addresses of the loopback network."""
    first = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = int(first.getsockname()[1])
    others = (f"127.0.0.{host + 1}" for host in range(1, HOSTS))
    return [first, *(socket.create_server((host, port), backlog=1024) for host in others)]


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {LOAD_CORE})
    _Process(*(int(given) for given in sys.argv[1:] or ("0", "0"))).run()

"""Writers of numbered messages, which run in a separate process, so that they do not wait for the readers.

    python -m benchmarks.writers PORT ORDER

ORDER is an `Order` as JSON. The process connects and prints `ready`. It then reads a number of seconds from its input, writes for
that time, and prints a `Written` as JSON. `Writers` runs the process.
"""

import contextlib
import gc
import json
import os
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Final, NamedTuple

from .client import connect, octets, pop_message
from .numbered import Source
from .servers import HERE, LOAD_CORE

JSON: Final = "application/json"
_PATIENCE: Final = 10.0  # seconds without a response, after which missing responses count as lost


class Order(NamedTuple):
    """An order for writers.

    Attributes:
        path: the path of the streams, in which `#` stands for the number of a stream.
        streams: the number of streams. If there are several, each stream has one writer and is a source.
        writers: the number of connections. Each waits for a response before it sends its next message. If there is one stream, all
            writers append to it, and each writer is a source.
        rate: the number of appends per second over all streams, sent without waiting for responses, or 0 for as many as possible.
    """

    path: str
    streams: int
    writers: int
    rate: int = 0


class Written(NamedTuple):
    """The result of an order. Times are seconds of the monotonic clock.

    Attributes:
        sent: the number of messages of each source.
        bad: the number of appends that were refused or not answered.
        begun: the time at which the first message was sent.
        ended: the time of the last response.
        cpu: the CPU seconds that the writers used.
        delays: the latencies of appends in milliseconds: median, 99th percentile, longest.
        times: the times at which messages were sent, in order, if the order had a rate. Message n belongs to source n modulo the
            number of sources.
    """

    sent: list[int]
    bad: int
    begun: float
    ended: float
    cpu: float
    delays: list[float]
    times: list[float]


class Writers:
    """Runs the process of the writers, until `finish` or the end of a `with` block."""

    def __init__(self, port: int, order: Order) -> None:
        command = [sys.executable, "-m", __name__, str(port), json.dumps(order)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the writers could not connect")

    def begin(self, seconds: float) -> None:
        """Starts the writers, which write for some seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    @property
    def is_done(self) -> bool:
        """Whether the writers have ended, with all appends answered."""
        assert self._process.stdout is not None
        poll = select.poll()  # `select.select` accepts no descriptor above 1023
        poll.register(self._process.stdout, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(0))

    def finish(self) -> Written:
        """Waits for the writers to end, and returns their result."""
        shown, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError("the writers have failed")
        return Written(*json.loads(shown))

    def __enter__(self) -> "Writers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._process.communicate()


class _Writer:
    """A connection, and the sources whose messages it sends in turn."""

    def __init__(self, port: int, places: list[tuple[int, str]], sources: list[Source]) -> None:
        self.socket = connect(port)
        self.buffer = bytearray()
        self.sent = 0.0  # the time at which the latest message was sent
        length = len(Source(0).next())
        self._turn = 0
        self._sources = [
            (octets("POST", path, JSON, b"x" * length)[:-length], sources[number])
            for number, path in places
        ]

    def send(self) -> None:
        """Sends the next message."""
        head, source = self._sources[self._turn]
        self._turn = (self._turn + 1) % len(self._sources)
        request = head + source.next()
        self.sent = time.monotonic()
        self.socket.send(request)  # a small request is sent as a whole or fails

    def answered(self) -> int:
        """Receives responses, and returns their number, negated if some of them are refusals."""
        come = self.socket.recv(65536)
        if not come:
            raise ConnectionError("the server has closed the connection")
        if not self.buffer and come[9:12] == b"204" and come.find(b"\r\n\r\n") == len(come) - 4:
            return 1
        self.buffer += come
        count = refused = 0
        while (message := pop_message(self.buffer)) is not None:
            if message[0].startswith(b"HTTP/1.1 2"):
                count += 1
            else:
                refused += 1
        return -refused if refused else count


def _connect(port: int, order: Order) -> tuple[list[_Writer], list[Source]]:
    """Connects the writers, and returns them and their sources."""
    paths = [order.path.replace("#", str(number)) for number in range(order.streams)]
    count = order.streams if order.streams > 1 else order.writers
    sources = [Source(number) for number in range(count)]
    places = [(number, paths[number if order.streams > 1 else 0]) for number in range(count)]
    writers = [_Writer(port, places[n :: order.writers], sources) for n in range(order.writers)]
    return writers, sources


def write(port: int, order: Order, seconds: float) -> Written:
    """Carries out an order in this process, and returns once every append is answered."""
    return _write(*_connect(port, order), order, seconds)


def _write(writers: list[_Writer], sources: list[Source], order: Order, seconds: float) -> Written:
    poll = select.epoll()
    by_handle = {writer.socket.fileno(): writer for writer in writers}
    for handle in by_handle:
        poll.register(handle, select.EPOLLIN)
    delays: list[float] = []
    times: list[float] = []
    used, begun = time.process_time(), time.monotonic()
    if order.rate:
        bad, times = _at_a_rate(poll, by_handle, order.rate, seconds)
    else:
        bad, delays = _one_by_one(poll, by_handle, begun + seconds)
    ended = time.monotonic()
    used = time.process_time() - used
    for writer in writers:
        writer.socket.close()
    delays.sort()
    shown = [at(delays, 0.5), at(delays, 0.99), at(delays, 1.0)]
    return Written([each.count for each in sources], bad, begun, ended, used, shown, times)


def _one_by_one(
    poll: select.epoll, by_handle: dict[int, _Writer], until: float
) -> tuple[int, list[float]]:
    """Lets each writer append again after each response. Returns the number of failed appends, and all latencies in milliseconds."""
    now, bad = time.monotonic, 0
    delays: list[float] = []
    for writer in by_handle.values():
        writer.send()
    waiting = len(by_handle)
    while waiting:
        come = poll.poll(_PATIENCE)
        if not come:
            return bad + waiting, delays
        for handle, _ in come:
            writer = by_handle[handle]
            try:
                count = writer.answered()
                if not count:
                    continue
                moment = now()
                delays.append((moment - writer.sent) * 1000)
                bad += count < 0
                if moment < until:
                    writer.send()
                    continue
            except ConnectionError:
                # This writer ends, because the server has closed its connection.
                bad += 1
                poll.unregister(handle)
            waiting -= 1
    return bad, delays


def _at_a_rate(
    poll: select.epoll, by_handle: dict[int, _Writer], rate: int, seconds: float
) -> tuple[int, list[float]]:
    """Lets the writers send in turn at regular intervals. Returns the number of failed appends, and the time of each message."""
    writers = list(by_handle.values())
    times: list[float] = []
    begun = latest = time.monotonic()
    bad = answered = 0
    total = int(seconds * rate)
    while answered < total and latest + _PATIENCE > time.monotonic():
        due = min(total, int((time.monotonic() - begun) * rate) + 1)
        while len(times) < due:
            writer = writers[len(times) % len(writers)]
            writer.send()
            times.append(writer.sent)
        wait = begun + due / rate - time.monotonic() if due < total else _PATIENCE
        for handle, _ in poll.poll(max(0.0, wait)):
            count = by_handle[handle].answered()
            answered += abs(count)
            bad += max(0, -count)
            latest = time.monotonic()
    return bad + total - answered, times


def at(ordered: list[float], share: float) -> float:
    """Returns a percentile of sorted figures, given as a share between 0 and 1, or 0 if there are no figures."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main() -> None:
    """Connects, waits for the number of seconds, and writes."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {LOAD_CORE})
    order = Order(*json.loads(sys.argv[2]))
    writers, sources = _connect(int(sys.argv[1]), order)
    gc.disable()
    print("ready", flush=True)
    if line := sys.stdin.readline():
        print(json.dumps(_write(writers, sources, order, float(line))), flush=True)


if __name__ == "__main__":
    main()

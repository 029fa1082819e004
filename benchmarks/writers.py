"""Writers of numbered messages, in a process of their own, which the kernel lets in between two looks of a reader.

    python -m benchmarks.writers PORT ORDER

ORDER is an `Order` as JSON. The process connects and prints a line. It then reads the number of seconds to write for, and prints what
came of it, as JSON. `Writers` runs the process for whoever measures.
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

from .client import connect, octets, take
from .numbered import Source
from .servers import HERE, LOAD_CORE

JSON: Final = "application/json"
_PATIENCE: Final = 10.0  # seconds without an answer until those that are missing count as lost


class Order(NamedTuple):
    """What is to be written.

    Attributes:
        path: of the streams; `#` stands for a stream's number.
        streams: how many there are. The writers share them out: every stream has one writer, and is a source.
        writers: connections, each of which waits for an answer before it sends its next message. If there is one stream, all of them
            write to it, and each of them is a source.
        rate: appends in a second over all streams, whose answers nobody waits for; as many as go if 0.
    """

    path: str
    streams: int
    writers: int
    rate: int = 0


class Written(NamedTuple):
    """What came of it.

    Attributes:
        sent: messages of each source.
        bad: messages whose append was refused or not answered.
        begun: when the first was sent, in seconds of the monotonic clock.
        ended: when the last was answered.
        cpu: seconds of the load's core that the writers used.
        delays: milliseconds from an append to its answer: median, 99th percentile, longest.
        times: of each message when it was sent, in order, if there is a rate; message number n is of source n modulo sources.
    """

    sent: list[int]
    bad: int
    begun: float
    ended: float
    cpu: float
    delays: list[float]
    times: list[float]


class Writers:
    """The process; it ends with `finish`, or with the block of a `with` statement."""

    def __init__(self, port: int, order: Order) -> None:
        command = [sys.executable, "-m", __name__, str(port), json.dumps(order)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the writers could not connect")

    def begin(self, seconds: float) -> None:
        """Has the writers write for a while."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    @property
    def is_done(self) -> bool:
        """Whether they have ended, all their appends answered."""
        assert self._process.stdout is not None
        poll = select.poll()  # not `select.select`, which takes no handle above 1023
        poll.register(self._process.stdout, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(0))

    def finish(self) -> Written:
        """Waits for the end and returns what came of it."""
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
    """One connection, and the sources whose messages it sends in turn."""

    def __init__(self, port: int, places: list[tuple[int, str]], sources: list[Source]) -> None:
        self.socket = connect(port)
        self.buffer = bytearray()
        self.sent = 0.0  # when the latest message was
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
        self.socket.send(request)  # small: it goes as a whole or fails

    def answered(self) -> int:
        """Receives, and returns how many appends have been answered, those refused as negative."""
        come = self.socket.recv(65536)
        if not come:
            raise ConnectionError("the server has closed the connection")
        if not self.buffer and come[9:12] == b"204" and come.find(b"\r\n\r\n") == len(come) - 4:
            return 1
        self.buffer += come
        count = refused = 0
        while (message := take(self.buffer)) is not None:
            if message[0].startswith(b"HTTP/1.1 2"):
                count += 1
            else:
                refused += 1
        return -refused if refused else count


def _connect(port: int, order: Order) -> tuple[list[_Writer], list[Source]]:
    """Returns the writers and the sources that they share out."""
    paths = [order.path.replace("#", str(number)) for number in range(order.streams)]
    count = order.streams if order.streams > 1 else order.writers
    sources = [Source(number) for number in range(count)]
    places = [(number, paths[number if order.streams > 1 else 0]) for number in range(count)]
    writers = [_Writer(port, places[n :: order.writers], sources) for n in range(order.writers)]
    return writers, sources


def write(port: int, order: Order, seconds: float) -> Written:
    """Writes in this process, and returns once every append is answered."""
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
    """Lets each writer append again as soon as it is answered. Returns how many appends failed, and how long each took, in milliseconds."""
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
            except (
                ConnectionError
            ):  # the server has closed the connection: this writer writes no more
                bad += 1
                poll.unregister(handle)
            waiting -= 1
    return bad, delays


def _at_a_rate(
    poll: select.epoll, by_handle: dict[int, _Writer], rate: int, seconds: float
) -> tuple[int, list[float]]:
    """Has the writers send in turn at even distances; returns how many appends went wrong, and when each was sent."""
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
    """Returns the figure below which that share of sorted figures lies, the largest for 1, and 0 if there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main() -> None:
    """Connects, waits for the order to begin, and writes."""
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

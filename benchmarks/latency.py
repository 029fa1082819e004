"""Rows that measure the latency from an append to a live reader, on a quiet stream and with ten thousand readers."""

import statistics
import time
from collections.abc import Callable
from typing import Final

from .client import Connection, create, octets
from .numbered import Source, faults_of_all
from .readers import Readers
from .row import Goal, Measure, Row, Sample
from .servers import ALL_PEERS, OURS, Running
from .stall.probe import QUIET, Probe
from .writers import JSON, Order, Writers, at

_QUIET: Final = 0.002  # seconds between the arrival of a message and the next append
_PATIENCE: Final = 5.0  # seconds without a message, after which missing messages count as lost
_MANY: Final = 10_000
_RATE: Final = 1_000  # appends per second
_WIDE: Final = "/v1/stream/wide-#"
_ONE: Final = "/v1/stream/one"
_FEW: Final = 5  # number of appends to the stream with ten thousand readers


def _quiet(count: int) -> Callable[[Running], Measure]:
    """Measures the median milliseconds until the first and the last of `count` readers receive an append to a quiet stream."""
    path = "/v1/stream/quiet-one"

    def prepare(server: Running) -> Measure:
        create(server.port, [path], JSON)

        def measure(seconds: int) -> Sample:
            with Readers(server.port, [path] * count) as readers:
                firsts, lasts, bad = _one_after_the_other(server, path, readers, count, seconds)
            first, last = statistics.median(firsts) * 1000, statistics.median(lasts) * 1000
            return Sample(first, bad, beside={f"quiet-{count}-last": last})

        return measure

    return prepare


def _one_after_the_other(
    server: Running, path: str, readers: Readers, count: int, seconds: float, most: int = 100_000
) -> tuple[list[float], list[float], int]:
    """Appends repeatedly, each time after all readers have received the previous message.

    Returns the seconds until the first reader received each message, the seconds until the last reader did, and the number of faults.
    """
    writer, source = Connection(server.port), Source(0)
    firsts: list[float] = []
    lasts: list[float] = []
    heard: list[list[bytes]] = [[] for _ in range(count)]
    bad = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and source.count < most:
        request = octets("POST", path, JSON, source.next())
        readers.forget()
        begun = time.monotonic()
        writer.send(request)
        readers.follow_until(count, _PATIENCE)
        pieces = [piece for piece in readers.pieces() if piece[2]]
        bad += writer.receive().status >= 300
        for number, _, found in pieces:
            heard[number].append(found)
        if pieces:
            firsts.append(pieces[0][1] - begun)
            lasts.append(pieces[-1][1] - begun)
        time.sleep(_QUIET)
    writer.close()
    wrong = faults_of_all([b"".join(parts) for parts in heard], [source.count])
    return firsts, lasts, bad + wrong.total + readers.lost


def _wide(server: Running) -> Measure:
    """Measures the 99th percentile of milliseconds from an append to its reader, at 1,000 appends per second.

    There are 10,000 streams with one reader each.
    """
    paths = [_WIDE.replace("#", str(number)) for number in range(_MANY)]
    create(server.port, paths, JSON)

    def measure(seconds: int) -> Sample:
        delays: list[float] = []
        order = Order(_WIDE, _MANY, 8, rate=_RATE)
        with Readers(server.port, paths) as readers, Writers(server.port, order) as writers:
            writers.begin(seconds)
            while not writers.is_done:
                readers.follow(0.05)
            written = writers.finish()
            readers.follow_until(sum(written.sent), _PATIENCE)
            bad = written.bad + readers.lost
            expected = [iter(range(count)) for count in written.sent]
            for reader, came, found in readers.pieces():
                for number in found.split(b"~")[:-1]:
                    message = int(number[5:])
                    bad += int(number[:5]) != reader or message != next(expected[reader], None)
                    delays.append((came - written.times[message * _MANY + reader]) * 1000)
        bad += abs(sum(written.sent) - len(delays))
        delays.sort()
        note = f"median {at(delays, 0.5):.3g} ms, longest {at(delays, 1.0):.3g} ms"
        return Sample(at(delays, 0.99), bad, note)

    return measure


def _wide_one(server: Running) -> Measure:
    """Measures the seconds until the last of 10,000 readers receives an append, and the longest wait of a cheap read meanwhile."""
    create(server.port, [_ONE], JSON)
    connection = Connection(server.port)
    if connection.ask(octets("PUT", QUIET, "text/plain", b"quiet")).status != 201:
        raise RuntimeError("the quiet stream was refused")
    connection.close()

    def measure(_: int) -> Sample:
        with Readers(server.port, [_ONE] * _MANY) as readers, Probe(server.port) as probe:
            found = _one_after_the_other(server, _ONE, readers, _MANY, 60.0, _FEW)
        longest = {"wide-one-get": probe.delays.longest * 1000}
        return Sample(max(found[1]), found[2] + probe.delays.bad, beside=longest)

    return measure


ROWS: Final = (
    Row(
        "quiet-1",
        "quiet",
        "latency from append to the SSE reader of a quiet stream, median",
        "ms",
        ALL_PEERS,
        _quiet(1),
        less_is_better=True,
    ),
    Row(
        "quiet-300",
        "quiet",
        "latency from append to the first of 300 SSE readers of a quiet stream, median",
        "ms",
        ALL_PEERS,
        _quiet(300),
        less_is_better=True,
    ),
    Row(
        "quiet-300-last",
        "quiet",
        "latency from append to the last of 300 SSE readers of a quiet stream, median",
        "ms",
        ALL_PEERS,
        _quiet(300),
        less_is_better=True,
        beside="quiet-300",
    ),
    Row(
        "wide",
        "wide",
        "latency from append to SSE reader, 10,000 streams with one reader each, 1,000 appends per second, 99th percentile",
        "ms",
        OURS,
        _wide,
        (Goal("memory", 20), Goal("files", 20)),
        less_is_better=True,
    ),
    Row(
        "wide-one",
        "wide",
        "latency from append to the last of 10,000 SSE readers of one stream, longest of 5",
        "s",
        OURS,
        _wide_one,
        (Goal("memory", 1), Goal("files", 1)),
        less_is_better=True,
    ),
    Row(
        "wide-one-get",
        "wide",
        "longest delay of a cheap GET during an append to 10,000 SSE readers of one stream",
        "ms",
        OURS,
        _wide_one,
        (Goal("memory", 50), Goal("files", 50)),
        less_is_better=True,
        beside="wide-one",
    ),
)

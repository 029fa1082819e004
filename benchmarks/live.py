"""Rows that measure the delivery of messages to live readers. Each message must arrive once and in order."""

import time
from collections.abc import Callable
from typing import Final

from .client import create
from .numbered import Faults, faults, faults_of_all
from .readers import Readers
from .row import Goal, Measure, Row, Sample
from .servers import ALL_PEERS, Running
from .writers import JSON, Order, Writers

_PATIENCE: Final = 3.0  # seconds without a message, after which missing messages count as lost
_CROWD: Final = 300


def _tokens(writers: int) -> Callable[[Running], Measure]:
    """Measures messages per second from writers to readers, over 200 streams with one reader each."""
    streams, path = 200, "/v1/stream/tokens-#"
    paths = [path.replace("#", str(number)) for number in range(streams)]

    def prepare(server: Running) -> Measure:
        create(server.port, paths, JSON)
        order = Order(path, streams, writers)
        return lambda seconds: _delivered(server, order, paths, seconds)

    return prepare


def _crowd(writers: int) -> Callable[[Running], Measure]:
    """Measures messages per second from writers to 300 readers of one stream, counted once per reader."""
    path = "/v1/stream/crowd"

    def prepare(server: Running) -> Measure:
        create(server.port, [path], JSON)
        order = Order(path, 1, writers)
        return lambda seconds: _delivered(server, order, [path] * _CROWD, seconds)

    return prepare


def _delivered(server: Running, order: Order, paths: list[str], seconds: float) -> Sample:
    """Returns a sample of the messages that readers receive, from the first append until they have received all messages."""
    with Readers(server.port, paths) as readers, Writers(server.port, order) as writers:
        used, cpu = time.process_time(), server.cpu()
        writers.begin(seconds)
        while not writers.is_done:
            readers.follow(0.05)
        written = writers.finish()
        came = readers.follow_until(sum(written.sent) * _share(order, paths), _PATIENCE)
        took, cpu = readers.last - written.begun, server.cpu() - cpu
        busy = (time.process_time() - used + written.cpu) / took
        wrong = check(readers.found(), written.sent, order)
    late = readers.last - written.ended
    said = [f"client {busy:.0%} of its core"]
    if late > 0.1:
        said.append(f"the last message {late:.1f} s after its answer")
    if readers.overflowed:
        said.append("more came than the client keeps")
    said += [f"{count:,} {what}" for what, count in wrong._asdict().items() if count]
    bad = written.bad + readers.lost + wrong.total
    return Sample(came / took, bad, ", ".join(said), cpu / max(1, came) * 1e6)


def check(found: list[bytes], sent: list[int], order: Order) -> Faults:
    """Returns the faults in what readers have received.

    Readers of one stream must all have the same order. Readers of several streams each follow their own source.

    Args:
        found: the numbers that each reader has received.
        sent: the number of messages of each source.
        order: the order that the writers had.
    """
    if order.streams == 1:
        return faults_of_all(found, sent)
    wrong = [faults(each, sent[n : n + 1], n) for n, each in enumerate(found)]
    return Faults(*map(sum, zip(*wrong, strict=True)))


def _share(order: Order, paths: list[str]) -> int:
    """Returns the number of readers of each message."""
    return len(paths) if order.streams == 1 else 1


ROWS: Final = (
    Row(
        "tokens",
        "tokens",
        "tokens to 200 streams, one SSE reader each, 32 writers",
        "/s",
        ALL_PEERS,
        _tokens(32),
        (Goal("memory", None, 0.7, "rust"), Goal("files", None, 0.7, "rust-files")),
    ),
    Row(
        "tokens-one",
        "tokens",
        "tokens to 200 streams, one SSE reader each, 1 writer",
        "/s",
        ALL_PEERS,
        _tokens(1),
        (Goal("memory", None, 0.7, "rust"), Goal("files", None, 0.7, "rust-files")),
    ),
    Row(
        "crowd",
        "crowd",
        "tokens to 300 SSE readers of one stream, 1 writer",
        "/s",
        ALL_PEERS,
        _crowd(1),
    ),
    Row(
        "crowd-16",
        "crowd",
        "tokens to 300 SSE readers of one stream, 16 writers",
        "/s",
        ALL_PEERS,
        _crowd(16),
        (Goal("memory", None, 1, "rust"), Goal("files", None, 1, "rust-files")),
    ),
)

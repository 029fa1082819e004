"""Rows that measure stores on disk: the latency of durable appends, and the duration of a start after a kill.

`durability.py` measures the figures of docs/durability.md.
"""

import os
import subprocess
import sys
import tempfile
import time
from typing import Final

from .client import Connection, create, octets
from .row import Goal, Measure, Row, Sample
from .servers import HERE, KINDS, SCRATCH, Running, running_on
from .writers import JSON, Order, Writers

#: Factor by which this row runs longer than others, because a store does some work only now and then.
_LONGER: Final = 5
_PATH: Final = "/v1/stream/durable-#"
SIZE: Final = 100  # bytes of each append to the store of the start after a kill
_STREAMS: Final = 10_000


def _append_delays(server: Running) -> Measure:
    """Measures the latency of appends to 64 streams on 32 connections, in milliseconds."""
    order = Order(_PATH, 64, 32)
    create(server.port, (_PATH.replace("#", str(number)) for number in range(64)), JSON)

    def measure(seconds: int) -> Sample:
        with Writers(server.port, order) as writers:
            used = server.cpu()
            writers.begin(seconds * _LONGER)
            written = writers.finish()
            used = server.cpu() - used
        median, late, longest = written.delays
        count = sum(written.sent)
        note = f"{count / (written.ended - written.begun):,.0f} /s"
        beside = {"durable-p99": late, "durable-longest": longest}
        return Sample(median, written.bad, note, used / max(1, count) * 1e6, beside)

    return measure


def _start(server: Running) -> Measure:
    """Measures the seconds until a server answers a read, on a store with 64 MiB of records in its write-ahead log."""

    def measure(_: int) -> Sample:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
            appends = _left_by_a_kill(server.kind, directory)
            begun = time.monotonic()
            with running_on(server.kind, directory) as started:
                bad = _count_wrong_tails(started.port, appends, range(_STREAMS - 1, _STREAMS))
                took, used = time.monotonic() - begun, started.cpu()
                bad += _count_wrong_tails(started.port, appends, range(_STREAMS))
        note = f"{appends:,} records, {used:.1f} s of the server's core"
        return Sample(took, bad, note, used / appends * 1e6)

    return measure


def _left_by_a_kill(kind: str, directory: str) -> int:
    """Fills a store in a process that ends without closing the store. Returns the number of appends in the write-ahead log."""
    source = KINDS[kind].source
    command = [sys.executable, "-m", f"{__package__}.durability", "fill", directory, str(_STREAMS)]
    environment = {**os.environ, "PYTHONPATH": f"{source}:{HERE.parent}"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(shown.stdout)


def _count_wrong_tails(port: int, appends: int, numbers: range) -> int:
    """Returns the number of streams whose tail is wrong.

    Each stream was created with one append, and received its share of the others.
    """
    connection, bad = Connection(port), 0
    for number in numbers:
        answer = connection.ask(octets("HEAD", f"/v1/stream/{number}"))
        count = 1 + appends // _STREAMS + (number < appends % _STREAMS)
        tail = answer.header(b"stream-next-offset").rpartition("_")[2]
        bad += answer.status != 200 or int(tail) != count * SIZE
    connection.close()
    return bad


_DURABLE: Final = ("files", "node-files", "caddy-files", "rust-files")

ROWS: Final = (
    Row(
        "durable",
        "durable",
        "latency of durable appends of a token, 32 connections, 64 streams, median",
        "ms",
        _DURABLE,
        _append_delays,
        less_is_better=True,
    ),
    Row(
        "durable-p99",
        "durable",
        "latency of durable appends of a token, 32 connections, 64 streams, 99th percentile",
        "ms",
        _DURABLE,
        _append_delays,
        (Goal("files", 4.0, None, "files", "durable"),),
        less_is_better=True,
        beside="durable",
    ),
    Row(
        "durable-longest",
        "durable",
        "latency of durable appends of a token, 32 connections, 64 streams, longest",
        "ms",
        _DURABLE,
        _append_delays,
        (Goal("files", 25.0),),
        less_is_better=True,
        beside="durable",
    ),
    Row(
        "restart",
        "restart",
        "time from start to first response after a kill, 10,000 streams and 64 MiB of records in the log",
        "s",
        ("files",),
        _start,
        less_is_better=True,
        once=True,
    ),
)

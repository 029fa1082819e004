"""Rows that measure single requests: reads at the tail, and large appends."""

import statistics
import tempfile
import time
from typing import Final

from . import wrk
from .client import Connection, create, octets
from .row import Goal, Measure, Row, Sample
from .servers import ALL_PEERS, SCRATCH, Running

_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"
#: Maximum bytes of an empty JSON page, which some servers send chunked.
_EMPTY: Final = len("2\r\n[]\r\n0\r\n\r\n")
_MB: Final = 1_000_000
#: Large appends to one stream, before the stream is deleted to bound the memory.
_KEPT: Final = 64


def _tail(server: Running) -> Measure:
    """Measures reads at the tails of 64 idle streams on 32 connections."""
    paths = [f"/v1/stream/tail-{number}" for number in range(64)]
    create(server.port, paths, _JSON)
    connection = Connection(server.port)
    asked, bad = [], 0
    for path in paths:
        connection.ask(octets("POST", path, _JSON, b'{"token":"first"}'))
        tail = connection.ask(octets("HEAD", path)).header(b"stream-next-offset")
        asked.append(f"{path}?offset={tail}")
        answer = connection.ask(octets("GET", asked[-1]))
        bad += answer.status != 200 or answer.size > _EMPTY
        bad += not answer.header(b"stream-up-to-date")
    connection.close()

    def measure(seconds: int) -> Sample:
        with tempfile.NamedTemporaryFile("w", dir=SCRATCH) as listed:
            listed.write("\n".join(asked))
            listed.flush()
            used = server.cpu()
            load = wrk.run(server.url, 32, seconds, "GET", f"@{listed.name}", len(asked))
            used = server.cpu() - used
        return Sample(load.rate, load.bad + bad, cpu=used / max(1, load.good) * 1e6)

    return measure


def _large(server: Running) -> Measure:
    """Measures the latency of consecutive appends of 1 MB on one connection, in milliseconds."""
    path = "/v1/stream/large"
    connection = Connection(server.port)
    append = octets("POST", path, _OCTETS, b"x" * _MB)

    def measure(seconds: int) -> Sample:
        times: list[float] = []
        bad, used = 0, server.cpu()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if len(times) % _KEPT == 0:
                connection.ask(octets("DELETE", path))
                connection.ask(octets("PUT", path, _OCTETS))
            begun = time.perf_counter()
            status = connection.ask(append).status
            times.append(time.perf_counter() - begun)
            bad += status >= 300
        used = server.cpu() - used
        return Sample(statistics.median(times) * 1000, bad, cpu=used / len(times) * 1e6)

    return measure


ROWS: Final = (
    Row(
        "tail",
        "tail",
        "GETs at the tail, 32 connections, 64 streams",
        "/s",
        ALL_PEERS,
        _tail,
        (Goal("memory", None, 0.5, "rust"), Goal("files", None, 0.5, "rust-files")),
    ),
    Row(
        "large",
        "large",
        "latency of appends of 1 MB, 1 connection, median",
        "ms",
        ALL_PEERS,
        _large,
        (Goal("memory", None, 1 / 0.7, "rust"), Goal("files", None, 1 / 0.7, "rust-files")),
        less_is_better=True,
    ),
)

"""Trials about memory: clients that send too much, and clients that do not read their responses."""

import time
from itertools import repeat
from typing import Final

from ..client import Connection, create, octets
from ..servers import Running
from .bodies import JSON, OCTETS, append_all, ask_for_status, run_in_threads, status_summary
from .crowd import Crowd, connect_from
from .trial import MIB, Operation, Outcome, Steps, Trial

PATH: Final = "/v1/stream/held"
_SMALL: Final = 4096  # bytes of a small receive buffer
_PATIENCE: Final = 12.0  # seconds within which responses must begin


def _refused(server: Running) -> Steps:
    """Sends 45 POSTs of 60 MiB to a path without a stream, each on its own connection."""
    request = octets("POST", f"{PATH}-not", OCTETS, b"x" * (60 * MIB))
    yield server
    statuses = []
    for _ in range(45):
        connection = Connection(server.port)
        statuses.append(ask_for_status(connection, request))
        connection.close()
    yield Outcome(note=status_summary(statuses))


def _overload(server: Running) -> Steps:
    """Sends bodies of 64 KB to a path without a stream from 1,000 connections, repeatedly for three seconds."""
    request = octets("POST", f"{PATH}-not", OCTETS, b"x" * 65_000)
    with Crowd(server.port, 1000) as crowd:
        yield server
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            crowd.send(repeat(request))
            crowd.drain(0.2)
    yield Outcome(note=f"{crowd.starts:,} answers")


def _trickle(server: Running) -> Steps:
    """Trickles the bytes of four announced bodies of 64 MiB. The server must accept another client's append meanwhile."""
    create(server.port, [PATH], OCTETS)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {OCTETS}\r\nContent-Length: {64 * MIB}\r\n\r\n"
    yield server
    slow = [connect_from(server.port, 32 * number) for number in range(4)]
    for each in slow:
        each.sendall(head.encode() + b"x")
    statuses = []
    append = octets("POST", PATH, OCTETS, b"x" * MIB)
    for _ in range(4):
        time.sleep(0.5)
        connection = Connection(server.port)
        statuses.append(ask_for_status(connection, append))
        connection.close()
        for each in slow:
            each.sendall(b"x")
    for each in slow:
        each.close()
    yield Outcome(4 * MIB, sum(status != 204 for status in statuses), status_summary(statuses))


def _stalled(readers: int, bodies: list[bytes], media: str, query: str = "") -> Operation:
    """Returns an operation in which readers send a request and do not read the response.

    The readers wait until all responses have begun, and one second longer. Without a query, each reader requests a different page.
    """

    def operation(server: Running) -> Steps:
        append_all(server.port, PATH, media, bodies)
        if server.kind == "files":  # otherwise the readers would share the recent appends in memory
            append_all(server.port, f"{PATH}-other", OCTETS, repeat(b"x" * MIB, 72))
        tail = Connection(server.port).ask(octets("HEAD", PATH)).header(b"stream-next-offset")
        offsets = (f"{tail[:17]}{1000 * number:016}" for number in range(readers))
        queries = repeat(query) if query else (f"?offset={offset}" for offset in offsets)
        yield server
        with Crowd(server.port, readers, _SMALL) as crowd:
            crowd.send(octets("GET", f"{PATH}{each}") for each in queries)
            begun = crowd.stall(_PATIENCE)
            time.sleep(1.0)
        yield Outcome(note=f"{begun:,} of {readers:,} answers have begun")

    return operation


def _pipelines(server: Running) -> Steps:
    """Pipelines 3,000 small reads on each of 500 connections, and reads no response for three seconds."""
    append_all(server.port, PATH, OCTETS, [b"x" * 60_000])
    requests = octets("GET", f"{PATH}?offset=-1") * 3000
    yield server
    with Crowd(server.port, 500, _SMALL) as crowd:
        crowd.send(repeat(requests))
        time.sleep(3.0)
    yield Outcome()


def _half_heads(server: Running) -> Steps:
    """Sends 60 KB of an unfinished head on each of 2,000 connections, and then nothing for three seconds."""
    lines = "".join(f"x-{number}: {'y' * 20}\r\n" for number in range(2000))
    head = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n{lines}".encode()
    yield server
    with Crowd(server.port, 2000) as crowd:
        crowd.send(repeat(head[:60_000]))
        time.sleep(3.0)
    yield Outcome(note=f"{crowd.lost:,} cut")


def _puts(server: Running) -> Steps:
    """Sends four PUTs of 64 MB at once."""
    statuses: list[int] = []

    def put(number: int) -> None:
        connection = Connection(server.port)
        statuses.append(ask_for_status(connection, requests[number]))
        connection.close()

    requests = [octets("PUT", f"{PATH}-{n}", OCTETS, b"x" * 64_000_000) for n in range(4)]
    yield server
    run_in_threads(put, 4)
    stored = 64_000_000 * sum(status == 201 for status in statuses)
    yield Outcome(stored, 0, status_summary(statuses))


_BOTH: Final = ("files", "memory")
_VALUE: Final = [b'"' + b"x" * (60 * MIB) + b'"']
_PAGES: Final = [b"x" * MIB] * 8

TRIALS: Final = (
    Trial("refused", "45 POSTs of 60 MiB to a path that does not exist", _refused, memory=300),
    Trial(
        "overload",
        "POSTs of 64 KB to a missing stream from 1,000 connections",
        _overload,
        memory=300,
    ),
    Trial("trickle", "four bodies of 64 MiB that trickle", _trickle, memory=64),
    Trial(
        "stalled-values",
        "40 readers of a 60 MiB value that stall",
        _stalled(40, _VALUE, JSON, "?offset=-1"),
        _BOTH,
        300,
    ),
    Trial(
        "stalled-pages",
        "500 readers that stall, each on a different 4 MiB page",
        _stalled(500, _PAGES, OCTETS),
        _BOTH,
        300,
    ),
    Trial(
        "stalled-sse",
        "2,000 SSE readers that stall",
        _stalled(2000, _PAGES, OCTETS, "?offset=-1&live=sse"),
        _BOTH,
        300,
    ),
    Trial("pipelines", "500 pipelines of 3,000 GETs that stall", _pipelines, memory=300),
    Trial("half-heads", "2,000 heads of 60 KB that end in the middle", _half_heads, memory=300),
    Trial("puts", "four PUTs of 64 MB at once", _puts, _BOTH, 400),
)

"""Trials about the store: checkpoints, loading after a restart, producers, forks, and streams that expire together."""

import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice, repeat
from typing import Final

from .. import wrk
from ..client import Connection, connect, create, octets
from ..servers import SCRATCH, Running, running_on
from .bodies import OCTETS, append_all, drain
from .crowd import pipelined
from .trial import MIB, Operation, Outcome, Steps, Trial

PATH: Final = "/v1/stream/kept"
_NEARLY: Final = 15_500_000  # bytes of appends; a checkpoint begins at 16 MiB
_LINES: Final = "Host: localhost\r\nContent-Type: application/octet-stream\r\n"


def _loaded(streams: int, seconds: int, size: int) -> Operation:
    """Returns an operation in which 32 clients append to many streams. A checkpoint becomes due soon after its beginning."""

    def operation(server: Running) -> Steps:
        create(server.port, (f"/v1/stream/bench-{n}" for n in range(streams)), OCTETS)
        request = ("POST", "/v1/stream/bench-#", streams, OCTETS, f"@{size}")
        appends = [
            octets("POST", f"/v1/stream/bench-{n}", OCTETS, b"x" * size) for n in range(streams)
        ]
        pipelined(server.port, islice(cycle(appends), _NEARLY // size))
        yield server
        load = wrk.run(server.url, 32, seconds, *request)
        yield Outcome(load.good * size, load.bad, f"{load.rate:,.0f} appends/s")

    return operation


def checkpoint(port: int) -> None:
    """Makes a checkpoint due and waits for its end, so that a restart finds the streams in the catalog only."""
    append_all(port, "/v1/stream/filler", OCTETS, repeat(b"x" * MIB, 24))
    time.sleep(5.0)


def _first_appends(server: Running) -> Steps:
    """Appends once to each of 100,000 streams after a restart, from 256 clients."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        with running_on(server.kind, directory) as writer:
            create(writer.port, (f"/v1/stream/bench-{n}" for n in range(100_000)), OCTETS)
            checkpoint(writer.port)
        with running_on(server.kind, directory) as reader:
            yield reader
            load = wrk.run(
                reader.url, 256, 6, "POST", "/v1/stream/bench-#", 100_000, OCTETS, "@100"
            )
            yield Outcome(load.good * 100, load.bad, f"{load.good:,} appends")


def _cold_heads(server: Running) -> Steps:
    """Pipelines HEADs of 20,000 streams on one connection after a restart."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        with running_on(server.kind, directory) as writer:
            create(writer.port, (f"{PATH}-{n}" for n in range(20_000)), OCTETS)
            checkpoint(writer.port)
        with running_on(server.kind, directory) as reader:
            requests = b"".join(octets("HEAD", f"{PATH}-{n}") for n in range(20_000))
            yield reader
            with connect(reader.port) as asking:
                for begin in range(0, len(requests), 40_000):
                    asking.sendall(requests[begin : begin + 40_000])
                    drain(asking, 0.02, 1 << 40)
            yield Outcome()


def _produced(count: int) -> Iterator[bytes]:
    """Yields appends of one byte, each from another producer."""
    for number in range(count):
        producer = f"Producer-Id: p{number}\r\nProducer-Epoch: 0\r\nProducer-Seq: 0\r\n"
        yield f"POST {PATH} HTTP/1.1\r\n{_LINES}{producer}Content-Length: 1\r\n\r\nx".encode()


def _producers(count: int) -> Operation:
    """Returns an operation that loads a stream with `count` producers after a restart, and appends to it."""

    def operation(server: Running) -> Steps:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
            with running_on(server.kind, directory) as writer:
                create(writer.port, [PATH], OCTETS)
                bad = pipelined(writer.port, _produced(count))
                checkpoint(writer.port)
            with running_on(server.kind, directory) as reader:
                yield reader
                connection = Connection(reader.port)
                bad += connection.ask(octets("HEAD", PATH)).status != 200
                request = next(_produced(1)).replace(b"Producer-Seq: 0", b"Producer-Seq: 1")
                bad += connection.ask(request).status >= 300
                yield Outcome(bad=bad)

    return operation


def _producers_checkpoint(server: Running) -> Steps:
    """Makes a checkpoint due, after appends from 99,000 producers."""
    create(server.port, [PATH, f"{PATH}-2"], OCTETS)
    bad = pipelined(server.port, _produced(99_000))
    yield server
    connection = Connection(server.port)
    append = octets("POST", f"{PATH}-2", OCTETS, b"x" * MIB)
    for _ in range(24):
        bad += connection.ask(append).status >= 300
        time.sleep(0.05)
    yield Outcome(24 * MIB, bad)


def _fork(path: str, source: str) -> bytes:
    return (
        f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nStream-Forked-From: {source}\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def _deep_forks(server: Running) -> Steps:
    """Deletes the last stream of each of eight chains of 250 forks, which ends the whole chain."""
    connection = Connection(server.port)
    last = []
    for chain in range(8):
        create(server.port, [f"{PATH}-{chain}-0"], OCTETS)
        for depth in range(1, 250):
            name = f"{PATH}-{chain}-{depth}"
            status = connection.ask(_fork(name, f"{PATH}-{chain}-{depth - 1}")).status
            if status != 201:
                raise RuntimeError(f"a fork was refused with {status}")
        for depth in range(249):
            connection.ask(octets("DELETE", f"{PATH}-{chain}-{depth}"))
        last.append(octets("DELETE", f"{PATH}-{chain}-249"))
    yield server
    statuses = [connection.ask(request).status for request in last]
    yield Outcome(bad=sum(status != 204 for status in statuses))


def _many_forks(server: Running) -> Steps:
    """Creates 20,000 forks of one stream, deletes the stream, and then deletes the forks."""
    create(server.port, [PATH], OCTETS)
    yield server
    bad = pipelined(server.port, (_fork(f"{PATH}-{n}", PATH) for n in range(20_000)))
    bad += pipelined(server.port, [octets("DELETE", PATH)], 1)
    bad += pipelined(server.port, (octets("DELETE", f"{PATH}-{n}") for n in range(20_000)))
    yield Outcome(bad=bad)


def _fork_in_value(server: Running) -> Steps:
    """Creates 20 forks in the middle of an append of 60 MiB of JSON values."""
    value = b'"%b"' % (b"x" * 1000)
    body = b"[" + b",".join([value] * (60 * MIB // 1003)) + b"]"
    append_all(server.port, PATH, "application/json", [body])
    yield server
    connection = Connection(server.port)
    statuses = []
    for number in range(20):
        lines = f"Stream-Forked-From: {PATH}\r\nStream-Fork-Offset: 0000000000000000_0000000000000000\r\n"
        lines += f"Stream-Fork-Sub-Offset: {30_000 + number}\r\nContent-Length: 0\r\n"
        lines += "Content-Type: application/json\r\n"
        request = f"PUT {PATH}-{number} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()
        statuses.append(connection.ask(request).status)
    yield Outcome(bad=sum(status >= 300 for status in statuses))


def _ending_together(server: Running) -> Steps:
    """Lets 30,000 streams expire in the same second."""
    head = f"HTTP/1.1\r\n{_LINES}Stream-TTL: 4\r\nContent-Length: 0\r\n\r\n"
    pipelined(server.port, (f"PUT {PATH}-{n} {head}".encode() for n in range(30_000)))
    yield server
    time.sleep(6.0)
    yield Outcome()


def _creating(server: Running) -> Steps:
    """Creates 50,000 streams and deletes them, pipelined on 16 connections."""
    yield server
    bad = pipelined(server.port, (octets("PUT", f"{PATH}-{n}", OCTETS) for n in range(50_000)))
    bad += pipelined(server.port, (octets("DELETE", f"{PATH}-{n}") for n in range(50_000)))
    yield Outcome(bad=bad)


TRIALS: Final = (
    Trial(
        "checkpoint", "appends of 32 clients to 64 streams, with checkpoints", _loaded(64, 6, 100)
    ),
    Trial(
        "checkpoint-50k",
        "appends of 1 KB by 32 clients to 50,000 streams",
        _loaded(50_000, 6, 1000),
    ),
    Trial(
        "first-appends", "a first POST to each of 100,000 streams after a restart", _first_appends
    ),
    Trial("cold-heads", "one connection pipelines HEADs of 20,000 cold streams", _cold_heads),
    Trial("producers", "the first load of a stream with 100,000 producers", _producers(99_000)),
    Trial(
        "producers-saved", "a checkpoint of a stream with 100,000 producers", _producers_checkpoint
    ),
    Trial("deep-forks", "eight chains of 250 forks are freed", _deep_forks),
    Trial("many-forks", "20,000 forks of a stream are created and deleted", _many_forks),
    Trial("sub-offset", "20 forks within an append of 60 MiB of JSON", _fork_in_value),
    Trial("expiry", "30,000 streams expire in the same second", _ending_together),
    Trial("creates", "50,000 streams are created and deleted", _creating),
)

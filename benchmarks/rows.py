"""The rows of the table: what is measured, on which servers, and the goals."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Final

from . import durable, latency, live, requests, subscriptions, wrk
from .client import MESSAGE, Connection, Followers, create, fill, octets
from .row import Goal, Measure, Row, Sample
from .servers import ALL_PEERS, OURS, SCRATCH, Running, running_on
from .stall.trials import TRIALS

OCTETS: Final = "application/octet-stream"
JSON: Final = "application/json"
TEXT: Final = "text/plain"
_MIB: Final = 1024 * 1024
_PATIENCE: Final = 2.0  # seconds without a message, after which missing messages count as lost


ALL: Final = ("memory", "files", "asgi", "asgi-files", *ALL_PEERS[2:], "rakaia")


def _appends(
    connections: int, streams: int, body: str = "@100", media: str = OCTETS
) -> Callable[[Running], Measure]:
    """Measures appends per second, to each of `streams` streams in turn."""

    def prepare(server: Running) -> Measure:
        create(server.port, (f"/v1/stream/bench-{n}" for n in range(streams)), media)
        asked = ("POST", "/v1/stream/bench-#", streams, media, body)

        def measure(seconds: int) -> Sample:
            used = server.cpu()
            load = wrk.run(server.url, connections, seconds, *asked)
            cpu = (server.cpu() - used) / max(1, load.good) * 1e6
            return Sample(load.rate, load.bad, cpu=cpu)

        return measure

    return prepare


def _append_latency(server: Running) -> Measure:
    """Measures the median latency of appends on one connection, in milliseconds."""
    create(server.port, (f"/v1/stream/bench-{n}" for n in range(64)), OCTETS)

    def measure(seconds: int) -> Sample:
        load = wrk.run(server.url, 1, seconds, "POST", "/v1/stream/bench-#", 64, OCTETS, "@100")
        return Sample(load.median, load.bad)

    return measure


def _subscribed(server: Running) -> Measure:
    """Measures appends per second with 10,000 subscriptions whose patterns match none of the streams."""
    connection = Connection(server.port)
    for number in range(10_000):
        body = b'{"type":"pull-wake","pattern":"nothing-%d/**","wake_stream":"wake/pool"}' % number
        path = f"/v1/stream/__ds/subscriptions/bench-{number}"
        status = connection.ask(octets("PUT", path, JSON, body)).status
        if status == 404 and number == 0:
            return lambda _: Sample(None, note="skipped: this server has no subscriptions")
        if status >= 300:
            raise RuntimeError(f"a subscription was refused with {status}")
    connection.close()
    return _appends(32, 64)(server)


def _json_bodies() -> Iterator[bytes]:
    """Yields the bodies of 100 appends, with 100 JSON messages of about 100 bytes each."""
    for begin in range(0, 10_000, 100):
        values = (
            b'{"id":%d,"text":"%b"}' % (1_000_000 + n, b"x" * 76) for n in range(begin, begin + 100)
        )
        yield b"[" + b",".join(values) + b"]"


def _catch_up(
    media: str, bodies: Callable[[], Iterator[bytes]], least: int
) -> Callable[[Running], Measure]:
    """Measures the MB/s of reading a stream repeatedly from its beginning to its tail, on two connections."""
    path = "/v1/stream/long"

    def prepare(server: Running) -> Measure:
        fill(server.port, path, media, bodies())

        def measure(seconds: int) -> Sample:
            connections = [Connection(server.port) for _ in range(2)]
            try:
                return _read_again_and_again(connections, path, least, seconds)
            finally:
                for connection in connections:
                    connection.close()

        return measure

    return prepare


def _read_again_and_again(
    connections: list[Connection], path: str, least: int, seconds: int
) -> Sample:
    places = ["-1"] * len(connections)
    sizes = [0] * len(connections)
    read = bad = 0
    for connection in connections:
        connection.send(octets("GET", f"{path}?offset=-1"))
    begun = time.monotonic()
    while time.monotonic() - begun < seconds or any(place != "-1" for place in places):
        for number, connection in enumerate(connections):
            answer = connection.receive()
            read += answer.size
            sizes[number] += answer.size
            places[number] = answer.header(b"stream-next-offset")
            if answer.status != 200:
                bad += 1
            if answer.status != 200 or answer.header(b"stream-up-to-date"):
                bad += sizes[number] < least
                places[number], sizes[number] = "-1", 0
            connection.send(octets("GET", f"{path}?offset={places[number]}"))
        if time.monotonic() - begun > 4 * seconds + 30:
            break
    return Sample(read / (time.monotonic() - begun) / 1e6, bad)


def _first_catch_up(server: Running) -> Measure:
    """Measures the MB/s of the first read of small appends after a restart, when the server verifies each checksum."""
    path = "/v1/stream/long"
    appends, size = 20_000, 500

    def measure(_: int) -> Sample:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
            with running_on(server.kind, directory) as writer:
                fill(writer.port, path, OCTETS, (b"x" * size for _ in range(appends)))
            with running_on(server.kind, directory) as reader:
                connection = Connection(reader.port)
                place, read, bad = "-1", 0, 0
                begun = time.monotonic()
                while not bad:
                    answer = connection.ask(octets("GET", f"{path}?offset={place}"))
                    read += answer.size
                    bad += answer.status != 200
                    place = answer.header(b"stream-next-offset")
                    if answer.header(b"stream-up-to-date"):
                        break
                seconds = time.monotonic() - begun
        return Sample(read / seconds / 1e6, bad + (read != appends * size))

    return measure


def _follow(readers: int, writers: int, per_cpu: bool) -> Callable[[Running], Measure]:
    """Measures messages per second to the event-stream readers of one stream, or the CPU time per message."""
    path = "/v1/stream/live"

    def prepare(server: Running) -> Measure:
        create(server.port, [path], TEXT)

        def measure(seconds: int) -> Sample:
            with Followers(server.port, path, readers) as followers:
                begun, used, own = time.monotonic(), server.cpu(), time.process_time()
                load = wrk.start(server.url, writers, seconds, "POST", path, 1, TEXT, MESSAGE)
                while load.poll() is None:
                    followers.follow(0.05)
                answered = wrk.finish(load)
                expected = answered.good * readers
                followers.follow_until(expected, _PATIENCE)
                took = followers.last - begun
                share = (time.process_time() - own) / took
                bad = answered.bad + followers.lost + max(0, expected - followers.received)
                note = f"client {share:.0%} of its core"
                if per_cpu:
                    return Sample((server.cpu() - used) / followers.received * 1e6, bad, note)
                return Sample(followers.received / took, bad, note)

        return measure

    return prepare


def _long_poll(server: Running) -> Measure:
    """Measures the median milliseconds from an append to the arrival of its message at a waiting long-poll reader."""
    path = "/v1/stream/polled"
    create(server.port, [path], TEXT)
    reader, writer = Connection(server.port), Connection(server.port)
    append = octets("POST", path, TEXT, MESSAGE.encode())

    def measure(seconds: int) -> Sample:
        offset = writer.ask(octets("HEAD", path)).header(b"stream-next-offset")
        times, bad = [], 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            reader.send(octets("GET", f"{path}?offset={offset}&live=long-poll"))
            time.sleep(0.002)  # time for the reader's request to arrive and wait
            begun = time.perf_counter()
            writer.send(append)
            answer = reader.receive()
            times.append(time.perf_counter() - begun)
            bad += answer.status != 200 or answer.size < len(MESSAGE)
            bad += writer.receive().status >= 300
            offset = answer.header(b"stream-next-offset")
        return Sample(statistics.median(times) * 1000, bad)

    return measure


def _idle_memory(server: Running) -> Measure:
    """Measures the resident kilobytes per reader of 5,000 idle event-stream readers."""
    path, readers = "/v1/stream/idle", 5_000
    create(server.port, [path], TEXT)

    def measure(_: int) -> Sample:
        with Followers(server.port, path, 100):
            before = server.resident()
            with Followers(server.port, path, readers) as followers:
                grown = server.resident() - before
                return Sample(grown / readers / 1000, followers.lost)

    return measure


def _last_message(messages: int) -> Callable[[Running], Measure]:
    """Measures the CPU microseconds of reading the last message of a stream with `messages` messages."""

    def prepare(server: Running) -> Measure:
        path, batch = "/v1/stream/long", 1000
        value = b'{"text":"%b"}' % (b"x" * 89)
        whole = b"[" + b",".join([value] * min(batch, messages)) + b"]"
        fill(server.port, path, JSON, (whole for _ in range(0, messages, batch)))
        connection = Connection(server.port)
        before = connection.ask(octets("HEAD", path)).header(b"stream-next-offset")
        connection.ask(octets("POST", path, JSON, value))
        asked = f"{path}?offset={before}"
        bad = connection.ask(octets("GET", asked)).size != len(value) + 2

        def measure(seconds: int) -> Sample:
            used = server.cpu()
            load = wrk.run(server.url, 8, seconds, "GET", asked, 1)
            return Sample((server.cpu() - used) / load.good * 1e6, load.bad + bad)

        return measure

    return prepare


ROWS: Final = (
    Row(
        "append",
        "append",
        "appends of 100 B, 32 connections, 64 streams",
        "/s",
        ALL,
        _appends(32, 64),
        (
            Goal("memory", 2.0, 3.5, "node"),
            Goal("files", 15, 25, "node-files"),
            Goal("files", 0.5, None, "memory"),
            Goal("memory", None, 0.6, "rust"),
            Goal("files", None, 0.75, "rust-files"),
        ),
    ),
    Row(
        "append-latency",
        "append",
        "latency of appends, 1 connection, median",
        "ms",
        ALL,
        _append_latency,
        (Goal("files", 0.4, 0.25, "node-files"),),
        less_is_better=True,
    ),
    Row(
        "append-256",
        "append",
        "appends of 100 B, 256 connections, 256 streams",
        "/s",
        ("files", "asgi-files", "node-files", "caddy-files", "rust-files"),
        _appends(256, 256),
        (Goal("files", 25, 60, "node-files"),),
    ),
    Row(
        "json-batch",
        "json",
        "JSON batches of 100, 32 connections, 64 streams",
        "/s",
        ALL,
        _appends(32, 64, "json:100", JSON),
        (Goal("memory", 2, 4, "node"), Goal("files", 8, 15, "node-files")),
    ),
    Row(
        "catch-up-json",
        "catch-up",
        "catch-up of 10,000 JSON messages",
        "MB/s",
        ALL,
        _catch_up(JSON, _json_bodies, 10_000 * 100),
        (Goal("memory", 15, 30, "node"), Goal("files", 15, 30, "node-files")),
    ),
    Row(
        "catch-up-binary",
        "catch-up",
        "catch-up of a 32 MB binary stream",
        "MB/s",
        ALL,
        _catch_up(OCTETS, lambda: (b"x" * _MIB for _ in range(32)), 32 * _MIB),
        (Goal("memory", 4, 8, "node"), Goal("files", 4, 8, "node-files")),
    ),
    Row(
        "first-catch-up",
        "catch-up",
        "first catch-up of 20,000 appends of 500 B after a restart",
        "MB/s",
        ("files",),
        _first_catch_up,
    ),
    Row(
        "sse",
        "sse",
        "messages received by 300 SSE readers, 8 writers",
        "/s",
        ALL,
        _follow(300, 8, per_cpu=False),
        (Goal("memory", 3, 4.5, "node"), Goal("files", 40, 100, "node-files")),
    ),
    Row(
        "sse-one",
        "sse",
        "… 1 writer, so every message is a separate event",
        "/s",
        ALL_PEERS,
        _follow(300, 1, per_cpu=False),
    ),
    Row(
        "long-poll",
        "long-poll",
        "latency from append to long-poll reader, median",
        "ms",
        ALL,
        _long_poll,
        (Goal("memory", 1.0, 0.7, "node"), Goal("files", 0.35, 0.2, "node-files")),
        less_is_better=True,
    ),
    Row(
        "idle-sse",
        "idle",
        "resident memory per idle SSE reader",
        "KB",
        ALL_PEERS,
        _idle_memory,
        (Goal("memory", 20, 8), Goal("files", 20, 8)),
        less_is_better=True,
    ),
    Row(
        "append-100k",
        "scale",
        "appends of 100 B, 32 connections, 100,000 streams",
        "/s",
        OURS,
        _appends(32, 100_000),
        (
            Goal("memory", 0.8, None, "memory", "append-64"),
            Goal("files", 0.8, None, "files", "append-64"),
        ),
    ),
    Row(
        "append-64",
        "scale",
        "… 64 streams",
        "/s",
        OURS,
        _appends(32, 64),
    ),
    Row(
        "append-subscribed",
        "scale",
        "… 64 streams, 10,000 subscriptions that match nothing",
        "/s",
        ("files",),
        _subscribed,
        (Goal("files", 0.9, None, "files", "append-64"),),
    ),
    Row(
        "last-of-million",
        "scale",
        "CPU time of a read of the last of 1,000,000 messages",
        "µs",
        OURS,
        _last_message(1_000_000),
        (
            Goal("memory", 1.1, None, "memory", "last-of-hundred"),
            Goal("files", 1.1, None, "files", "last-of-hundred"),
        ),
        less_is_better=True,
    ),
    Row(
        "last-of-hundred",
        "scale",
        "… of 100",
        "µs",
        OURS,
        _last_message(100),
        less_is_better=True,
    ),
    Row(
        "fan-out-2000",
        "scale",
        "CPU time per message to 2,000 SSE readers, 1 writer",
        "µs",
        OURS,
        _follow(2_000, 1, per_cpu=True),
        (
            Goal("memory", 1.0, None, "memory", "fan-out-10"),
            Goal("files", 1.0, None, "files", "fan-out-10"),
        ),
        less_is_better=True,
    ),
    Row(
        "fan-out-100",
        "scale",
        "… 100 readers",
        "µs",
        OURS,
        _follow(100, 1, per_cpu=True),
        less_is_better=True,
    ),
    Row(
        "fan-out-10",
        "scale",
        "… 10 readers",
        "µs",
        OURS,
        _follow(10, 1, per_cpu=True),
        less_is_better=True,
    ),
    *live.ROWS,
    *latency.ROWS,
    *requests.ROWS,
    *durable.ROWS,
    *subscriptions.ROWS,
    *(trial.row() for trial in TRIALS),
)
PARTS: Final = tuple(dict.fromkeys(row.part for row in ROWS))

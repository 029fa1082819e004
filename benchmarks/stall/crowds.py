"""Trials about many clients at once: live readers, connections, gzip, and clients that all disconnect at once."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import repeat
from typing import Final

from ..client import MESSAGE, Connection, Followers, connect, create, octets
from ..servers import Running
from .bodies import JSON, OCTETS, append_all, json_bodies
from .crowd import Crowd, pipelined
from .trial import MIB, Operation, Outcome, Steps, Trial

PATH: Final = "/v1/stream/crowded"
TEXT: Final = "text/plain"
_PATIENCE: Final = 20.0  # seconds after which missing responses count as lost


def _catch_up(readers: int, media: str, bodies: Callable[[], Iterator[bytes]]) -> Operation:
    """Returns an operation in which event-stream readers catch up on a long stream, for at most four seconds."""

    def operation(server: Running) -> Steps:
        size = append_all(server.port, PATH, media, bodies())
        yield server
        with Crowd(server.port, readers) as crowd:
            crowd.send(repeat(octets("GET", f"{PATH}?offset=-1&live=sse")))
            crowd.drain(4.0, received=readers * size)
        yield Outcome(bad=crowd.lost, note=f"{crowd.received / MIB:,.0f} MiB read")

    return operation


def _long_polls(readers: int, body: bytes) -> Operation:
    """Returns an operation in which one append ends many long-polls."""

    def operation(server: Running) -> Steps:
        create(server.port, [PATH], OCTETS)
        writer = Connection(server.port)
        tail = writer.ask(octets("HEAD", PATH)).header(b"stream-next-offset")
        with Crowd(server.port, readers) as crowd:
            crowd.send(repeat(octets("GET", f"{PATH}?offset={tail}&live=long-poll")))
            time.sleep(1.5)
            yield server
            status = writer.ask(octets("POST", PATH, OCTETS, body)).status
            whole = readers * len(body)
            crowd.drain(_PATIENCE, starts=readers, received=whole)
            yield Outcome(len(body), crowd.lost + (readers - crowd.starts) + (status != 204))

    return operation


def _many_writers(server: Running) -> Steps:
    """Sends an append on each of 2,000 connections at the same time, five times."""
    create(server.port, (f"{PATH}-{n}" for n in range(64)), OCTETS)
    requests = [octets("POST", f"{PATH}-{n % 64}", OCTETS, b"x" * 100) for n in range(2000)]
    with Crowd(server.port, 2000) as crowd:
        yield server
        for turn in range(1, 6):
            crowd.send(requests)
            crowd.drain(_PATIENCE, starts=turn * 2000)
        yield Outcome(bad=crowd.lost + 10_000 - crowd.starts)


def _large_heads(server: Running) -> Steps:
    """Sends a head of 30 KB on each of 1,000 connections at the same time, five times."""
    create(server.port, [PATH], OCTETS)
    lines = "".join(f"x-{n}: {'y' * 240}\r\n" for n in range(120))
    request = f"GET {PATH}?offset=-1 HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()
    with Crowd(server.port, 1000) as crowd:
        yield server
        for turn in range(1, 6):
            crowd.send(repeat(request))
            crowd.drain(_PATIENCE, starts=turn * 1000)
        yield Outcome(bad=crowd.lost + 5000 - crowd.starts)


def _followed(readers: int, ending: bool) -> Operation:
    """Returns an operation that appends ten times to a stream with many event-stream readers, or closes the stream."""

    def operation(server: Running) -> Steps:
        create(server.port, [PATH], TEXT)
        writer = Connection(server.port)
        append = octets("POST", PATH, TEXT, MESSAGE.encode())
        close = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nStream-Closed: true\r\nContent-Length: 0\r\n\r\n"
        with Followers(server.port, PATH, readers) as followers:
            yield server
            for number in range(1 if ending else 10):
                status = writer.ask(close.encode() if ending else append).status
                if status != 204:
                    raise RuntimeError(f"an append was answered with {status}")
                if ending:
                    followers.follow(2.0)
                else:
                    followers.follow_until((number + 1) * readers, 2.0)
            yield Outcome(bad=0 if ending else 10 * readers - followers.received)

    return operation


def _leaving(readers: int, request: bytes) -> Operation:
    """Returns an operation that closes many connections at the same time, each with a request in progress."""

    def operation(server: Running) -> Steps:
        create(server.port, [PATH], TEXT)
        crowd = Crowd(server.port, readers)
        if request:
            crowd.send(repeat(request))
            crowd.drain(1.0)
        yield server
        crowd.close()
        time.sleep(1.0)
        yield Outcome()

    return operation


def _arriving(server: Running) -> Steps:
    """Opens 10,000 connections as fast as possible, and keeps them for three seconds."""
    yield server
    with Crowd(server.port, 10_000):
        time.sleep(3.0)
        yield Outcome()


def _gzip(server: Running) -> Steps:
    """Requests a page of 4 MiB with gzip on 300 connections, and closes 290 of them at once."""
    words = [bytes(random.Random(n).choices(b"abcdefgh", k=7)) for n in range(4000)]
    body = b" ".join(random.Random(1).choices(words, k=MIB // 8))
    append_all(server.port, PATH, TEXT, repeat(body, 4))
    request = f"GET {PATH}?offset=-1 HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n".encode()
    staying = [connect(server.port) for _ in range(10)]
    crowd = Crowd(server.port, 290)
    yield server
    crowd.send(repeat(request))
    time.sleep(0.2)
    crowd.close()
    begun = time.monotonic()
    for each in staying:
        each.sendall(request)
    bad = sum(b" 200 " not in each.recv(64) for each in staying)
    took = time.monotonic() - begun
    for each in staying:
        each.close()
    yield Outcome(bad=bad, note=f"those who stay are answered after {took:.1f} s")


def _listings(server: Running) -> Steps:
    """Lists the streams of a subscription from 60 clients at once, with a pattern over 50,000 streams."""
    create(server.port, (f"/v1/stream/listed-{n}" for n in range(50_000)), OCTETS)
    connection = Connection(server.port)
    body = b'{"type":"pull-wake","pattern":"other-*/**","wake_stream":"wake/pool"}'
    there = "/v1/stream/__ds/subscriptions/one"
    if (status := connection.ask(octets("PUT", there, JSON, body)).status) != 201:
        raise RuntimeError(f"the subscription was refused with {status}")
    with Crowd(server.port, 60) as crowd:
        yield server
        crowd.send(repeat(octets("GET", there)))
        crowd.drain(_PATIENCE, starts=60)
        yield Outcome(bad=crowd.lost + 60 - crowd.starts)


def _pages_of_small_appends(server: Running) -> Steps:
    """Reads pages of a stream of 300,000 appends of 10 bytes from 20 readers at once, ten times."""
    create(server.port, [PATH], OCTETS)
    pipelined(server.port, repeat(octets("POST", PATH, OCTETS, b"x" * 10), 300_000))
    request = octets("GET", f"{PATH}?offset=-1")
    with Crowd(server.port, 20) as crowd:
        yield server
        for turn in range(1, 11):
            crowd.send(repeat(request))
            crowd.drain(_PATIENCE, received=turn * 20 * 3_000_000)
        yield Outcome(bad=crowd.lost, note=f"{crowd.received / MIB:,.0f} MiB read")


def _opening(server: Running) -> Steps:
    """Starts 1,000 event-stream readers at the same time, which catch up on 100 MB."""
    append_all(server.port, PATH, JSON, json_bodies(100_000_000))
    with ExitStack() as stack:
        crowd = stack.enter_context(Crowd(server.port, 1000))
        yield server
        crowd.send(repeat(octets("GET", f"{PATH}?offset=-1&live=sse")))
        crowd.drain(4.0)
        yield Outcome(bad=crowd.lost, note=f"{crowd.received / MIB:,.0f} MiB read")


_SSE: Final = octets("GET", f"{PATH}?offset=now&live=sse")
_POLL: Final = octets("GET", f"{PATH}?offset=now&live=long-poll")

TRIALS: Final = (
    Trial(
        "sse",
        "one SSE reader catches up on 400 MB of JSON",
        _catch_up(1, JSON, lambda: json_bodies(400_000_000)),
    ),
    Trial(
        "sse-4",
        "four SSE readers catch up on 400 MB of JSON",
        _catch_up(4, JSON, lambda: json_bodies(400_000_000)),
    ),
    Trial(
        "sse-binary",
        "one SSE reader catches up on 200 MB of octets",
        _catch_up(1, OCTETS, lambda: (b"x" * MIB for _ in range(200))),
    ),
    Trial("sse-1000", "1,000 SSE readers catch up on 100 MB at once", _opening),
    Trial(
        "wake",
        "an append wakes 10,000 long-polls",
        _long_polls(10_000, b"x" * 100),
        ("files", "memory"),
    ),
    Trial(
        "wake-large", "an append of 4 MiB wakes 200 long-polls", _long_polls(200, b"x" * 4 * MIB)
    ),
    Trial("follow", "appends to 5,000 SSE readers", _followed(5000, False), ("files", "memory")),
    Trial("close", "the close of a stream with 5,000 SSE readers", _followed(5000, True)),
    Trial("writers", "2,000 connections write at once", _many_writers, ("files", "memory")),
    Trial("heads", "1,000 heads of 30 KB at once", _large_heads),
    Trial("arrive", "10,000 connections are opened and stay open", _arriving),
    Trial("leave", "10,000 idle connections close at once", _leaving(10_000, b"")),
    Trial("leave-sse", "5,000 SSE readers leave at once", _leaving(5000, _SSE)),
    Trial("leave-poll", "10,000 long-polls leave at once", _leaving(10_000, _POLL)),
    Trial("gzip", "300 gzip reads of 4 MiB, of which 290 leave", _gzip),
    Trial("listings", "60 listings by a glob over 50,000 streams", _listings),
    Trial(
        "small-appends",
        "20 page reads at once of a stream of 300,000 appends",
        _pages_of_small_appends,
    ),
)

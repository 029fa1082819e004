"""Rows that measure subscriptions: appends that many of them match, and the rates of claims and webhook deliveries."""

from collections.abc import Callable
from typing import Final

from . import workers, wrk
from .client import Connection, create, octets
from .receiver import HOSTS, Receiver
from .row import Measure, Row, Sample
from .servers import Running
from .subscribing import ROOT, pull_wakes

OURS: Final = ("memory", "files")
_OCTETS: Final = "application/octet-stream"
#: Number of connections. It is small, because an append may take tens of milliseconds and a window is short.
_APPENDERS: Final = 8
_WORKERS: Final = 32
#: Number of webhook subscriptions, more than the 512 deliveries that the server makes at once.
_DUE: Final = 640


def _matched(count: int) -> Callable[[Running], Measure]:
    """Measures appends to one stream that `count` subscriptions match.

    No worker claims their wakes, so after the first append all of them stay due.
    """

    def prepare(server: Running) -> Measure:
        path = f"{ROOT}/a/stream"
        pull_wakes(server.port, count, pattern="a/**")
        create(server.port, [path], _OCTETS)
        connection = Connection(server.port)
        first = connection.ask(octets("POST", path, _OCTETS, b"x" * 100))
        connection.close()
        if first.status >= 300:
            raise RuntimeError(f"the first append was answered with {first.status}")

        def measure(seconds: int) -> Sample:
            load = wrk.run(server.url, _APPENDERS, seconds, "POST", path, 1, _OCTETS, "@100")
            return Sample(load.rate, load.bad)

        return measure

    return prepare


def _claims(server: Running) -> Measure:
    """Measures wakes per second, with workers that each append to their own stream, claim the wake and acknowledge it."""
    workers.prepare(server.port, _WORKERS)

    def measure(seconds: int) -> Sample:
        done = workers.work(server.port, _WORKERS, seconds)
        return Sample(
            done.ended / seconds, done.bad, f"client {done.cpu / seconds:.0%} of its core"
        )

    return measure


def _webhooks(hosts: int) -> Callable[[Running], Measure]:
    """Measures deliveries to one receiver with `hosts` addresses.

    The receiver answers each delivery with `{"done":true}`, and then appends to the same stream.
    """

    def prepare(server: Running) -> Measure:
        receiver = Receiver(server.port, _DUE)  # its process ends with the server
        receiver.prepare(hosts)

        def measure(seconds: int) -> Sample:
            found = receiver.cycle(seconds)
            note = f"client {found.cpu / found.seconds:.0%} of its core"
            return Sample(found.delivered / found.seconds, found.bad, note)

        return measure

    return prepare


ROWS: Final = (
    Row(
        "matched-0",
        "subscriptions",
        f"appends of 100 B to one stream, {_APPENDERS} connections",
        "/s",
        OURS,
        _matched(0),
    ),
    Row(
        "matched-1",
        "subscriptions",
        "… that 1 subscription matches",
        "/s",
        OURS,
        _matched(1),
    ),
    Row(
        "matched-100",
        "subscriptions",
        "… that 100 subscriptions match",
        "/s",
        OURS,
        _matched(100),
    ),
    Row(
        "matched-10k",
        "subscriptions",
        "… that 10,000 subscriptions match",
        "/s",
        OURS,
        _matched(10_000),
    ),
    Row(
        "claims",
        "subscriptions",
        f"cycles of append, claim and acknowledgement, {_WORKERS} workers",
        "/s",
        OURS,
        _claims,
    ),
    Row(
        "webhooks",
        "subscriptions",
        "cycles of append and webhook delivery, one host",
        "/s",
        OURS,
        _webhooks(1),
    ),
    Row(
        "webhooks-64",
        "subscriptions",
        f"cycles of append and webhook delivery, {HOSTS} hosts",
        "/s",
        OURS,
        _webhooks(HOSTS),
    ),
)

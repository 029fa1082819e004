"""Trials about subscriptions: appends that make many of them due, and requests that name many streams that are not in memory.

The probe sends a read every millisecond, so if an operation blocks the event loop, a read is delayed by nearly that whole time. The
trial `matching` also reports the CPU time of the event loop for one append, including the probe's reads. That figure is an upper
bound for one turn of the loop, and other processes do not affect it.
"""

import json
import statistics
import tempfile
import time
from http.client import HTTPConnection
from typing import Any, Final

from ..client import Connection, create, octets
from ..receiver import HOSTS, Receiver
from ..servers import SCRATCH, Running, running_on
from ..subscribing import JSON, ROOT, acknowledgement, control, pull_wakes, webhooks
from .bodies import OCTETS, status_summary
from .stores import checkpoint
from .trial import Outcome, Steps, Trial

_MANY: Final = 10_000
_LISTED: Final = 1000  # maximum number of streams that a claim lists
_FIRST: Final = 20  # number of streams that get a first append
_BODY: Final = b"x" * 100
_REST: Final = 0.01  # seconds for the work that the server does after a response
_PATIENCE: Final = 60.0  # seconds after which missing deliveries count as lost


def _matching(server: Running) -> Steps:
    """Appends to new streams one by one. Each append gives every subscription an unread stream, and the first also begins their wakes."""
    pull_wakes(server.port, _MANY, pattern="a/**")
    paths = [f"{ROOT}/a/{number}" for number in range(_FIRST)]
    create(server.port, paths, OCTETS)
    connection = Connection(server.port)
    used, bad = [], 0
    yield server
    for path in paths:
        before = server.loop_cpu()
        bad += connection.ask(octets("POST", path, OCTETS, _BODY)).status >= 300
        time.sleep(_REST)
        used.append((server.loop_cpu() - before) * 1000)
    first, others = used[0], statistics.median(used[1:])
    note = (
        f"loop CPU {first:.1f} ms for the append that begins the wakes, {others:.1f} ms for others"
    )
    yield Outcome(_FIRST * len(_BODY), bad, note)


def _due_webhooks(server: Running) -> Steps:
    """Makes 10,000 webhook subscriptions due by one append. The receiver has 64 hosts, to allow the maximum number of parallel deliveries."""
    with Receiver() as receiver:
        webhooks(server.port, _MANY, receiver.urls(HOSTS), pattern="a/**")
        create(server.port, [f"{ROOT}/a/stream"], OCTETS)
        connection = Connection(server.port)
        yield server
        begun = time.monotonic()
        bad = connection.ask(octets("POST", f"{ROOT}/a/stream", OCTETS, _BODY)).status >= 300
        while (come := receiver.count()) < _MANY and time.monotonic() < begun + _PATIENCE:
            time.sleep(0.05)
        rate = come / (time.monotonic() - begun)
        yield Outcome(len(_BODY), bad + abs(_MANY - come), f"{rate:,.0f} deliveries/s")


def _cold_acks(server: Running) -> Steps:
    """Sends one acknowledgement for 10,000 claimed streams after a restart."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        with running_on(server.kind, directory) as writer:
            offsets = _due_streams(writer.port, _MANY)
            claimed = _claim(writer.port)
            checkpoint(writer.port)
        with running_on(server.kind, directory) as reader:
            acks = [{"stream": f"a/{n}", "offset": offset} for n, offset in enumerate(offsets)]
            request = acknowledgement(0, claimed, acks)
            connection = Connection(reader.port)
            yield reader
            status = connection.ask(request).status
            yield Outcome(bad=status >= 300, note=status_summary([status]))


def _cold_claim(server: Running) -> Steps:
    """Sends one claim that lists 1,000 streams, the maximum, after a restart."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        with running_on(server.kind, directory) as writer:
            _due_streams(writer.port, _LISTED)
            checkpoint(writer.port)
        with running_on(server.kind, directory) as reader:
            yield reader
            told = len(_claim(reader.port)["streams"])
            yield Outcome(bad=_LISTED - told, note=f"told of {told:,} streams")


def _due_streams(port: int, count: int) -> list[str]:
    """Creates a subscription and its unread streams `a/0`, `a/1` and so on, and returns the tails of the streams."""
    pull_wakes(port, 1, pattern="a/**")
    connection = Connection(port)
    requests = (octets("PUT", f"{ROOT}/a/{number}", OCTETS, _BODY) for number in range(count))
    tails = [connection.ask(request).header(b"stream-next-offset") for request in requests]
    connection.close()
    return tails


def _claim(port: int) -> dict[str, Any]:
    """Claims the wake of the first subscription, and returns the response."""
    connection = HTTPConnection("127.0.0.1", port)
    headers = {"Content-Type": JSON}
    connection.request("POST", control(0, "claim"), b'{"worker":"w"}', headers)
    answer = connection.getresponse()
    claimed: dict[str, Any] = json.loads(answer.read())
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"a claim was answered with {answer.status}: {claimed}")
    return claimed


TRIALS: Final = (
    Trial(
        "matching",
        "first appends to streams that 10,000 subscriptions match",
        _matching,
        ("files", "memory"),
    ),
    Trial(
        "due-webhooks",
        "an append makes 10,000 webhooks due at once",
        _due_webhooks,
        ("files", "memory"),
    ),
    Trial("cold-acks", "one acknowledgement of 10,000 cold streams", _cold_acks),
    Trial("cold-claim", "a claim of 1,000 cold streams", _cold_claim),
)

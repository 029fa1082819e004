"""Trials about subscriptions: appends that make many of them due, and requests about many streams that are not in memory.

The probe sends a read every millisecond, so whatever holds the loop for longer delays a read by all but one millisecond of that time.
`matching` also says how much CPU the loop's thread used for one append, with the probe's reads meanwhile. No turn of the loop can have
used more, and what else runs on the machine does not change that figure.
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
from .bodies import OCTETS, said
from .stores import checkpoint
from .trial import Outcome, Steps, Trial

_MANY: Final = 10_000
_LISTED: Final = 1000  # streams that a claim tells of at most
_FIRST: Final = 20  # streams that get their first append
_BODY: Final = b"x" * 100
_REST: Final = 0.01  # seconds in which the server does what it does after an answer
_PATIENCE: Final = 60.0  # seconds until deliveries that have not come are missing


def _matching(server: Running) -> Steps:
    """Appends to new streams, one after the other; each append makes all subscriptions due, and the first one also begins their wakes."""
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
    """One append makes 10,000 webhook subscriptions due. Their receiver is on 64 hosts, so as many deliveries run at once as ever may."""
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
    """After a restart, one acknowledgement names 10,000 streams, all of which are claimed."""
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
            yield Outcome(bad=status >= 300, note=said([status]))


def _cold_claim(server: Running) -> Steps:
    """After a restart, one claim is told of 1,000 streams, the most that it can be."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        with running_on(server.kind, directory) as writer:
            _due_streams(writer.port, _LISTED)
            checkpoint(writer.port)
        with running_on(server.kind, directory) as reader:
            yield reader
            told = len(_claim(reader.port)["streams"])
            yield Outcome(bad=_LISTED - told, note=f"told of {told:,} streams")


def _due_streams(port: int, count: int) -> list[str]:
    """Creates a subscription and streams that are due for it, `a/0`, `a/1` and so on; returns their tails."""
    pull_wakes(port, 1, pattern="a/**")
    connection = Connection(port)
    requests = (octets("PUT", f"{ROOT}/a/{number}", OCTETS, _BODY) for number in range(count))
    tails = [connection.ask(request).header(b"stream-next-offset") for request in requests]
    connection.close()
    return tails


def _claim(port: int) -> dict[str, Any]:
    """Claims the wake of the first subscription."""
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

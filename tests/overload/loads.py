"""The loads of `make overload`. Each runs with as many clients as saturate the server, and then with five times as many.

All clients are closed loops: each sends its next request when it has the response to the last one, and tries again at once if it was refused.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from benchmarks import wrk

from .serving import PATH, STREAMS, Server

FACTOR: Final = 5  # clients at overload, as a multiple of those that saturate the server
ROUNDS: Final = 5
WARM_UP: Final = 2  # seconds
LEAST_SHARE: Final = 0.8  # of the capacity that must remain
#: Bytes by which memory may grow at overload. The bodies that the server may hold are counted apart.
GROWTH: Final = 128 * 1024 * 1024
#: Seconds after an overload within which the server must have its capacity again.
RECOVERY: Final = 1


class Kind(NamedTuple):
    """One kind of overload.

    Attributes:
        title: what is too much.
        flags: the flags of the server.
        body: the body of each append, as `load.lua` takes it, and its size in bytes.
        size: the size of the body in bytes.
        clients: how many clients saturate the server.
        seconds: how long each load lasts.
        held: bytes of bodies that the server may hold at once.
    """

    title: str
    flags: tuple[str, ...]
    body: str
    size: int
    clients: int
    seconds: int = 2
    held: int = 0


KINDS: Final = (
    Kind("small appends", (), "x" * 100, 100, 32),
    Kind(
        "connections",
        ("--max-connections", "40", "--max-connections-per-address", "40"),
        "x" * 100,
        100,
        32,
    ),
    Kind(
        "bodies in flight",
        ("--max-in-flight", "16m", "--max-body", "1m"),
        "@262144",
        262144,
        32,
        3,
        2 * 16 * 1024 * 1024,
    ),
    Kind("appends of one client", ("--max-appends-per-second", "1000"), "x" * 100, 100, 32),
)


@dataclass
class Outcome:
    """The results of one kind of overload.

    Attributes:
        capacity: good responses a second of the clients that saturate the server, once for each round.
        overload: good responses a second at overload, once for each round.
        refused: refused requests and connections at overload, over all rounds.
        recovery: good responses a second in the second after each overload.
        before: memory before the first overload, in bytes.
        peak: memory at most.
    """

    capacity: list[float] = field(default_factory=list)
    overload: list[float] = field(default_factory=list)
    refused: int = 0
    recovery: list[float] = field(default_factory=list)
    before: int = 0
    peak: int = 0

    @property
    def share(self) -> float:
        """The share of the capacity that remains at overload: the median of the rounds, because the disk is not equally fast in each."""
        pairs = zip(self.overload, self.capacity, strict=True)
        return statistics.median(over / capacity for over, capacity in pairs)

    @property
    def recovered(self) -> float:
        """The share of the capacity in the second after an overload."""
        pairs = zip(self.recovery, self.capacity, strict=True)
        return statistics.median(after / capacity for after, capacity in pairs)

    def complaints(self, kind: Kind) -> Iterator[str]:
        """Yields a sentence for each fault of the server."""
        if self.share < LEAST_SHARE:
            yield f"{kind.title}: only {self.share:.0%} of the capacity remains"
        if self.recovered < LEAST_SHARE:
            yield f"{kind.title}: the server has only {self.recovered:.0%} of its capacity afterwards"
        if self.peak - self.before > GROWTH + kind.held:
            yield f"{kind.title}: memory grows by {(self.peak - self.before) >> 20} MiB"


def overload(server: Server, kind: Kind) -> Outcome:
    """Measures one kind of overload. Each round measures the capacity, the overload and the recovery, one right after the other."""
    found = Outcome()
    _load(server, kind, kind.clients, WARM_UP)
    server.forget_peak()
    found.before = server.memory()
    for _ in range(ROUNDS):
        rate, _ = _load(server, kind, kind.clients, kind.seconds)
        found.capacity.append(rate)
        rate, refused = _load(server, kind, kind.clients * FACTOR, kind.seconds)
        found.overload.append(rate)
        found.refused += refused
        rate, _ = _load(server, kind, kind.clients, RECOVERY)
        found.recovery.append(rate)
    found.peak = server.memory("VmHWM")
    return found


def _load(server: Server, kind: Kind, clients: int, seconds: int) -> tuple[float, int]:
    """Loads a server, and returns the good responses in a second and the number of others.

    The good responses are those that the streams contain, because wrk counts a connection that is closed after a response as an error.
    """
    stored, begin = server.stored(), time.monotonic()
    load = wrk.run(server.url, clients, seconds, "POST", PATH, STREAMS, "text/plain", kind.body)
    taken = time.monotonic() - begin
    return (server.stored() - stored) / kind.size / taken, load.bad

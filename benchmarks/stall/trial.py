"""Runs a trial: an operation, during which a probe measures delays and the peak of the server's memory is recorded.

An operation is a generator. First it prepares, and yields the server to measure. Then it does the work to measure, and yields an
`Outcome`. Finally it cleans up.
"""

import contextlib
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, NamedTuple

from ..client import Connection, octets
from ..row import Goal, Row, Sample
from ..servers import Running
from .probe import QUIET, Delays, Probe

MIB: Final = 1024 * 1024
LONGEST: Final = 50.0  # milliseconds that a cheap request may wait (DESIGN, 15)
#: Seconds for which the probe continues, because some work begins when a client has disconnected.
_AFTER: Final = 0.3
_SETTLE: Final = 1.0  # seconds after which the server must have released memory
_PRIORITY: Final = -15  # nice value, so that other processes disturb the measurement less


class Outcome(NamedTuple):
    """The outcome of an operation.

    Attributes:
        stored: the bytes by which a store in memory has grown.
        bad: the number of failures.
        note: a remark.
    """

    stored: int = 0
    bad: int = 0
    note: str = ""


Steps = Generator[Running | Outcome, None, None]
Operation = Callable[[Running], Steps]


class Trial(NamedTuple):
    """A trial, which becomes a row of the benchmarks' table.

    Attributes:
        name: the name of the trial.
        title: a description of the operation.
        operation: the function that does the operation.
        servers: the kinds of server.
        memory: the maximum MiB that the server may take beyond the stored bytes, or None if the row is about delay.
    """

    name: str
    title: str
    operation: Operation
    servers: tuple[str, ...] = ("files",)
    memory: float | None = None

    def row(self) -> Row:
        """Returns the trial as a row of the benchmarks' table."""
        by_memory = self.memory is not None
        limit = self.memory if self.memory is not None else LONGEST

        def measure(server: Running) -> Sample:
            found = run(self, server)
            value = found.grown if by_memory else found.delays.longest * 1000
            return Sample(value, found.outcome.bad + found.delays.bad, found.remark(by_memory))

        return Row(
            f"stall-{self.name}",
            "stall",
            f"{'memory beyond stored bytes' if by_memory else 'longest delay'}: {self.title}",
            "MiB" if by_memory else "ms",
            self.servers,
            lambda server: lambda _: measure(server),
            tuple(Goal(server, limit) for server in self.servers),
            less_is_better=True,
            once=True,
        )


class Found(NamedTuple):
    """The result of a trial.

    Attributes:
        delays: the delays of the probe.
        grown: the growth of memory at its peak, in MiB beyond the stored bytes.
        kept: the growth of memory one second later, in MiB beyond the stored bytes.
        seconds: the duration of the operation.
        outcome: the outcome of the operation.
    """

    delays: Delays
    grown: float
    kept: float
    seconds: float
    outcome: Outcome

    def remark(self, by_memory: bool) -> str:
        """Returns a short remark with the figures that are not in the row."""
        longest = f"longest delay {self.delays.longest * 1000:.0f} ms, " if by_memory else ""
        grown = f"kept {self.kept:+.0f} MiB" if by_memory else f"memory {self.grown:+.0f} MiB"
        note = f"; {self.outcome.note}" if self.outcome.note else ""
        return f"{longest}p99 {self.delays.p99 * 1000:.1f} ms, {grown}, {self.seconds:.1f} s{note}"


def run(trial: Trial, server: Running) -> Found:
    """Runs a trial on a fresh server."""
    doing = trial.operation(server)
    measured = next(doing)
    assert isinstance(measured, Running)
    _quiet_stream(measured.port)
    _prefer(measured)
    before = measured.resident()
    Path(f"/proc/{measured.process.pid}/clear_refs").write_text("5")  # this resets the peak
    with Probe(measured.port) as probe:
        begun = time.monotonic()
        outcome = next(doing)
        seconds = time.monotonic() - begun
        time.sleep(_AFTER)
    time.sleep(_SETTLE)
    assert isinstance(outcome, Outcome)
    base = before + (outcome.stored if measured.kind in ("memory", "asgi") else 0)
    grown, kept = (size - base for size in (peak(measured), measured.resident()))
    with contextlib.suppress(StopIteration):
        next(doing)
    return Found(probe.delays, grown / MIB, kept / MIB, seconds, outcome)


def peak(server: Running) -> int:
    """Returns the peak of a server's resident memory in bytes since it was reset."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the server has ended")


def _quiet_stream(port: int) -> None:
    connection = Connection(port)
    answer = connection.ask(octets("PUT", QUIET, "text/plain", b"quiet"))
    if answer.status not in (200, 201):
        raise RuntimeError(f"the quiet stream was refused with {answer.status}")
    connection.close()


def _prefer(server: Running) -> None:
    """Raises the priority of the server and of the load, if the system allows it."""
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{server.process.pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(task), _PRIORITY)
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)  # this process is the load

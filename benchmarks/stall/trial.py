"""One trial: an operation, how long a cheap read waited beside it, and what the operation cost in memory.

An operation is a generator. What it does first is preparation, and ends with a `yield` of the server that is measured. Then it
does what is measured, and yields what became of it. What follows is clean-up.
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
_AFTER: Final = (
    0.3  # seconds for which the probe goes on, since some work begins when a client has left
)
_SETTLE: Final = 1.0  # seconds after which memory must have been given back
_PRIORITY: Final = -15  # so that what else the machine does is not measured


class Outcome(NamedTuple):
    """What became of an operation: bytes that a store in memory holds since, what failed, and a remark."""

    stored: int = 0
    bad: int = 0
    note: str = ""


Steps = Generator[Running | Outcome, None, None]
Operation = Callable[[Running], Steps]


class Trial(NamedTuple):
    """A row of the part.

    Attributes:
        name: the row's.
        title: what is done.
        operation: does it.
        servers: kinds of server; a store on files unless memory is what it is about.
        memory: MiB that the server may take beyond what is stored, if the row is about memory; otherwise it is about delay.
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
            f"{'memory over stored' if by_memory else 'longest delay'}: {self.title}",
            "MiB" if by_memory else "ms",
            self.servers,
            lambda server: lambda _: measure(server),
            tuple(Goal(server, limit) for server in self.servers),
            less_is_better=True,
            once=True,
        )


class Found(NamedTuple):
    """What a trial has found; memory in MiB, `grown` at its peak and `kept` a second later, both over what is stored."""

    delays: Delays
    grown: float
    kept: float
    seconds: float
    outcome: Outcome

    def remark(self, by_memory: bool) -> str:
        """Returns everything but the row's own figure in a few words."""
        longest = f"longest delay {self.delays.longest * 1000:.0f} ms, " if by_memory else ""
        grown = f"kept {self.kept:+.0f} MiB" if by_memory else f"memory {self.grown:+.0f} MiB"
        note = f"; {self.outcome.note}" if self.outcome.note else ""
        return f"{longest}p99 {self.delays.p99 * 1000:.1f} ms, {grown}, {self.seconds:.1f} s{note}"


def run(trial: Trial, server: Running) -> Found:
    """Runs a trial on a server that is fresh."""
    doing = trial.operation(server)
    measured = next(doing)
    assert isinstance(measured, Running)
    _quiet_stream(measured.port)
    _prefer(measured)
    before = measured.resident()
    Path(f"/proc/{measured.process.pid}/clear_refs").write_text("5")  # the peak counts from here
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
    """Returns the most bytes that a server's memory has held since the peak was forgotten."""
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
    """Puts the server and its load before what else runs on their cores, where the system allows that."""
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{server.process.pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(task), _PRIORITY)
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)  # and of the load

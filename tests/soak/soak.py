"""Runs a soak: one server, mixed load from several processes, and restarts in the first half of the time.

The last restart comes before the half of the time, so the second half is one life of the server in which its memory must be flat. When the
load has stopped, the server must hold no more connections, tasks, threads and files than before.
"""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx

from benchmarks.servers import free_port
from tests.delivery.requester import until
from tests.process import run
from tests.soak.clients import KINDS
from tests.soak.server import PATIENCE, ROOT, Figures, SoakedServer

Number = TypeVar("Number", int, float)
MIB = 1024 * 1024
#: The live reads end often, so that readers come and go.
WAL_SIZE = 96  # MiB
FLAGS = (
    *("--sse-max-age", "10", "--long-poll-timeout", "5"),
    *("--max-body", "8m", "--wal-size", f"{WAL_SIZE}m"),
)
LAST_RESTART = 0.45  # the share of the time after which the server is not restarted any more
BETWEEN_RESTARTS = (3.0, 60.0)  # least and most seconds
#: The memory of a shorter soak is not compared, because caches still fill up in its second half.
LEAST_FOR_MEMORY = 240.0
#: How much more memory the server may take in the last quarter of the time than in the third one.
GROWTH = 1.1
#: The threads of a pool stay for the next work. By default, Python's pools have at most as many.
LARGEST_POOL = (os.cpu_count() or 1) + 4
#: The thread of the log begins with the first line, which an idle server does not write, and stays until the end.
LOG_THREAD = "durable-streams-log"
MANY = 100  # objects of one class, below which the figures do not show it
FINISH = 240.0  # seconds within which the clients must have checked and deleted everything
#: The stream whose appends force a checkpoint at the end, and the files that the server may have open for it: its log and its index.
LAST = "/v1/stream/last"
OWN_FILES = 2
LIST = "/v1/stream/__ds/streams?limit=1000&prefix=/v1/stream/"


class Restart(NamedTuple):
    """A restart of the server. `at` is in seconds since the soak began."""

    at: float
    is_kill: bool


def restarts(seed: int, seconds: float) -> list[Restart]:
    """Returns the restarts of a soak. One of them kills the server, and the others stop it."""
    chance = random.Random(f"{seed} restarts")
    least, most = BETWEEN_RESTARTS
    gap = min(max(seconds / 20, least), most)
    times = []
    at = gap
    while at <= LAST_RESTART * seconds:
        times.append(at)
        at += gap * chance.uniform(0.7, 1.3)
    killed = chance.randrange(len(times)) if times else -1
    return [Restart(at, number == killed) for number, at in enumerate(times)]


@dataclass
class Report:
    """The results of a soak.

    Attributes:
        seconds: the length of the soak.
        restarts: the number of restarts by SIGTERM, and by SIGKILL.
        starts: the seconds of each start.
        stops: the seconds of each stop.
        exits: the exit codes after SIGTERM.
        before: what the server took before the first client came.
        samples: what the server took during the last life.
        after: what the server took after the last client had gone.
        held_before: the tasks, threads and objects before the first client came.
        held_after: those after the last client had gone.
        gauges_before: the gauges of an idle server before the first client came.
        gauges_after: those after the last client had gone.
        left: the streams that exist after everything was deleted.
        log: unexpected lines of the server's log.
        counts: how often each thing happened.
        faults: what clients found wrong.
        check: the exit code and output of `check` at the end.
    """

    seconds: float
    restarts: tuple[int, int] = (0, 0)
    starts: list[float] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    before: Figures | None = None
    samples: list[Figures] = field(default_factory=list)
    after: Figures | None = None
    held_before: dict[str, Any] = field(default_factory=dict)
    held_after: dict[str, Any] = field(default_factory=dict)
    gauges_before: dict[str, float] = field(default_factory=dict)
    gauges_after: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    check: tuple[int, str] = (0, "")

    def quarter(self, number: int) -> list[Figures]:
        """Returns the samples in one quarter of the time, which is 0 to 3."""
        length = self.seconds / 4
        return [each for each in self.samples if number * length <= each.at < (number + 1) * length]

    def memory(self, number: int) -> float:
        """Returns the median of the memory in one quarter of the time, in bytes. It is 0 without samples."""
        return statistics.median([each.memory for each in self.quarter(number)] or [0])

    def table(self) -> str:
        """Returns the figures of the soak as text."""
        lines = [f"{count:>12,}  {what}" for what, count in sorted(self.counts.items())]
        acknowledged = self.counts["appends acknowledged"]
        stopped, killed = self.restarts
        lines += [
            f"appends: {acknowledged:,} acknowledged, {acknowledged / self.seconds:,.0f} a second",
            f"restarts: {stopped} by SIGTERM with exit codes {sorted(set(self.exits))}, {killed} by SIGKILL; "
            f"stopped within {max(self.stops, default=0):.2f} s, ready again within {max(self.starts, default=0):.2f} s",
        ]
        if self.before is not None and self.after is not None and self.quarter(3):
            third, last = (self.memory(number) / MIB for number in (2, 3))
            lines += [
                f"memory: {self.before.memory / MIB:.0f} MiB before, {third:.0f} in the third quarter, "
                f"{last:.0f} in the last, {max(each.memory for each in self.samples) / MIB:.0f} at most, "
                f"{self.after.memory / MIB:.0f} after",
                f"before: {_shown(self.before)}",
                f"under load: {_shown(self.quarter(3)[-1])}",
                f"after:  {_shown(self.after)}",
                f"objects more than before: {self._many_objects()}",
                *(
                    f"{what}: {self.held_before[what]} before, {self.held_after[what]} after"
                    for what in ("tasks", "threads")
                ),
            ]
        return "\n".join(lines)

    def _many_objects(self) -> str:
        """Returns the classes of which there are many more objects than before. Caches have them; a leak would grow with the time."""
        more = grown(self.held_before["objects"], self.held_after["objects"])
        many = sorted((name, count) for name, count in more.items() if count >= MANY)
        return ", ".join(f"{count:,} {name.rpartition('.')[2]}" for name, count in many) or "few"

    def complaints(self) -> list[str]:
        """Returns a sentence for each fault of the server. If clients have found faults, they leave streams behind, so nothing else counts."""
        if self.faults:
            return self.faults
        found: list[str] = []
        found += [f"an exit code is {code}" for code in self.exits if code]
        found += [f"the log has: {line}" for line in self.log[:20]]
        if self.check[0]:
            found.append(f"`check` exits with {self.check[0]}: {self.check[1][:2000]}")
        if self.left:
            found.append(f"{len(self.left)} streams are left, such as {self.left[0]}")
        if self.seconds >= LEAST_FOR_MEMORY and self.memory(3) > GROWTH * self.memory(2):
            found.append("the memory has grown in the second half")
        return [*found, *self._leaks()]

    def _leaks(self) -> Iterator[str]:
        """Yields a sentence for each kind of thing that the server holds more of than before."""
        if self.before is None or self.after is None:
            return
        before, after = self.before.handles, self.after.handles
        if after.sockets > before.sockets:
            yield f"{after.sockets} sockets are open, and {before.sockets} were before"
        if len(after.files) > len(before.files) + OWN_FILES:
            others = sorted(set(after.files) - set(before.files))
            yield f"{len(after.files)} files are open, and {len(before.files)} were before: {others[:5]}"
        if after.others > before.others:
            yield f"{after.others} other handles are open, and {before.others} were before"
        for name, count in grown(self.held_before["threads"], self.held_after["threads"]).items():
            most = LARGEST_POOL if name.endswith("_#") else int(name == LOG_THREAD)
            if count > most:
                yield f"{count} threads {name} have not ended"
        for name, count in grown(self.held_before["tasks"], self.held_after["tasks"]).items():
            yield f"{count} tasks {name} have not ended"
        for name, value in grown(self.gauges_before, self.gauges_after).items():
            yield f"the gauge {name} is {value:g} higher than before"


def grown(before: dict[str, Number], after: dict[str, Number]) -> dict[str, Number]:
    """Returns by how much each number has grown, for those that have."""
    return {
        name: count - before.get(name, 0)
        for name, count in after.items()
        if count > before.get(name, 0)
    }


def _shown(figures: Figures) -> str:
    handles = figures.handles
    return f"{figures.threads} threads, {handles.sockets} sockets, {len(handles.files)} files, {handles.others} other handles"


class ClientProcess:
    """A process of clients."""

    def __init__(self, kind: str, port: int, seed: int) -> None:
        self._kind = kind
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.clients", kind, str(port), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def is_well(self) -> bool:
        """Reads the answer to the last line, and returns whether the clients have found no fault."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip() == "ok"

    def send(self, word: str) -> None:
        """Sends a line. The clients answer it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a process that has failed answers nothing
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Waits for the end of the process, and returns its counts and faults."""
        try:
            shown, _ = self._process.communicate(timeout=FINISH)
            found: dict[str, Any] = json.loads(shown.strip().splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            return {"counts": {}, "faults": [f"the clients {self._kind} failed: {error!r}"]}
        return found

    def close(self) -> None:
        """Kills the process if it still runs."""
        self._process.kill()
        self._process.wait()


class Soak:
    """One soak.

    Args:
        place: an existing directory for the data and the log.
        seconds: how long the load lasts.
        seed: determines all choices, but not the timing.
        say: is called with a line about each step.
    """

    def __init__(self, place: Path, seconds: float, seed: int, say: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._seed = seed
        self._say = say
        self._port = free_port()
        self._server = SoakedServer(place, self._port, FLAGS)
        self._clients: list[ClientProcess] = []
        self._report = Report(seconds)
        self._began = 0.0

    def run(self) -> Report:
        """Runs the soak, and returns its results."""
        report, server = self._report, self._server
        try:
            server.start()
            report.held_before = server.held()
            report.gauges_before = server.gauges()
            report.before = server.figures(0.0)
            self._load()
            self._finish()
            server.stop()
        finally:
            for each in self._clients:
                each.close()
            server.kill()
        report.starts, report.stops, report.exits = server.starts, server.stops, server.exits
        report.log = server.unexpected_lines()
        checked = run("check", str(server.directory), timeout=PATIENCE)
        report.check = checked.returncode, checked.stdout + checked.stderr
        return report

    @property
    def _at(self) -> float:
        return time.monotonic() - self._began

    def _load(self) -> None:
        """Starts the clients, restarts the server as planned, and takes samples until the time is over or a client finds a fault."""
        self._clients = [ClientProcess(kind, self._port, self._seed) for kind in KINDS]
        is_well = self._are_well()
        self._began = time.monotonic()
        plan = restarts(self._seed, self._seconds)
        last = plan[-1].at if plan else 0.0
        pace = min(1.0, self._seconds / 100)
        while is_well and self._at < self._seconds:
            if plan and self._at >= plan[0].at:
                is_well = self._restart(plan.pop(0).is_kill)
            elif not self._server.lives:
                self._report.faults.append("the server has ended by itself")
                return
            elif self._at > last:
                self._report.samples.append(self._server.figures(self._at))
                is_well = self._tell("tick")
            time.sleep(pace)

    def _restart(self, is_kill: bool) -> bool:
        """Restarts the server under load, and returns whether the clients have found no fault."""
        report, server = self._report, self._server
        is_well = self._tell("kill" if is_kill else "stop")
        if is_kill:
            server.kill()
        else:
            server.stop()
        stopped, killed = report.restarts
        report.restarts = (stopped, killed + 1) if is_kill else (stopped + 1, killed)
        server.start()
        self._say(
            f"{self._at:6.1f} s: {'killed' if is_kill else f'stopped in {server.stops[-1]:.2f} s'}, "
            f"ready again in {server.starts[-1]:.2f} s"
        )
        return self._tell("up") and is_well

    def _tell(self, word: str) -> bool:
        """Sends a line to all clients, and returns whether none has found a fault."""
        for each in self._clients:
            each.send(word)
        return self._are_well()

    def _are_well(self) -> bool:
        """Reads the answer of each process, and returns whether no client has found a fault."""
        answers = [each.is_well() for each in self._clients]
        return all(answers)

    def _finish(self) -> None:
        """Ends the load, and waits until the server is idle and holds no more than before."""
        report, server = self._report, self._server
        self._say(f"{self._at:6.1f} s: the clients check and delete what they have written")
        for each in self._clients:
            each.send("over")
        for each in self._clients:
            result = each.result()
            report.counts.update(result["counts"])
            report.faults += result["faults"]
        if not server.lives:
            report.faults.append("the server has ended by itself")
            return
        until(self._has_no_more_sockets, PATIENCE)
        until(lambda: not self._left(), PATIENCE)
        self._force_checkpoint()
        report.left = self._left()
        report.gauges_after = server.gauges()
        # The last checkpoint may still have a directory open, which it syncs, and the last request its connection.
        until(lambda: self._open_files() <= OWN_FILES, PATIENCE)
        until(self._has_no_more_sockets, PATIENCE)
        report.after = server.figures(self._at)
        report.held_after = server.held()

    def _force_checkpoint(self) -> None:
        """Appends until a checkpoint has removed the logs of the deleted streams. An idle server does not make a checkpoint."""
        body = b"x" * MIB
        octets = {"content-type": "application/octet-stream"}
        with httpx.Client(base_url=self._server.url, timeout=PATIENCE) as http:
            http.put(LAST, headers=octets)
            for _ in range(2 * WAL_SIZE):
                if self._open_files() <= OWN_FILES:
                    break
                http.post(LAST, content=body, headers=octets)
            http.delete(LAST)

    def _has_no_more_sockets(self) -> bool:
        """Returns whether the server has at most as many sockets open as before the first client came."""
        assert self._report.before is not None
        return self._server.figures(0).handles.sockets <= self._report.before.handles.sockets

    def _open_files(self) -> int:
        """Returns how many files the server has open more than before the first client came."""
        assert self._report.before is not None
        return len(self._server.figures(0).handles.files) - len(self._report.before.handles.files)

    def _left(self) -> list[str]:
        """Returns the streams that exist."""
        with httpx.Client(base_url=self._server.url, timeout=PATIENCE) as http:
            return [each["path"] for each in http.get(LIST).json()["streams"]]


def repeat_command(seconds: float, seed: int) -> str:
    """Returns the command that repeats a soak."""
    return f"make soak MINUTES={seconds / 60:g} SEED={seed}"

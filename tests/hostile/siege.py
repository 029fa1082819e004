"""Attacks one server with all kinds of hostile clients at once, while another client reads a small stream all the time.

The address space of the server is limited (`ulimit -v`) to the sum of all memory limits in `docs/limits.md`, plus `MARGIN`.
"""

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.servers import SCRATCH
from benchmarks.stall.probe import QUIET, Delays, Probe

from ..process import COMMAND, address_of, memory_of
from .kinds import KINDS, PREPARED

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]
LIMITS = ROOT / "docs" / "limits.md"
#: Bytes of address space that no limit counts: the interpreter and its libraries (180 MiB at the start), the stacks and malloc arenas
#: of ten threads (72 MiB reserved for each and hardly used), the map of the catalog, and holes in the heap.
MARGIN = 1024 * MIB
#: Bytes that the server need not release after a siege, because it caches recent appends, loaded streams and open logs.
CACHES = 400 * MIB
CALM = 45.0  # seconds after the siege within which the server must release memory
WORKERS = 4  # processes of attackers, so that a busy kind does not delay all others
LOG_NAME = "log"


@dataclass
class Report:
    """The results of a siege.

    Attributes:
        before: resident memory of the server before the siege, in bytes.
        peak: maximum resident memory of the server during the siege.
        after: resident memory of the server after the siege, once it no longer falls.
        lives: whether the server is still running.
        delays: the delays of the cheap reads.
        log: the log of the server.
        done: for each kind, the number of rounds and how often each status was seen.
    """

    before: int
    peak: int
    after: int
    lives: bool
    delays: Delays
    log: str
    done: dict[str, tuple[int, dict[str, int]]]

    def table(self) -> str:
        """Returns a table with the rounds and responses of each kind, and with the read delays, the memory and the log of the server."""
        lines = [f"{'kind':<22} {'rounds':>7}  answers"]
        for name, (rounds, seen) in self.done.items():
            said = ", ".join(f"{count:,} × {status}" for status, count in sorted(seen.items()))
            lines.append(f"{name:<22} {rounds:>7,}  {said or '-'}")
        longest, p99 = self.delays.longest * 1000, self.delays.p99 * 1000
        lines += [
            f"cheap reads: {self.delays.answers:,}, longest {longest:.0f} ms, p99 {p99:.1f} ms, {self.delays.bad} refused",
            f"memory: {self.before / MIB:.0f} MiB before, {self.peak / MIB:.0f} at most, {self.after / MIB:.0f} after",
            f"the server {'lives' if self.lives else 'is DEAD'}; its log has {len(self.log.splitlines())} lines",
        ]
        return "\n".join(lines)

    def complaints(self, longest: float) -> list[str]:
        """Returns a sentence for each fault of the server. A cheap read may take at most `longest` seconds."""
        found = []
        if not self.lives:
            found.append("the server has ended")
        if self.delays.bad:
            found.append(f"{self.delays.bad} cheap reads were refused")
        if self.delays.longest > longest:
            found.append(f"a cheap read took {self.delays.longest:.2f} s")
        if "Traceback" in self.log:
            found.append(
                "the log has a traceback:\n" + self.log[self.log.index("Traceback") :][:2000]
            )
        if raw := re.findall(r"[^\n]*[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e][^\n]*", self.log):
            found.append(f"the log has control characters: {raw[0]!r}")
        if self.after > self.before + CACHES:
            found.append(f"memory has not come back: {self.after / MIB:.0f} MiB")
        return found


def documented_memory() -> int:
    """Returns the sum of all memory limits in `docs/limits.md`, in bytes."""
    found = re.search(r"^\| \*\*all\*\* \|.*\| ([\d,]+) \|$", LIMITS.read_text(), re.M)
    assert found is not None
    return int(found[1].replace(",", "")) * MIB


def besiege(seconds: float, kinds: Sequence[int] = ()) -> Report:
    """Runs a siege and returns its results.

    Args:
        seconds: the length of the siege.
        kinds: the indexes of kinds in `KINDS`. All kinds attack if it is empty.
    """
    most = documented_memory() + MARGIN
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        log = Path(directory) / LOG_NAME
        with log.open("w") as writing:
            process = _start(directory, most, writing.fileno())
        try:
            port = int(address_of(process).rpartition(":")[2])
            _prepare(port)
            before = memory_of(process.pid)
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # resets VmHWM, the peak
            delays = Delays(float("inf"), float("inf"), 0, 1)
            try:
                with Probe(port) as probe:
                    done = _attack(port, seconds, kinds or range(len(KINDS)))
                delays = probe.delays
            except (RuntimeError, ConnectionError):
                done = {}
            lives = process.poll() is None
            peak = memory_of(process.pid, "VmHWM") if lives else 0
            after = _calm(process, before + CACHES) if lives else 0
        finally:
            process.terminate()
            _end(process)
        return Report(before, peak, after, lives, delays, log.read_text(errors="replace"), done)


def repeat_command(seconds: float, kinds: Sequence[int] = ()) -> str:
    """Returns the command that repeats a siege."""
    names = " ".join(KINDS[number].__name__ for number in kinds)
    return f"make hostile SECONDS={seconds:g}" + (f' KINDS="{names}"' if names else "")


def _start(directory: str, most: int, log: int) -> subprocess.Popen[str]:
    """Starts a server whose address space is limited to `most` bytes."""

    def limit() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    flags = ("serve", "--port", "0", "--drain", "0", "--data-dir", f"{directory}/data")
    return subprocess.Popen(
        [*COMMAND, *flags], stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=limit
    )


def _prepare(port: int) -> None:
    """Creates the streams that the attackers need."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        for path, media, bodies in [(QUIET, "text/plain", [b"quiet"]), *PREPARED]:
            headers = {"content-type": media}
            _repeat_until_done(partial(http.put, path, headers=headers))
            for body in bodies:
                _repeat_until_done(partial(http.post, path, content=body, headers=headers))


def _repeat_until_done(ask: Callable[[], httpx.Response]) -> None:
    """Repeats a request while the server answers 503."""
    while (answer := ask()).status_code == 503:
        time.sleep(0.1)  # the server is another process, which can only be polled
    assert answer.status_code in (201, 204), answer.text


def _attack(
    port: int, seconds: float, kinds: Iterable[int]
) -> dict[str, tuple[int, dict[str, int]]]:
    """Runs the attackers in a few processes, and returns the rounds and statuses of each kind."""
    shares: list[list[str]] = [[] for _ in range(WORKERS)]
    for place, number in enumerate(kinds):
        shares[place % WORKERS].append(str(number))
    command = [sys.executable, "-m", "tests.hostile.worker", str(port), str(seconds)]
    workers = [
        subprocess.Popen([*command, *share], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for share in shares
        if share
    ]
    done: dict[str, tuple[int, dict[str, int]]] = {}
    for worker in workers:
        shown, _ = worker.communicate()
        if worker.returncode:
            raise AssertionError("a process of attackers has failed")
        done |= {name: (rounds, seen) for name, (rounds, seen) in json.loads(shown).items()}
    return done


def _calm(process: subprocess.Popen[str], enough: int) -> int:
    """Waits at most `CALM` seconds until the server uses no more than `enough` bytes, and returns the bytes that it uses then."""
    until = time.monotonic() + CALM
    while (now := memory_of(process.pid)) > enough and time.monotonic() < until:
        time.sleep(0.5)  # the memory of another process can only be polled
    return now


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()

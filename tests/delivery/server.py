"""Controls the server of a trial: starts, kills and suspends it, sets its clock, and copies or damages its directory."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from durable_streams_server.storage.files.directory import COMMANDS
from durable_streams_server.storage.files.log_layout import path_of
from tests.delivery.history import ClockSet, Copied, Down, History, Restored
from tests.delivery.launcher import OFFSET
from tests.process import START_TIMEOUT, STOP_TIMEOUT

ROOT = Path(__file__).parents[2]
FLAGS = ("--port", "0", "--drain", "0", "--max-body", "64K", "--wal-size", "8M")


class Launcher:
    """The process that starts servers. Many trials share one launcher."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.delivery.launcher"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self._read_line()

    def run(self, arguments: list[str], clock: Path, output: Path) -> int:
        """Starts a command of the server, and returns its process id."""
        return self._ask({"run": arguments, "clock": str(clock), "output": str(output)})

    def wait(self, pid: int) -> int:
        """Returns the exit code of a command once it has ended."""
        while _is_alive(pid):
            time.sleep(0.003)  # the launcher's child process can only be polled here
        return self._ask({"wait": pid})

    def close(self) -> None:
        """Ends the launcher."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(STOP_TIMEOUT)
        self._process.stdout.close()

    def _ask(self, document: dict[str, object]) -> int:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(document) + "\n")
            self._process.stdin.flush()
            return int(self._read_line())

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the launcher has ended"
        return line


class Server:
    """A data directory, and the server on it.

    Args:
        launcher: starts the processes.
        place: an empty directory for all files.
        history: gets a record of every fault.

    Attributes:
        url: the URL of the running server, or empty while none runs.
    """

    def __init__(self, launcher: Launcher, place: Path, history: History) -> None:
        self._launcher = launcher
        self._place = place
        self._data = place / "data"
        self._clock = place / "clock"
        self._output = place / "output"
        self._history = history
        self._pid = 0
        self._offset = 0.0
        self.url = ""
        self._write_clock()

    @property
    def is_up(self) -> bool:
        """True while the server runs or is suspended."""
        return bool(self._pid)

    @property
    def wall(self) -> float:
        """The Unix time in seconds that the server reads from its clock."""
        return time.time() + self._offset

    def start(self) -> None:
        """Starts the server, and waits until it listens. The caller must add the record `Up`."""
        logged = self._log()
        command = ["serve", "--data-dir", str(self._data), *FLAGS]
        self._pid = self._launcher.run(command, self._clock, self._output)
        until = time.monotonic() + START_TIMEOUT
        while (
            found := re.search(r"Listening on (http://\S+)", self._log()[len(logged) :])
        ) is None:
            if time.monotonic() > until or not _is_alive(self._pid):
                text = self._log()[len(logged) :]
                self.kill()
                raise AssertionError(f"the server does not start: {text}")
            time.sleep(0.005)  # the output is a file, which can only be polled
        self.url = found[1] + "/v1/stream"

    def kill(self) -> None:
        """Kills the server with SIGKILL."""
        self._end("kill", signal.SIGKILL)

    def stop(self) -> None:
        """Stops the server with SIGTERM.

        Raises:
            AssertionError: the exit code of the server is not 0.
        """
        code = self._end("stop", signal.SIGTERM)
        assert code == 0, f"the server stopped with exit code {code}"

    def pause(self, seconds: float) -> None:
        """Suspends the process for some seconds. The caller must add the record `Up`."""
        self._history.add(Down, why="pause")
        os.kill(self._pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def set_clock(self, seconds: float) -> None:
        """Moves the wall clock of the server forward by `seconds`, or back if they are negative."""
        self._offset += seconds
        self._write_clock()
        self._history.add(ClockSet, seconds=seconds)

    def copy(self, name: str) -> None:
        """Copies the data directory while no server runs."""
        # The server creates the file `ballast` and its socket again if they are missing.
        ignored = shutil.ignore_patterns("ballast", COMMANDS)
        shutil.copytree(self._data, self._place / name, symlinks=True, ignore=ignored)
        self._history.add(Copied, name=name)

    def restore(self, name: str) -> None:
        """Replaces the data directory by a copy while no server runs."""
        shutil.rmtree(self._data)
        shutil.copytree(self._place / name, self._data, symlinks=True)
        self._history.add(Restored, name=name)

    def damage(self, incarnation: int, chance: random.Random) -> bool:
        """Damages the log file of a stream while no server runs. Returns False if the log is empty."""
        file = self._data / path_of(incarnation)
        content = bytearray(file.read_bytes()) if file.exists() else bytearray()
        if not content:
            return False
        at = chance.randrange(len(content))
        if chance.random() < 0.5:
            content[at] ^= 1 << chance.randrange(8)
        else:
            del content[at:]
        file.write_bytes(content)
        return True

    def repair(self) -> None:
        """Runs `check --repair` while no server runs.

        Raises:
            AssertionError: the command has failed.
        """
        logged = len(self._log())
        command = ["check", "--repair", str(self._data)]
        code = self._launcher.wait(self._launcher.run(command, self._clock, self._output))
        assert code in (0, 1), f"the repair ended with exit code {code}: {self._log()[logged:]}"

    def last_traceback(self) -> str:
        """Returns the last traceback in the log of the servers, or an empty string."""
        found = self._log().rpartition("Traceback (most recent call last)")
        return found[2][-2000:] if found[1] else ""

    def close(self) -> None:
        """Kills the server if it runs."""
        if self._pid:
            self.kill()

    def _end(self, why: str, number: signal.Signals) -> int:
        self._history.add(Down, why=why)
        pid, self._pid = self._pid, 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + STOP_TIMEOUT
        while _is_alive(pid):
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.003)  # as in `Launcher.wait`
        self.url = ""
        return self._launcher.wait(pid)

    def _write_clock(self) -> None:
        with open(self._clock, "r+b" if self._clock.exists() else "wb") as file:
            file.write(OFFSET.pack(round(self._offset * 1_000_000)))

    def _log(self) -> str:
        return self._output.read_text(errors="replace") if self._output.exists() else ""


def _is_alive(pid: int) -> bool:
    """Returns whether a process runs. A zombie process does not count as running."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"

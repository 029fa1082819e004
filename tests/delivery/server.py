"""The server of a trial: starts it, kills it, stops it for a while, sets its clock, and copies or damages its directory."""

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

from durable_streams_server.storage.files.log_layout import path_of
from tests.delivery.history import Copied, Down, History, Restored, Stepped
from tests.delivery.launcher import OFFSET
from tests.process import START_TIMEOUT, STOP_TIMEOUT

ROOT = Path(__file__).parents[2]
FLAGS = ("--port", "0", "--max-body", "64K", "--wal-size", "8M")


class Launcher:
    """The process that starts servers. One launcher serves many trials."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.delivery.launcher"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self._line()

    def run(self, arguments: list[str], clock: Path, output: Path) -> int:
        """Starts a command, and returns its process id."""
        return self._ask({"run": arguments, "clock": str(clock), "output": str(output)})

    def wait(self, pid: int) -> int:
        """Returns the exit code of a command once it has ended."""
        while _is_alive(pid):
            time.sleep(0.003)
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
            return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the launcher has ended"
        return line


class Server:
    """One data directory and the server that runs on it, if one does.

    Args:
        launcher: starts the processes.
        place: an empty directory for all files.
        history: gets a record of every fault.

    Attributes:
        url: the address of the running server; empty while none runs.
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
        self._set_clock()

    @property
    def is_up(self) -> bool:
        return bool(self._pid)

    @property
    def wall(self) -> float:
        """The seconds of Unix time that the server reads on its clock."""
        return time.time() + self._offset

    def start(self) -> None:
        """Starts the server, and waits until it listens. The caller adds the record `Up`."""
        told = self._told()
        command = ["serve", "--data-dir", str(self._data), *FLAGS]
        self._pid = self._launcher.run(command, self._clock, self._output)
        until = time.monotonic() + START_TIMEOUT
        while (found := re.search(r"Listening on (http://\S+)", self._told()[len(told) :])) is None:
            if time.monotonic() > until or not _is_alive(self._pid):
                text = self._told()[len(told) :]
                self.kill()
                raise AssertionError(f"the server does not start: {text}")
            time.sleep(0.005)
        self.url = found[1] + "/v1/stream"

    def kill(self) -> None:
        """Ends the server as `kill -9` does."""
        self._end("kill", signal.SIGKILL)

    def stop(self) -> None:
        """Has the server stop by itself.

        Raises:
            AssertionError: its exit code is not 0.
        """
        code = self._end("stop", signal.SIGTERM)
        assert code == 0, f"the server stopped with exit code {code}"

    def pause(self, seconds: float) -> None:
        """Stops the process for a while. The caller adds the record `Up`."""
        self._history.add(Down, why="pause")
        os.kill(self._pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def step(self, seconds: float) -> None:
        """Sets the server's wall clock forward or back."""
        self._offset += seconds
        self._set_clock()
        self._history.add(Stepped, seconds=seconds)

    def copy(self, name: str) -> None:
        """Copies the data directory, while no server runs."""
        # The ballast is empty space, and the server makes it again.
        ignored = shutil.ignore_patterns("ballast")
        shutil.copytree(self._data, self._place / name, symlinks=True, ignore=ignored)
        self._history.add(Copied, name=name)

    def restore(self, name: str) -> None:
        """Replaces the data directory by a copy, while no server runs."""
        shutil.rmtree(self._data)
        shutil.copytree(self._place / name, self._data, symlinks=True)
        self._history.add(Restored, name=name)

    def damage(self, incarnation: int, chance: random.Random) -> bool:
        """Damages the log file of a stream, while no server runs; returns False if there is nothing to damage."""
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
        """Runs `check --repair`, while no server runs.

        Raises:
            AssertionError: the command has failed.
        """
        told = len(self._told())
        command = ["check", "--repair", str(self._data)]
        code = self._launcher.wait(self._launcher.run(command, self._clock, self._output))
        assert code in (0, 1), f"the repair ended with exit code {code}: {self._told()[told:]}"

    def trace(self) -> str:
        """Returns the last traceback that a server has logged, or nothing."""
        found = self._told().rpartition("Traceback (most recent call last)")
        return found[2][-2000:] if found[1] else ""

    def close(self) -> None:
        """Kills the server, if one runs."""
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
            time.sleep(0.003)
        self.url = ""
        return self._launcher.wait(pid)

    def _set_clock(self) -> None:
        with open(self._clock, "r+b" if self._clock.exists() else "wb") as file:
            file.write(OFFSET.pack(round(self._offset * 1_000_000)))

    def _told(self) -> str:
        return self._output.read_text(errors="replace") if self._output.exists() else ""


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"

"""Runs the load generator `wrk`, and parses its output."""

import re
import subprocess
from typing import Final, NamedTuple

from .servers import HERE, LOAD_CORE

_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Load(NamedTuple):
    """The result of one run of `wrk`.

    Attributes:
        rate: the number of good responses per second.
        median: the median latency in milliseconds.
        good: the number of responses with a status below 400.
        bad: the number of other responses and socket errors.
    """

    rate: float
    median: float
    good: int
    bad: int


def start(url: str, connections: int, seconds: int, *request: str | int) -> subprocess.Popen[str]:
    """Starts `wrk` on the core of the load.

    Args:
        url: the base URL of the server.
        connections: the number of connections.
        seconds: the duration of the load.
        request: the arguments of `load.lua`, which describe the requests.
    """
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    script = ["-s", str(HERE / "load.lua"), url, "--", *map(str, request)]
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", *options, *script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> Load:
    """Waits for `wrk` to end, and returns its result."""
    shown, _ = process.communicate()
    counted = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", shown)
    latency = re.search(r"50%\s+([\d.]+)(us|ms|s|m)", shown)
    if process.returncode or counted is None or latency is None:
        raise RuntimeError(f"wrk has failed: {shown}")
    bad = sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", shown))
    for counts in re.findall(r"Socket errors: (.*)", shown):
        bad += sum(int(count) for count in re.findall(r"\d+", counts))
    total = int(counted[1])
    seconds = float(counted[2]) * _UNITS[counted[3]] / 1000
    good = max(0, total - bad)
    return Load(good / seconds, float(latency[1]) * _UNITS[latency[2]], good, bad)


def run(url: str, connections: int, seconds: int, *request: str | int) -> Load:
    """Runs `wrk` with the arguments of `start`, and returns its result."""
    return finish(start(url, connections, seconds, *request))

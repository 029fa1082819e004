"""The results of runs, kept in `results.json`: medians, ratios, and their comparison with the goals."""

import json
import os
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

from .row import Goal, Row, Sample
from .rows import ROWS
from .servers import HERE, KINDS, OURS, PEERS

FILE: Final = HERE / "results.json"
_COUNTERPARTS: Final = {
    "memory": "node",
    "asgi": "node",
    "rust": "node",
    "caddy": "node",
    "rakaia": "node",
    "files": "node-files",
    "asgi-files": "node-files",
    "rust-files": "node-files",
    "caddy-files": "node-files",
}


class Verdict(NamedTuple):
    """The comparison of a figure with its goal.

    Attributes:
        row: the row.
        goal: the goal.
        found: the figure, or the ratio that the goal is about.
        must: whether the required limit is met.
        aim: whether the desired limit is met.
    """

    row: Row
    goal: Goal
    found: float
    must: bool
    aim: bool


class Comparison(NamedTuple):
    """The comparison of this server with its peers, in one row and one mode.

    Attributes:
        row: the row.
        server: the kind of this server.
        speeds: the speed of this server relative to each peer that has a figure.
    """

    row: Row
    server: str
    speeds: dict[str, float]

    @property
    def best(self) -> str:
        """The name of the fastest peer."""
        return min(self.speeds, key=self.speeds.__getitem__)


class Results:
    """The samples of all rows, from the file and from this run."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        self.machine: dict[str, Any] = {}
        if FILE.exists():
            kept = json.loads(FILE.read_text())
            self._rows, self.machine = kept["rows"], kept["machine"]

    def begin(self, row: Row, seconds: int) -> None:
        """Drops the earlier samples of a row, because it is measured again."""
        self._rows[row.name] = {"title": row.title, "unit": row.unit, "seconds": seconds}

    def add(self, row: Row, server: str, sample: Sample) -> None:
        """Adds a sample."""
        found = self._rows[row.name].setdefault("servers", {}).setdefault(server, _nothing())
        found["samples"].append(None if sample.value is None else round(sample.value, 4))
        found["bad"] += sample.bad
        found["note"] = sample.note

    def median(self, row: str, server: str) -> float | None:
        """Returns the median of a server's samples in a row, or None if there are none."""
        samples = self._of(row, server)["samples"]
        known = [sample for sample in samples if sample is not None]
        return statistics.median(known) if known else None

    def bad(self, row: str, server: str) -> int:
        """Returns the number of failed requests and missing messages over all rounds."""
        return int(self._of(row, server)["bad"])

    def note(self, row: str, server: str) -> str:
        """Returns the remark of the latest sample."""
        return str(self._of(row, server)["note"])

    def ratio(self, row: str, server: str) -> float | None:
        """Returns the ratio of a figure to that of Node in the same mode, or None."""
        return self._divide(row, server, row, _COUNTERPARTS.get(server, ""))

    def verdicts(self) -> list[Verdict]:
        """Returns the comparison with each goal that has figures."""
        found = []
        for row in ROWS:
            for goal in row.goals:
                value = self._reached(row, goal)
                if value is not None:
                    found.append(Verdict(row, goal, value, *_judge(row, goal, value)))
        return found

    def beside(self) -> list[Comparison]:
        """Returns the comparisons of this server with its peers in the same mode, row by row."""
        found = []
        for row in ROWS:
            for server in (each for each in OURS if each in row.servers):
                mode = "-files" if KINDS[server].is_durable else ""
                ratios = {
                    peer: self._divide(row.name, server, row.name, peer + mode) for peer in PEERS
                }
                speeds = {
                    peer: 1 / ratio if row.less_is_better else ratio
                    for peer, ratio in ratios.items()
                    if ratio
                }
                if speeds:
                    found.append(Comparison(row, server, speeds))
        return found

    def write(self) -> None:
        """Writes all samples and a description of the machine to the file."""
        self.machine = _machine()
        known = {row.name: self._rows[row.name] for row in ROWS if row.name in self._rows}
        whole = {"machine": self.machine, "rows": known}
        FILE.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")

    def _of(self, row: str, server: str) -> dict[str, Any]:
        found = self._rows.get(row, {}).get("servers", {}).get(server)
        return _nothing() if found is None else dict(found)

    def _reached(self, row: Row, goal: Goal) -> float | None:
        if not goal.to_server:
            return self.median(row.name, goal.server)
        return self._divide(row.name, goal.server, goal.to_row or row.name, goal.to_server)

    def _divide(self, row: str, server: str, to_row: str, to_server: str) -> float | None:
        ours, theirs = self.median(row, server), self.median(to_row, to_server)
        return ours / theirs if ours is not None and theirs else None


def _judge(row: Row, goal: Goal, value: float) -> tuple[bool, bool]:
    def holds(bound: float | None) -> bool:
        if bound is None:
            return True
        return value <= bound if row.less_is_better else value >= bound

    return holds(goal.must), holds(goal.aim)


def _nothing() -> dict[str, Any]:
    return {"samples": [], "bad": 0, "note": ""}


def _machine() -> dict[str, Any]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "node": node.stdout.strip().removeprefix("v"),
        "load": round(os.getloadavg()[0], 1),
    }

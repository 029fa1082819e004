"""`python -m benchmarks.flame SCENARIO [FILE]`: samples the server under a load, and draws a flame graph.

All threads are sampled. Sleeping threads are ignored, but threads that wait for a disk write or for the interpreter lock are not.
In the graph, the width of a frame is its time, and callers are below the functions that they call.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from html import escape
from pathlib import Path
from typing import Final

from .rows import ROWS
from .servers import HERE, LOAD_CORE, SCRATCH, running

SCENARIOS: Final = {
    "append-memory": ("append", "memory"),
    "append-durable": ("append", "files"),
    "append-256": ("append-256", "files"),
    "json-batch": ("json-batch", "memory"),
    "json-batch-durable": ("json-batch", "files"),
    "catch-up": ("catch-up-json", "memory"),
    "catch-up-binary": ("catch-up-binary", "memory"),
    "sse": ("sse", "memory"),
    "sse-durable": ("sse", "files"),
    "long-poll": ("long-poll", "files"),
}
_WIDTH: Final = 1200
_ROW: Final = 16
_LEAST: Final = 0.003  # share of the total time below which frames are omitted
_SHARES: Final = 14  # number of functions in the printed list


def main() -> None:
    """Profiles one scenario, and prints the path of the graph and the functions that take most time."""
    if len(sys.argv) < 2 or sys.argv[1] not in SCENARIOS:
        sys.exit("SCENARIO is one of " + ", ".join(SCENARIOS))
    name = sys.argv[1]
    drawing = Path(sys.argv[2] if len(sys.argv) > 2 else SCRATCH / f"{name}.svg")
    seconds = int(os.environ.get("SECONDS") or 8)
    os.sched_setaffinity(0, {LOAD_CORE})
    stacks = _sample(*SCENARIOS[name], seconds)
    drawing.write_text(draw(stacks, f"{name}: where this server's time goes"))
    total = sum(stacks.values())
    print(f"{total} samples; the flame graph is {drawing}\n\nOwn time, of the whole:")
    for function, count in _own(stacks).most_common(_SHARES):
        print(f"  {count / total:6.1%}  {function}")


def _sample(row_name: str, kind: str, seconds: int) -> Counter[tuple[str, ...]]:
    """Samples a server under the load of a row, and returns the number of samples of each stack."""
    row = next(row for row in ROWS if row.name == row_name)
    SCRATCH.mkdir(exist_ok=True)
    raw = SCRATCH / "stacks.txt"
    with running(kind) as server:
        spy = [str(HERE / ".venv/bin/py-spy"), "record", "--pid", str(server.process.pid)]
        options = ["--format", "raw", "--output", str(raw), "--rate", "250", "--nonblocking"]
        recording = subprocess.Popen(
            [*spy, *options, "--duration", str(seconds)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        row.measure(server, seconds)
        recording.wait()
    return _read(raw.read_text())


def _read(raw: str) -> Counter[tuple[str, ...]]:
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        names = [_short(frame) for frame in frames.split(";")]
        kept = tuple(name for name in names if name)
        if kept:
            stacks[kept] += int(count)
    return stacks


def _short(frame: str) -> str:
    """Returns a frame as `module.function`, or the empty string for frames that every stack has."""
    found = re.match(r"(.+) \((.+?)(?::\d+)?\)$", frame)
    if found is None:
        return ""
    function, file = found.groups()
    module = Path(file).stem
    if module in ("runners", "core", "main", "<string>", "threading", "server", "app"):
        return ""
    return f"{module}.{function}"


def _own(stacks: Counter[tuple[str, ...]]) -> Counter[str]:
    """Returns the number of samples in which each function was running itself."""
    own: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
    return own


def draw(stacks: Counter[tuple[str, ...]], title: str) -> str:
    """Returns a flame graph as SVG."""
    total = sum(stacks.values())
    ordered = sorted(stacks.items())
    frames: list[tuple[int, int, int, str]] = []  # depth, begin, width, name
    begun: list[tuple[str, int]] = []
    position = 0

    def end(depth: int) -> None:
        while len(begun) > depth:
            name, start = begun.pop()
            frames.append((len(begun), start, position - start, name))

    for stack, count in ordered:
        shared = 0
        while shared < min(len(begun), len(stack)) and begun[shared][0] == stack[shared]:
            shared += 1
        end(shared)
        begun += [(name, position) for name in stack[shared:]]
        position += count
    end(0)
    seen = [frame for frame in frames if frame[2] >= _LEAST * total]
    height = (max(frame[0] for frame in seen) + 3) * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}">',
        "<style>text{font:10px monospace;fill:#111}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="4" y="12">{escape(title)}</text>',
        *(_frame(frame, total, height) for frame in seen),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _frame(frame: tuple[int, int, int, str], total: int, height: int) -> str:
    depth, begin, size, name = frame
    x, width = begin / total * _WIDTH, size / total * _WIDTH
    y = height - (depth + 1) * _ROW - 2
    colour = f"hsl({20 + sum(name.encode()) % 35} 85% {62 + sum(name.encode()) % 14}%)"
    shown = escape(name[: int(width / 6.1)])
    return (
        f'<g><title>{escape(name)} {size / total:.1%}</title><rect x="{x:.1f}" y="{y}" width="{width - 0.4:.1f}" '
        f'height="{_ROW - 1}" fill="{colour}"/><text x="{x + 2:.1f}" y="{y + 11}">{shown}</text></g>'
    )


if __name__ == "__main__":
    main()

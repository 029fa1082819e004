"""Runs the command like `durable-streams-server`, and writes what the process holds to a file at each SIGUSR1.

    python -m tests.soak.observed FILE serve …

The file then has a JSON document: asyncio tasks by the name of their coroutine, threads by their name, in which `#` stands for the number
of a thread in its pool, and objects by class. Only classes of the project, of asyncio and of uvloop are counted. `/proc` cannot show these from the outside.
"""

import asyncio
import gc
import json
import os
import re
import signal
import sys
import threading
from collections import Counter

from durable_streams_server.cli import main

COUNTED = ("durable_streams_server", "asyncio", "uvloop")


def held() -> dict[str, dict[str, int]]:
    """Returns what this process holds. Collects garbage first, so that cycles do not count."""
    gc.collect()
    objects = Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in map(type, gc.get_objects())
        if str(kind.__module__).partition(".")[0] in COUNTED
    )
    tasks = Counter(
        str(getattr(task.get_coro(), "__qualname__", task.get_coro())) for task in _tasks()
    )
    threads = Counter(re.sub(r"_\d+$", "_#", thread.name) for thread in threading.enumerate())
    return {"tasks": dict(tasks), "threads": dict(threads), "objects": dict(objects)}


def _tasks() -> set[asyncio.Task[object]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:  # the event loop does not run at the beginning and at the end
        return set()


def write(file: str) -> None:
    """Writes what this process holds to a file, which appears at once with its whole content."""
    with open(f"{file}.new", "w") as writing:
        json.dump(held(), writing)
    os.replace(f"{file}.new", file)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: write(sys.argv[1]))
    main(sys.argv[2:])

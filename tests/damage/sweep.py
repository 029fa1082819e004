"""Damages a rich directory at random, many times: `python -m tests.damage.sweep SEED0 SEEDS [--show]`.

Two processes run the trials. Each says which trial it is at, so that one that dies or hangs is named. Every trial that fails is
printed with its damage; the same seed fails again.
"""

import logging
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from tests.damage.rich import Truth, build
from tests.damage.trial import Trial

WORKERS = 2
MEMORY = Path("/dev/shm")  # the sweep damages files itself, so no disk need sync them
PATIENCE = 120.0  # seconds that a trial may take on a busy machine
KINDS = 5  # directories, each made with other sizes


def work(seeds: list[int], pipe: Connection, is_shown: bool) -> None:
    """Runs trials one after the other, and says before each its seed, after it what was wrong."""
    logging.disable(logging.CRITICAL)  # a damaged stream is logged; here that is the point
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        made: dict[int, tuple[Path, Truth]] = {}
        for seed in seeds:
            pipe.send((seed, None))
            kind = seed % KINDS
            if kind not in made:
                original = Path(place) / f"original-{kind}"
                made[kind] = original, build(original, kind)
            pipe.send((seed, attempt(seed, *made[kind], Path(place) / "trial", is_shown)))
    pipe.send(None)


def attempt(seed: int, original: Path, truth: Truth, place: Path, is_shown: bool = False) -> str:
    """Runs one trial; returns what was wrong, or nothing."""
    trial = Trial(seed, original, truth, place)
    damage = ", ".join(f"{way} {name}" for way, _, name in trial.done)
    try:
        trial.run()
    except Exception as error:
        where = traceback.format_exc() if is_shown else ""
        return f"{damage}: {type(error).__name__}: {error}\n{where}"
    return ""


class _Worker:
    def __init__(self, seeds: list[int], is_shown: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe(duplex=False)
        self.process: SpawnProcess = context.Process(target=work, args=(seeds, far, is_shown))
        self.process.start()
        far.close()
        self.seeds = seeds
        self.at = seeds[0]
        self.heard = time.monotonic()


class _Failures(list[str]):
    """What was wrong, told as it is found."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__()
        self._tell = tell

    def append(self, text: str) -> None:
        super().append(text)
        self._tell(text)


def sweep(
    first: int,
    count: int,
    workers: int = WORKERS,
    *,
    is_shown: bool = False,
    tell: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Runs trials, and returns what was wrong, one text for each that failed."""
    failed = _Failures(tell)
    seeds = list(range(first, first + count))
    running = [_Worker(part, is_shown) for n in range(workers) if (part := seeds[n::workers])]
    while running:
        wait([each.pipe for each in running], timeout=1.0)
        for worker in list(running):
            rest = _listen(worker, failed)
            if rest is None:
                continue
            running.remove(worker)
            worker.process.kill()
            worker.process.join()
            if rest:
                running.append(_Worker(rest, is_shown))
    return failed


def _listen(worker: _Worker, failed: list[str]) -> list[int] | None:
    """Hears what a worker has to say; returns the seeds that are left to another once it has ended, else None."""
    try:
        while worker.pipe.poll():
            worker.heard = time.monotonic()
            said = worker.pipe.recv()
            if said is None:
                return []
            worker.at, wrong = said
            if wrong:
                failed.append(f"seed {worker.at}: {wrong}")
    except EOFError:
        failed.append(f"seed {worker.at}: the process died")
        return worker.seeds[worker.seeds.index(worker.at) + 1 :]
    if time.monotonic() - worker.heard > PATIENCE:
        failed.append(f"seed {worker.at}: it hangs")
        return worker.seeds[worker.seeds.index(worker.at) + 1 :]
    return None


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(first: int, count: int, is_shown: bool) -> int:
    """Runs `count` trials from `first`, and returns how many failed."""
    began = time.monotonic()
    workers = min(WORKERS, os.cpu_count() or 1)
    failed = sweep(first, count, workers, is_shown=is_shown, tell=_say)
    took = time.monotonic() - began
    _say(f"{count} trials in {took:.0f} s, {len(failed)} failed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), int(sys.argv[2]), "--show" in sys.argv), 1))

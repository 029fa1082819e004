"""Damages a data directory at random, many times: `python -m tests.damage.sweep SEED0 SEEDS [--show]`.

Two processes run the trials. Each process reports the seed before it begins a trial, so the sweep can name a trial that kills its process
or hangs. For each failure, the sweep prints the damage and the command that repeats the trial. `--show` adds the traceback.
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
MEMORY = Path("/dev/shm")  # the sweep damages files itself, so they need not survive a power loss
PATIENCE = 120.0  # seconds that a trial may take on a busy machine
KINDS = 5  # number of original directories, which differ in sizes and contents


def run_trials(seeds: list[int], pipe: Connection, is_shown: bool) -> None:
    """Runs trials one after the other in a process of their own.

    Args:
        seeds: the seed of each trial.
        pipe: receives (seed, None) before each trial, (seed, failure) after it, and None at the end. The failure is empty if the
            trial passed.
        is_shown: whether failures include their traceback.
    """
    logging.disable(logging.CRITICAL)  # stores log every damaged stream, which is the purpose here
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        made: dict[int, tuple[Path, Truth]] = {}
        for seed in seeds:
            pipe.send((seed, None))
            kind = seed % KINDS
            if kind not in made:
                original = Path(place) / f"original-{kind}"
                made[kind] = original, build(original, kind)
            pipe.send((seed, failure_of(seed, *made[kind], Path(place) / "trial", is_shown)))
    pipe.send(None)


def failure_of(seed: int, original: Path, truth: Truth, place: Path, is_shown: bool = False) -> str:
    """Runs one trial. Returns its damage and its failure, or an empty text if the trial passed."""
    trial = Trial(seed, original, truth, place)
    damage = ", ".join(f"{way} {name}" for way, _, name in trial.done)
    try:
        trial.run()
    except Exception as error:
        where = traceback.format_exc() if is_shown else ""
        return f"{damage}: {type(error).__name__}: {error}\n{where}"
    return ""


class _Worker:
    """A process that runs trials.

    Attributes:
        pipe: receives its reports.
        process: the process.
        seeds: the seeds of its trials, in order.
        seed: the seed of its current trial.
        heard: the monotonic time of its last report, in seconds.
    """

    def __init__(self, seeds: list[int], is_shown: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe(duplex=False)
        self.process: SpawnProcess = context.Process(target=run_trials, args=(seeds, far, is_shown))
        self.process.start()
        far.close()
        self.seeds = seeds
        self.seed = seeds[0]
        self.heard = time.monotonic()

    def remaining_seeds(self) -> list[int]:
        """Returns the seeds after the current trial."""
        return self.seeds[self.seeds.index(self.seed) + 1 :]


class _Failures(list[str]):
    """Keeps the failures of a sweep, and reports each at once."""

    def __init__(self, report: Callable[[str], object]) -> None:
        super().__init__()
        self._report = report

    def add(self, seed: int, failure: str) -> None:
        """Adds the failure of a trial, with the command that repeats the trial."""
        command = f"{sys.executable} -m tests.damage.sweep {seed} 1 --show"
        text = f"seed {seed}: {failure.rstrip()}\nrepeat it with: {command}"
        self.append(text)
        self._report(text)


def sweep(
    first: int,
    count: int,
    workers: int = WORKERS,
    *,
    is_shown: bool = False,
    report: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Runs trials in several processes. Returns one text for each trial that failed.

    Args:
        first: the seed of the first trial.
        count: number of trials.
        workers: number of processes.
        is_shown: whether failures include their traceback.
        report: called with each failure as soon as it is known.
    """
    failures = _Failures(report)
    seeds = list(range(first, first + count))
    running = [_Worker(part, is_shown) for n in range(workers) if (part := seeds[n::workers])]
    while running:
        wait([each.pipe for each in running], timeout=1.0)
        for worker in list(running):
            remaining = _receive(worker, failures)
            if remaining is None:
                continue
            running.remove(worker)
            worker.process.kill()
            worker.process.join()
            if remaining:
                running.append(_Worker(remaining, is_shown))
    return failures


def _receive(worker: _Worker, failures: _Failures) -> list[int] | None:
    """Reads the reports of a worker.

    Returns:
        None while the worker runs. Once it has ended, the seeds of the trials that another worker must run.
    """
    try:
        while worker.pipe.poll():
            worker.heard = time.monotonic()
            report = worker.pipe.recv()
            if report is None:
                return []
            worker.seed, failure = report
            if failure:
                failures.add(worker.seed, failure)
    except EOFError:
        failures.add(worker.seed, "the process died")
        return worker.remaining_seeds()
    if time.monotonic() - worker.heard > PATIENCE:
        failures.add(worker.seed, "it hangs")
        return worker.remaining_seeds()
    return None


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(first: int, count: int, is_shown: bool) -> int:
    """Runs `count` trials from the seed `first` on, and returns how many failed."""
    began = time.monotonic()
    workers = min(WORKERS, os.cpu_count() or 1)
    failures = sweep(first, count, workers, is_shown=is_shown, report=_print)
    took = time.monotonic() - began
    _print(f"{count} trials in {took:.0f} s, {len(failures)} failed")
    return len(failures)


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), int(sys.argv[2]), "--show" in sys.argv), 1))

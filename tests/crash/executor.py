"""The simulator's executor: jobs wait until the simulation runs them, in any order that real threads could take."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from durable_streams_server.storage.files.executor import Done, Executor, Job, Lane

T = TypeVar("T")


class SimulatedExecutor(Executor):
    """Runs nothing by itself.

    A job goes three ways, each a step of its own: it is submitted, it runs, its end is told to the loop. Between any two of them
    anything else may happen, as it may between threads.

    Args:
        chance: chooses which job runs when the loop's thread waits.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[Callable[[], None]] = []
        self._jobs: dict[Lane, deque[Job]] = {lane: deque() for lane in Lane}
        self._ended: deque[tuple[Done[Any], Any, BaseException | None]] = deque()

    # -- what the runner asks -----------------------------------------------

    def call_soon(self, function: Callable[[], None]) -> None:
        self._soon.append(function)

    def call_after_pause(self, function: Callable[[], None]) -> None:
        self._soon.append(function)

    def call_later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        self._timers.append(function)
        return lambda: self._cancel(function)

    def submit(self, lane: Lane, job: Callable[[], T], done: Done[T]) -> None:
        self._jobs[lane].append((job, done))

    def wait(self) -> None:
        while not self._ended:
            lanes = [lane for lane in Lane if self._jobs[lane]]
            assert lanes, "the loop's thread would wait for ever"
            self.run(self._chance.choice(lanes))
        self.complete()

    def close(self) -> None:
        assert not self._jobs[Lane.COMMIT], "a commit is still to be written"
        while self._ended or any(self._jobs.values()):
            self.wait()

    # -- the simulation's moves ---------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do but timers."""
        return not (self._soon or self._ended or any(self._jobs.values()))

    def turn(self) -> None:
        """Makes one turn of the loop: what was asked for before it, and nothing asked for in it."""
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def run(self, lane: Lane) -> None:
        """Runs the next job of a lane; its end waits to be told. A loss of power ends the simulation's life instead."""
        if not self._jobs[lane]:
            return
        job, done = self._jobs[lane].popleft()
        try:
            self._ended.append((done, job(), None))
        except Exception as error:
            self._ended.append((done, None, error))

    def complete(self) -> None:
        """Tells the loop of the job that ended first."""
        if self._ended:
            done, result, error = self._ended.popleft()
            done(result, error)

    def finish_read(self) -> None:
        """Runs the next read and tells of its end, before anything else."""
        job, done = self._jobs[Lane.READ].popleft()
        try:
            result = job()
        except Exception as error:
            done(None, error)
        else:
            done(result, None)

    def fire(self) -> None:
        """Lets the time of every timer come."""
        timers, self._timers = self._timers, []
        for function in timers:
            function()

    def _cancel(self, function: Callable[[], None]) -> None:
        if function in self._timers:
            self._timers.remove(function)

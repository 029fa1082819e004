"""The executor of the simulator: its jobs wait until the simulation runs them, in any order that threads could produce."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from durable_streams_server.storage.files.executor import Done, Executor, Job, Lane

T = TypeVar("T")


class SimulatedExecutor(Executor):
    """An executor that runs nothing by itself.

    A job takes three steps: it is submitted, it runs, and its completion reaches the loop. Anything else may happen between two
    steps, as it may between threads.

    Args:
        chance: chooses the job that runs when the thread of the loop waits.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[Callable[[], None]] = []
        self._jobs: dict[Lane, deque[Job]] = {lane: deque() for lane in Lane}
        self._ended: deque[tuple[Done[Any], Any, BaseException | None]] = deque()

    # -- called by the runner -----------------------------------------------

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

    # -- called by the simulation -------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Returns whether nothing but timers is left."""
        return not (self._soon or self._ended or any(self._jobs.values()))

    def turn(self) -> None:
        """Makes one turn of the loop. It runs the functions that were scheduled before the turn, but none scheduled during it."""
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def run(self, lane: Lane) -> None:
        """Runs the next job of a lane. Its completion waits for `complete`, unless the power fails and ends the run."""
        if not self._jobs[lane]:
            return
        job, done = self._jobs[lane].popleft()
        try:
            self._ended.append((done, job(), None))
        except Exception as error:
            self._ended.append((done, None, error))

    def complete(self) -> None:
        """Delivers the oldest completion of a job to the event loop."""
        if self._ended:
            done, result, error = self._ended.popleft()
            done(result, error)

    def finish_read(self) -> None:
        """Runs the next read and delivers its completion at once."""
        job, done = self._jobs[Lane.READ].popleft()
        try:
            result = job()
        except Exception as error:
            done(None, error)
        else:
            done(result, None)

    def fire(self) -> None:
        """Fires every timer."""
        timers, self._timers = self._timers, []
        for function in timers:
            function()

    def _cancel(self, function: Callable[[], None]) -> None:
        if function in self._timers:
            self._timers.remove(function)

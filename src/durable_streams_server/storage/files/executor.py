"""Where the store's work runs. `Runner` decides what runs when; an executor only carries it out.

A running server uses `Threads`. The crash simulator passes an executor of its own, which runs the same jobs one at a time, in
any order that threads could take.
"""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Called on the loop's thread with a job's result, or with the exception that ended it.
Done = Callable[[T | None, BaseException | None], None]


class Lane(enum.Enum):
    """What a job waits for. Jobs of one lane run in order, except reads, a few of which run at once."""

    COMMIT = "commit"
    CHECKPOINT = "checkpoint"
    READ = "read"


class Executor(ABC):
    """Runs jobs beside the loop, and brings their results back to the loop's thread."""

    @abstractmethod
    def soon(self, function: Callable[[], None]) -> None:
        """Calls a function on the loop, at the end of this turn."""

    @abstractmethod
    def in_between(self, function: Callable[[], None]) -> None:
        """Calls a function on the loop after a moment that belongs to everything else, other threads too."""

    @abstractmethod
    def later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        """Calls a function on the loop after some seconds; returns what cancels the call."""

    @abstractmethod
    def submit(self, lane: Lane, job: Callable[[], T], done: Done[T]) -> None:
        """Runs a job on a lane, then calls `done` on the loop's thread, exactly once, whatever the job raises."""

    @abstractmethod
    def wait(self) -> None:
        """Blocks the loop's thread until a job has ended, and calls its `done`. At least one job must be running."""

    @abstractmethod
    def close(self) -> None:
        """Waits for the jobs that run, calls what is `done`, and ends the threads. On the loop's thread."""


Job = tuple[Callable[[], Any], Done[Any]]

"""The interface of executors, which run the jobs and timers that `Runner` schedules.

A server uses `Threads`. The crash simulator passes its own executor, which runs the same jobs one at a time, in any order in which threads
could run them.
"""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: A callback that gets a job's result and None, or None and the exception that ended the job. It runs on the event loop's thread.
Done = Callable[[T | None, BaseException | None], None]


class Lane(enum.Enum):
    """The kinds of jobs. Jobs of one lane run in order, except that several reads run at once."""

    COMMIT = "commit"
    CHECKPOINT = "checkpoint"
    READ = "read"


class Executor(ABC):
    """Runs jobs beside an event loop, and delivers their results on the loop's thread."""

    @abstractmethod
    def call_soon(self, function: Callable[[], None]) -> None:
        """Calls a function on the event loop at the end of the current turn."""

    @abstractmethod
    def call_after_pause(self, function: Callable[[], None]) -> None:
        """Calls a function on the event loop after a short pause, in which other callbacks and threads can run."""

    @abstractmethod
    def call_later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        """Calls a function on the event loop after some seconds, and returns a function that cancels the call."""

    @abstractmethod
    def submit(self, lane: Lane, job: Callable[[], T], done: Done[T]) -> None:
        """Runs a job on a lane, and then calls `done` on the loop's thread, exactly once, even if the job raises an exception."""

    @abstractmethod
    def wait(self) -> None:
        """Blocks the loop's thread until a job has ended, and calls the job's `done`. At least one job must be running."""

    @abstractmethod
    def close(self) -> None:
        """Waits for the running jobs, calls `done` for each, and ends the threads. Call it on the loop's thread."""


Job = tuple[Callable[[], Any], Done[Any]]

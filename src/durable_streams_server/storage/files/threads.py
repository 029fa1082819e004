"""The executor of a server: one thread commits, one makes checkpoints, and a few read logs."""

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from .bell import Bell
from .executor import Done, Executor, Job, Lane
from .switching import switching

T = TypeVar("T")

_READERS: Final = 4
#: Seconds between two steps of long work on the loop. If steps ran in consecutive turns, the loop would never wait for sockets. The commit
#: thread would then get the interpreter only after the switch interval.
_PAUSE: Final = 0.001
#: Added to the nice value of reader threads, which then get a third as much time as the event loop if both compete for one core.
_NICE: Final = 5


class Threads(Executor):
    """Runs jobs on threads beside a running event loop.

    The commit lane is one thread instead of a pool, because every commit passes through it and a pool's future costs as much as several appends.

    Args:
        loop: the event loop. Every method must be called on its thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ended: SimpleQueue[tuple[Done[Any], Any, BaseException | None]] = SimpleQueue()
        self._commits: deque[Job | None] = (
            deque()
        )  # one job for each ring of the bell; None ends the thread
        self._bell = Bell()
        self._pools = {
            Lane.CHECKPOINT: ThreadPoolExecutor(1, "durable-streams-checkpoint"),
            Lane.READ: ThreadPoolExecutor(_READERS, "durable-streams-read", _lower_priority),
        }
        self._committer = threading.Thread(
            target=self._commit, name="durable-streams-commit", daemon=True
        )
        self._committer.start()

    def call_soon(self, function: Callable[[], None]) -> None:
        self._loop.call_soon(function)

    def call_after_pause(self, function: Callable[[], None]) -> None:
        self._loop.call_later(_PAUSE, function)

    def call_later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        return self._loop.call_later(seconds, function).cancel

    def submit(self, lane: Lane, job: Callable[[], T], done: Done[T]) -> None:
        if lane is Lane.COMMIT:
            self._give_to_committer((job, done))
        else:
            switching.begin()  # otherwise a busy loop would keep the job's thread from starting
            self._pools[lane].submit(self._compute, job, done)

    def wait(self) -> None:
        _call(self._ended.get())

    def close(self) -> None:
        self._give_to_committer(None)
        self._committer.join()
        self._bell.close()
        for pool in self._pools.values():
            pool.shutdown()
        self._call_ended()

    def _give_to_committer(self, job: Job | None) -> None:
        self._commits.append(job)
        self._bell.ring()

    # -- on the threads -----------------------------------------------------

    def _commit(self) -> None:
        while True:
            self._bell.wait()
            job = self._commits.popleft()
            if job is None:
                return
            self._run(*job)

    def _compute(self, job: Callable[[], Any], done: Done[Any]) -> None:
        try:
            self._run(job, done)
        finally:
            switching.end()

    def _run(self, job: Callable[[], Any], done: Done[Any]) -> None:
        try:
            result = job()
        except BaseException as error:
            self._ended.put((done, None, error))
        else:
            self._ended.put((done, result, None))
        try:
            self._loop.call_soon_threadsafe(self._call_ended)
        except RuntimeError:
            return  # the loop is closed; `close` or `wait` calls `done`

    # -- on the loop's thread -----------------------------------------------

    def _call_ended(self) -> None:
        """Calls `done` for the jobs that have ended by now, unless `wait` has done so already.

        A job that ends during this call has already scheduled another call.
        """
        for _ in range(self._ended.qsize()):
            if not self._ended.empty():
                _call(self._ended.get())


def _lower_priority() -> None:
    """Lowers the priority of a reader thread, because all clients wait for the event loop and only few for this thread.

    Only Linux has a priority for each thread.
    """
    if sys.platform == "linux":
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual + _NICE)


def _call(ended: tuple[Done[Any], Any, BaseException | None]) -> None:
    done, result, error = ended
    done(result, error)

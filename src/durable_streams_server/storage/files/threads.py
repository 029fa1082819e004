"""The executor of a running server: one thread commits, one makes checkpoints, a few read what is not in memory."""

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
#: Seconds between two steps of long work on the loop. In consecutive turns the loop would never wait, and a loop that never waits
#: does not let the commit thread have the interpreter before the switch interval is over.
_MOMENT: Final = 0.001
_BEHIND: Final = 5  # added to the nice value: a third of the loop's time, if both want one core


class Threads(Executor):
    """Real threads beside a running loop.

    The commit lane is a thread of its own and no pool, because each commit passes through it: a pool's future costs as much as
    several appends.

    Args:
        loop: the loop; every method is called on its thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ended: SimpleQueue[tuple[Done[Any], Any, BaseException | None]] = SimpleQueue()
        self._commits: deque[Job | None] = deque()  # as many as the bell was rung, less those taken
        self._bell = Bell()
        self._pools = {
            Lane.CHECKPOINT: ThreadPoolExecutor(1, "durable-streams-checkpoint"),
            Lane.READ: ThreadPoolExecutor(_READERS, "durable-streams-read", _give_way),
        }
        self._committer = threading.Thread(
            target=self._commit, name="durable-streams-commit", daemon=True
        )
        self._committer.start()

    def soon(self, function: Callable[[], None]) -> None:
        self._loop.call_soon(function)

    def in_between(self, function: Callable[[], None]) -> None:
        self._loop.call_later(_MOMENT, function)

    def later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        return self._loop.call_later(seconds, function).cancel

    def submit(self, lane: Lane, job: Callable[[], T], done: Done[T]) -> None:
        if lane is Lane.COMMIT:
            self._give_to_committer((job, done))
        else:
            switching.begin()  # or a busy loop would keep the thread from beginning
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
            return  # the loop is closed: whoever takes the store back calls what has ended

    # -- on the loop's thread -----------------------------------------------

    def _call_ended(self) -> None:
        """Calls what is done by now. Whoever waits on the loop's thread may have done so already.

        What ends meanwhile has its own turn: each job that ends plans a call.
        """
        for _ in range(self._ended.qsize()):
            if not self._ended.empty():
                _call(self._ended.get())


def _give_way() -> None:
    """Lowers the priority of this thread: all clients wait for the loop, and few for this thread.

    Only Linux has a priority for each thread.
    """
    if sys.platform == "linux":
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual + _BEHIND)


def _call(ended: tuple[Done[Any], Any, BaseException | None]) -> None:
    done, result, error = ended
    done(result, error)

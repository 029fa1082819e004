"""The store's threads in a running server: one commits, one makes checkpoints, a few read what is not in memory.

They are shells: each step is a call of the store's, and everything that touches its state runs on the loop.

A commit takes all that one turn of the loop has decided, and whatever came while the commit before it was being written. So
the busier the server, the larger its commits, and a hand-over between threads, which costs as much as several appends, is
shared by many.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..ticket import Ticket
from .checkpoint import Where
from .shell import Shell
from .wal import Damaged

if TYPE_CHECKING:
    from .store import Commit, FileStore

T = TypeVar("T")

_READERS: Final = 4
_AGAIN: Final = 1.0  # seconds until a checkpoint that found the disk full is tried again


class Threads(Shell):
    """Runs a store on a loop until `stop`.

    Args:
        store: the store; it must have no other shell.
        loop: the loop that owns it.
        on_failure: called on the loop when the store has stopped for good.
    """

    has_readers = True

    def __init__(
        self,
        store: "FileStore",
        loop: asyncio.AbstractEventLoop,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        super().__init__(store)
        self._loop = loop
        self._on_failure = on_failure
        self._commits: SimpleQueue[Commit | None] = SimpleQueue()
        self._arrivals: SimpleQueue[Callable[[], None]] = SimpleQueue()  # for the loop's thread
        self._is_called = False  # the loop will hand over what waits
        self._is_writing = False
        self._is_held_back = False  # nothing is committed until a checkpoint has made room
        self._steps: Iterator[Where] | None = None
        self._waits_for_commit = False
        self._again: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._stopping = False
        self._pool = ThreadPoolExecutor(_READERS, "durable-streams-read")
        self._disk = ThreadPoolExecutor(1, "durable-streams-checkpoint")
        self._committer = threading.Thread(
            target=self._commit, name="durable-streams-commit", daemon=True
        )
        self._committer.start()

    def stop(self) -> None:
        """Commits what waits, ends the checkpoint that runs, and gives the store back. On the loop."""
        self._stopping = True
        for timer in (self._again, self._later):
            if timer is not None:
                timer.cancel()
        self._regulate()
        self._hand_over()
        while self._is_writing:
            self._arrivals.get()()
        self._commits.put(None)
        self._committer.join()
        self._disk.shutdown()
        self._pool.shutdown()
        self._store.shell = Shell(self._store)
        self._finish_checkpoint()

    def wait_for(self, ticket: Ticket[Any]) -> None:
        """Waits for a ticket on the loop's own thread, for synchronous callers there."""
        while not ticket.done and self._store.failure is None:
            self._is_held_back = False  # the checkpoint's own steps wait for this thread
            self._hand_over()
            self._arrivals.get()()

    # -- what the store asks ------------------------------------------------

    def commit_due(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._called)

    def checkpoint_due(self) -> None:
        if self._steps is None and not self._stopping and self._again is None:
            self._steps = self._store.checkpoint()
            self._go(Where.LOOP)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        if self._later is None and not self._stopping:
            self._later = self._loop.call_later(seconds, self._call_later, function)

    def _call_later(self, function: Callable[[], None]) -> None:
        self._later = None
        function()

    def failed(self, error: BaseException) -> None:
        self._on_failure(error)

    def read(self, function: Callable[[], T]) -> Ticket[T]:
        ticket: Ticket[T] = Ticket()

        def run() -> None:
            try:
                found = function()
            except Exception as error:
                self._arrive(partial(ticket.fail, error))
            else:
                self._arrive(partial(ticket.resolve, found))

        self._pool.submit(run)
        return ticket

    # -- from the threads ---------------------------------------------------

    def _arrive(self, function: Callable[[], None]) -> None:
        """Has the loop's thread call a function: the loop itself, or whoever waits there meanwhile."""
        self._arrivals.put(function)
        self._loop.call_soon_threadsafe(self._take_arrivals)

    def _take_arrivals(self) -> None:
        while not self._arrivals.empty():
            self._arrivals.get()()

    # -- commits ------------------------------------------------------------

    def _called(self) -> None:
        self._is_called = False
        self._regulate()
        self._hand_over()

    def _hand_over(self) -> None:
        """Gives the commit thread what waits, unless it is still writing or must not."""
        if self._is_writing or self._is_held_back:
            return
        commit = self._store.take_pending()
        if commit.items:
            self._is_writing = True
            self._commits.put(commit)

    def _commit(self) -> None:
        """The commit thread. A disk that has failed once is never written to again."""
        failure: BaseException | None = None
        while (commit := self._commits.get()) is not None:
            failure = failure or self._store.failure
            if failure is None:
                try:
                    self._store.write(commit)
                except BaseException as error:
                    failure = error
            self._arrive(partial(self._deliver, commit, failure))

    def _deliver(self, commit: "Commit", failure: BaseException | None) -> None:
        """Takes a commit that has been written, and lets the next one begin."""
        self._is_writing = False
        self._hand_over()
        if failure is not None:
            self._store.fail(failure, commit)
        else:
            self._store.committed(commit)
        if self._waits_for_commit:
            self._go(Where.LOOP)

    # -- the checkpoint -----------------------------------------------------

    def _go(self, where: Where) -> None:
        """Has the checkpoint's next step run where it must."""
        if self._stopping:
            return
        self._waits_for_commit = where is Where.DURABLE
        self._regulate()
        if where is Where.LOOP:
            self._loop.call_soon(self._step)
        elif where is Where.DISK:
            future = self._disk.submit(self._advance)
            future.add_done_callback(lambda done: self._arrive(partial(self._arrived, done)))

    def _step(self) -> None:
        if self._stopping or self._steps is None:
            return
        try:
            where = self._advance()
        except (OSError, Damaged) as error:
            self._end_checkpoint()
            self._store.fail(error)
            return
        self._proceed(where)

    def _arrived(self, done: Future[Where | None]) -> None:
        error = done.exception()
        if error is not None:
            self._end_checkpoint()
            self._store.fail(error)
        else:
            self._proceed(done.result())

    def _advance(self) -> Where | None:
        assert self._steps is not None
        return next(self._steps, None)

    def _proceed(self, where: Where | None) -> None:
        if where is not None:
            self._go(where)
            return
        self._end_checkpoint()
        if not self._store.checkpoint_is_due or self._stopping:
            return
        if self._store.found_disk_full:
            self._again = self._loop.call_later(_AGAIN, self._try_again)
        else:
            self.checkpoint_due()

    def _end_checkpoint(self) -> None:
        self._steps = None
        self._regulate()

    def _regulate(self) -> None:
        """Has writers wait while too much is unflushed and a checkpoint is making room, unless it waits for them."""
        makes_room = self._steps is not None and not self._waits_for_commit
        held_back = makes_room and self._store.is_pressed and not self._stopping
        was_held_back, self._is_held_back = self._is_held_back, held_back
        if was_held_back and not held_back:
            self._hand_over()

    def _try_again(self) -> None:
        self._again = None
        if self._store.checkpoint_is_due:
            self.checkpoint_due()

    def _finish_checkpoint(self) -> None:
        """Runs what is left of a checkpoint that the stop has interrupted."""
        if self._steps is None or self._store.failure is not None:
            return
        for where in self._steps:
            if where is Where.DURABLE:
                self._store.commit_once()
        self._steps = None

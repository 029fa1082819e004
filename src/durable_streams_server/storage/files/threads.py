"""The store's threads in a running server: one commits, one makes checkpoints, a few read what is not in memory.

They are shells: each step is a call of the store's, and everything that touches its state runs on the loop.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ..ticket import Ticket
from .checkpoint import Where
from .shell import Shell
from .wal import Damaged

if TYPE_CHECKING:
    from .store import FileStore, InFlight

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
        self._signals: SimpleQueue[bool] = SimpleQueue()
        self._written: deque[tuple[Sequence[InFlight], BaseException | None]] = deque()
        self._any_written = threading.Event()
        self._open_gate = (
            threading.Event()
        )  # closed, nothing is committed until a checkpoint has written
        self._open_gate.set()
        self._steps: Iterator[Where] | None = None
        self._waits_for_commit = False
        self._again: asyncio.TimerHandle | None = None
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
        if self._again is not None:
            self._again.cancel()
        self._open_gate.set()
        self._signals.put(True)
        self._signals.put(False)
        self._committer.join()
        self._deliver()
        self._disk.shutdown()
        self._pool.shutdown()
        self._store.shell = Shell(self._store)
        self._finish_checkpoint()

    def wait_for(self, ticket: Ticket[Any]) -> None:
        """Waits for a ticket on the loop's own thread, for synchronous callers there."""
        while not ticket.done and self._store.failure is None:
            self._open_gate.set()  # the checkpoint's own steps wait for this thread
            self._any_written.wait()
            self._deliver()

    # -- what the store asks ------------------------------------------------

    def commit_due(self) -> None:
        self._regulate()
        self._signals.put(True)

    def checkpoint_due(self) -> None:
        if self._steps is None and not self._stopping and self._again is None:
            self._steps = self._store.checkpoint()
            self._go(Where.LOOP)

    def failed(self, error: BaseException) -> None:
        self._on_failure(error)

    def read(self, function: Callable[[], bytes]) -> Ticket[bytes]:
        ticket: Ticket[bytes] = Ticket()

        def deliver(error: BaseException | None, data: bytes) -> None:
            if error is None:
                ticket.resolve(data)
            else:
                ticket.fail(error)

        def run() -> None:
            try:
                data = function()
            except Exception as error:
                self._loop.call_soon_threadsafe(deliver, error, b"")
            else:
                self._loop.call_soon_threadsafe(deliver, None, data)

        self._pool.submit(run)
        return ticket

    # -- the commit thread --------------------------------------------------

    def _commit(self) -> None:
        signals = self._signals
        failure: BaseException | None = None
        while signals.get():
            self._open_gate.wait()
            batch = self._store.take_pending()
            if not batch:
                continue  # an earlier batch took what this signal was for
            failure = failure or self._store.failure or self._write(batch)
            self._hand_over(batch, failure)

    def _write(self, batch: "Sequence[InFlight]") -> BaseException | None:
        """Writes a batch. A disk that has failed once is never written to again."""
        try:
            self._store.write(batch)
        except BaseException as error:
            return error
        return None

    def _hand_over(self, batch: "Sequence[InFlight]", failure: BaseException | None) -> None:
        self._written.append((batch, failure))
        self._any_written.set()
        self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._any_written.clear()
        while self._written:
            batch, failure = self._written.popleft()
            if failure is not None:
                self._store.fail(failure, batch)
            else:
                self._store.committed(batch)
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
            future.add_done_callback(
                lambda done: self._loop.call_soon_threadsafe(self._arrived, done.exception(), done)
            )

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

    def _arrived(self, error: BaseException | None, done: object) -> None:
        if error is not None:
            self._end_checkpoint()
            self._store.fail(error)
        else:
            self._proceed(done.result())  # type: ignore[attr-defined]

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
        if makes_room and self._store.is_pressed and not self._stopping:
            self._open_gate.clear()
        else:
            self._open_gate.set()

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

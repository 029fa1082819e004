"""What runs when in a store that a loop owns: commits, checkpoints, reads, the stop. One state machine, without threads.

A commit takes all that one turn of the loop has decided, and whatever came while the commit before it was being written. If that
is little, it waits for one more turn, so that writers who are answered now can join it. So the busier the server, the larger its
commits, and a hand-over between threads, which costs as much as several appends, is shared by many.

A checkpoint goes through these phases. An error in any of them stops the store:

    phase        what it waits for                            then
    NONE         `checkpoint_due`                             LOOP
    LOOP         a moment for everything else                 what the step says
    DURABLE      the commit that is written, or the next      LOOP
    DISK         its job on the checkpoint lane               what the step says
    PAUSED       a second: no room, or no file handles        LOOP

A stop ends LOOP, DURABLE and PAUSED at once and waits for the job of DISK. What the catalog has not been told by then stays
dirty: the write-ahead log has it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from ..ticket import Ticket
from .checkpoint import Checkpoints, Where
from .commits import Commit, Commits
from .executor import Executor, Lane
from .ledger import Ledger
from .shell import Shell
from .wal import CHECK_INTERVAL

T = TypeVar("T")

_AGAIN: Final = 1.0  # seconds until a checkpoint that met an obstacle is tried again


class Phase(enum.Enum):
    """Where the checkpoint is."""

    NONE = "none"
    LOOP = "loop"
    DURABLE = "durable"
    DISK = "disk"
    PAUSED = "paused"


_PHASES: Final = {Where.LOOP: Phase.LOOP, Where.DURABLE: Phase.DURABLE, Where.DISK: Phase.DISK}


class Runner(Shell):
    """Runs a store until `stop`.

    Args:
        commits: the store's queue of records.
        ledger: the store's dirty states, which tell when a checkpoint is due.
        checkpoints: makes the store's checkpoints.
        executor: carries out what is decided here.
        on_failure: called on the loop when the store has stopped for good.
    """

    has_readers = True

    def __init__(
        self,
        commits: Commits,
        ledger: Ledger,
        checkpoints: Checkpoints,
        executor: Executor,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._commits = commits
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._executor = executor
        self._on_failure = on_failure
        self._turn_is_due = False
        self._is_writing = False
        self._reading = 0
        self._is_waited_for = False  # a synchronous caller blocks the loop
        self._look_is_planned = False
        self._stopping = False
        self._phase = Phase.NONE
        self._steps: Iterator[Where] | None = None
        self._cancel_pause: Callable[[], None] = _nothing
        self._cancel_later: Callable[[], None] | None = None

    def stop(self) -> None:
        self._stopping = True
        if self._cancel_later is not None:
            self._cancel_later()
        self._hand_over()
        while self._has_jobs:
            self._executor.wait()
            self._hand_over()  # what has ended may have decided something
        self._end_checkpoint()
        if self._commits.failure is None:
            self._commits.check_segment()
        self._executor.close()

    def wait_for(self, ticket: Ticket[Any]) -> None:
        self._is_waited_for = True
        try:
            self._hand_over()
            while not ticket.done and self._has_jobs:
                self._executor.wait()
                self._hand_over()
        finally:
            self._is_waited_for = False

    # -- what the store asks ------------------------------------------------

    def commit_due(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._executor.soon(self._turn)

    def checkpoint_due(self) -> None:
        if self._phase is Phase.NONE and not self._stopping and self._commits.failure is None:
            self._steps = self._checkpoints.steps()
            self._go(Phase.LOOP)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        if self._cancel_later is None and not self._stopping:
            self._cancel_later = self._executor.later(seconds, partial(self._call_later, function))

    def _call_later(self, function: Callable[[], None]) -> None:
        self._cancel_later = None
        if not self._stopping and self._commits.failure is None:
            function()

    def failed(self, error: BaseException) -> None:
        self._commits.committed(self._commits.take_pending())
        if self._phase is not Phase.DISK:  # the job that runs has the steps; its end comes here
            self._end_checkpoint()
        self._on_failure(error)

    def read(self, function: Callable[[], T]) -> Ticket[T]:
        ticket: Ticket[T] = Ticket()
        self._reading += 1

        def done(found: T | None, error: BaseException | None) -> None:
            self._reading -= 1
            if error is not None:
                ticket.fail(error)
            else:
                ticket.resolve(found)  # type: ignore[arg-type]

        self._executor.submit(Lane.READ, function, done)
        return ticket

    @property
    def _has_jobs(self) -> bool:
        """Whether a job runs whose end will come."""
        return self.is_busy or self._phase is Phase.DISK

    @property
    def is_busy(self) -> bool:
        """Whether a thread commits or reads."""
        return self._is_writing or self._reading > 0

    # -- commits ------------------------------------------------------------

    def _turn(self) -> None:
        self._turn_is_due = False
        if not self._stopping:
            self._hand_over()

    def _hand_over(self) -> None:
        """Has the commit lane write what waits, unless it is still writing or must not."""
        if self._is_writing or self._is_held_back:
            return
        commit = self._commits.take_pending()
        if commit.items:
            self._is_writing = True
            self._executor.submit(
                Lane.COMMIT, partial(self._write, commit), partial(self._written, commit)
            )

    @property
    def _is_held_back(self) -> bool:
        """Whether writers wait because too much is unflushed and a checkpoint is making room. A checkpoint that waits for
        writers, or for a thread that waits for writers, makes none."""
        return (
            self._ledger.is_pressed  # the rarest
            and self._phase in (Phase.LOOP, Phase.DISK)
            and not self._stopping
            and not self._is_waited_for
        )

    def _write(self, commit: Commit) -> None:
        """Writes a commit, on its lane. A disk that has failed once is never written to again."""
        if self._commits.failure is not None:
            raise self._commits.failure
        self._commits.write(commit)

    def _written(self, commit: Commit, _: None, error: BaseException | None) -> None:
        self._is_writing = False
        if error is not None:
            self._commits.fail(error, commit)
            return
        if self._commits.failure is None:
            if self._commits.has_few_pending:
                self.commit_due()  # a turn later: writers that are answered now can join it
            else:
                self._hand_over()  # the next commit is written while this one is published
        self._commits.committed(commit)
        if self._commits.wal.owes_check and not self._look_is_planned:
            self._look_is_planned = True  # there may be no later commit that looks
            self._executor.later(CHECK_INTERVAL, self._look)
        if self._phase is Phase.DURABLE:
            self._go(Phase.LOOP)

    def _look(self) -> None:
        self._look_is_planned = False
        if not self._stopping and self._commits.failure is None:
            self._commits.check_segment()

    # -- the checkpoint -----------------------------------------------------

    def _go(self, phase: Phase) -> None:
        """Enters a phase of the checkpoint."""
        self._phase = phase
        if phase is Phase.LOOP:
            self._executor.in_between(self._step)
        elif phase is Phase.DISK:
            self._executor.submit(Lane.CHECKPOINT, self._advance, self._stepped)
        elif phase is Phase.PAUSED:
            self._cancel_pause = self._executor.later(_AGAIN, self._resume)
        self._hand_over()

    def _step(self) -> None:
        """Makes a step on the loop, unless the checkpoint has ended since that was planned."""
        if self._phase is not Phase.LOOP:
            return
        try:
            where = self._advance()
        except Exception as error:
            self._stepped(None, error)
        else:
            self._stepped(where, None)

    def _advance(self) -> Where | None:
        """Makes the next step; returns what the one after it needs, or None after the last."""
        assert self._steps is not None
        return next(self._steps, None)

    def _stepped(self, where: Where | None, error: BaseException | None) -> None:
        if error is not None or self._stopping or self._commits.failure is not None:
            self._end_checkpoint()
            if error is not None:
                self._commits.fail(error)
        elif where is not None:
            self._go(_PHASES[where])
        else:
            self._phase, self._steps = Phase.NONE, None
            if self._ledger.checkpoint_is_due:
                self._begin_another()
            self._hand_over()

    def _begin_another(self) -> None:
        if self._ledger.must_pause:
            self._go(Phase.PAUSED)
        else:
            self.checkpoint_due()

    def _resume(self) -> None:
        self._phase = Phase.NONE
        if self._ledger.checkpoint_is_due:
            self.checkpoint_due()

    def _end_checkpoint(self) -> None:
        """Ends the checkpoint, if one runs: unless the catalog has it, what it had taken is dirty again."""
        self._cancel_pause()
        self._cancel_pause = _nothing
        self._phase, self._steps = Phase.NONE, None
        self._ledger.end_capture()


def _nothing() -> None:
    """Cancels nothing."""

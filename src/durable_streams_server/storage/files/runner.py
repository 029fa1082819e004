"""Schedules the commits, checkpoints and reads of a store that an event loop owns, and stops them. It is a state machine without threads.

A commit contains all records that were queued in one turn of the loop, and those queued while the previous commit was being written. If these
records are few, the commit waits for one more turn, so that writers that receive their responses now can join it. So commits grow with the
load, and many appends share one hand-over between threads. A hand-over costs as much as several appends.

A checkpoint goes through these phases. An error in any phase stops the store:

    phase        waits for                                      next phase
    NONE         a call of `checkpoint_due`                     LOOP
    LOOP         a pause in which the loop does other work      the one that the step yields
    DURABLE      the commit being written, or the next one      LOOP
    DISK         the job on the checkpoint lane                 the one that the step yields
    PAUSED       one second, for lack of space or file handles  LOOP

`stop` leaves LOOP, DURABLE and PAUSED immediately, but waits for the job of DISK to end. States that are not in the catalog by then stay
dirty, and the write-ahead log keeps their records.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from ..slow_work import DISK_READ, HELD_BACK
from ..ticket import Ticket
from .checkpoint import Checkpoints, Where
from .commits import Commit, Commits
from .executor import Executor, Lane
from .ledger import Ledger
from .shell import Shell
from .wal import CHECK_INTERVAL

T = TypeVar("T")

_PAUSE: Final = (
    1.0  # seconds until a checkpoint that failed for lack of space or file handles is tried again
)


class Phase(enum.Enum):
    """The phases of a checkpoint."""

    NONE = "none"
    LOOP = "loop"
    DURABLE = "durable"
    DISK = "disk"
    PAUSED = "paused"


_PHASES: Final = {Where.LOOP: Phase.LOOP, Where.DURABLE: Phase.DURABLE, Where.DISK: Phase.DISK}


class Runner(Shell):
    """Runs the work of one store beside an event loop, until `stop`.

    Args:
        commits: the store's queue of records.
        ledger: the store's dirty states, which determine when a checkpoint is due.
        checkpoints: makes the store's checkpoints.
        executor: runs the jobs and timers.
        on_failure: called on the event loop's thread when the store has stopped for good.
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
        self._commit_is_planned = False
        self._is_writing = False
        self._held_since = 0.0  # when commits began to wait for the checkpoint, or 0
        self._reads = 0
        self._caller_waits = False  # whether a synchronous caller blocks the event loop
        self._check_is_planned = False
        self._stopping = False
        self._phase = Phase.NONE
        self._steps: Iterator[Where] | None = None
        self._cancel_pause: Callable[[], None] = _do_nothing
        self._cancel_timer: Callable[[], None] | None = None

    def stop(self) -> None:
        self._stopping = True
        if self._cancel_timer is not None:
            self._cancel_timer()
        self._begin_commit()
        while self._has_jobs:
            self._executor.wait()
            self._begin_commit()  # the job that ended may have queued records
        self._end_checkpoint()
        if self._commits.failure is None:
            self._commits.check_segment()
        self._executor.close()

    def wait_for(self, ticket: Ticket[Any]) -> None:
        self._caller_waits = True
        try:
            self._begin_commit()
            while not ticket.done and self._has_jobs:
                self._executor.wait()
                self._begin_commit()
        finally:
            self._caller_waits = False

    # -- calls of the store -------------------------------------------------

    def commit_due(self) -> None:
        if not self._commit_is_planned:
            self._commit_is_planned = True
            self._executor.call_soon(self._begin_planned_commit)

    def checkpoint_due(self) -> None:
        if self._phase is Phase.NONE and not self._stopping and self._commits.failure is None:
            self._steps = self._checkpoints.steps()
            self._enter(Phase.LOOP)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        if self._cancel_timer is None and not self._stopping:
            self._cancel_timer = self._executor.call_later(
                seconds, partial(self._run_timer, function)
            )

    def _run_timer(self, function: Callable[[], None]) -> None:
        self._cancel_timer = None
        if not self._stopping and self._commits.failure is None:
            function()

    def failed(self, error: BaseException) -> None:
        self._commits.committed(self._commits.take_pending())
        if (
            self._phase is not Phase.DISK
        ):  # a running job still uses the steps, and ends them itself
            self._end_checkpoint()
        self._on_failure(error)

    def read(self, function: Callable[[], T]) -> Ticket[T]:
        ticket: Ticket[T] = Ticket()
        self._reads += 1
        slow_work = self._commits.wal.slow_work
        begun = slow_work.clock()

        def done(found: T | None, error: BaseException | None) -> None:
            self._reads -= 1
            slow_work.add(DISK_READ, begun, slow_work.clock())
            if error is not None:
                ticket.fail(error)
            else:
                ticket.resolve(found)  # type: ignore[arg-type]  # a `T`, because there is no error

        self._executor.submit(Lane.READ, function, done)
        return ticket

    @property
    def _has_jobs(self) -> bool:
        """Whether a job is running that `Executor.wait` can wait for."""
        return self.is_busy or self._phase is Phase.DISK

    @property
    def is_busy(self) -> bool:
        return self._is_writing or self._reads > 0

    # -- commits ------------------------------------------------------------

    def _begin_planned_commit(self) -> None:
        self._commit_is_planned = False
        if not self._stopping:
            self._begin_commit()

    def _begin_commit(self) -> None:
        """Gives all queued records to the commit lane, unless the lane is still writing or writers must wait for a checkpoint."""
        if self._is_writing:
            return
        if self._is_held_back:
            self._held_since = self._held_since or self._commits.wal.slow_work.clock()
            return
        if self._held_since:
            slow_work = self._commits.wal.slow_work
            slow_work.add(HELD_BACK, self._held_since, slow_work.clock())
            self._held_since = 0.0
        commit = self._commits.take_pending()
        if commit.items:
            self._is_writing = True
            self._executor.submit(
                Lane.COMMIT,
                partial(self._write_commit, commit),
                partial(self._commit_ended, commit),
            )

    @property
    def _is_held_back(self) -> bool:
        """Whether commits wait because too much is unflushed and a running checkpoint is freeing memory.

        Commits must not wait for a checkpoint that itself waits for a commit, nor while the loop's thread is blocked.
        """
        return (
            self._ledger.is_pressed  # first, because it is rarely true
            and self._phase in (Phase.LOOP, Phase.DISK)
            and not self._stopping
            and not self._caller_waits
        )

    def _write_commit(self, commit: Commit) -> None:
        """Writes a commit on the commit lane. Never writes again to a disk that has failed."""
        if self._commits.failure is not None:
            raise self._commits.failure
        self._commits.write(commit)

    def _commit_ended(self, commit: Commit, _: None, error: BaseException | None) -> None:
        self._is_writing = False
        if error is not None:
            self._commits.fail(error, commit)
            return
        if self._commits.failure is None:
            if self._commits.has_few_pending:
                self.commit_due()  # one turn later, so that writers that receive their responses now can join
            else:
                self._begin_commit()  # the next commit is written while this one is published
        self._commits.committed(commit)
        if self._commits.wal.needs_check and not self._check_is_planned:
            self._check_is_planned = True  # there may be no later commit that checks the segment
            self._executor.call_later(CHECK_INTERVAL, self._check_segment)
        if self._phase is Phase.DURABLE:
            self._enter(Phase.LOOP)

    def _check_segment(self) -> None:
        self._check_is_planned = False
        if not self._stopping and self._commits.failure is None:
            self._commits.check_segment()

    # -- the checkpoint -----------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        """Enters a phase of the checkpoint, and plans its next step."""
        self._phase = phase
        if phase is Phase.LOOP:
            self._executor.call_after_pause(self._step_on_loop)
        elif phase is Phase.DISK:
            self._executor.submit(Lane.CHECKPOINT, self._advance, self._step_ended)
        elif phase is Phase.PAUSED:
            self._cancel_pause = self._executor.call_later(_PAUSE, self._end_pause)
        self._begin_commit()

    def _step_on_loop(self) -> None:
        """Runs the next step on the event loop, unless the checkpoint has ended since the step was planned."""
        if self._phase is not Phase.LOOP:
            return
        try:
            where = self._advance()
        except Exception as error:
            self._step_ended(None, error)
        else:
            self._step_ended(where, None)

    def _advance(self) -> Where | None:
        """Runs the next step, and returns where the step after it must run; None after the last step."""
        assert self._steps is not None
        return next(self._steps, None)

    def _step_ended(self, where: Where | None, error: BaseException | None) -> None:
        if error is not None or self._stopping or self._commits.failure is not None:
            self._end_checkpoint()
            if error is not None:
                self._commits.fail(error)
        elif where is not None:
            self._enter(_PHASES[where])
        else:
            self._phase, self._steps = Phase.NONE, None
            if self._ledger.checkpoint_is_due:
                self._begin_next_checkpoint()
            self._begin_commit()

    def _begin_next_checkpoint(self) -> None:
        if self._ledger.must_pause:
            self._enter(Phase.PAUSED)
        else:
            self.checkpoint_due()

    def _end_pause(self) -> None:
        self._phase = Phase.NONE
        if self._ledger.checkpoint_is_due:
            self.checkpoint_due()

    def _end_checkpoint(self) -> None:
        """Ends the checkpoint, if one is running. If it has not committed the catalog, the captured states are dirty again."""
        self._cancel_pause()
        self._cancel_pause = _do_nothing
        self._phase, self._steps = Phase.NONE, None
        self._ledger.end_capture()


def _do_nothing() -> None:
    """Takes the place of a timer's cancellation function while no timer is running."""

"""The file store, which keeps streams in a data directory.

`FileStore` implements the contract of `Store`, and creates and connects these parts:

- `commits.py` queues records, writes them and publishes them. `admission.py` refuses records for which there is no room.
- `ledger.py` keeps the newest states, and knows which of them are dirty.
- `checkpoint.py` writes dirty states to the logs and the catalog.
- `reading.py` reads bytes from memory or from the logs.
- `recovery.py` restores the states when the store is opened.

No method here waits. The shell (`synchronous.py` or `runner.py`) decides when and on which thread the parts work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from ...errors import StreamError
from ...protocol.commands import Command, Expire
from ...protocol.decisions.decide import decide
from ...protocol.decisions.outcomes import Outcome
from ...protocol.decisions.quota import Quota, Usage
from ...protocol.limits import DEFAULT_MAX_PRODUCERS, MAX_CLOCK_INCARNATION
from ...protocol.offsets import next_incarnation
from ...protocol.state import StreamState, Touched
from ...protocol.subscriptions.commands import Upkeep
from ...protocol.timeline import Timeline
from ..damage import Damaged, refusal_of
from ..deciding import DecidingStore
from ..store import Marks
from ..ticket import Abandoned, Ticket
from .catalog.entries import Catalog, Meta
from .checkpoint import Checkpoints
from .commits import Commits
from .disk import Disk
from .headroom import Headroom, ballast_size
from .ledger import Ledger
from .limits import STANDARD, Limits
from .logs import Logs
from .reading import Reading
from .recovery import Recovery, restore_subscriptions
from .runner import Runner
from .segments import MAX_FILES
from .shell import Shell
from .states import States
from .synchronous import Synchronous
from .threads import Threads
from .wal import Wal
from .wal_sizes import DEFAULT_SEGMENT_SIZE

#: A checkpoint is due when a quarter of the write-ahead log is written, so that the checkpoint ends before the log is full.
_LOG_SHARE: Final = 4
#: Maximum seconds of the last checkpoint that `close` makes. The next start reads the remaining records from the write-ahead log.
CLOSE_PATIENCE: Final = 2.0


class FileStore(DecidingStore):
    """Keeps streams in a data directory.

    Args:
        disk: the data directory.
        catalog: the directory's catalog.
        segment_size: bytes of one segment of the write-ahead log. A record must fit into a segment.
        max_producers: maximum idempotent producers per stream.
        quota: the limits of streams and bytes.
        limits: the memory limits.
        readonly: whether the store is opened for inspection only. It then changes nothing on the disk and executes no command.

    Attributes:
        commits: the queue of records.
        ledger: the newest states, with the set of dirty ones.
        checkpoints: makes checkpoints.
        states: the newest states of streams.
        logs: the files with the streams' bytes.
        wal: the write-ahead log.
        headroom: the reserved space that is used when the disk is full.

    Raises:
        Damaged: acknowledged data cannot be read back.
        OSError: the disk failed.
    """

    def __init__(
        self,
        disk: Disk,
        catalog: Catalog,
        *,
        segment_size: int = DEFAULT_SEGMENT_SIZE,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
        quota: Quota = Quota(),  # noqa: B008  (the default is immutable)
        limits: Limits = STANDARD,
        readonly: bool = False,
    ) -> None:
        self._catalog = catalog
        meta = catalog.meta()
        timeline = Timeline(meta.wall_offset, meta.steady, meta.boot, meta.base)
        documents = dict(catalog.documents())
        super().__init__(max_producers, timeline, restore_subscriptions(documents), quota)
        log_size = MAX_FILES * segment_size
        due = min(limits.checkpoint_bytes, log_size // _LOG_SHARE)
        limits = msgspec.structs.replace(limits, checkpoint_bytes=due)
        self.logs = Logs(disk)
        ballast = ballast_size(limits.max_unflushed, log_size)
        self.headroom = Headroom(disk, min(ballast, self.logs.largest or ballast))
        self.wal = Wal(disk, 0 if readonly else segment_size)
        self.slow_work = self.wal.slow_work
        self.ledger = Ledger(
            catalog,
            self.logs,
            self.wal,
            self.headroom,
            timeline,
            self.subscriptions,
            limits,
            self._note_use,
        )
        self.states: States = self.ledger.states
        self.commits = Commits(disk, self.wal, self.logs, self.ledger, self._listeners)
        self.checkpoints = Checkpoints(disk, catalog, self.logs, self.commits, self.ledger)
        self._reading = Reading(self.ledger, self.logs, catalog)
        self.shell = Synchronous(*self.parts)
        recovery = Recovery(disk, self.wal, self.logs, self.ledger, timeline, self.subscriptions)
        recovery.restore_held(documents)
        recovery.run(None if readonly else self.checkpoints.run)
        if not readonly:
            self.headroom.allocate_ahead(self.wal)
            self.headroom.prepare(self.wal, with_ballast=True)

    @property
    def parts(self) -> tuple[Commits, Ledger, Checkpoints]:
        """The parts of the store that a shell needs."""
        return self.commits, self.ledger, self.checkpoints

    @property
    def shell(self) -> Shell:
        """The shell that runs the store's work."""
        return self.commits.shell

    @shell.setter
    def shell(self, shell: Shell) -> None:
        self.commits.shell = self.ledger.shell = self._reading.shell = shell

    @property
    def failure(self) -> BaseException | None:
        """The error that stopped the store; None while it works."""
        return self.commits.failure

    @failure.setter
    def failure(self, failure: BaseException | None) -> None:
        self.commits.failure = failure

    @property
    def usage(self) -> Usage:
        return Usage(self.ledger.streams, self.ledger.stored)

    @property
    def meta(self) -> Meta:
        """The catalog's metadata as last committed."""
        return self.ledger.meta

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        self.shell = Runner(*self.parts, Threads(loop), on_failure)
        if self.failure is not None:
            on_failure(self.failure)
        elif self.ledger.checkpoint_is_due:
            self.shell.checkpoint_due()  # otherwise the next commit would be the first to check this
        elif self.meta.clock != self.ledger.clock:
            self.clock_was_set()  # the clock of this boot is not in the catalog yet

    def detach(self) -> None:
        self.shell.stop()
        self.shell = Synchronous(*self.parts)

    @property
    def is_busy(self) -> bool:
        return self.shell.is_busy

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        commits, ledger, states = self.commits, self.ledger, self.states
        if commits.failure is not None:
            return Ticket.failed(Abandoned(commits.failure))
        if now > self.timeline.floor:
            self.timeline.reach(now)
        if len(states.newest) > states.max_loaded:
            states.evict_idle()
        try:
            last = ledger.last_incarnation
            in_order = last < now <= MAX_CLOCK_INCARNATION  # False only if the clock was set
            incarnation = now if in_order else next_incarnation(last, now)
            decision = decide(states, command, now, incarnation, self._rules, self.subscriptions)
            if decision.changes:
                if self._shared_quota is not None:
                    self._shared_quota.admit(
                        command, decision.changes, ledger.streams, ledger.stored
                    )
                return commits.record(decision.changes, decision.outcome, command)
            return commits.answer(decision.outcome, None)
        except StreamError as refusal:
            if refusal.status >= 500 and isinstance(command, Upkeep) and self._rules.announces:
                return self._execute_without_event(command, now)
            if isinstance(command, Expire):
                ledger.lifetimes.retry_later(command.path, now)
            return commits.answer(None, refusal)
        except Damaged as damage:
            return commits.answer(None, refusal_of(damage))

    def probe(self) -> Ticket[None]:
        if self.failure is not None:
            return Ticket.failed(Abandoned(self.failure))
        try:
            return self.commits.probe().then(lambda _: Ticket.of(None))
        except StreamError as refusal:
            return Ticket.failed(refusal)

    def find(self, path: str) -> Ticket[StreamState | None]:
        self.states.evict_idle()
        try:
            return Ticket.of(self.states.visible(path))
        except Damaged as damage:
            return Ticket.failed(refusal_of(damage))
        except StreamError as refusal:
            return Ticket.failed(refusal)

    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        return self._reading.read_bytes(incarnation, start, end)

    def marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        return self._reading.marks(incarnation, position)

    def touch(self, state: StreamState, now: int) -> None:
        if self.states.loaded(state.path) is not state and not state.removed:
            found = self.states.find_again(state)  # the state was evicted during a read
            if found is None:
                return
            state = found
        state.touch(now)
        self.ledger.lifetimes.note_read(state, now)

    def due(self, now: int) -> Sequence[tuple[str, int]]:
        return self.ledger.lifetimes.due(now)

    def next_deadline(self) -> int | None:
        return self.ledger.lifetimes.next()

    def clock_was_set(self) -> None:
        self.ledger.clock_was_set()

    def paths(self) -> Iterator[str]:
        return self.states.paths()

    def ordered_paths(self, prefix: str, after: str, limit: int) -> Iterator[str | None]:
        return self.states.ordered_paths(prefix, after, limit)

    def close(self) -> None:
        """Commits the records in flight, makes a last checkpoint unless that takes longer than `CLOSE_PATIENCE`, and closes the files.

        The shell must have stopped.
        """
        self._listeners.clear()
        try:
            if self.failure is None:
                while self.commits.in_flight:
                    self.commits.commit_once()
                self.checkpoints.run(CLOSE_PATIENCE)
        finally:
            self.logs.close()
            self.wal.close()
            self._catalog.close()

    def commit_once(self) -> None:
        """Commits all queued records on this thread. Only for a store without an event loop.

        Raises:
            OSError: the disk failed, and the store has stopped.
        """
        self.commits.commit_once()

    def run_checkpoint(self) -> None:
        """Makes a checkpoint on this thread. Only for a store without an event loop.

        Raises:
            OSError: the disk failed, and the store has stopped.
        """
        self.checkpoints.run()

    def _note_use(self, state: StreamState) -> None:
        """Makes the last use of a stream with a sliding lifetime durable. Nobody waits for the record."""
        if self.failure is None and not state.removed:
            try:
                self.commits.record(
                    (Touched(state.path, state.incarnation, state.touched_at),), None
                )
            except StreamError:
                return  # there is no room now; the next use tries again

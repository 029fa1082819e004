"""Checkpoints: they move bytes to the logs and states to the catalog, so that segments of the write-ahead log can be reused.

A checkpoint brings the catalog to the state of every stream at one record. `capture.py` collects these states, and this file runs the steps
and says where each step must run.
"""

import enum
import math
import time
from collections.abc import Iterator
from typing import Final

from ...log import log as _log
from ..distribution import LONG_SECONDS, Distribution
from ..slow_work import CHECKPOINT
from .capture import Capture
from .catalog.entries import UNCOUNTED, Catalog, Drop, Put
from .commits import Commits
from .disk import NO_HANDLES, NO_SPACE, TOO_LARGE, Disk
from .ledger import Ledger
from .logs import Logs

#: Maximum number of logs written in one step, because a store that closes waits for the running step.
_LOGS: Final = 1000


class Where(enum.Enum):
    """The place where the next step of a checkpoint must run."""

    LOOP = "loop"  # on the event loop's thread, when it has time
    DURABLE = "durable"  # on the event loop's thread, after more records have become durable
    DISK = "disk"  # on any other thread, because the step waits for the disk


class Checkpoints:
    """Makes the checkpoints of one store.

    Args:
        disk: the data directory.
        catalog: the store's catalog.
        logs: the store's logs.
        commits: the store's queue of records.
        ledger: the store's dirty states.

    Attributes:
        seconds: the durations of the checkpoints that wrote the catalog.
        failed: the number of checkpoints that could not write the catalog, for lack of space or file handles.
        ended_at: monotonic time in seconds at which the last checkpoint that wrote the catalog ended, or the store was opened.
    """

    def __init__(
        self, disk: Disk, catalog: Catalog, logs: Logs, commits: Commits, ledger: Ledger
    ) -> None:
        self._disk = disk
        self._catalog = catalog
        self._logs = logs
        self._commits = commits
        self._ledger = ledger
        self.seconds = Distribution(LONG_SECONDS)
        self.failed = 0
        self.ended_at = time.monotonic()

    def run(self, patience: float = math.inf) -> None:
        """Makes a checkpoint on this thread.

        Args:
            patience: seconds after which to give up, unless the catalog is committed by then. The write-ahead log still has everything
                that the checkpoint did not write.

        Raises:
            OSError: the disk failed, and the store has stopped.
        """
        deadline = time.monotonic() + patience
        try:
            for where in self.steps():
                capture = self._ledger.capture
                if capture and not capture.is_committed and time.monotonic() > deadline:
                    self._give_up(capture)
                    return
                if where is Where.DURABLE:
                    self._commits.commit_once()
        except Exception as error:
            self._ledger.end_capture()
            self._commits.fail(error)
            raise

    def steps(self) -> Iterator[Where]:
        """Runs a checkpoint, and yields before each step where that step must run.

        Exhaust the iterator before another checkpoint begins, or call `Ledger.end_capture`.

        Raises:
            RuntimeError: the store has stopped, or another checkpoint is running, whose dirty states would be lost.
            OSError: the disk failed; the store must stop.
        """
        ledger = self._ledger
        if self._commits.failure is not None or ledger.capture is not None:
            raise RuntimeError(
                "a checkpoint cannot begin: the store has stopped, or one is running"
            )
        begun = time.monotonic()
        capture = ledger.begin_capture()
        while capture.take_some():
            yield Where.LOOP
        while self._commits.wal.durable_lsn < capture.meta.lsn:
            yield Where.DURABLE
        yield Where.DISK
        while not capture.is_committed:
            try:
                yield from self._write(capture)
            except OSError as error:
                if error.errno not in NO_SPACE | NO_HANDLES:
                    raise
                # The catalog is unchanged, so it vouches for none of the bytes that were written to the logs.
                capture.obstacle = error
                is_full = error.errno in NO_SPACE and error.errno != TOO_LARGE
                if not is_full or not self._make_room(capture):
                    break
        yield Where.LOOP
        while ledger.end_some_of_capture():
            yield Where.LOOP
        ledger.end_capture()
        self._count(capture, begun)
        yield Where.DISK
        self._tidy(capture.is_committed)

    def _count(self, capture: Capture, begun: float) -> None:
        """Counts a checkpoint that began at a monotonic time and has ended."""
        if capture.is_committed:
            self.ended_at = time.monotonic()
            self.seconds.add(self.ended_at - begun)
            self._commits.wal.slow_work.add(CHECKPOINT, begun, self.ended_at)
        else:
            self.failed += 1

    def _write(self, capture: Capture) -> Iterator[Where]:
        """Writes the logs, and then the catalog."""
        self._disk.check_place()  # otherwise the bytes would go into a directory that replaced ours
        flush = self._logs.begin_flush(len(capture.flushes))
        for begin in range(0, len(capture.flushes), _LOGS):
            if begin:
                yield Where.DISK
            flush.write(capture.flushes[begin : begin + _LOGS])
        flush.sync()
        capture.damaged = flush.damaged
        capture.hold(flush.too_large)
        self._commit(capture)
        self._disk.check_place()  # before the log's segments are used again
        capture.is_committed, capture.obstacle = True, None

    def _commit(self, capture: Capture) -> None:
        """Commits the catalog. The logs must be durable."""
        ledger = self._ledger
        is_news = capture.meta.lsn > ledger.meta.lsn or ledger.removed or capture.documents
        # An older version did not count the bytes of streams.
        is_uncounted = ledger.meta.stored == UNCOUNTED
        if is_news or is_uncounted or capture.meta.clock != ledger.meta.clock:
            # The removal of a path's old incarnation must come before its new one.
            order: list[Put | Drop] = [each for each in capture.changes if isinstance(each, Drop)]
            order += [each for each in capture.changes if isinstance(each, Put)]
            self._catalog.commit(capture.meta, order, ledger.removed, capture.documents)
            ledger.removed = []

    def _make_room(self, capture: Capture) -> bool:
        """Frees space on a full disk, and returns False if there is nothing left to free.

        The logs of removed streams can be deleted before the catalog is committed, because the records of the removals are durable.
        """
        ledger = self._ledger
        dropped = {change.incarnation for change in capture.changes if isinstance(change, Drop)}
        dead = sorted(dropped - ledger.unlinked)
        if dead:
            ledger.unlinked.update(dead)
            self._logs.remove(dead)
            return True
        if ledger.headroom.give_up_ballast():
            return True
        ledger.headroom.set_low()
        return False

    def _tidy(self, is_committed: bool) -> None:
        """Deletes the logs of removed streams, and prepares the ballast and the next segment."""
        ledger = self._ledger
        self._disk.check_place()
        if is_committed:
            self._catalog.tidy()
        if is_committed and (garbage := self._catalog.garbage()):
            self._logs.remove(garbage)
            ledger.removed = garbage
        try:
            ledger.headroom.prepare(self._commits.wal, with_ballast=is_committed)
        except OSError as error:
            if error.errno not in NO_HANDLES:
                raise
            ledger.obstacle = error

    def _give_up(self, capture: Capture) -> None:
        _log.warning(
            "%d streams are not in their logs yet: the write-ahead log has them, and the next start reads it",
            len(capture.states),
        )
        self._ledger.end_capture()

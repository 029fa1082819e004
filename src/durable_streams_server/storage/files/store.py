"""The file store: decisions on one loop, records by one commit thread, logs and catalog by checkpoints.

What is here decides, numbers and publishes; it never waits. `commit_once` and the steps of a checkpoint are called from
outside: by `Threads` in a running server, by a synchronous caller in turn, or by the crash simulator.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar, cast

import msgspec

from ...errors import NotFound, StreamDamaged, StreamError, Unavailable
from ...log import log as _log
from ...protocol.commands import Command, Expire, known_marks
from ...protocol.decide import Outcome, Rules, damaged, decide
from ...protocol.limits import (
    DEFAULT_MAX_PRODUCERS,
    MARK_SPACING,
    MAX_CLOCK_INCARNATION,
    RETRY_SOON,
)
from ...protocol.media import Kind
from ...protocol.names import DEFAULT_STREAM_ROOT
from ...protocol.offsets import next_incarnation
from ...protocol.registry import Registry
from ...protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    StreamChange,
    StreamState,
    Touched,
    affected,
    apply,
)
from ...protocol.subscriptions.changes import Subscribed, SubscriptionChange
from ...protocol.subscriptions.commands import Upkeep
from ...protocol.subscriptions.state import Subscriptions
from ...protocol.timeline import Timeline
from ...protocol.units import KIB
from ..damage import Damaged
from ..recent import COST, INSIDE, Recent, RecentCache, cut
from ..store import Listener, Listeners, Marks, Published, Store, new_opening
from ..ticket import Abandoned, Ticket
from . import held
from .catalog import Catalog, Drop, Meta, Put
from .checkpoint import Capture, Checkpoint, Where
from .disk import NO_HANDLES, NO_SPACE, TOO_LARGE, Disk
from .headroom import PER_LOG, SOON, SOON_SECONDS, Claim, Headroom, ballast_size, claim_of
from .lifetimes import Lifetimes
from .logs import Extent, FlushWork, Logs, path_of
from .records import encode_in_parts, has_large
from .replay import Replay
from .runner import Runner
from .salvage import lost_header
from .shell import Shell
from .states import States
from .threads import Threads
from .wal import (
    DEFAULT_SEGMENT_SIZE,
    LARGE,
    MAX_FILES,
    Payload,
    Place,
    Wal,
    Write,
    behind,
    disk_full,
    size_of,
)

T = TypeVar("T")

#: Memory of appends that no log has yet, each with `recent.COST` besides its bytes; past it, 503.
MAX_UNFLUSHED: Final = 64 * 1024 * 1024
RECENT_LIMIT: Final = 64 * 1024 * 1024  # bytes kept in memory for readers at tails
CHECKPOINT_BYTES: Final = (
    64 * 1024 * 1024
)  # of records, before a checkpoint begins: they are read again at a restart
_LOG_SHARE: Final = 4  # a checkpoint begins at the latest when this part of the log is written, so that it ends in time
FLUSH_BYTES: Final = 24 * 1024 * 1024  # in memory that no log has yet, before a checkpoint begins
#: Streams in memory that have changed since the last checkpoint, before another stream may not change: none of them can be let go.
MAX_DIRTY: Final = 80_000
_DIRTY_SHARE: Final = 4  # a checkpoint begins at the latest when this part of them has changed
#: How many times as much may be dirty while the log is replayed: nothing else takes memory then. What a log of a running server can hold
#: is less, so a start waits for no checkpoint; the first one begins as soon as a loop has the store.
_WHILE_STARTING: Final = 2
#: Producers' states, about 250 bytes each, that no checkpoint has written, before writers get 503.
MAX_FRESH_PRODUCERS: Final = 200_000
MAX_LOADED: Final = 80_000  # streams in memory, about 3 KiB each, before idle ones are let go
#: Seconds that `close` gives the last checkpoint. What is dirty then stays in the write-ahead log, and the next start reads it.
CLOSE_PATIENCE: Final = 2.0

#: So many records, or bytes of them, are decided within a millisecond. The disk may be idle for one more millisecond to gather others.
_FEW: Final = 64
_FEW_BYTES: Final = 64 * KIB
#: Bytes that the loop itself reads from a log if they are in the system's cache. More takes longer than the way to a thread.
_READ_AT_ONCE: Final = 256 * KIB
_NO_MORE: Final = object()

_ENCODE: Final = msgspec.msgpack.Encoder().encode


class InFlight(msgspec.Struct, frozen=True):
    """One answer that waits for the records before it; with a place, it is one itself."""

    place: Place | None
    payload: Payload
    published: list[Published]
    ticket: Ticket[Outcome] | None
    outcome: Outcome | None
    refusal: StreamError | None


class Commit(msgspec.Struct, frozen=True):
    """What is made durable together: the answers that wait for it, and the writes, or records that are yet to be encoded."""

    items: list[InFlight]
    writes: list[Write]
    records: list[tuple[Place, Payload]] = []


class FileStore(Store):
    """Keeps streams in a data directory.

    Args:
        disk: the directory.
        catalog: its catalog.
        segment_size: bytes of one segment of the write-ahead log; a record must fit.
        max_producers: idempotent producers per stream.
        checkpoint_bytes: how many bytes of records make a checkpoint due.
        max_unflushed: memory that appends take which no log has yet, before writers get 503.
        recent_limit: stream bytes kept in memory for readers.
        max_loaded: streams kept in memory.
        max_dirty: streams in memory that have changed since the last checkpoint, before others may not change.
        max_fresh_producers: producers' states that no checkpoint has written, before writers get 503.
        readonly: whether to look only: nothing on the disk is changed, and no command may be executed.

    Raises:
        Damaged: what was acknowledged cannot be read back.
        OSError: the disk failed.
    """

    def __init__(
        self,
        disk: Disk,
        catalog: Catalog,
        *,
        segment_size: int = DEFAULT_SEGMENT_SIZE,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        max_unflushed: int = MAX_UNFLUSHED,
        recent_limit: int = RECENT_LIMIT,
        max_loaded: int = MAX_LOADED,
        max_dirty: int = MAX_DIRTY,
        max_fresh_producers: int = MAX_FRESH_PRODUCERS,
        readonly: bool = False,
    ) -> None:
        self._disk = disk
        self._catalog = catalog
        meta = catalog.meta()
        self.timeline = Timeline(meta.wall_offset, meta.steady, meta.boot, meta.base)
        self._rules = Rules(max_producers, timeline=self.timeline)
        self._checkpoint_bytes = min(checkpoint_bytes, MAX_FILES * segment_size // _LOG_SHARE)
        self._max_unflushed = max_unflushed
        self._max_dirty = max_dirty
        self._max_fresh = max_fresh_producers
        self._has_large = False  # a record of those that are pending is in parts
        self._is_crowded = False  # too much is dirty; looked at once for each commit
        self._flush_at = min(FLUSH_BYTES, max_unflushed * 3 // 8)
        self._listeners = Listeners()
        self._pending: list[InFlight] = []
        self._pending_bytes = 0
        self._flying = 0  # records and answers taken in and not yet published
        self._unflushed = 0
        self._command: Command | None = None  # whose record is being made
        self._since_checkpoint = 0
        self._capture: Capture | None = None
        self.obstacle: OSError | None = None  # why the last checkpoint must be tried again
        self._dead = self._dead_logs = (
            0  # streams removed since the last checkpoint began, and their bytes
        )
        self._dead_are_due = False
        self._dirty: dict[int, StreamState] = {}
        self._dirty_documents: dict[str, None] = {}
        self._memory = RecentCache(recent_limit)
        self._session = meta.session + 1
        self._last_incarnation = meta.last_incarnation
        self.meta = meta
        self._clock_is_due = False  # whether the catalog must be told how steady time is carried on
        self.subscriptions = Subscriptions(opening=new_opening())
        documents = dict(catalog.documents())
        for name, document in documents.items():
            if held.is_held(name):
                continue
            try:
                self.subscriptions.restore(name, document)
            except msgspec.DecodeError as error:
                raise Damaged(f"catalog: the document {name!r} is damaged: {error}") from None
        self.removed: list[int] = []  # logs removed since the last checkpoint
        self.unlinked: set[int] = set()  # logs removed before the catalog knew of it
        self.held: dict[
            int, int
        ] = {}  # streams whose logs may not grow, and up to where their bytes are held
        self.to_try: set[int] = set()  # those of them that this start has yet to try again
        self.failure: BaseException | None = None
        self.shell = Shell(self)
        self.logs = Logs(disk)
        ballast = ballast_size(max_unflushed, MAX_FILES * segment_size)
        self.headroom = Headroom(disk, min(ballast, self.logs.largest or ballast))
        self.wal = Wal(disk, 0 if readonly else segment_size)
        self.states = States(
            catalog,
            self.logs,
            self._memory,
            self._session,
            max_loaded,
            self._is_clean,
            self._loaded,
        )
        self._lifetimes = Lifetimes(catalog, self.states, self._note_use, self.timeline)
        self._take_held(documents)
        self._recover(readonly)
        if not readonly:
            self._allocate_ahead()
            self.make_ready(ballast=True)

    # -- the contract -------------------------------------------------------

    def configure(self, registry: Registry | None, stream_root: str = DEFAULT_STREAM_ROOT) -> None:
        if registry is not None and not registry.accepts(self.states):
            raise ValueError(f"the stream at {registry.path} cannot serve as the registry")
        self._rules = Rules(self._rules.max_producers, registry, self.timeline)
        self.subscriptions.move(stream_root)

    def listen(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def ignore(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        self.shell = Runner(self, Threads(loop), on_failure)
        if self.failure is not None:
            on_failure(self.failure)
        elif self.checkpoint_is_due:
            self.shell.checkpoint_due()  # without this, nobody would look before the next commit
        elif self.meta.clock != self._kept_clock:
            self.clock_was_set()  # the catalog does not say yet how this boot's ticks count

    @property
    def _kept_clock(self) -> tuple[int, str, int]:
        """How steady time is carried on, as `Meta.clock` keeps it."""
        return self.timeline.offset, self.timeline.boot, self.timeline.base

    def detach(self) -> None:
        self.shell.stop()

    @property
    def is_busy(self) -> bool:
        return self.shell.is_busy

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if self.failure is not None:
            return Ticket.failed(Abandoned(self.failure))
        if now > self.timeline.floor:
            self.timeline.reach(now)
        if self.states.too_many:
            self.states.let_go()
        try:
            last = self._last_incarnation
            in_order = last < now <= MAX_CLOCK_INCARNATION  # True unless somebody has set the clock
            incarnation = now if in_order else next_incarnation(last, now)
            decision = decide(
                self.states, command, now, incarnation, self._rules, self.subscriptions
            )
            if decision.changes:
                self._command = command
                ticket = self._record(decision.changes, decision.outcome)
                self._command = None
                return ticket
            return self._answer(decision.outcome, None)
        except StreamError as refusal:
            self._command = None
            if refusal.status >= 500 and isinstance(command, Upkeep) and self._rules.announces:
                return self._execute_quietly(command, now)
            if isinstance(command, Expire):
                self._lifetimes.retry(command.path, now)
            return self._answer(None, refusal)
        except Damaged as damage:
            return self._answer(None, _damaged(damage))

    def _execute_quietly(self, command: Command, now: int) -> Ticket[Outcome]:
        """Executes a worker's command without the event of the next wake, for which there is no room."""
        rules = self._rules
        self._rules = msgspec.structs.replace(rules, announces=False)
        try:
            return self.execute(command, now)
        finally:
            self._rules = rules

    def find(self, path: str) -> Ticket[StreamState | None]:
        self.states.let_go()
        return _guarded(lambda: Ticket.of(self.states.visible(path)))

    def read_bytes(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        return self._of_log(incarnation, lambda: self._read(incarnation, start, end))

    def marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        return self._of_log(incarnation, lambda: self._marks(incarnation, position))

    def touch(self, state: StreamState, now: int) -> None:
        if self.states.loaded(state.path) is not state and not state.removed:
            found = self._found_again(state)  # it was let go in the middle of a read
            if found is None:
                return
            state = found
        state.touch(now)
        self._lifetimes.used(state, now)

    def due(self, now: int) -> Sequence[tuple[str, int]]:
        return self._lifetimes.due(now)

    def next_deadline(self) -> int | None:
        return self._lifetimes.next()

    def clock_was_set(self) -> None:
        self._clock_is_due = True  # also if a checkpoint runs now that began before
        self.shell.checkpoint_due()  # a restart carries steady time on by what the catalog says

    def paths(self) -> Iterator[str]:
        return self.states.paths()

    def close(self) -> None:
        """Writes what is in flight, makes a last checkpoint if that takes seconds at most, and closes the files. The shell must
        have stopped."""
        self._listeners.clear()
        try:
            if self.failure is None:
                while self._flying:
                    self.commit_once()
                self.run_checkpoint(CLOSE_PATIENCE)
        finally:
            self.logs.close()
            self.wal.close()
            self._catalog.close()

    # -- commit -------------------------------------------------------------

    def take_pending(self) -> Commit:
        """Takes what waits to be committed. What was taken before must be on disk, or the store have failed; once this is,
        `committed` must have it, or `fail` if it cannot be."""
        items, self._pending = self._pending, []
        self._pending_bytes = 0
        records = [(item.place, item.payload) for item in items if item.place is not None]
        if self._has_large:  # to checksum it is for the thread that writes
            self._has_large = False
            return Commit(items, [], records)
        return Commit(items, self.wal.encode(records) if records else [])

    @property
    def has_few_pending(self) -> bool:
        """Whether what waits to be committed is so little that it may wait for more."""
        return 0 < len(self._pending) < _FEW and self._pending_bytes < _FEW_BYTES

    @property
    def newest_pending(self) -> InFlight:
        """What was enqueued last, while it has not been taken."""
        return self._pending[-1]

    @property
    def in_flight(self) -> int:
        """How many records and answers are not published yet."""
        return self._flying

    def write(self, commit: Commit) -> None:
        """Makes a commit's records durable, where a restart will look for them.

        Raises:
            OSError: the store must be told with `fail`, and never be written to again.
        """
        writes = self.wal.encode(commit.records) if commit.records else commit.writes
        if writes:
            self.wal.write(writes)
            self._disk.check_lock()

    def look_for_log(self) -> None:
        """Stops the store if what it has written last is not where a restart will look for it."""
        try:
            self.wal.look()
        except OSError as error:
            self.fail(error)

    def check_place(self) -> None:
        """Returns if the data directory and its parts are where they were when the store was opened.

        Raises:
            DirectoryLost: they are not, so what a checkpoint has written may be nowhere.
        """
        self._disk.check_place()

    def committed(self, commit: Commit) -> None:
        """Publishes what is durable and resolves its tickets, in order. On the loop."""
        if self.failure is not None:
            self._abandon(commit)
            return
        published: list[Published] = []
        try:
            for item in commit.items:
                if item.place is not None:
                    self.wal.durable_lsn = item.place.lsn
                    self._publish(item.published)
                    published += item.published
        except BaseException as error:  # readers see a part of it, and nobody knows which
            self.fail(error, commit)
            return
        self._flying -= len(commit.items)
        if published:
            self._listeners.tell(published)
        self._memory.trim()
        for item in commit.items:
            _resolve(item)
        self._is_crowded = (
            self._dirty_count > self._max_dirty or self.states.tally.all > self._max_fresh
        )
        if self.checkpoint_is_due:  # looked at once for each commit, not for each record
            self.shell.checkpoint_due()

    def commit_once(self) -> None:
        """Commits what waits, here and now.

        Raises:
            OSError: the disk failed, and the store has stopped.
        """
        commit = self.take_pending()
        try:
            self.write(commit)
        except OSError as error:
            self.fail(error, commit)
            raise
        self.committed(commit)

    def fail(self, error: BaseException, commit: Commit | None = None) -> None:
        """Stops the store: nothing is answered, written or tried again.

        Args:
            error: why; the first one stays.
            commit: what was being written.
        """
        is_first = self.failure is None
        if is_first:
            self.failure = error
            _log.critical("the store has stopped: %s", error)
        if commit is not None:
            self._abandon(commit)
        if is_first:
            self.shell.failed(error)

    # -- checkpoint ---------------------------------------------------------

    def checkpoint(self) -> Iterator[Where]:
        """Begins a checkpoint and returns its steps; they must be exhausted before another begins."""
        return Checkpoint(self, self._catalog).steps()

    def run_checkpoint(self, patience: float = math.inf) -> None:
        """Makes a checkpoint, here and now.

        Args:
            patience: seconds after which to give it up, before the catalog is written: the log holds all that it would write.

        Raises:
            OSError: the disk failed, and the store has stopped.
        """
        until = time.monotonic() + patience
        try:
            for where in self.checkpoint():
                capture = self._capture
                if capture and not capture.is_committed and time.monotonic() > until:
                    self._give_up_checkpoint(capture)
                    return
                if where is Where.DURABLE:
                    self.commit_once()
        except Exception as error:
            self.end_capture()
            self.fail(error)
            raise

    def begin_capture(self) -> Capture:
        """Notes what the catalog must be told, as of this moment: from now on a state is captured before it changes.

        Raises:
            RuntimeError: the store has stopped, or another checkpoint has not ended: its dirty states would be forgotten.
        """
        if self.failure is not None or self._capture is not None:
            raise RuntimeError(
                "a checkpoint cannot begin: the store has stopped, or one is running"
            )
        meta = Meta(
            self.wal.last_lsn,
            self._last_incarnation,
            self._session,
            wall_offset=self.timeline.offset,
            steady=self.timeline.floor,
            boot=self.timeline.boot,
            base=self.timeline.base,
        )
        self._capture = Capture(self, self._dirty, self._dirty_documents, meta)
        self._dirty, self._dirty_documents = {}, {}
        self.states.tally.take()
        self._since_checkpoint = self._dead = self._dead_logs = 0
        self._dead_are_due = False
        return self._capture

    def end_some_of_capture(self) -> bool:
        """Notes a part of what the catalog has from the capture; returns whether there is more before `end_capture`."""
        capture = self._capture
        if capture is None or not capture.is_committed:
            return False
        if capture.ending is None:
            capture.ending = capture.forget()
        return next(capture.ending, _NO_MORE) is not _NO_MORE

    def end_capture(self) -> None:
        """Ends the capture, if there is one: the catalog has it, or everything is as dirty as before. Whoever ends a checkpoint
        before its last step calls this too."""
        while self.end_some_of_capture():
            pass  # only if the checkpoint was cut short
        capture, self._capture = self._capture, None
        if capture is None:
            return
        self.states.tally.end(is_written=capture.is_committed)
        self._is_crowded = False  # the next commit looks again
        self._note_obstacle(capture.obstacle)
        for incarnation, damage in capture.damaged.items():
            self.states.note_damage(capture.states[incarnation], damage)
        if capture.is_committed:
            self._forget_captured(capture)
        else:
            self._keep_captured(capture)

    def _note_obstacle(self, obstacle: OSError | None) -> None:
        """Keeps why a checkpoint must be tried again; the head-room has its own lines for a full disk."""
        before, self.obstacle = self.obstacle, obstacle
        unsaid = NO_SPACE - {TOO_LARGE}
        if obstacle is not None and before is None and obstacle.errno not in unsaid:
            _log.error("checkpoints wait and are tried again every second: %s", obstacle)
        elif obstacle is None and before is not None and before.errno not in unsaid:
            _log.warning("checkpoints go on")

    def _keep_captured(self, capture: Capture) -> None:
        # What has changed since is added to what was taken, which may be much more.
        newer, self._dirty = self._dirty, capture.states
        self._dirty.update(newer)
        capture.keep()
        names, self._dirty_documents = self._dirty_documents, capture.names
        self._dirty_documents.update(names)

    def _forget_captured(self, capture: Capture) -> None:
        self.meta = capture.meta
        self._clock_is_due = self.meta.clock != self._kept_clock
        self.unlinked.clear()
        self.wal.recycle(capture.meta.lsn)
        self._memory.trim()
        self._lifetimes.refresh()

    def catalog_has(self, change: Put | Drop) -> None:
        """Notes that the catalog has a change."""
        if isinstance(change, Drop):
            self.states.dropped(change.path, change.incarnation)
            self.held.pop(change.incarnation, None)
        else:
            self.states.written(change.path, change.entry.incarnation)

    def log_has(self, work: FlushWork, *, is_held: bool) -> None:
        """Notes that a stream's log has its pieces, or that the catalog holds them for it."""
        incarnation, extent, pieces = work.incarnation, work.extent, work.pieces
        recent = self.states.recent.get(incarnation)
        before = self.held.pop(incarnation, 0)
        self.to_try.discard(incarnation)
        if recent is None or recent.gone:
            return
        known = max(extent.tail, before)  # what was held already is not counted
        self._unflushed -= recent.cost_after(known) - recent.cost_after(pieces.end)
        if is_held:
            self._hold(incarnation, pieces.end)
        else:
            recent.flushed, recent.entries = pieces.end, extent.entries + len(pieces)

    def _hold(self, incarnation: int, end: int) -> None:
        """Notes that the catalog holds a stream's bytes."""
        self.held[incarnation] = end
        _log.error(
            "%s may not grow: the system allows no larger file; its stream takes no more bytes",
            path_of(incarnation),
        )

    def make_ready(self, *, ballast: bool) -> None:
        """Makes the ballast and the log's next segment ready as far as the disk has room. On the thread of checkpoints, or at
        the start.

        Args:
            ballast: whether it may be made: not while a checkpoint has yet to be finished.
        """
        if self.wal.is_starved:
            self._allocate_ahead()
        if ballast and not self.wal.is_starved:
            self.headroom.make()
        self._allocate_ahead()

    def _allocate_ahead(self) -> None:
        while self.wal.wants_file():
            self.wal.add_file()
            if self.wal.is_starved and not self.headroom.give_up():
                self.headroom.lacks_room()
                return
            if self.wal.full and not self.wal.is_starved:
                return

    @property
    def is_pressed(self) -> bool:
        """Whether so many bytes wait for their logs that new records should wait too, before any must be refused."""
        return self._unflushed > self._max_unflushed // 2

    @property
    def found_disk_full(self) -> bool:
        """Whether the disk had no room for the last checkpoint, the ballast or a second segment."""
        return self.headroom.is_low or (
            self.obstacle is not None and self.obstacle.errno in NO_SPACE
        )

    @property
    def must_pause(self) -> bool:
        """Whether the next checkpoint would meet what the last one met: no room, or no file handles."""
        return self.headroom.is_low or self.obstacle is not None

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether records, dead bytes, a full disk or missing segments call for a checkpoint."""
        return (
            self._since_checkpoint > self._checkpoint_bytes
            or self._unflushed > self._flush_at
            or len(self._dirty) > self._max_dirty // _DIRTY_SHARE
            or self.states.tally.fresh > self._max_fresh // _DIRTY_SHARE
            or self._dead_are_due
            or self._clock_is_due
            or self.headroom.is_low
            or self.obstacle is not None
            or (self.wal.wants_file() and not self.wal.full)
        )

    # -- inside -------------------------------------------------------------

    def _give_up_checkpoint(self, capture: Capture) -> None:
        _log.warning(
            "%d streams are not in their logs yet: the write-ahead log has them, and the next start reads it",
            len(capture.states),
        )
        self.end_capture()

    def _record(self, changes: tuple[Change, ...], outcome: Outcome | None) -> Ticket[Outcome]:
        """Writes one record. Once it has its place in the log, nothing can be refused: what fails then stops the store, for
        later records could not be read behind the gap."""
        if self._unflushed > self._max_unflushed or self.headroom.is_low:
            self.shell.checkpoint_due()
            if claim_of(changes) is Claim.ORDINARY:
                raise disk_full() if self.found_disk_full else behind()
        if self._is_crowded:
            self._refuse_in_a_crowd(changes)
        if self.logs.largest is not None:
            self._refuse_larger_logs(changes)
        payload: Payload
        first = changes[0]
        if (len(changes) > 1 or type(first) is not Appended or len(first.data) >= LARGE) and (
            has_large(changes)
        ):
            payload = encode_in_parts(changes)
            size = size_of(payload)
        else:
            payload = _ENCODE(changes)
            size = len(payload)
        try:
            place = self.wal.reserve(size)
        except StreamError:
            place = self._reserve_the_rest(size, changes)
        try:
            published = [self._apply(change) for change in changes]
        except BaseException as error:
            self.fail(error)
            return Ticket.failed(Abandoned(error))
        ticket: Ticket[Outcome] = Ticket()
        self._flying += 1
        self._pending.append(InFlight(place, payload, published, ticket, outcome, None))
        self.shell.commit_due()
        self._since_checkpoint += size
        self._pending_bytes += size
        if isinstance(payload, tuple):
            self._has_large = True
        if self._unflushed > self._flush_at:
            self.shell.checkpoint_due()
        return ticket

    @property
    def _dirty_count(self) -> int:
        """How many streams are dirty, or were when the checkpoint that runs began."""
        return len(self._dirty) + (len(self._capture.states) if self._capture else 0)

    def _refuse_in_a_crowd(self, changes: tuple[Change, ...]) -> None:
        """Refuses a record that would make memory grow which only a checkpoint gives back."""
        self.shell.checkpoint_due()
        if claim_of(changes) is not Claim.ORDINARY:
            return
        if self.states.tally.all > self._max_fresh:
            raise disk_full() if self.found_disk_full else behind()
        if self._dirty_count > self._max_dirty:
            for change in changes:
                if (
                    not isinstance(change, SubscriptionChange)
                    and change.incarnation not in self._dirty
                ):
                    raise disk_full() if self.found_disk_full else behind()

    def _refuse_larger_logs(self, changes: tuple[Change, ...]) -> None:
        """Refuses a record whose bytes a log may not take."""
        for change in changes:
            if not isinstance(change, Appended) or not change.data:
                continue
            state = self.states.loaded(change.path)  # or the stream begins with this record
            recent = None if state is None else self.states.recent.get(change.incarnation)
            extent = (
                Extent(0, 0, 0)
                if recent is None
                else Extent(recent.base, change.start, recent.entries)
            )
            if not self.logs.takes(extent, recent.unflushed if recent else 0, len(change.data)):
                raise held.log_full()

    def _reserve_the_rest(self, size: int, changes: tuple[Change, ...]) -> Place:
        """Gives a record a place at the end of a segment, if it gives space back."""
        self.shell.checkpoint_due()
        claim = claim_of(changes)
        leaves = (
            self.wal.reserve_size
            if claim is Claim.ORDINARY
            else claim.leaves(self.wal.reserve_size)
        )
        return self.wal.reserve(size, leaves)

    def _answer(self, outcome: Outcome | None, refusal: StreamError | None) -> Ticket[Outcome]:
        """Answers from the newest state: at once, or after the records in flight that the answer may rest on."""
        ticket: Ticket[Outcome] = Ticket()
        item = InFlight(None, b"", [], ticket, outcome, refusal)
        if self._flying:
            self._flying += 1
            self._pending.append(item)
            self.shell.commit_due()
        else:
            _resolve(item)
        return ticket

    def _apply(self, change: Change) -> Published:
        """Applies a change to the newest states."""
        if isinstance(change, Appended):
            state = self.states[change.path]
            if self._capture is not None:
                self._capture.take(state)
            apply(self.states, change)
            self._dirty[state.incarnation] = state
            self._keep(state, change)
            return Published(change, state)
        if isinstance(change, SubscriptionChange):
            self._apply_to_subscriptions(change)
            return Published(change, None)
        for state in affected(self.states, change):
            if self._capture is not None:
                self._capture.take(state)
            self._dirty[state.incarnation] = state
        self.states.will_change(change)
        state = apply(self.states, change)
        self._dirty[state.incarnation] = state
        if isinstance(change, Created):
            self._last_incarnation = max(self._last_incarnation, change.incarnation)
            state.timeline = self.timeline
            self.states.created(state)
            self._lifetimes.add(state)
        elif isinstance(change, Removed):
            recent = self.states.recent[change.incarnation]
            self._unflushed -= recent.cost_after(
                max(recent.flushed, self.held.get(change.incarnation, 0))
            )
            recent.gone = True
            self._note_dead(state.tail - state.base)
        return Published(change, state)

    def _note_dead(self, size: int) -> None:
        """Has a checkpoint give back the space of a stream that has been removed."""
        self._dead += size
        self._dead_logs += 1
        if self._dead > self._flush_at:
            self._dead_are_due = True
        elif self._dead + self._dead_logs * PER_LOG >= SOON and not self._dead_are_due:
            self.shell.later(SOON_SECONDS, self._give_space_back)

    def _give_space_back(self) -> None:
        if self._dead_logs:
            self._dead_are_due = True  # also if a checkpoint runs now that began before they died
            self.shell.checkpoint_due()

    def _apply_to_subscriptions(self, change: SubscriptionChange) -> None:
        name = self.subscriptions.document_of(change)
        if self._capture is not None:
            self._capture.take_document(name)
        self.subscriptions.apply(change)
        self._dirty_documents[name] = None
        if isinstance(change, Subscribed):
            self._last_incarnation = max(self._last_incarnation, change.incarnation)

    def _keep(self, state: StreamState, change: Appended) -> None:
        """Keeps an append's bytes until a checkpoint has written them."""
        if change.data:
            recent = self.states.recent[state.incarnation]
            if len(change.data) > MARK_SPACING and state.media.kind is Kind.JSON:
                known = known_marks(self._command, change.data)
                pieces = cut(change.start, change.data, known)
                for end, data in pieces:
                    self._memory.add(recent, end, data)
                self._unflushed += len(change.data) + COST * len(pieces)
            else:
                self._memory.add(recent, state.tail, change.data)
                self._unflushed += len(change.data) + COST

    def _abandon(self, commit: Commit) -> None:
        """Ends the waits for what a failed store cannot know."""
        assert self.failure is not None
        self._flying -= len(commit.items)
        for item in commit.items:
            if item.ticket is not None:
                item.ticket.fail(Abandoned(self.failure))

    def _publish(self, published: Sequence[Published]) -> None:
        for item in published:
            change, state = item.change, item.state
            if state is not None:
                state.publish(cast(StreamChange, change))
                if not isinstance(change, Appended):
                    if isinstance(change, Removed) and self._capture is not None:
                        self._capture.take_rest(change.incarnation)
                    self.states.published(cast(StreamChange, change), state)

    def _note_use(self, state: StreamState) -> None:
        """Makes a read's effect on a sliding lifetime durable; nobody waits for it."""
        if self.failure is None and not state.removed:
            try:
                self._record((Touched(state.path, state.incarnation, state.touched_at),), None)
            except StreamError:
                return  # there is no room now; the next use tries again

    def _found_again(self, state: StreamState) -> StreamState | None:
        """Returns the newest state of a stream that has been let go; None if it has ended or is damaged."""
        try:
            found = self.states.get(state.path)
        except Damaged:
            return None
        return found if found is not None and found.incarnation == state.incarnation else None

    def _loaded(self, state: StreamState) -> None:
        state.timeline = self.timeline
        self._lifetimes.add(state)

    def _is_clean(self, state: StreamState) -> bool:
        """Whether the catalog alone can give a state back."""
        captured = self._capture is not None and state.incarnation in self._capture.states
        captured = captured or state.incarnation in self.held
        return not (captured or state.incarnation in self._dirty or self._lifetimes.keeps(state))

    def _read(self, incarnation: int, start: int, end: int) -> Ticket[bytes]:
        if start == end:
            return Ticket.of(b"")
        recent = self.states.recent.get(incarnation)
        if recent is None:
            recent = self._recent_of_ancestor(incarnation)
        if recent is None or end <= recent.begin:
            entries = None if recent is None else recent.entries
            return self._read_log(incarnation, start, end, entries)
        if start >= recent.begin:
            return Ticket.of(recent.read(start, end))
        newer = recent.read(recent.begin, end)
        older = self._read_log(incarnation, start, recent.begin, recent.entries)
        return older.then(lambda data: Ticket.of(data + newer))

    def _recent_of_ancestor(self, incarnation: int) -> Recent | None:
        """Loads a fork's source to learn how much of its log is proven; None if nothing is known of it any more."""
        try:
            return self.states.recent_of(incarnation)
        except (Damaged, NotFound):
            return None

    def _read_log(
        self, incarnation: int, start: int, end: int, entries: int | None
    ) -> Ticket[bytes]:
        read = partial(self.logs.read, incarnation, start, end, entries=entries)
        if end - start <= _READ_AT_ONCE or not self.shell.has_readers:
            data = read(ready_only=self.shell.has_readers)
            if data is not None:
                return Ticket.of(data)
        return self.shell.read(lambda: read() or b"")

    def _of_log(self, incarnation: int, read: Callable[[], Ticket[T]]) -> Ticket[T]:
        """Runs a read of a log; what is wrong becomes its ticket's failure, whichever thread finds it."""
        try:
            found = read()
        except (Damaged, OSError, StreamError) as error:
            return Ticket.failed(self._refusal_of(incarnation, error))
        if found.done:
            return found
        answer: Ticket[T] = Ticket()
        answer.on_cancel(found.cancel)

        def hand_over(done: Ticket[T]) -> None:
            try:
                answer.resolve(done.result())
            except Exception as error:
                answer.fail(self._refusal_of(incarnation, error))

        found.add_callback(hand_over)
        return answer

    def _refusal_of(self, incarnation: int, error: Exception) -> Exception:
        """Returns what a reader is told when a log cannot be read."""
        if isinstance(error, Damaged):
            return self._lost(incarnation, error)
        if isinstance(error, OSError) and error.errno in NO_HANDLES:
            return Unavailable("no file handle is free", "NO_FILE_HANDLES", retry_after=RETRY_SOON)
        return error

    def _lost(self, incarnation: int, damage: Damaged) -> StreamError:
        """Says why a log cannot be read: its stream may have been deleted in the middle of the read."""
        gone = incarnation in self.removed or incarnation in self.unlinked
        if gone or incarnation in self._catalog.garbage():
            return NotFound("there is no stream at this path")
        return _damaged(damage)

    def _marks(self, incarnation: int, position: int) -> Ticket[Marks]:
        recent = self.states.recent_of(incarnation)
        if position < recent.begin:
            look = partial(self.logs.marks, incarnation, recent.entries, recent.flushed, position)
            marks = look(ready_only=self.shell.has_readers)
            if marks is not None:
                return Ticket.of(marks)
            return self.shell.read(lambda: cast(Marks, look()))
        return Ticket.of(Marks(*recent.around(position)))

    def _take_held(self, documents: dict[str, bytes]) -> None:
        """Takes the bytes that the catalog holds for logs that could not grow. They are dirty: the next checkpoint tries again."""
        for name in filter(held.is_held, documents):
            document = held.decode(documents[name])
            state = self.states.get(document.path)
            if state is None or state.incarnation != held.incarnation_of(name):
                continue
            recent = self.states.recent[state.incarnation]
            for end, data in document.pieces:
                self._memory.add(recent, end, data)
            state.tail = state.visible_tail = document.pieces[-1][0] & ~INSIDE
            self.held[state.incarnation] = state.tail
            self._dirty[state.incarnation] = state
            self.to_try.add(state.incarnation)

    def _recover(self, readonly: bool) -> None:
        """Brings the catalog's state up to date with the log's records after it."""
        if (headless := lost_header(self._disk, self.meta.lsn)) is not None:
            raise Damaged(f"{headless}: its header is lost")  # or it would pass for a free one
        self.states.is_replaying = True
        is_first = self.meta.lsn == 0
        begun = self._replay(readonly)
        if is_first and (stray := self.logs.others(begun)) is not None:
            raise Damaged(f"catalog: it is lost, nothing tells whose log {stray} is")
        self.states.end_replay()
        self._expect_unnoted_uses()

    def _replay(self, readonly: bool) -> set[int]:
        """Applies the records after the catalog; returns the incarnations that they begin, if the catalog is empty."""
        begun: set[int] = set()
        is_first = self.meta.lsn == 0

        def apply(change: Change) -> None:
            self._apply_again(change)
            if is_first and isinstance(change, Created):
                begun.add(change.incarnation)

        replay = Replay(self.states, self._memory, self.timeline, apply, self.meta.aside)
        for run in self.wal.recover_runs(self.meta.lsn):
            cost = replay.run(run, self._dirty)
            self._unflushed += cost  # in two steps: `run` counts what `_apply` keeps
            is_too_much = (
                self._unflushed > _WHILE_STARTING * self._max_unflushed
                or len(self._dirty) > _WHILE_STARTING * self._max_dirty
                or self.states.tally.fresh > _WHILE_STARTING * self._max_fresh
            )
            if is_too_much and self.obstacle is None and not readonly:
                self._expect_unnoted_uses()
                self.run_checkpoint()
        return begun

    def _apply_again(self, change: Change) -> None:
        """Applies a change that was decided before a restart, and lets readers see it.

        Raises:
            KeyError: it was not decided on the state of its stream.
        """
        self._refuse_stranger(change)
        if isinstance(change, SubscriptionChange):
            self.timeline.reach(self.subscriptions.reached(change))
        elif isinstance(change, Appended | Created | Touched):
            self.timeline.reach(change.at)
        self._publish([self._apply(change)])

    def _refuse_stranger(self, change: Change) -> None:
        """Refuses a change that was not decided on the state of its stream, such as one from another directory's log.

        Raises:
            KeyError: it was not.
        """
        if isinstance(change, SubscriptionChange | Touched):
            return
        state = self.states.get(change.path)
        if isinstance(change, Created):
            follows = state is None
        else:
            follows = state is not None and state.incarnation == change.incarnation
        if isinstance(change, Appended) and state is not None:
            follows = follows and change.start == state.tail
        if not follows:
            raise KeyError(change.path)

    def _expect_unnoted_uses(self) -> None:
        """Gives what the log has brought up to date the time that the reads after it may have added."""
        for state in self._dirty.values():
            state.expect_uses_before_a_restart()


def _resolve(item: InFlight) -> None:
    if item.ticket is None:
        return
    if item.refusal is not None:
        item.ticket.fail(item.refusal)
    else:
        item.ticket.resolve(cast(Outcome, item.outcome))


def _guarded(read: Callable[[], Ticket[T]]) -> Ticket[T]:
    """Runs a read; what is wrong becomes its ticket's failure."""
    try:
        return read()
    except Damaged as damage:
        return Ticket.failed(_damaged(damage))
    except StreamError as refusal:
        return Ticket.failed(refusal)


def _damaged(damage: Damaged) -> StreamDamaged:
    _log.error("a stream is damaged: %s", damage)
    return damaged()

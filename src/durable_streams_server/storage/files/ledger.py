"""The ledger of a file store: the newest states, and which of these are not in the logs and the catalog yet.

`Commits` applies and publishes changes through the ledger. A checkpoint captures the dirty states with `begin_capture`, and reports with
`end_capture` which of them are on the disk.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

from ...log import log as _log
from ...protocol.commands import Command, known_marks
from ...protocol.limits import MARK_SPACING
from ...protocol.media import Kind
from ...protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    StreamChange,
    StreamState,
    affected,
    apply,
)
from ...protocol.subscriptions.changes import Subscribed, SubscriptionChange
from ...protocol.subscriptions.documents import document_name
from ...protocol.subscriptions.state import Subscriptions
from ...protocol.timeline import Timeline
from ..recent import COST, RecentCache, cut
from ..store import Published
from .capture import Capture
from .catalog.entries import Catalog, Drop, Meta, Put
from .disk import NO_SPACE, TOO_LARGE
from .flush import FlushWork
from .headroom import PER_LOG, SOON, SOON_SECONDS, Headroom
from .lifetimes import Lifetimes
from .limits import DUE_SHARE, Limits
from .log_layout import path_of
from .logs import Logs
from .shell import Shell
from .states import States
from .wal import Wal

_SLICE: Final = 500  # states and logs marked as written in one step
_END: Final = object()


class Ledger:
    """Keeps the newest states of one store, and tracks which of them are dirty.

    Args:
        catalog: the store's catalog.
        logs: the store's logs.
        wal: the store's write-ahead log.
        headroom: the space reserved for a full disk.
        timeline: the store's steady time.
        subscriptions: the newest states of all subscriptions.
        limits: the store's limits of memory.
        note_use: makes a stream's last use durable.

    Attributes:
        states: the newest states of streams.
        memory: the budget of recent bytes.
        lifetimes: the deadlines of streams.
        meta: the catalog's metadata as last committed.
        last_incarnation: the newest incarnation in use.
        streams: the number of streams, deleted ones included that are kept for their forks.
        stored: the bytes of all these streams.
        shell: runs the store's commits and checkpoints.
        dirty: the streams that changed since the last checkpoint began, by incarnation.
        dirty_documents: the names of subscription documents that changed since then.
        capture: the capture of the running checkpoint; None if there is none.
        unflushed: bytes of memory for appends that are not in a log yet.
        new_bytes: bytes of records since the last checkpoint began.
        is_crowded: whether too many streams or producers are dirty; updated at each commit.
        held: the streams whose logs may not grow, each with the position up to which the catalog holds its bytes.
        to_try: the held streams whose logs the next checkpoint tries to extend. Each opening of the store tries once.
        removed: logs that the last checkpoint deleted and that the catalog still lists as garbage.
        unlinked: logs that a checkpoint deleted before the catalog recorded their streams' removal.
        obstacle: the error that the last checkpoint met, if the checkpoint must be tried again.
    """

    shell: Shell

    def __init__(
        self,
        catalog: Catalog,
        logs: Logs,
        wal: Wal,
        headroom: Headroom,
        timeline: Timeline,
        subscriptions: Subscriptions,
        limits: Limits,
        note_use: Callable[[StreamState], None],
    ) -> None:
        self.meta = catalog.meta()
        self.last_incarnation = self.meta.last_incarnation
        self.streams, self.stored = self.meta.streams, catalog.stored_bytes()
        self.headroom = headroom
        self.dirty: dict[int, StreamState] = {}
        self.dirty_documents: dict[str, None] = {}
        self.capture: Capture | None = None
        self.unflushed = self.new_bytes = 0
        self.is_crowded = False
        self.held: dict[int, int] = {}
        self.to_try: set[int] = set()
        self.removed: list[int] = []
        self.unlinked: set[int] = set()
        self.obstacle: OSError | None = None
        self._wal = wal
        self._timeline = timeline
        self._subscriptions = subscriptions
        self._session = self.meta.session + 1
        self.max_unflushed = limits.max_unflushed
        self.flush_bytes = limits.flush_bytes
        self.max_dirty = limits.max_dirty
        self.max_fresh_producers = limits.max_fresh_producers
        self._checkpoint_bytes = limits.checkpoint_bytes
        self._dead_logs = self._dead_bytes = 0  # of streams removed since the checkpoint began
        self._space_is_due = False  # whether a checkpoint must free the space of dead logs
        self._clock_is_due = False  # whether a checkpoint must write the parameters of steady time
        self._ending: Iterator[None] | None = None  # the running iterator of `_mark_written`
        self.memory = RecentCache(limits.recent_limit)
        self.states = States(
            catalog,
            logs,
            self.memory,
            self._session,
            limits.max_loaded,
            self._is_clean,
            self._begin_lifetime,
        )
        self.lifetimes = Lifetimes(catalog, self.states, note_use, timeline)

    # -- changes ------------------------------------------------------------

    def apply(self, change: Change, command: Command | None = None) -> Published:
        """Applies a change to the newest states.

        Args:
            change: the change; its record has a place in the write-ahead log.
            command: the command that the change came from, if there is one. It may already have the marks of a large JSON body.
        """
        if isinstance(change, Appended):
            state = self.states[change.path]
            if self.capture is not None:
                self.capture.take(state)
            state.append(change)
            self.dirty[state.incarnation] = state
            if change.data:
                self._keep_bytes(state, change, command)
            return Published(change, state)
        if isinstance(change, SubscriptionChange):
            self._apply_to_subscriptions(change)
            return Published(change, None)
        for state in affected(self.states, change):
            if self.capture is not None:
                self.capture.take(state)
            self.dirty[state.incarnation] = state
        self.states.keep_visible(change)
        state = apply(self.states, change)
        self.dirty[state.incarnation] = state
        if isinstance(change, Created):
            self.last_incarnation = max(self.last_incarnation, change.incarnation)
            self.streams += 1
            self.states.add(state)
            self._begin_lifetime(state)
        elif isinstance(change, Removed):
            self._count_dead(state)
        return Published(change, state)

    def publish(self, published: Sequence[Published]) -> None:
        """Shows readers the changes of a record that has become durable."""
        for item in published:
            change, state = item.change, item.state
            if state is not None:
                state.publish(cast(StreamChange, change))
                if not isinstance(change, Appended):
                    if isinstance(change, Removed) and self.capture is not None:
                        self.capture.take_rest(change.incarnation)
                    self.states.publish(cast(StreamChange, change), state)

    def _keep_bytes(self, state: StreamState, change: Appended, command: Command | None) -> None:
        """Keeps an append's bytes in memory until a checkpoint has written them."""
        recent = self.states.recent[state.incarnation]
        size = len(change.data)
        self.stored += size
        if size > MARK_SPACING and state.media.kind is Kind.JSON:
            pieces = cut(change.start, change.data, known_marks(command, change.data))
            for end, data in pieces:
                self.memory.add(recent, end, data)
            self.unflushed += size + COST * len(pieces)
        else:
            self.memory.add(recent, state.tail, change.data)
            self.unflushed += size + COST

    def _apply_to_subscriptions(self, change: SubscriptionChange) -> None:
        name = document_name(change)
        if self.capture is not None:
            self.capture.take_document(name)
        self._subscriptions.apply(change)
        self.dirty_documents[name] = None
        if isinstance(change, Subscribed):
            self.last_incarnation = max(self.last_incarnation, change.incarnation)

    def _count_dead(self, state: StreamState) -> None:
        """Counts the space of a removed stream, and asks for a checkpoint if enough space can be freed."""
        size = state.tail - state.base
        self.streams -= 1
        self.stored -= size
        recent = self.states.recent[state.incarnation]
        held_end = self.held.get(state.incarnation, 0)
        self.unflushed -= recent.cost_after(max(recent.flushed, held_end))
        recent.gone = True
        self._dead_bytes += size
        self._dead_logs += 1
        if self._dead_bytes > self.flush_bytes:
            self._space_is_due = True
        elif self._dead_bytes + self._dead_logs * PER_LOG >= SOON and not self._space_is_due:
            self.shell.call_later(SOON_SECONDS, self._ask_for_space)

    def _ask_for_space(self) -> None:
        if self._dead_logs:
            # The flag outlives a checkpoint that is running now, which began before these streams were removed.
            self._space_is_due = True
            self.shell.checkpoint_due()

    def _begin_lifetime(self, state: StreamState) -> None:
        """Begins to track the deadline of a stream that was created or loaded."""
        state.timeline = self._timeline
        self.lifetimes.add(state)

    # -- dirty states -------------------------------------------------------

    def _is_clean(self, state: StreamState) -> bool:
        """Returns whether a state can be evicted, because the catalog alone can restore it."""
        captured = self.capture is not None and state.incarnation in self.capture.states
        captured = captured or state.incarnation in self.held
        return not (
            captured or state.incarnation in self.dirty or self.lifetimes.needs_in_memory(state)
        )

    @property
    def dirty_count(self) -> int:
        """The number of dirty streams, including those that the running checkpoint has captured."""
        return len(self.dirty) + (len(self.capture.states) if self.capture else 0)

    def update_crowding(self) -> None:
        """Updates `is_crowded`. Call it once for each commit, because every record reads the flag."""
        captured = len(self.capture.states) if self.capture else 0
        self.is_crowded = (
            len(self.dirty) + captured > self.max_dirty
            or self.states.tally.all > self.max_fresh_producers
        )

    @property
    def is_pressed(self) -> bool:
        """Whether new records should wait, because more than half of the unflushed memory is in use."""
        return self.unflushed > self.max_unflushed // 2

    @property
    def found_disk_full(self) -> bool:
        """Whether the disk had no room for the last checkpoint, the ballast or a second segment."""
        return self.headroom.is_low or (
            self.obstacle is not None and self.obstacle.errno in NO_SPACE
        )

    @property
    def must_pause(self) -> bool:
        """Whether the next checkpoint would fail like the last one, for lack of disk space or of file handles."""
        return self.headroom.is_low or self.obstacle is not None

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether a checkpoint is due because of records, memory, dead bytes, a full disk or missing segments."""
        return (
            self.new_bytes > self._checkpoint_bytes
            or self.unflushed > self.flush_bytes
            or len(self.dirty) > self.max_dirty // DUE_SHARE
            or self.states.tally.fresh > self.max_fresh_producers // DUE_SHARE
            or self._space_is_due
            or self._clock_is_due
            or self.headroom.is_low
            or self.obstacle is not None
            or (self._wal.wants_file() and not self._wal.full)
        )

    @property
    def clock(self) -> tuple[int, str, int]:
        """The parameters with which a restarted server continues steady time, in the form of `Meta.clock`."""
        return self._timeline.offset, self._timeline.boot, self._timeline.base

    def clock_was_set(self) -> None:
        """Makes a checkpoint due, because a restarted server continues steady time from the catalog's parameters."""
        # The flag outlives a checkpoint that is running now, which began before the clock was set.
        self._clock_is_due = True
        self.shell.checkpoint_due()

    # -- checkpoints --------------------------------------------------------

    def begin_capture(self) -> Capture:
        """Begins to capture the dirty states. From now on, a state is captured before it changes."""
        meta = Meta(
            self._wal.last_lsn,
            self.last_incarnation,
            self._session,
            wall_offset=self._timeline.offset,
            steady=self._timeline.floor,
            boot=self._timeline.boot,
            base=self._timeline.base,
            stored=self.stored,
        )
        self.capture = Capture(
            self.dirty,
            self.dirty_documents,
            meta,
            recent=self.states.recent,
            held=self.held,
            to_try=self.to_try,
            document=self._subscriptions.document,
        )
        self.dirty, self.dirty_documents = {}, {}
        self.states.tally.take()
        self.new_bytes = self._dead_bytes = self._dead_logs = 0
        self._space_is_due = False
        return self.capture

    def end_some_of_capture(self) -> bool:
        """Marks some of the captured states as written, and returns whether more are left.

        Call it until it returns False, and then call `end_capture`.
        """
        capture = self.capture
        if capture is None or not capture.is_committed:
            return False
        if self._ending is None:
            self._ending = self._mark_written(capture)
        return next(self._ending, _END) is not _END

    def end_capture(self) -> None:
        """Ends the capture, if there is one. If the catalog was not committed, the captured states are dirty again.

        Call it also to end a checkpoint before its last step.
        """
        while self.end_some_of_capture():
            pass  # only if the checkpoint ends before its last step
        capture, self.capture, self._ending = self.capture, None, None
        if capture is None:
            return
        self.states.tally.end(is_written=capture.is_committed)
        self.is_crowded = False  # the next commit updates it
        self._note_obstacle(capture.obstacle)
        for incarnation, damage in capture.damaged.items():
            self.states.note_damage(capture.states[incarnation], damage)
        if capture.is_committed:
            self._forget_captured(capture)
        else:
            self._keep_captured(capture)

    def _mark_written(self, capture: Capture) -> Iterator[None]:
        """Marks the captured states as written, and yields after each slice."""
        count = 0
        for change in capture.changes:
            self._mark_in_catalog(change)
            count += 1
            if count % _SLICE == 0:
                yield
        for work in capture.flushes:
            self._mark_in_log(work, is_held=work.incarnation in capture.too_large)
            count += 1
            if count % _SLICE == 0:
                yield
        for producers in capture.advanced:
            producers.forget_taken()
            count += 1
            if count % _SLICE == 0:
                yield

    def _mark_in_catalog(self, change: Put | Drop) -> None:
        if isinstance(change, Drop):
            self.states.note_dropped(change.path, change.incarnation)
            self.held.pop(change.incarnation, None)
        else:
            self.states.note_written(change.path, change.entry.incarnation)

    def _mark_in_log(self, work: FlushWork, *, is_held: bool) -> None:
        """Marks a stream's pieces as written to its log, or as held by the catalog because the log may not grow."""
        incarnation, extent, pieces = work.incarnation, work.extent, work.pieces
        recent = self.states.recent.get(incarnation)
        held_before = self.held.pop(incarnation, 0)
        self.to_try.discard(incarnation)
        if recent is None or recent.gone:
            return
        known = max(
            extent.tail, held_before
        )  # bytes that were held before do not count as unflushed
        self.unflushed -= recent.cost_after(known) - recent.cost_after(pieces.end)
        if not is_held:
            recent.flushed, recent.entries = pieces.end, extent.entries + len(pieces)
            return
        self.held[incarnation] = pieces.end
        _log.error(
            "%s may not grow: the system allows no larger file; its stream takes no more bytes",
            path_of(incarnation),
        )

    def _note_obstacle(self, obstacle: OSError | None) -> None:
        """Stores the error that the checkpoint met, and logs it. `Headroom` logs a full disk itself."""
        before, self.obstacle = self.obstacle, obstacle
        unsaid = NO_SPACE - {TOO_LARGE}
        if obstacle is not None and before is None and obstacle.errno not in unsaid:
            _log.error("checkpoints wait and are tried again every second: %s", obstacle)
        elif obstacle is None and before is not None and before.errno not in unsaid:
            _log.warning("checkpoints go on")

    def _keep_captured(self, capture: Capture) -> None:
        # Adds the newer states to the captured ones, not the other way round, because there may be far more captured ones.
        newer, self.dirty = self.dirty, capture.states
        self.dirty.update(newer)
        capture.give_back()
        names, self.dirty_documents = self.dirty_documents, capture.names
        self.dirty_documents.update(names)

    def _forget_captured(self, capture: Capture) -> None:
        self.meta = capture.meta
        self._clock_is_due = self.meta.clock != self.clock
        self.unlinked.clear()
        self._wal.recycle(capture.meta.lsn)
        self.memory.trim()
        self.lifetimes.refresh()

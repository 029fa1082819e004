"""A checkpoint: bytes to the logs, states to the catalog, and segments of the write-ahead log free again.

The catalog becomes what every stream was at one record. That moment costs the loop nothing: the dirty states are taken in
slices, and one that is about to change is taken first.
"""

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ...protocol.producers import ProducerState
from ...protocol.state import StreamState
from .catalog import Catalog, Drop, Meta, Put, entry_of
from .disk import NO_HANDLES, NO_SPACE
from .logs import Extent, FlushWork, words_of

if TYPE_CHECKING:
    from .store import FileStore

_SLICE: Final = 200  # states taken at once
_LOGS: Final = 1000  # logs written in one step: a stop waits for one step at most


class Where(enum.Enum):
    """What a checkpoint's next step needs."""

    LOOP = "loop"  # the loop's thread, when it has time
    DURABLE = "durable"  # the loop's thread, after more records have become durable
    DISK = "disk"  # any other thread: it waits for the disk


class Capture:
    """What the catalog is to be told.

    Args:
        store: the store.
        states: the dirty states.
        progress: what their producers have done since the last checkpoint.
        names: the documents of subscriptions that have changed.
        meta: what the catalog is true for with them.

    Attributes:
        states: as given, all of them.
        names: as given, all of them.
        changes: what the catalog is told.
        flushes: what the logs must have before.
        documents: what the catalog is told of subscriptions.
        obstacle: why the catalog could not be told, if that can be tried again.
        is_committed: whether the catalog has been told; from then on its logs' ends are proven by it.
        damaged: logs that could not take their bytes, which are kept beside them, and why.
    """

    def __init__(
        self,
        store: "FileStore",
        states: dict[int, StreamState],
        progress: dict[int, dict[bytes, ProducerState]],
        names: dict[str, None],
        meta: Meta,
    ) -> None:
        self._store = store
        self._waiting = dict(states)
        self.states = states
        self.progress = progress
        self._waiting_names = dict(names)
        self.names = names
        self.documents: dict[str, bytes | None] = {}
        self.meta = meta
        self.changes: list[Put | Drop] = []
        self.flushes: list[FlushWork] = []
        self.obstacle: OSError | None = None
        self.is_committed = False
        self.damaged: dict[int, str] = {}

    def take(self, state: StreamState) -> None:
        """Takes a state as it is now, if it has not been taken yet."""
        incarnation = state.incarnation
        if self._waiting.pop(incarnation, None) is None:
            return
        if state.removed:
            self.changes.append(Drop(state.path, incarnation))
            return
        recent = self._store.states.recent[incarnation]
        extent = Extent(recent.base, recent.flushed, recent.entries)
        pieces = recent.pieces(recent.flushed, state.tail)
        entry = entry_of(state, extent.entries + len(pieces), self.meta.session)
        self.changes.append(Put(state.path, entry, self.progress.get(incarnation, {})))
        if pieces:
            words = None if extent.entries else words_of(state)
            self.flushes.append(FlushWork(incarnation, extent, pieces, words))

    def take_document(self, name: str) -> None:
        """Takes a document as it is now, if it has not been taken yet."""
        if name in self._waiting_names:
            del self._waiting_names[name]
            self.documents[name] = self._store.subscriptions.document(name)

    def take_some(self) -> bool:
        """Takes a slice; returns whether there is more."""
        for _ in range(min(_SLICE, len(self._waiting))):
            self.take(next(iter(self._waiting.values())))
        for _ in range(min(_SLICE, len(self._waiting_names))):
            self.take_document(next(iter(self._waiting_names)))
        return bool(self._waiting or self._waiting_names)


class Checkpoint:
    """One checkpoint of a store. `steps` says before each of its steps where that must run."""

    def __init__(self, store: "FileStore", catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    def steps(self) -> Iterator[Where]:
        """Runs the checkpoint.

        Raises:
            OSError: the disk failed; the store must stop.
        """
        store = self._store
        capture = store.begin_capture()
        while capture.take_some():
            yield Where.LOOP
        while store.wal.durable_lsn < capture.meta.lsn:
            yield Where.DURABLE
        yield Where.DISK
        while not capture.is_committed:
            try:
                yield from self._write(capture)
            except OSError as error:
                if error.errno not in NO_SPACE | NO_HANDLES:
                    raise
                # The catalog is as it was, so nothing that was written counts.
                capture.obstacle = error
                if error.errno not in NO_SPACE or not self._make_room(capture):
                    break
        yield Where.LOOP
        store.end_capture()
        yield Where.DISK
        self._tidy(capture.is_committed)

    def _write(self, capture: Capture) -> Iterator[Where]:
        """Writes the logs, then the catalog."""
        store = self._store
        store.check_place()  # or the bytes would go into whatever has taken the directory's place
        flush = store.logs.begin_flush(len(capture.flushes))
        for begin in range(0, len(capture.flushes), _LOGS):
            if begin:
                yield Where.DISK
            flush.write(capture.flushes[begin : begin + _LOGS])
        flush.sync()
        capture.damaged = flush.damaged
        self._commit(capture)
        store.check_place()  # before the log's segments are used again
        capture.is_committed, capture.obstacle = True, None

    def _commit(self, capture: Capture) -> None:
        """Writes the catalog, once the logs are durable."""
        store = self._store
        is_news = capture.meta.lsn > store.meta.lsn or store.removed
        if is_news or capture.meta.clock != store.meta.clock:
            # A path's old life comes before its new one.
            order = sorted(capture.changes, key=_incarnation)
            self._catalog.commit(capture.meta, order, store.removed, capture.documents)
            store.removed = []

    def _make_room(self, capture: Capture) -> bool:
        """Makes room on a full disk; False if nothing is left to give. What the capture drops is durably deleted."""
        store = self._store
        dropped = {change.incarnation for change in capture.changes if isinstance(change, Drop)}
        dead = sorted(dropped - store.unlinked)
        if dead:
            store.unlinked.update(dead)
            store.logs.remove(dead)
            return True
        if store.headroom.give_up():
            return True
        store.headroom.lacks_room()
        return False

    def _tidy(self, done: bool) -> None:
        """Removes the logs of streams that are gone, and makes the ballast and the next segment ready."""
        store = self._store
        store.check_place()
        if done:
            self._catalog.tidy()
        if done and (garbage := self._catalog.garbage()):
            store.logs.remove(garbage)
            store.removed = garbage
        try:
            store.make_ready(ballast=done)
        except OSError as error:
            if error.errno not in NO_HANDLES:
                raise
            store.obstacle = error


def _incarnation(change: Put | Drop) -> int:
    return change.incarnation if isinstance(change, Drop) else change.entry.incarnation

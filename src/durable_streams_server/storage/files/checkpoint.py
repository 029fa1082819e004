"""A checkpoint: bytes to the logs, states to the catalog, and segments of the write-ahead log free again.

The catalog becomes what every stream was at one record. That moment costs the loop nothing: the dirty states are taken in
slices, and one that is about to change is taken first. Their bytes follow (`gather.py`).
"""

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from ...protocol.producers import ProducerState
from ...protocol.state import StreamState
from . import held
from .catalog import Catalog, Drop, Entry, Meta, Put, entry_of
from .disk import NO_HANDLES, NO_SPACE, TOO_LARGE
from .gather import Gathering
from .logs import Extent
from .producers import StoredProducers

if TYPE_CHECKING:
    from .store import FileStore

# A step on the loop is bounded by counts, not by a clock, so that a simulated run can be repeated. Each takes about a millisecond.
_SLICE: Final = 200  # states taken at once
_PIECES: Final = 1000  # appends whose bytes are taken at once: about 0.5 ms
_DOCUMENT_BYTES: Final = 256 * 1024  # or so many bytes of documents
_FORGOTTEN: Final = 500  # states and changes whose end is noted at once
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
        too_large: logs that may not grow; the catalog holds their bytes.
    """

    def __init__(
        self,
        store: "FileStore",
        states: dict[int, StreamState],
        names: dict[str, None],
        meta: Meta,
    ) -> None:
        self._store = store
        self._waiting = dict(states)
        self.states = states
        self._advanced: list[StoredProducers] = []  # those of which something was taken
        self._waiting_names = dict(names)
        self.names = names
        self.documents: dict[str, bytes | None] = {}
        self.meta = meta
        self.changes: list[Put | Drop] = []
        self._gathering = Gathering()
        self.flushes = self._gathering.flushes
        self.obstacle: OSError | None = None
        self.is_committed = False
        self.damaged: dict[int, str] = {}
        self.too_large: set[int] = set()
        self.ending: Iterator[None] | None = None  # `forget`, once it has begun

    def take(self, state: StreamState) -> None:
        """Takes a state as it is now, if it has not been taken yet. Its bytes are taken later."""
        if self._waiting.pop(state.incarnation, None) is not None:
            self._take(state)

    def take_rest(self, incarnation: int) -> None:
        """Takes what is left to be taken of a stream's bytes, which are about to be forgotten."""
        self._gathering.take_rest(incarnation)

    def _take(self, state: StreamState) -> None:
        incarnation = state.incarnation
        if state.removed:
            self.changes.append(Drop(state.path, incarnation))
            return
        recent = self._store.states.recent[incarnation]
        extent = Extent(recent.base, recent.flushed, recent.entries)
        is_held = self._store.held.get(incarnation) == state.tail
        if is_held and incarnation not in self._store.to_try:
            entry = _ending_at(entry_of(state, 0, self.meta.session), extent)
        else:
            count = self._gathering.add(state, recent, extent)
            entry = entry_of(state, extent.entries + count, self.meta.session)
        self.changes.append(Put(state.path, entry, self._progress_of(state)))

    def _progress_of(self, state: StreamState) -> dict[bytes, ProducerState]:
        """Takes what a stream's producers have done since the last checkpoint."""
        producers = state.producers
        assert isinstance(producers, StoredProducers)
        progress = producers.take()
        if progress:
            self._advanced.append(producers)
        return progress

    def hold(self, too_large: set[int]) -> None:
        """Gives the catalog the bytes of logs that may not grow, and takes back from it those of logs that have grown."""
        self.too_large = too_large
        if not too_large and not self._store.held:
            return
        works = {item.incarnation: item for item in self.flushes}
        for at, change in enumerate(self.changes):
            if isinstance(change, Drop):
                if change.incarnation in self._store.held:
                    self.documents[held.name_of(change.incarnation)] = None
                continue
            incarnation = change.entry.incarnation
            if incarnation in too_large:
                extent, pieces = works[incarnation].extent, works[incarnation].pieces
                self.documents[held.name_of(incarnation)] = held.encode(change.path, pieces)
                entry = _ending_at(change.entry, extent)
                self.changes[at] = Put(change.path, entry, change.producers)
            elif incarnation in works and incarnation in self._store.held:
                self.documents[held.name_of(incarnation)] = None

    def take_document(self, name: str) -> int:
        """Takes a document as it is now, if it has not been taken yet; returns its size."""
        return 0 if self._waiting_names.pop(name, 0) is not None else self._take_document(name)

    def _take_document(self, name: str) -> int:
        document = self.documents[name] = self._store.subscriptions.document(name)
        return 0 if document is None else len(document)

    def take_some(self) -> bool:
        """Takes a slice; returns whether there is more."""
        taken = size = 0
        while self._waiting and taken < _SLICE:
            # `popitem` takes the newest. To find the oldest of a dict means to pass all that were taken out of it.
            self._take(self._waiting.popitem()[1])
            taken += 1
        while self._waiting_names and taken < _SLICE and size < _DOCUMENT_BYTES:
            size += self._take_document(self._waiting_names.popitem()[0])
            taken += 1
        if not taken:
            self._gathering.take_some(_PIECES)
        is_complete = self._gathering.is_complete
        return bool(self._waiting or self._waiting_names or not is_complete)

    def forget(self) -> Iterator[None]:
        """Notes in the store what the catalog has; a pause after each slice."""
        store = self._store
        count = 0
        for change in self.changes:
            store.catalog_has(change)
            count += 1
            if count % _FORGOTTEN == 0:
                yield
        for work in self.flushes:
            store.log_has(work, is_held=work.incarnation in self.too_large)
            count += 1
            if count % _FORGOTTEN == 0:
                yield
        for producers in self._advanced:
            producers.written()
            count += 1
            if count % _FORGOTTEN == 0:
                yield

    def keep(self) -> None:
        """Notes that the catalog has nothing of this."""
        for producers in self._advanced:
            producers.keep()


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
                is_full = error.errno in NO_SPACE and error.errno != TOO_LARGE
                if not is_full or not self._make_room(capture):
                    break
        yield Where.LOOP
        while store.end_some_of_capture():
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
        capture.hold(flush.too_large)
        self._commit(capture)
        store.check_place()  # before the log's segments are used again
        capture.is_committed, capture.obstacle = True, None

    def _commit(self, capture: Capture) -> None:
        """Writes the catalog, once the logs are durable."""
        store = self._store
        is_news = capture.meta.lsn > store.meta.lsn or store.removed or capture.documents
        if is_news or capture.meta.clock != store.meta.clock:
            # A path's old life comes before its new one.
            order: list[Put | Drop] = [each for each in capture.changes if isinstance(each, Drop)]
            order += [each for each in capture.changes if isinstance(each, Put)]
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


def _ending_at(entry: Entry, extent: Extent) -> Entry:
    """Returns an entry that says where a log ends, not where its stream does."""
    return msgspec.structs.replace(entry, tail=extent.tail, index_entries=extent.entries)

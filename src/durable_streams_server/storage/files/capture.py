"""The states and bytes that one checkpoint writes, captured in slices while the event loop serves clients.

A checkpoint writes every stream as it was at one record. Capturing all dirty states at that moment would block the event loop. So
`Capture` works in slices, and captures a state out of turn if it is about to change. The states' bytes are captured later (`gather.py`).
"""

from collections.abc import Callable, Container, Mapping
from typing import Final

import msgspec

from ...protocol.producers import ProducerState
from ...protocol.state import StreamState
from ..recent import Recent
from . import held
from .catalog import Entry
from .catalog.entries import Drop, Meta, Put, entry_of
from .gather import Gathering
from .log_layout import Extent
from .producers import StoredProducers

# Counts instead of a clock limit each step on the event loop, so that a simulated run can be repeated. Each step takes about 1 ms.
_SLICE: Final = 200  # states captured in one step
_PIECES: Final = 1000  # appends whose bytes are captured in one step: about 0.5 ms
_DOCUMENT_BYTES: Final = 256 * 1024  # bytes of documents captured in one step


class Capture:
    """Collects the changes that one checkpoint writes to the logs and to the catalog.

    Args:
        states: the dirty states by incarnation.
        names: the names of the subscription documents that have changed.
        meta: the catalog's metadata as of the capture's record.
        recent: the newest bytes of every loaded stream, by incarnation.
        held: the streams whose logs may not grow, each with the position up to which the catalog holds its bytes.
        to_try: the held streams whose logs the checkpoint tries to extend.
        document: returns a document by its name; None if it was deleted.

    Attributes:
        states: all states, as given.
        names: all names, as given.
        meta: the metadata, as given.
        changes: the changes of the catalog's entries.
        flushes: the bytes that the logs must have before the catalog is committed.
        documents: the changed documents by name; None deletes a document.
        advanced: the producers whose fresh states were captured.
        obstacle: the error that prevented the commit of the catalog, if the checkpoint can be tried again.
        is_committed: whether the catalog has committed the capture. From then on the catalog proves where the logs end.
        damaged: the logs to which bytes could not be written, each with the reason. The bytes are kept beside these logs.
        too_large: the logs that may not grow. The catalog holds their bytes.
    """

    def __init__(
        self,
        states: dict[int, StreamState],
        names: dict[str, None],
        meta: Meta,
        *,
        recent: Mapping[int, Recent],
        held: Mapping[int, int],
        to_try: Container[int],
        document: Callable[[str], bytes | None],
    ) -> None:
        self._recent = recent
        self._held = held
        self._to_try = to_try
        self._document = document
        self._waiting = dict(states)
        self.states = states
        self.advanced: list[StoredProducers] = []
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

    def take(self, state: StreamState) -> None:
        """Captures a state as it is now, unless the state is captured already. The state's bytes are captured later."""
        if self._waiting.pop(state.incarnation, None) is not None:
            self._take(state)

    def take_rest(self, incarnation: int) -> None:
        """Captures the rest of a stream's bytes at once, because the store is about to drop them from memory."""
        self._gathering.take_rest(incarnation)

    def take_document(self, name: str) -> int:
        """Captures a document as it is now, unless the document is captured already, and returns its size in bytes."""
        return 0 if self._waiting_names.pop(name, 0) is not None else self._take_document(name)

    def take_some(self) -> bool:
        """Captures the next slice of states, documents or bytes, and returns whether anything is left."""
        taken = size = 0
        while self._waiting and taken < _SLICE:
            # `popitem` removes the newest state. To find the oldest, a dict would have to skip all entries removed before.
            self._take(self._waiting.popitem()[1])
            taken += 1
        while self._waiting_names and taken < _SLICE and size < _DOCUMENT_BYTES:
            size += self._take_document(self._waiting_names.popitem()[0])
            taken += 1
        if not taken:
            self._gathering.take_some(_PIECES)
        is_complete = self._gathering.is_complete
        return bool(self._waiting or self._waiting_names or not is_complete)

    def hold(self, too_large: set[int]) -> None:
        """Adds documents with the bytes of logs that may not grow, and deletes the documents of logs that have grown meanwhile."""
        self.too_large = too_large
        if not too_large and not self._held:
            return
        works = {item.incarnation: item for item in self.flushes}
        for at, change in enumerate(self.changes):
            if isinstance(change, Drop):
                if change.incarnation in self._held:
                    self.documents[held.name_of(change.incarnation)] = None
                continue
            incarnation = change.entry.incarnation
            if incarnation in too_large:
                extent, pieces = works[incarnation].extent, works[incarnation].pieces
                self.documents[held.name_of(incarnation)] = held.encode(change.path, pieces)
                entry = _ending_at(change.entry, extent)
                self.changes[at] = Put(change.path, entry, change.producers)
            elif incarnation in works and incarnation in self._held:
                self.documents[held.name_of(incarnation)] = None

    def give_back(self) -> None:
        """Marks the captured states of producers as fresh again, because the catalog was not committed."""
        for producers in self.advanced:
            producers.give_back()

    def _take(self, state: StreamState) -> None:
        incarnation = state.incarnation
        if state.removed:
            self.changes.append(Drop(state.path, incarnation))
            return
        recent = self._recent[incarnation]
        extent = Extent(recent.base, recent.flushed, recent.entries)
        is_held = self._held.get(incarnation) == state.tail
        if is_held and incarnation not in self._to_try:
            entry = _ending_at(entry_of(state, 0, self.meta.session), extent)
        else:
            count = self._gathering.add(state, recent, extent)
            entry = entry_of(state, extent.entries + count, self.meta.session)
        self.changes.append(Put(state.path, entry, self._take_producers(state)))

    def _take_producers(self, state: StreamState) -> dict[bytes, ProducerState]:
        """Returns the states of a stream's producers that changed since the last checkpoint, and marks them as captured."""
        producers = state.producers
        assert isinstance(producers, StoredProducers)
        fresh = producers.take_fresh()
        if fresh:
            self.advanced.append(producers)
        return fresh

    def _take_document(self, name: str) -> int:
        document = self.documents[name] = self._document(name)
        return 0 if document is None else len(document)


def _ending_at(entry: Entry, extent: Extent) -> Entry:
    """Returns an entry with the end of the log as its tail, instead of the tail of the stream."""
    return msgspec.structs.replace(entry, tail=extent.tail, index_entries=extent.entries)

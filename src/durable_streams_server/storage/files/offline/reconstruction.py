"""Rebuilds the state of every stream from a catalog and the intact records of a write-ahead log. It writes nothing.

A record is applied if it fits the state of its stream, even if earlier records are missing. A stream that lost bytes takes
no more appends here. `new_incarnations.py` and `outcome.py` decide afterwards what a repair must write.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ....protocol.limits import MARK_SPACING
from ....protocol.media import Kind
from ....protocol.producers import ProducerState
from ....protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    SoftDeleted,
    StreamChange,
    StreamState,
    Touched,
    affected,
    apply,
)
from ....protocol.subscriptions.changes import SubscriptionChange
from ...recent import INSIDE, Piece, cut
from .. import held
from ..catalog import Catalog, state_of
from ..log_layout import Extent
from .intact_prefix import IntactPrefix, forked_earlier, shortened, with_shortened_forks
from .loaded_states import LoadedStates
from .subscription_changes import SubscriptionChanges
from .wal_reader import Gap


class Evidence:
    """Facts about one incarnation of a stream that a repair needs in addition to its state.

    Attributes:
        extent: the part of the log that the catalog proves.
        pieces: bytes to add to the log, because only the write-ahead log or a document in the catalog has them.
        progress: newest state of each producer that a record has advanced.
        proven: number of gaps, counted from the first, in which the incarnation lost nothing.
        is_broken: whether bytes are lost, so that no later append can be applied.
        why: the reason for the loss, in words; empty unless `is_broken` is true.
    """

    __slots__ = ("extent", "is_broken", "pieces", "progress", "proven", "why")

    def __init__(self, extent: Extent, proven: int) -> None:
        self.extent = extent
        self.pieces: list[Piece] = []
        self.progress: dict[bytes, ProducerState] = {}
        self.proven = proven
        self.is_broken = False
        self.why = ""


class Hole(NamedTuple):
    """Bytes that one stream lost.

    Attributes:
        state: the stream.
        gap: number of the gap in which the bytes were lost; None if several gaps are possible.
        size: number of lost bytes.
    """

    state: StreamState
    gap: int | None
    size: int


class Reconstruction:
    """The states of streams and subscriptions, computed from a catalog and the records of a write-ahead log.

    Args:
        catalog: the catalog, every entry of which can be read.
        prefixes: intact prefixes of damaged logs, by path.
        keep: whether to keep the bytes of appends. A repair needs them, a check does not.
        is_salvaged: whether the catalog was put together from single entries. Such entries may be of different ages, so they may
            already include changes that the log records, and any stream may have lost bytes.

    Attributes:
        meta: the catalog's metadata.
        prefixes: intact prefixes by path, including those of forks that a shortened source shortens too.
        states: the newest stream states by path.
        evidence: facts about each incarnation that are not part of its state.
        dirty: states that differ from the catalog, by incarnation.
        ended: path and incarnation of each stream that is known to have been deleted.
        holes: the bytes that streams are known to have lost.
        gaps: gaps in the log so far, in order.
        newest: the newest incarnation in the catalog and the log.
        steady: the latest steady time in the catalog and the log.
        subscriptions: the newest subscription states.
        obsolete_documents: names of catalog documents whose bytes have moved to a log.
        streams: number of streams that only the log has.
        bytes: number of stream bytes that only the log has.
        incarnations: incarnations that records have created.
    """

    def __init__(
        self,
        catalog: Catalog,
        prefixes: Mapping[str, IntactPrefix] = {},
        *,
        keep: bool = True,
        is_salvaged: bool = False,
    ) -> None:
        self.catalog = catalog
        self._keep = keep
        self.is_salvaged = is_salvaged
        self.meta = catalog.meta()
        self.prefixes = with_shortened_forks(catalog, prefixes) if prefixes else {}
        self.states = LoadedStates(self._load)
        self.evidence: dict[int, Evidence] = {}
        self.dirty: dict[int, StreamState] = {}
        self.ended: list[tuple[str, int]] = []
        self.holes: list[Hole] = []
        self.gaps: list[Gap] = []
        self.newest = self.meta.last_incarnation
        self.steady = self.meta.steady
        self.subscriptions = SubscriptionChanges(is_salvaged=is_salvaged)
        self.obsolete_documents: list[str] = []
        self._held: dict[int, held.Held] = {}
        for name, document in catalog.documents():
            if held.is_held(name):
                self._held[held.incarnation_of(name)] = held.decode(document)
            else:
                self.subscriptions.subscriptions.restore(name, document)
        self.streams = self.bytes = 0
        self.incarnations: set[int] = set()

    def add_gap(self, gap: Gap) -> None:
        """Adds a gap, which follows the records that were applied so far."""
        self.gaps.append(gap)

    def apply(self, change: Change) -> str | None:
        """Applies one change of the next record in the write-ahead log.

        Returns:
            None, or the reason why the change cannot be applied, in words.
        """
        if isinstance(change, SubscriptionChange):
            return self.subscriptions.apply(change)
        self.newest = max(self.newest, change.incarnation)
        if isinstance(change, Appended | Created | Touched):
            self.steady = max(self.steady, change.at)
        state = self.states.get(change.path)
        if self.is_salvaged and _is_already_applied(state, change):
            return None
        if isinstance(change, Created):
            return self._create(change)
        is_later = state is not None and change.incarnation > state.incarnation
        if state is not None and is_later and self._may_have_ended(state):
            self._end(state)  # a later stream at the same path proves that this one was deleted
            state = None
        if state is None or state.incarnation != change.incarnation:
            return "nothing is known of the stream's beginning"
        if isinstance(change, Appended):
            return self._append(state, change)
        if isinstance(change, Removed) and state.children:
            return "the ends of its forks are missing"
        self._change_states(change)
        if isinstance(change, Removed):
            self._end(state)
        elif not isinstance(change, Touched):
            self.evidence[state.incarnation].proven = len(self.gaps)
        return None

    # -- streams of the catalog ----------------------------------------------

    def _load(self, path: str) -> StreamState | None:
        """Returns the state of a stream as stored in the catalog, shortened if its log is damaged."""
        entry = self.catalog.find(path)
        if entry is None:
            return None
        prefix = self.prefixes.get(path)
        evidence = self.evidence[entry.incarnation] = Evidence(entry.extent, 0)
        if prefix is None:
            state = state_of(path, entry, self.meta.session)
            state.producers = self.catalog.producers(entry.incarnation)
            if entry.incarnation in self._held:
                self._move_held_bytes(state, evidence)
            return state
        evidence.is_broken = True
        evidence.why = f"its log is damaged past position {prefix.end}"
        state = state_of(path, shortened(entry, prefix), self.meta.session)
        evidence.extent = Extent(state.base, state.tail, prefix.entries)
        self.dirty[state.incarnation] = state
        return state

    def _move_held_bytes(self, state: StreamState, evidence: Evidence) -> None:
        """Moves the bytes that the catalog holds for a stream to the pieces that will be added to its log.

        The log could not take these bytes because of a limit on file sizes. A repair assumes that the limit was raised.
        """
        evidence.pieces = [Piece(*piece) for piece in self._held.pop(state.incarnation).pieces]
        state.tail = state.visible_tail = evidence.pieces[-1].end & ~INSIDE
        self.dirty[state.incarnation] = state
        self.obsolete_documents.append(held.name_of(state.incarnation))

    # -- changes -------------------------------------------------------------

    def _may_have_ended(self, state: StreamState) -> bool:
        """Returns whether the record that deleted a stream may be missing.

        If no record is missing, a later stream at the same path does not belong to this log.
        """
        return bool(self.gaps or self.is_salvaged) and not state.children

    def _create(self, change: Created) -> str | None:
        """Applies the creation of a stream or fork. Returns None, or the reason why it cannot be applied."""
        existing = self.states.get(change.path)
        if existing is not None:
            is_later = change.incarnation > existing.incarnation
            if not is_later or not self._may_have_ended(existing):
                return "another stream is at its path"
            self._end(existing)
        origin = change.origin
        if origin is not None:
            source = self.states.get(origin.source)
            if source is None or source.incarnation != origin.incarnation:
                return "its source is not known"
            if origin.position > source.tail:
                change = forked_earlier(change, origin, source.tail)
        self._change_states(change)
        state = self.states[change.path]
        evidence = Evidence(Extent(state.base, state.base, 0), len(self.gaps))
        self.evidence[state.incarnation] = evidence
        if change.origin != origin:
            evidence.is_broken = True
            evidence.why = f"its source's bytes past {state.base} are lost"
        self.incarnations.add(change.incarnation)
        self.streams += 1
        return None

    def _append(self, state: StreamState, change: Appended) -> str | None:
        """Applies an append. Returns None, or the reason why it cannot be applied."""
        evidence = self.evidence[state.incarnation]
        if evidence.is_broken:
            return evidence.why
        if change.start > state.tail:
            evidence.is_broken = True
            evidence.why = f"the stream's bytes from {state.tail} to {change.start} are lost"
            number = evidence.proven if evidence.proven == len(self.gaps) - 1 else None
            self.holes.append(Hole(state, number, change.start - state.tail))
            return evidence.why
        if change.start < state.tail or state.closed:
            return "the stream goes on otherwise"
        self._change_states(change)
        evidence.proven = len(self.gaps)
        self.bytes += len(change.data)
        if change.stamp is not None:
            producer = change.stamp.producer
            evidence.progress[producer] = state.producers[producer]
        if change.data and self._keep:
            if len(change.data) > MARK_SPACING and state.media.kind is Kind.JSON:
                evidence.pieces += cut(change.start, change.data)
            else:
                evidence.pieces.append(Piece(state.tail, change.data))
        return None

    def _change_states(self, change: StreamChange) -> None:
        """Applies a change to the states that it affects, and marks them as dirty."""
        for state in affected(self.states, change):
            self.dirty[state.incarnation] = state
        state = apply(self.states, change)
        self.dirty[state.incarnation] = state

    def _end(self, state: StreamState) -> None:
        """Removes a stream that is known to have been deleted, with or without a record of the deletion."""
        self.states.delete(state.path)
        self.dirty.pop(state.incarnation, None)
        if not state.removed and state.origin is not None:
            source = self.states.get(state.origin.source)
            if source is not None and source.incarnation == state.origin.incarnation:
                source.children -= 1
                self.dirty[source.incarnation] = source
        state.removed = True
        self.ended.append((state.path, state.incarnation))


def _is_already_applied(state: StreamState | None, change: StreamChange) -> bool:
    """Returns whether a recorded change must be skipped, because a salvaged state includes it or belongs to a later stream."""
    if state is None:
        return isinstance(change, Removed | SoftDeleted | Touched)
    if change.incarnation != state.incarnation:
        return change.incarnation < state.incarnation
    if isinstance(change, Appended):
        return change.start + len(change.data) <= state.tail and (bool(change.data) or state.closed)
    return isinstance(change, Created)

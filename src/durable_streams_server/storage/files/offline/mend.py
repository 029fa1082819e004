"""Decides what a repair makes of each stream: a calculation on the catalog's states and the log's records. It writes nothing.

Every intact record is applied if it follows from the state of its stream. A stream that lost bytes, or may have, gets a new
incarnation, so that no offset that anybody holds ever names other bytes. Three things prove that a stream lost nothing in a
gap of the log: it takes no more appends, a record behind the gap begins exactly at its tail, or the gap had no room for an
append to it.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from ....protocol.limits import MARK_SPACING
from ....protocol.media import Kind
from ....protocol.offsets import Lineage, Offset, Span, next_incarnation
from ....protocol.producers import Producers, ProducerState
from ....protocol.state import (
    Appended,
    Change,
    Created,
    Origin,
    Removed,
    SoftDeleted,
    StreamChange,
    StreamState,
    Touched,
    affected,
    apply,
)
from ....protocol.subscriptions.changes import (
    CursorsMoved,
    KeysKept,
    News,
    NewsTaken,
    Subscribed,
    SubscriptionChange,
    Unsubscribed,
    WakeChanged,
)
from ....protocol.subscriptions.documents import document_name
from ....protocol.subscriptions.state import Subscriptions
from ...recent import INSIDE, Piece, Pieces, cut
from .. import held
from ..catalog import Catalog, Drop, Entry, Meta, Put, entry_of, state_of
from ..flush import FlushWork
from ..index import Label, label_of
from ..log_layout import Extent
from ..wal_format import OVERHEAD
from .salvage import Gap

_SMALLEST_APPEND: Final = 24  # octets in a record of an append of one byte to a path of one letter
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class Cut(NamedTuple):
    """What is left of a stream whose log is damaged: it is whole up to `end`, in so many index entries."""

    end: int
    entries: int


class Withheld(NamedTuple):
    """A change of an intact record that cannot be applied, and why."""

    lsn: int
    change: Change
    why: str


class Move(NamedTuple):
    """A log that gets a new name: what of it is kept, and whether it is longer and must keep the rest elsewhere."""

    old: int
    new: int
    extent: Extent
    words: Label
    is_cut: bool


class Outcome(NamedTuple):
    """What a repair must write.

    Attributes:
        flushes: what the logs must get, by their old names.
        moves: logs that get new names.
        changes: what the catalog must be told, a path's old life before its new one.
        forgotten: incarnations of which no garbage is to be noted, since their logs live on under new names.
        documents: of subscriptions.
        meta: of the catalog.
        words: what was done to which stream, one sentence each.
    """

    flushes: list[FlushWork]
    moves: list[Move]
    changes: list[Put | Drop]
    forgotten: list[int]
    documents: dict[str, bytes | None]
    meta: Meta
    words: list[str]


class _Life:
    """What is noted of one incarnation besides its state."""

    __slots__ = ("broken", "extent", "pieces", "progress", "proven", "why")

    def __init__(self, extent: Extent, proven: int) -> None:
        self.extent = extent
        self.pieces: list[Piece] = []
        self.progress: dict[bytes, ProducerState] = {}
        self.proven = proven  # nothing was lost in so many gaps
        self.broken = False  # bytes are lost: later ones cannot be applied
        self.why = ""


class _Hole(NamedTuple):
    """Bytes of a stream that must have been in one gap; its number is None if it may have been in several."""

    state: StreamState
    gap: int | None
    size: int


class _Known(dict[str, StreamState]):
    """The newest states by path, loaded from the catalog when asked for; None for one that is known to be gone."""

    def __init__(self, mending: "Mending") -> None:
        super().__init__()
        self._mending = mending
        self.gone: dict[str, int] = {}

    def get(self, path: str, _: object = None, /) -> StreamState | None:  # type: ignore[override]
        state = super().get(path)
        if state is None and path not in self.gone:
            state = self._mending.load(path)
            if state is not None:
                self[path] = state
        return state

    def __missing__(self, path: str) -> StreamState:
        state = self.get(path)
        if state is None:
            raise KeyError(path)
        return state


class Mending:
    """The states that the catalog and the log make together.

    Args:
        catalog: the catalog, every entry of which can be read.
        cuts: what is left of streams whose logs are damaged, by path.
        keep: whether to keep the bytes of appends, for a repair that writes them.
        is_salvaged: whether the catalog was made from what was left of it: its entries may be of different ages, so the log's
            records may be in them already, and any stream may have lost bytes.

    Attributes:
        subscriptions: their newest states.
        gaps: as they were met.
        streams: how many streams only the log has.
        bytes: how many stream bytes only the log has.
        incarnations: those that records have begun.
    """

    def __init__(
        self,
        catalog: Catalog,
        cuts: Mapping[str, Cut] = {},
        *,
        keep: bool = True,
        is_salvaged: bool = False,
    ) -> None:
        self._catalog = catalog
        self._keep = keep
        self._is_salvaged = is_salvaged
        self.meta = catalog.meta()
        self._cuts = _with_forks(catalog, cuts) if cuts else {}
        self._states = _Known(self)
        self._lives: dict[int, _Life] = {}
        self._dirty: dict[int, StreamState] = {}
        self._ended: list[tuple[str, int]] = []
        self._holes: list[_Hole] = []
        self._newest = self.meta.last_incarnation
        self._steady = self.meta.steady
        self._documents: set[str] = set()
        self._gone_documents: list[str] = []
        self.subscriptions = Subscriptions()
        self._held: dict[int, held.Held] = {}
        for name, document in catalog.documents():
            if held.is_held(name):
                self._held[held.incarnation_of(name)] = held.decode(document)
            else:
                self.subscriptions.restore(name, document)
        self.gaps: list[Gap] = []
        self.streams = self.bytes = 0
        self.incarnations: set[int] = set()

    @property
    def ended(self) -> set[int]:
        """The streams that are known to have been deleted, by incarnation."""
        return {incarnation for _, incarnation in self._ended}

    def load(self, path: str) -> StreamState | None:
        """Returns a stream as the catalog has it, without what a damaged log has lost."""
        entry = self._catalog.find(path)
        if entry is None:
            return None
        lost = self._cuts.get(path)
        life = self._lives[entry.incarnation] = _Life(entry.extent, 0)
        if lost is None:
            state = state_of(path, entry, self.meta.session)
            state.producers = self._catalog.producers(entry.incarnation)
            if entry.incarnation in self._held:
                self._take_held(state, life)
            return state
        life.broken, life.why = True, f"its log is damaged past position {lost.end}"
        state = state_of(path, shortened(entry, lost), self.meta.session)
        life.extent = Extent(state.base, state.tail, lost.entries)
        self._dirty[state.incarnation] = state
        return state

    def _take_held(self, state: StreamState, life: _Life) -> None:
        """Has a log get the bytes that the catalog held for it: whoever repairs has raised the limit of a file's size."""
        life.pieces = [Piece(*piece) for piece in self._held.pop(state.incarnation).pieces]
        state.tail = state.visible_tail = life.pieces[-1].end & ~INSIDE
        self._dirty[state.incarnation] = state
        self._gone_documents.append(held.name_of(state.incarnation))

    def gap(self, gap: Gap) -> None:
        """Notes that records are missing here."""
        self.gaps.append(gap)

    def apply(self, change: Change) -> str | None:
        """Applies a change of the next record; returns why it cannot be applied, or None."""
        if isinstance(change, SubscriptionChange):
            return self._apply_to_subscriptions(change)
        self._newest = max(self._newest, change.incarnation)
        if isinstance(change, Appended | Created | Touched):
            self._steady = max(self._steady, change.at)
        state = self._states.get(change.path)
        if self._is_salvaged and _is_in(state, change):
            return None
        if isinstance(change, Created):
            return self._create(change)
        is_later = state is not None and change.incarnation > state.incarnation
        if state is not None and is_later and self._may_have_ended(state):
            self._end(state)  # a later stream at its path proves that it was deleted
            state = None
        if state is None or state.incarnation != change.incarnation:
            return "nothing is known of the stream's beginning"
        if isinstance(change, Appended):
            return self._append(state, change)
        if isinstance(change, Removed) and state.children:
            return "the ends of its forks are missing"
        self._apply(change)
        if isinstance(change, Removed):
            self._end(state)
        elif not isinstance(change, Touched):
            self._lives[state.incarnation].proven = len(self.gaps)
        return None

    def _may_have_ended(self, state: StreamState) -> bool:
        """Whether the record that ended a stream may be missing. Where none is, a later stream at its path is a stranger."""
        return bool(self.gaps or self._is_salvaged) and not state.children

    def _create(self, change: Created) -> str | None:
        existing = self._states.get(change.path)
        if existing is not None:
            is_later = change.incarnation > existing.incarnation
            if not is_later or not self._may_have_ended(existing):
                return "another stream is at its path"
            self._end(existing)
        origin = change.origin
        if origin is not None:
            source = self._states.get(origin.source)
            if source is None or source.incarnation != origin.incarnation:
                return "its source is not known"
            if origin.position > source.tail:
                change = _earlier(change, origin, source.tail)
        self._states.gone.pop(change.path, None)
        self._apply(change)
        state = self._states[change.path]
        life = self._lives[state.incarnation] = _Life(
            Extent(state.base, state.base, 0), len(self.gaps)
        )
        if change.origin != origin:
            life.broken, life.why = True, f"its source's bytes past {state.base} are lost"
        self.incarnations.add(change.incarnation)
        self.streams += 1
        return None

    def _append(self, state: StreamState, change: Appended) -> str | None:
        life = self._lives[state.incarnation]
        if life.broken:
            return life.why
        if change.start > state.tail:
            life.broken = True
            life.why = f"the stream's bytes from {state.tail} to {change.start} are lost"
            number = life.proven if life.proven == len(self.gaps) - 1 else None
            self._holes.append(_Hole(state, number, change.start - state.tail))
            return life.why
        if change.start < state.tail or state.closed:
            return "the stream goes on otherwise"
        self._apply(change)
        life.proven = len(self.gaps)
        self.bytes += len(change.data)
        if change.stamp is not None:
            life.progress[change.stamp.producer] = state.producers[change.stamp.producer]
        if change.data and self._keep:
            if len(change.data) > MARK_SPACING and state.media.kind is Kind.JSON:
                life.pieces += cut(change.start, change.data)
            else:
                life.pieces.append(Piece(state.tail, change.data))
        return None

    def _apply(self, change: StreamChange) -> None:
        for state in affected(self._states, change):
            self._dirty[state.incarnation] = state
        state = apply(self._states, change)
        self._dirty[state.incarnation] = state

    def _end(self, state: StreamState) -> None:
        """Takes a stream away that is known to have been deleted."""
        self._states.pop(state.path, None)
        self._states.gone[state.path] = state.incarnation
        self._dirty.pop(state.incarnation, None)
        if not state.removed and state.origin is not None:
            source = self._states.get(state.origin.source)
            if source is not None and source.incarnation == state.origin.incarnation:
                source.children -= 1
                self._dirty[source.incarnation] = source
        state.removed = True
        self._ended.append((state.path, state.incarnation))

    def _apply_to_subscriptions(self, change: SubscriptionChange) -> str | None:
        if self._is_salvaged and self._is_older(change):
            return None
        try:
            self.subscriptions.apply(change)
        except KeyError:
            return "nothing is known of the subscription's beginning"
        self._documents.add(document_name(change))
        return None

    def _is_older(self, change: SubscriptionChange) -> bool:
        """Whether a change of a subscription is in a salvaged catalog already."""
        if isinstance(change, News):
            return change.number <= self.subscriptions.feed.newest
        if isinstance(change, KeysKept | NewsTaken):
            return False
        known = self.subscriptions.get(change.id)
        if known is None:
            return False
        if isinstance(change, Subscribed | Unsubscribed):
            return change.incarnation < known.incarnation + isinstance(change, Subscribed)
        return isinstance(change, WakeChanged) and change.generation < known.generation

    # -- what is in doubt ---------------------------------------------------

    def outcome(self, lsn: int, now: int) -> Outcome:
        """Returns what the repair must write.

        Args:
            lsn: what the catalog will be true for.
            now: microseconds of Unix time; no new incarnation is older.
        """
        renamed = self._rename(now)
        names = {old: new for old, (new, _) in renamed.items()}
        words: list[str] = []
        flushes, moves, forgotten = [], [], []
        changes: list[Put | Drop] = [Drop(path, number) for path, number in self._ended]
        session = self.meta.session
        for state in self._changed(renamed):
            old = state.incarnation
            life = self._lives[old]
            extent = life.extent
            entries = extent.entries + len(life.pieces)
            if life.pieces:
                about_ = None if extent.entries else label_of(state)
                flushes.append(FlushWork(old, extent, Pieces.of(life.pieces), about_))
            entry = entry_of(state, entries, session)
            producers: Producers = life.progress
            if old in renamed:
                new, why = renamed[old]
                entry = _renamed(entry, names)
                producers = state.producers
                kept = Extent(state.base, state.tail, entries)
                about_ = words_of_entry(state.path, entry)
                moves.append(Move(old, new, kept, about_, state.path in self._cuts))
                changes.append(Drop(state.path, old))
                forgotten.append(old)
                words.append(f"{state.path}: {why}; it begins anew as {new:016d} with what is left")
            assert isinstance(producers, dict)
            changes.append(Put(state.path, entry, producers))
        changes.sort(key=_incarnation)
        self._move_cursors(renamed)
        documents = {name: self.subscriptions.document(name) for name in self._documents}
        documents.update(dict.fromkeys(self._gone_documents))
        newest = max(self._newest, *(new for new, _ in renamed.values()), 0)
        meta = msgspec.structs.replace(
            self.meta, lsn=lsn, last_incarnation=newest, aside=(), steady=self._steady
        )
        return Outcome(flushes, moves, changes, forgotten, documents, meta, words)

    def _rename(self, now: int) -> dict[int, tuple[int, str]]:
        """Returns the new incarnation of each stream that needs one, and why, by the old one."""
        if not self.gaps and not self._cuts and not self._is_salvaged:
            return {}
        suspects = [
            gap_number for gap_number in range(len(self.gaps)) if self._had_room(gap_number)
        ]
        last = suspects[-1] if suspects else -1
        streams = sorted(self._all(last))
        renamed: dict[int, tuple[int, str]] = {}
        number = self._newest
        for incarnation, origin, why in streams:  # a source comes before its forks
            if why is None and origin in renamed:
                why = "the offsets of its source are void"
            if why is not None:
                number = next_incarnation(number, now)
                renamed[incarnation] = number, why
        return renamed

    def _all(self, last_suspect: int) -> Iterator[tuple[int, int, str | None]]:
        """Yields every stream: incarnation, its source's or 0, and why it is in doubt."""
        seen = set()
        for state in list(self._states.values()):
            seen.add(state.path)
            life = self._lives[state.incarnation]
            why = None
            if life.broken:
                why = life.why
            elif not state.closed and not state.soft_deleted and life.proven <= last_suspect:
                why = _DOUBT
            elif self._is_salvaged and not state.closed and not state.soft_deleted:
                why = _SALVAGED
            yield state.incarnation, state.origin.incarnation if state.origin else 0, why
        for path, entry in self._catalog.paths():
            if path in seen or path in self._states.gone:
                continue
            is_over = entry.closed or entry.soft_deleted
            why = None if is_over or last_suspect < 0 else _DOUBT
            if self._is_salvaged and not is_over:
                why = _SALVAGED
            if path in self._cuts:
                why = f"its log is damaged past position {self._cuts[path].end}"
            yield entry.incarnation, entry.origin.incarnation if entry.origin else 0, why

    def _had_room(self, number: int) -> bool:
        """Whether a gap may have held an append to a stream that is not known to have lost bytes."""
        gap = self.gaps[number]
        if gap.room is None or gap.missing is None:
            return True
        holes = [hole for hole in self._holes if hole.gap == number]
        least = sum(_least(hole) for hole in holes) + gap.missing * (OVERHEAD + 1)
        return gap.room - least >= _SMALLEST_APPEND

    def _changed(self, renamed: Mapping[int, object]) -> Iterator[StreamState]:
        """Yields the streams of which the catalog must be told, loading those that only get a new incarnation."""
        dirty = dict(self._dirty)
        yield from (state for state in dirty.values() if not state.removed)
        for path, entry in self._catalog.paths() if renamed else ():
            if entry.incarnation in renamed and entry.incarnation not in dirty:
                is_loaded = path in self._states
                yield self._states[path]
                if not is_loaded:
                    del self._states[path]  # there may be a million of them

    def _move_cursors(self, renamed: Mapping[int, tuple[int, str]]) -> None:
        """Has cursors name the same bytes by their new names; one past what is left goes to the tail."""
        for subscription in self.subscriptions:
            for path, offset in list(subscription.cursors.items()):
                state = self._states.get(path)
                if state is not None and offset.incarnation not in renamed:
                    continue
                if state is None or offset.position >= state.tail:
                    subscription.set_cursor(path, None)
                else:
                    new, _ = renamed[offset.incarnation]
                    subscription.set_cursor(path, Offset(new, offset.position))
                self._documents.add(_document_of(subscription.id))
        if self.subscriptions.feed.rename({old: new for old, (new, _) in renamed.items()}):
            self._documents.add("news")


_DOUBT: Final = "a damaged record of the log may have been an append to it"


_SALVAGED: Final = "its entry in the catalog may have been of an earlier time"


def _is_in(state: StreamState | None, change: StreamChange) -> bool:
    """Whether a change is in a salvaged state already, or is about an earlier stream at its path."""
    if state is None:
        return isinstance(change, Removed | SoftDeleted | Touched)
    if change.incarnation != state.incarnation:
        return change.incarnation < state.incarnation
    if isinstance(change, Appended):
        return change.start + len(change.data) <= state.tail and (bool(change.data) or state.closed)
    return isinstance(change, Created)


def shortened(entry: Entry, lost: Cut) -> Entry:
    """Returns an entry whose stream ends where its log is whole. Its writers begin anew: nobody knows how far they had come."""
    origin, lineage = entry.origin, entry.lineage
    if origin is not None and lost.end < origin.position:
        origin = msgspec.structs.replace(origin, position=lost.end)
        lineage = _trimmed(lineage, lost.end)
    return msgspec.structs.replace(
        entry,
        origin=origin,
        lineage=lineage,
        tail=lost.end,
        index_entries=lost.entries,
        closed=entry.closed and lost.end == entry.tail,
        closed_by=entry.closed_by if lost.end == entry.tail else None,
        last_seq=None,
    )


def _earlier(change: Created, origin: Origin, position: int) -> Created:
    """Returns the beginning of a fork that diverges where what is left of its source ends."""
    return msgspec.structs.replace(
        change,
        origin=msgspec.structs.replace(origin, position=position),
        lineage=_trimmed(change.lineage, position),
    )


def _trimmed(lineage: Lineage, end: int) -> Lineage:
    spans: list[Span] = []
    for span in lineage:
        spans.append(Span(span.incarnation, min(span.end, end)))
        if span.end >= end:
            break
    return tuple(spans)


def _with_forks(catalog: Catalog, cuts: Mapping[str, Cut]) -> dict[str, Cut]:
    """Returns the cuts, and those of forks that began past the end of what is left of their source."""
    found = dict(cuts)
    ends: dict[int, int] = {}
    rows = sorted((entry.incarnation, path) for path, entry in catalog.paths())
    for incarnation, path in rows:  # a source comes before its forks
        entry = catalog.find(path)
        assert entry is not None
        origin = entry.origin
        source_end = None if origin is None else ends.get(origin.incarnation)
        if origin is not None and source_end is not None and source_end < origin.position:
            found[path] = Cut(source_end, 0)
        if path in found:
            ends[incarnation] = found[path].end
    return found


def _renamed(entry: Entry, names: Mapping[int, int]) -> Entry:
    """Returns an entry in which every incarnation has its new name."""
    origin = entry.origin
    if origin is not None:
        source = names.get(origin.incarnation, origin.incarnation)
        origin = msgspec.structs.replace(origin, incarnation=source)
    lineage = tuple(
        Span(names.get(span.incarnation, span.incarnation), span.end) for span in entry.lineage
    )
    incarnation = names.get(entry.incarnation, entry.incarnation)
    return msgspec.structs.replace(entry, incarnation=incarnation, origin=origin, lineage=lineage)


def words_of_entry(path: str, entry: Entry) -> Label:
    """Returns what the log of a stream in the catalog says of itself."""
    return Label(
        entry.incarnation,
        entry.extent.base,
        path,
        entry.media,
        entry.lifetime,
        entry.created_at,
        entry.origin,
        entry.lineage,
    )


def _least(hole: _Hole) -> int:
    """Returns the least octets that an append of so many bytes takes in a record."""
    state = hole.state
    change = Appended(state.path, state.incarnation, state.tail, b"", False, state.created_at)
    return len(_ENCODE(change)) + hole.size


def _document_of(subscription: str) -> str:
    return document_name(CursorsMoved(subscription, ()))


def _incarnation(change: Put | Drop) -> int:
    return change.incarnation if isinstance(change, Drop) else change.entry.incarnation


__all__ = ["Cut", "Mending", "Move", "Outcome", "Withheld", "shortened", "words_of_entry"]

"""Turns reconstructed states into the list of everything that a repair must write. It does no I/O of its own.

`repair.py` then writes it.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from ....protocol.offsets import Span
from ....protocol.producers import Producers
from ....protocol.state import StreamState
from ...recent import Pieces
from ..catalog import Drop, Entry, Meta, Put, entry_of, label_of_entry
from ..flush import FlushWork
from ..index import Label, label_of
from ..log_layout import Extent
from .new_incarnations import NewIncarnation, new_incarnations
from .reconstruction import Reconstruction


class Move(NamedTuple):
    """A log that gets the name of a new incarnation.

    Attributes:
        old: the incarnation whose name the log has now.
        new: the incarnation whose name the log gets.
        extent: the part of the log that is kept under the new name.
        words: the header of the new index.
        is_shortened: whether the log has more bytes than the kept part, which must stay readable in the quarantine.
    """

    old: int
    new: int
    extent: Extent
    words: Label
    is_shortened: bool


class Outcome(NamedTuple):
    """Everything that a repair must write.

    Attributes:
        flushes: bytes to add to logs, under the logs' old names.
        moves: logs that get new names.
        changes: catalog changes; for each path, the removal of an older stream comes before a newer stream.
        kept_logs: incarnations that leave the catalog, but whose logs stay in use under new names and are no garbage.
        documents: subscription documents by name; None deletes a document.
        meta: the new catalog metadata.
        words: what happens to each stream, one sentence each.
    """

    flushes: list[FlushWork]
    moves: list[Move]
    changes: list[Put | Drop]
    kept_logs: list[int]
    documents: dict[str, bytes | None]
    meta: Meta
    words: list[str]


def outcome_of(found: Reconstruction, lsn: int, now: int) -> Outcome:
    """Returns what a repair must write.

    Args:
        found: the states after all records. Cursors in it are moved to the new incarnations.
        lsn: the LSN up to which the new catalog will be current.
        now: microseconds of Unix time, the lowest number that a new incarnation gets.
    """
    renamed = new_incarnations(found, now)
    names = {old: each.number for old, each in renamed.items()}
    words: list[str] = []
    flushes, moves = [], []
    changes: list[Put | Drop] = [Drop(path, number) for path, number in found.ended]
    for state in _changed_states(found, renamed):
        old = state.incarnation
        evidence = found.evidence[old]
        entries = evidence.extent.entries + len(evidence.pieces)
        if evidence.pieces:
            header = None if evidence.extent.entries else label_of(state)
            pieces = Pieces.of(evidence.pieces)
            flushes.append(FlushWork(old, evidence.extent, pieces, header))
        entry = entry_of(state, entries, found.meta.session)
        producers: Producers = evidence.progress
        if old in renamed:
            new, why = renamed[old]
            entry = _renamed(entry, names)
            producers = state.producers
            kept = Extent(state.base, state.tail, entries)
            header = label_of_entry(state.path, entry)
            moves.append(Move(old, new, kept, header, state.path in found.prefixes))
            changes.append(Drop(state.path, old))
            words.append(f"{state.path}: {why}; it begins anew as {new:016d} with what is left")
        assert isinstance(producers, dict)
        changes.append(Put(state.path, entry, producers))
    changes.sort(key=_incarnation_of)
    found.subscriptions.rename(found.states, names)
    documents = found.subscriptions.dirty_documents()
    documents.update(dict.fromkeys(found.obsolete_documents))
    newest = max(found.newest, *names.values(), 0)
    meta = msgspec.structs.replace(
        found.meta, lsn=lsn, last_incarnation=newest, aside=(), steady=found.steady
    )
    kept_logs = [move.old for move in moves]
    return Outcome(flushes, moves, changes, kept_logs, documents, meta, words)


def _changed_states(
    found: Reconstruction, renamed: Mapping[int, NewIncarnation]
) -> Iterator[StreamState]:
    """Yields the states of streams whose catalog entries must be written.

    States that only get a new incarnation are loaded for this purpose and then unloaded again.
    """
    dirty = dict(found.dirty)
    yield from (state for state in dirty.values() if not state.removed)
    for path, entry in found.catalog.paths() if renamed else ():
        if entry.incarnation in renamed and entry.incarnation not in dirty:
            is_loaded = found.states.is_loaded(path)
            yield found.states[path]
            if not is_loaded:
                del found.states[path]  # keeping a million of them would need too much memory


def _renamed(entry: Entry, names: Mapping[int, int]) -> Entry:
    """Returns a catalog entry with its incarnations replaced by new ones.

    Args:
        entry: the entry.
        names: new incarnations by old ones. Incarnations without a new one stay.
    """
    origin = entry.origin
    if origin is not None:
        source = names.get(origin.incarnation, origin.incarnation)
        origin = msgspec.structs.replace(origin, incarnation=source)
    lineage = tuple(
        Span(names.get(span.incarnation, span.incarnation), span.end) for span in entry.lineage
    )
    incarnation = names.get(entry.incarnation, entry.incarnation)
    return msgspec.structs.replace(entry, incarnation=incarnation, origin=origin, lineage=lineage)


def _incarnation_of(change: Put | Drop) -> int:
    return change.incarnation if isinstance(change, Drop) else change.entry.incarnation

"""Decides which streams get a new incarnation, because they lost bytes or may have lost some.

A new incarnation makes every old offset void, so no offset that a client holds can ever name other bytes. A stream keeps its
incarnation if one of three things proves that no gap of the log contained its bytes: the stream takes no more appends, a later
record begins exactly at its tail, or the gap had no room for an append to it.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from ....protocol.offsets import next_incarnation
from ....protocol.state import Appended
from ..wal_format import OVERHEAD
from .reconstruction import Hole, Reconstruction

_SMALLEST_APPEND: Final = 24  # bytes of a record that appends one byte to a path of one letter
_IN_DOUBT: Final = "a damaged record of the log may have been an append to it"
_SALVAGED: Final = "its entry in the catalog may have been of an earlier time"
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class NewIncarnation(NamedTuple):
    """The new incarnation of a stream, and the reason for it in words."""

    number: int
    why: str


class _Stream(NamedTuple):
    """One stream, and whether a repair must make its offsets void.

    Attributes:
        incarnation: its incarnation before the repair.
        source: the incarnation of its source; 0 if the stream is no fork.
        why: the reason why its offsets must become void; None if they need not.
    """

    incarnation: int
    source: int
    why: str | None


def new_incarnations(found: Reconstruction, now: int) -> dict[int, NewIncarnation]:
    """Returns the new incarnation of each stream that needs one, by its old incarnation.

    A fork of such a stream needs one too, because its offsets name the source.

    Args:
        found: the states after all records.
        now: microseconds of Unix time, the lowest number that a new incarnation gets.
    """
    if not found.gaps and not found.prefixes and not found.is_salvaged:
        return {}
    renamed: dict[int, NewIncarnation] = {}
    newest = found.newest
    for incarnation, source, why in sorted(_streams(found)):  # a source sorts before its forks
        if why is None and source in renamed:
            why = "the offsets of its source are void"
        if why is not None:
            newest = next_incarnation(newest, now)
            renamed[incarnation] = NewIncarnation(newest, why)
    return renamed


def _streams(found: Reconstruction) -> Iterator[_Stream]:
    """Yields every stream: those whose state is loaded, and then the others in the catalog."""
    roomy = [number for number in range(len(found.gaps)) if _had_room(found, number)]
    last_roomy_gap = roomy[-1] if roomy else -1
    seen = set()
    for state in list(found.states.values()):
        seen.add(state.path)
        evidence = found.evidence[state.incarnation]
        why = None
        if evidence.is_broken:
            why = evidence.why
        elif not state.closed and not state.soft_deleted and evidence.proven <= last_roomy_gap:
            why = _IN_DOUBT
        elif found.is_salvaged and not state.closed and not state.soft_deleted:
            why = _SALVAGED
        yield _Stream(state.incarnation, state.origin.incarnation if state.origin else 0, why)
    for path, entry in found.catalog.paths():
        if path in seen or found.states.is_deleted(path):
            continue
        is_over = entry.closed or entry.soft_deleted
        why = None if is_over or last_roomy_gap < 0 else _IN_DOUBT
        if found.is_salvaged and not is_over:
            why = _SALVAGED
        if path in found.prefixes:
            why = f"its log is damaged past position {found.prefixes[path].end}"
        yield _Stream(entry.incarnation, entry.origin.incarnation if entry.origin else 0, why)


def _had_room(found: Reconstruction, number: int) -> bool:
    """Returns whether a gap may have held an append to a stream that is not known to have lost bytes.

    Args:
        found: the states after all records.
        number: the number of the gap, counted from 0.
    """
    gap = found.gaps[number]
    if gap.room is None or gap.missing is None:
        return True
    holes = [hole for hole in found.holes if hole.gap == number]
    least = sum(_least_size(hole) for hole in holes) + gap.missing * (OVERHEAD + 1)
    return gap.room - least >= _SMALLEST_APPEND


def _least_size(hole: Hole) -> int:
    """Returns the minimum size in bytes of a record that appends the lost bytes of a hole."""
    state = hole.state
    change = Appended(state.path, state.incarnation, state.tail, b"", False, state.created_at)
    return len(_ENCODE(change)) + hole.size

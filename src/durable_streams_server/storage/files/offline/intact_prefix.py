"""Shortens a stream to the part of its log that is still intact.

A check finds how far each damaged log can be read. The functions here compute the catalog entry of the shortened stream, and
shorten the forks that shared the lost bytes. They do no I/O except for reading the catalog.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ....protocol.offsets import Lineage, Span
from ....protocol.state import Created, Origin
from ..catalog import Catalog, Entry


class IntactPrefix(NamedTuple):
    """The part of a damaged log that can still be read. It always ends at the end of an append.

    Attributes:
        end: the stream position where the intact part ends.
        entries: number of index entries that cover the intact part.
    """

    end: int
    entries: int


def shortened(entry: Entry, prefix: IntactPrefix) -> Entry:
    """Returns a stream's catalog entry with the tail moved back to the end of its intact prefix.

    The entry loses its Stream-Seq, and a stream that lost bytes is open again, because the lost appends may have changed both.
    """
    origin, lineage = entry.origin, entry.lineage
    if origin is not None and prefix.end < origin.position:
        origin = msgspec.structs.replace(origin, position=prefix.end)
        lineage = _trimmed(lineage, prefix.end)
    return msgspec.structs.replace(
        entry,
        origin=origin,
        lineage=lineage,
        tail=prefix.end,
        index_entries=prefix.entries,
        closed=entry.closed and prefix.end == entry.tail,
        closed_by=entry.closed_by if prefix.end == entry.tail else None,
        last_seq=None,
    )


def forked_earlier(change: Created, origin: Origin, position: int) -> Created:
    """Returns the recorded creation of a fork with an earlier fork point.

    Args:
        change: the creation as it was recorded.
        origin: the origin in that creation.
        position: the new fork point, which is the tail of the source after the repair.
    """
    return msgspec.structs.replace(
        change,
        origin=msgspec.structs.replace(origin, position=position),
        lineage=_trimmed(change.lineage, position),
    )


def with_shortened_forks(
    catalog: Catalog, prefixes: Mapping[str, IntactPrefix]
) -> dict[str, IntactPrefix]:
    """Returns the intact prefixes by path, together with those of forks that lose bytes because their source does.

    Such a fork diverged from its source past the source's new tail. It ends at that tail and keeps no bytes of its own.
    """
    found = dict(prefixes)
    ends: dict[int, int] = {}
    rows = sorted((entry.incarnation, path) for path, entry in catalog.paths())
    for incarnation, path in rows:  # a source sorts before its forks
        entry = catalog.find(path)
        assert entry is not None
        origin = entry.origin
        source_end = None if origin is None else ends.get(origin.incarnation)
        if origin is not None and source_end is not None and source_end < origin.position:
            found[path] = IntactPrefix(source_end, 0)
        if path in found:
            ends[incarnation] = found[path].end
    return found


def _trimmed(lineage: Lineage, end: int) -> Lineage:
    """Returns the part of a lineage up to the position `end`."""
    spans: list[Span] = []
    for span in lineage:
        spans.append(Span(span.incarnation, min(span.end, end)))
        if span.end >= end:
            break
    return tuple(spans)

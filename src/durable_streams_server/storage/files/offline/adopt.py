"""Rebuilds catalog entries from logs, for streams that a lost or salvaged catalog no longer has.

Each log has its stream's path, type, lifetime and origin in its index, and the index proves how many bytes are intact. A log does not
show whether its stream was closed or deleted later, or which sequence numbers its producers had reached. Streams without bytes have no log.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from ...damage import Damaged
from ..catalog import Catalog, Drop, Entry, Put
from ..disk import Disk
from ..index import Index, Label
from ..log_layout import DIRECTORY as LOGS
from ..log_layout import path_of
from ..verify import verified_prefix
from .intact_prefix import IntactPrefix, shortened

_NO_END: Final = 1 << 62
UNKNOWN: Final = (
    "streams that had no bytes of their own may be lost, and streams that were deleted may be back"
)


class _Log(NamedTuple):
    """A log that names its stream, and the end and the number of index entries of its intact part."""

    words: Label
    tail: int
    entries: int


def adopt_logs(disk: Disk, catalog: Catalog, now: int) -> Iterator[str]:
    """Adds streams that a catalog lacks, and extends entries whose log has more bytes, in one commit.

    Yields a sentence for each such stream.

    Args:
        disk: the directory, which this process has locked.
        catalog: the directory's catalog.
        now: microseconds of Unix time, at which the idle times of added streams begin.
    """
    yield f"catalog: {UNKNOWN}"
    meta = catalog.meta()
    now -= meta.wall_offset  # idle times are measured in steady time
    before = dict(catalog.paths())
    entries = dict(before)
    logs = sorted(_named_logs(disk), key=lambda log: log.words.incarnation)
    newest = max((entry.incarnation for entry in entries.values()), default=0)
    for log in logs:  # a source sorts before its forks
        newest = max(newest, log.words.incarnation)
        sentence = _adopt(log, entries, now)
        if sentence is not None:
            yield sentence
    changes = _changes(before, entries)
    if not changes:
        return
    session = max([meta.session, *(entry.session for entry in entries.values())])
    meta = msgspec.structs.replace(
        meta, last_incarnation=max(meta.last_incarnation, newest), session=session
    )
    dropped = [change.incarnation for change in changes if isinstance(change, Drop)]
    catalog.commit(meta, changes, dropped)


def _changes(before: dict[str, Entry], entries: dict[str, Entry]) -> list[Put | Drop]:
    """Returns the catalog changes that turn the entries `before` into `entries`. The forks of each stream are counted again."""
    children: dict[tuple[str, int], int] = {}
    for entry in entries.values():
        if entry.origin is not None:
            source = entry.origin.source, entry.origin.incarnation
            children[source] = children.get(source, 0) + 1
    changes: list[Put | Drop] = []
    for path, entry in entries.items():
        count = children.get((path, entry.incarnation), 0)
        changed = msgspec.structs.replace(entry, children=count)
        old = before.get(path)
        if old is not None and old.incarnation != entry.incarnation:
            changes.append(Drop(path, old.incarnation))
        if changed != old:
            changes.append(Put(path, changed, {}))
    return changes


def _adopt(log: _Log, entries: dict[str, Entry], now: int) -> str | None:
    """Adds the stream of a log to the entries, or moves the tail of its entry to the end of the log.

    Returns:
        A sentence that says what changed, or None if nothing did.
    """
    words = log.words
    entry = entries.get(words.path)
    if entry is not None and entry.incarnation == words.incarnation:
        if log.tail <= entry.tail:
            return None  # if the log is too short, a check reports it
        grown = shortened(entry, IntactPrefix(log.tail, log.entries))
        entries[words.path] = msgspec.structs.replace(grown, last_seq=entry.last_seq)
        return f"{words.path}: its log goes on to position {log.tail}"
    if entry is not None and (entry.incarnation > words.incarnation or entry.children):
        return None  # the log belongs to an earlier stream at the same path
    origin = words.origin
    if origin is not None:
        source = entries.get(origin.source)
        is_there = source is not None and source.incarnation == origin.incarnation
        if source is None or not is_there or source.tail < origin.position:
            return (
                f"{words.path}: it cannot be made again, since its source {origin.source} is lost"
            )
    entries[words.path] = Entry(
        words.incarnation,
        words.media,
        words.lifetime,
        words.created_at,
        now,
        0,
        origin,
        words.lineage,
        log.tail,
        False,
        None,
        None,
        0,
        False,
        log.entries,
        public=words.public,
    )
    return (
        f"{words.path}: it is made again from its log; whether it was closed or deleted, and how far its"
        " producers had come, is not known"
    )


def _named_logs(disk: Disk) -> Iterator[_Log]:
    """Yields each log whose index names the log's stream."""
    for directory in disk.names(LOGS):
        for name in disk.names(f"{LOGS}/{directory}"):
            number = name.removesuffix(".idx")
            if name.endswith(".idx") and number.isdecimal():
                log = _read_log(disk, int(number))
                if log is not None:
                    yield log


def _read_log(disk: Disk, incarnation: int) -> _Log | None:
    """Returns the log of an incarnation, or None if a file is missing or the index does not name the incarnation."""
    path = path_of(incarnation)
    if not disk.exists(path) or not disk.exists(path + ".idx"):
        return None
    data, file = disk.open(path), disk.open(path + ".idx")
    try:
        index = Index.of(file)
        if index.label is None or index.label.incarnation != incarnation:
            return None
        size = file.size()
        extent = index.base, _NO_END, index.count_of(size)
        tail, entries, _ = verified_prefix(data, index, size, extent)
        return _Log(index.label, tail, entries)
    except Damaged:
        return None
    finally:
        data.close()
        file.close()

"""Brings a catalog that was salvaged, or lost, up to what the logs say of themselves.

Each log names its stream: path, type, lifetime, origin. Its index proves how many bytes are whole. What no log can tell is
whether the stream was closed or deleted since, how far its producers had come, and which streams had no bytes.
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
from ..verify import whole_prefix
from .mend import Cut, shortened

_NO_END: Final = 1 << 62
UNKNOWN: Final = (
    "streams that had no bytes of their own may be lost, and streams that were deleted may be back"
)


class _Log(NamedTuple):
    """What a log says of itself, and how much of it is whole."""

    words: Label
    tail: int
    entries: int


def adopt(disk: Disk, catalog: Catalog, now: int) -> Iterator[str]:
    """Puts into the catalog what the logs have and it has not, in one commit, and yields what was found, in words.

    Args:
        disk: the directory, which this process has.
        catalog: its catalog.
        now: microseconds of Unix time; idle times of adopted streams begin then.
    """
    yield f"catalog: {UNKNOWN}"
    meta = catalog.meta()
    now -= meta.wall_offset  # idle times are steady times
    known = dict(catalog.paths())
    before = dict(known)
    changes: list[Put | Drop] = []
    logs = sorted(_logs(disk), key=lambda log: log.words.incarnation)
    newest = max((entry.incarnation for entry in known.values()), default=0)
    for log in logs:  # a source comes before its forks
        newest = max(newest, log.words.incarnation)
        said = _take(log, known, now)
        if said is not None:
            yield said
    children: dict[tuple[str, int], int] = {}
    for entry in known.values():
        if entry.origin is not None:
            source = entry.origin.source, entry.origin.incarnation
            children[source] = children.get(source, 0) + 1
    for path, entry in known.items():
        count = children.get((path, entry.incarnation), 0)
        changed = msgspec.structs.replace(entry, children=count)
        old = before.get(path)
        if old is not None and old.incarnation != entry.incarnation:
            changes.append(Drop(path, old.incarnation))
        if changed != old:
            changes.append(Put(path, changed, {}))
    session = max([meta.session, *(entry.session for entry in known.values())])
    meta = msgspec.structs.replace(
        meta, last_incarnation=max(meta.last_incarnation, newest), session=session
    )
    if changes:
        gone = [change.incarnation for change in changes if isinstance(change, Drop)]
        catalog.commit(meta, changes, gone)


def _take(log: _Log, known: dict[str, Entry], now: int) -> str | None:
    """Takes a log's stream into the known ones, or its longer tail; returns what was done."""
    words = log.words
    entry = known.get(words.path)
    if entry is not None and entry.incarnation == words.incarnation:
        if log.tail <= entry.tail:
            return None  # a shorter one is for the check to find
        grown = shortened(entry, Cut(log.tail, log.entries))
        known[words.path] = msgspec.structs.replace(grown, last_seq=entry.last_seq)
        return f"{words.path}: its log goes on to position {log.tail}"
    if entry is not None and (entry.incarnation > words.incarnation or entry.children):
        return None  # an earlier stream at that path
    origin = words.origin
    if origin is not None:
        source = known.get(origin.source)
        is_there = source is not None and source.incarnation == origin.incarnation
        if source is None or not is_there or source.tail < origin.position:
            return (
                f"{words.path}: it cannot be made again, since its source {origin.source} is lost"
            )
    known[words.path] = Entry(
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
    )
    return (
        f"{words.path}: it is made again from its log; whether it was closed or deleted, and how far its"
        " producers had come, is not known"
    )


def _logs(disk: Disk) -> Iterator[_Log]:
    """Yields the logs that say whose they are, with what is whole of each."""
    for directory in disk.names(LOGS):
        for name in disk.names(f"{LOGS}/{directory}"):
            number = name.removesuffix(".idx")
            if name.endswith(".idx") and number.isdecimal():
                log = _log(disk, int(number))
                if log is not None:
                    yield log


def _log(disk: Disk, incarnation: int) -> _Log | None:
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
        tail, entries, _ = whole_prefix(data, index, size, extent)
        return _Log(index.label, tail, entries)
    except Damaged:
        return None  # it cannot say whose it is
    finally:
        data.close()
        file.close()

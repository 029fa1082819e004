"""Chooses how to repair a damaged catalog: from its database, from its second copy, or from single entries of both."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

from ...damage import Damaged
from ..system_disk import SystemDisk
from . import sums
from .copy import Copy, committed_payloads
from .entries import Entry, Meta
from .lmdb_catalog import open_tables
from .rebuild import rebuild_from_copy, rebuild_from_entries, rewrite_copy
from .reconcile import Relation, relate
from .salvage import read_meta, salvage_entries
from .tables import ENTRY, STREAMS, operations, scan_all
from .verify import inspect_database

_Item = TypeVar("_Item")

_SAMPLE: Final = 1000  # maximum streams of each file whose logs `_identity` looks for


class _Commits(NamedTuple):
    """A lower bound for the number of commits that the catalog ever had.

    Attributes:
        least: the lower bound.
        is_exact: whether no later commit was made before the last crash.
    """

    least: int
    is_exact: bool


def repair_catalog(path: str, quarantine: str, has_log: Callable[[int], bool]) -> list[str]:
    """Repairs a catalog in the way that loses the least data. Returns sentences that say what was done and what could not be read.

    Args:
        path: the catalog's directory, which no process has open.
        quarantine: the directory for replaced files, which is created if needed.
        has_log: returns whether the data directory has a log for an incarnation. It is called only if the database and its copy come
            from different directories and `SUM` does not show which of the two belongs to this directory.

    Raises:
        OSError: the disk failed.
    """
    disk = SystemDisk(path, readonly=True)
    copy = Copy(disk)
    try:
        copy.load()
        meta, faults = inspect_database(path, copy)
        said = sums.read(disk)
        ours = _identity(path, meta, copy, said, has_log)
        is_copy_whole = _is_whole(copy, ours, _known_commits(path, said))
    finally:
        copy.close()
    if not faults and (meta is None or not meta.identity or ours in (None, meta.identity)):
        relation = _relation(meta, copy)
        if relation is Relation.BEHIND or (relation is None and not is_copy_whole):
            return rewrite_copy(path, quarantine)
        if relation is not None:
            return []
    if is_copy_whole:
        return rebuild_from_copy(path, quarantine)
    salvage = salvage_entries(path)
    return [*salvage.notes, *rebuild_from_entries(path, quarantine, salvage)]


def _is_whole(copy: Copy, ours: int | None, known: _Commits) -> bool:
    """Returns whether a second copy has every commit of this directory's catalog.

    Args:
        copy: the second copy, already loaded.
        ours: the identity of this directory's catalog; None if unknown.
        known: the number of commits that the catalog had. If it is only a lower bound, a torn end may be a lost commit.
    """
    state = copy.state
    if state is None or copy.file is None or copy.newest != state.commits:
        return False
    if ours is not None and state.identity != ours:
        return False
    is_torn = copy.file.size() > state.end
    return state.commits >= known.least and (known.is_exact or not is_torn)


def _known_commits(path: str, said: sums.Sum | None) -> _Commits:
    """Returns the number of commits according to `SUM` and the database's metadata, as far as these can be read."""
    meta, is_newest = read_meta(path)
    found = [*([said.copy.commits] if said else []), *([meta.commits] if meta else [])]
    return _Commits(max(found, default=0), is_newest or said is not None)


def _relation(meta: Meta | None, copy: Copy) -> Relation | None:
    """Returns how the second copy relates to an intact database, or None if the two do not fit together."""
    try:
        return relate(meta, copy.state, copy.newest)
    except Damaged:
        return None


def _identity(
    path: str, meta: Meta | None, copy: Copy, said: sums.Sum | None, has_log: Callable[[int], bool]
) -> int | None:
    """Returns the identity of this directory's catalog, or None if nothing shows it.

    If database and copy have different identities and there is no `SUM`, the directory's logs decide which identity is right.
    """
    if said is not None:
        return said.copy.identity
    if meta is None or copy.state is None or copy.state.identity == meta.identity:
        return None
    nothing = Copy(SystemDisk(path, readonly=True))
    tables = open_tables(path, nothing, readonly=True)
    try:
        stored = [ENTRY.decode(sealed[4:]) for _, sealed in _sample(scan_all(tables, STREAMS))]
    finally:
        tables.close()
    copy.load()
    copied = list(_sample(_streams_of(copy)))
    is_copy_ours = _share_with_logs(copied, has_log) > _share_with_logs(stored, has_log)
    return copy.state.identity if is_copy_ours else meta.identity


def _sample(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yields the first items, at most `_SAMPLE`."""
    return itertools.islice(items, _SAMPLE)


def _streams_of(copy: Copy) -> Iterator[Entry]:
    """Yields each stream entry in a second copy, including outdated ones."""
    for payload in committed_payloads(copy):
        for table, _, sealed in operations(payload):
            if table == STREAMS and sealed is not None:
                yield ENTRY.decode(sealed[4:])


def _share_with_logs(entries: list[Entry], has_log: Callable[[int], bool]) -> float:
    """Returns the share of entries with logs, from 0 to 1, whose log is in the data directory."""
    logged = [entry.incarnation for entry in entries if entry.index_entries]
    return sum(map(has_log, logged)) / max(1, len(logged))

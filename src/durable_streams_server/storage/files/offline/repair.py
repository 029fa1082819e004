"""Repairs a data directory: keeps everything intact, moves damaged files to `quarantine/`, and deletes nothing.

The steps are ordered so that the repair may be killed at any point. First, everything that the new catalog will refer to is written
under names that nobody reads yet. Then one commit makes the new catalog current. Files that only the old catalog referred to are moved
away last. A second repair of the same directory has the same result.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from ..catalog import Catalog
from ..directory import QUARANTINE
from ..disk import Disk
from ..segments import DIRECTORY as WAL
from .apply_records import apply_records
from .check import Check
from .intact_prefix import IntactPrefix
from .log_moves import remove_old_names, write_logs
from .log_repair import append_kept_bytes, rewrite_index_header
from .new_wal import begin_wal, quarantine_old_segments
from .outcome import Outcome, outcome_of
from .quarantine import move_to_quarantine, write_withheld
from .reconstruction import Reconstruction
from .wal_reader import Gap, LogReader

UNKNOWN: Final = (
    "a stream that only the missing records created is lost, one that they deleted is back"
)
_SKIPPED: Final = 1 << 32  # LSNs to leave unused if the number of lost records is unknown


def repair(
    disk: Disk, catalog: Catalog, check: Check, now: int, *, is_salvaged: bool = False
) -> Iterator[str]:
    """Repairs the damage that a check has found, and yields sentences that say what was done and what is lost.

    Args:
        disk: the directory, which this process has locked.
        catalog: the directory's catalog.
        check: a check of both that has run to its end.
        now: microseconds of Unix time.
        is_salvaged: whether the catalog was put together from single entries.
    """
    if not check.is_catalog_readable:
        yield "catalog: it cannot be repaired; restore it from a backup"
        return
    if check.has_wrong_sums:
        catalog.count_again()
        yield "catalog: its streams and their bytes are counted again"
    # Orphans go first. An earlier repair that was killed may have made them, and this one uses the same names.
    for name in check.orphans:
        yield move_to_quarantine(disk, name)
    for words, entries in check.lost_headers:
        yield rewrite_index_header(disk, words, entries)
    for words, entries, kept in check.kept_beside:
        yield from append_kept_bytes(disk, words, entries, kept)
    if check.prefixes or check.is_log_damaged or is_salvaged:
        yield from _rebuild(
            disk,
            catalog,
            check.prefixes,
            now,
            renew_log=check.is_log_damaged or is_salvaged,
            is_salvaged=is_salvaged,
            is_strange=check.is_log_strange,
        )


def _rebuild(
    disk: Disk,
    catalog: Catalog,
    prefixes: Mapping[str, IntactPrefix],
    now: int,
    *,
    renew_log: bool,
    is_salvaged: bool,
    is_strange: bool,
) -> Iterator[str]:
    """Rewrites the catalog and the logs to the newest state that can be proven, and yields what was done and what is lost.

    Args:
        disk: the directory, which this process has locked.
        catalog: its catalog, every entry of which can be read.
        prefixes: intact prefixes of damaged logs, by path.
        now: microseconds of Unix time.
        renew_log: whether a new write-ahead log must begin, because the old one is damaged.
        is_salvaged: whether the catalog was put together from single entries.
        is_strange: whether the write-ahead log may belong to another directory, so that this directory's records are unknown.
    """
    disk.make_directory(QUARANTINE)
    found = Reconstruction(catalog, prefixes, is_salvaged=is_salvaged)
    reader = LogReader(disk, found.meta.lsn)
    try:
        yield from write_withheld(disk, apply_records(reader, found))
        if is_strange:
            found.add_gap(Gap(reader.last, None, None))
        is_end_unknown = is_salvaged or any(gap.before is None for gap in found.gaps)
        lsn = reader.last + (_SKIPPED if is_end_unknown else 0)
        outcome = outcome_of(found, lsn, now)
        yield from _losses(found, outcome)
        write_logs(disk, outcome)
        if renew_log:
            begin_wal(disk, reader.number + 1, lsn)
        catalog.commit(outcome.meta, outcome.changes, outcome.kept_logs, outcome.documents)
        yield from remove_old_names(disk, outcome.moves)
        if renew_log:
            yield from quarantine_old_segments(disk)
    finally:
        reader.close()


def _losses(found: Reconstruction, outcome: Outcome) -> Iterator[str]:
    """Yields a sentence for each gap and for each stream that gets a new incarnation."""
    for gap in found.gaps:
        yield f"{WAL}: {gap.in_words()}"
    if found.gaps:
        yield f"{WAL}: {UNKNOWN}"
    yield from outcome.words

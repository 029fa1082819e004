"""Compares the parts of a data directory with each other: the catalog, the logs and the write-ahead log. It changes nothing.

One kind of damage cannot be recognized: a bad record at the very end of the write-ahead log of a store that did not close cleanly.
The record may be a write that a crash cut off, which was never acknowledged, or it may be the last acknowledged write, damaged
later.
"""

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from ....protocol.subscriptions.state import Subscriptions
from ...damage import Damaged
from .. import held
from ..catalog import Catalog, Entry, Meta, label_of_entry
from ..catalog.entries import UNCOUNTED
from ..disk import LOST, Disk
from ..index import Label
from ..log_layout import DIRECTORY as LOGS
from ..log_layout import KEPT, path_of
from ..segments import DIRECTORY as WAL
from ..wal import Wal
from .apply_records import apply_records
from .cross_references import CrossReferences
from .findings import Finding, Totals
from .intact_prefix import IntactPrefix
from .log_check import Harm, harm_of_log, is_rest_kept
from .reconstruction import Reconstruction
from .wal_reader import Gap, LogReader


class LostHeader(NamedTuple):
    """A log index of which only the header is damaged.

    Attributes:
        words: the header that a repair must write to the index.
        entries: number of entries in the index, all intact.
    """

    words: Label
    entries: int


class KeptBeside(NamedTuple):
    """A log with a damaged index, whose last bytes checkpoints have written to separate files.

    Attributes:
        words: the header that a repair must write to the log's index.
        entries: number of intact entries in the log's index.
        kept: number of entries in the index of the separate files.
    """

    words: Label
    entries: int
    kept: int


class Check:
    """One check of a data directory that no process has open. Its results tell a repair what to do.

    Args:
        disk: the directory.
        catalog: the directory's catalog.
        progress: called with the number of streams checked so far and the number of all streams.

    Attributes:
        prefixes: intact prefixes of damaged logs, by path. Like all attributes, complete once `run` has ended.
        lost_headers: indexes that lost only their header.
        kept_beside: logs whose last bytes are in separate files.
        orphans: files among the logs that belong to no stream.
        gaps: gaps in the write-ahead log.
        has_wrong_sums: whether the catalog's metadata has a wrong number of streams or bytes.
        is_catalog_readable: whether every entry of the catalog can be read.
        is_catalog_lost: whether there are logs, although nothing was ever committed to the catalog.
        is_log_damaged: whether a store would refuse to open the write-ahead log.
        is_log_strange: whether a record does not fit the catalog although no record before it is missing.
    """

    def __init__(
        self, disk: Disk, catalog: Catalog, progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._disk = disk
        self._catalog = catalog
        self._progress = progress
        self._streams = self._records = self._bytes = 0
        self._new_streams = self._new_bytes = 0
        self._known: set[int] = set()  # incarnations whose logs are no orphans
        self._harms: list[Harm] = []
        self._ended: set[int] = set()
        self.prefixes: dict[str, IntactPrefix] = {}
        self.lost_headers: list[LostHeader] = []
        self.kept_beside: list[KeptBeside] = []
        self.orphans: list[str] = []
        self.gaps: list[Gap] = []
        self.has_wrong_sums = False
        self.is_catalog_readable = False
        self.is_catalog_lost = False
        self.is_log_damaged = False
        self.is_log_strange = False

    @property
    def totals(self) -> Totals:
        """The amounts that were checked so far."""
        return Totals(self._streams, self._records, self._bytes, self._new_streams, self._new_bytes)

    def run(self) -> Iterator[Finding]:
        """Checks the catalog, all logs and the write-ahead log, and yields each fault."""
        try:
            meta = self._catalog.meta()
        except Damaged as damage:
            yield Finding("catalog", str(damage))
            return
        self.is_catalog_readable = yield from self._check_catalog(meta)
        yield from self._check_refusal(meta)
        if (
            self.is_catalog_readable
        ):  # otherwise a record may belong to a stream whose catalog entry is damaged
            yield from self._check_records(meta)
        yield from self._report_harms()
        if self.is_catalog_readable:
            yield from self._check_orphans()
            if self.orphans and meta.lsn == 0:
                self.is_catalog_lost = True
                yield Finding("catalog", "it is lost: nothing in it, and there are logs of streams")

    # -- the catalog and its logs -------------------------------------------

    def _check_catalog(self, meta: Meta) -> Generator[Finding, None, bool]:
        """Checks the catalog and the log of each stream in it. Yields each fault of the catalog.

        Returns:
            Whether every entry of the catalog can be read.
        """
        damages: list[Damaged] = []
        references = CrossReferences()
        stored = 0
        has_right_deadlines = True
        try:
            for path, entry in self._catalog.paths(damages.append):
                self._streams += 1
                self._progress(self._streams, meta.streams)
                stored += entry.size
                self._check_log(path, entry)
                references.add(path, entry)
                self._catalog.producers(entry.incarnation)
            for name, document in self._catalog.documents():
                if not held.is_held(name):
                    Subscriptions().restore(name, document)
            has_right_deadlines = references.agree_with_deadlines(self._catalog)
            self._known.update(self._catalog.garbage())
        except Damaged as damage:
            damages.append(damage)
        if damages:
            yield from (Finding("catalog", str(each)) for each in damages)
            return False
        if self._streams != meta.streams:
            self.has_wrong_sums = True
            yield Finding("catalog", f"it holds {self._streams} streams and says {meta.streams}")
        if meta.stored not in (stored, UNCOUNTED):
            self.has_wrong_sums = True
            yield Finding("catalog", f"its streams have {stored} bytes and it says {meta.stored}")
        if not has_right_deadlines:
            yield Finding("catalog", "its deadlines are not those of its streams")
        yield from references.fork_faults()
        return True

    def _check_log(self, path: str, entry: Entry) -> None:
        """Checks the log of one stream. Damage is only collected, because a later record may remove the stream."""
        self._known.add(entry.incarnation)
        harm = harm_of_log(self._disk, path, entry)
        if harm is not None:
            self._harms.append(harm)
        end = entry.tail if harm is None else harm.end
        self._bytes += end - entry.extent.base

    def _report_harms(self) -> Iterator[Finding]:
        """Yields the damage of logs, except the logs of streams that a record of the write-ahead log removes.

        When the disk is full, such a log is deleted before a checkpoint removes its stream from the catalog.
        """
        for harm in self._harms:
            if harm.entry.incarnation not in self._ended:
                self._plan_repair(harm)
                is_missing = not harm.entry.extent.entries
                where = "catalog" if is_missing else path_of(harm.entry.incarnation)
                yield Finding(where, harm.what, harm.path)

    def _plan_repair(self, harm: Harm) -> None:
        """Decides what a repair can do for a damaged log."""
        path, entry, end, entries, _, is_header = harm
        extent = entry.extent
        if not extent.entries:
            self.prefixes[path] = IntactPrefix(end, entries)
        elif is_header:
            self.lost_headers.append(LostHeader(label_of_entry(path, entry), entries))
        elif (end, entries) != (extent.tail, extent.entries):
            if is_rest_kept(self._disk, harm):
                words = label_of_entry(path, entry)
                self.kept_beside.append(KeptBeside(words, entries, extent.entries - entries))
            else:
                self.prefixes[path] = IntactPrefix(end, entries)

    # -- the write-ahead log ------------------------------------------------

    def _check_refusal(self, meta: Meta) -> Iterator[Finding]:
        """Yields the reason why a store would not open the write-ahead log, if there is one."""
        wal = Wal(self._disk, 0)
        try:
            for _, payload in wal.recover(meta.lsn):
                self._records += 1
                self._bytes += len(payload)
        except Damaged as damage:
            self.is_log_damaged = True
            yield Finding(WAL, str(damage))
        except OSError as error:
            if error.errno not in LOST:
                raise
            self.is_log_damaged = True
            yield Finding(WAL, str(error))
        finally:
            wal.close()

    def _check_records(self, meta: Meta) -> Iterator[Finding]:
        """Applies the records of the write-ahead log to the catalog's states.

        Yields a fault for each gap in the log, and for each record that does not fit the state of its stream.
        """
        reader = LogReader(self._disk, meta.lsn)
        found = Reconstruction(self._catalog, keep=False)
        reasons: set[tuple[str | None, str]] = set()
        try:
            for each in apply_records(reader, found):
                self.is_log_damaged = True  # a store refuses such a record
                self.is_log_strange |= not found.gaps
                path = getattr(each.change, "path", None)
                if (path, each.why) not in reasons:
                    reasons.add((path, each.why))
                    yield Finding(f"{WAL}: record {each.lsn}", each.why, path)
        except Damaged as damage:
            self.is_log_damaged = True
            yield Finding(WAL, str(damage))
        finally:
            reader.close()
        self.gaps = found.gaps
        for gap in self.gaps:
            self.is_log_damaged = True
            yield Finding(WAL, gap.in_words())
        for name in reader.missing:
            yield Finding(name, "it is missing, and may have held the newest records")
        for name in reader.headless:
            self.is_log_damaged = True
            yield Finding(name, "its header is lost")
        self._known.update(found.incarnations)
        self._ended = {incarnation for _, incarnation in found.ended}
        self._new_streams, self._new_bytes = found.streams, found.bytes

    def _check_orphans(self) -> Iterator[Finding]:
        """Yields the files among the logs that belong to no stream."""
        used = {f"{words.incarnation:016d}{KEPT}" for words, _, _ in self.kept_beside}
        for directory in self._disk.names(LOGS):
            for name in self._disk.names(f"{LOGS}/{directory}"):
                number = name.removesuffix(".idx")
                if number in used:
                    continue
                if not number.isdigit() or int(number) not in self._known:
                    where = f"{LOGS}/{directory}/{name}"
                    self.orphans.append(where)
                    yield Finding(where, "no stream has this file", harmless=True)

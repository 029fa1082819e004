"""`check`: compares every checksum of a data directory, and its parts with each other. It changes nothing.

One kind of damage cannot be told: a bad record at the very end of the write-ahead log of a store that did not close cleanly.
It may be a write that the crash cut off, which was never acknowledged, or damage to the last one that was.
"""

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from ....protocol.subscriptions.state import Subscriptions
from ...damage import Damaged
from .. import held
from ..catalog import Catalog, Entry, Meta
from ..disk import LOST, Disk, File
from ..index import Index, Label
from ..log_layout import DIRECTORY as LOGS
from ..log_layout import KEPT, path_of
from ..segments import DIRECTORY as WAL
from ..verify import whole_prefix
from ..wal import Wal
from .mend import Cut, Mending, words_of_entry
from .repair import replay
from .salvage import Gap, LogReader


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        where: a file, or a part of the catalog.
        what: what is wrong with it.
        path: the stream that it harms, if it is one.
        harmless: whether nothing acknowledged is lost by it.
    """

    where: str
    what: str
    path: str | None = None
    harmless: bool = False


class Checked(NamedTuple):
    """How much was looked at.

    Attributes:
        streams: in the catalog.
        records: in the write-ahead log, after the catalog.
        bytes: of logs and records.
        new_streams: streams that only the write-ahead log has.
        new_bytes: stream bytes that only the write-ahead log has.
    """

    streams: int
    records: int
    bytes: int
    new_streams: int
    new_bytes: int


class _Harm(NamedTuple):
    """A log that is not as its entry says: up to where it is whole, in how many index entries, and what is wrong."""

    path: str
    entry: Entry
    end: int
    entries: int
    what: str
    is_header: bool = False  # the header of its index alone


class Check:
    """One check of a data directory that no process has open.

    Args:
        disk: the directory.
        catalog: its catalog.
        progress: called with the number of streams looked at and of all.

    Attributes:
        cuts: what is left of the streams whose logs are damaged, by path. Complete after `run`, as the others.
        headers: indexes that have lost their header alone: what it must say, and the number of entries.
        joins: logs that are whole as far as they go, and whose rest checkpoints have kept beside them: what the index must say,
            its entries, and those that are kept.
        orphans: files in the directory of logs that no stream has.
        gaps: where records of the write-ahead log are missing.
        is_catalog_whole: whether every entry of the catalog could be read.
        is_catalog_lost: whether there are logs, but a catalog that was never written.
        is_log_damaged: whether a store would refuse the write-ahead log.
        is_log_strange: whether it has records that do not follow from the catalog, though none is missing before them.
    """

    def __init__(
        self, disk: Disk, catalog: Catalog, progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._disk = disk
        self._catalog = catalog
        self._progress = progress
        self._streams = self._records = self._bytes = 0
        self._new_streams = self._new_bytes = 0
        self._known: set[int] = set()
        self._harms: list[_Harm] = []
        self._ended: set[int] = set()
        self.cuts: dict[str, Cut] = {}
        self.headers: list[tuple[Label, int]] = []
        self.joins: list[tuple[Label, int, int]] = []
        self.orphans: list[str] = []
        self.gaps: list[Gap] = []
        self.is_catalog_whole = False
        self.is_catalog_lost = False
        self.is_log_damaged = False
        self.is_log_strange = False

    @property
    def checked(self) -> Checked:
        """How much has been looked at so far."""
        return Checked(
            self._streams, self._records, self._bytes, self._new_streams, self._new_bytes
        )

    def run(self) -> Iterator[Finding]:
        """Looks at everything, and yields what is wrong."""
        try:
            meta = self._catalog.meta()
        except Damaged as damage:
            yield Finding("catalog", str(damage))
            return
        self.is_catalog_whole = yield from self._check_catalog(meta)
        yield from self._check_refusal(meta)
        if self.is_catalog_whole:  # or a log without a stream may be that of a damaged entry
            yield from self._check_records(meta)
        yield from self._judge_logs()
        if self.is_catalog_whole:
            yield from self._check_orphans()
            if self.orphans and meta.lsn == 0:
                self.is_catalog_lost = True
                yield Finding("catalog", "it is lost: nothing in it, and there are logs of streams")

    def _judge_logs(self) -> Iterator[Finding]:
        """Yields the damage of logs. A stream that a record removes needs none: a full disk takes its log away before the
        catalog knows."""
        for harm in self._harms:
            if harm.entry.incarnation not in self._ended:
                yield self._judge(harm)

    # -- the catalog and its logs -------------------------------------------

    def _check_catalog(self, meta: Meta) -> Generator[Finding, None, bool]:
        """Looks at each stream; returns whether all that the catalog holds could be read."""
        damages: list[Damaged] = []
        deadlines = {}
        older: dict[tuple[int | None, int], int] = {}
        children: dict[tuple[str, int], int] = {}
        counted: list[tuple[str, Entry]] = []
        try:
            for path, entry in self._catalog.paths(damages.append):
                self._streams += 1
                self._progress(self._streams, meta.streams)
                self._known.add(entry.incarnation)
                self._check_log(path, entry)
                if entry.deadline is not None:
                    deadlines[entry.deadline, entry.incarnation] = path
                    older[entry.older_deadline, entry.incarnation] = entry.deadline
                if entry.children:
                    counted.append((path, entry))
                if entry.origin is not None:
                    source = entry.origin.source, entry.origin.incarnation
                    children[source] = children.get(source, 0) + 1
                self._catalog.producers(entry.incarnation)
            for name, document in self._catalog.documents():
                if not held.is_held(name):
                    Subscriptions().restore(name, document)
            stored = {
                (older.get((at, incarnation), at), incarnation): path
                for at, incarnation, path in self._catalog.deadlines((0, 0), 1 << 63, 1 << 62)
            }
            self._known.update(self._catalog.garbage())
        except Damaged as damage:
            damages.append(damage)
        if damages:
            yield from (Finding("catalog", str(each)) for each in damages)
            return False
        if self._streams != meta.streams:
            yield Finding("catalog", f"it holds {self._streams} streams and says {meta.streams}")
        if stored != deadlines:
            yield Finding("catalog", "its deadlines are not those of its streams")
        for path, entry in counted:
            if children.pop((path, entry.incarnation), 0) != entry.children:
                yield Finding("catalog", "the number of its forks is wrong", path)
        for path, _ in children:
            yield Finding("catalog", "forks name it as their source, but it is not there", path)
        return True

    def _check_log(self, path: str, entry: Entry) -> None:
        extent = entry.extent
        if extent.entries:
            harm = self._open_and_compare(path, entry)
            if harm is not None:
                self._harms.append(harm)
        elif extent.tail != extent.base:
            self._harms.append(_Harm(path, entry, extent.base, 0, "it has bytes but no log"))

    def _judge(self, harm: _Harm) -> Finding:
        """Notes what a repair can make of a damaged log."""
        path, entry, end, entries, what, is_header = harm
        extent = entry.extent
        if not extent.entries:
            self.cuts[path] = Cut(end, entries)
            return Finding("catalog", what, path)
        name = path_of(entry.incarnation)
        if is_header:
            self.headers.append((words_of_entry(path, entry), entries))
        elif (end, entries) != (extent.tail, extent.entries):
            if self._is_kept(name, entry, end, entries):
                words = words_of_entry(path, entry)
                self.joins.append((words, entries, extent.entries - entries))
            else:
                self.cuts[path] = Cut(end, entries)
        return Finding(name, what, path)

    def _is_kept(self, name: str, entry: Entry, end: int, entries: int) -> bool:
        """Whether all that a log lacks at its end is in the files that checkpoints have kept beside it."""
        data_name, index_name = name + KEPT, name + KEPT + ".idx"
        if not self._disk.exists(data_name) or not self._disk.exists(index_name):
            return False
        data, file = self._disk.open(data_name), self._disk.open(index_name)
        try:
            index = Index.of(file)
            extent = end, entry.tail, entry.index_entries - entries
            is_whole = whole_prefix(data, index, file.size(), extent)[2] is None
            return index.base == end and is_whole
        except Damaged:
            return False
        finally:
            data.close()
            file.close()

    def _open_and_compare(self, path: str, entry: Entry) -> _Harm | None:
        """Returns what is wrong with a log."""
        extent, name = entry.extent, path_of(entry.incarnation)
        files: list[File] = []
        try:
            files.append(self._disk.open(name))
            files.append(self._disk.open(name + ".idx"))
            index, wrong = _index_of(files[1], path, entry)
            found = whole_prefix(files[0], index, files[1].size(), extent)
        except Damaged as damage:
            return _Harm(path, entry, extent.base, 0, str(damage))
        except OSError as error:
            if error.errno not in LOST:
                raise
            is_missing = isinstance(error, FileNotFoundError)
            what = f"{error.filename} is missing" if is_missing else str(error)
            return _Harm(path, entry, extent.base, 0, what)
        finally:
            for file in files:
                file.close()
        end, entries, what_is_wrong = found
        self._bytes += end - extent.base
        if what_is_wrong is not None:
            return _Harm(path, entry, end, entries, what_is_wrong)
        return None if wrong is None else _Harm(path, entry, end, entries, wrong, is_header=True)

    # -- the write-ahead log ------------------------------------------------

    def _check_refusal(self, meta: Meta) -> Iterator[Finding]:
        """Yields why a store would not open on the write-ahead log."""
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
        """Applies the records to the catalog's states, and yields what is missing or does not follow."""
        reader = LogReader(self._disk, meta.lsn)
        mending = Mending(self._catalog, keep=False)
        reasons: dict[tuple[str | None, str], None] = {}
        try:
            for each in replay(reader, mending):
                self.is_log_damaged = True  # a store refuses it
                self.is_log_strange |= not mending.gaps
                path = getattr(each.change, "path", None)
                if (path, each.why) not in reasons:
                    reasons[path, each.why] = None
                    yield Finding(f"{WAL}: record {each.lsn}", each.why, path)
        except Damaged as damage:
            self.is_log_damaged = True
            yield Finding(WAL, str(damage))
        finally:
            reader.close()
        self.gaps = mending.gaps
        for gap in self.gaps:
            self.is_log_damaged = True
            yield Finding(WAL, gap.in_words())
        for name in reader.missing:
            yield Finding(name, "it is missing, and may have held the newest records")
        for name in reader.headless:
            self.is_log_damaged = True
            yield Finding(name, "its header is lost")
        self._known.update(mending.incarnations)
        self._ended = mending.ended
        self._new_streams, self._new_bytes = mending.streams, mending.bytes

    def _check_orphans(self) -> Iterator[Finding]:
        joined = {f"{words.incarnation:016d}{KEPT}" for words, _, _ in self.joins}
        for directory in self._disk.names(LOGS):
            for name in self._disk.names(f"{LOGS}/{directory}"):
                number = name.removesuffix(".idx")
                if number in joined:
                    continue
                if not number.isdigit() or int(number) not in self._known:
                    where = f"{LOGS}/{directory}/{name}"
                    self.orphans.append(where)
                    yield Finding(where, "no stream has this file", harmless=True)


def _index_of(file: File, path: str, entry: Entry) -> tuple[Index, str | None]:
    """Returns a stream's index, and what is wrong with its header.

    Raises:
        Damaged: its entries cannot be found either.
    """
    base = entry.extent.base
    try:
        index = Index.of(file)
    except Damaged as damage:
        return Index.without_header(file, base), str(damage)
    words = index.label
    if index.base != base:
        return index, "its index begins elsewhere"
    if words is not None and (words.incarnation, words.path) != (entry.incarnation, path):
        return index, f"it is the index of {words.path}"
    return index, None

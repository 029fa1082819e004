"""`check`: every checksum of a data directory, and how its parts agree. `repair` puts aside what is damaged; nothing is deleted.

What cannot be told: a bad record at the very end of the write-ahead log of a store that did not close cleanly. It may be a write
that the crash cut off, which was never acknowledged, or damage to the last one that was.
"""

import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Final, NamedTuple

import msgspec

from ...protocol.state import Change, Created
from ...protocol.subscriptions.state import Subscriptions
from . import held, index
from .catalog import Catalog, Drop, Entry, Meta
from .disk import Disk, File
from .logs import DIRECTORY as LOGS
from .logs import path_of
from .recent import INSIDE
from .wal import DIRECTORY as WAL
from .wal import Damaged, Wal

QUARANTINE: Final = "quarantine"
_AT_ONCE: Final = 1024  # index entries read at once
_DECODE: Final = msgspec.msgpack.Decoder(tuple[Change, ...]).decode


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
    """How much was looked at."""

    streams: int
    records: int
    bytes: int


class Check:
    """One check of a data directory that no process has open.

    Args:
        disk: the directory.
        catalog: its catalog.
        progress: called with the number of streams looked at and of all.
    """

    def __init__(
        self, disk: Disk, catalog: Catalog, progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._disk = disk
        self._catalog = catalog
        self._progress = progress
        self._streams = self._records = self._bytes = 0
        self._known: set[int] = set()

    @property
    def checked(self) -> Checked:
        """How much has been looked at so far."""
        return Checked(self._streams, self._records, self._bytes)

    def run(self) -> Iterator[Finding]:
        """Looks at everything, and yields what is wrong."""
        try:
            meta = self._catalog.meta()
        except Damaged as damage:
            yield Finding("catalog", str(damage))
            return
        is_whole = yield from self._check_catalog(meta)
        yield from self._check_wal(meta)
        if is_whole:  # or a log without a stream may be that of a damaged entry
            yield from self._check_orphans()

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
                yield from self._check_log(path, entry)
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

    def _check_log(self, path: str, entry: Entry) -> Iterator[Finding]:
        extent = entry.extent
        if extent.entries == 0:
            if extent.tail != extent.base:
                yield Finding("catalog", "it has bytes but no log", path)
            return
        name = path_of(entry.incarnation)
        try:
            data, index_file = self._disk.open(name), self._disk.open(name + ".idx")
        except FileNotFoundError as error:
            yield Finding(name, f"{error.filename} is missing", path)
            return
        try:
            if index.read_base(index_file) != extent.base:
                yield Finding(name, "its index begins elsewhere", path)
                return
            end = self._check_pieces(data, index_file, extent.base, extent.entries)
        except Damaged as damage:
            yield Finding(name, str(damage), path)
            return
        finally:
            data.close()
            index_file.close()
        if end != extent.tail:
            yield Finding(name, f"its index ends at {end}, the catalog says {extent.tail}", path)

    def _check_pieces(self, data: File, index_file: File, base: int, entries: int) -> int:
        """Compares each piece of a log with its checksum; returns where the last one ends."""
        position = base
        for first in range(0, entries, _AT_ONCE):
            for entry in index.read(index_file, first, min(_AT_ONCE, entries - first)):
                end = entry.end & ~INSIDE
                piece = data.read(max(0, end - position), position - base)
                self._bytes += len(piece)
                if len(piece) != end - position:
                    raise Damaged(f"it ends before position {end}")
                if zlib.crc32(piece) != entry.crc:
                    raise Damaged(f"the bytes from {position} to {end} are damaged")
                position = end
        return position

    def _check_wal(self, meta: Meta) -> Iterator[Finding]:
        wal = Wal(self._disk, 0)
        try:
            for lsn, payload in wal.recover(meta.lsn):
                self._records += 1
                self._bytes += len(payload)
                try:
                    changes = _DECODE(payload)
                except msgspec.DecodeError:
                    yield Finding(WAL, f"record {lsn} cannot be understood")
                    return
                self._known.update(
                    change.incarnation for change in changes if isinstance(change, Created)
                )
        except Damaged as damage:
            yield Finding(WAL, str(damage))
        finally:
            wal.close()

    def _check_orphans(self) -> Iterator[Finding]:
        for directory in self._disk.names(LOGS):
            for name in self._disk.names(f"{LOGS}/{directory}"):
                number = name.removesuffix(".idx")
                if not number.isdigit() or int(number) not in self._known:
                    where = f"{LOGS}/{directory}/{name}"
                    yield Finding(where, "no stream has this file", harmless=True)


def repair(disk: Disk, catalog: Catalog, findings: list[Finding]) -> Iterator[str]:
    """Puts aside what is damaged, so that the rest can be served, and yields what was done.

    A stream whose log or entry is damaged leaves the catalog; its files go to `quarantine/`, beside a copy of its entry. Of a
    damaged write-ahead log, the records before the damage must have been brought to the catalog first.
    """
    disk.make_directory(QUARANTINE)
    for finding in findings:
        if finding.path is not None and finding.where.startswith(LOGS):
            yield from _put_stream_aside(disk, catalog, finding.path)
        elif finding.harmless:
            yield _put_file_aside(disk, finding.where)
        elif finding.where == WAL:
            for name in disk.names(WAL):
                yield _put_file_aside(disk, f"{WAL}/{name}")
            catalog.commit(msgspec.structs.replace(catalog.meta(), lsn=0), [], [])
        else:
            yield f"{finding.where}: cannot be repaired; restore it from a backup"
    disk.sync_directory(QUARANTINE)


def _put_stream_aside(disk: Disk, catalog: Catalog, path: str) -> Iterator[str]:
    entry = catalog.find(path)
    if entry is None:
        return
    copy = disk.open(f"{QUARANTINE}/{entry.incarnation:016d}.json", create=True)
    copy.write(msgspec.json.encode({"path": path, "entry": entry}), 0)
    copy.sync()
    copy.close()
    for name in (path_of(entry.incarnation), path_of(entry.incarnation) + ".idx"):
        if disk.exists(name):
            yield _put_file_aside(disk, name)
    meta = catalog.meta()
    meta = msgspec.structs.replace(meta, aside=(*meta.aside, entry.incarnation))
    catalog.commit(meta, [Drop(path, entry.incarnation)], [])
    yield f"{path} is put aside"


def _put_file_aside(disk: Disk, name: str) -> str:
    first = target = f"{QUARANTINE}/{name.replace('/', '-')}"
    number = 1
    while disk.exists(target):  # an earlier repair's
        number += 1
        target = f"{first}.{number}"
    disk.rename(name, target)
    disk.sync_directory(name.rpartition("/")[0])
    return f"{name} is now {target}"

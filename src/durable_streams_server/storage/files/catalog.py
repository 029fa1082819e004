"""The catalog: what every stream was at one record of the log, all of it at once.

It is written by checkpoints alone, one transaction each, and is true for the LSN in its `Meta`: the log's records after that
bring it up to date. Every entry carries a CRC of its key and value, since the database itself has none.
"""

import errno
import logging
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import lmdb
import msgspec

from ...protocol.lifetime import Lifetime
from ...protocol.media import MediaType
from ...protocol.offsets import Lineage
from ...protocol.producers import ProducerState, Stamp
from ...protocol.state import Origin, StreamState
from .logs import Extent
from .wal import Damaged

FORMAT: Final = 1
_MAP_SIZE: Final = 1 << 40  # address space only; the file grows with what is in it
_META_KEY: Final = b"meta"

#: Dates and idle times go by different clocks, so the order of deadlines has a part for each. Idle times end before the
#: dates' part begins, and it has room for every date that can be written.
DATES: Final = 1 << 62
DATES_BEGIN: Final = 1 << 61
_NONE: Final[Mapping[str, bytes | None]] = MappingProxyType({})
_log = logging.getLogger("durable_streams_server")
_TWO: Final = struct.Struct(">QQ")
_ONE: Final = struct.Struct(">Q")


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """What the catalog is true for.

    Attributes:
        lsn: the last record that is in it.
        last_incarnation: the newest incarnation ever given out.
        session: how often the directory has been opened.
        streams: how many streams it holds.
        aside: incarnations that a repair has put aside; later records about them are passed over.
        wall_offset: microseconds by which the wall clock is ahead of steady time.
        steady: a steady time that had been reached.
    """

    lsn: int = 0
    last_incarnation: int = 0
    session: int = 0
    streams: int = 0
    aside: tuple[int, ...] = ()
    wall_offset: int = 0
    steady: int = 0


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One stream, without its producers. `session` is the one in which `touched_at` was last exact; 0 if unknown."""

    incarnation: int
    media: MediaType
    lifetime: Lifetime
    created_at: int
    touched_at: int
    session: int
    origin: Origin | None
    lineage: Lineage
    tail: int
    closed: bool
    closed_by: Stamp | None
    last_seq: bytes | None
    children: int
    soft_deleted: bool
    index_entries: int

    @property
    def extent(self) -> Extent:
        """What of its log is proven."""
        return Extent(self.origin.position if self.origin else 0, self.tail, self.index_entries)

    @property
    def deadline(self) -> int | None:
        """Its place in the order of deadlines: steady time, or a date, which is past `DATES`; None if it has none."""
        if self.soft_deleted:
            return None
        date = self.lifetime.expires_at
        return self.lifetime.deadline(self.touched_at) if date is None else DATES + date


class Put(msgspec.Struct, frozen=True):
    """A stream as it is now, with the producers that have made progress since it was last written."""

    path: str
    entry: Entry
    producers: dict[bytes, ProducerState]


class Drop(msgspec.Struct, frozen=True):
    """A stream that is gone."""

    path: str
    incarnation: int


class Catalog(ABC):
    """The database of a data directory."""

    @abstractmethod
    def meta(self) -> Meta:
        """Returns what the catalog is true for."""

    @abstractmethod
    def find(self, path: str) -> Entry | None:
        """Looks up a stream.

        Raises:
            Damaged: the entry is.
        """

    @abstractmethod
    def producers(self, incarnation: int) -> dict[bytes, ProducerState]:
        """Returns a stream's producers."""

    @abstractmethod
    def paths(
        self, damaged: Callable[[Damaged], None] | None = None, /
    ) -> Iterator[tuple[str, Entry]]:
        """Iterates over all streams in the order of their paths.

        Args:
            damaged: told of an entry that is, which is passed over then.

        Raises:
            Damaged: an entry is, and nobody is to be told.
        """

    @abstractmethod
    def deadlines(
        self, after: tuple[int, int], until: int, limit: int
    ) -> list[tuple[int, int, str]]:
        """Returns (deadline, incarnation, path) of streams past the pair `after` with deadlines up to `until`, in order."""

    @abstractmethod
    def next_deadline(self, after: tuple[int, int]) -> int | None:
        """Returns the first deadline past the pair `after`."""

    @abstractmethod
    def garbage(self) -> list[int]:
        """Returns the incarnations whose logs are still to be removed."""

    @abstractmethod
    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Iterates over the documents of subscriptions, by name.

        Raises:
            Damaged: one of them is.
        """

    @abstractmethod
    def commit(
        self,
        meta: Meta,
        changes: list[Put | Drop],
        removed: list[int],
        documents: Mapping[str, bytes | None] = _NONE,
    ) -> None:
        """Makes changes durable, all or none: streams put or dropped, garbage that has been `removed`, and documents; one that is
        None goes.

        Raises:
            OSError: nothing has changed.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the database."""


def entry_of(state: StreamState, index_entries: int, session: int) -> Entry:
    """Returns the entry that stands for a state."""
    return Entry(
        state.incarnation,
        state.media,
        state.lifetime,
        state.created_at,
        state.touched_at,
        0 if state.grace else session,
        state.origin,
        state.lineage,
        state.tail,
        state.closed,
        state.closed_by,
        state.last_seq,
        state.children,
        state.soft_deleted,
        index_entries,
    )


def state_of(path: str, entry: Entry, session: int) -> StreamState:
    """Returns the state that an entry stands for, as readers may see it."""
    state = StreamState(
        path,
        entry.incarnation,
        entry.media,
        entry.lifetime,
        entry.created_at,
        entry.origin,
        entry.lineage,
    )
    state.touched_at = state.noted_at = entry.touched_at
    if entry.session != session:
        state.expect_uses_before_a_restart()
    state.tail = state.visible_tail = entry.tail
    state.closed = state.visible_closed = entry.closed
    state.closed_by = entry.closed_by
    state.last_seq = entry.last_seq
    state.children = entry.children
    state.soft_deleted = state.visible_soft_deleted = entry.soft_deleted
    return state


class LmdbCatalog(Catalog):
    """The catalog in LMDB.

    Args:
        path: the directory of the database; made if it is not there.

    Raises:
        Damaged: the database cannot be opened.
    """

    def __init__(self, path: str) -> None:
        try:
            self._environment = lmdb.open(path, map_size=_MAP_SIZE, max_dbs=6, mode=0o600)
            self._refuse_short_file(path)
            (
                self._meta,
                self._streams,
                self._producers,
                self._deadlines,
                self._garbage,
                self._documents,
            ) = (
                self._environment.open_db(name)
                for name in (
                    b"meta",
                    b"streams",
                    b"producers",
                    b"deadlines",
                    b"garbage",
                    b"documents",
                )
            )
        except lmdb.Error as error:
            raise Damaged(f"catalog: {error}") from None

    def _refuse_short_file(self, path: str) -> None:
        """A page past the end of the file would end the process with SIGBUS, not with an error."""
        pages = self._environment.info()["last_pgno"] + 1
        needed = pages * self._environment.stat()["psize"]
        size = (Path(path) / "data.mdb").stat().st_size
        if size < needed:
            self._environment.close()
            raise Damaged(f"catalog: its file has {size} bytes of {needed}")

    def meta(self) -> Meta:
        raw = self._get(self._meta, _META_KEY)
        return Meta() if raw is None else msgspec.msgpack.decode(raw, type=Meta)

    def find(self, path: str) -> Entry | None:
        raw = self._get(self._streams, path.encode())
        return None if raw is None else _ENTRY.decode(raw)

    def producers(self, incarnation: int) -> dict[bytes, ProducerState]:
        prefix = _ONE.pack(incarnation)
        found = {}
        with (
            self._environment.begin(self._producers) as transaction,
            transaction.cursor() as cursor,
        ):
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if not key.startswith(prefix):
                        break
                    epoch, seq = _TWO.unpack(_checked(key, value))
                    found[key[_ONE.size :]] = ProducerState(epoch, seq)
        return found

    def paths(
        self, damaged: Callable[[Damaged], None] | None = None, /
    ) -> Iterator[tuple[str, Entry]]:
        key: bytes | None = None
        while (
            True
        ):  # a transaction for each batch: a long one would keep old pages from being reused
            batch: list[tuple[str, Entry]] = []
            looked_at = 0
            with (
                self._environment.begin(self._streams) as transaction,
                transaction.cursor() as cursor,
            ):
                more = cursor.first() if key is None else cursor.set_range(key + b"\0")
                while more and looked_at < 1000:
                    looked_at += 1
                    key = cursor.key()
                    try:
                        batch.append((key.decode(), _ENTRY.decode(_checked(key, cursor.value()))))
                    except Damaged as damage:
                        if damaged is None:
                            raise
                        damaged(damage)
                    more = cursor.next()
            if not looked_at:
                return
            yield from batch

    def deadlines(
        self, after: tuple[int, int], until: int, limit: int
    ) -> list[tuple[int, int, str]]:
        found: list[tuple[int, int, str]] = []
        with (
            self._environment.begin(self._deadlines) as transaction,
            transaction.cursor() as cursor,
        ):
            more = cursor.set_range(_TWO.pack(*after) + b"\0")
            while more and len(found) < limit:
                deadline, incarnation = _TWO.unpack(cursor.key())
                if deadline > until:
                    break
                try:
                    path = _checked(cursor.key(), cursor.value()).decode()
                except Damaged as damage:  # the stream's own entry has its deadline too
                    _log.error("a stream will end only when it is asked for: %s", damage)
                else:
                    found.append((deadline, incarnation, path))
                more = cursor.next()
        return found

    def next_deadline(self, after: tuple[int, int]) -> int | None:
        with (
            self._environment.begin(self._deadlines) as transaction,
            transaction.cursor() as cursor,
        ):
            if not cursor.set_range(_TWO.pack(*after) + b"\0"):
                return None
            return int(_TWO.unpack(cursor.key())[0])

    def garbage(self) -> list[int]:
        with self._environment.begin(self._garbage) as transaction, transaction.cursor() as cursor:
            return [int(_ONE.unpack(key)[0]) for key in cursor.iternext(values=False)]

    def documents(self) -> Iterator[tuple[str, bytes]]:
        with (
            self._environment.begin(self._documents) as transaction,
            transaction.cursor() as cursor,
        ):
            for key, value in cursor:
                yield key.decode(), _checked(key, value)

    def commit(
        self,
        meta: Meta,
        changes: list[Put | Drop],
        removed: list[int],
        documents: Mapping[str, bytes | None] = _NONE,
    ) -> None:
        try:
            with self._environment.begin(write=True) as transaction:
                count = self._write(transaction, changes)
                for incarnation in removed:
                    transaction.delete(_ONE.pack(incarnation), db=self._garbage)
                for name, document in documents.items():
                    if document is None:
                        transaction.delete(name.encode(), db=self._documents)
                    else:
                        self._put(transaction, self._documents, name.encode(), document)
                meta = msgspec.structs.replace(
                    meta, streams=self.meta_in(transaction).streams + count
                )
                self._put(transaction, self._meta, _META_KEY, msgspec.msgpack.encode(meta))
        except lmdb.Error as error:
            raise _os_error(error) from None

    def meta_in(self, transaction: lmdb.Transaction) -> Meta:
        """Returns the meta entry as a transaction sees it."""
        raw = transaction.get(_META_KEY, db=self._meta)
        return (
            Meta() if raw is None else msgspec.msgpack.decode(_checked(_META_KEY, raw), type=Meta)
        )

    def close(self) -> None:
        self._environment.close()

    def _write(self, transaction: lmdb.Transaction, changes: list[Put | Drop]) -> int:
        """Writes changes; returns by how many the streams have grown."""
        count = 0
        for change in changes:
            key = change.path.encode()
            raw = transaction.get(key, db=self._streams)
            old = None if raw is None else _ENTRY.decode(_checked(key, raw))
            if old is not None:
                self._drop_deadline(transaction, old)
            if isinstance(change, Drop):
                if old is not None and old.incarnation == change.incarnation:
                    transaction.delete(key, db=self._streams)
                    count -= 1
                elif old is not None and old.deadline is not None:
                    self._put_deadline(transaction, change.path, old)
                self._drop_producers(transaction, change.incarnation)
                self._put(transaction, self._garbage, _ONE.pack(change.incarnation), b"")
                continue
            count += old is None
            entry = change.entry
            self._put(transaction, self._streams, key, msgspec.msgpack.encode(entry))
            self._put_deadline(transaction, change.path, entry)
            prefix = _ONE.pack(entry.incarnation)
            for name, progress in change.producers.items():
                self._put(transaction, self._producers, prefix + name, _TWO.pack(*progress))
        return count

    def _drop_deadline(self, transaction: lmdb.Transaction, old: Entry) -> None:
        if old.deadline is None:
            return
        transaction.delete(_TWO.pack(old.deadline, old.incarnation), db=self._deadlines)
        date = old.lifetime.expires_at
        if date is not None and date >= 0:  # where older versions put it
            transaction.delete(_TWO.pack(date, old.incarnation), db=self._deadlines)

    def _put_deadline(self, transaction: lmdb.Transaction, path: str, entry: Entry) -> None:
        if entry.deadline is not None:
            key = _TWO.pack(entry.deadline, entry.incarnation)
            self._put(transaction, self._deadlines, key, path.encode())

    def _drop_producers(self, transaction: lmdb.Transaction, incarnation: int) -> None:
        prefix = _ONE.pack(incarnation)
        with transaction.cursor(self._producers) as cursor:
            more = cursor.set_range(prefix)
            while more and bytes(cursor.key()).startswith(prefix):
                more = cursor.delete()

    def _get(self, database: "lmdb._Database", key: bytes) -> bytes | None:
        try:
            with self._environment.begin(database) as transaction:
                raw = transaction.get(key)
        except lmdb.Error as error:
            raise Damaged(f"catalog: {error}") from None
        return None if raw is None else _checked(key, raw)

    def _put(
        self, transaction: lmdb.Transaction, database: "lmdb._Database", key: bytes, value: bytes
    ) -> None:
        check = zlib.crc32(value, zlib.crc32(key)).to_bytes(4, "little")
        transaction.put(key, check + value, db=database)


_ENTRY: Final = msgspec.msgpack.Decoder(Entry)


def _checked(key: bytes, raw: bytes | memoryview) -> bytes:
    value = bytes(raw[4:])
    if len(raw) < 4 or zlib.crc32(value, zlib.crc32(key)) != int.from_bytes(raw[:4], "little"):
        raise Damaged(f"catalog: the entry of {key!r} is damaged")
    return value


def _os_error(error: lmdb.Error) -> OSError:
    """Returns a failed transaction as an error of the disk's."""
    full = isinstance(error, lmdb.DiskError | lmdb.MapFullError)
    return OSError(errno.ENOSPC if full else errno.EIO, str(error), "catalog")


__all__ = ["Catalog", "Drop", "Entry", "LmdbCatalog", "Meta", "Put", "entry_of", "state_of"]

"""The catalog over any kind of tables, with its second copy. `LmdbCatalog` and the simulator's catalog differ only in their tables."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from ....log import log as _log
from ....protocol.producers import ProducerState
from ...damage import Damaged
from ..disk import NO_HANDLES, NO_SPACE, TOO_LARGE, Disk
from .copy import Copy
from .entries import NO_DOCUMENTS, UNCOUNTED, Catalog, Drop, Entry, Meta, Put
from .reconcile import Relation, relate
from .tables import (
    DEADLINES,
    DOCUMENTS,
    ENTRY,
    GARBAGE,
    META,
    META_KEY,
    NAMES,
    PRODUCERS,
    STREAMS,
    U64,
    U64_PAIR,
    Tables,
    WriteTransaction,
    encode_put,
    parse_meta,
    scan_all,
    unseal,
    write_changes,
)

#: The copy is rewritten once it is this many times as large as its base. So rewriting adds a third to the bytes that commits append,
#: and the copy takes at most four times the space of the live entries.
LARGEST: Final = 4
SMALLEST: Final = 16 * 1024 * 1024  # bytes below which a copy is not worth rewriting
_LAST: Final = 2**64 - 1
_AT_ONCE: Final = 256  # maximum entries of one scan


class TableCatalog(Catalog):
    """A catalog over given tables and their second copy. The constructor makes the two equal, unless the catalog is read-only.

    Args:
        tables: the tables, already verified.
        copy: the second copy, already loaded.
        disk: the source of the random identity of a new catalog.
        readonly: whether tables and copy must not be changed.
        smallest: size in bytes below which the copy is not rewritten.

    Raises:
        Damaged: tables and copy belong to different directories, or the tables have lost commits.
        OSError: the disk failed.
    """

    def __init__(
        self,
        tables: Tables,
        copy: Copy,
        disk: Disk,
        *,
        readonly: bool = False,
        smallest: int = SMALLEST,
    ) -> None:
        self._tables = tables
        self._copy = copy
        self._disk = disk
        self._is_copied = True  # whether commits go to the second copy too
        self._stored: int | None = None  # the bytes of all streams, once they are known
        self._smallest = self._rewrite_from = smallest
        relation = relate(self._written_meta(), copy.state, copy.newest)
        if not readonly:
            self._make_level(relation)

    # -- reads --------------------------------------------------------------

    def meta(self) -> Meta:
        return parse_meta(self._tables.get(META, META_KEY))

    def stored_bytes(self) -> int:
        if self._stored is None:
            known = self.meta().stored
            self._stored = self._count()[1] if known == UNCOUNTED else known
        return self._stored

    def find(self, path: str) -> Entry | None:
        key = path.encode()
        sealed = self._tables.get(STREAMS, key)
        return None if sealed is None else _entry(key, sealed)

    def producers(self, incarnation: int) -> dict[bytes, ProducerState]:
        found = {}
        first, end = U64.pack(incarnation), U64.pack(incarnation + 1)
        while batch := self._tables.scan(PRODUCERS, first, _AT_ONCE, end):
            for key, sealed in batch:
                epoch, seq = U64_PAIR.unpack(unseal(key, sealed))
                found[key[U64.size :]] = ProducerState(epoch, seq)
            if len(batch) < _AT_ONCE:
                break
            first = batch[-1][0] + b"\0"
        return found

    def producer(self, incarnation: int, name: bytes, /) -> ProducerState | None:
        key = U64.pack(incarnation) + name
        sealed = self._tables.get(PRODUCERS, key)
        return None if sealed is None else ProducerState(*U64_PAIR.unpack(unseal(key, sealed)))

    def count_producers(self, incarnation: int, /) -> int:
        return self._tables.count(PRODUCERS, U64.pack(incarnation), U64.pack(incarnation + 1))

    def paths(
        self, damaged: Callable[[Damaged], None] | None = None, /, first: str = ""
    ) -> Iterator[tuple[str, Entry]]:
        for key, sealed in scan_all(self._tables, STREAMS, first.encode()):
            try:
                entry = _entry(key, sealed)
            except Damaged as damage:
                if damaged is None:
                    raise
                damaged(damage)
            else:
                yield key.decode(), entry

    def deadlines(
        self, after: tuple[int, int], until: int, limit: int
    ) -> list[tuple[int, int, str]]:
        found: list[tuple[int, int, str]] = []
        first = U64_PAIR.pack(*after) + b"\0"
        # `until` comes from a clock, which may give any number.
        end = U64_PAIR.pack(min(max(until + 1, 0), _LAST), 0)
        while len(found) < limit:
            asked = min(limit - len(found), _AT_ONCE)
            batch = self._tables.scan(DEADLINES, first, asked, end)
            for key, sealed in batch:
                deadline, incarnation = U64_PAIR.unpack(key)
                try:
                    found.append((deadline, incarnation, unseal(key, sealed).decode()))
                except Damaged as damage:  # the deadline is also in the stream's own entry
                    _log.error("a stream will end only when it is asked for: %s", damage)
            if len(batch) < asked:
                break
            first = batch[-1][0] + b"\0"
        return found

    def next_deadline(self, after: tuple[int, int]) -> int | None:
        found = self._tables.scan(DEADLINES, U64_PAIR.pack(*after) + b"\0", 1)
        return int(U64_PAIR.unpack(found[0][0])[0]) if found else None

    def garbage(self) -> list[int]:
        found = []
        for key, sealed in scan_all(self._tables, GARBAGE):
            unseal(key, sealed)
            found.append(int(U64.unpack(key)[0]))
        return found

    def documents(self) -> Iterator[tuple[str, bytes]]:
        for key, sealed in scan_all(self._tables, DOCUMENTS):
            yield key.decode(), unseal(key, sealed)

    # -- writes -------------------------------------------------------------

    def commit(
        self,
        meta: Meta,
        changes: list[Put | Drop],
        removed: list[int],
        documents: Mapping[str, bytes | None] = NO_DOCUMENTS,
    ) -> None:
        before = self.stored_bytes()
        stored = 0

        def fill(transaction: WriteTransaction) -> None:
            nonlocal stored
            old = transaction.meta()
            growth = write_changes(transaction, changes, removed, documents)
            stored = before + growth.stored
            streams = old.streams + growth.streams
            transaction.put_meta(self._counted(meta, old, streams, stored))

        self._write(fill)
        self._stored = stored

    def count_again(self) -> None:
        streams, stored = self._count()

        def fill(transaction: WriteTransaction) -> None:
            old = transaction.meta()
            transaction.put_meta(self._counted(old, old, streams, stored))

        self._write(fill)
        self._stored = stored

    def tidy(self) -> None:
        state = self._copy.state
        is_long = state is not None and state.end > max(self._rewrite_from, LARGEST * state.base)
        if is_long or not self._is_copied:
            self._try_to_rewrite_copy()

    def close(self) -> None:
        self._tables.close()
        self._copy.close()

    # -- inside -------------------------------------------------------------

    def _written_meta(self) -> Meta | None:
        """Returns the catalog's metadata, or None if nothing was ever committed."""
        sealed = self._tables.get(META, META_KEY)
        return None if sealed is None else parse_meta(sealed)

    def _count(self) -> tuple[int, int]:
        """Returns the number of streams and their bytes, after reading the entry of each stream."""
        streams = stored = 0
        for _, entry in self.paths():
            streams += 1
            stored += entry.size
        return streams, stored

    def _counted(self, meta: Meta, old: Meta, streams: int, stored: int) -> Meta:
        """Returns metadata with the numbers of streams, bytes and commits and the identity filled in.

        Args:
            meta: the metadata that the caller wants to commit.
            old: the metadata of the last commit.
            streams: number of streams after this commit.
            stored: bytes of these streams.
        """
        identity = old.identity
        if self._is_copied and not identity:
            identity = self._disk.random_number() or 1
        return msgspec.structs.replace(
            meta,
            streams=streams,
            stored=stored,
            commits=old.commits + bool(identity),
            identity=identity,
        )

    def _write(self, fill: Callable[[WriteTransaction], None]) -> None:
        """Commits a transaction to the second copy and then to the tables.

        A commit that fails because the disk is full leaves no trace in either. After any other failure the process must end, and the
        next start makes the two equal.
        """

        def copy(transaction: WriteTransaction) -> None:
            if self._is_copied:
                meta = transaction.meta()
                self._copy.append(meta.identity, meta.commits, transaction.parts)

        try:
            self._tables.write(fill, copy)
        except OSError as error:
            if error.errno in NO_SPACE and self._is_copied:
                self._copy.discard_append()
                if error.errno == TOO_LARGE:
                    self._try_to_rewrite_copy()  # a shorter copy may leave room for the next attempt
            raise
        self._copy.confirm_append()

    def _make_level(self, relation: Relation) -> None:
        """Brings the tables and the second copy to the same commit."""
        self._copy.sync()
        if relation is Relation.LEVEL:
            self._copy.discard_append()
        elif relation is Relation.AHEAD:
            self._redo_last_commit()
        else:
            if relation is Relation.BEHIND:
                _log.warning("the catalog's second copy is missing or damaged: it is written anew")
            self._is_copied = False
            self._try_to_rewrite_copy()

    def _redo_last_commit(self) -> None:
        """Repeats the last commit of the second copy in the tables, or drops that commit if the disk is full.

        Dropping it loses nothing, because the write-ahead log still has the records.
        """

        def fill(transaction: WriteTransaction) -> None:
            for operation in self._copy.last_operations():
                transaction.apply(operation)

        try:
            self._tables.write(fill, lambda _: None)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self._copy.drop_last_commit()
        else:
            self._copy.discard_append()

    def _try_to_rewrite_copy(self) -> None:
        """Rewrites the second copy, or postpones that if the disk is full or no file handle is free."""
        try:
            meta = self.meta()
            if not meta.identity:
                meta = self._give_identity()
            self._copy.rewrite(meta.identity, meta.commits, self._live_entries())
        except OSError as error:
            if error.errno not in NO_SPACE | NO_HANDLES:
                raise
            state = self._copy.state
            self._rewrite_from = state.end + state.end // LARGEST if state else self._smallest
        else:
            self._is_copied = True
            self._rewrite_from = self._smallest

    def _give_identity(self) -> Meta:
        """Adds an identity to tables that have none, and returns the new metadata.

        An existing copy is removed, because it is older than the tables and would seem to belong to another directory.
        """
        self._copy.remove()
        identity = self._disk.random_number() or 1

        def fill(transaction: WriteTransaction) -> None:
            old = transaction.meta()
            transaction.put_meta(msgspec.structs.replace(old, commits=1, identity=identity))

        self._tables.write(fill, lambda _: None)
        return self.meta()

    def _live_entries(self) -> Iterator[bytes]:
        """Yields every entry of the tables in the encoding of the second copy, with the metadata last."""
        for table in (*range(1, len(NAMES)), META):
            for key, sealed in scan_all(self._tables, table):
                unseal(key, sealed)
                yield encode_put(table, key, sealed)


def _entry(key: bytes, sealed: bytes) -> Entry:
    """Returns the catalog entry of a stream.

    Args:
        key: the key of the entry.
        sealed: the encoded entry with its CRC in front.
    """
    try:
        return ENTRY.decode(unseal(key, sealed))
    except msgspec.DecodeError:
        raise Damaged(f"catalog: the entry of {key!r} cannot be understood") from None

"""The catalog over any tables, with its second copy. `LmdbCatalog` and the simulator's catalog differ in their tables alone."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from ....log import log as _log
from ....protocol.producers import ProducerState
from ...damage import Damaged
from ..disk import NO_HANDLES, NO_SPACE, TOO_LARGE, Disk
from .copy import Copy
from .entries import NO_DOCUMENTS, Catalog, Drop, Entry, Meta, Put
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

#: The copy is written anew when it is this many times as large as its base was, so that this costs a third of the appends at
#: most, and the copy four times the room of what is live.
LARGEST: Final = 4
SMALLEST: Final = 16 * 1024 * 1024  # bytes; a shorter copy is not worth the trouble
_LAST: Final = 2**64 - 1
_AT_ONCE: Final = 256  # entries of a scan that ends early


class TableCatalog(Catalog):
    """The catalog.

    Args:
        tables: where its entries are; verified.
        copy: its second copy, which has been looked at.
        disk: where an identity comes from.
        readonly: whether to look only.
        smallest: bytes of a copy that is never written anew.

    Raises:
        Damaged: tables and copy are not of one directory, or the tables have lost commits.
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
        self._is_copied = True  # a commit goes to the copy too
        self._smallest = self._rewrite_from = smallest
        relation = relate(self._written_meta(), copy.state, copy.newest)
        if not readonly:
            self._make_level(relation)

    # -- reads --------------------------------------------------------------

    def meta(self) -> Meta:
        return parse_meta(self._tables.get(META, META_KEY))

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
        self, damaged: Callable[[Damaged], None] | None = None, /
    ) -> Iterator[tuple[str, Entry]]:
        for key, sealed in scan_all(self._tables, STREAMS):
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
        end = U64_PAIR.pack(min(max(until + 1, 0), _LAST), 0)  # a clock may say anything
        while len(found) < limit:
            asked = min(limit - len(found), _AT_ONCE)
            batch = self._tables.scan(DEADLINES, first, asked, end)
            for key, sealed in batch:
                deadline, incarnation = U64_PAIR.unpack(key)
                try:
                    found.append((deadline, incarnation, unseal(key, sealed).decode()))
                except Damaged as damage:  # the stream's own entry has its deadline too
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
        def fill(writing: WriteTransaction) -> None:
            old = writing.meta()
            count = write_changes(writing, changes, removed, documents)
            writing.put_meta(self._counted(meta, old, old.streams + count))

        self._write(fill)

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
        """Returns the summary, or None if nothing was ever committed."""
        sealed = self._tables.get(META, META_KEY)
        return None if sealed is None else parse_meta(sealed)

    def _counted(self, meta: Meta, old: Meta, streams: int) -> Meta:
        """Returns a summary with what the catalog itself knows of it."""
        identity = old.identity
        if self._is_copied and not identity:
            identity = self._disk.random_number() or 1
        return msgspec.structs.replace(
            meta, streams=streams, commits=old.commits + bool(identity), identity=identity
        )

    def _write(self, fill: Callable[[WriteTransaction], None]) -> None:
        """Commits to the copy, then to the tables. Of a commit that fails for want of room nothing is left in either; after any
        other failure the process must end, and the next start finds out."""

        def copy(writing: WriteTransaction) -> None:
            if self._is_copied:
                meta = writing.meta()
                self._copy.append(meta.identity, meta.commits, writing.parts)

        try:
            self._tables.write(fill, copy)
        except OSError as error:
            if error.errno in NO_SPACE and self._is_copied:
                self._copy.discard_append()
                if error.errno == TOO_LARGE:
                    self._try_to_rewrite_copy()  # the copy may be shorter than it was, when this is tried again
            raise
        self._copy.confirm_append()

    def _make_level(self, relation: Relation) -> None:
        """Brings tables and copy to the same commit."""
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
        """Does the copy's last commit again. Without room for it, the log's records, which are still there, do as well."""

        def fill(writing: WriteTransaction) -> None:
            for operation in self._copy.last_operations():
                writing.apply(operation)

        try:
            self._tables.write(fill, lambda _: None)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self._copy.drop_last_commit()
        else:
            self._copy.discard_append()

    def _try_to_rewrite_copy(self) -> None:
        """Writes the copy anew, unless the disk is full or no file handle is left; then this waits."""
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
        """Gives the tables of the first format an identity. A copy that is there is stale, and would seem another directory's."""
        self._copy.remove()
        identity = self._disk.random_number() or 1

        def fill(writing: WriteTransaction) -> None:
            old = writing.meta()
            writing.put_meta(msgspec.structs.replace(old, commits=1, identity=identity))

        self._tables.write(fill, lambda _: None)
        return self.meta()

    def _live_entries(self) -> Iterator[bytes]:
        """Iterates over everything in the tables as the copy keeps it."""
        for table in (*range(1, len(NAMES)), META):
            for key, sealed in scan_all(self._tables, table):
                unseal(key, sealed)
                yield encode_put(table, key, sealed)


def _entry(key: bytes, sealed: bytes) -> Entry:
    try:
        return ENTRY.decode(unseal(key, sealed))
    except msgspec.DecodeError:
        raise Damaged(f"catalog: the entry of {key!r} cannot be understood") from None

"""The tables of the catalog: ordered keys with checksummed values, and the translation of stream changes into table entries.

Each stored value is *sealed*: a CRC over the key and the value precedes it. `Tables` and `WriteTransaction` are interfaces, because the
crash simulator keeps its tables in memory instead of LMDB. A transaction also records its changes as operations for the second copy.
"""

import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from ...damage import Damaged
from ..checksum import crc32
from .entries import Drop, Entry, Meta, Put

META, STREAMS, PRODUCERS, DEADLINES, GARBAGE, DOCUMENTS = range(6)
NAMES: Final = ("meta", "streams", "producers", "deadlines", "garbage", "documents")
META_KEY: Final = b"meta"
U64: Final = struct.Struct(">Q")
U64_PAIR: Final = struct.Struct(">QQ")
ENTRY: Final = msgspec.msgpack.Decoder(Entry)
_DELETE: Final = 0x80
_OPERATION: Final = struct.Struct("<BHI")  # table, sizes of key and sealed value
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class Operation(NamedTuple):
    """One change of a table: an entry that is written, or deleted if `sealed` is None."""

    table: int
    key: bytes
    sealed: bytes | None


def seal(key: bytes, value: bytes) -> bytes:
    """Returns a value with its CRC in front. The CRC covers the key and the value."""
    return crc32(value, crc32(key)).to_bytes(4, "little") + value


def is_sealed(key: bytes, sealed: bytes) -> bool:
    """Returns whether the CRC in front of a value matches the key and the value."""
    return len(sealed) >= 4 and crc32(sealed[4:], crc32(key)) == int.from_bytes(
        sealed[:4], "little"
    )


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Returns the value of an entry, without the CRC in front.

    Raises:
        Damaged: the CRC does not match.
    """
    if not is_sealed(key, sealed):
        raise Damaged(f"catalog: the entry of {key!r} is damaged")
    return sealed[4:]


def parse_meta(sealed: bytes | None) -> Meta:
    """Returns the catalog metadata in a sealed entry, or that of an empty catalog if `sealed` is None.

    Raises:
        Damaged: the entry is damaged.
    """
    if sealed is None:
        return Meta(stored=0)
    try:
        return msgspec.msgpack.decode(unseal(META_KEY, sealed), type=Meta)
    except msgspec.DecodeError:
        raise Damaged("catalog: its summary cannot be understood") from None


def encode_put(table: int, key: bytes, sealed: bytes) -> bytes:
    """Returns an operation that writes an entry, encoded for the catalog's second copy."""
    return _OPERATION.pack(table, len(key), len(sealed)) + key + sealed


def operations(payload: bytes) -> Iterator[Operation]:
    """Yields the operations in a record of the catalog's second copy.

    Raises:
        Damaged: the payload ends inside an operation, or an operation names an unknown table.
    """
    position, size = 0, len(payload)
    while position < size:
        if position + _OPERATION.size > size:
            raise Damaged("an operation is cut off")
        table, key_size, value_size = _OPERATION.unpack_from(payload, position)
        position += _OPERATION.size
        end = position + key_size + value_size
        if end > size or table & ~_DELETE >= len(NAMES):
            raise Damaged("an operation is cut off, or names no table")
        key = payload[position : position + key_size]
        sealed = None if table & _DELETE else payload[position + key_size : end]
        yield Operation(table & ~_DELETE, key, sealed)
        position = end


class Growth(NamedTuple):
    """By how much one commit changes the catalog.

    Attributes:
        streams: number of added streams, less the removed ones.
        stored: number of added bytes of streams, less the removed ones.
    """

    streams: int
    stored: int


class WriteTransaction(ABC):
    """A transaction that writes to the tables. It is the interface that each kind of tables implements.

    Attributes:
        parts: the encoded operations of `put` and `delete` so far. Each operation is three items of the list.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    @abstractmethod
    def get(self, table: int, key: bytes) -> bytes | None:
        """Returns the value at a key, with its CRC in front, or None if there is no entry."""

    @abstractmethod
    def keys(self, table: int, prefix: bytes) -> list[bytes]:
        """Returns the keys in a table that begin with a prefix."""

    @abstractmethod
    def store(self, table: int, key: bytes, sealed: bytes) -> None:
        """Writes an entry whose value already has its CRC in front. The change is not added to `parts`."""

    @abstractmethod
    def remove(self, table: int, key: bytes) -> None:
        """Deletes an entry if it exists. The change is not added to `parts`."""

    def put(self, table: int, key: bytes, value: bytes) -> None:
        """Writes an entry with a CRC in front of its value, and adds the operation to `parts`."""
        sealed = crc32(value, crc32(key)).to_bytes(4, "little") + value
        self.store(table, key, sealed)
        self.parts += (_OPERATION.pack(table, len(key), len(sealed)), key, sealed)

    def delete(self, table: int, key: bytes) -> None:
        """Deletes an entry if it exists, and adds the operation to `parts`."""
        self.remove(table, key)
        self.parts += (_OPERATION.pack(table | _DELETE, len(key), 0), key, b"")

    def meta(self) -> Meta:
        """Returns the catalog metadata as of this transaction."""
        return parse_meta(self.get(META, META_KEY))

    def put_meta(self, meta: Meta) -> None:
        """Writes the catalog metadata. It must be the last change of a transaction."""
        self.put(META, META_KEY, _ENCODE(meta))

    def apply(self, operation: Operation) -> None:
        """Repeats an operation of an earlier transaction, without adding it to `parts`."""
        if operation.sealed is None:
            self.remove(operation.table, operation.key)
        else:
            self.store(operation.table, operation.key, operation.sealed)


class Tables(ABC):
    """The interface of the tables that hold a catalog's entries. Any thread may read, but only one may write at a time."""

    @abstractmethod
    def get(self, table: int, key: bytes) -> bytes | None:
        """Returns the value at a key, with its CRC in front, or None if there is no entry.

        Raises:
            Damaged: the table cannot be read.
        """

    @abstractmethod
    def scan(
        self, table: int, first: bytes, limit: int, end: bytes | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Returns the next entries of a table in the order of their keys.

        Args:
            table: the table.
            first: the lowest key to return.
            limit: maximum number of entries.
            end: the key before which the scan ends; None for no end.

        Raises:
            Damaged: the table cannot be read.
        """

    def count(self, table: int, first: bytes, end: bytes) -> int:
        """Returns the number of entries from the key `first` up to, but not including, the key `end`.

        Raises:
            Damaged: the table cannot be read.
        """
        return len(self.scan(table, first, sys.maxsize, end))

    @abstractmethod
    def write(
        self,
        fill: Callable[[WriteTransaction], None],
        before_commit: Callable[[WriteTransaction], None],
    ) -> None:
        """Runs one transaction and commits it durably, either completely or not at all.

        The transaction may have to start over, so both functions may be called more than once.

        Args:
            fill: makes the changes.
            before_commit: called after `fill`, directly before the commit. If it raises an error, nothing is committed.

        Raises:
            OSError: nothing has changed.
            Damaged: the database is damaged.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the database."""


def scan_all(
    tables: Tables, table: int, first: bytes = b"", batch: int = 250
) -> Iterator[tuple[bytes, bytes]]:
    """Yields all entries of a table from the key `first` on, in the order of their keys.

    Each batch of entries is read in a transaction of its own, because LMDB cannot reuse old pages during a long transaction.
    """
    while found := tables.scan(table, first, batch):
        yield from found
        first = found[-1][0] + b"\0"


def write_changes(
    transaction: WriteTransaction,
    changes: list[Put | Drop],
    removed: list[int],
    documents: Mapping[str, bytes | None],
) -> Growth:
    """Writes the changes of one checkpoint, and returns by how much the catalog has grown.

    Args:
        transaction: the transaction to write to.
        changes: streams to write or to remove.
        removed: incarnations that are no longer garbage.
        documents: new contents of documents by name; None deletes a document.
    """
    count = stored = 0
    for change in changes:
        key = change.path.encode()
        raw = transaction.get(STREAMS, key)
        old = None if raw is None else ENTRY.decode(unseal(key, raw))
        if old is not None:
            _drop_deadline(transaction, old)
        if isinstance(change, Put):
            count += old is None
            stored += change.entry.size - (0 if old is None else old.size)
            _put_stream(transaction, key, change)
            continue
        if old is not None and old.incarnation == change.incarnation:
            transaction.delete(STREAMS, key)
            count -= 1
            stored -= old.size
        elif old is not None:
            _put_deadline(transaction, key, old)
        for name in transaction.keys(PRODUCERS, U64.pack(change.incarnation)):
            transaction.delete(PRODUCERS, name)
        transaction.put(GARBAGE, U64.pack(change.incarnation), b"")
    for incarnation in removed:
        transaction.delete(GARBAGE, U64.pack(incarnation))
    for title, document in documents.items():
        if document is None:
            transaction.delete(DOCUMENTS, title.encode())
        else:
            transaction.put(DOCUMENTS, title.encode(), document)
    return Growth(count, stored)


def _put_stream(transaction: WriteTransaction, key: bytes, change: Put) -> None:
    entry = change.entry
    transaction.put(STREAMS, key, _ENCODE(entry))
    _put_deadline(transaction, key, entry)
    prefix = U64.pack(entry.incarnation)
    for name, progress in change.producers.items():
        transaction.put(PRODUCERS, prefix + name, U64_PAIR.pack(*progress))


def _drop_deadline(transaction: WriteTransaction, old: Entry) -> None:
    for place in {old.deadline, old.older_deadline}:
        if place is not None:
            transaction.delete(DEADLINES, U64_PAIR.pack(place, old.incarnation))


def _put_deadline(transaction: WriteTransaction, key: bytes, entry: Entry) -> None:
    if entry.deadline is not None:
        transaction.put(DEADLINES, U64_PAIR.pack(entry.deadline, entry.incarnation), key)

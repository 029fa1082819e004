"""The catalog's tables: ordered keys and sealed values, and how changes of streams become changes of entries.

A value is sealed with a CRC of its key and itself. The database and the simulator's model keep tables in their own way; what
is written to them is decided here once, and noted as operations, which the second copy keeps too.
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
    """One entry put or deleted. `sealed` is None when it is deleted."""

    table: int
    key: bytes
    sealed: bytes | None


def seal(key: bytes, value: bytes) -> bytes:
    """Returns a value with the CRC of its key and itself before it."""
    return crc32(value, crc32(key)).to_bytes(4, "little") + value


def is_sealed(key: bytes, sealed: bytes) -> bool:
    """Returns whether an entry is what was written."""
    return len(sealed) >= 4 and crc32(sealed[4:], crc32(key)) == int.from_bytes(
        sealed[:4], "little"
    )


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Returns the value in an entry.

    Raises:
        Damaged: the entry is.
    """
    if not is_sealed(key, sealed):
        raise Damaged(f"catalog: the entry of {key!r} is damaged")
    return sealed[4:]


def parse_meta(sealed: bytes | None) -> Meta:
    """Returns the summary that its entry holds, or that of an empty catalog.

    Raises:
        Damaged: the entry is.
    """
    if sealed is None:
        return Meta()
    try:
        return msgspec.msgpack.decode(unseal(META_KEY, sealed), type=Meta)
    except msgspec.DecodeError:
        raise Damaged("catalog: its summary cannot be understood") from None


def encode_put(table: int, key: bytes, sealed: bytes) -> bytes:
    """Returns an operation that puts an entry, as the second copy keeps it."""
    return _OPERATION.pack(table, len(key), len(sealed)) + key + sealed


def operations(payload: bytes) -> Iterator[Operation]:
    """Iterates over encoded operations.

    Raises:
        Damaged: they end in the middle, or name no table.
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


class WriteTransaction(ABC):
    """One transaction that writes.

    Attributes:
        parts: its operations, encoded, in three parts each.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    @abstractmethod
    def get(self, table: int, key: bytes) -> bytes | None:
        """Returns the sealed value at a key."""

    @abstractmethod
    def keys(self, table: int, prefix: bytes) -> list[bytes]:
        """Returns the keys that begin with a prefix."""

    @abstractmethod
    def store(self, table: int, key: bytes, sealed: bytes) -> None:
        """Puts an entry that is sealed already, and notes nothing."""

    @abstractmethod
    def remove(self, table: int, key: bytes) -> None:
        """Deletes an entry, if it is there, and notes nothing."""

    def put(self, table: int, key: bytes, value: bytes) -> None:
        """Puts an entry."""
        sealed = crc32(value, crc32(key)).to_bytes(4, "little") + value
        self.store(table, key, sealed)
        self.parts += (_OPERATION.pack(table, len(key), len(sealed)), key, sealed)

    def delete(self, table: int, key: bytes) -> None:
        """Deletes an entry, if it is there."""
        self.remove(table, key)
        self.parts += (_OPERATION.pack(table | _DELETE, len(key), 0), key, b"")

    def meta(self) -> Meta:
        """Returns the summary as this transaction sees it."""
        return parse_meta(self.get(META, META_KEY))

    def put_meta(self, meta: Meta) -> None:
        """Puts the summary; a transaction does so last."""
        self.put(META, META_KEY, _ENCODE(meta))

    def apply(self, operation: Operation) -> None:
        """Does again what a transaction did."""
        if operation.sealed is None:
            self.remove(operation.table, operation.key)
        else:
            self.store(operation.table, operation.key, operation.sealed)


class Tables(ABC):
    """Where the entries are. Reads may come from any thread, writes from one at a time."""

    @abstractmethod
    def get(self, table: int, key: bytes) -> bytes | None:
        """Returns the sealed value at a key.

        Raises:
            Damaged: the table cannot be read.
        """

    @abstractmethod
    def scan(
        self, table: int, first: bytes, limit: int, end: bytes | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Returns up to `limit` entries in order, from the key `first` on, that lie before the key `end`.

        Raises:
            Damaged: the table cannot be read.
        """

    def count(self, table: int, first: bytes, end: bytes) -> int:
        """Returns how many entries there are from the key `first` on that lie before the key `end`.

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
        """Makes what `fill` does durable, all or nothing. Both functions may be called again, from the start.

        Args:
            fill: does it.
            before_commit: called when everything but the commit itself is done.

        Raises:
            OSError: nothing has changed.
            Damaged: the database is.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the database."""


def scan_all(tables: Tables, table: int, batch: int = 250) -> Iterator[tuple[bytes, bytes]]:
    """Iterates over a table. Each batch is read by itself: a long transaction would keep old pages from being used again."""
    first = b""
    while found := tables.scan(table, first, batch):
        yield from found
        first = found[-1][0] + b"\0"


def write_changes(
    writing: WriteTransaction,
    changes: list[Put | Drop],
    removed: list[int],
    documents: Mapping[str, bytes | None],
) -> int:
    """Writes what a checkpoint has to tell; returns by how many the streams have grown."""
    count = 0
    for change in changes:
        key = change.path.encode()
        raw = writing.get(STREAMS, key)
        old = None if raw is None else ENTRY.decode(unseal(key, raw))
        if old is not None:
            _drop_deadline(writing, old)
        if isinstance(change, Put):
            count += old is None
            _put_stream(writing, key, change)
            continue
        if old is not None and old.incarnation == change.incarnation:
            writing.delete(STREAMS, key)
            count -= 1
        elif old is not None:
            _put_deadline(writing, key, old)
        for name in writing.keys(PRODUCERS, U64.pack(change.incarnation)):
            writing.delete(PRODUCERS, name)
        writing.put(GARBAGE, U64.pack(change.incarnation), b"")
    for incarnation in removed:
        writing.delete(GARBAGE, U64.pack(incarnation))
    for title, document in documents.items():
        if document is None:
            writing.delete(DOCUMENTS, title.encode())
        else:
            writing.put(DOCUMENTS, title.encode(), document)
    return count


def _put_stream(writing: WriteTransaction, key: bytes, change: Put) -> None:
    entry = change.entry
    writing.put(STREAMS, key, _ENCODE(entry))
    _put_deadline(writing, key, entry)
    prefix = U64.pack(entry.incarnation)
    for name, progress in change.producers.items():
        writing.put(PRODUCERS, prefix + name, U64_PAIR.pack(*progress))


def _drop_deadline(writing: WriteTransaction, old: Entry) -> None:
    for place in {old.deadline, old.older_deadline}:
        if place is not None:
            writing.delete(DEADLINES, U64_PAIR.pack(place, old.incarnation))


def _put_deadline(writing: WriteTransaction, key: bytes, entry: Entry) -> None:
    if entry.deadline is not None:
        writing.put(DEADLINES, U64_PAIR.pack(entry.deadline, entry.incarnation), key)

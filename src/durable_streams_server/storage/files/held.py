"""Held bytes: acknowledged bytes that a log cannot take, because its file would be larger than the system allows.

Held bytes stay in memory for readers. The catalog also has them, in one document for each such stream, which it commits together with the
stream's entry. The entry then has the end of the log as its tail, and the document has the bytes after it. The stream takes no more
bytes, so the document does not grow, and all other streams keep working. When a store opens, it tries once to write held bytes to
the log, because the limit may have been raised.

If the limit is known in advance (`Disk.largest_file`), the store refuses appends past it and never holds bytes.
"""

from typing import Final

import msgspec

from ...errors import StorageFull
from ..recent import Pieces

_PREFIX: Final = "held/"


class Held(msgspec.Struct, frozen=True, array_like=True):
    """The held bytes of one stream.

    Attributes:
        path: the stream's path.
        pieces: the pieces after the log's end, each with its end position and its bytes.
    """

    path: str
    pieces: tuple[tuple[int, bytes], ...]


def name_of(incarnation: int) -> str:
    """Returns the name of the document with a stream's held bytes."""
    return f"{_PREFIX}{incarnation:016d}"


def is_held(name: str) -> bool:
    """Returns whether a document of the catalog has held bytes. All other documents belong to subscriptions."""
    return name.startswith(_PREFIX)


def incarnation_of(name: str) -> int:
    """Returns the incarnation of the stream that a document belongs to."""
    return int(name.removeprefix(_PREFIX))


def encode(path: str, pieces: Pieces) -> bytes:
    """Returns a document that holds the pieces of a stream."""
    return _ENCODE(Held(path, tuple((end, bytes(data)) for end, data in pieces)))


def decode(document: bytes) -> Held:
    """Returns the held bytes in a document."""
    return _DECODE(document)


def log_full() -> StorageFull:
    """Returns the error for an append that would make a log too large."""
    return StorageFull(
        "the stream's log would be larger than the largest file that the system allows",
        "LARGEST_FILE",
    )


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Held).decode

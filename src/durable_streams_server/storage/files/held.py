"""Bytes that a log could not take because its file would be larger than the system allows.

They are acknowledged, so they stay: in memory, where readers get them, and in the catalog, as a document of the stream's own
that is written in one commit with its entry. The entry then says where the log ends, and the document goes on from there. The
stream takes no more bytes, so it does not grow; all others go on. Each start tries once more to bring the bytes to the log, for
the limit may have been raised.

Where the limit is known before (`Disk.largest_file`), appends past it are refused, and nothing is ever held.
"""

from typing import Final

import msgspec

from ...errors import StorageFull
from ..recent import Pieces

_PREFIX: Final = "held/"


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What is held of one stream: its path, and the ends and bytes of pieces that follow its log's end."""

    path: str
    pieces: tuple[tuple[int, bytes], ...]


def name_of(incarnation: int) -> str:
    """Returns the name of a stream's document."""
    return f"{_PREFIX}{incarnation:016d}"


def is_held(name: str) -> bool:
    """Whether a document of the catalog holds a stream's bytes; the others are of subscriptions."""
    return name.startswith(_PREFIX)


def incarnation_of(name: str) -> int:
    """Returns the stream that a document belongs to."""
    return int(name.removeprefix(_PREFIX))


def encode(path: str, pieces: Pieces) -> bytes:
    """Returns the document that holds some pieces."""
    return _ENCODE(Held(path, tuple((end, bytes(data)) for end, data in pieces)))


def decode(document: bytes) -> Held:
    """Returns what a document holds."""
    return _DECODE(document)


def log_full() -> StorageFull:
    """Returns the refusal of an append that no log file can take."""
    return StorageFull(
        "the stream's log would be larger than the largest file that the system allows",
        "LARGEST_FILE",
    )


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Held).decode

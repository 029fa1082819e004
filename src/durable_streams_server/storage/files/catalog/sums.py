"""The file `SUM`: a checksum of the database's file after the last commit. A server that starts need not verify a database that matches it.

The file fits one disk sector, has a CRC of its own, and is not synced. After a crash, `SUM` may be outdated or damaged. It then does
not match the database, so the next server verifies the database when it starts. A lost or damaged `SUM` only makes that start slower.
"""

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

from ..checksum import crc32
from ..disk import LOST, Disk
from ..opening import open_plain
from .copy import CopyState

NAME: Final = "SUM"
_MAGIC: Final = b"DSSUM01\n"
#: Magic, size and CRC of the database, state of the second copy, CRC of all these.
_LAYOUT: Final = struct.Struct("<8sQI5QI")
_PIECE: Final = 1024 * 1024


class Sum(NamedTuple):
    """The size in bytes and the CRC of a database's file, and the state of the second copy beside it."""

    size: int
    crc: int
    copy: CopyState


def encode(known: Sum) -> bytes:
    """Returns the bytes of a `SUM` file."""
    data = _LAYOUT.pack(_MAGIC, known.size, known.crc, *known.copy, 0)[:-4]
    return data + crc32(data).to_bytes(4, "little")


def decode(data: bytes) -> Sum | None:
    """Returns the content of a `SUM` file, or None if the file is damaged."""
    if len(data) != _LAYOUT.size or crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        return None
    magic, size, crc, *state, _ = _LAYOUT.unpack(data)
    return Sum(size, crc, CopyState(*state)) if magic == _MAGIC else None


def read(disk: Disk) -> Sum | None:
    """Returns the content of the `SUM` file on a disk, or None if the file is missing or damaged."""
    try:
        file = disk.open(NAME)
    except FileNotFoundError:
        return None
    try:
        return decode(file.read(_LAYOUT.size + 1, 0))
    finally:
        file.close()


def write(disk: Disk, known: Sum) -> None:
    """Writes the `SUM` file on a disk."""
    file = disk.open(NAME, create=True)
    try:
        file.write(encode(known), 0)
        if file.size() > _LAYOUT.size:
            file.truncate(_LAYOUT.size)
    finally:
        file.close()


def measure(path: Path) -> tuple[int, int] | None:
    """Returns the size and the CRC of the file at a path, or None if there is no readable file. Other threads can run meanwhile."""
    size, crc = 0, 0
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    try:
        descriptor, _ = open_plain(path, os.O_RDONLY)
    except OSError as error:
        if error.errno not in LOST:
            raise
        return None
    try:
        while count := os.readv(descriptor, [buffer]):
            crc = crc32(view[:count], crc)
            size += count
    finally:
        os.close(descriptor)
    return size, crc

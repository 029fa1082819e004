"""`SUM`: the checksum of the database's file as the last commit left it, so that a start need not verify what has not changed.

It is written in one sector, with a CRC of its own, and not synced. Whatever a crash leaves of it either matches the file or does
not, and a file that it does not match is verified. So nothing rests on it but the time that a start takes.
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
_LAYOUT: Final = struct.Struct("<8sQI5QI")  # magic, size, CRC; the copy's state; CRC of all that
_PIECE: Final = 1024 * 1024


class Sum(NamedTuple):
    """What is known of a database's file, and of the copy beside it. Sizes are in bytes."""

    size: int
    crc: int
    copy: CopyState


def encode(known: Sum) -> bytes:
    """Returns the file's bytes."""
    data = _LAYOUT.pack(_MAGIC, known.size, known.crc, *known.copy, 0)[:-4]
    return data + crc32(data).to_bytes(4, "little")


def decode(data: bytes) -> Sum | None:
    """Returns what the file's bytes say; None if they are not whole."""
    if len(data) != _LAYOUT.size or crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        return None
    magic, size, crc, *state, _ = _LAYOUT.unpack(data)
    return Sum(size, crc, CopyState(*state)) if magic == _MAGIC else None


def read(disk: Disk) -> Sum | None:
    """Returns what the file on a disk says; None if it is missing or not whole."""
    try:
        file = disk.open(NAME)
    except FileNotFoundError:
        return None
    try:
        return decode(file.read(_LAYOUT.size + 1, 0))
    finally:
        file.close()


def write(disk: Disk, known: Sum) -> None:
    """Writes the file."""
    file = disk.open(NAME, create=True)
    try:
        file.write(encode(known), 0)
        if file.size() > _LAYOUT.size:
            file.truncate(_LAYOUT.size)
    finally:
        file.close()


def measure(path: Path) -> tuple[int, int] | None:
    """Returns size and CRC of a file, or None if there is no file that can be read. Other threads run meanwhile."""
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

"""The index beside a log."""

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.storage.files import index
from durable_streams_server.storage.files.disk import File
from durable_streams_server.storage.files.recent import INSIDE, Piece
from durable_streams_server.storage.files.wal import Damaged
from durable_streams_server.testing.disk import SimulatedDisk

PIECES = [Piece(13 | INSIDE, b"abc"), Piece(15, b"de"), Piece(18, b"fgh")]


def made(disk: SimulatedDisk) -> File:
    file = disk.open("a.idx", create=True)
    file.write(index.header(10), 0)
    file.write(index.encode(PIECES), index.place_of(0))
    return file


def read_all(file: File) -> None:
    index.read_base(file)
    index.read(file, 0, 3)


def test_entries_come_back_and_are_found_by_position() -> None:
    file = made(SimulatedDisk(random.Random(0)))
    assert index.read_base(file) == 10
    assert index.read(file, 0, 3) == [(piece.end, zlib.crc32(piece.data)) for piece in PIECES]
    assert [index.find(file, 3, position) for position in (10, 12, 13, 15, 17, 18)] == [
        0,
        0,
        1,
        2,
        2,
        3,
    ]
    assert [index.append_end(file, 3, number) for number in (0, 1, 2)] == [15, 15, 18]
    assert index.append_end(file, 1, 0) is None


@given(st.integers(0, 24 + 3 * 16 - 1), st.integers(0, 7))
def test_every_flipped_bit_is_found(position: int, bit: int) -> None:
    disk = SimulatedDisk(random.Random(0))
    file = made(disk)
    if 20 <= position < 24:
        return  # four zero octets that fill the header up
    disk.corrupt("a.idx", position, bit)
    with pytest.raises(Damaged):
        read_all(file)


def test_a_short_index_is_damaged() -> None:
    file = made(SimulatedDisk(random.Random(0)))
    with pytest.raises(Damaged):
        index.read(file, 0, 4)

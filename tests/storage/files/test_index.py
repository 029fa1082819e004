"""Tests of the index beside a log."""

import random
import zlib

import msgspec
import pytest

from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.offsets import Span
from durable_streams_server.protocol.state import Origin
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.disk import File
from durable_streams_server.storage.files.index import (
    Index,
    Label,
    encode,
    labelled_header,
    unlabelled_header,
)
from durable_streams_server.storage.recent import INSIDE, Piece, Pieces
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW

PIECES = Pieces.of([Piece(13 | INSIDE, b"abc"), Piece(15, b"de"), Piece(18, b"fgh")])


def index_file(disk: SimulatedDisk) -> File:
    """Returns the file of an index without a label, with the entries of `PIECES`."""
    file = disk.open("a.idx", create=True)
    file.write(unlabelled_header(10), 0)
    file.write(encode(PIECES), 24)
    return file


def test_index_entries_can_be_read_and_found_by_position() -> None:
    file = index_file(SimulatedDisk(random.Random(0)))
    index = Index.of(file)
    assert (index.base, index.label) == (10, None)
    assert index.read(0, 3) == [(piece.end, zlib.crc32(piece.data)) for piece in PIECES]
    assert [index.find(3, position) for position in (10, 12, 13, 15, 17, 18)] == [
        0,
        0,
        1,
        2,
        2,
        3,
    ]
    assert [index.append_end(3, number) for number in (0, 1, 2)] == [15, 15, 18]
    assert index.append_end(1, 0) is None


LABEL = Label(
    7,
    10,
    "/a/päth",
    parse_media_type("application/json"),
    Lifetime(ttl=60),
    NOW,
    Origin("/source", 5, "0000000000000005_0000000000000010", 0, 10),
    (Span(5, 10),),
)


def index_file_with(disk: SimulatedDisk, head: bytes) -> File:
    """Returns the file of an index with a given header and the entries of `PIECES`."""
    file = disk.open("a.idx", create=True)
    file.write(head + encode(PIECES), 0)
    return file


def test_index_header_contains_label_of_its_log() -> None:
    index = Index.of(index_file_with(SimulatedDisk(random.Random(0)), labelled_header(LABEL)))
    assert (index.base, index.label) == (10, LABEL)
    assert index.read(0, 3) == [(piece.end, zlib.crc32(piece.data)) for piece in PIECES]


def test_index_header_of_any_length_can_be_read() -> None:
    for length in (1, 10, 900, 1000, 1010, 5000):
        label = msgspec.structs.replace(LABEL, path="/" + "x" * length)
        index = Index.of(index_file_with(SimulatedDisk(random.Random(0)), labelled_header(label)))
        assert index.label == label
        assert index.read(2, 1)[0].end == 18


@pytest.mark.parametrize("head", [unlabelled_header(10), labelled_header(LABEL)])
def test_index_entries_behind_damaged_header_are_found(head: bytes) -> None:
    disk = SimulatedDisk(random.Random(0))
    file = index_file_with(disk, head)
    for position in range(len(head)):
        whole = file.read(1, position)
        file.write(b"\xee", position)
        assert Index.without_header(file, 10).begin == len(head)
        file.write(whole, position)
    file.write(bytes(len(head)), 0)
    assert Index.without_header(file, 10).read(0, 3)[2].end == 18


@pytest.mark.parametrize("head", [unlabelled_header(10), labelled_header(LABEL)])
def test_every_flipped_bit_of_an_index_is_detected(head: bytes) -> None:
    disk = SimulatedDisk(random.Random(0))
    file = index_file_with(disk, head)
    for position in range(file.size()):
        if head == unlabelled_header(10) and 20 <= position < 24:
            continue  # four zero bytes that pad the header
        for bit in range(8):
            disk.corrupt("a.idx", position, bit)
            with pytest.raises(Damaged):
                Index.of(file).read(0, 3)
            disk.corrupt("a.idx", position, bit)


def test_truncated_index_is_reported_as_damaged() -> None:
    file = index_file(SimulatedDisk(random.Random(0)))
    with pytest.raises(Damaged):
        Index.of(file).read(0, 4)
    for size in (0, 5, 20, 100):
        whole = index_file_with(SimulatedDisk(random.Random(0)), labelled_header(LABEL))
        whole.truncate(size)
        with pytest.raises(Damaged):
            Index.of(whole).read(0, 3)

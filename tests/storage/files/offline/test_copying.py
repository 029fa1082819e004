"""Tests of copies of logs and indexes."""

import msgspec
import pytest

from durable_streams_server.protocol.lifetime import FOREVER
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.index import (
    ENTRY_SIZE,
    Index,
    Label,
    encode,
    labelled_header,
)
from durable_streams_server.storage.files.offline import copying
from durable_streams_server.storage.files.offline.copying import copy_bytes, copy_file, copy_index
from durable_streams_server.storage.recent import Piece, Pieces
from durable_streams_server.testing.disk import SimulatedDisk

WORDS = Label(5, 0, "/a", parse_media_type("text/plain"), FOREVER, 0, None, ())


def write(disk: SimulatedDisk, name: str, data: bytes) -> None:
    disk.open(name, create=True).write(data, 0)


def test_bytes_are_copied_in_pieces(disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_AT_ONCE", 3)
    write(disk, "old", b"0123456789")
    write(disk, "new", b"..........")
    copy_bytes(disk.open("old"), 2, disk.open("new"), 1, 7)
    assert disk.content("new") == b".2345678.."


def test_copying_past_end_of_file_raises_damaged(disk: SimulatedDisk) -> None:
    write(disk, "old", b"0123456789")
    with pytest.raises(Damaged, match="shorter"):
        copy_file(disk, "old", "new", 11)


def test_copied_file_replaces_longer_file(disk: SimulatedDisk) -> None:
    write(disk, "old", b"0123456789")
    write(disk, "new", b"of an earlier repair")
    copy_file(disk, "old", "new", 4)
    assert disk.content("new") == b"0123"


@pytest.mark.parametrize("is_header_damaged", [False, True])
def test_copied_index_has_new_header_and_old_entries(
    disk: SimulatedDisk, is_header_damaged: bool
) -> None:
    entries = encode(Pieces.of([Piece(3, b"one"), Piece(6, b"two")]))
    write(disk, "old", labelled_header(WORDS) + entries)
    if is_header_damaged:
        disk.corrupt("old", 3, 0)
    new = msgspec.structs.replace(WORDS, incarnation=6)
    copy_index(disk, "old", "new", new, 1, sync=True)
    index = Index.of(disk.open("new"))
    assert index.label == new
    assert disk.content("new")[index.begin :] == entries[:ENTRY_SIZE]

"""Tests of the writes that a checkpoint makes to logs."""

import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.disk import DENIED, LOST, File
from durable_streams_server.storage.files.flush import FlushWork
from durable_streams_server.storage.files.index import Index, encode
from durable_streams_server.storage.files.log_layout import (
    DIRECTORY,
    KEPT,
    Extent,
    directory_of,
    path_of,
)
from durable_streams_server.storage.files.logs import Logs
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.storage.recent import Piece, Pieces
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.flushing import ID, NEW, append, write


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0))


def test_flush_truncates_bytes_of_an_unfinished_checkpoint(
    disk: SimulatedDisk,
) -> None:  # TRAPS 4, 10
    logs = Logs(disk)
    proven = append(logs, ID, NEW, b"abc")
    append(logs, ID, proven, b"never proven, and longer")
    again = Logs(disk)
    extent = append(again, ID, proven, b"def")
    assert disk.content(path_of(ID)) == b"abcdef"
    assert again.marks(ID, extent.entries, extent.tail, 4) == (3, 6, 6)


def test_log_shorter_than_catalog_says_is_damaged_and_not_padded(
    disk: SimulatedDisk,
) -> None:  # TRAPS 5
    logs = Logs(disk)
    extent = append(logs, ID, NEW, b"abcdef")
    disk.open(path_of(ID)).truncate(4)
    again = Logs(disk)
    assert again.find_damage(ID, extent) == f"{path_of(ID)} is shorter than the catalog says"
    with pytest.raises(Damaged, match="shorter"):
        again.read(ID, 0, 6)
    with pytest.raises(Damaged, match="shorter"):
        append(again, ID, extent, b"ghi")
    assert disk.size(path_of(ID)) == 4


def test_flush_writes_entries_that_are_already_encoded_unchanged(disk: SimulatedDisk) -> None:
    pieces = Pieces.of([Piece(end, b"%d" % end) for end in range(1, 8)])
    first = Pieces(pieces.ends[:3], pieces.data[:3])
    entries = [(3, encode(first)), (2, None), (2, None)]
    write(Logs(disk), FlushWork(ID, NEW, pieces, None, entries))
    write(Logs(disk), FlushWork(ID + 1, NEW, pieces))
    written, other = (
        [disk.open(path_of(number) + suffix).read(1000, 0) for suffix in ("", ".idx")]
        for number in (ID, ID + 1)
    )
    assert written == other
    assert encode(pieces) in written[1]


def test_flush_syncs_a_log_after_every_four_mebibytes(disk: SimulatedDisk) -> None:
    calls: list[str] = []
    data = [b"x" * 700_000] * 15
    pieces = Pieces.of([Piece(700_000 * (n + 1), each) for n, each in enumerate(data)])
    disk.before = calls.append
    Logs(disk).begin_flush(100).write([FlushWork(ID, NEW, pieces)])
    disk.before = lambda _: None
    assert calls.count("sync") == 2
    assert Logs(disk).read(ID, 0, pieces.end) == b"".join(data)


def test_flush_of_many_logs_syncs_the_disk_once(disk: SimulatedDisk) -> None:  # TRAPS 17
    calls: list[str] = []
    disk.before = calls.append
    work = [FlushWork(ID + n, NEW, Pieces.of([Piece(1, b"x")])) for n in range(100)]
    flushing = Logs(disk).begin_flush(len(work))
    flushing.write(work)
    flushing.sync()
    assert calls.count("sync_all") == 1
    assert calls.count("sync") == 0
    disk.before = lambda _: None
    disk.lose_power()
    assert all(Logs(disk).read(ID + n, 0, 1) == b"x" for n in range(100))


@pytest.mark.parametrize("missing", ["", ".idx"])
def test_flush_writes_new_bytes_of_damaged_log_to_separate_file(
    disk: SimulatedDisk, missing: str
) -> None:
    logs = Logs(disk)
    extent = append(logs, ID, NEW, b"abc")
    disk.unlink(path_of(ID) + missing)
    logs = Logs(disk)
    work = [FlushWork(ID, extent, Pieces.of([Piece(5, b"de"), Piece(6, b"f")]))]
    work.append(FlushWork(ID + 1, NEW, Pieces.of([Piece(1, b"x")])))
    flushing = logs.begin_flush(len(work))
    flushing.write(work)
    flushing.sync()
    assert flushing.damaged == {ID: f"{path_of(ID)}{missing} is missing"}
    disk.lose_power()
    assert disk.content(path_of(ID) + KEPT) == b"def"
    assert Logs(disk).read(ID + 1, 0, 1) == b"x"
    # A later checkpoint ends at another position.
    later = FlushWork(ID, Extent(0, 5, 2), Pieces.of([Piece(9, b"ghij")]))
    Logs(disk).begin_flush(1).write([later])
    assert disk.content(path_of(ID) + KEPT) == b"deghij"
    kept = Index.of(disk.open(path_of(ID) + KEPT + ".idx"))
    assert kept.base == 3
    assert [entry.end for entry in kept.read(0, 2)] == [5, 9]
    logs.remove([ID])
    assert disk.names(directory_of(ID)) == []


@pytest.mark.parametrize("suffix", ["", ".idx"])
@pytest.mark.parametrize("how", ["removed", "replaced", "removed with its directory"])
def test_flush_writes_new_bytes_of_moved_log_to_separate_file(
    tmp_path: Path, how: str, suffix: str
) -> None:
    disk = SystemDisk(tmp_path)
    disk.make_directory(DIRECTORY)
    assert disk.lock()
    logs = Logs(disk)
    extent = append(logs, ID, NEW, b"abc")
    other = append(logs, ID + 1, NEW, b"uvw")
    path = tmp_path / (path_of(ID) + suffix)
    content = path.read_bytes()
    path.unlink()
    if how == "replaced":
        path.write_bytes(content)
    elif how != "removed":
        shutil.rmtree(path.parent)
    steps = logs.begin_flush(2)
    steps.write(
        [
            FlushWork(ID, extent, Pieces.of([Piece(6, b"def")])),
            FlushWork(ID + 1, other, Pieces.of([Piece(6, b"xyz")])),
        ]
    )
    steps.sync()
    assert list(steps.damaged) == [ID]
    assert (tmp_path / (path_of(ID) + KEPT)).read_bytes() == b"def"
    assert logs.read(ID + 1, 0, 6) == b"uvwxyz"
    logs.close()
    disk.release()


@pytest.mark.parametrize("code", sorted((LOST | DENIED) - {errno.ENOENT}))
@pytest.mark.parametrize("suffix", ["", ".idx"])
def test_log_that_cannot_be_opened_damages_only_its_stream(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, suffix: str, code: int
) -> None:
    extent = append(Logs(disk), ID, NEW, b"abc")
    real = SimulatedDisk.open

    def open_file(self: SimulatedDisk, path: str, *, create: bool = False) -> File:
        if path == path_of(ID) + suffix:
            raise OSError(code, os.strerror(code), path)
        return real(self, path, create=create)

    monkeypatch.setattr(SimulatedDisk, "open", open_file)
    logs = Logs(disk)
    with pytest.raises(Damaged, match=os.strerror(code)):
        logs.read(ID, 0, 3)
    with pytest.raises(Damaged, match=os.strerror(code)):
        logs.marks(ID, 1, 3, 1)
    flushing = logs.begin_flush(1)
    flushing.write([FlushWork(ID, extent, Pieces.of([Piece(5, b"de")]))])
    assert flushing.damaged == {ID: f"{path_of(ID)}{suffix}: {os.strerror(code)}"}
    assert disk.content(path_of(ID) + KEPT) == b"de"

"""Logs: written by checkpoints, proven by the catalog, never longer or shorter than that for a reader."""

import errno
import os
import random
import shutil
import zlib
from pathlib import Path

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files import verify
from durable_streams_server.storage.files.disk import DENIED, LOST, File, SystemDisk
from durable_streams_server.storage.files.index import Index, encode
from durable_streams_server.storage.files.logs import (
    DIRECTORY,
    KEPT,
    Extent,
    FlushWork,
    Logs,
    directory_of,
    path_of,
)
from durable_streams_server.storage.recent import Piece, Pieces
from durable_streams_server.testing.disk import SimulatedDisk, SimulatedFile

ID = 1_750_000_000_000_000


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0))


def flush(logs: Logs, number: int, extent: Extent, *parts: bytes) -> Extent:
    end, pieces = extent.tail, []
    for part in parts:
        end += len(part)
        pieces.append(Piece(end, part))
    parents: set[str] = set()
    logs.write(FlushWork(number, extent, Pieces.of(pieces)), parents, sync=True)
    for parent in parents:
        logs._disk.sync_directory(parent)
    return Extent(extent.base, end, extent.entries + len(parts))


def test_what_is_flushed_is_durable_and_read_by_position(disk: SimulatedDisk) -> None:
    logs = Logs(disk)
    extent = flush(logs, ID, Extent(10, 10, 0), b"abc", b"de")
    extent = flush(logs, ID, extent, b"fgh")
    disk.lose_power()
    again = Logs(disk)
    assert again.read(ID, 10, 18) == b"abcdefgh"
    assert again.read(ID, 12, 16, ready_only=True) == b"cdef"
    assert again.marks(ID, extent.entries, extent.tail, 13) == (13, 15, 15)
    assert again.marks(ID, extent.entries, extent.tail, 18) == (18, 18, 18)


def test_what_an_unfinished_checkpoint_left_is_cut_off(disk: SimulatedDisk) -> None:  # TRAPS 4, 10
    logs = Logs(disk)
    proven = flush(logs, ID, Extent(0, 0, 0), b"abc")
    flush(logs, ID, proven, b"never proven, and longer")
    again = Logs(disk)
    extent = flush(again, ID, proven, b"def")
    assert disk.content(path_of(ID)) == b"abcdef"
    assert again.marks(ID, extent.entries, extent.tail, 4) == (3, 6, 6)


def test_a_log_shorter_than_its_proof_is_damage_and_never_filled_up(
    disk: SimulatedDisk,
) -> None:  # TRAPS 5
    logs = Logs(disk)
    extent = flush(logs, ID, Extent(0, 0, 0), b"abcdef")
    disk.open(path_of(ID)).truncate(4)
    again = Logs(disk)
    assert again.find_damage(ID, extent) == f"{path_of(ID)} is shorter than the catalog says"
    with pytest.raises(Damaged, match="shorter"):
        again.read(ID, 0, 6)
    with pytest.raises(Damaged, match="shorter"):
        flush(again, ID, extent, b"ghi")
    assert disk.size(path_of(ID)) == 4


def test_a_missing_log_is_damage(disk: SimulatedDisk) -> None:
    logs = Logs(disk)
    with pytest.raises(Damaged, match="missing"):
        logs.read(ID, 0, 1)
    extent = flush(logs, ID, Extent(0, 0, 0), b"abc")
    assert logs.find_damage(ID, extent) is None
    disk.unlink(path_of(ID) + ".idx")
    assert logs.find_damage(ID, extent) == f"{path_of(ID)}.idx is missing"
    with pytest.raises(Damaged, match="missing"):
        Logs(disk).read(ID, 0, 1)
    disk.unlink(path_of(ID))
    assert logs.find_damage(ID, extent) == f"{path_of(ID)} is missing"
    assert logs.find_damage(ID, Extent(0, 0, 0)) is None
    assert logs.find_damage(ID, Extent(0, 3, 0)) == "the catalog knows bytes and no log"


def test_few_files_are_open_whatever_the_number_of_streams(disk: SimulatedDisk) -> None:  # TRAPS 17
    logs = Logs(disk, max_open=4)
    for number in range(ID, ID + 50):
        flush(logs, number, Extent(0, 0, 0), b"%d" % number)
    assert len(logs._open) == 4
    for number in range(ID, ID + 50):
        assert logs.read(number, 0, 16) == b"%d" % number


def test_entries_that_are_encoded_already_are_written_as_they_are(disk: SimulatedDisk) -> None:
    pieces = Pieces.of([Piece(end, b"%d" % end) for end in range(1, 8)])
    first = Pieces(pieces.ends[:3], pieces.data[:3])
    entries = [(3, encode(first)), (2, None), (2, None)]
    Logs(disk).write(FlushWork(ID, Extent(0, 0, 0), pieces, None, entries), set(), sync=True)
    Logs(disk).write(FlushWork(ID + 1, Extent(0, 0, 0), pieces), set(), sync=True)
    written, other = (
        [disk.open(path_of(number) + suffix).read(1000, 0) for suffix in ("", ".idx")]
        for number in (ID, ID + 1)
    )
    assert written == other
    assert encode(pieces) in written[1]


def test_a_long_log_is_synced_in_between(disk: SimulatedDisk) -> None:
    calls: list[str] = []
    data = [b"x" * 700_000] * 15
    pieces = Pieces.of([Piece(700_000 * (n + 1), each) for n, each in enumerate(data)])
    disk.before = calls.append
    Logs(disk).write(FlushWork(ID, Extent(0, 0, 0), pieces), set(), sync=False)
    disk.before = lambda _: None
    assert calls.count("sync") == 2
    assert Logs(disk).read(ID, 0, pieces.end) == b"".join(data)


def test_many_logs_are_synced_by_one_call(disk: SimulatedDisk) -> None:  # TRAPS 17
    calls: list[str] = []
    disk.before = calls.append
    work = [FlushWork(ID + n, Extent(0, 0, 0), Pieces.of([Piece(1, b"x")])) for n in range(100)]
    flushing = Logs(disk).begin_flush(len(work))
    flushing.write(work)
    flushing.sync()
    assert calls.count("sync_all") == 1
    assert calls.count("sync") == 0
    disk.before = lambda _: None
    disk.lose_power()
    assert all(Logs(disk).read(ID + n, 0, 1) == b"x" for n in range(100))


def test_a_removed_log_is_gone_for_good_and_its_readers_finish(
    disk: SimulatedDisk,
) -> None:  # TRAPS 11
    logs = Logs(disk)
    flush(logs, ID, Extent(0, 0, 0), b"abc")
    assert logs.read(ID, 0, 3) == b"abc"
    logs.remove([ID, ID + 1])
    disk.lose_power()
    assert disk.names(directory_of(ID)) == []


@pytest.mark.parametrize("missing", ["", ".idx"])
def test_pieces_of_a_damaged_log_are_kept_beside_it_and_the_others_are_flushed(
    disk: SimulatedDisk, missing: str
) -> None:
    logs = Logs(disk)
    extent = flush(logs, ID, Extent(0, 0, 0), b"abc")
    disk.unlink(path_of(ID) + missing)
    logs = Logs(disk)
    work = [FlushWork(ID, extent, Pieces.of([Piece(5, b"de"), Piece(6, b"f")]))]
    work.append(FlushWork(ID + 1, Extent(0, 0, 0), Pieces.of([Piece(1, b"x")])))
    flushing = logs.begin_flush(len(work))
    flushing.write(work)
    flushing.sync()
    assert flushing.damaged == {ID: f"{path_of(ID)}{missing} is missing"}
    disk.lose_power()
    assert disk.content(path_of(ID) + KEPT) == b"def"
    assert Logs(disk).read(ID + 1, 0, 1) == b"x"
    later = FlushWork(
        ID, Extent(0, 5, 2), Pieces.of([Piece(9, b"ghij")])
    )  # a checkpoint that ends elsewhere
    Logs(disk).begin_flush(1).write([later])
    assert disk.content(path_of(ID) + KEPT) == b"deghij"
    kept = Index.of(disk.open(path_of(ID) + KEPT + ".idx"))
    assert kept.base == 3
    assert [entry.end for entry in kept.read(0, 2)] == [5, 9]
    logs.remove([ID])
    assert disk.names(directory_of(ID)) == []


@pytest.mark.parametrize("suffix", ["", ".idx"])
@pytest.mark.parametrize("how", ["removed", "replaced", "removed with its directory"])
def test_log_lost_while_it_is_open_is_damage_and_its_pieces_are_kept(
    tmp_path: Path, how: str, suffix: str
) -> None:
    disk = SystemDisk(tmp_path)
    disk.make_directory(DIRECTORY)
    assert disk.lock()
    logs = Logs(disk)
    extent = flush(logs, ID, Extent(0, 0, 0), b"abc")
    other = flush(logs, ID + 1, Extent(0, 0, 0), b"uvw")
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
def test_log_that_cannot_be_opened_is_damage_of_its_stream(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, suffix: str, code: int
) -> None:
    extent = flush(Logs(disk), ID, Extent(0, 0, 0), b"abc")
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


def test_log_that_the_device_cannot_read_is_damage_of_its_stream(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    extent = flush(Logs(disk), ID, Extent(0, 0, 0), b"abc")
    opened = Logs(disk)
    assert opened.read(ID, 0, 3) == b"abc"

    def read(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(SimulatedFile, "read", read)
    with pytest.raises(Damaged, match="error"):
        opened.read(ID, 0, 3)
    with pytest.raises(Damaged, match="error"):
        opened.marks(ID, extent.entries, extent.tail, 1)
    logs = Logs(disk)  # the index's header cannot be read either
    with pytest.raises(Damaged, match="error"):
        logs.write(FlushWork(ID, extent, Pieces.of([Piece(5, b"de")])), set(), sync=True)


def test_error_that_is_no_damage_stays_what_it_is(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush(Logs(disk), ID, Extent(0, 0, 0), b"abc")

    def open_file(*_: object, **__: object) -> SimulatedFile:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(SimulatedDisk, "open", open_file)
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        Logs(disk).read(ID, 0, 3)


def test_logs_are_spread_over_directories() -> None:
    assert len({directory_of(ID + n) for n in range(2000)}) > 100


class CountingReads:
    """Counts the reads of files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read = SimulatedFile.read

        def counted(file: SimulatedFile, size: int, position: int) -> bytes:
            self.count += 1
            return read(file, size, position)

        monkeypatch.setattr(SimulatedFile, "read", counted)


def test_flipped_bit_in_an_old_log_is_damage_and_never_read(disk: SimulatedDisk) -> None:
    flush(Logs(disk), ID, Extent(0, 0, 0), b"abc", b"def", b"ghi")
    disk.corrupt(path_of(ID), 4, 0)
    logs = Logs(disk)
    assert logs.read(ID, 0, 3) == b"abc"
    for start, end in ((3, 6), (4, 5), (0, 9), (5, 9)):
        with pytest.raises(Damaged, match="from 3 to 6 are damaged"):
            logs.read(ID, start, end)
    assert logs.read(ID, 6, 9) == b"ghi"


def test_bytes_are_compared_once_for_each_opening(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush(Logs(disk), ID, Extent(0, 0, 0), *[b"x" * 10] * 50)
    logs = Logs(disk)
    logs.read(ID, 0, 500)
    reads = CountingReads(monkeypatch)
    for start in range(0, 500, 10):
        assert logs.read(ID, start, start + 10) == b"x" * 10
    assert reads.count == 50  # of the bytes alone


def test_piece_that_a_page_ends_in_is_compared_once(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush(Logs(disk), ID, Extent(0, 0, 0), b"x" * 100, b"y" * 100, b"z" * 100)
    logs = Logs(disk)
    compared: list[int] = []
    crc32 = zlib.crc32

    def counted(data: bytes) -> int:
        compared.append(len(data))
        return crc32(data)

    monkeypatch.setattr(verify, "crc32", counted)
    pages = [logs.read(ID, start, start + 75) for start in range(0, 300, 75)]
    assert b"".join(page or b"" for page in pages) == b"x" * 100 + b"y" * 100 + b"z" * 100
    assert compared == [100, 100, 100]


def test_ready_read_serves_only_what_was_compared(disk: SimulatedDisk) -> None:
    flush(Logs(disk), ID, Extent(0, 0, 0), b"abc", b"def")
    logs = Logs(disk)
    assert logs.marks(ID, 2, 6, 1) == (0, 3, 3)  # the log is open now
    assert logs.read(ID, 0, 3, ready_only=True) is None
    assert logs.read(ID, 0, 3) == b"abc"
    assert logs.read(ID, 0, 3, ready_only=True) == b"abc"
    assert logs.read(ID, 2, 5, ready_only=True) is None


def test_bytes_just_written_need_no_comparison(disk: SimulatedDisk) -> None:
    logs = Logs(disk)
    flush(logs, ID, Extent(0, 0, 0), b"abc", b"def")
    assert logs.read(ID, 1, 5, ready_only=True) == b"bcde"


@pytest.mark.parametrize("base", [0, 4])
def test_swapped_index_is_damage_for_reads_and_marks(disk: SimulatedDisk, base: int) -> None:
    logs = Logs(disk)
    extent = flush(logs, ID, Extent(0, 0, 0), b"abc", b"def", b"ghi")
    flush(logs, ID + 1, Extent(base, base, 0), b"1", b"2" * 50)
    disk.rename(path_of(ID + 1) + ".idx", path_of(ID) + ".idx")
    again = Logs(disk)
    for start, end in ((0, 3), (2, 9), (5, 6)):
        with pytest.raises(Damaged):
            again.read(ID, start, end, entries=extent.entries)
    with pytest.raises(Damaged):
        again.marks(ID, extent.entries, extent.tail, 1)


def test_index_entries_that_are_not_proven_are_not_looked_at(disk: SimulatedDisk) -> None:
    logs = Logs(disk)
    proven = flush(logs, ID, Extent(0, 0, 0), b"abc", b"def")
    flush(logs, ID, proven, b"never proven")
    name = path_of(ID) + ".idx"
    disk.corrupt(name, Index.of(disk.open(name)).place_of(2) + 3, 1)
    assert Logs(disk).read(ID, 3, 6, entries=proven.entries) == b"def"

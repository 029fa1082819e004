"""Tests of reading, checking and removing logs."""

import errno
import os
import random
import zlib

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files import verify
from durable_streams_server.storage.files.index import Index
from durable_streams_server.storage.files.log_layout import Extent, directory_of, path_of
from durable_streams_server.storage.files.logs import Logs
from durable_streams_server.testing.disk import SimulatedDisk, SimulatedFile
from tests.storage.files.flushing import ID, NEW, append


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0))


class CountingReads:
    """Counts the calls that read from a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read = SimulatedFile.read

        def counted(file: SimulatedFile, size: int, position: int) -> bytes:
            self.count += 1
            return read(file, size, position)

        monkeypatch.setattr(SimulatedFile, "read", counted)


def test_flushed_bytes_survive_power_loss_and_are_read_by_position(disk: SimulatedDisk) -> None:
    logs = Logs(disk)
    extent = append(logs, ID, Extent(10, 10, 0), b"abc", b"de")
    extent = append(logs, ID, extent, b"fgh")
    disk.lose_power()
    again = Logs(disk)
    assert again.read(ID, 10, 18) == b"abcdefgh"
    assert again.read(ID, 12, 16, ready_only=True) == b"cdef"
    assert again.marks(ID, extent.entries, extent.tail, 13) == (13, 15, 15)
    assert again.marks(ID, extent.entries, extent.tail, 18) == (18, 18, 18)


def test_missing_log_or_index_is_damage(disk: SimulatedDisk) -> None:
    logs = Logs(disk)
    with pytest.raises(Damaged, match="missing"):
        logs.read(ID, 0, 1)
    extent = append(logs, ID, NEW, b"abc")
    assert logs.find_damage(ID, extent) is None
    disk.unlink(path_of(ID) + ".idx")
    assert logs.find_damage(ID, extent) == f"{path_of(ID)}.idx is missing"
    with pytest.raises(Damaged, match="missing"):
        Logs(disk).read(ID, 0, 1)
    disk.unlink(path_of(ID))
    assert logs.find_damage(ID, extent) == f"{path_of(ID)} is missing"
    assert logs.find_damage(ID, NEW) is None
    assert logs.find_damage(ID, Extent(0, 3, 0)) == "the catalog knows bytes and no log"


def test_removed_log_stays_removed_after_power_loss(
    disk: SimulatedDisk,
) -> None:  # TRAPS 11
    logs = Logs(disk)
    append(logs, ID, NEW, b"abc")
    assert logs.read(ID, 0, 3) == b"abc"
    logs.remove([ID, ID + 1])
    disk.lose_power()
    assert disk.names(directory_of(ID)) == []


def test_log_that_the_device_cannot_read_is_damaged(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    extent = append(Logs(disk), ID, NEW, b"abc")
    opened = Logs(disk)
    assert opened.read(ID, 0, 3) == b"abc"

    def read(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(SimulatedFile, "read", read)
    with pytest.raises(Damaged, match="error"):
        opened.read(ID, 0, 3)
    with pytest.raises(Damaged, match="error"):
        opened.marks(ID, extent.entries, extent.tail, 1)
    with pytest.raises(Damaged, match="error"):  # the header of the index cannot be read either
        Logs(disk).read(ID, 0, 3)


def test_read_of_flipped_bit_raises_damaged(disk: SimulatedDisk) -> None:
    append(Logs(disk), ID, NEW, b"abc", b"def", b"ghi")
    disk.corrupt(path_of(ID), 4, 0)
    logs = Logs(disk)
    assert logs.read(ID, 0, 3) == b"abc"
    for start, end in ((3, 6), (4, 5), (0, 9), (5, 9)):
        with pytest.raises(Damaged, match="from 3 to 6 are damaged"):
            logs.read(ID, start, end)
    assert logs.read(ID, 6, 9) == b"ghi"


def test_index_is_read_only_once_while_log_is_open(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(Logs(disk), ID, NEW, *[b"x" * 10] * 50)
    logs = Logs(disk)
    logs.read(ID, 0, 500)
    reads = CountingReads(monkeypatch)
    for start in range(0, 500, 10):
        assert logs.read(ID, start, start + 10) == b"x" * 10
    assert reads.count == 50  # the log is read each time, and the index is not


def test_checksum_of_piece_that_spans_two_pages_is_computed_once(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(Logs(disk), ID, NEW, b"x" * 100, b"y" * 100, b"z" * 100)
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


def test_ready_read_returns_only_verified_bytes(disk: SimulatedDisk) -> None:
    append(Logs(disk), ID, NEW, b"abc", b"def")
    logs = Logs(disk)
    assert logs.marks(ID, 2, 6, 1) == (0, 3, 3)  # this opens the log
    assert logs.read(ID, 0, 3, ready_only=True) is None
    assert logs.read(ID, 0, 3) == b"abc"
    assert logs.read(ID, 0, 3, ready_only=True) == b"abc"
    assert logs.read(ID, 2, 5, ready_only=True) is None


def test_bytes_just_written_need_no_verification(disk: SimulatedDisk) -> None:
    logs = Logs(disk)
    append(logs, ID, NEW, b"abc", b"def")
    assert logs.read(ID, 1, 5, ready_only=True) == b"bcde"


@pytest.mark.parametrize("base", [0, 4])
def test_read_of_log_with_index_of_another_log_raises_damaged(
    disk: SimulatedDisk, base: int
) -> None:
    logs = Logs(disk)
    extent = append(logs, ID, NEW, b"abc", b"def", b"ghi")
    append(logs, ID + 1, Extent(base, base, 0), b"1", b"2" * 50)
    disk.rename(path_of(ID + 1) + ".idx", path_of(ID) + ".idx")
    again = Logs(disk)
    for start, end in ((0, 3), (2, 9), (5, 6)):
        with pytest.raises(Damaged):
            again.read(ID, start, end, entries=extent.entries)
    with pytest.raises(Damaged):
        again.marks(ID, extent.entries, extent.tail, 1)


def test_read_ignores_index_entries_past_the_extent(disk: SimulatedDisk) -> None:
    logs = Logs(disk)
    proven = append(logs, ID, NEW, b"abc", b"def")
    append(logs, ID, proven, b"never proven")
    name = path_of(ID) + ".idx"
    disk.corrupt(name, Index.of(disk.open(name)).place_of(2) + 3, 1)
    assert Logs(disk).read(ID, 3, 6, entries=proven.entries) == b"def"

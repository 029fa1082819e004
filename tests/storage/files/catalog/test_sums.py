"""Tests of `SUM`, the checksum of the database's file."""

import os
import zlib
from pathlib import Path

import pytest

from durable_streams_server.storage.files.catalog import sums
from durable_streams_server.storage.files.catalog.copy import CopyState
from durable_streams_server.storage.files.system_disk import SystemDisk

KNOWN = sums.Sum(8192, 0xDEADBEEF, CopyState(1 << 63, 7, 100, 200, 50))


def test_written_checksum_file_is_read(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path)
    assert sums.read(disk) is None
    sums.write(disk, KNOWN)
    assert sums.read(disk) == KNOWN
    later = KNOWN._replace(size=1)
    sums.write(disk, later)
    assert sums.read(disk) == later


def test_write_truncates_file_that_is_too_long(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path)
    (tmp_path / sums.NAME).write_bytes(b"x" * 500)
    assert sums.read(disk) is None
    sums.write(disk, KNOWN)
    assert sums.read(disk) == KNOWN


def test_checksum_file_with_flipped_bit_or_wrong_size_is_ignored() -> None:
    data = sums.encode(KNOWN)
    assert len(data) <= 512  # fits one sector, so no crash leaves half of it
    for at in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            assert sums.decode(bytes(broken)) is None
        assert sums.decode(data[:at]) is None
    assert sums.decode(data + b"x") is None


def test_measure_returns_size_and_checksum(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000  # longer than one piece
    (tmp_path / "file").write_bytes(data)
    assert sums.measure(tmp_path / "file") == (len(data), zlib.crc32(data))
    assert sums.measure(tmp_path / "none") is None


@pytest.mark.parametrize("what", ["a FIFO", "a link", "a directory"])
def test_measure_returns_none_for_fifo_link_or_directory(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    if what == "a FIFO":
        os.mkfifo(path)
    elif what == "a link":
        (tmp_path / "elsewhere").write_bytes(b"data")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    assert sums.measure(path) is None

"""Tests of the contract of `Disk` and `File`, run on the disk of the operating system and on the simulated one."""

import random
from pathlib import Path

import pytest

from durable_streams_server.storage.files.disk import Disk
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.testing.disk import SimulatedDisk


@pytest.fixture(params=["system", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    made = (
        SystemDisk(tmp_path / "d") if request.param == "system" else SimulatedDisk(random.Random(1))
    )
    made.make_directory("")
    return made


def test_write_and_read_use_given_position_in_file(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write(b"hello", 3)
    assert (file.size(), file.read(100, 0), file.read(2, 4)) == (8, b"\0\0\0hello", b"el")
    file.truncate(5)
    assert file.read(9, 0) == b"\0\0\0he"
    file.sync()
    file.close()
    file.close()


def test_allocated_space_reads_as_zeros_and_can_be_written_durably(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.allocate(10_000)
    assert (file.size(), file.read(4, 9_998)) == (10_000, b"\0\0")
    file.write_durably(b"abc", 9_000)
    assert file.read_ready(3, 9_000) in (b"abc", None)
    file.close()


def test_missing_file_differs_from_an_empty_file(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("a")
    assert (disk.exists("a"), disk.size("a")) == (False, None)
    disk.open("a", create=True).close()
    assert (disk.exists("a"), disk.size("a")) == (True, 0)


def test_files_are_listed_renamed_and_removed(disk: Disk) -> None:
    disk.make_directory("d")
    disk.make_directory("d")
    for name in ("d/b", "d/a", "d/c"):
        disk.open(name, create=True).close()
    disk.rename("d/c", "d/a")
    disk.unlink("d/b")
    disk.unlink("d/b")
    disk.sync_directory("d")
    disk.sync_all()
    assert (disk.names("d"), disk.names("nowhere")) == (["a"], [])


def test_random_numbers_have_64_bits_and_differ(disk: Disk) -> None:
    numbers = {disk.random_number() for _ in range(50)}
    assert len(numbers) == 50
    assert 1 << 56 < max(numbers) < 1 << 64


def test_only_one_disk_at_a_time_can_lock_directory(disk: Disk, tmp_path: Path) -> None:
    assert disk.lock()
    if isinstance(disk, SystemDisk):
        assert not SystemDisk(tmp_path / "d").lock()
    disk.release()
    assert disk.lock()
    disk.release()
    disk.release()


def test_create_refuses_an_existing_file(disk: Disk) -> None:
    disk.create("a").close()
    with pytest.raises(FileExistsError):
        disk.create("a")

"""Tests of the simulated disk: what survives a power loss, and how calls fail on request."""

import errno
import random
from collections.abc import Callable

import pytest

from durable_streams_server.storage.files.place import DirectoryLost
from durable_streams_server.testing.disk import SECTOR, PowerLoss, SimulatedDisk

SEEDS = range(60)


def after_power_loss(change: Callable[[SimulatedDisk], object]) -> set[bytes | None]:
    """Returns the contents that file `a` may have after a change and a power loss. None among them means that the file may be missing."""
    found: set[bytes | None] = set()
    for seed in SEEDS:
        disk = SimulatedDisk(random.Random(seed))
        change(disk)
        disk.lose_power()
        found.add(disk.content("a") if disk.exists("a") else None)
    return found


def write_synced(disk: SimulatedDisk, data: bytes) -> None:
    """Writes file `a`, and syncs the file and its name."""
    file = disk.open("a", create=True)
    file.write(data, 0)
    file.sync()
    disk.sync_directory("")


def test_synced_bytes_under_a_synced_name_survive() -> None:
    assert after_power_loss(lambda disk: write_synced(disk, b"abc")) == {b"abc"}


def test_synced_bytes_under_an_unsynced_name_may_be_lost() -> None:
    def change(disk: SimulatedDisk) -> None:
        file = disk.open("a", create=True)
        file.write(b"abc", 0)
        file.sync()

    assert after_power_loss(change) == {None, b"abc"}


def test_unsynced_write_survives_in_any_subset_of_its_sectors() -> None:
    old, new = b"o" * 2 * SECTOR, b"n" * 2 * SECTOR

    def change(disk: SimulatedDisk) -> None:
        write_synced(disk, old)
        disk.open("a").write(new, 0)

    half = SECTOR
    assert after_power_loss(change) == {
        old,
        new,
        new[:half] + old[half:],
        old[:half] + new[half:],
    }


def test_write_durably_survives_without_a_sync() -> None:
    def change(disk: SimulatedDisk) -> None:
        write_synced(disk, bytes(8))
        disk.open("a").write_durably((b"ab", b"cd"), 2)

    assert after_power_loss(change) == {b"\0\0abcd\0\0"}


def test_unsynced_truncation_may_be_undone() -> None:
    def change(disk: SimulatedDisk) -> None:
        write_synced(disk, b"abcdef")
        disk.open("a").truncate(2)

    assert after_power_loss(change) == {b"abcdef", b"ab"}


def test_unsynced_removal_may_be_undone() -> None:
    def change(disk: SimulatedDisk) -> None:
        write_synced(disk, b"abc")
        disk.unlink("a")

    assert after_power_loss(change) == {b"abc", None}


def test_power_loss_after_unsynced_rename_may_lose_either_name() -> None:
    found = set()
    for seed in SEEDS:
        disk = SimulatedDisk(random.Random(seed))
        write_synced(disk, b"abc")
        disk.rename("a", "b")
        disk.lose_power()
        found.add(tuple(disk.paths()))
    assert found == {("a",), ("b",), ("a", "b"), ()}


def test_sync_all_makes_every_file_and_name_durable() -> None:
    def change(disk: SimulatedDisk) -> None:
        disk.open("a", create=True).write(b"abc", 0)
        disk.sync_all()

    assert after_power_loss(change) == {b"abc"}


def test_crash_of_the_process_loses_nothing() -> None:
    disk = SimulatedDisk(random.Random(0))
    disk.open("a", create=True).write(b"abc", 0)
    assert disk.content("a") == b"abc"
    assert disk.open("a").read(9, 0) == b"abc"


def test_power_loss_during_write_leaves_only_whole_sectors() -> None:
    sizes = set()
    for seed in SEEDS:
        disk = SimulatedDisk(random.Random(seed))
        file = disk.open("a", create=True)

        def lose_power(_: str) -> None:
            raise PowerLoss

        disk.before = lose_power
        with pytest.raises(PowerLoss):
            file.write(b"x" * 3 * SECTOR, 0)
        sizes.add(file.size())
    assert sizes == {0, SECTOR, 2 * SECTOR, 3 * SECTOR}


def test_every_call_can_be_made_to_fail_by_name() -> None:
    disk = SimulatedDisk(random.Random(0))
    names: list[str] = []
    disk.before = names.append
    file = disk.open("a", create=True)
    file.write(b"abc", 0)
    file.allocate(10)
    file.allocate(5)
    file.write_durably(b"x", 0)
    file.truncate(3)
    file.sync()
    disk.make_directory("d")
    disk.link("a", "b")
    disk.rename("b", "c")
    disk.unlink("c")
    disk.sync_directory("")
    disk.sync_all()
    assert names == [
        "open",
        "write",
        "allocate",
        "allocate again",
        "write_durably",
        "truncate",
        "sync",
        "make_directory d",
        "link",
        "rename",
        "unlink",
        "sync_directory",
        "sync_all",
    ]
    assert disk.calls == len(names)


def test_full_disk_writes_what_fits_and_raises_enospc() -> None:
    disk = SimulatedDisk(random.Random(0), capacity=10)
    file = disk.open("a", create=True)
    assert disk.room() == 10
    with pytest.raises(OSError, match="No space left") as raised:
        file.write(b"x" * 12, 0)
    assert raised.value.errno == errno.ENOSPC
    assert (file.size(), disk.room()) == (10, 0)
    with pytest.raises(OSError, match="No space left"):
        disk.open("b", create=True)
    with pytest.raises(OSError, match="No space left"):
        file.allocate(11)


def test_file_beyond_the_maximum_size_raises_efbig() -> None:
    disk = SimulatedDisk(random.Random(0))
    disk.largest = 10
    assert disk.largest_file() == 10
    disk.tells_largest = False
    assert disk.largest_file() is None
    file = disk.open("a", create=True)
    with pytest.raises(OSError, match="File too large") as raised:
        file.write(b"x" * 12, 0)
    assert raised.value.errno == errno.EFBIG
    assert file.size() == 10
    with pytest.raises(OSError, match="File too large"):
        file.allocate(11)


def test_corrupt_flips_one_bit_permanently() -> None:
    disk = SimulatedDisk(random.Random(0))
    write_synced(disk, b"\0\0\0")
    disk.corrupt("a", 1, 3)
    assert disk.content("a") == b"\0\x08\0"
    disk.lose_power()
    assert disk.content("a") == b"\0\x08\0"


def test_every_disk_check_raises_directory_lost_after_loss() -> None:
    disk = SimulatedDisk(random.Random(1))
    file = disk.open("a", create=True)
    for check in (file.check_place, disk.check_lock, disk.check_place):
        check()
    disk.lost = True
    for check in (file.check_place, disk.check_lock, disk.check_place):
        with pytest.raises(DirectoryLost):
            check()

"""Tests of the segment files of the write-ahead log, which may have any size and of which any may be missing."""

import errno
import os
import random
from pathlib import Path

import pytest

from durable_streams_server.errors import StorageFull
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.segments import SegmentFile, Segments
from durable_streams_server.storage.files.system_disk import SystemDisk
from durable_streams_server.storage.files.wal import Wal
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.wal_helpers import SEGMENT, new, read, write


def all_segments(wal: Wal) -> list[SegmentFile]:
    """Returns every segment of a log."""
    return wal._segments._all


def fail_for_lack_of_room(name: str) -> None:
    """Fails a disk call that needs space."""
    if name in ("allocate", "write"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


def succeed(_: str) -> None:
    """Lets a disk call succeed."""


def reopen(disk: SimulatedDisk, after: int, segment: int = SEGMENT) -> tuple[Wal, list[bytes]]:
    """Recovers a log, and returns it with the payloads of the records after LSN `after`."""
    wal = Wal(disk, segment)
    return wal, [payload for _, payload in wal.recover(after)]


def test_missing_free_segments_are_created_again_under_their_names() -> None:
    disk, wal = new()
    for number in range(12):
        write(wal, b"%d" % number * 2700)
    wal.recycle(wal.last_lsn)
    last = wal.last_lsn
    free = [segment.name for segment in all_segments(wal) if not segment.number]
    assert len(free) > 1
    for name in free:
        disk.unlink(name)
    for _ in range(20):
        wal, _ = reopen(disk, last)
        write(wal, b"x" * 6_000)
        names = [segment.name for segment in all_segments(wal)]
        assert len(set(names)) == len(names), "one file has two segments"
        wal.recycle(wal.last_lsn)
        last = wal.last_lsn
    assert disk.names("wal") == ["000", "003"], (
        "the first free name is not what a file was made under"
    )


def test_segment_with_two_hard_links_raises_damaged(tmp_path: Path) -> None:
    disk = SystemDisk(tmp_path)
    disk.make_directory("wal")
    segments = Segments(disk, SEGMENT)
    segments.add_file()
    segments.close()
    os.link(tmp_path / "wal" / "000", tmp_path / "wal" / "001")
    again = Segments(disk, SEGMENT)
    with pytest.raises(Damaged, match="wal/001: it is the same file as wal/000"):
        again.open()
    again.close()


def test_other_files_in_wal_directory_are_ignored() -> None:
    disk, wal = new()
    write(wal, b"one")
    disk.open("wal/000.bak", create=True).write(b"mine", 0)
    assert read(disk) == [(1, b"one")]
    assert disk.content("wal/000.bak") == b"mine"


@pytest.mark.parametrize("sizes", [(SEGMENT, 2 * SEGMENT), (2 * SEGMENT, SEGMENT)])
def test_free_segments_are_resized_to_the_configured_size(sizes: tuple[int, int]) -> None:
    disk = SimulatedDisk(random.Random(0))
    wal = Wal(disk, sizes[0])
    assert list(wal.recover(0)) == []
    wal.add_file()
    written = 0
    for number in range(9):
        write(wal, b"%d" % number * 3_000)
        written += 1
    wal, kept = reopen(disk, 0, sizes[1])
    assert len(kept) == written
    for number in range(40):
        write(wal, b"%d" % number * 3_000)
        wal.recycle(wal.last_lsn)
    assert {len(disk.content(f"wal/{name}")) for name in disk.names("wal")} == {sizes[1]}
    assert reopen(disk, wal.last_lsn)[1] == []


def test_record_goes_to_a_segment_that_is_large_enough() -> None:
    disk, wal = new()
    write(wal, b"one")
    wal.add_file()
    disk.before = fail_for_lack_of_room  # the free segment cannot grow
    wal, _ = reopen(disk, 0, 4 * SEGMENT)
    large, small = 2 * SEGMENT, 6_000
    wal.add_file()
    with pytest.raises(StorageFull):
        wal.reserve(large)
    first = wal.reserve(small)  # in the segment in use or in the small free one
    assert first.position + small <= SEGMENT
    disk.before = succeed
    with pytest.raises(StorageFull):
        wal.reserve(large)
    wal.add_file()
    place = wal.reserve(large)
    assert place.segment.capacity == 4 * SEGMENT


def test_store_writes_no_segment_until_its_space_is_allocated() -> None:
    disk, wal = new()
    write(wal, b"one")

    def no_room_for_holes(name: str) -> None:
        if name.startswith("allocate"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    disk.before = no_room_for_holes
    wal, kept = reopen(disk, 0)
    assert kept == [b"one"]
    with pytest.raises(StorageFull):
        wal.reserve(10)
    wal.add_file()
    with pytest.raises(StorageFull):
        wal.reserve(10)
    disk.before = succeed
    wal.add_file()
    write(wal, b"two")
    assert [payload for _, payload in read(disk)] == [b"one", b"two"]


def test_read_only_recovery_changes_nothing_on_the_disk() -> None:
    disk, wal = new()
    write(wal, b"one")
    calls: list[str] = []
    disk.before = calls.append
    assert len(list(Wal(disk, 0).recover(0))) == 1
    assert set(calls) == {"open"}

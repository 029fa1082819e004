"""Tests of the new write-ahead log that replaces a damaged one."""

import errno

import msgspec

from durable_streams_server.storage.files.directory import QUARANTINE
from durable_streams_server.storage.files.offline.new_wal import (
    begin_wal,
    quarantine_old_segments,
)
from durable_streams_server.storage.files.segments import read_header
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import append
from tests.storage.files.offline.reconstructions import TEXT, A
from tests.storage.files.stores import content, open_store, run

NEW = "wal/002"  # after the segment in use and a spare one


def test_store_skips_records_in_segments_older_than_repaired_wal(disk: SimulatedDisk) -> None:
    run(open_store(disk), append(A, b"obsolete", TEXT))
    begin_wal(disk, 50, 400)
    header = read_header(disk.open(NEW))
    assert header is not None
    assert (header.number, header.first) == (50, 401)
    catalog = SimulatedCatalog(disk)
    catalog.commit(msgspec.structs.replace(catalog.meta(), lsn=400), [], [])
    store = open_store(disk)
    assert store.wal.last_lsn == 400
    assert content(store, A) == b"aaaaaaaa"


def test_new_segment_is_as_large_as_older_ones(disk: SimulatedDisk) -> None:
    begin_wal(disk, 50, 400)
    assert disk.size(NEW) == disk.size("wal/000")


def test_new_segment_may_be_smaller_on_full_disk(
    disk: SimulatedDisk,
) -> None:
    def fail(call: str) -> None:
        if call == "allocate":
            raise OSError(errno.ENOSPC, "full")

    disk.before = fail
    begin_wal(disk, 50, 400)
    assert read_header(disk.open(NEW)) is not None


def test_new_log_segment_replaces_quarantined_old_segments(disk: SimulatedDisk) -> None:
    old = disk.content("wal/000")
    begin_wal(disk, 50, 400)
    new = disk.content(NEW)
    assert list(quarantine_old_segments(disk)) == [
        "wal/000 is now quarantine/wal-000",
        "wal/001 is now quarantine/wal-001",
    ]
    assert disk.names("wal") == ["000"]
    assert disk.content("wal/000") == new
    assert disk.content(f"{QUARANTINE}/wal-000") == old

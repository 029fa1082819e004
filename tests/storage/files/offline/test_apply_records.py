"""Tests of how a repair applies the records of a write-ahead log."""

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.offline.apply_records import apply_records
from durable_streams_server.storage.files.offline.wal_reader import Gap, LogReader
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import append
from tests.storage.files.offline.reconstructions import TEXT, A, B, reconstruction
from tests.storage.files.stores import open_store, run


def damage(disk: SimulatedDisk, needle: bytes) -> None:
    disk.corrupt("wal/000", disk.content("wal/000").index(needle), 0)


def test_intact_records_are_all_applied(disk: SimulatedDisk) -> None:
    run(open_store(disk), append(A, b"one", TEXT), append(B, b"two", TEXT))
    found = reconstruction(disk)
    assert list(apply_records(LogReader(disk, found.meta.lsn), found)) == []
    assert (found.states[A].tail, found.states[B].tail) == (11, 11)
    assert (found.gaps, found.bytes) == ([], 6)


def test_repair_withholds_only_records_whose_preceding_bytes_are_lost(
    disk: SimulatedDisk,
) -> None:
    store = open_store(disk)
    run(store, append(A, b"lost", TEXT), append(A, b"withheld", TEXT), append(B, b"kept", TEXT))
    damage(disk, b"lost")
    found = reconstruction(disk)
    withheld = list(apply_records(LogReader(disk, found.meta.lsn), found))
    assert [each.why for each in withheld] == ["the stream's bytes from 8 to 12 are lost"]
    assert isinstance(found.gaps[0], Gap)
    assert found.states[B].tail == 12


def test_record_that_cannot_be_decoded_raises_damaged(disk: SimulatedDisk) -> None:
    store = open_store(disk)
    place = store.wal.reserve(3)
    store.wal.write(store.wal.encode([(place, b"???")]))
    found = reconstruction(disk)
    with pytest.raises(Damaged, match="cannot be understood"):
        list(apply_records(LogReader(disk, found.meta.lsn), found))

"""Tests of the log reader: it finds every intact record, even behind damage, and yields no record that was never acknowledged."""

import random

import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.offline.wal_reader import (
    Gap,
    LogReader,
    Record,
    lost_header,
)
from durable_streams_server.storage.files.segments import PAGE, read_header
from durable_streams_server.storage.files.wal import Wal
from durable_streams_server.storage.files.wal_format import OVERHEAD
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.wal_helpers import SEGMENT, new, write

SIZE = 1000 + OVERHEAD


def written(count: int) -> tuple[SimulatedDisk, list[Record]]:
    """Returns a disk whose log has records of equal size, and the records. Each record was written separately."""
    disk, wal = new()
    records = [Record(lsn, bytes([lsn % 251]) * 1000) for lsn in range(1, count + 1)]
    for record in records:
        write(wal, record.payload)
    return disk, records


def per_segment() -> int:
    """Returns how many records of the size that `written` uses fit in the first segment."""
    header = read_header(written(30)[0].open("wal/001"))
    assert header is not None
    return header.first - 1


def items(disk: SimulatedDisk, after: int = 0) -> list[Record | Gap]:
    return list(LogReader(disk, after).items())


def test_intact_log_yields_all_records_after_catalog_lsn_and_no_gap() -> None:
    disk, records = written(30)
    assert items(disk) == records
    assert items(disk, 17) == records[17:]
    assert items(disk, 30) == []


def test_log_reader_yields_gap_in_place_of_damaged_record() -> None:
    disk, records = written(8)
    disk.corrupt("wal/000", PAGE + 3 * SIZE + 500, 0)
    assert items(disk) == [*records[:3], Gap(3, 5, SIZE), *records[4:]]


def test_damage_before_catalog_lsn_is_not_reported_as_gap() -> None:
    disk, records = written(8)
    disk.corrupt("wal/000", PAGE + 3 * SIZE + 500, 0)
    assert items(disk, 4) == records[4:]
    assert items(disk, 6) == records[6:]


def test_each_gap_in_several_segments_is_reported() -> None:
    disk, _ = written(30)
    n = per_segment()
    disk.corrupt("wal/000", PAGE + (n - 1) * SIZE + 5, 0)
    disk.corrupt("wal/001", PAGE + 5, 0)
    disk.corrupt("wal/001", PAGE + 4 * SIZE, 0)
    gaps = [item for item in items(disk) if isinstance(item, Gap)]
    assert gaps == [
        Gap(n - 1, n + 1, None),
        Gap(n, n + 2, SIZE),
        Gap(n + 4, n + 6, SIZE),
    ]
    found = {item.lsn for item in items(disk) if isinstance(item, Record)}
    assert found == set(range(1, 31)) - {n, n + 1, n + 5}


def test_missing_segment_is_gap_between_its_neighbours() -> None:
    disk, records = written(30)
    disk.unlink("wal/001")
    n = per_segment()
    assert items(disk)[: n + 1] == [*records[:n], Gap(n, 2 * n + 1, None)]


def test_log_ending_before_catalog_lsn_is_reported_as_open_gap() -> None:
    disk, _ = written(5)
    assert items(disk, 9) == [Gap(9, None, None)]
    assert items(SimulatedDisk(random.Random(0)), 9) == [Gap(9, None, None)]


@pytest.mark.parametrize("fill", ["flip", "zeros"])
@pytest.mark.parametrize("name", ["000", "001", "002"])
def test_lost_segment_header_is_computed_from_records(name: str, fill: str) -> None:
    disk, records = written(28)
    if fill == "flip":
        disk.corrupt(f"wal/{name}", 25, 3)
    else:
        disk.open(f"wal/{name}").write(bytes(PAGE), 0)
    reader = LogReader(disk, 0)
    assert list(reader.items()) == records
    assert reader.headless == [f"wal/{name}"]


@pytest.mark.parametrize("zeros", [PAGE, PAGE + 900], ids=["header", "header and first record"])
@pytest.mark.parametrize("name", ["000", "001", "002"])
def test_blank_header_before_acknowledged_records_is_reported(name: str, zeros: int) -> None:
    disk, _ = written(28)
    assert lost_header(disk, 0) is None
    disk.open(f"wal/{name}").write(b"\0" * zeros, 0)
    assert lost_header(disk, 0) == f"wal/{name}"


def test_blank_header_before_unacknowledged_records_is_not_reported() -> None:
    disk, wal = new()
    places = [wal.reserve(5), wal.reserve(5), wal.reserve(5)]
    wal.write(wal.encode([(place, b"three") for place in places]))
    disk.open("wal/000").write(b"\0" * PAGE, 0)
    assert lost_header(disk, 0) is None


def test_single_record_behind_damaged_header_is_found_if_salt_is_intact() -> None:
    count = per_segment() + 1
    disk, records = written(count)
    disk.corrupt("wal/001", 10, 3)
    assert items(disk) == records
    disk.corrupt("wal/001", PAGE + 40, 3)  # with another salt, the damaged bytes look intact
    assert items(disk) == [*records[:-1], Gap(count - 1, None, None)]
    disk.corrupt("wal/001", PAGE + 40, 3)
    disk.corrupt("wal/001", 30, 3)
    assert items(disk) == [*records[:-1], Gap(count - 1, None, None)]


def test_segment_without_header_and_first_record_yields_its_other_records() -> None:
    disk, records = written(28)
    disk.open("wal/002").write(bytes(PAGE + 500), 0)
    n = 2 * per_segment()
    assert items(disk) == [*records[:n], Gap(n, n + 2, None), *records[n + 1 :]]


def test_unreadable_segment_is_reported_as_open_gap() -> None:
    disk, records = written(28)
    disk.open("wal/002").write(random.Random(0).randbytes(SEGMENT), 0)
    reader = LogReader(disk, 0)
    n = 2 * per_segment()
    assert list(reader.items()) == [*records[:n], Gap(n, None, None)]
    assert reader.unreadable == ["wal/002"]


@pytest.mark.parametrize("seed", range(60))
def test_log_reader_and_recovery_yield_same_records_after_power_loss(seed: int) -> None:
    """After a power loss, the reader yields the same records as the recovery of a store.

    In one case the reader yields more. If the power loss destroyed the segment header that the first write to a segment contains, the reader
    cannot distinguish that from a damaged header. It then yields the records of that write, which were written and are the newest.
    """
    chance = random.Random(seed)
    disk = SimulatedDisk(chance)
    wal = new(disk)[1]
    known: set[bytes] = set()

    def payload() -> bytes:
        data = chance.randbytes(chance.randint(1, 900))
        known.add(data)
        return data

    for _ in range(4):
        for _ in range(chance.randint(0, 4)):
            write(wal, payload())

        def torn(name: str) -> None:
            if name == "write_durably":
                raise OSError("power")

        disk.before = torn
        with pytest.raises(OSError, match="power"):
            write(wal, *(payload() for _ in range(6)))
        disk.before = lambda _: None
        disk.lose_power()
        expected = [Record(*each) for each in Wal(disk, SEGMENT).recover(0)]
        reader = LogReader(disk, 0)
        found = list(reader.items())
        reader.close()
        assert found[: len(expected)] == expected
        assert len(found) == len(expected) or reader.headless
        assert all(each.payload in known for each in found if isinstance(each, Record))
        wal = Wal(disk, SEGMENT)
        list(wal.recover(0))


@pytest.mark.parametrize("seed", range(100))
def test_log_reader_yields_gap_and_written_records_if_recovery_fails(seed: int) -> None:
    chance = random.Random(seed)
    disk, records = written(chance.randint(3, 40))
    name = f"wal/{chance.choice(disk.names('wal'))}"
    file = disk.open(name)
    kind = chance.choice(("flip", "zero", "truncate", "delete"))
    position = chance.randrange(file.size())
    if kind == "flip":
        disk.corrupt(name, position, chance.randrange(8))
    elif kind == "zero":
        file.write(bytes(min(chance.choice((1, 512, 4096)), file.size() - position)), position)
    elif kind == "truncate":
        file.truncate(position)
    else:
        disk.unlink(name)
    after = chance.randint(0, len(records))
    found = items(disk, after)
    assert all(item in records for item in found if isinstance(item, Record))
    if not any(isinstance(item, Gap) for item in found):
        lsns = [item.lsn for item in found if isinstance(item, Record)]
        assert lsns == list(range(after + 1, after + 1 + len(lsns)))
    try:
        recovered = [Record(*each) for each in Wal(disk, 0).recover(after)]
    except Damaged:
        return
    if found != recovered:  # recovery treats a file without a header as unused
        assert found[: len(recovered)] == recovered

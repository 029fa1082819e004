"""Tests of reading records from a single segment."""

import pytest

from durable_streams_server.storage.files import wal_reader
from durable_streams_server.storage.files.segments import PAGE, SegmentFile, Segments, chain_seed
from durable_streams_server.storage.files.wal_format import OVERHEAD
from durable_streams_server.storage.files.wal_reader import RecordRun, record_runs, vouched
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.wal_helpers import SEGMENT, new, write


def segment_of(disk: SimulatedDisk) -> SegmentFile:
    """Returns the first segment of a log."""
    return Segments(disk, SEGMENT).open()[0]


def runs_of(segment: SegmentFile) -> list[RecordRun]:
    """Returns all runs of records in a segment that begins with LSN 1."""
    return list(record_runs(segment, 0, chain_seed(segment.file)))


def test_wal_reader_yields_all_records_in_order() -> None:
    disk, wal = new()
    payloads = [b"%d" % number for number in range(300)]
    write(wal, *payloads)
    runs = runs_of(segment_of(disk))
    assert [len(run.payloads) for run in runs] == [256, 44]
    assert [(run.first, run.last) for run in runs] == [(1, 256), (257, 300)]
    assert [payload for run in runs for payload in run.payloads] == payloads
    assert runs[-1].end == PAGE + sum(map(len, payloads)) + 300 * OVERHEAD


def test_run_ends_after_record_that_reaches_maximum_run_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, wal = new()
    write(wal, *[b"x" * 100] * 6)
    monkeypatch.setattr(wal_reader, "_RUN_BYTES", 200)
    assert [len(run.payloads) for run in runs_of(segment_of(disk))] == [2, 2, 2]


@pytest.mark.parametrize("scan", [1, 50, 1000])
def test_records_are_read_whole_in_reads_of_any_size(
    scan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, wal = new()
    payloads = [b"%d" % number * 40 for number in range(30)]
    write(wal, *payloads)
    monkeypatch.setattr(wal_reader, "_SCAN", scan)
    runs = runs_of(segment_of(disk))
    assert [payload for run in runs for payload in run.payloads] == payloads


def test_reading_stops_before_a_damaged_record() -> None:
    disk, wal = new()
    write(wal, b"one", b"two", b"three")
    disk.corrupt("wal/000", PAGE + 2 * OVERHEAD + 3, 0)
    (run,) = runs_of(segment_of(disk))
    assert run.payloads == [b"one"]


@pytest.mark.parametrize("scan", [7, 64, 4096])
def test_later_record_shows_that_a_damaged_record_was_acknowledged(
    scan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, wal = new()
    write(wal, b"one")
    write(wal, b"two")
    write(wal, b"three")
    disk.corrupt("wal/000", PAGE + OVERHEAD, 0)
    monkeypatch.setattr(wal_reader, "_SCAN", scan)
    segment = segment_of(disk)
    assert vouched(segment, PAGE) == 2
    assert vouched(segment, PAGE + 3 * OVERHEAD + 6) == 0

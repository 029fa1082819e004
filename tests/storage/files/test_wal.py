"""Tests of the write-ahead log: recovery yields the written records, ends the log before a torn record, and refuses any other damage."""

import random
import struct
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_streams_server.errors import StorageFull, TooLarge, Unavailable
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.segments import MAX_FILES, PAGE
from durable_streams_server.storage.files.wal import Wal
from durable_streams_server.storage.files.wal_format import OVERHEAD, Payload, size_of
from durable_streams_server.storage.slow_work import COMMIT
from durable_streams_server.testing.disk import SimulatedDisk, SimulatedFile
from tests.storage.files.wal_helpers import SEGMENT, new, read, write


def test_recovery_yields_records_in_order_across_segments() -> None:
    disk, wal = new()
    payloads = [b"%d" % number * 400 for number in range(40)]
    for payload in payloads:
        write(wal, payload)
    assert read(disk) == list(enumerate(payloads, 1))
    assert read(disk, 30) == list(enumerate(payloads, 1))[30:]


def test_one_batch_of_records_can_span_two_segments() -> None:
    disk, wal = new()
    payloads = [bytes([number]) * 3000 for number in range(10)]
    write(wal, *payloads)
    disk.lose_power()
    assert [payload for _, payload in read(disk)] == payloads


def test_records_can_be_written_after_recovery() -> None:
    disk, wal = new()
    write(wal, b"one")
    again = Wal(disk, SEGMENT)
    assert list(again.recover(0)) == [(1, b"one")]
    write(again, b"two")
    assert read(disk) == [(1, b"one"), (2, b"two")]


def test_recovery_ignores_old_records_in_reused_segment() -> None:  # TRAPS 9
    disk, wal = new()
    for number in range(100):
        write(wal, b"%03d" % number * 500)
        wal.recycle(wal.last_lsn)
    assert len(disk.names("wal")) <= 3
    assert read(disk, 100) == []
    assert [lsn for lsn, _ in read(disk, 95)] == [96, 97, 98, 99, 100]


class Written:
    """Records the first position and the end of each durable write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spans: list[tuple[int, int]] = []
        real = SimulatedFile.write_durably

        def write_durably(file: SimulatedFile, data: Payload, position: int) -> None:
            self.spans.append((position, position + size_of(data)))
            real(file, data, position)

        monkeypatch.setattr(SimulatedFile, "write_durably", write_durably)

    def take(self) -> list[tuple[int, int]]:
        spans, self.spans = self.spans, []
        return spans


PADDING = 6000
WIDE = 16 * PADDING


def new_wide(segment: int = WIDE) -> tuple[SimulatedDisk, Wal]:
    """Returns a disk and an empty log whose segments are much larger than its records."""
    disk = SimulatedDisk(random.Random(0))
    wal = Wal(disk, segment)
    list(wal.recover(0))
    wal.add_file()
    return disk, wal


def test_write_to_new_space_is_padded_with_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, wal = new_wide()
    payloads = [bytes([number]) * 1000 for number in range(80)]
    spans = Written(monkeypatch)
    for payload in payloads:
        write(wal, payload)
    begins, ends = zip(*spans.take(), strict=True)
    size = 1000 + OVERHEAD
    assert list(begins) == [0, *(4096 + size * number for number in range(1, 80))]
    own_ends = {4096 + size * number for number in range(1, 81)}
    assert [end for end in ends if end not in own_ends] == [
        *range(PADDING, 86_800, PADDING),
        90_000,
    ]
    assert list(Wal(disk, WIDE).recover(0)) == list(enumerate(payloads, 1))


def test_padding_does_not_exceed_the_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    segment = WIDE + 1000  # not a multiple of the padding
    wal = new_wide(segment)[1]
    for end in (segment - 9000, segment - 1000, segment - 5):
        size = end - max(wal._position, 4096) - OVERHEAD
        spans = Written(monkeypatch)
        wal.write(wal.encode([(wal.reserve(size, leave=0), b"x" * size)]))
        assert wal._position == end
    assert spans.take() == [(segment - 1000, segment)]


def test_write_to_a_reused_segment_is_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    wal = new_wide()[1]
    for _ in range(400):
        write(wal, b"x" * 1000)
        wal.recycle(wal.last_lsn)
    spans = Written(monkeypatch)
    for _ in range(400):
        write(wal, b"x" * 1000)
        wal.recycle(wal.last_lsn)
    begun, others = 4096 + 1000 + OVERHEAD, 1000 + OVERHEAD
    assert {end - begin for begin, end in spans.take()} == {begun, others}


def test_large_write_is_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    wal = new_wide()[1]
    spans = Written(monkeypatch)
    write(wal, b"x" * 6000)
    end = 4096 + 6000 + OVERHEAD
    write(wal, b"small")
    assert spans.take() == [(0, end), (end, 12_000)]


def test_write_after_recovery_is_padded_from_the_end_of_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, wal = new_wide()
    write(wal, b"one")
    again = Wal(disk, WIDE)
    assert list(again.recover(0)) == [(1, b"one")]
    spans = Written(monkeypatch)
    write(again, b"two")
    write(again, b"three")
    end = 4096 + len(b"onetwo") + 2 * OVERHEAD
    assert spans.take() == [(end - OVERHEAD - 3, PADDING), (end, end + OVERHEAD + 5)]
    assert list(Wal(disk, WIDE).recover(0)) == [(1, b"one"), (2, b"two"), (3, b"three")]


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 3000))
def test_recovery_ends_the_log_before_a_torn_record(seed: int, size: int) -> None:  # TRAPS 4
    disk = SimulatedDisk(random.Random(seed))
    wal = new(disk)[1]
    write(wal, b"a" * 700, b"b" * 900)

    def torn(name: str) -> None:
        if name == "write_durably":
            raise OSError("power")

    disk.before = torn
    with pytest.raises(OSError, match="power"):
        write(wal, b"c" * size, b"d" * 2000)
    disk.before = lambda _: None
    disk.lose_power()
    kept = read(disk)
    assert [payload[:1] for _, payload in kept] in (
        [b"a", b"b"],
        [b"a", b"b", b"c"],
        [b"a", b"b", b"c", b"d"],
    )
    again = Wal(disk, SEGMENT)
    survived = len(list(again.recover(0)))
    write(again, b"new")
    assert read(disk)[survived:] == [(survived + 1, b"new")]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_recovery_detects_every_flipped_bit_in_acknowledged_records(data: st.DataObject) -> None:
    disk, wal = new()
    for number in range(6):
        write(wal, b"%d" % number * 2700)
    size = 2700 + OVERHEAD  # the first segment takes four records, the second has two
    name, count = data.draw(st.sampled_from([("wal/000", 4), ("wal/001", 2)]))
    position = data.draw(st.integers(0, 39) | st.integers(4096, 4096 + count * size - 1))
    last = name == "wal/001" and position >= 4096 + size
    disk.corrupt(name, position, data.draw(st.integers(0, 7)))
    if last:  # no later record shows that the last one was acknowledged, so it counts as torn
        assert len(read(disk)) == 5
        with pytest.raises(Damaged):
            read(disk, 6)
    else:
        with pytest.raises(Damaged):
            read(disk)


def test_missing_segment_is_damage() -> None:
    disk, wal = new()
    for number in range(12):
        write(wal, b"%d" % number * 3000)
    disk.unlink("wal/000")
    with pytest.raises(Damaged, match="missing"):
        read(disk)


def test_catalog_ahead_of_the_log_is_damage() -> None:  # TRAPS 15
    disk, wal = new()
    write(wal, b"one")
    with pytest.raises(Damaged, match="the catalog"):
        read(disk, 2)
    disk.unlink("wal/000")
    with pytest.raises(Damaged, match="missing"):
        read(disk, 1)


def test_record_larger_than_a_segment_is_refused() -> None:
    _, wal = new()
    wal.reserve(wal.largest)
    with pytest.raises(TooLarge):
        wal.reserve(wal.largest + 1)


def test_reserving_log_space_without_free_segment_is_refused() -> None:
    disk, wal = new()
    wal.reserve(10_000)
    before = wal.last_lsn
    with pytest.raises(Unavailable):
        wal.reserve(10_000)

    def full(name: str) -> None:
        if name == "allocate":
            raise OSError(28, "No space left on device")

    disk.before = full
    wal.add_file()
    with pytest.raises(StorageFull):
        wal.reserve(10_000)
    assert wal.last_lsn == before
    disk.before = lambda _: None
    wal.add_file()
    wal.reserve(10_000)
    assert not wal.full


def test_recovery_ignores_client_bytes_that_look_like_a_record() -> None:
    disk, wal = new()
    write(wal, b"one", b"two")
    whole = disk.content("wal/000")
    forged = whole[4096 : 4096 + OVERHEAD + 3]
    # A client can make every checksum right except those that depend on the secret salt.
    for durable in (3, 1 << 40):
        head = struct.pack("<IIQQI", 0x5D5A11C3, 4, 9, durable, 0)
        forged += head + zlib.crc32(b"evil", zlib.crc32(head)).to_bytes(4, "little") + b"evil"
    for _ in range(8):
        write(wal, forged * 60)
        wal.recycle(wal.last_lsn)
    last = wal.last_lsn
    # This append reuses a segment of an earlier lap, so the forged bytes are behind the new record.
    write(wal, b"x" * 6_000)
    again = Wal(disk, SEGMENT)
    assert [lsn for lsn, _ in again.recover(last)] == [last + 1]


def test_log_on_full_disk_is_recovered_and_refuses_records_that_need_new_segment() -> None:
    disk, wal = new()
    write(wal, b"x" * 6_000)

    def full(name: str) -> None:
        if name == "allocate":
            raise OSError(28, "No space left on device")

    disk.before = full
    wal.add_file()
    assert disk.names("wal") == ["000", "001"]
    again = Wal(disk, SEGMENT)
    assert len(list(again.recover(0))) == 1
    again.add_file()
    assert again.full
    for _ in range(3):
        again.reserve(4_000)
    with pytest.raises(Unavailable):  # because no checkpoint has freed the first segment yet
        again.reserve(5_000)
    disk.before = lambda _: None
    again.add_file()
    again.reserve(5_000)
    assert disk.names("wal") == ["000", "001", "002"]


def test_log_counts_its_batches_and_their_bytes() -> None:
    disk, wal = new()
    write(wal, b"a")
    write(wal, b"b", b"c", b"d")
    assert sum(wal.batches.counts) == 2
    assert wal.batches.total == 4
    assert sum(wal.sync_seconds.counts) == 2
    assert wal.bytes_written >= 4 * (1 + OVERHEAD)
    again = Wal(disk, SEGMENT)
    list(again.recover(0))
    assert (sum(again.batches.counts), again.bytes_written) == (0, 0)


def test_slow_write_counts_as_slow_work(monkeypatch: pytest.MonkeyPatch) -> None:
    _, wal = new()
    times = iter((100.0, 101.5, 200.0, 200.01))
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    write(wal, b"a")
    write(wal, b"b")
    monkeypatch.undo()
    assert wal.slow_work.between(0, 1000) == {COMMIT: 1.5}


def test_log_knows_its_size_and_the_space_in_use() -> None:
    _, wal = new()
    assert (wal.size, wal.used) == (SEGMENT, 0)
    write(wal, b"x" * 10_000)
    assert wal.used == PAGE + 10_000 + OVERHEAD
    write(wal, b"x" * 10_000)  # begins a second segment
    assert (wal.size, wal.used) == (2 * SEGMENT, SEGMENT + PAGE + 10_000 + OVERHEAD)
    wal.recycle(1)
    assert (wal.size, wal.used) == (2 * SEGMENT, PAGE + 10_000 + OVERHEAD)
    assert wal.limit == MAX_FILES * SEGMENT

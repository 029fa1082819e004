"""Tests of the sizes of the write-ahead log and its segments."""

import random

import pytest

from durable_streams_server.errors import TooLarge
from durable_streams_server.storage.files.segments import MAX_FILES, PAGE
from durable_streams_server.storage.files.wal import Wal
from durable_streams_server.storage.files.wal_sizes import (
    DEFAULT_SIZE,
    MAX_SIZE,
    MIN_SIZE,
    reserve_of,
    segment_size_of,
    size_for,
)
from durable_streams_server.testing.disk import SimulatedDisk


@pytest.mark.parametrize("largest", [1, 4096, 1 << 20, 64 << 20, 256 << 20])
def test_size_for_returns_log_size_that_accepts_largest_record(largest: int) -> None:
    size = size_for(largest)
    segment = segment_size_of(size)
    wal = Wal(SimulatedDisk(random.Random(0)), segment)
    assert largest <= wal.largest < largest + 3 * 4096
    assert wal.reserve_size == reserve_of(segment)
    with pytest.raises(TooLarge):
        wal.reserve(wal.largest + 1)


@pytest.mark.parametrize("size", [MIN_SIZE, MIN_SIZE + 1, DEFAULT_SIZE, MAX_SIZE])
def test_segment_size_is_multiple_of_page_and_fits_log_size(size: int) -> None:
    segment = segment_size_of(size)
    assert segment % PAGE == 0
    assert size - MAX_FILES * PAGE < MAX_FILES * segment <= size


def test_reserve_is_one_sixteenth_of_segment_up_to_1_mib() -> None:
    assert reserve_of(1 << 20) == 1 << 16
    assert reserve_of(1 << 30) == 1 << 20

"""Tests of the search for whole records in a segment's bytes."""

import random
from zlib import crc32

from durable_streams_server.storage.files.offline.wal_scan import (
    intact_records,
    record_at,
    salt_at,
    seed_of,
)
from durable_streams_server.storage.files.segments import PAGE, Salt, read_header
from durable_streams_server.storage.files.wal_format import OVERHEAD
from tests.storage.files.wal_helpers import new, write


def segment(*payloads: bytes) -> tuple[bytes, Salt]:
    """Returns the bytes and the salt of a segment with some records."""
    disk, wal = new()
    for payload in payloads:
        write(wal, payload)
    header = read_header(disk.open("wal/000"))
    assert header is not None
    return disk.content("wal/000"), Salt.of(header.salt)


def test_intact_records_are_found_behind_damaged_one() -> None:
    data, salt = segment(b"one", b"two", b"three")
    damaged = data.replace(b"two", b"TWO")
    assert [found.lsn for found in intact_records(data, salt)] == [1, 2, 3]
    assert [found.lsn for found in intact_records(damaged, salt)] == [1, 3]


def test_records_of_another_segment_are_not_found() -> None:
    data, salt = segment(b"one", b"two")
    other = Salt(salt.mark, salt.seed ^ 1)
    assert list(intact_records(data, other)) == []


def test_record_follows_only_the_record_directly_before_it() -> None:
    data, salt = segment(b"one", b"two", b"three")
    first, second, third = intact_records(data, salt)
    assert second.follows(first)
    assert not third.follows(first)
    assert not first.follows(second)


def test_truncated_record_is_not_found() -> None:
    data, salt = segment(b"one")
    found = record_at(data, PAGE, salt)
    assert found is not None
    assert (found.begin, found.end) == (PAGE, PAGE + OVERHEAD + 3)
    assert record_at(data[: found.end - 1], PAGE, salt) is None
    assert record_at(data[: PAGE + 5], PAGE, salt) is None


def test_salt_is_computed_from_two_neighbouring_records() -> None:
    data, salt = segment(b"one", b"two")
    found = salt_at(data, PAGE)
    assert found is not None
    assert (found[0], found[1].lsn) == (salt, 1)


def test_salt_is_not_computed_from_single_record() -> None:
    data, _ = segment(b"one")
    assert salt_at(data, PAGE) is None


def test_seed_of_checksum_is_computed_from_record_and_its_checksum() -> None:
    chance = random.Random(0)
    for _ in range(50):
        seed, head, body = chance.getrandbits(32), chance.randbytes(28), chance.randbytes(77)
        assert seed_of(head, body, crc32(body, crc32(head, seed))) == seed

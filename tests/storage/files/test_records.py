"""Tests that large records are encoded in parts that join to the same bytes."""

import zlib

import msgspec
import pytest

from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.state import Appended, Change, Removed
from durable_streams_server.storage.files.records import encode_in_parts, has_large
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.wal_format import LARGE
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW, append, create
from tests.storage.files.stores import content, new_disk, open_store, run

BIG = bytes(range(256)) * (LARGE // 256)


@pytest.mark.parametrize("path", ["/a", "/" + "long" * 100])
@pytest.mark.parametrize("stamp", [None, Stamp(b"p", 1, 2)])
@pytest.mark.parametrize("more", [0, 1, 20])
def test_record_encoded_in_parts_equals_record_encoded_whole(
    path: str, stamp: Stamp | None, more: int
) -> None:
    large = Appended(path, NOW, 1 << 40, BIG, True, NOW, stamp, b"seq")
    small = Appended(path, NOW, 0, b"x", False, NOW)
    changes: tuple[Change, ...] = (*[Removed("/r", 1)] * more, large, *[small, large] * more)
    assert has_large(changes)
    parts = encode_in_parts(changes)
    assert isinstance(parts, tuple)
    assert any(part is BIG for part in parts)
    assert b"".join(parts) == msgspec.msgpack.encode(changes)
    assert not has_large((small,))


def large_store(disk: SimulatedDisk) -> FileStore:
    """Opens a store whose segments take large records."""
    return open_store(disk, segment_size=16 << 20)


def test_large_and_small_records_are_recovered_together() -> None:
    disk = new_disk()
    store = large_store(disk)
    run(store, create("/a"), create("/b"))
    tickets = [store.execute(append("/a", body), NOW) for body in (b"1", BIG, b"2", BIG, BIG, b"3")]
    tickets += [
        store.execute(append("/b", BIG), NOW) for _ in range(12)
    ]  # more than fits one segment
    store.commit_once()
    run(store, append("/a", b"4"))
    assert [ticket.result() for ticket in tickets]
    disk.lose_power()
    again = large_store(disk)
    assert content(again, "/a") == b"1" + BIG + b"2" + BIG + BIG + b"34"
    assert zlib.crc32(content(again, "/b")) == zlib.crc32(BIG * 12)


def test_event_loop_neither_copies_nor_checksums_a_large_append() -> None:
    store = large_store(new_disk())
    run(store, create("/a"))
    command = append("/a", BIG)
    store.execute(command, NOW)
    commit = store.commits.take_pending()
    assert commit.writes == []
    ((_, payload),) = commit.records
    assert any(part is command.body.wire for part in payload)
    store.commits.write(commit)
    store.commits.committed(commit)
    assert content(store, "/a") == BIG

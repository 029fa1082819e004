"""Tests of recovery, which restores acknowledged changes and refuses a write-ahead log whose records do not fit the catalog."""

import shutil
from pathlib import Path

import pytest

from durable_streams_server.errors import TooManyRequests
from durable_streams_server.protocol.decisions.quota import Usage
from durable_streams_server.protocol.subscriptions.commands import (
    Claim,
    Link,
    Unsubscribe,
)
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog.entries import UNCOUNTED
from durable_streams_server.storage.files.catalog.table_catalog import TableCatalog
from durable_streams_server.storage.files.offline.directory_check import DirectoryCheck
from durable_streams_server.storage.files.offline.directory_repair import repair_directory
from durable_streams_server.streams.file_store import FileBackedStreamStore
from durable_streams_server.testing.catalog import SimulatedCatalog
from tests.crash.catalog_sums import forget_sums
from tests.protocol.subscriptions.world import JSON, POOL, A, B, subscribe
from tests.requests import NOW, SECOND, append, create, fork_of
from tests.storage.files.benches import SEGMENT
from tests.storage.files.checkpoints import add_subscriptions, documents_of, subscription_of
from tests.storage.files.stores import new_disk, open_store, run


@pytest.mark.parametrize("checkpoints", [True, False])
def test_usage_of_an_older_directory_is_counted_until_a_checkpoint_writes_it(
    checkpoints: bool,
) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", "text/plain", b"first"), create("/b", None, fork=fork_of("/a")))
    run(store, append("/b", b"own", "text/plain"))
    store.run_checkpoint()
    forget_sums(SimulatedCatalog(disk))
    for _ in range(2):
        store = open_store(disk)
        assert store.usage == Usage(2, 8)
        if checkpoints:
            store.run_checkpoint()  # although there is no record
    assert SimulatedCatalog(disk).meta().stored == (8 if checkpoints else UNCOUNTED)


def test_start_reads_no_entry_of_a_stream_to_know_the_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, *(create(f"/{number}", "text/plain", b"x") for number in range(20)))
    store.run_checkpoint()
    monkeypatch.setattr(TableCatalog, "paths", refuse)
    monkeypatch.setattr(TableCatalog, "find", refuse)
    assert open_store(disk).usage == Usage(20, 20)


def refuse(*_: object) -> None:
    raise AssertionError("a start reads the entry of a stream")


@pytest.mark.parametrize("checkpoints", ["none", "before", "between", "after"])
def test_recovery_restores_subscriptions_with_and_without_a_checkpoint(checkpoints: str) -> None:
    disk = new_disk()
    store = open_store(disk)
    if checkpoints == "before":
        run(store, subscribe("u"))
        store.run_checkpoint()
        run(store, Unsubscribe("u"))
    add_subscriptions(store)
    if checkpoints == "between":
        store.run_checkpoint()
    run(
        store,
        append(A, b"2", JSON),
        Link("t", (B,)),
        Claim(
            "s",
            "v",
        ),
        now=NOW + 60 * SECOND,
    )
    if checkpoints == "after":
        store.run_checkpoint()
    expected = documents_of(store)
    assert expected["subscription/u"] is None
    assert subscription_of(store, "s").generation == 2
    for _ in range(2):
        disk.lose_power()
        store = open_store(disk)
        assert documents_of(store) == expected
        assert [each.owner for each in store.subscriptions] == ["token:s", None]
        assert store.subscriptions.owners.counts == {"token:s": 1}
        with pytest.raises(TooManyRequests):
            run(store, subscribe("v", "token:s", 1))
        assert [each.id for each in store.subscriptions.watchers(A)] == ["s", "t"]
    run(store, append(A, b"3", JSON))
    store.run_checkpoint()
    store.close()
    assert documents_of(open_store(disk)) == expected  # including which appends are unread


def test_subscription_created_after_restart_gets_a_larger_incarnation() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, subscribe("s"))
    first = subscription_of(store, "s").incarnation
    run(store, Unsubscribe("s"))
    store.run_checkpoint()
    disk.lose_power()
    store = open_store(disk)
    run(store, subscribe("s"), now=NOW - SECOND)  # the clock was set back
    assert subscription_of(store, "s").incarnation > first


def test_steady_time_after_recovery_is_not_before_newest_record() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create(POOL, JSON), create(A, JSON), subscribe("s"), append(A, b"1", JSON))
    # The clock was set ahead after the last checkpoint. Recovery counts that as time that has passed.
    ahead = NOW + 3600 * SECOND
    run(store, Claim("s", "w"), now=ahead)
    disk.lose_power()
    assert open_store(disk).timeline.floor >= ahead


def test_recovery_refuses_a_blank_header_before_acknowledged_records() -> None:
    disk = new_disk()
    store = open_store(disk)
    for number in range(4):  # the catalog does not have them
        run(store, create(f"/{number}"))
    disk.open("wal/000").write(b"\0" * 4096, 0)
    with pytest.raises(Damaged, match="wal/000: its header is lost"):
        open_store(disk)


def write_stream_and_crash(folder: Path, later_by: int, *, tail: bytes) -> None:
    """Writes a stream whose later bytes are in the write-ahead log only, and ends the store as a crash would."""
    folder.mkdir()
    store = FileBackedStreamStore(folder, segment_size=SEGMENT, clock=lambda: NOW + later_by)
    store.create("/a", "text/plain")
    store.append("/a", tail)
    store.run_checkpoint()
    store.append("/a", b"later")
    store.logs.close()
    store.wal.close()
    store._catalog.close()
    store._directory.release()


@pytest.mark.parametrize("later_by", [0, 5 * SECOND])
def test_recovery_refuses_the_log_of_another_directory(tmp_path: Path, later_by: int) -> None:
    write_stream_and_crash(tmp_path / "own", 0, tail=b"own bytes")
    write_stream_and_crash(tmp_path / "other", later_by, tail=b"bytes of another stream")
    shutil.rmtree(tmp_path / "own" / "wal")
    shutil.copytree(tmp_path / "other" / "wal", tmp_path / "own" / "wal")
    with pytest.raises(Damaged, match="record 3 does not follow from the catalog"):
        FileBackedStreamStore(tmp_path / "own", segment_size=SEGMENT)
    found = [each.what for each in DirectoryCheck(str(tmp_path / "own")).run() if not each.harmless]
    assert found
    words = list(repair_directory(str(tmp_path / "own"), NOW + 60 * SECOND))
    assert any(line.startswith("/a: ") for line in words)
    assert not [each for each in DirectoryCheck(str(tmp_path / "own")).run() if not each.harmless]
    with FileBackedStreamStore(tmp_path / "own", segment_size=SEGMENT) as store:
        state = store.find("/a").result()
        assert state is not None
        assert (
            state.incarnation > NOW + 5 * SECOND
        )  # a new incarnation, because old offsets may name lost bytes
        assert store.read_bytes(state.incarnation, 0, state.tail).result() == b"own bytes"


def test_recovery_refuses_a_record_that_creates_an_existing_stream(tmp_path: Path) -> None:
    write_stream_and_crash(tmp_path / "own", 0, tail=b"own bytes")
    other = FileBackedStreamStore(tmp_path / "other", segment_size=SEGMENT)
    other.create("/b", "text/plain")
    other.create("/c", "text/plain")
    other.run_checkpoint()
    other.create("/a", "text/plain")
    other.logs.close()
    other.wal.close()
    other._catalog.close()
    other._directory.release()
    shutil.rmtree(tmp_path / "own" / "wal")
    shutil.copytree(tmp_path / "other" / "wal", tmp_path / "own" / "wal")
    with pytest.raises(Damaged, match="record 3 does not follow from the catalog"):
        FileBackedStreamStore(tmp_path / "own", segment_size=SEGMENT)

"""Tests of checkpoints: each writes all states as they were after one record, and a failed checkpoint loses nothing."""

import errno
import itertools
import os
import time

import pytest

from durable_streams_server.errors import StorageFull
from durable_streams_server.protocol.subscriptions.commands import Unsubscribe
from durable_streams_server.storage.files.catalog import Entry
from durable_streams_server.storage.files.checkpoint import Where
from durable_streams_server.storage.slow_work import CHECKPOINT
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.protocol.subscriptions.world import JSON, A, subscribe
from tests.requests import NOW, append, create
from tests.storage.files.checkpoints import (
    TEXT,
    add_subscriptions,
    advance_to,
    documents_of,
    finish,
)
from tests.storage.files.stores import content, new_disk, open_store, run


def entry_of(disk: SimulatedDisk, path: str) -> Entry:
    """Returns a stream's entry in the catalog."""
    entry = SimulatedCatalog(disk).find(path)
    assert entry is not None
    return entry


def test_checkpoint_does_not_write_changes_made_after_it_began() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), create("/b", TEXT), append("/a", b"one", TEXT))
    moment = store.wal.last_lsn
    steps = store.checkpoints.steps()
    advance_to(steps, store, Where.DISK)
    run(store, append("/a", b" two", TEXT), append("/b", b"x", TEXT, closes=True))
    finish(steps, store)
    assert store.meta.lsn == moment
    first, second = entry_of(disk, "/a"), entry_of(disk, "/b")
    assert (first.tail, second.tail, second.closed) == (3, 0, False)
    disk.lose_power()
    again = open_store(disk)
    assert (content(again, "/a"), content(again, "/b")) == (b"one two", b"x")


@pytest.mark.parametrize("call", ["write", "open", "catalog begin"])
def test_checkpoint_on_full_disk_leaves_states_dirty_and_log_whole(call: str) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), append("/a", b"one", TEXT))

    def full(name: str) -> None:
        if name == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    before = store.meta.lsn
    disk.before = full
    store.run_checkpoint()
    assert store.ledger.found_disk_full
    assert store.meta.lsn == before < store.wal.last_lsn
    with pytest.raises(StorageFull):
        store.execute(append("/a", b" two", TEXT), NOW).result()
    disk.before = lambda _: None
    store.run_checkpoint()
    assert not store.ledger.found_disk_full
    run(store, append("/a", b" two", TEXT))
    store.run_checkpoint()
    assert store.meta.lsn == store.wal.last_lsn
    disk.lose_power()
    assert content(open_store(disk), "/a") == b"one two"


def test_failed_checkpoint_stops_the_store() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), append("/a", b"one", TEXT))
    pending = store.execute(append("/a", b" two", TEXT), NOW)

    def broken(name: str) -> None:
        if name == "sync":
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    disk.before = broken
    with pytest.raises(OSError, match="sync"):
        store.run_checkpoint()
    assert isinstance(store.failure, OSError)
    assert pending.done
    disk.before = lambda _: None
    disk.lose_power()
    assert content(open_store(disk), "/a") in (b"one", b"one two")


def test_checkpoint_of_a_clean_store_writes_nothing() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), append("/a", b"one", TEXT))
    store.run_checkpoint()
    calls = disk.calls
    store.run_checkpoint()
    assert disk.calls == calls


@pytest.mark.parametrize("call", ["write", "catalog begin"])
def test_failed_checkpoint_leaves_subscriptions_dirty(call: str) -> None:
    disk = new_disk()
    store = open_store(disk)
    add_subscriptions(store)
    store.run_checkpoint()
    run(store, append(A, b"2", JSON), subscribe("v"), Unsubscribe("t"))

    def full(name: str) -> None:
        if name == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    disk.before = full
    store.run_checkpoint()
    assert store.ledger.found_disk_full
    disk.before = lambda _: None
    expected = documents_of(store)
    store.run_checkpoint()
    assert store.meta.lsn == store.wal.last_lsn
    kept = dict(SimulatedCatalog(disk).documents())
    assert kept == {name: document for name, document in expected.items() if document is not None}
    disk.lose_power()
    assert documents_of(open_store(disk)) == expected


def test_checkpoints_are_counted_with_their_durations() -> None:
    disk = new_disk()
    store = open_store(disk)
    checkpoints = store.checkpoints
    before = checkpoints.ended_at
    run(store, create("/a", TEXT))
    done = sum(checkpoints.seconds.counts)
    store.run_checkpoint()
    assert sum(checkpoints.seconds.counts) == done + 1
    assert checkpoints.ended_at > before
    ended_at = checkpoints.ended_at

    def full(name: str) -> None:
        if name == "catalog begin":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    disk.before = full
    run(store, append("/a", b"one", TEXT))
    store.run_checkpoint()
    assert checkpoints.failed == 1
    assert (sum(checkpoints.seconds.counts), checkpoints.ended_at) == (done + 1, ended_at)


def test_slow_checkpoint_counts_as_slow_work(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(new_disk())
    run(store, create("/a", TEXT))
    now = itertools.count(1000.0, 0.1)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    store.run_checkpoint()
    monkeypatch.undo()
    assert store.slow_work.between(1000, 2000)[CHECKPOINT] > 0.05

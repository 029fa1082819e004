"""Checkpoints: true for one record, whatever is written beside them, and nothing lost when one cannot be finished."""

import errno
import os
from collections.abc import Iterator

import pytest

from durable_streams_server.errors import StorageFull, Unavailable
from durable_streams_server.storage.files.catalog import Entry
from durable_streams_server.storage.files.checkpoint import Where
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW, append, create
from tests.storage.files.stores import content, new_disk, open_store, run

TEXT = "text/plain"


def advance_to(steps: Iterator[Where], store: FileStore, where: Where) -> None:
    """Takes steps until the next one would run there."""
    for following in steps:
        if following is where:
            return
        if following is Where.DURABLE:
            store.commit_once()


def finish(steps: Iterator[Where], store: FileStore) -> None:
    for where in steps:
        if where is Where.DURABLE:
            store.commit_once()


def held(disk: SimulatedDisk, path: str) -> Entry:
    """Returns what the catalog says of a stream."""
    entry = SimulatedCatalog(disk).find(path)
    assert entry is not None
    return entry


def test_what_comes_after_its_moment_is_not_in_it() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), create("/b", TEXT), append("/a", b"one", TEXT))
    moment = store.wal.last_lsn
    steps = store.checkpoint()
    advance_to(steps, store, Where.DISK)
    run(store, append("/a", b" two", TEXT), append("/b", b"x", TEXT, closes=True))
    finish(steps, store)
    assert store.meta.lsn == moment
    first, second = held(disk, "/a"), held(disk, "/b")
    assert (first.tail, second.tail, second.closed) == (3, 0, False)
    disk.lose_power()
    again = open_store(disk)
    assert (content(again, "/a"), content(again, "/b")) == (b"one two", b"x")


def test_a_change_in_the_middle_of_the_taking_is_seen_as_it_was() -> None:
    disk = new_disk()
    store = open_store(disk)
    paths = [f"/{number}" for number in range(1200)]  # more than one slice
    run(store, *(create(path, TEXT, b"a") for path in paths))
    steps = store.checkpoint()
    next(steps)  # the first slice is taken
    run(store, *(append(path, b"b", TEXT) for path in paths))
    finish(steps, store)
    store.run_checkpoint()
    again = open_store(disk)
    assert {content(again, path) for path in paths} == {b"ab"}


@pytest.mark.parametrize("call", ["write", "open", "catalog begin"])
def test_a_full_disk_leaves_everything_dirty_and_the_log_whole(call: str) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), append("/a", b"one", TEXT))

    def full(name: str) -> None:
        if name == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    before = store.meta.lsn
    disk.before = full
    store.run_checkpoint()
    assert store.found_disk_full
    assert store.meta.lsn == before < store.wal.last_lsn
    disk.before = lambda _: None
    run(store, append("/a", b" two", TEXT))
    store.run_checkpoint()
    assert not store.found_disk_full
    assert store.meta.lsn == store.wal.last_lsn
    disk.lose_power()
    assert content(open_store(disk), "/a") == b"one two"


def test_a_failed_one_stops_the_store() -> None:
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


def test_an_idle_store_writes_nothing() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), append("/a", b"one", TEXT))
    store.run_checkpoint()
    calls = disk.calls
    store.run_checkpoint()
    assert disk.calls == calls


def test_writers_that_a_full_disk_holds_up_are_told_so() -> None:
    disk = new_disk()
    store = open_store(disk, max_unflushed=1000)
    run(store, create("/a"))
    store.execute(append("/a", b"x" * 2000), NOW)
    store.commit_once()
    with pytest.raises(Unavailable):
        store.execute(append("/a", b"y"), NOW).result()

    def full(name: str) -> None:
        if name in ("write", "catalog begin"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    disk.before = full
    store.run_checkpoint()
    with pytest.raises(StorageFull):
        store.execute(append("/a", b"y"), NOW).result()
    disk.before = lambda _: None
    store.run_checkpoint()
    run(store, append("/a", b"y"))

"""Tests that records are refused while too many states are dirty or the disk is full."""

import errno
import os

import pytest

from durable_streams_server.errors import StorageFull, Unavailable
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.storage.files.checkpoint import Where
from tests.requests import NOW, append, create
from tests.storage.files.checkpoints import (
    TEXT,
    advance_to,
    finish,
)
from tests.storage.files.stores import new_disk, open_store, run


def test_append_is_refused_with_507_instead_of_503_while_disk_is_full() -> None:
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


def test_checkpoint_is_due_before_store_refuses_more_dirty_streams() -> None:
    store = open_store(new_disk(), max_dirty=8)
    paths = [f"/{number}" for number in range(20)]
    for number, path in enumerate(paths[:9]):
        store.execute(create(path, TEXT), NOW)
        store.commit_once()
        assert store.ledger.checkpoint_is_due is (number >= 2)
    with pytest.raises(Unavailable):
        store.execute(create(paths[9], TEXT), NOW).result()
    tickets = [
        store.execute(append(paths[0], b"x", TEXT), NOW),
        store.execute(Delete(paths[1]), NOW),
    ]
    store.commit_once()
    assert all(ticket.result() for ticket in tickets)  # these streams were dirty before
    steps = store.checkpoints.steps()
    advance_to(steps, store, Where.DISK)
    with pytest.raises(Unavailable):  # captured states are still in memory
        store.execute(create(paths[9], TEXT), NOW).result()
    finish(steps, store)
    run(store, create(paths[9], TEXT))


def test_streams_share_one_limit_of_unflushed_producers() -> None:
    store = open_store(new_disk(), max_fresh_producers=8)
    run(store, create("/a", TEXT), create("/b", TEXT))
    for number in range(9):
        path = "/a" if number % 2 else "/b"
        stamp = Stamp(b"%d" % number, 0, 0)
        store.execute(append(path, b"x", TEXT, stamp=stamp), NOW)
        store.commit_once()
    assert store.ledger.checkpoint_is_due
    with pytest.raises(Unavailable):
        store.execute(append("/a", b"x", TEXT, stamp=Stamp(b"new", 0, 0)), NOW).result()
    store.run_checkpoint()
    run(store, append("/a", b"x", TEXT, stamp=Stamp(b"new", 0, 0)))

"""Tests of the ledger: the dirty states after a checkpoint, and the memory counted as unflushed."""

import errno
import os

import pytest

from durable_streams_server.errors import Unavailable
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.storage.files import capture as capturing
from durable_streams_server.storage.files import gather, ledger
from durable_streams_server.storage.files.checkpoint import Where
from tests.requests import NOW, append, create
from tests.storage.files.checkpoints import (
    TEXT,
    advance_to,
)
from tests.storage.files.stores import content, new_disk, open_store, run


def test_captured_bytes_are_dirty_again_after_a_failed_checkpoint() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), *(append("/a", b"%d," % n, TEXT) for n in range(10)))

    def full(name: str) -> None:
        if name in ("write", "allocate"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capturing, "_PIECES", 2)
        patch.setattr(gather, "_RUN", 2)
        disk.before = full
        store.run_checkpoint()
        assert store.ledger.found_disk_full
        disk.before = lambda _: None
        store.run_checkpoint()
    assert store.states.recent_of(store.states["/a"].incarnation).unflushed == 0
    disk.lose_power()
    assert content(open_store(disk), "/a") == b"0,1,2,3,4,5,6,7,8,9,"


def test_streams_can_change_while_checkpoint_ends_in_steps() -> None:
    disk = new_disk()
    store = open_store(disk)
    paths = [f"/{number:02d}" for number in range(40)]
    run(store, *(create(path, TEXT, b"a") for path in paths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "_SLICE", 3)
        steps = store.checkpoints.steps()
        advance_to(steps, store, Where.DISK)
        noted = 0
        for where in steps:
            if where is Where.LOOP:
                noted += 1
                run(store, append(paths[noted % 10], b"b", TEXT), Delete(paths[-noted]))
    assert 25 <= noted <= 28
    store.run_checkpoint()
    assert store.ledger.unflushed == 0
    disk.lose_power()
    again = open_store(disk)
    assert sorted(again.paths()) == sorted(paths[:-noted])
    assert content(again, paths[1]) == b"abbb"


def test_unflushed_memory_includes_the_overhead_of_each_append() -> None:
    store = open_store(new_disk(), max_unflushed=10_000)
    run(store, create("/a", TEXT))
    tickets = [store.execute(append("/a", b"x", TEXT), NOW) for _ in range(100)]
    store.commit_once()
    assert 80 <= sum(ticket._error is None for ticket in tickets) <= 84
    with pytest.raises(Unavailable):
        tickets[-1].result()
    store.run_checkpoint()
    assert store.ledger.unflushed == 0
    run(store, append("/a", b"x", TEXT))
    run(store, Delete("/a"))
    assert store.ledger.unflushed == 0

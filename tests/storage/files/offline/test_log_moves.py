"""Tests of logs that get the names of new incarnations."""

import errno

import pytest

from durable_streams_server.storage.files.directory import QUARANTINE
from durable_streams_server.storage.files.index import Index
from durable_streams_server.storage.files.log_layout import path_of
from durable_streams_server.storage.files.offline.intact_prefix import IntactPrefix
from durable_streams_server.storage.files.offline.log_moves import remove_old_names, write_logs
from durable_streams_server.storage.files.offline.outcome import Move, Outcome
from durable_streams_server.storage.files.offline.wal_reader import Gap
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import append
from tests.storage.files.offline.reconstructions import (
    TEXT,
    A,
    append_to,
    incarnation,
    outcome,
    reconstruction,
)
from tests.storage.files.stores import open_store, run


def move_of(disk: SimulatedDisk, done: Outcome, path: str) -> Move:
    old = incarnation(disk, path)
    return next(move for move in done.moves if move.old == old)


@pytest.mark.parametrize("has_links", [True, False])
def test_log_moved_to_new_incarnation_has_all_its_bytes(
    disk: SimulatedDisk, has_links: bool
) -> None:
    def fail(call: str) -> None:
        if call == "link" and not has_links:
            raise OSError(errno.EPERM, "no links here")

    found = reconstruction(disk)
    assert found.apply(append_to(disk, A)) is None
    found.add_gap(Gap(4, None, None))
    done = outcome(found)
    disk.before = fail
    write_logs(disk, done)
    move = move_of(disk, done, A)
    assert disk.content(path_of(move.new)) == b"aaaaaaaamore"
    words = Index.of(disk.open(path_of(move.new) + ".idx")).label
    assert words is not None
    assert words.incarnation == move.new
    assert list(remove_old_names(disk, done.moves)) == []
    assert not disk.exists(path_of(move.old))
    assert not disk.exists(path_of(move.old) + ".idx")


def test_shortened_log_keeps_all_its_bytes_in_quarantine(disk: SimulatedDisk) -> None:
    store = open_store(disk)
    run(store, append(A, b"damaged", TEXT))
    store.run_checkpoint()
    old = path_of(incarnation(disk, A))
    done = outcome(reconstruction(disk, {A: IntactPrefix(8, 1)}))
    write_logs(disk, done)
    move = move_of(disk, done, A)
    assert disk.content(path_of(move.new)) == b"aaaaaaaa"
    assert len(list(remove_old_names(disk, [move]))) == 2
    aside = f"{QUARANTINE}/{old.replace('/', '-')}"
    assert disk.content(aside) == b"aaaaaaaadamaged"

"""Tests of the synchronous shell, where the thread that waits for a ticket does the work."""

import errno
import os

import pytest

from durable_streams_server.storage.ticket import Abandoned
from tests.requests import NOW, append, create
from tests.storage.files.stores import content, new_disk, open_store, run


def test_wait_for_commits_every_record_up_to_the_ticket() -> None:
    store = open_store(new_disk())
    tickets = [store.execute(create("/a", "text/plain"), NOW)]
    tickets += [store.execute(append("/a", b"x", "text/plain"), NOW) for _ in range(3)]
    assert not any(ticket.done for ticket in tickets)
    store.shell.wait_for(tickets[-1])
    assert all(ticket.done for ticket in tickets)
    assert content(store, "/a") == b"xxx"


def test_wait_for_runs_a_checkpoint_if_one_is_due() -> None:
    store = open_store(new_disk(), checkpoint_bytes=1000)
    run(store, create("/a", "text/plain"), append("/a", b"x" * 2000, "text/plain"))
    assert store.meta.lsn == 2


def test_failed_write_abandons_every_ticket() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", "text/plain"))
    tickets = [store.execute(append("/a", b"x", "text/plain"), NOW) for _ in range(3)]

    def broken(name: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    disk.before = broken
    with pytest.raises(OSError, match="Input/output"):
        store.shell.wait_for(tickets[0])
    for ticket in tickets:
        assert ticket.done
        with pytest.raises(Abandoned):
            ticket.result()

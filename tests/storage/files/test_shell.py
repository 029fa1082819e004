"""The shell that runs nothing by itself: whoever waits does the work."""

import errno
import os

import pytest

from durable_streams_server.storage.ticket import Abandoned
from tests.requests import NOW, append, create
from tests.storage.files.stores import content, new_disk, open_store, run


def test_waiting_for_one_ticket_commits_all_before_it() -> None:
    store = open_store(new_disk())
    tickets = [store.execute(create("/a", "text/plain"), NOW)]
    tickets += [store.execute(append("/a", b"x", "text/plain"), NOW) for _ in range(3)]
    assert not any(ticket.done for ticket in tickets)
    store.shell.wait_for(tickets[-1])
    assert all(ticket.done for ticket in tickets)
    assert content(store, "/a") == b"xxx"


def test_whoever_waits_makes_the_checkpoint_that_is_due() -> None:
    store = open_store(new_disk(), checkpoint_bytes=1000)
    run(store, create("/a", "text/plain"), append("/a", b"x" * 2000, "text/plain"))
    assert store.meta.lsn == 2


def test_a_failure_ends_every_wait() -> None:
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


def test_what_fails_after_a_record_has_its_place_stops_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", "text/plain"), append("/a", b"x", "text/plain"))
    broken = RuntimeError("a fault of ours")

    def fail(*_: object) -> None:
        raise broken

    with monkeypatch.context() as patched:
        patched.setattr(store.ledger, "apply", fail)
        failed = store.execute(append("/a", b"y", "text/plain"), NOW)
    for ticket in (failed, store.execute(append("/a", b"z", "text/plain"), NOW)):
        with pytest.raises(Abandoned, match="a fault of ours"):
            ticket.result()
    assert store.failure is broken
    assert content(open_store(disk), "/a") == b"x"

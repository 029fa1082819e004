"""Checkpoints: true for one record, whatever is written beside them, and nothing lost when one cannot be finished."""

import errno
import os
from collections.abc import Iterator
from itertools import pairwise

import pytest

from durable_streams_server.errors import StorageFull, Unavailable
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.signing import Key
from durable_streams_server.protocol.subscriptions.commands import (
    Claim,
    Grant,
    KeepKeys,
    Link,
    Undelivered,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.subscription import Subscription
from durable_streams_server.storage.files import capture as capturing
from durable_streams_server.storage.files import gather, ledger
from durable_streams_server.storage.files.catalog import Entry
from durable_streams_server.storage.files.checkpoint import Where
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.protocol.subscriptions.world import JSON, POOL, A, B, subscribe
from tests.requests import NOW, SECOND, append, create
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
    steps = store.checkpoints.steps()
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
    steps = store.checkpoints.steps()
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


# -- subscriptions ----------------------------------------------------------

KEY = Key("kid", b"s" * 32, b"t" * 32, NOW)


def busy(store: FileStore) -> None:
    """Makes a subscription that is linked, woken and claimed, one with a backlog, one that is gone, and keys."""
    run(store, create(POOL, JSON), create(A, JSON), create(B, JSON), KeepKeys((KEY,), ()))
    run(store, subscribe("s"), subscribe("t", type="webhook"), subscribe("u"))
    run(store, append(A, b"1", JSON), append(B, b"1", JSON))
    run(store, Claim("s", "w"), Link("s", (B,)), Unsubscribe("u"))
    grant = Grant("t", known(store, "t").incarnation, 1)
    run(store, Undelivered(grant, NOW + SECOND, "refused", None))


def known(store: FileStore, id_: str) -> Subscription:
    found = store.subscriptions.get(id_)
    assert found is not None
    return found


def documents(store: FileStore) -> dict[str, bytes | None]:
    """Returns all that a store knows of subscriptions."""
    names = ("keys", *(f"subscription/{id_}" for id_ in "stuv"))
    return {name: store.subscriptions.document(name) for name in names}


@pytest.mark.parametrize("checkpoints", ["none", "before", "between", "after"])
def test_subscriptions_survive_with_and_without_one(checkpoints: str) -> None:
    disk = new_disk()
    store = open_store(disk)
    if checkpoints == "before":
        run(store, subscribe("u"))
        store.run_checkpoint()
        run(store, Unsubscribe("u"))
    busy(store)
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
    expected = documents(store)
    assert expected["subscription/u"] is None
    assert known(store, "s").generation == 2
    for _ in range(2):
        disk.lose_power()
        store = open_store(disk)
        assert documents(store) == expected
        assert [each.id for each in store.subscriptions.watchers(A)] == ["s", "t"]
    run(store, append(A, b"3", JSON))
    store.run_checkpoint()
    store.close()
    assert documents(open_store(disk)) == expected  # what had news still has it


def test_an_id_is_not_reused_for_the_same_incarnation_after_a_restart() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, subscribe("s"))
    first = known(store, "s").incarnation
    run(store, Unsubscribe("s"))
    store.run_checkpoint()
    disk.lose_power()
    store = open_store(disk)
    run(store, subscribe("s"), now=NOW - SECOND)  # the clock was set back
    assert known(store, "s").incarnation > first


def test_a_subscription_that_changes_during_one_is_seen_as_it_was() -> None:
    disk = new_disk()
    store = open_store(disk)
    busy(store)
    before = documents(store)
    steps = store.checkpoints.steps()
    advance_to(steps, store, Where.DISK)
    run(store, subscribe("v"), Unsubscribe("t"), append(A, b"2", JSON), Link("s", (A,)))
    finish(steps, store)
    kept = dict(SimulatedCatalog(disk).documents())
    assert kept == {name: document for name, document in before.items() if document is not None}
    expected = documents(store)
    store.run_checkpoint()
    kept = dict(SimulatedCatalog(disk).documents())
    assert kept == {name: document for name, document in expected.items() if document is not None}
    disk.lose_power()
    assert documents(open_store(disk)) == expected


def test_many_subscriptions_are_taken_in_slices_and_before_they_change() -> None:
    disk = new_disk()
    store = open_store(disk)
    ids = [f"s{number}" for number in range(450)]
    run(store, create(POOL, JSON), *(subscribe(id_) for id_ in ids))
    steps = store.checkpoints.steps()
    assert next(steps) is Where.LOOP  # the first slice is taken
    run(store, *(Unsubscribe(id_) for id_ in ids))
    finish(steps, store)
    assert len(dict(SimulatedCatalog(disk).documents())) == len(ids)
    disk.lose_power()
    store = open_store(disk)
    assert len(store.subscriptions) == 0
    store.run_checkpoint()
    assert dict(SimulatedCatalog(disk).documents()) == {}


@pytest.mark.parametrize("call", ["write", "catalog begin"])
def test_one_that_fails_forgets_no_subscription(call: str) -> None:
    disk = new_disk()
    store = open_store(disk)
    busy(store)
    store.run_checkpoint()
    run(store, append(A, b"2", JSON), subscribe("v"), Unsubscribe("t"))

    def full(name: str) -> None:
        if name == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    disk.before = full
    store.run_checkpoint()
    assert store.ledger.found_disk_full
    disk.before = lambda _: None
    expected = documents(store)
    store.run_checkpoint()
    assert store.meta.lsn == store.wal.last_lsn
    kept = dict(SimulatedCatalog(disk).documents())
    assert kept == {name: document for name, document in expected.items() if document is not None}
    disk.lose_power()
    assert documents(open_store(disk)) == expected


def test_steady_time_begins_no_earlier_than_a_lease_in_the_log() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create(POOL, JSON), create(A, JSON), subscribe("s"), append(A, b"1", JSON))
    ahead = (
        NOW + 3600 * SECOND
    )  # a step of the wall clock that no checkpoint has seen counts as time
    run(store, Claim("s", "w"), now=ahead)
    disk.lose_power()
    assert open_store(disk).timeline.floor >= ahead


# -- turns ------------------------------------------------------------------


def test_one_step_takes_a_bounded_number_of_appends() -> None:
    store = open_store(new_disk(), segment_size=4 << 20)
    paths = [f"/{number}" for number in range(8)]
    run(store, *(create(path, TEXT) for path in paths))
    for path in paths:
        for _ in range(100):
            store.execute(append(path, b"x", TEXT), NOW)
    store.commit_once()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capturing, "_PIECES", 200)
        patch.setattr(gather, "_RUN", 30)
        capture = store.ledger.begin_capture()
        taken = [0]
        while capture.take_some():
            taken.append(sum(len(work.pieces) for work in capture.flushes))
    taken.append(sum(len(work.pieces) for work in capture.flushes))
    assert taken[-1] == 800
    assert max(after - before for before, after in pairwise(taken)) < 200 + 30


def test_appends_go_on_while_a_stream_is_taken_in_steps() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", TEXT), *(append("/a", b"%d," % n, TEXT) for n in range(10)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capturing, "_PIECES", 2)
        patch.setattr(gather, "_RUN", 2)
        later = 10
        for where in store.checkpoints.steps():
            if where is Where.LOOP:
                run(store, append("/a", b"%d," % later, TEXT))
                later += 1
    assert later > 14
    expected = b"".join(b"%d," % n for n in range(later))
    assert store.states.recent_of(store.states["/a"].incarnation).unflushed == later - 10
    assert content(store, "/a") == expected
    disk.lose_power()
    assert content(open_store(disk), "/a") == expected


@pytest.mark.parametrize("again", [False, True])
def test_a_stream_is_removed_while_it_is_taken_in_steps(again: bool) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/b", TEXT, b"b"), create("/a", TEXT))
    run(store, *(append("/a", b"%d," % n, TEXT) for n in range(10)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capturing, "_PIECES", 2)
        patch.setattr(gather, "_RUN", 2)
        steps = store.checkpoints.steps()
        assert [next(steps), next(steps)] == [Where.LOOP, Where.LOOP]
        run(store, Delete("/a"))
        if again:
            run(store, create("/a", TEXT, b"anew"))
        capture = store.ledger.capture
        assert capture is not None
        for _ in steps:
            pass
    [work] = [work for work in capture.flushes if len(work.pieces) == 10]
    assert b"".join(work.pieces.data) == b"0,1,2,3,4,5,6,7,8,9,"
    for _ in range(2):
        disk.lose_power()
        store = open_store(disk)
        assert content(store, "/b") == b"b"
        if again:
            assert content(store, "/a") == b"anew"
        else:
            assert store.find("/a").result() is None
        store.run_checkpoint()


def test_bytes_taken_in_steps_are_dirty_again_if_the_checkpoint_fails() -> None:
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


def test_one_step_takes_a_bounded_size_of_documents() -> None:
    store = open_store(new_disk())
    run(store, *(subscribe(f"s{number}", pattern="x" * 400) for number in range(30)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capturing, "_DOCUMENT_BYTES", 4000)
        capture = store.ledger.begin_capture()
        steps = 1
        while capture.take_some():
            steps += 1
    assert 3 <= steps <= 4


def test_what_a_checkpoint_has_written_is_noted_in_slices_between_which_streams_change() -> None:
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


# -- what only a checkpoint gives back is bounded ----------------------------


def test_small_appends_count_with_what_each_costs_in_memory() -> None:
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


def test_dirty_streams_are_bounded_and_make_a_checkpoint_due() -> None:
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
    assert all(ticket.result() for ticket in tickets)  # they add no dirty stream
    steps = store.checkpoints.steps()
    advance_to(steps, store, Where.DISK)
    with pytest.raises(Unavailable):  # what is being written is in memory still
        store.execute(create(paths[9], TEXT), NOW).result()
    finish(steps, store)
    run(store, create(paths[9], TEXT))


def test_fresh_producers_are_bounded_over_all_streams() -> None:
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

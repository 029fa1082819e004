"""Tests of sliding lifetimes: the time of the last use is rarely made durable, and a restart extends a lifetime by a tenth at most."""

import pytest

from durable_streams_server.errors import Unavailable
from durable_streams_server.protocol.commands import Command, Delete, Expire
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.files import lifetimes
from durable_streams_server.storage.files.catalog import Entry
from durable_streams_server.storage.files.log_layout import path_of
from durable_streams_server.storage.files.refusals import behind
from durable_streams_server.storage.files.store import FileStore
from tests.requests import NOW, SECOND, append, create
from tests.storage.files.stores import new_disk, open_store, run

TEN = Lifetime(ttl=10)


def state(store: FileStore, path: str = "/a") -> StreamState:
    found = store.find(path).result()
    assert found is not None
    return found


def sweep(store: FileStore, now: int) -> None:
    commands: list[Command] = [Expire(path, incarnation) for path, incarnation in store.due(now)]
    run(store, *commands, now=now)


def test_stream_use_is_recorded_at_most_once_per_tenth_of_ttl() -> None:  # TRAPS 21
    store = open_store(new_disk())
    run(store, create("/a", lifetime=TEN))
    before = store.wal.last_lsn
    for tenth in range(100):
        store.touch(state(store), NOW + tenth * SECOND // 10)
    assert store.wal.last_lsn - before <= 10


def test_restart_extends_lifetime_by_at_most_a_tenth_after_a_read() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", lifetime=TEN))
    store.touch(state(store), NOW + 5 * SECOND)
    # The next touch is not made durable, because less than a tenth has passed.
    store.touch(state(store), NOW + 5_900_000)
    store.commit_once()
    again = open_store(disk)
    deadline = state(again).deadline()
    assert deadline is not None
    assert NOW + 15_900_000 <= deadline <= NOW + 15_900_000 + SECOND


def test_checkpoint_during_recovery_does_not_shorten_a_lifetime() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", lifetime=TEN), create("/b"), append("/a", b"in the log"))
    store.touch(state(store), NOW + SECOND // 2)  # not durable
    run(store, *(append("/b", b"x" * 3000) for _ in range(10)))
    again = open_store(disk, max_unflushed=10_000)
    assert again.meta.lsn > 0
    deadline = state(again).deadline()
    assert deadline is not None
    assert deadline >= NOW + SECOND // 2 + 10 * SECOND


def test_sweep_records_stream_use_that_was_not_recorded_immediately() -> None:
    store = open_store(new_disk())
    run(store, create("/a", lifetime=TEN))
    store.touch(state(store), NOW + SECOND // 2)
    assert state(store).noted_at == NOW
    sweep(store, NOW + 2 * SECOND)
    assert state(store).noted_at == NOW + SECOND // 2


def test_live_reader_extends_the_durable_lifetime() -> None:
    store = open_store(new_disk())
    run(store, create("/a", lifetime=TEN))
    store.touch(state(store), NOW)
    state(store).readers = 1
    for second in range(1, 40):
        sweep(store, NOW + second * SECOND)
    assert state(store).noted_at >= NOW + 38 * SECOND


def test_streams_not_in_memory_expire_at_their_deadlines() -> None:  # TRAPS 53
    disk = new_disk()
    store = open_store(disk)
    run(store, *(create(f"/{n}", lifetime=Lifetime(ttl=10 + n % 3)) for n in range(30)))
    store.close()
    again = open_store(disk, max_loaded=2)
    assert again.next_deadline() == NOW + 10 * SECOND
    for second in range(10, 15):
        sweep(again, NOW + second * SECOND)
    assert list(again.paths()) == []
    assert again.next_deadline() is None


def test_use_of_evicted_stream_extends_its_lifetime() -> None:
    disk = new_disk()
    store = open_store(disk, max_loaded=1)
    run(store, create("/a", lifetime=TEN), create("/b"), create("/c"))
    store.run_checkpoint()
    before = state(store)
    for path in ("/b", "/c"):
        state(store, path)
    assert store.states.loaded("/a") is not before
    store.touch(before, NOW + 5 * SECOND)
    assert state(store).deadline() == NOW + 15 * SECOND
    run(store, Delete("/a"))
    before.removed = False
    last = store.wal.last_lsn
    store.touch(before, NOW + 8 * SECOND)
    assert store.wal.last_lsn == last


def test_entries_of_streams_deleted_before_their_deadline_are_removed() -> None:
    store = open_store(new_disk(), max_loaded=10)
    kept = store.ledger.lifetimes
    for number in range(1500):
        run(store, create(f"/{number}", lifetime=Lifetime(ttl=10_000)))
        store.touch(state(store, f"/{number}"), NOW + SECOND)
        run(store, Delete(f"/{number}"))
    assert len(kept._idle) < 1100
    assert len(kept._noting) < 1100


def test_evicting_stream_repeatedly_leaves_one_deadline_entry() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", lifetime=TEN), create("/b"), create("/c"))
    store.close()
    again = open_store(disk, max_loaded=1)
    held = state(again)
    for _ in range(10):
        for path in ("/b", "/c", "/b", "/c", "/a"):
            again.find(path)
        assert again.states.loaded("/a") is held
    assert len(again.ledger.lifetimes._idle) == 1
    sweep(again, NOW + 11 * SECOND)
    assert again.find("/a").result() is None


def test_stream_expires_at_deadline_stored_in_older_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = new_disk()
    with monkeypatch.context() as patch:
        patch.setattr(Entry, "deadline", Entry.older_deadline)
        store = open_store(disk)
        run(
            store,
            *(
                create(path, lifetime=Lifetime(expires_at=NOW + SECOND))
                for path in ("/a", "/b", "/c")
            ),
        )
        store.close()
    again = open_store(disk, max_loaded=1)
    run(again, append("/a", b"is written anew"), Delete("/b"))
    again.run_checkpoint()
    sweep(again, NOW + 2 * SECOND)
    assert list(again.paths()) == []
    again.run_checkpoint()
    assert again._catalog.deadlines((0, 0), (1 << 63) - 1, 10) == []


def test_expiry_sweep_examines_limited_number_of_stored_deadlines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifetimes, "_EXAMINED", 5)
    store = open_store(new_disk())
    paths = [f"/{number}" for number in range(12)]
    run(store, *(create(path, lifetime=TEN) for path in paths))
    run(store, *(append(path, b"x") for path in paths), now=NOW + 5 * SECOND)
    turns = 0
    while store.next_deadline() == NOW + 10 * SECOND:
        assert store.due(NOW + 10 * SECOND) == []
        turns += 1
    assert turns == 3


def test_wall_clock_far_ahead_does_not_load_streams_with_sliding_lifetimes() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, *(create(f"/{n}", lifetime=Lifetime(ttl=3600)) for n in range(50)))
    store.close()
    again = open_store(disk, max_loaded=1)
    again.timeline.see(NOW, NOW + 10**9 * SECOND)
    assert again.due(NOW + SECOND) == []
    assert len(again.states.newest) <= 1


def test_expiry_refused_for_lack_of_room_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", lifetime=TEN), create("/b"))
    later = NOW + 11 * SECOND
    ((path, incarnation),) = store.due(later)

    def no_room(*_: object) -> None:
        raise behind()

    with monkeypatch.context() as patch:
        patch.setattr(store.wal, "reserve", no_room)  # the reserve is full too
        refused = store.execute(Expire(path, incarnation), later)
    with pytest.raises(Unavailable):
        refused.result()
    assert store.due(later) == []
    assert store.next_deadline() is not None
    sweep(store, later + SECOND)
    assert list(store.paths()) == ["/b"]


def test_damaged_stream_expires_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, *(create(f"/{n}", body=b"x", lifetime=TEN) for n in range(3)))
    incarnation = state(store, "/0").incarnation
    store.close()
    disk.unlink(path_of(incarnation))
    again = open_store(disk)
    sweep(again, NOW + 20 * SECOND)
    assert list(again.paths()) == []
    assert "damaged" in caplog.text

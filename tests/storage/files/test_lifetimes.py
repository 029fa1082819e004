"""Sliding lifetimes across restarts: noted rarely, never lived shorter, a tenth longer at most."""

from durable_streams_server.protocol.commands import Command, Expire
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.state import StreamState
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


def test_reads_are_noted_at_most_every_tenth_of_the_lifetime() -> None:  # TRAPS 21
    store = open_store(new_disk())
    run(store, create("/a", lifetime=TEN))
    before = store.wal.last_lsn
    for tenth in range(100):
        store.touch(state(store), NOW + tenth * SECOND // 10)
    assert store.wal.last_lsn - before <= 10


def test_a_read_keeps_the_stream_alive_across_a_restart() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", lifetime=TEN))
    store.touch(state(store), NOW + 5 * SECOND)
    store.touch(state(store), NOW + 5_900_000)  # not noted: less than a tenth has passed
    store.commit_once()
    again = open_store(disk)
    deadline = state(again).deadline()
    assert deadline is not None
    assert NOW + 15_900_000 <= deadline <= NOW + 15_900_000 + SECOND


def test_a_checkpoint_in_the_middle_of_a_restart_does_not_shorten_a_life() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", lifetime=TEN), create("/b"), append("/a", b"in the log"))
    store.touch(state(store), NOW + SECOND // 2)  # not noted
    run(store, *(append("/b", b"x" * 3000) for _ in range(10)))
    again = open_store(disk, max_unflushed=10_000)
    assert again.meta.lsn > 0
    deadline = state(again).deadline()
    assert deadline is not None
    assert deadline >= NOW + SECOND // 2 + 10 * SECOND


def test_what_was_not_noted_is_when_the_tenth_has_passed() -> None:
    store = open_store(new_disk())
    run(store, create("/a", lifetime=TEN))
    store.touch(state(store), NOW + SECOND // 2)
    assert state(store).noted_at == NOW
    sweep(store, NOW + 2 * SECOND)
    assert state(store).noted_at == NOW + SECOND // 2


def test_a_live_reader_is_noted_as_long_as_it_stays() -> None:
    store = open_store(new_disk())
    run(store, create("/a", lifetime=TEN))
    store.touch(state(store), NOW)
    state(store).readers = 1
    for second in range(1, 40):
        sweep(store, NOW + second * SECOND)
    assert state(store).noted_at >= NOW + 38 * SECOND


def test_streams_that_are_not_in_memory_end_in_time() -> None:  # TRAPS 53
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

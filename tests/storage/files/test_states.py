"""Streams in memory: loaded when asked for, let go when idle, damage told and never skipped."""

import random

import pytest

from durable_streams_server.errors import Conflict, StreamDamaged
from durable_streams_server.protocol.commands import Delete, Fork
from durable_streams_server.protocol.decide import require_visible
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.storage.files.logs import path_of
from tests.requests import NOW, append, create, fork_of
from tests.storage.files.stores import content, new_disk, open_store, run


def test_memory_follows_the_streams_in_use() -> None:
    disk = new_disk()
    store = open_store(disk, max_loaded=10)
    for number in range(200):
        run(store, create(f"/{number}", body=b"%d" % number))
        if number % 5 == 0:
            store.run_checkpoint()
    assert len(store.states) < 30
    assert len(store.states.recent) == len(store.states)
    for number in random.Random(0).sample(range(200), 50):
        assert content(store, f"/{number}") == b"%d" % number
    assert sum(1 for _ in store.paths()) == 200


def test_what_is_dirty_or_read_live_is_not_let_go() -> None:
    store = open_store(new_disk(), max_loaded=1)
    run(store, create("/a", body=b"x"), create("/b", body=b"y"))
    assert len(store.states) == 2
    store.run_checkpoint()
    state = store.states["/a"]
    state.readers = 1
    for path in ("/b", "/a", "/b", "/c"):
        store.find(path)
    assert store.states.loaded("/a") is state


def test_producers_come_back_with_their_stream() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a"), append("/a", b"x", stamp=Stamp(b"p", 1, 0)))
    store.run_checkpoint()
    run(store, append("/a", b"y", stamp=Stamp(b"p", 1, 1)))
    store.close()
    again = open_store(disk)
    repeated = run(again, append("/a", b"y", stamp=Stamp(b"p", 1, 1)))[0]
    assert not repeated.wrote  # type: ignore[union-attr]
    assert content(again, "/a") == b"xy"


def test_a_fork_reads_its_ancestors_when_they_are_not_in_memory() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(
        store,
        create("/a", body=b"abc"),
        create("/b", None, fork=fork_of("/a")),
        append("/b", b"def"),
    )
    run(store, create("/c", None, fork=fork_of("/b")), Delete("/a"), append("/c", b"ghi"))
    store.close()
    again = open_store(disk, max_loaded=1, recent_limit=0)
    assert content(again, "/c") == b"abcdefghi"
    state = again.find("/c").result()
    assert state is not None
    (owner, _, _), *_ = state.extents(0, 3)
    assert again.marks(owner, 1).result() == (0, 3, 3)


def test_a_path_has_two_streams_while_its_end_is_in_flight() -> None:
    store = open_store(new_disk())
    run(store, create("/a", body=b"old"))
    old = store.find("/a").result()
    store.execute(Delete("/a"), NOW)
    store.execute(create("/a", body=b"new"), NOW)
    assert store.find("/a").result() is old
    assert store.states.get("/a") is not old
    store.commit_once()
    assert content(store, "/a") == b"new"


def test_a_damaged_stream_is_told_of_and_hurts_no_other() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", body=b"abc"), create("/b", body=b"def"))
    incarnation = store.states["/a"].incarnation
    store.close()
    disk.open(path_of(incarnation)).truncate(1)
    again = open_store(disk)
    state = again.find("/a").result()
    with pytest.raises(StreamDamaged) as caught:
        require_visible(state, NOW)
    assert (caught.value.status, caught.value.code) == (500, "STREAM_DAMAGED")
    for command in (append("/a", b"x"), create("/c", None, fork=Fork("/a", None, None))):
        with pytest.raises(StreamDamaged):
            again.execute(command, NOW).result()
    with pytest.raises(Conflict):  # nor can it be created anew over its own history
        again.execute(create("/a", "text/plain"), NOW).result()
    assert content(again, "/b") == b"def"
    run(again, Delete("/a"), create("/a", body=b"new"))
    again.run_checkpoint()
    assert content(open_store(disk), "/a") == b"new"

"""Tests of how a checkpoint captures dirty states: in steps, and each state before its next change."""

from itertools import pairwise

import pytest

from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.subscriptions.commands import (
    Link,
    Unsubscribe,
)
from durable_streams_server.storage.files import capture as capturing
from durable_streams_server.storage.files import gather
from durable_streams_server.storage.files.checkpoint import Where
from durable_streams_server.testing.catalog import SimulatedCatalog
from tests.protocol.subscriptions.world import JSON, POOL, A, subscribe
from tests.requests import NOW, append, create
from tests.storage.files.checkpoints import (
    TEXT,
    add_subscriptions,
    advance_to,
    documents_of,
    finish,
)
from tests.storage.files.stores import content, new_disk, open_store, run


def test_checkpoint_captures_state_before_append_changes_it() -> None:
    disk = new_disk()
    store = open_store(disk)
    paths = [f"/{number}" for number in range(1200)]  # more than one slice
    run(store, *(create(path, TEXT, b"a") for path in paths))
    steps = store.checkpoints.steps()
    next(steps)  # the first slice is captured
    run(store, *(append(path, b"b", TEXT) for path in paths))
    finish(steps, store)
    store.run_checkpoint()
    again = open_store(disk)
    assert {content(again, path) for path in paths} == {b"ab"}


def test_checkpoint_captures_subscription_before_command_changes_it() -> None:
    disk = new_disk()
    store = open_store(disk)
    add_subscriptions(store)
    before = documents_of(store)
    steps = store.checkpoints.steps()
    advance_to(steps, store, Where.DISK)
    run(store, subscribe("v"), Unsubscribe("t"), append(A, b"2", JSON), Link("s", (A,)))
    finish(steps, store)
    kept = dict(SimulatedCatalog(disk).documents())
    assert kept == {name: document for name, document in before.items() if document is not None}
    expected = documents_of(store)
    store.run_checkpoint()
    kept = dict(SimulatedCatalog(disk).documents())
    assert kept == {name: document for name, document in expected.items() if document is not None}
    disk.lose_power()
    assert documents_of(open_store(disk)) == expected


def test_checkpoint_captures_subscriptions_deleted_between_its_steps() -> None:
    disk = new_disk()
    store = open_store(disk)
    ids = [f"s{number}" for number in range(450)]
    run(store, create(POOL, JSON), *(subscribe(id_) for id_ in ids))
    steps = store.checkpoints.steps()
    assert next(steps) is Where.LOOP  # the first slice is captured
    run(store, *(Unsubscribe(id_) for id_ in ids))
    finish(steps, store)
    assert len(dict(SimulatedCatalog(disk).documents())) == len(ids)
    disk.lose_power()
    store = open_store(disk)
    assert len(store.subscriptions) == 0
    store.run_checkpoint()
    assert dict(SimulatedCatalog(disk).documents()) == {}


def test_checkpoint_step_captures_limited_number_of_appends() -> None:
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


def test_stream_accepts_appends_while_checkpoint_captures_it_in_steps() -> None:
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
def test_checkpoint_captures_all_bytes_of_stream_deleted_during_capture(again: bool) -> None:
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


def test_checkpoint_step_captures_limited_size_of_documents() -> None:
    store = open_store(new_disk())
    run(store, *(subscribe(f"s{number}", pattern="x" * 400) for number in range(30)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capturing, "_DOCUMENT_BYTES", 4000)
        capture = store.ledger.begin_capture()
        steps = 1
        while capture.take_some():
            steps += 1
    assert 3 <= steps <= 4

"""Tests of the replay of the write-ahead log."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.limits import MARK_SPACING
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.state import Appended, StreamState
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.producers import StoredProducers
from durable_streams_server.storage.files.recovery import Recovery
from durable_streams_server.storage.files.replay import Replay
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.wal_reader import RecordRun
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW, SECOND, append, create, fork_of
from tests.storage.files.stores import content, new_disk, open_store, run

TEXT = "text/plain"
JSON = "application/json"


def store_with_every_record(disk: SimulatedDisk) -> FileStore:
    """Returns a store with every kind of record in its log."""
    store = open_store(disk, segment_size=4 << 20)
    run(store, create("/text", TEXT), create("/json", JSON, b"[1]"), create("/gone", TEXT, b"x"))
    later = NOW
    for number in range(60):
        later += SECOND
        run(store, append("/text", b"%d," % number, TEXT), now=later)
        run(store, append("/json", b"[%d]" % number, JSON), now=later)
        stamp = Stamp(b"producer", 0, number)
        run(store, append("/text", b"p", TEXT, stamp=stamp, seq=b"%03d" % number), now=later)
    large = b"[" + b",".join([b'"%s"' % (b"x" * 90)] * 1000) + b"]"
    assert len(large) > 2 * MARK_SPACING
    run(store, append("/json", large, JSON), append("/json", b"[2]", JSON), now=later)
    run(store, append("/gone", b"y", TEXT), Delete("/gone"), create("/gone", TEXT, b"z"))
    run(store, append("/gone", b"again", TEXT), append("/gone", closes=True))
    run(store, create("/fork", TEXT, fork=fork_of("/text")), append("/fork", b"own", TEXT))
    run(store, append("/text", b"last", TEXT), now=later)
    return store


def record(*changes: Appended) -> bytes:
    """Returns the payload of a record with some changes."""
    return msgspec.msgpack.encode(changes)


def replay_of(store: FileStore, aside: Sequence[int] = ()) -> Replay:
    """Returns a replay that applies records to a store's states."""
    wal, logs, ledger = store.wal, store.logs, store.ledger
    recovery = Recovery(new_disk(), wal, logs, ledger, store.timeline, store.subscriptions)
    return Replay(store.states, ledger.memory, store.timeline, recovery.apply, aside)


def snapshot_of(store: FileStore) -> dict[str, Any]:
    """Returns the states of a store's streams, their recent bytes, and the memory that the store counts for them."""
    found: dict[str, Any] = {}
    for path in sorted(store.paths()):
        state = store.states[path]
        recent = store.states.recent[state.incarnation]
        told = {
            name: getattr(state, name)
            for name in StreamState.__slots__
            if name not in ("__weakref__", "producers", "timeline", "ancestry", "grace")
        }
        pieces = list(recent.pieces(recent.begin, state.tail))
        kept = (recent.base, recent.begin, recent.flushed, recent.entries, pieces)
        assert isinstance(state.producers, StoredProducers)
        found[path] = told, state.producers.all(), kept, content(store, path)
    owners = {id(recent): incarnation for incarnation, recent in store.states.recent.items()}
    blocks = store.ledger.memory._blocks
    order = [owners[id(recent)] for block in blocks for recent in block if len(recent)]
    memory = store.ledger.memory.held, store.ledger.unflushed, order, list(store.ledger.dirty)
    return {**found, "": (memory, store.timeline.floor, store.states.tally.fresh)}


def test_replay_after_crash_restores_all_streams() -> None:
    disk = new_disk()
    before = snapshot_of(store_with_every_record(disk))
    disk.lose_power()
    assert snapshot_of(open_store(disk, segment_size=4 << 20)) == before


def test_fast_replay_restores_same_state_as_general_replay() -> None:
    disk = new_disk()
    store_with_every_record(disk)
    disk.lose_power()
    fast = snapshot_of(open_store(disk, segment_size=4 << 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replay, "_append", lambda *_: False)
        assert snapshot_of(open_store(disk, segment_size=4 << 20)) == fast


def test_checkpoint_during_replay_loses_nothing() -> None:
    disk = new_disk()
    store = store_with_every_record(disk)
    contents = {path: content(store, path) for path in store.paths()}
    disk.lose_power()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("durable_streams_server.storage.files.wal_reader._RUN", 7)
        store = open_store(disk, segment_size=4 << 20, max_unflushed=2000)
    assert store.meta.lsn > 0
    for _ in range(2):
        assert {path: content(store, path) for path in store.paths()} == contents
        disk.lose_power()
        store = open_store(disk, segment_size=4 << 20)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "/other"},  # no such stream
        {"path": "/b"},  # another stream
        {"incarnation": 7},
        {"start": 4},
        {"start": 0},
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_replay_raises_damaged_if_record_contradicts_its_stream(
    wrong: dict[str, Any], is_first: bool
) -> None:
    store = open_store(new_disk())
    run(store, create("/a", TEXT, b"xx"), create("/b", TEXT, b"xx"))
    incarnation = store.states["/a"].incarnation
    right = Appended("/a", incarnation, 2, b"y", False, NOW)
    bad = msgspec.structs.replace(right, **{"start": 2 if is_first else 3, **wrong})
    payloads = [record(bad)] if is_first else [record(right), record(bad)]
    with pytest.raises(Damaged, match="record 100 does not follow from the catalog"):
        replay_of(store).run(RecordRun(payloads, 100, 0, 0), {})


def test_replay_skips_records_of_streams_that_repair_quarantined() -> None:
    store = open_store(new_disk())
    run(store, create("/a", TEXT, b"xx"))
    state = store.states["/a"]
    aside = [state.incarnation]
    lost = Appended("/a", state.incarnation, 77, b"y", False, NOW)
    assert replay_of(store, aside).run(RecordRun([record(lost)], 1, 0, 0), {}) == 0
    assert state.tail == 2


def test_unreadable_record_raises_damaged() -> None:
    store = open_store(new_disk())
    with pytest.raises(Damaged, match="record 5 "):
        replay_of(store).run(RecordRun([b"\xc1"], 5, 0, 0), {})

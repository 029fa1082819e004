"""Tests of states in memory: loading, eviction, forks of forks, and damaged streams."""

import gc
import random

import msgspec
import pytest

from durable_streams_server.errors import Conflict, StreamDamaged, StreamError
from durable_streams_server.protocol.commands import Delete, Fork
from durable_streams_server.protocol.decisions import create as create_rules
from durable_streams_server.protocol.decisions.decide import decide
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.existing import require_visible
from durable_streams_server.protocol.offsets import Span
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.state import Created
from durable_streams_server.storage.files.catalog import Drop, Put
from durable_streams_server.storage.files.catalog.tables import STREAMS
from durable_streams_server.storage.files.log_layout import path_of
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.ordered import STEP
from durable_streams_server.streams import forks
from durable_streams_server.streams.reader import Reader
from durable_streams_server.testing.catalog import SimulatedCatalog, SimulatedTables
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW, append, create, fork_of
from tests.storage.files.stores import content, new_disk, open_store, run


def test_only_recently_used_streams_stay_in_memory() -> None:
    disk = new_disk()
    store = open_store(disk, max_loaded=10)
    for number in range(200):
        run(store, create(f"/{number}", body=b"%d" % number))
        if number % 5 == 0:
            store.run_checkpoint()
    assert len(store.states.newest) < 30
    assert len(store.states.recent) == len(store.states.newest)
    for number in random.Random(0).sample(range(200), 50):
        assert content(store, f"/{number}") == b"%d" % number
    assert sum(1 for _ in store.paths()) == 200


def test_ordered_paths_contain_each_visible_stream_once_at_every_stage_of_a_checkpoint() -> None:
    chance = random.Random(0)
    store = open_store(new_disk(), max_loaded=20)
    there: set[str] = set()
    for _ in range(30):
        for path in (f"/{chance.randrange(1000)}" for _ in range(30)):
            if path in there and chance.random() < 0.5:
                run(store, Delete(path))
                there.remove(path)
            else:
                run(store, create(path))
                there.add(path)
        if chance.random() < 0.5:
            store.run_checkpoint()
        listed = sorted(there)
        assert list(filter(None, store.ordered_paths("", "", 2000))) == listed
        after, prefix = f"/{chance.randrange(1000)}", chance.choice(("", "/1", "/37"))
        matching = [path for path in listed if path > after and path.startswith(prefix)]
        assert list(filter(None, store.ordered_paths(prefix, after, 7))) == matching[:7]


def test_ordered_paths_pause_while_they_pass_over_streams_that_are_gone() -> None:
    store = open_store(new_disk())
    count = 4 * STEP
    run(store, *(create(f"/{number:04}") for number in range(count)))
    store.run_checkpoint()
    run(store, *(Delete(f"/{number:04}") for number in range(count)), create("/a"))
    assert list(store.ordered_paths("", "", 10)) == [None] * 4 + ["/a"]


def test_ordered_paths_leave_out_a_stream_whose_entry_is_damaged() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a"), create("/b"), create("/c"))
    store.close()
    content = SimulatedTables(disk).content[STREAMS]
    content[b"/b"] = content[b"/b"][:-1] + b"?"
    again = open_store(disk)
    assert list(again.ordered_paths("", "", 10)) == ["/a", "/c"]


def test_dirty_streams_and_streams_with_live_readers_are_not_evicted() -> None:
    store = open_store(new_disk(), max_loaded=1)
    run(store, create("/a", body=b"x"), create("/b", body=b"y"))
    assert len(store.states.newest) == 2
    store.run_checkpoint()
    state = store.states["/a"]
    state.readers = 1
    for path in ("/b", "/a", "/b", "/c"):
        store.find(path)
    assert store.states.loaded("/a") is state


def test_evicted_state_that_is_still_referenced_is_reloaded_as_same_object() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a", body=b"x"), create("/b"), create("/c"))
    store.close()
    again = open_store(disk, max_loaded=1)
    held = again.states["/a"]
    for path in ("/b", "/c", "/b", "/c"):
        again.find(path)
    assert again.states.loaded("/a") is None
    assert again.states["/a"] is held
    run(again, append("/a", b"y"))
    assert (held.visible_tail, content(again, "/a")) == (2, b"xy")


def test_evicted_state_without_references_is_freed() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, *(create(f"/{number}", body=b"x") for number in range(50)))
    store.close()
    again = open_store(disk, max_loaded=1)
    for number in range(50):
        again.find(f"/{number}")
    gc.collect()
    assert len(again.states._evicted) == 0


def test_reloaded_stream_has_its_producers() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/a"), append("/a", b"x", stamp=Stamp(b"p", 1, 0)))
    store.run_checkpoint()
    run(store, append("/a", b"y", stamp=Stamp(b"p", 1, 1)))
    store.close()
    again = open_store(disk)
    repeated = run(again, append("/a", b"y", stamp=Stamp(b"p", 1, 1)))[0]
    assert not repeated.wrote  # type: ignore[union-attr]  # the outcome of an append
    assert content(again, "/a") == b"xy"


def test_fork_reads_bytes_of_ancestors_that_are_not_in_memory() -> None:
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


@pytest.mark.parametrize("depth", [2, 3])
def test_fork_inside_bytes_of_its_sources_source_can_be_read_from_each_append(depth: int) -> None:
    """The fork's last inherited bytes are those of `/0`, which is not the source of the fork, and is not in memory."""
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/0", body=b"abc"), append("/0", b"def"), append("/0", b"ghi"))
    for number in range(1, depth + 1):
        source = store.states[f"/{number - 1}"]
        position = 6 if number == depth else 9
        fork = fork_of(source.path, str(source.name(position)))
        command = create(f"/{number}", None, b"uvw", fork=fork)
        run(store, forks.resolve(store, Reader(store), command, NOW).result())
    store.close()
    del store, source  # links of forks are shared by all stores, so these would keep them alive
    gc.collect()
    again = open_store(disk, max_loaded=1, recent_limit=0)
    state = require_visible(again.states[f"/{depth}"], NOW)
    gc.collect()
    for position in (3, 6, 9):
        assert Reader(again).check(state, position).result() == position
    with pytest.raises(StreamError) as caught:
        Reader(again).check(state, 5).result()
    assert caught.value.code == "INVALID_OFFSET"
    assert content(again, f"/{depth}") == b"abcdefuvw"


def test_readers_see_the_old_stream_while_its_removal_is_in_flight() -> None:
    store = open_store(new_disk())
    run(store, create("/a", body=b"old"))
    old = store.find("/a").result()
    store.execute(Delete("/a"), NOW)
    store.execute(create("/a", body=b"new"), NOW)
    assert store.find("/a").result() is old
    assert store.states.get("/a") is not old
    store.commit_once()
    assert content(store, "/a") == b"new"


def test_damaged_stream_is_refused_and_does_not_affect_others() -> None:
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
    with pytest.raises(Conflict):  # a create must not replace the damaged stream
        again.execute(create("/a", "text/plain"), NOW).result()
    assert content(again, "/b") == b"def"
    run(again, Delete("/a"), create("/a", body=b"new"))
    again.run_checkpoint()
    assert content(open_store(disk), "/a") == b"new"


# -- forks of forks ----------------------------------------------------------

DEEP = 1500  # more forks than the recursion limit, and more than the server allows
NAMED = range(0, DEEP + 2, 7)


def deep_store(disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """Returns a store with a chain of `DEEP` forks, as an earlier version allowed. Each fork has one byte of its own."""
    store = open_store(disk)
    with monkeypatch.context() as patch:
        patch.setattr(create_rules, "MAX_FORK_DEPTH", DEEP)
        run(store, create("/0", body=b"\0"))
        for depth in range(1, DEEP + 1):
            body = bytes([depth % 256])
            run(store, create(f"/{depth}", None, body, fork=fork_of(f"/{depth - 1}")))
    return store


def write_whole_lineages(disk: SimulatedDisk) -> None:
    """Rewrites the catalog entry of each fork to contain the spans of all its ancestors, as earlier versions stored it."""
    catalog = SimulatedCatalog(disk)
    entries = dict(catalog.paths())
    changes: list[Put | Drop] = []
    spans: tuple[Span, ...] = ()
    for depth in range(1, DEEP + 1):
        entry = entries[f"/{depth}"]
        spans = (*spans, *entry.lineage)
        changes.append(Put(f"/{depth}", msgspec.structs.replace(entry, lineage=spans), {}))
    catalog.commit(catalog.meta(), changes, [])


def assert_chain(store: FileStore, path: str, names: list[str]) -> None:
    """Reads a deep fork in full and in pages, and compares the offsets of some positions."""
    state = store.find(path).result()
    assert state is not None
    expected = bytes(at % 256 for at in range(state.visible_tail))
    assert content(store, path) == expected
    reader = Reader(store)
    whole = reader.page(state, 0, 1 << 20).result()
    assert (whole.data, whole.at_tail) == (expected, True)
    assert reader.page(state, 700, 100).result().data == expected[700:800]
    assert [state.name(at) for at in NAMED if at <= state.visible_tail] == names


@pytest.mark.parametrize("kept", ["checkpoint", "log", "earlier version"])
def test_deep_forks_are_read_in_full_after_a_restart(
    monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    disk = new_disk()
    store = deep_store(disk, monkeypatch)
    deepest = store.states[f"/{DEEP}"]
    names = [deepest.name(at) for at in NAMED]
    assert_chain(store, f"/{DEEP}", names)
    if kept != "log":
        store.close()
    if kept == "earlier version":
        write_whole_lineages(disk)
    again = open_store(disk, max_loaded=1, recent_limit=0)
    assert_chain(again, f"/{DEEP}", names)
    assert_chain(again, "/1000", [name for at, name in zip(NAMED, names, strict=True) if at < 1002])
    state = again.states[f"/{DEEP}"]
    assert state.ancestry is deepest.ancestry
    for position in (0, 750, DEEP):
        owner, _, end = state.owned(position)
        assert again.marks(owner, position).result() == (position, end, end)
    with pytest.raises(Conflict) as caught:
        run(again, create("/more", None, fork=fork_of(f"/{DEEP}")))
    assert caught.value.code == "FORK_TOO_DEEP"
    for depth in range(DEEP):
        run(again, Delete(f"/{depth}"))
    assert_chain(again, f"/{DEEP}", names)
    run(again, Delete(f"/{DEEP}"))
    again.close()
    assert list(open_store(disk).states.paths()) == []


def test_deep_forks_store_only_one_ancestor_each(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = new_disk()
    deep_store(disk, monkeypatch).close()
    catalog = SimulatedCatalog(disk)
    assert {len(entry.lineage) for path, entry in catalog.paths() if path != "/0"} == {1}
    again = open_store(disk)
    source, fork = again.states[f"/{DEEP - 1}"], again.states[f"/{DEEP}"]
    assert fork.ancestry.parent is source.ancestry


def test_fork_records_of_earlier_version_are_replayed() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/0", body=b"abc"), create("/1", None, b"d", fork=fork_of("/0")))
    number = store.states["/1"].incarnation
    decision = decide(
        store.states,
        create("/2", None, b"e", fork=fork_of("/1")),
        NOW,
        number + 1,
        Rules(),
        store.subscriptions,
    )
    begun, first = decision.changes
    assert isinstance(begun, Created)
    whole = (Span(number - 1, 3), Span(number, 4))
    store.commits.record((msgspec.structs.replace(begun, lineage=whole), first), None)
    store.commit_once()
    state = open_store(disk).states["/2"]
    assert state.lineage == whole[-1:]
    assert state.ancestry.spans == whole


def test_fork_has_same_bytes_and_offsets_after_repair_quarantines_its_source() -> None:
    disk = new_disk()
    store = open_store(disk)
    run(store, create("/0", body=b"abc"), create("/1", None, b"de", fork=fork_of("/0")))
    run(store, create("/2", None, b"fg", fork=fork_of("/1", at=None)))
    first, second = store.states["/0"], store.states["/2"]
    names = [second.name(at) for at in range(5, 8)]
    store.close()
    catalog = SimulatedCatalog(disk)
    middle = catalog.find("/1")
    assert middle is not None
    aside = msgspec.structs.replace(catalog.meta(), aside=(middle.incarnation,))
    catalog.commit(aside, [Drop("/1", middle.incarnation)], [])
    again = open_store(disk)
    state = again.states["/2"]
    assert [state.name(at) for at in range(5, 8)] == names
    assert again.read_bytes(state.incarnation, 5, 7).result() == b"fg"
    with pytest.raises(StreamError):
        again.read_bytes(*next(iter(state.extents(0, 5)))).result()
    run(again, append("/2", b"h"), Delete("/2"))
    again.close()
    assert open_store(disk).states["/0"].children == first.children


def test_paths_yields_each_stream_once_despite_checkpoints_and_changes() -> None:
    store = open_store(new_disk())
    names = [f"/{number:04d}" for number in range(600)]
    run(store, *(create(name) for name in names[:300]))
    store.run_checkpoint()
    run(store, *(create(name) for name in names[300:]), Delete(names[0]))
    rest = store.paths()
    found = [next(rest) for _ in range(50)]
    run(store, Delete(names[1]), Delete(names[599]), create("/new"))
    store.run_checkpoint()
    found += rest
    assert len(found) == len(set(found))
    assert set(names[2:599]) <= set(found)
    assert not {names[0], names[1]} & set(found)
    store.run_checkpoint()
    assert store.states._unwritten == {}


def test_deleted_streams_and_forks_leave_nothing_in_memory() -> None:
    store = open_store(new_disk(), max_loaded=10)
    for number in range(300):
        a, b, c = (f"/{name}{number}" for name in "abc")
        run(store, create(a, body=b"0123456789"), create(b, None, fork=fork_of(a)))
        run(store, append(b, b"more"), create(c, None, fork=fork_of(b, None, None)))
        run(store, *(append(path, b"x", stamp=Stamp(b"p", 0, 0)) for path in (a, b, c)))
        if number % 20 == 0:
            store.run_checkpoint()
        if number % 2:
            run(store, Delete(a), Delete(b), Delete(c))
    store.run_checkpoint()
    assert content(store, "/c0") == b"0123456789morex"
    for number in range(0, 300, 2):
        store.find(f"/a{number}")
    gc.collect()
    states = store.states
    assert len(states.newest) <= 11
    for kept in (states._sources, states._links, states._ancestries, states._evicted):
        assert len(kept) <= 22, kept
    assert [len(states._gone), len(states._overlays), len(states._unwritten)] == [0, 0, 0]
    assert len(states.recent) == len(states.newest)

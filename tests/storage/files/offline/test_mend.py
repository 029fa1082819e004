"""What a repair makes of each stream: which are in doubt, what is withheld, and where cursors go."""

import msgspec
import pytest

from durable_streams_server.protocol.offsets import Offset
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    SoftDeleted,
    Touched,
)
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    Subscribed,
    WakeChanged,
)
from durable_streams_server.storage.files.catalog import Drop, Put
from durable_streams_server.storage.files.offline.mend import Cut, Mending, Outcome
from durable_streams_server.storage.files.offline.salvage import Gap
from durable_streams_server.storage.files.wal_format import OVERHEAD
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.protocol.subscriptions.world import ROOT, subscribe
from tests.requests import NOW, create, fork_of
from tests.storage.files.stores import new_disk, open_store, run

TEXT = "text/plain"
LATER = NOW + 10**9
A, B, CLOSED, FORK = (f"{ROOT}/{name}" for name in ("a", "b", "closed", "fork"))


@pytest.fixture
def disk() -> SimulatedDisk:
    """Streams with eight bytes each in the catalog, a fork of one, and a subscription that /a has news for."""
    disk = new_disk()
    store = open_store(disk)
    store.configure(None, ROOT)
    run(store, subscribe("s", streams=["a"]))
    run(store, create(A, TEXT, b"a" * 8), create(B, TEXT, b"b" * 8))
    run(store, create(CLOSED, TEXT, b"c" * 8, closes=True), create(FORK, None, fork=fork_of(A)))
    store.run_checkpoint()
    return disk


def mending(disk: SimulatedDisk, cuts: dict[str, Cut] | None = None, **options: bool) -> Mending:
    return Mending(SimulatedCatalog(disk), cuts or {}, **options)


def incarnation(disk: SimulatedDisk, path: str) -> int:
    entry = SimulatedCatalog(disk).find(path)
    assert entry is not None
    return entry.incarnation


def more(disk: SimulatedDisk, path: str, start: int = 8, data: bytes = b"more") -> Appended:
    return Appended(path, incarnation(disk, path), start, data, False, LATER)


def outcome(mended: Mending) -> Outcome:
    return mended.outcome(99, LATER)


def renamed(disk: SimulatedDisk, done: Outcome) -> set[str]:
    olds = {move.old for move in done.moves}
    return {path for path in (A, B, CLOSED, FORK) if incarnation(disk, path) in olds}


def test_without_a_gap_nothing_is_renamed(disk: SimulatedDisk) -> None:
    mended = mending(disk)
    assert mended.apply(more(disk, A)) is None
    done = outcome(mended)
    assert (done.moves, done.words, done.forgotten) == ([], [], [])
    assert [flush.extent.tail for flush in done.flushes] == [8]
    assert (mended.streams, mended.bytes) == (0, 4)


def test_steady_time_of_the_records_is_reached(disk: SimulatedDisk) -> None:
    mended = mending(disk)
    assert mended.apply(more(disk, A)) is None
    assert outcome(mended).meta.steady == LATER


def test_gap_puts_open_streams_and_their_forks_in_doubt(disk: SimulatedDisk) -> None:
    mended = mending(disk)
    mended.gap(Gap(4, None, None))
    assert renamed(disk, outcome(mended)) == {A, B, FORK}


def test_record_at_the_known_tail_proves_a_stream_whole_for_the_gaps_before_it(
    disk: SimulatedDisk,
) -> None:
    mended = mending(disk)
    mended.gap(Gap(4, 6, None))
    assert mended.apply(more(disk, A)) is None
    assert mended.apply(more(disk, FORK)) is None
    assert renamed(disk, outcome(mended)) == {B}
    mended.gap(Gap(8, 10, None))
    assert mended.apply(more(disk, A, 12)) is None
    assert renamed(disk, outcome(mended)) == {B, FORK}


def test_record_past_the_known_tail_breaks_its_stream_and_all_later_ones_are_withheld(
    disk: SimulatedDisk,
) -> None:
    mended = mending(disk)
    mended.gap(Gap(4, 6, None))
    why = mended.apply(more(disk, A, 12))
    assert why == "the stream's bytes from 8 to 12 are lost"
    assert mended.apply(more(disk, A, 16)) == why
    done = outcome(mended)
    assert any(line.startswith(f"{A}: {why}") for line in done.words)


@pytest.mark.parametrize(("spare", "others"), [(0, set()), (23, set()), (24, {B}), (1000, {B})])
def test_gap_without_room_for_another_append_concerns_the_broken_stream_alone(
    disk: SimulatedDisk, spare: int, others: set[str]
) -> None:
    lost = msgspec.msgpack.encode((more(disk, A, 8, b"lost"),))
    mended = mending(disk)
    mended.gap(Gap(4, 6, OVERHEAD + len(lost) + spare))
    assert mended.apply(more(disk, A, 12)) is not None
    assert renamed(disk, outcome(mended)) == {A, FORK} | others


def test_later_stream_at_a_path_proves_that_the_earlier_one_was_deleted(
    disk: SimulatedDisk,
) -> None:
    mended = mending(disk)
    mended.gap(Gap(4, 6, None))
    later = Appended(B, LATER, 3, b"x", False, LATER)
    assert mended.apply(later) == "nothing is known of the stream's beginning"
    done = outcome(mended)
    assert Drop(B, incarnation(disk, B)) in done.changes
    assert done.meta.last_incarnation >= LATER
    state = SimulatedCatalog(disk).find(CLOSED)
    assert state is not None
    begun = Created(CLOSED, LATER + 1, state.media, state.lifetime, LATER)
    assert mended.apply(begun) is None
    puts = [change for change in outcome(mended).changes if isinstance(change, Put)]
    assert {change.entry.incarnation for change in puts if change.path == CLOSED} == {LATER + 1}


def test_removal_of_a_stream_whose_forks_are_known_is_withheld(disk: SimulatedDisk) -> None:
    mended = mending(disk)
    mended.gap(Gap(4, 6, None))
    number = incarnation(disk, A)
    assert mended.apply(Removed(A, number)) == "the ends of its forks are missing"
    assert mended.apply(SoftDeleted(A, number)) is None
    assert mended.apply(Removed(FORK, incarnation(disk, FORK))) is None
    assert mended.apply(Removed(A, number)) is None
    assert Drop(A, number) in outcome(mended).changes


def test_new_incarnations_keep_sources_before_their_forks(disk: SimulatedDisk) -> None:
    mended = mending(disk)
    mended.gap(Gap(4, None, None))
    done = outcome(mended)
    new = {change.path: change.entry for change in done.changes if isinstance(change, Put)}
    origin = new[FORK].origin
    assert origin is not None
    assert origin.incarnation == new[A].incarnation < new[FORK].incarnation
    assert {span.incarnation for span in new[FORK].lineage} == {new[A].incarnation}
    assert min(entry.incarnation for entry in new.values()) >= LATER
    assert done.meta.last_incarnation == max(entry.incarnation for entry in new.values())


def test_damaged_log_shortens_its_stream_and_its_forks_and_forgets_their_writers(
    disk: SimulatedDisk,
) -> None:
    mended = mending(disk, {A: Cut(5, 0), CLOSED: Cut(2, 0)})
    done = outcome(mended)
    new = {change.path: change for change in done.changes if isinstance(change, Put)}
    assert (new[A].entry.tail, new[FORK].entry.tail) == (5, 5)
    assert new[FORK].entry.extent == (5, 5, 0)
    assert (new[CLOSED].entry.tail, new[CLOSED].entry.closed) == (2, False)
    assert new[A].producers == {}
    assert B not in new


def test_known_producers_move_to_the_new_incarnation(disk: SimulatedDisk) -> None:
    mended = mending(disk)
    stamped = msgspec.structs.replace(more(disk, A), stamp=Stamp(b"p", 1, 7))
    assert mended.apply(stamped) is None
    mended.gap(Gap(4, None, None))
    put = next(c for c in outcome(mended).changes if isinstance(c, Put) and c.path == A)
    assert put.producers == {b"p": (1, 7)}


@pytest.mark.parametrize(
    ("acknowledged", "kept"), [(3, 3), (7, 7), (8, None), (12, None), (500, None)]
)
def test_cursors_follow_a_renamed_stream_up_to_its_tail(
    disk: SimulatedDisk, acknowledged: int, kept: int | None
) -> None:
    mended = mending(disk)
    old = incarnation(disk, A)
    assert mended.apply(CursorsMoved("s", ((A, Offset(old, acknowledged)),))) is None
    mended.gap(Gap(4, None, None))
    done = outcome(mended)
    new = next(move.new for move in done.moves if move.old == old)
    subscription = mended.subscriptions.get("s")
    assert subscription is not None
    expected = {} if kept is None else {A: Offset(new, kept)}
    assert subscription.due == expected
    assert "subscription/s" in done.documents


def test_changes_of_an_unknown_subscription_are_withheld(disk: SimulatedDisk) -> None:
    mended = mending(disk)
    why = "nothing is known of the subscription's beginning"
    assert mended.apply(WakeChanged("unknown", 1, None)) == why


def test_salvaged_catalog_takes_only_what_is_newer_than_its_entries(disk: SimulatedDisk) -> None:
    catalog = SimulatedCatalog(disk)
    entry = catalog.find(A)
    assert entry is not None
    mended = mending(disk, is_salvaged=True)
    subscription = mended.subscriptions.get("s")
    assert subscription is not None
    again: list[Change] = [
        Created(A, entry.incarnation, entry.media, entry.lifetime, NOW),
        Appended(A, entry.incarnation, 0, b"a" * 8, False, NOW),
        Appended(A, entry.incarnation - 1, 90, b"of an earlier stream", False, NOW),
        Removed(f"{ROOT}/gone", entry.incarnation - 1),
        Touched(f"{ROOT}/gone", entry.incarnation - 1, NOW),
        Subscribed("s", subscription.incarnation, subscription.config, NOW),
        WakeChanged("s", subscription.generation - 1, None),
    ]
    assert [mended.apply(change) for change in again] == [None] * len(again)
    assert mended.bytes == 0
    assert mended.apply(more(disk, A)) is None
    assert renamed(disk, outcome(mended)) == {A, B, FORK}

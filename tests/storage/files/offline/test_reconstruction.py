"""Tests of the states that a repair reconstructs, and of the changes that it withholds."""

from durable_streams_server.protocol.state import (
    Appended,
    Change,
    Created,
    Removed,
    SoftDeleted,
    Touched,
)
from durable_streams_server.protocol.subscriptions.changes import Subscribed, WakeChanged
from durable_streams_server.storage.files.catalog import Drop, Put
from durable_streams_server.storage.files.offline.intact_prefix import IntactPrefix
from durable_streams_server.storage.files.offline.wal_reader import Gap
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.protocol.subscriptions.world import ROOT
from tests.requests import NOW
from tests.storage.files.offline.reconstructions import (
    CLOSED,
    FORK,
    LATER,
    A,
    B,
    append_to,
    incarnation,
    outcome,
    reconstruction,
    renamed,
)


def test_append_at_known_tail_is_applied_and_counted(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    assert found.apply(append_to(disk, A)) is None
    assert found.states[A].tail == 12
    assert (found.streams, found.bytes) == (0, 4)


def test_repair_withholds_append_past_known_tail_and_all_later_appends(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    found.add_gap(Gap(4, 6, None))
    why = found.apply(append_to(disk, A, 12))
    assert why == "the stream's bytes from 8 to 12 are lost"
    assert found.apply(append_to(disk, A, 16)) == why
    assert any(line.startswith(f"{A}: {why}") for line in outcome(found).words)


def test_repair_withholds_append_before_known_tail_or_to_closed_stream(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    assert found.apply(append_to(disk, A, 4)) == "the stream goes on otherwise"
    assert found.apply(append_to(disk, CLOSED)) == "the stream goes on otherwise"


def test_repair_withholds_append_to_damaged_log(disk: SimulatedDisk) -> None:
    found = reconstruction(disk, {A: IntactPrefix(5, 0)})
    assert found.apply(append_to(disk, A)) == "its log is damaged past position 5"
    assert found.states[A].tail == 5


def test_record_of_recreated_stream_makes_repair_drop_old_stream(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    found.add_gap(Gap(4, 6, None))
    later = Appended(B, LATER, 3, b"x", False, LATER)
    assert found.apply(later) == "nothing is known of the stream's beginning"
    done = outcome(found)
    assert Drop(B, incarnation(disk, B)) in done.changes
    assert done.meta.last_incarnation >= LATER
    state = SimulatedCatalog(disk).find(CLOSED)
    assert state is not None
    begun = Created(CLOSED, LATER + 1, state.media, state.lifetime, LATER)
    assert found.apply(begun) is None
    puts = [change for change in outcome(found).changes if isinstance(change, Put)]
    assert {change.entry.incarnation for change in puts if change.path == CLOSED} == {LATER + 1}


def test_create_replaces_existing_stream_only_after_gap_in_records(
    disk: SimulatedDisk,
) -> None:
    found = reconstruction(disk)
    entry = SimulatedCatalog(disk).find(B)
    assert entry is not None
    begun = Created(B, LATER, entry.media, entry.lifetime, LATER)
    assert found.apply(begun) == "another stream is at its path"
    found.add_gap(Gap(4, 6, None))
    assert found.apply(begun) is None
    assert found.streams == 1
    assert found.incarnations == {LATER}


def test_repair_withholds_removal_of_stream_that_has_forks(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    found.add_gap(Gap(4, 6, None))
    number = incarnation(disk, A)
    assert found.apply(Removed(A, number)) == "the ends of its forks are missing"
    assert found.apply(SoftDeleted(A, number)) is None
    assert found.apply(Removed(FORK, incarnation(disk, FORK))) is None
    assert found.apply(Removed(A, number)) is None
    assert Drop(A, number) in outcome(found).changes


def test_repair_skips_changes_already_in_salvaged_catalog(disk: SimulatedDisk) -> None:
    entry = SimulatedCatalog(disk).find(A)
    assert entry is not None
    found = reconstruction(disk, is_salvaged=True)
    subscription = found.subscriptions.subscriptions.get("s")
    assert subscription is not None
    included: list[Change] = [
        Created(A, entry.incarnation, entry.media, entry.lifetime, NOW),
        Appended(A, entry.incarnation, 0, b"a" * 8, False, NOW),
        Appended(A, entry.incarnation - 1, 90, b"of an earlier stream", False, NOW),
        Removed(f"{ROOT}/gone", entry.incarnation - 1),
        Touched(f"{ROOT}/gone", entry.incarnation - 1, NOW),
        Subscribed("s", subscription.incarnation, subscription.config, NOW),
        WakeChanged("s", subscription.generation - 1, None),
    ]
    assert [found.apply(change) for change in included] == [None] * len(included)
    assert found.bytes == 0
    assert found.apply(append_to(disk, A)) is None
    assert renamed(disk, found) == {A, B, FORK}

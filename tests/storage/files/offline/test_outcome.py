"""Tests of the catalog entries, log bytes and log moves that a repair writes for reconstructed states."""

import msgspec

from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.storage.files.catalog import Put
from durable_streams_server.storage.files.offline.intact_prefix import IntactPrefix
from durable_streams_server.storage.files.offline.wal_reader import Gap
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.offline.reconstructions import (
    CLOSED,
    FORK,
    LATER,
    A,
    B,
    append_to,
    outcome,
    reconstruction,
)


def test_repair_moves_no_log_if_no_record_is_missing(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    assert found.apply(append_to(disk, A)) is None
    done = outcome(found)
    assert (done.moves, done.words, done.kept_logs) == ([], [], [])
    assert [flush.extent.tail for flush in done.flushes] == [8]


def test_repaired_metadata_has_steady_time_of_last_record(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    assert found.apply(append_to(disk, A)) is None
    meta = outcome(found).meta
    assert (meta.lsn, meta.steady) == (99, LATER)


def test_repaired_source_gets_older_incarnation_than_its_fork(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    found.add_gap(Gap(4, None, None))
    done = outcome(found)
    new = {change.path: change.entry for change in done.changes if isinstance(change, Put)}
    origin = new[FORK].origin
    assert origin is not None
    assert origin.incarnation == new[A].incarnation < new[FORK].incarnation
    assert {span.incarnation for span in new[FORK].lineage} == {new[A].incarnation}
    assert min(entry.incarnation for entry in new.values()) >= LATER
    assert done.meta.last_incarnation == max(entry.incarnation for entry in new.values())


def test_repair_shortens_damaged_stream_and_forks_and_drops_producers(
    disk: SimulatedDisk,
) -> None:
    found = reconstruction(disk, {A: IntactPrefix(5, 0), CLOSED: IntactPrefix(2, 0)})
    done = outcome(found)
    new = {change.path: change for change in done.changes if isinstance(change, Put)}
    assert (new[A].entry.tail, new[FORK].entry.tail) == (5, 5)
    assert new[FORK].entry.extent == (5, 5, 0)
    assert (new[CLOSED].entry.tail, new[CLOSED].entry.closed) == (2, False)
    assert new[A].producers == {}
    assert B not in new


def test_stream_with_new_incarnation_retains_its_producers(disk: SimulatedDisk) -> None:
    found = reconstruction(disk)
    stamped = msgspec.structs.replace(append_to(disk, A), stamp=Stamp(b"p", 1, 7))
    assert found.apply(stamped) is None
    found.add_gap(Gap(4, None, None))
    put = next(c for c in outcome(found).changes if isinstance(c, Put) and c.path == A)
    assert put.producers == {b"p": (1, 7)}

"""Tests of streams and forks that are shortened to the intact part of a log."""

import msgspec

from durable_streams_server.protocol.offsets import Span
from durable_streams_server.protocol.state import Created, Origin
from durable_streams_server.storage.files.offline.intact_prefix import (
    IntactPrefix,
    forked_earlier,
    shortened,
    with_shortened_forks,
)
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.storage.files.catalog.values import entry_of_empty_stream
from tests.storage.files.offline.reconstructions import FORK, A, B


def test_shortened_stream_is_open_and_has_no_stream_seq() -> None:
    entry = msgspec.structs.replace(
        entry_of_empty_stream(5), tail=9, index_entries=3, closed=True, last_seq=b"s"
    )
    found = shortened(entry, IntactPrefix(4, 1))
    assert (found.tail, found.index_entries) == (4, 1)
    assert (found.closed, found.last_seq) == (False, None)


def test_closed_stream_that_lost_no_bytes_stays_closed() -> None:
    entry = msgspec.structs.replace(entry_of_empty_stream(5), tail=9, closed=True)
    assert shortened(entry, IntactPrefix(9, 2)).closed


def test_fork_point_past_intact_prefix_moves_to_its_end() -> None:
    origin = Origin("/source", 3, "anchor", 0, 7)
    entry = msgspec.structs.replace(
        entry_of_empty_stream(5), origin=origin, lineage=(Span(3, 7),), tail=9
    )
    found = shortened(entry, IntactPrefix(4, 0))
    assert found.origin == Origin("/source", 3, "anchor", 0, 4)
    assert found.lineage == (Span(3, 4),)


def test_fork_point_in_record_moves_to_tail_of_shortened_source() -> None:
    entry = entry_of_empty_stream(5)
    origin = Origin("/source", 3, "anchor", 0, 7)
    lineage = (Span(2, 1), Span(3, 7))
    change = Created("/fork", 5, entry.media, entry.lifetime, 0, origin, lineage)
    found = forked_earlier(change, origin, 4)
    assert found.origin == Origin("/source", 3, "anchor", 0, 4)
    assert found.lineage == (Span(2, 1), Span(3, 4))


def test_fork_of_shortened_source_is_shortened_to_tail_of_source(disk: SimulatedDisk) -> None:
    catalog = SimulatedCatalog(disk)
    short, enough = IntactPrefix(5, 1), IntactPrefix(8, 1)
    assert with_shortened_forks(catalog, {A: short}) == {A: short, FORK: IntactPrefix(5, 0)}
    assert with_shortened_forks(catalog, {A: enough}) == {A: enough}
    assert with_shortened_forks(catalog, {B: short}) == {B: short}

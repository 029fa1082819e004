"""Tests of the answers that a catalog gives, in LMDB and in the simulator's memory."""

import errno
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.protocol.state import Origin, StreamState
from durable_streams_server.storage.files.catalog import (
    Catalog,
    Drop,
    Entry,
    LmdbCatalog,
    Meta,
    Put,
    entry_of,
)
from durable_streams_server.storage.files.catalog.entries import UNCOUNTED
from durable_streams_server.storage.files.catalog.table_catalog import TableCatalog
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
from tests.crash.catalog_sums import forget_sums, write_sums
from tests.requests import NOW, SECOND

META = Meta(7, 9, 1, 0)


def entry(incarnation: int, ttl: int | None = None, soft_deleted: bool = False) -> Entry:
    lifetime = FOREVER if ttl is None else Lifetime(ttl=ttl)
    state = StreamState("/x", incarnation, parse_media_type("text/plain"), lifetime, NOW)
    state.soft_deleted = soft_deleted
    return entry_of(state, 0, 1)


@pytest.fixture(params=["lmdb", "simulated"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    made = (
        LmdbCatalog(str(tmp_path))
        if request.param == "lmdb"
        else SimulatedCatalog(SimulatedDisk(random.Random(0)))
    )
    yield made
    made.close()


def test_new_catalog_is_empty(catalog: Catalog) -> None:
    assert catalog.meta() == Meta(stored=0)
    assert catalog.find("/a") is None
    assert list(catalog.paths()) == []
    assert catalog.garbage() == []
    assert catalog.next_deadline((0, 0)) is None


def test_committed_streams_and_producers_are_found(catalog: Catalog) -> None:
    producers = {b"p": ProducerState(1, 2), b"": ProducerState(0, 0)}
    catalog.commit(META, [Put("/a", entry(5), producers), Put("/é", entry(6), {})], [])
    catalog.commit(META, [Put("/a", entry(5), {b"q": ProducerState(3, 4)})], [])
    assert catalog.find("/a") == entry(5)
    assert catalog.producers(5) == {**producers, b"q": ProducerState(3, 4)}
    assert catalog.producers(6) == {}
    assert [path for path, _ in catalog.paths()] == ["/a", "/é"]
    assert catalog.meta().lsn == 7


def sized(incarnation: int, size: int, base: int = 0) -> Entry:
    """Returns the entry of a stream with some bytes of its own, after those that it inherits."""
    origin = Origin("/source", 1, "-1", 0, base) if base else None
    return msgspec.structs.replace(entry(incarnation), tail=base + size, origin=origin)


def sums_of(catalog: Catalog) -> tuple[int, int]:
    """Returns the numbers of streams and bytes in the metadata."""
    meta = catalog.meta()
    assert catalog.stored_bytes() == meta.stored
    return meta.streams, meta.stored


def test_each_commit_updates_the_numbers_of_streams_and_bytes(catalog: Catalog) -> None:
    assert sums_of(catalog) == (0, 0)
    catalog.commit(META, [Put("/a", sized(5, 10), {}), Put("/fork", sized(6, 3, base=8), {})], [])
    assert sums_of(catalog) == (2, 13)
    catalog.commit(META, [Put("/a", sized(5, 40), {}), Put("/b", sized(7, 0), {})], [])
    assert sums_of(catalog) == (3, 43)
    catalog.commit(META, [Drop("/a", 5), Drop("/unknown", 9), Put("/a", sized(8, 1), {})], [])
    assert sums_of(catalog) == (3, 4)
    catalog.commit(META, [Drop("/a", 5), Put("/fork", sized(6, 2, base=8), {})], [])
    assert sums_of(catalog) == (3, 3)
    catalog.commit(META, [Drop("/a", 8), Drop("/fork", 6), Drop("/b", 7)], [])
    assert sums_of(catalog) == (0, 0)


def test_failed_commit_leaves_the_numbers_of_streams_and_bytes() -> None:
    disk = SimulatedDisk(random.Random(0))
    catalog = SimulatedCatalog(disk)
    catalog.commit(META, [Put("/a", sized(5, 10), {})], [])

    def fail(call: str) -> None:
        if call == "catalog begin":
            raise OSError(errno.ENOSPC, "the disk is full")

    disk.before, before = fail, disk.before
    with pytest.raises(OSError, match="full"):
        catalog.commit(META, [Put("/b", sized(6, 10), {})], [])
    disk.before = before
    assert sums_of(catalog) == (1, 10)
    catalog.commit(META, [Put("/c", sized(7, 5), {})], [])
    assert sums_of(catalog) == (2, 15)


def test_bytes_in_catalog_of_an_older_version_are_counted_at_its_first_commit() -> None:
    disk = SimulatedDisk(random.Random(0))
    older = SimulatedCatalog(disk)
    older.commit(META, [Put("/a", sized(5, 10), {}), Put("/b", sized(6, 3), {})], [])
    forget_sums(older)
    catalog = SimulatedCatalog(disk)
    assert (catalog.meta().streams, catalog.meta().stored) == (2, UNCOUNTED)
    assert catalog.stored_bytes() == 13
    catalog.commit(META, [Drop("/a", 5), Put("/c", sized(7, 4), {})], [])
    assert sums_of(SimulatedCatalog(disk)) == (2, 7)


def test_count_again_corrects_the_numbers_of_streams_and_bytes(catalog: Catalog) -> None:
    catalog.commit(META, [Put("/a", sized(5, 10), {}), Put("/b", sized(6, 3), {})], [])
    assert isinstance(catalog, TableCatalog)
    write_sums(catalog, 7, 777)
    assert catalog.meta().streams == 7
    catalog.count_again()
    assert sums_of(catalog) == (2, 13)
    catalog.commit(META, [Drop("/a", 5)], [])
    assert sums_of(catalog) == (1, 3)


def test_dropped_stream_is_listed_as_garbage_until_its_log_is_removed(catalog: Catalog) -> None:
    catalog.commit(META, [Put("/a", entry(5), {b"p": ProducerState(0, 0)})], [])
    catalog.commit(META, [Drop("/a", 5), Put("/a", entry(8), {})], [])
    found = catalog.find("/a")
    assert found is not None
    assert found.incarnation == 8
    assert catalog.producers(5) == {}
    assert catalog.garbage() == [5]
    catalog.commit(META, [Drop("/a", 5)], [5])
    assert catalog.find("/a") == entry(8)


def test_deadlines_change_with_their_streams(catalog: Catalog) -> None:
    catalog.commit(META, [Put("/a", entry(5, 10), {}), Put("/b", entry(6, 20), {})], [])
    first, second = NOW + 10 * SECOND, NOW + 20 * SECOND
    assert catalog.deadlines((0, 0), second, 9) == [(first, 5, "/a"), (second, 6, "/b")]
    assert catalog.deadlines((0, 0), second, 1) == [(first, 5, "/a")]
    assert catalog.deadlines((first, 5), second - 1, 9) == []
    assert catalog.next_deadline((first, 5)) == second
    catalog.commit(META, [Put("/a", entry(5, 10, soft_deleted=True), {}), Drop("/b", 6)], [])
    assert catalog.next_deadline((0, 0)) is None

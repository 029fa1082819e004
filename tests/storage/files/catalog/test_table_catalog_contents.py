"""Tests of the answers that a catalog gives, in LMDB and in the simulator's memory."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.files.catalog import (
    Catalog,
    Drop,
    Entry,
    LmdbCatalog,
    Meta,
    Put,
    entry_of,
)
from durable_streams_server.testing.catalog import SimulatedCatalog
from durable_streams_server.testing.disk import SimulatedDisk
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
    assert catalog.meta() == Meta()
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

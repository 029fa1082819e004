"""The catalog, in LMDB and in the simulator's model: the same answers from both, and damage found in the real one."""

import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.media import parse_media_type
from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog import (
    Catalog,
    Drop,
    Entry,
    LmdbCatalog,
    Meta,
    Put,
    entry_of,
    state_of,
)
from durable_streams_server.storage.files.catalog.tables import DEADLINES
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


def test_a_new_catalog_is_empty(catalog: Catalog) -> None:
    assert catalog.meta() == Meta()
    assert catalog.find("/a") is None
    assert list(catalog.paths()) == []
    assert catalog.garbage() == []
    assert catalog.next_deadline((0, 0)) is None


def test_streams_and_producers_are_put_and_found(catalog: Catalog) -> None:
    producers = {b"p": ProducerState(1, 2), b"": ProducerState(0, 0)}
    catalog.commit(META, [Put("/a", entry(5), producers), Put("/é", entry(6), {})], [])
    catalog.commit(META, [Put("/a", entry(5), {b"q": ProducerState(3, 4)})], [])
    assert catalog.find("/a") == entry(5)
    assert catalog.producers(5) == {**producers, b"q": ProducerState(3, 4)}
    assert catalog.producers(6) == {}
    assert [path for path, _ in catalog.paths()] == ["/a", "/é"]
    assert catalog.meta().lsn == 7


def test_a_dropped_stream_leaves_its_log_to_be_removed(catalog: Catalog) -> None:
    catalog.commit(META, [Put("/a", entry(5), {b"p": ProducerState(0, 0)})], [])
    catalog.commit(META, [Drop("/a", 5), Put("/a", entry(8), {})], [])
    found = catalog.find("/a")
    assert found is not None
    assert found.incarnation == 8
    assert catalog.producers(5) == {}
    assert catalog.garbage() == [5]
    catalog.commit(META, [Drop("/a", 5)], [5])
    assert catalog.find("/a") == entry(8)


def test_deadlines_follow_the_streams(catalog: Catalog) -> None:
    catalog.commit(META, [Put("/a", entry(5, 10), {}), Put("/b", entry(6, 20), {})], [])
    first, second = NOW + 10 * SECOND, NOW + 20 * SECOND
    assert catalog.deadlines((0, 0), second, 9) == [(first, 5, "/a"), (second, 6, "/b")]
    assert catalog.deadlines((0, 0), second, 1) == [(first, 5, "/a")]
    assert catalog.deadlines((first, 5), second - 1, 9) == []
    assert catalog.next_deadline((first, 5)) == second
    catalog.commit(META, [Put("/a", entry(5, 10, soft_deleted=True), {}), Drop("/b", 6)], [])
    assert catalog.next_deadline((0, 0)) is None


def test_a_state_survives_and_gets_a_tenth_after_a_restart() -> None:
    state = StreamState("/x", 5, parse_media_type("text/plain"), Lifetime(ttl=10), NOW)
    state.tail, state.closed, state.last_seq = 9, True, b"s"
    same = state_of("/x", entry_of(state, 3, session=4), session=4)
    later = state_of("/x", entry_of(state, 3, session=4), session=5)
    assert (same.visible_tail, same.visible_closed, same.last_seq) == (9, True, b"s")
    assert same.deadline() == NOW + 10 * SECOND
    assert later.deadline() == NOW + 11 * SECOND
    assert entry_of(later, 3, session=5).session == 0


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    first = LmdbCatalog(str(tmp_path))
    first.commit(META, [Put(f"/{number}", entry(number), {}) for number in range(2500)], [])
    first.close()
    again = LmdbCatalog(str(tmp_path))
    assert again.meta().streams == 2500
    assert len(list(again.paths())) == 2500
    again.close()


def test_an_entry_with_a_flipped_bit_is_found_out(tmp_path: Path) -> None:  # TRAPS 8
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [Put("/needle", entry(5), {b"needle-too": ProducerState(0, 0)})], [])
    catalog.close()
    file = tmp_path / "data.mdb"
    whole = file.read_bytes()
    chance = random.Random(0)
    at = whole.index(b"/needle") + len(b"/needle")
    for _ in range(100):
        broken = bytearray(whole)
        broken[at + chance.randrange(20)] ^= 1 << chance.randrange(8)
        file.write_bytes(broken)
        with pytest.raises(Damaged, match="damaged"):
            LmdbCatalog(str(tmp_path))


def test_a_damaged_deadline_is_told_of_and_keeps_no_other_from_its_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [Put(f"/{n}", entry(5 + n, 10), {}) for n in range(3)], [])
    key = struct.pack(">QQ", NOW + 10 * SECOND, 6)
    catalog._tables.write(lambda writing: writing.store(DEADLINES, key, b"????/1"), lambda _: None)
    found = catalog.deadlines((0, 0), NOW + 10 * SECOND, 9)
    assert [path for _, _, path in found] == ["/0", "/2"]
    assert "damaged" in caplog.text
    catalog.close()


@pytest.mark.parametrize("size", [1, 4096, 9000, 40_000])
def test_a_torn_database_is_never_taken_for_an_empty_one(
    tmp_path: Path, size: int
) -> None:  # TRAPS 8
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [Put(f"/{number}", entry(number), {}) for number in range(500)], [])
    catalog.close()
    file = tmp_path / "data.mdb"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(Damaged):
        LmdbCatalog(str(tmp_path))


def test_readonly_catalog_reads_everything_and_writes_nothing(tmp_path: Path) -> None:
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [Put("/a", entry(5, 10), {b"p": ProducerState(1, 2)})], [])
    catalog.close()
    (tmp_path / "lock.mdb").unlink()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    again = LmdbCatalog(str(tmp_path), readonly=True)
    assert again.find("/a") == entry(5, 10)
    assert again.producers(5) == {b"p": ProducerState(1, 2)}
    assert again.next_deadline((0, 0)) == NOW + 10 * SECOND
    with pytest.raises(OSError, match="read-only"):
        again.commit(META, [Drop("/a", 5)], [])
    again.close()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


FULL = """
import errno, resource, sys
from durable_streams_server.storage.files.catalog import LmdbCatalog, Meta
path, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
catalog = LmdbCatalog(path)
number = 0
try:
    while True:
        number += 1
        catalog.commit(Meta(number), [], [], {f"d{number}/{part}": b"x" * 1500 for part in range(9)})
except OSError as error:
    assert error.errno in (errno.ENOSPC, errno.EFBIG), error
assert catalog.meta().lsn == number - 1
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
catalog.commit(Meta(number), [], [], {"more": b"x" * 5000})
catalog.close()
catalog = LmdbCatalog(path)
assert catalog.meta().lsn == number
assert len(list(catalog.documents())) == 9 * (number - 1) + 1
print("whole")
"""


@pytest.mark.parametrize("limit", [200_000, 235_000, 284_000])
def test_commit_that_is_cut_in_the_middle_of_a_write_is_no_io_error(
    tmp_path: Path, limit: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "whole\n", done.stderr

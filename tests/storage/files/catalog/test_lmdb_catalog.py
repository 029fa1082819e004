"""Tests of the LMDB catalog: an unchanged database is not verified again, and a damaged one is not opened."""

import os
import random
import shutil
import struct
from pathlib import Path

import lmdb
import msgspec
import pytest

from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog import Drop, LmdbCatalog, Put, database, sums
from durable_streams_server.storage.files.catalog.copy import Copy
from durable_streams_server.storage.files.catalog.tables import NAMES, seal
from durable_streams_server.storage.files.system_disk import SystemDisk
from tests.requests import NOW, SECOND

from .values import (
    META,
    commit_at_random,
    content_of,
    copied,
    entry_of_empty_stream,
    flip,
    make,
    put,
)


class Clock:
    """A monotonic clock that advances only when a test sets `now`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the directories whose databases are verified."""
    seen: list[str] = []
    real = database.structure_faults

    def spy(path: str) -> list[str]:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(f"{LmdbCatalog.__module__}.structure_faults", spy)
    return seen


def test_start_after_clean_stop_verifies_nothing(tmp_path: Path, verified: list[str]) -> None:
    make(tmp_path)
    assert verified == []
    LmdbCatalog(str(tmp_path)).close()
    LmdbCatalog(str(tmp_path), readonly=True).close()
    assert verified == []


def test_start_after_kill_verifies_nothing_if_checksum_matches(
    tmp_path: Path, verified: list[str]
) -> None:
    catalog = LmdbCatalog(str(tmp_path / "a"), clock=Clock())
    for number in range(3):
        catalog.commit(META, [put(f"/{number}", 5 + number)], [])
        catalog.tidy()
    shutil.copytree(tmp_path / "a", tmp_path / "killed")
    catalog.close()
    LmdbCatalog(str(tmp_path / "killed")).close()
    assert verified == []


def test_start_verifies_database_that_does_not_match_checksum(
    tmp_path: Path, verified: list[str]
) -> None:
    catalog = LmdbCatalog(str(tmp_path / "a"))
    catalog.commit(META, [put("/a")], [])
    catalog.tidy()
    catalog.commit(META, [put("/b", 6)], [])  # the checksum is still that of the first commit
    shutil.copytree(tmp_path / "a", tmp_path / "killed")
    catalog.close()
    again = LmdbCatalog(str(tmp_path / "killed"))
    assert verified == [str(tmp_path / "killed")]
    assert [path for path, _ in again.paths()] == ["/a", "/b"]
    again.close()
    LmdbCatalog(str(tmp_path / "killed")).close()
    assert len(verified) == 1  # closing it wrote a new checksum


def test_catalog_spends_two_percent_of_time_on_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, measured = Clock(), []
    catalog = LmdbCatalog(str(tmp_path), clock=clock)

    def measure(path: Path) -> tuple[int, int]:
        measured.append(clock.now)
        clock.now += 0.1
        return path.stat().st_size, 0

    monkeypatch.setattr(sums, "measure", measure)
    for _ in range(100):
        catalog.commit(META, [put("/a")], [])
        catalog.tidy()
        clock.now += 0.1
    assert 2 <= len(measured) <= 3
    catalog.close()
    assert len(measured) <= 4


def damage_page(file: Path, of: bytes) -> None:
    """Flips a bit of the page that holds `of`, as a failing disk might."""
    content = file.read_bytes()
    at = content.rindex(of)
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(bytes([content[at] ^ 4]))


def test_close_writes_no_checksum_of_database_damaged_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    damage_page(tmp_path / "data.mdb", of=b"/150")
    catalog.commit(META, [put("/new", 999)], [])
    catalog.close()
    assert "was damaged while it was in use" in caplog.text
    with pytest.raises(Damaged):
        LmdbCatalog(str(tmp_path))


def test_tidy_raises_if_database_was_damaged_in_use(tmp_path: Path) -> None:
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    damage_page(tmp_path / "data.mdb", of=b"/150")
    catalog.commit(META, [put("/new", 999)], [])
    with pytest.raises(Damaged, match="while it was in use"):
        catalog.tidy()
    catalog.close()
    with pytest.raises(Damaged):
        LmdbCatalog(str(tmp_path))


def test_checksum_of_database_truncated_in_use_raises_without_crash(tmp_path: Path) -> None:
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [put("/new", 999)], [])
    # Reading a lost page through the map would crash the process.
    os.truncate(tmp_path / "data.mdb", 3 * 4096)
    with pytest.raises(Damaged, match="while it was in use"):
        catalog._write_sum()
    catalog._sum_is_due = False
    catalog.close()


def test_tidy_without_commit_computes_no_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    monkeypatch.setattr(sums, "measure", None)
    catalog.tidy()
    catalog.close()


def test_catalog_of_first_format_opens_and_gets_second_copy(tmp_path: Path) -> None:
    """The first servers used a map of 1 TiB, metadata of five fields, and no second copy."""
    environment = lmdb.open(str(tmp_path), map_size=1 << 40, max_dbs=6)
    tables = {name: environment.open_db(name.encode()) for name in NAMES}
    summary = msgspec.msgpack.encode((7, 9, 1, 500, ()))
    with environment.begin(write=True) as transaction:
        transaction.put(b"meta", seal(b"meta", summary), db=tables["meta"])
        for number in range(500):
            key = b"/%d" % number
            value = msgspec.msgpack.encode(entry_of_empty_stream(5 + number))
            transaction.put(key, seal(key, value), db=tables["streams"])
    environment.close()
    looking = LmdbCatalog(str(tmp_path), readonly=True)
    assert (looking.meta().streams, looking.meta().commits) == (500, 0)
    looking.close()
    assert not (tmp_path / "copy").exists()
    catalog = LmdbCatalog(str(tmp_path))
    meta = catalog.meta()
    assert (meta.lsn, meta.last_incarnation, meta.streams, meta.commits) == (7, 9, 500, 1)
    assert meta.identity
    assert catalog.find("/77") == entry_of_empty_stream(82)
    catalog.commit(META, [put("/new", 999)], [])
    assert copied(SystemDisk(tmp_path)) == content_of(catalog._tables)
    catalog.close()
    again = LmdbCatalog(str(tmp_path))
    assert again.meta().streams == 501
    again.close()


def test_second_copy_equals_database_after_many_commits(tmp_path: Path) -> None:
    chance, known = random.Random(3), dict[str, int]()
    catalog = LmdbCatalog(str(tmp_path))
    for _ in range(40):
        commit_at_random(catalog, chance, known)
        catalog.tidy()
        if chance.random() < 0.2:
            catalog.close()
            catalog = LmdbCatalog(str(tmp_path))
    assert copied(SystemDisk(tmp_path)) == content_of(catalog._tables)
    assert {path: entry.incarnation for path, entry in catalog.paths()} == known
    catalog.close()


@pytest.mark.parametrize("size", [None, 0])
@pytest.mark.parametrize("left", ["copy and SUM", "copy", "SUM", "a damaged copy"])
def test_missing_database_prevents_opening_if_second_copy_or_checksum_exists(
    tmp_path: Path, size: int | None, left: str
) -> None:  # TRAPS 8
    make(tmp_path)
    if "copy" not in left:
        (tmp_path / "copy").unlink()
    if "SUM" not in left:
        (tmp_path / "SUM").unlink()
    if "damaged" in left:
        (tmp_path / "copy").write_bytes(b"x")
    (tmp_path / "data.mdb").unlink()
    if size is not None:
        (tmp_path / "data.mdb").touch()
    for readonly in (True, False):
        with pytest.raises(Damaged, match=r"data\.mdb is missing or empty"):
            LmdbCatalog(str(tmp_path), readonly=readonly)


def test_empty_database_prevents_opening_if_checksum_exists(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "copy").unlink()
    LmdbCatalog(str(tmp_path / "new")).close()
    shutil.copy(tmp_path / "new" / "data.mdb", tmp_path / "a")
    with pytest.raises(Damaged, match="lost everything"):
        LmdbCatalog(str(tmp_path / "a"))


@pytest.mark.parametrize("size", [0, 1, 15, 20, 40])
def test_catalog_is_empty_after_crash_in_first_commit(tmp_path: Path, size: int) -> None:
    make(tmp_path / "a")
    LmdbCatalog(str(tmp_path / "new")).close()
    (tmp_path / "new" / "copy").write_bytes((tmp_path / "a" / "copy").read_bytes()[:size])
    catalog = LmdbCatalog(str(tmp_path / "new"))
    assert list(catalog.paths()) == []
    catalog.commit(META, [put("/a")], [])
    assert copied(SystemDisk(tmp_path / "new")) == content_of(catalog._tables)
    catalog.close()


def test_database_of_another_directory_or_older_database_prevents_opening(tmp_path: Path) -> None:
    make(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "old")
    make(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "data.mdb", tmp_path / "a")
    with pytest.raises(Damaged, match="different directories"):
        LmdbCatalog(str(tmp_path / "a"))
    shutil.copy(tmp_path / "old" / "data.mdb", tmp_path / "a")
    catalog = LmdbCatalog(str(tmp_path / "a"))
    for number in range(2):
        catalog.commit(META, [put(f"/new/{number}", 9999 + number)], [])
    catalog.close()
    shutil.copy(tmp_path / "old" / "data.mdb", tmp_path / "a")
    with pytest.raises(Damaged, match="older than its second copy"):
        LmdbCatalog(str(tmp_path / "a"))


def test_catalog_with_one_lost_meta_page_has_every_commit(tmp_path: Path) -> None:
    """LMDB has two meta pages. If the newer one is damaged so that it looks older, LMDB silently opens the commit before the last."""
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [put("/new", 9999)], [])
    catalog.close()
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    at = {page: page * 4096 + 16 + 24 + 2 * 48 + 8 for page in (0, 1)}
    numbers = {page: struct.unpack_from("<Q", data, at[page])[0] for page in (0, 1)}
    newer = max(numbers, key=numbers.__getitem__)
    struct.pack_into("<Q", data, at[newer], numbers[newer] - 2)
    (tmp_path / "data.mdb").write_bytes(data)
    again = LmdbCatalog(str(tmp_path))
    assert again.find("/new") is not None
    again.close()


def test_start_after_kill_repeats_commit_that_only_second_copy_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    make(tmp_path / "a")
    catalog = LmdbCatalog(str(tmp_path / "a"))
    real = Copy.append

    def append(self: Copy, identity: int, commits: int, parts: list[bytes]) -> None:
        real(self, identity, commits, parts)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Copy, "append", append)
        with pytest.raises(Killed):
            catalog.commit(META, [put("/new", 9999)], [])
    shutil.copytree(tmp_path / "a", tmp_path / "killed")
    catalog.close()
    looking = LmdbCatalog(str(tmp_path / "killed"), readonly=True)
    assert looking.find("/new") is None  # the write-ahead log still has it
    looking.close()
    again = LmdbCatalog(str(tmp_path / "killed"))
    assert again.find("/new") == entry_of_empty_stream(9999)
    assert copied(SystemDisk(tmp_path / "killed")) == content_of(again._tables)
    again.close()


def test_readonly_catalog_of_unused_directory_is_empty(tmp_path: Path) -> None:
    catalog = LmdbCatalog(str(tmp_path), readonly=True)
    assert catalog.find("/a") is None
    assert list(catalog.paths()) == []
    with pytest.raises(OSError, match="read-only"):
        catalog.commit(META, [], [])
    catalog.close()
    assert os.listdir(tmp_path) == []


def test_damaged_key_prevents_opening(tmp_path: Path) -> None:
    make(tmp_path)
    file = tmp_path / "data.mdb"
    whole, at, refused = file.read_bytes(), -1, 0
    while (at := whole.find(b"/123", at + 1)) >= 0:
        flip(file, at + 3)
        try:
            catalog = LmdbCatalog(str(tmp_path))
        except Damaged:
            refused += 1
        else:  # the key is on an unused page
            assert catalog.find("/123") is not None
            catalog.close()
            (tmp_path / "SUM").unlink()
        file.write_bytes(whole)
    assert refused


def test_reopened_catalog_has_all_commits(tmp_path: Path) -> None:
    first = LmdbCatalog(str(tmp_path))
    first.commit(
        META, [Put(f"/{number}", entry_of_empty_stream(number), {}) for number in range(2500)], []
    )
    first.close()
    again = LmdbCatalog(str(tmp_path))
    assert again.meta().streams == 2500
    assert len(list(again.paths())) == 2500
    again.close()


def test_readonly_catalog_reads_all_tables_and_changes_no_file(tmp_path: Path) -> None:
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [Put("/a", entry_of_empty_stream(5, 10), {b"p": ProducerState(1, 2)})], [])
    catalog.close()
    (tmp_path / "lock.mdb").unlink()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    again = LmdbCatalog(str(tmp_path), readonly=True)
    assert again.find("/a") == entry_of_empty_stream(5, 10)
    assert again.producers(5) == {b"p": ProducerState(1, 2)}
    assert again.next_deadline((0, 0)) == NOW + 10 * SECOND
    with pytest.raises(OSError, match="read-only"):
        again.commit(META, [Drop("/a", 5)], [])
    again.close()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before

"""The catalog of a directory: what is proven is not verified again, and what cannot be believed is not opened."""

import os
import random
import shutil
import struct
from pathlib import Path

import lmdb
import msgspec
import pytest

from durable_streams_server.storage.damage import Damaged
from durable_streams_server.storage.files.catalog import LmdbCatalog, database, sums
from durable_streams_server.storage.files.catalog.copy import Copy
from durable_streams_server.storage.files.catalog.tables import NAMES, seal
from durable_streams_server.storage.files.system_disk import SystemDisk

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
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories whose databases have been verified."""
    seen: list[str] = []
    real = database.structure_faults

    def spy(path: str) -> list[str]:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(f"{LmdbCatalog.__module__}.structure_faults", spy)
    return seen


def test_start_after_a_clean_stop_verifies_nothing(tmp_path: Path, verified: list[str]) -> None:
    make(tmp_path)
    assert verified == []
    LmdbCatalog(str(tmp_path)).close()
    LmdbCatalog(str(tmp_path), readonly=True).close()
    assert verified == []


def test_start_after_a_kill_is_proven_by_the_last_commits_checksum(
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


def test_start_that_finds_another_file_verifies_it(tmp_path: Path, verified: list[str]) -> None:
    catalog = LmdbCatalog(str(tmp_path / "a"))
    catalog.commit(META, [put("/a")], [])
    catalog.tidy()
    catalog.commit(META, [put("/b", 6)], [])  # the checksum is of the commit before
    shutil.copytree(tmp_path / "a", tmp_path / "killed")
    catalog.close()
    again = LmdbCatalog(str(tmp_path / "killed"))
    assert verified == [str(tmp_path / "killed")]
    assert [path for path, _ in again.paths()] == ["/a", "/b"]
    again.close()
    LmdbCatalog(str(tmp_path / "killed")).close()
    assert len(verified) == 1  # it is proven again


def test_checksum_of_a_large_file_takes_a_fiftieth_of_the_time(
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


def damage_a_page(file: Path, of: bytes) -> None:
    """Flips a bit of the page that holds `of`, as a disk does that gives back other bytes than it took."""
    content = file.read_bytes()
    at = content.rindex(of)
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(bytes([content[at] ^ 4]))


def test_damage_while_in_use_is_never_proven_by_a_checksum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    damage_a_page(tmp_path / "data.mdb", of=b"/150")
    catalog.commit(META, [put("/new", 999)], [])
    catalog.close()
    assert "was damaged while it was in use" in caplog.text
    with pytest.raises(Damaged):
        LmdbCatalog(str(tmp_path))


def test_damage_while_in_use_ends_the_next_checkpoint(tmp_path: Path) -> None:
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    damage_a_page(tmp_path / "data.mdb", of=b"/150")
    catalog.commit(META, [put("/new", 999)], [])
    with pytest.raises(Damaged, match="while it was in use"):
        catalog.tidy()
    catalog.close()
    with pytest.raises(Damaged):
        LmdbCatalog(str(tmp_path))


def test_file_cut_short_while_in_use_is_found_without_a_look_at_its_pages(tmp_path: Path) -> None:
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    catalog.commit(META, [put("/new", 999)], [])
    os.truncate(
        tmp_path / "data.mdb", 3 * 4096
    )  # to read a lost page through the map ends the process
    with pytest.raises(Damaged, match="while it was in use"):
        catalog._write_sum()
    catalog._sum_is_due = False
    catalog.close()


def test_tidy_without_a_commit_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    catalog = LmdbCatalog(str(tmp_path))
    monkeypatch.setattr(sums, "measure", None)
    catalog.tidy()
    catalog.close()


def test_first_format_opens_and_gets_a_copy(tmp_path: Path) -> None:
    """A catalog as the first servers made it: a map of 1 TiB, a summary of five fields, no second copy."""
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


def test_copy_keeps_level_with_lmdb_over_many_commits(tmp_path: Path) -> None:
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
def test_missing_database_beside_its_copy_is_never_an_empty_one(
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


def test_new_database_beside_an_old_checksum_is_never_an_empty_one(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "copy").unlink()
    LmdbCatalog(str(tmp_path / "new")).close()
    shutil.copy(tmp_path / "new" / "data.mdb", tmp_path / "a")
    with pytest.raises(Damaged, match="lost everything"):
        LmdbCatalog(str(tmp_path / "a"))


@pytest.mark.parametrize("size", [0, 1, 15, 20, 40])
def test_first_commit_that_a_crash_tore_leaves_a_new_directory(tmp_path: Path, size: int) -> None:
    make(tmp_path / "a")
    LmdbCatalog(str(tmp_path / "new")).close()
    (tmp_path / "new" / "copy").write_bytes((tmp_path / "a" / "copy").read_bytes()[:size])
    catalog = LmdbCatalog(str(tmp_path / "new"))
    assert list(catalog.paths()) == []
    catalog.commit(META, [put("/a")], [])
    assert copied(SystemDisk(tmp_path / "new")) == content_of(catalog._tables)
    catalog.close()


def test_database_of_another_directory_or_an_older_one_is_refused(tmp_path: Path) -> None:
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


def test_newest_summary_page_that_is_lost_loses_no_commit(tmp_path: Path) -> None:
    """LMDB keeps two summaries. If the newer one looks older, LMDB goes back one commit without a word; the copy does not."""
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


def test_commit_that_a_kill_left_in_the_copy_alone_is_done_again(
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
    assert looking.find("/new") is None  # the log has it
    looking.close()
    again = LmdbCatalog(str(tmp_path / "killed"))
    assert again.find("/new") == entry_of_empty_stream(9999)
    assert copied(SystemDisk(tmp_path / "killed")) == content_of(again._tables)
    again.close()


def test_directory_that_no_server_has_opened_can_be_looked_at(tmp_path: Path) -> None:
    catalog = LmdbCatalog(str(tmp_path), readonly=True)
    assert catalog.find("/a") is None
    assert list(catalog.paths()) == []
    with pytest.raises(OSError, match="read-only"):
        catalog.commit(META, [], [])
    catalog.close()
    assert os.listdir(tmp_path) == []


def test_damaged_key_is_no_stream_that_is_not_there(tmp_path: Path) -> None:
    make(tmp_path)
    file = tmp_path / "data.mdb"
    whole, at, refused = file.read_bytes(), -1, 0
    while (at := whole.find(b"/123", at + 1)) >= 0:
        flip(file, at + 3)
        try:
            catalog = LmdbCatalog(str(tmp_path))
        except Damaged:
            refused += 1
        else:  # a page that nothing leads to any more
            assert catalog.find("/123") is not None
            catalog.close()
            (tmp_path / "SUM").unlink()
        file.write_bytes(whole)
    assert refused

"""Tests of the catalog over simulated tables: each commit goes to the second copy too, and a failure changes both or neither."""

import errno
import os
import random
from collections.abc import Callable

import pytest

from durable_streams_server.protocol.producers import ProducerState
from durable_streams_server.storage.files.catalog import Put
from durable_streams_server.storage.files.catalog.copy import Copy
from durable_streams_server.storage.files.catalog.table_catalog import LARGEST, TableCatalog
from durable_streams_server.storage.files.catalog.tables import META as TABLE
from durable_streams_server.storage.files.catalog.tables import META_KEY, parse_meta
from durable_streams_server.testing.catalog import SimulatedCatalog, SimulatedTables
from durable_streams_server.testing.disk import SimulatedDisk

from .values import META, commit_at_random, copied, entry_of_empty_stream, put

CATALOG = "catalog"


def new_disk(seed: int = 0) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed))


def failing(call: str, code: int = errno.ENOSPC) -> Callable[[str], None]:
    def before(name: str) -> None:
        if name == call:
            raise OSError(code, os.strerror(code), name)

    return before


def never_failing(_: str) -> None:
    """Lets every call of the disk succeed."""


def commits_of(disk: SimulatedDisk) -> tuple[int, int]:
    """Returns the number of commits in the tables and in the copy."""
    copy = Copy(disk, CATALOG)
    copy.load()
    commits = copy.state.commits if copy.state is not None else 0
    return parse_meta(SimulatedTables(disk).get(TABLE, META_KEY)).commits, commits


@pytest.mark.parametrize("seed", range(5))
def test_second_copy_equals_tables_after_random_commits(seed: int) -> None:
    disk, chance, known = new_disk(seed), random.Random(seed), dict[str, int]()
    catalog = SimulatedCatalog(disk)
    for _ in range(30):
        commit_at_random(catalog, chance, known)
        catalog.tidy()
        assert copied(disk, CATALOG) == SimulatedTables(disk).content
        if chance.random() < 0.2:
            catalog = SimulatedCatalog(disk)


def test_long_second_copy_is_rewritten() -> None:
    disk, chance, known = new_disk(), random.Random(1), dict[str, int]()
    catalog = SimulatedCatalog(disk)
    longest = live = 0
    for _ in range(200):
        commit_at_random(catalog, chance, known)
        catalog.tidy()
        content = SimulatedTables(disk).content
        live = max(live, sum(len(k) + len(v) + 7 for table in content for k, v in table.items()))
        longest = max(longest, disk.size("catalog/copy") or 0)
    assert longest < LARGEST * live + 30_000
    assert copied(disk, CATALOG) == SimulatedTables(disk).content


@pytest.mark.parametrize("call", ["catalog begin", "write", "sync", "catalog commit"])
def test_commit_on_full_disk_changes_neither_tables_nor_second_copy(call: str) -> None:
    disk = new_disk()
    catalog = SimulatedCatalog(disk)
    catalog.commit(META, [put("/a")], [])
    disk.before = failing(call)
    with pytest.raises(OSError, match="No space"):
        catalog.commit(META, [put("/b", 6)], [])
    disk.before = never_failing
    assert commits_of(disk) == (1, 1)
    catalog.commit(META, [put("/c", 7)], [])
    assert commits_of(disk) == (2, 2)
    assert copied(disk, CATALOG) == SimulatedTables(disk).content
    again = SimulatedCatalog(disk)
    assert [path for path, _ in again.paths()] == ["/a", "/c"]


def test_start_repeats_commit_that_only_second_copy_has() -> None:
    disk = new_disk()
    catalog = SimulatedCatalog(disk)
    catalog.commit(META, [put("/a")], [])
    disk.before = failing("catalog commit", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        catalog.commit(META, [put("/b", 6)], [], {"keys": b"new"})
    disk.before = never_failing
    assert commits_of(disk) == (1, 2)
    again = SimulatedCatalog(disk)
    assert commits_of(disk) == (2, 2)
    assert [path for path, _ in again.paths()] == ["/a", "/b"]
    assert dict(again.documents()) == {"keys": b"new"}
    assert again.meta().streams == 2


def test_start_repeats_first_commit_that_only_second_copy_has() -> None:
    disk = new_disk()
    disk.before = failing("catalog commit", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        SimulatedCatalog(disk).commit(META, [put("/a")], [])
    disk.before = never_failing
    assert SimulatedCatalog(disk).find("/a") is not None
    assert commits_of(disk) == (1, 1)


def test_start_on_full_disk_drops_commit_that_only_second_copy_has() -> None:
    disk = new_disk()
    catalog = SimulatedCatalog(disk)
    catalog.commit(META, [put("/a")], [])
    disk.before = failing("catalog commit", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        catalog.commit(META, [put("/b", 6)], [])
    disk.before = failing("catalog begin")
    again = SimulatedCatalog(disk)
    assert [path for path, _ in again.paths()] == ["/a"]  # the write-ahead log still has the rest
    disk.before = never_failing
    assert commits_of(disk) == (1, 2)
    again.commit(META, [put("/b", 6), put("/c", 7)], [])
    assert commits_of(disk) == (2, 2)
    assert copied(disk, CATALOG) == SimulatedTables(disk).content


def test_start_rewrites_missing_second_copy(caplog: pytest.LogCaptureFixture) -> None:
    disk = new_disk()
    SimulatedCatalog(disk).commit(META, [put("/a")], [])
    disk.unlink("catalog/copy")
    SimulatedCatalog(disk)
    assert "second copy" in caplog.text
    assert copied(disk, CATALOG) == SimulatedTables(disk).content


@pytest.mark.parametrize("call", ["open", "write", "rename"])
def test_second_copy_is_rewritten_once_disk_has_room(call: str) -> None:
    disk = new_disk()
    SimulatedCatalog(disk).commit(META, [put("/a")], [])
    disk.unlink("catalog/copy")

    def before(name: str) -> None:
        if name == call and disk.exists("catalog/copy.new") | (call == "open"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    copy = Copy(disk, CATALOG)
    copy.load()
    disk.before = before
    catalog = TableCatalog(SimulatedTables(disk), copy, disk)
    catalog.commit(META, [put("/b", 6)], [])
    assert not disk.exists("catalog/copy")
    disk.before = never_failing
    catalog.tidy()
    catalog.commit(META, [put("/c", 7)], [])
    assert copied(disk, CATALOG) == SimulatedTables(disk).content
    assert commits_of(disk) == (3, 3)


def test_rewrite_on_full_disk_is_not_retried_at_every_commit() -> None:
    disk, chance, known = new_disk(), random.Random(1), dict[str, int]()
    catalog = SimulatedCatalog(disk)
    attempts = []

    def before(name: str) -> None:
        if name == "write" and disk.exists("catalog/copy.new"):
            attempts.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    disk.before = before
    for _ in range(60):
        commit_at_random(catalog, chance, known)
        catalog.tidy()
    assert 2 <= len(attempts) <= 20
    assert copied(disk, CATALOG) == SimulatedTables(disk).content
    disk.before = never_failing
    for _ in range(30):
        commit_at_random(catalog, chance, known)
        catalog.tidy()
    assert copied(disk, CATALOG) == SimulatedTables(disk).content


def test_rewrite_raises_error_of_failed_disk() -> None:
    disk, chance, known = new_disk(), random.Random(1), dict[str, int]()
    catalog = SimulatedCatalog(disk)
    disk.before = failing("rename", errno.EIO)

    def commit_until_copy_is_long() -> None:
        for _ in range(60):
            commit_at_random(catalog, chance, known)
            catalog.tidy()

    with pytest.raises(OSError, match="Input/output"):
        commit_until_copy_is_long()


def test_catalog_stores_600_producers_of_one_stream() -> None:
    catalog = SimulatedCatalog(new_disk())
    many = {b"%d" % number: ProducerState(1, number) for number in range(600)}
    catalog.commit(META, [Put("/a", entry_of_empty_stream(5), many), put("/b", 6)], [])
    assert catalog.producers(5) == many
    assert len(catalog.producers(6)) == 1

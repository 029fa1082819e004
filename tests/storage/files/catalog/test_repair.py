"""Tests of the choice between the ways to repair a damaged catalog."""

import shutil
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec
import pytest

from durable_streams_server.storage.files.catalog import LmdbCatalog, repair_catalog, verify_catalog
from durable_streams_server.storage.files.catalog.entries import Entry, Put

from .values import META, entry_of_empty_stream, flip, make, put


def with_log(entry: Entry) -> Entry:
    """Returns an entry whose stream has a log."""
    return msgspec.structs.replace(entry, index_entries=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make(tmp_path / "catalog")
    return tmp_path / "catalog"


def repair(path: Path, logs: AbstractSet[int] = frozenset()) -> list[str]:
    return repair_catalog(str(path), str(path.parent / "quarantine"), logs.__contains__)


def streams(path: Path) -> int:
    """Returns the number of streams in a catalog, which must have no faults."""
    catalog = LmdbCatalog(str(path))
    found = len(list(catalog.paths()))
    catalog.close()
    assert not [finding for finding in verify_catalog(str(path)) if not finding.harmless]
    return found


def test_repair_of_intact_catalog_changes_nothing(path: Path) -> None:
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert repair(path) == []
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_repair_rebuilds_damaged_database_from_second_copy(path: Path) -> None:
    (path / "data.mdb").write_bytes(b"damaged")
    assert "from its second copy" in repair(path)[-1]
    assert streams(path) == 200


def test_repair_rewrites_damaged_second_copy_from_database(path: Path) -> None:
    flip(path / "copy", 3000)
    assert "written anew" in repair(path)[-1]
    assert streams(path) == 200


@pytest.mark.parametrize("has_sum", [True, False])
def test_repair_combines_entries_of_damaged_database_and_second_copy(
    path: Path, has_sum: bool
) -> None:
    """The damage to the copy looks like a last commit that a crash interrupted."""
    flip(path / "copy", (path / "copy").stat().st_size - 3)
    if not has_sum:
        (path / "SUM").unlink()
    data = bytearray((path / "data.mdb").read_bytes())
    data[:4096] = bytes(4096)
    (path / "data.mdb").write_bytes(data)
    done = repair(path)
    assert any("cannot be read" in what for what in done)
    assert "made again from 200 streams' entries" in done[-1]
    assert streams(path) == 200


def test_repair_rebuilds_outdated_database_from_second_copy(path: Path) -> None:
    old = (path / "data.mdb").read_bytes()
    catalog = LmdbCatalog(str(path))
    for number in range(3):
        catalog.commit(META, [put(f"/new/{number}", 9999 + number)], [])
    catalog.close()
    (path / "data.mdb").write_bytes(old)
    assert "from its second copy" in repair(path)[-1]
    assert streams(path) == 203


@pytest.mark.parametrize("name", ["data.mdb", "copy"])
@pytest.mark.parametrize("has_sum", [True, False])
def test_repair_ignores_file_of_another_directory(tmp_path: Path, name: str, has_sum: bool) -> None:
    logs = {number: set(range(number * 1000, number * 1000 + 50)) for number in (1, 2)}
    for number, incarnations in logs.items():
        catalog = LmdbCatalog(str(tmp_path / str(number)))
        changes = [Put(f"/{n}", with_log(entry_of_empty_stream(n)), {}) for n in incarnations]
        catalog.commit(META, [*changes], [])
        catalog.close()
    shutil.copy(tmp_path / "2" / name, tmp_path / "1")
    if not has_sum:
        (tmp_path / "1" / "SUM").unlink()
    assert repair(tmp_path / "1", logs[1])
    catalog = LmdbCatalog(str(tmp_path / "1"))
    assert {entry.incarnation for _, entry in catalog.paths()} == logs[1]
    catalog.close()


def test_repair_of_directory_without_catalog_does_nothing(tmp_path: Path) -> None:
    assert repair(tmp_path) == []
